"""Pickled dictionaries of byte arrays (CIFAR's python version), read without running anything that they name.

A pickle may name any function and have it called. Here four names are known, each stands for a small inert object of
this module, and every other name ends the reading: not even NumPy's own unpickling runs.
"""

import io
import math
import pickle
import pickletools
import struct
from typing import Any

import numpy as np

from kdviz.base.check import KdvizError

_BROKEN = (
    *(pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError),
    *(OverflowError, MemoryError, RecursionError, struct.error, ImportError),
)


class _Bytes:
    """`numpy.dtype("u1", ...)`: unsigned bytes, the only element type that these files hold."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


class _Array:
    """An ndarray's pickled state, kept as an array once it has proved to be whole."""

    __slots__ = ("values",)
    values: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        if not isinstance(kind, _Bytes) or fortran:
            raise pickle.UnpicklingError("an array of something else than unsigned bytes in rows")
        if not isinstance(raw, bytes) or not all(isinstance(size, int) and size >= 0 for size in shape):
            raise pickle.UnpicklingError("an array without plain bytes or sizes")
        if math.prod(shape) != len(raw):
            raise pickle.UnpicklingError(f"an array of sizes {shape} with {len(raw)} bytes")
        self.values = np.frombuffer(raw, dtype=np.uint8).reshape(shape)


class _Call:
    """What a name of the pickle stands for; without attributes, so that a pickle cannot set any."""

    __slots__ = ()


class _Reconstruct(_Call):
    __slots__ = ()

    def __call__(self, *_: object) -> _Array:
        return _Array()


class _Dtype(_Call):
    __slots__ = ()

    def __call__(self, kind: object, *_: object) -> _Bytes:
        if kind not in ("u1", b"u1"):
            raise pickle.UnpicklingError("an array of another type than unsigned bytes")
        return _Bytes()


class _Encode(_Call):
    """How Python 3 writes bytes in protocol 2; all of them together are no longer than the file."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than latin1")
        self.left -= len(text)
        if self.left < 0:
            raise pickle.UnpicklingError("more bytes than the file has")
        return text.encode("latin1")


_NAMES = {
    "_reconstruct": ({"numpy.core.multiarray", "numpy._core.multiarray"}, _Reconstruct()),
    "ndarray": ({"numpy"}, _Call()),
    "dtype": ({"numpy"}, _Dtype()),
}


def _scan(raw: bytes) -> None:
    """Refuse, before anything is built, a pickle that takes more memory or time than its length allows.

    The C unpickler makes room for every number below the memo's largest, so a few bytes can ask for gigabytes; and a
    tuple that holds the same tuple twice, many levels deep, takes for ever to hash or to print.
    """
    put, tuples, last = 0, set(), ""
    for opcode, argument, _ in pickletools.genops(raw):
        name = opcode.name
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = put if name == "MEMOIZE" else int(argument or 0)
            put += 1
            if index > 2 * put + 256:  # Python 2 numbers from 1, and some writers leave out what nobody uses
                raise pickle.UnpicklingError(f"the memo's place {index} after {put} entries")
            if last.startswith("TUPLE"):
                tuples.add(index)
        elif name == "DUP" or (name in ("GET", "BINGET", "LONG_BINGET") and int(argument or 0) in tuples):
            raise pickle.UnpicklingError("the same tuple twice, which these files never need")
        last = name


class _Unpickler(pickle.Unpickler):
    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="bytes")
        self._names = _NAMES | {"encode": ({"_codecs"}, _Encode(len(raw)))}

    def find_class(self, module: str, name: str) -> Any:
        modules, stand_in = self._names.get(name, (set(), None))
        if module not in modules:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which these files never need; refused")
        return stand_in


def read(raw: bytes, *, where: str) -> dict[str, Any]:
    """The dictionary in `raw`: keys as str, arrays as uint8 ndarrays, strings as they come (bytes from Python 2).

    Raises: KdvizError for anything that is not such a dictionary, whole and harmless.
    """
    try:
        _scan(raw)
        found = _Unpickler(raw).load()
        if not isinstance(found, dict):
            raise pickle.UnpicklingError(f"a {type(found).__name__}, expected a dictionary")
        return {_text(key): value.values if isinstance(value, _Array) else value for key, value in found.items()}
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KdvizError(f"{where}: not a pickle of this data set ({reason})") from error


def _text(value: object) -> str:
    if not isinstance(value, bytes | str):
        raise pickle.UnpicklingError(f"a {type(value).__name__} where it should have a name")
    return value.decode("latin1") if isinstance(value, bytes) else value


def texts(values: object, *, where: str) -> list[str]:
    """A pickled list of names as str."""
    if not isinstance(values, list) or not all(isinstance(value, bytes | str) for value in values):
        raise KdvizError(f"{where}: expected a list of names, found a {type(values).__name__}")
    return [_text(value) for value in values]
