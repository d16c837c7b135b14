"""Pickled dictionaries of byte arrays (CIFAR's python version), read without running anything that they name.

A pickle may name any function and have it called. Here four names are known, each stands for a small inert object of
this module, and every other name ends the reading: not even NumPy's own unpickling runs.
"""

import io
import math
import pickle
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
            raise pickle.UnpicklingError(f"an array of {kind!r}, expected unsigned bytes")
        return _Bytes()


class _Encode(_Call):
    """How Python 3 writes bytes in protocol 2."""

    __slots__ = ()

    def __call__(self, text: object, encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding != "latin1":
            raise pickle.UnpicklingError("an encoding other than latin1")
        return text.encode("latin1")


_NAMES = {
    "_reconstruct": ({"numpy.core.multiarray", "numpy._core.multiarray"}, _Reconstruct()),
    "ndarray": ({"numpy"}, _Call()),
    "dtype": ({"numpy"}, _Dtype()),
    "encode": ({"_codecs"}, _Encode()),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        modules, stand_in = _NAMES.get(name, (set(), None))
        if module not in modules:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which these files never need; refused")
        return stand_in


def read(raw: bytes, *, where: str) -> dict[str, Any]:
    """The dictionary in `raw`: keys as str, arrays as uint8 ndarrays, strings as they come (bytes from Python 2).

    Raises: KdvizError for anything that is not such a dictionary, whole and harmless.
    """
    try:
        found = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise KdvizError(f"{where}: not a pickle of this data set ({reason})") from error
    if not isinstance(found, dict):
        raise KdvizError(f"{where}: a pickled {type(found).__name__}, expected a dictionary")
    return {
        _text(key): getattr(value, "values", value) if isinstance(value, _Array) else value
        for key, value in found.items()
    }


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def texts(values: object, *, where: str) -> list[str]:
    """A pickled list of names as str."""
    if not isinstance(values, list):
        raise KdvizError(f"{where}: expected a list of names, found a {type(values).__name__}")
    return [_text(value) for value in values]
