"""IDX files: the MNIST family's format, a magic number, the sizes, then bytes."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from kdviz.base.check import KdvizError, require

LARGEST = 2**26  # bytes; the MNIST family's images have 47 million


def read(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of an IDX file, gzipped or not, as an array of `dimensions` dimensions.

    Layout: 00 00 08 d, then d big-endian 32-bit sizes, then the bytes, the last size fastest.

    Raises: KdvizError for a wrong magic number, an empty, short or overlong file, damaged gzip.
    Source: LeCun's description of the MNIST files.
    """
    try:
        with path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as stream:
            head = stream.read(4 + 4 * dimensions)
            magic = bytes((0, 0, 8, dimensions))
            require(
                head[:4] == magic, f"{path}: starts with {head[:4].hex(' ')}, an IDX file of this kind {magic.hex(' ')}"
            )
            require(len(head) == 4 + 4 * dimensions, f"{path}: ends within its header; download it again")
            sizes = struct.unpack(f">{dimensions}I", head[4:])
            expected = math.prod(sizes)
            require(0 < expected <= LARGEST, f"{path}: its sizes {sizes} are not 1 to {LARGEST} bytes; damaged")
            if not zipped:
                held = path.stat().st_size - len(head)
                require(held >= expected, f"{path}: holds {held} of {expected} bytes; truncated, download it again")
            body = stream.read(expected + 1)  # one more, to notice what should not be there
    except (OSError, EOFError, zlib.error) as error:
        raise KdvizError(f"{path}: cannot be read ({error}); download it again") from error
    require(len(body) >= expected, f"{path}: holds {len(body)} of {expected} bytes; truncated, download it again")
    require(len(body) == expected, f"{path}: more bytes than its header's sizes {sizes} say")
    return np.frombuffer(body, dtype=np.uint8).reshape(sizes)
