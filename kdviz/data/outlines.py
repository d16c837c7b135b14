"""Masks of characters drawn from font outlines in integer arithmetic, so that every machine draws the same bytes.

FreeType and its versions play no part: contours are read in font units, flattened and filled here.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from kdviz.base.check import KdvizError

CELLS = 64  # side of a mask, in cells
_FINE = 4  # sub-samples per cell and axis
_STEPS = 8  # straight pieces per curve
_UNIT = 256  # outline coordinates are whole multiples of 1/_UNIT font unit: 2 (midpoints) * _STEPS**2 * 2 (half steps)


def masks(path: Path, characters: Sequence[str]) -> np.ndarray:
    """Anti-aliased masks of characters, centred on their bounding boxes, 64 cells to 1.25 em.

    A cell is the share of a window of 2x2 cells that the glyph covers (non-zero winding), which is what a pixel about
    two cells wide sees.

    Args:
        path: a TrueType font with quadratic outlines.
        characters: k single characters, all in the font.
    Returns: uint8 [k, 64, 64], rows from the top; 255 is full cover.
    Raises: KdvizError for a font that is missing, unreadable or lacks a character.
    Source: ours; the contour rules are the TrueType specification's ("glyf" table).
    """
    return np.stack([_fill(_pieces(*contour), em) for contour, em in _contours(path, characters)])


def _contours(path: Path, characters: Sequence[str]) -> Iterator[tuple[tuple, int]]:
    """((points [p, 2], ends, on-curve flags), units per em) for each character."""
    from fontTools.ttLib import TTFont, TTLibError

    try:
        with _quiet(), path.open("rb") as stream, TTFont(stream, lazy=True) as opened:
            font: Any = opened
            table, names, em = font["glyf"], font.getBestCmap(), font["head"].unitsPerEm
            for character in characters:
                coordinates, ends, flags = table[names[ord(character)]].getCoordinates(table)[:3]
                yield (np.array([tuple(c) for c in coordinates], dtype=np.int64), list(ends), list(flags)), em
    except (OSError, TTLibError, KeyError) as error:
        raise KdvizError(f"{path}: cannot draw characters from this font ({error}); is matplotlib whole?") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep fontTools' remarks about old time stamps off the terminal."""
    logger, handler = logging.getLogger("fontTools"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _pieces(points: np.ndarray, ends: list[int], flags: list[int]) -> np.ndarray:
    """Straight pieces [e, 4] (x0, y0, x1, y1) in 1/256 font unit; exact, for every weight is a whole number."""
    pieces, start = [], 0
    for end in ends:
        corners = _polygon(points[start : end + 1] * 2, flags[start : end + 1])
        pieces.append(np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1))
        start = end + 1
    return np.concatenate(pieces)


def _polygon(doubled: np.ndarray, flags: list[int]) -> np.ndarray:
    """The corners [p, 2] of one closed contour, in 1/256 font unit; off-curve points bend, two in a row have an
    on-curve point midway."""
    points, on = [], []
    for i in range(len(doubled)):
        if not flags[i] & 1 and not flags[i - 1] & 1:
            points.append((doubled[i - 1] + doubled[i]) // 2)
            on.append(True)
        points.append(doubled[i])
        on.append(bool(flags[i] & 1))
    point = np.stack(points)
    before, after = np.roll(point, 1, axis=0)[:, None], np.roll(point, -1, axis=0)[:, None]  # of a bend: corners
    t = np.arange(1, _STEPS)[:, None]
    u = _STEPS - t
    curves = u * u * before + 2 * u * t * point[:, None] + t * t * after  # [p, 7, 2]
    parts = [
        corner[None] * _STEPS**2 if straight else curve
        for corner, curve, straight in zip(point, curves, on, strict=True)
    ]
    return np.concatenate(parts) * (_UNIT // 2 // _STEPS**2)


def _fill(pieces: np.ndarray, em: int) -> np.ndarray:
    """The mask uint8 [64, 64] of closed contours given as pieces."""
    fine = CELLS * _FINE
    step = 5 * em * _UNIT // (4 * fine)  # 1.25 em across the window
    x0, y0, x1, y1 = pieces.T
    left = (x0.min() + x0.max()) // 2 - fine // 2 * step + step // 2  # centre of the first sample
    top = (y0.min() + y0.max()) // 2 + fine // 2 * step - step // 2
    rows = top - step * np.arange(fine)
    edge, row = np.nonzero((y0[:, None] <= rows) != (y1[:, None] <= rows))
    rise = y1[edge] - y0[edge]
    sign = np.sign(rise)
    across = (x0[edge] - left) * rise + (rows[row] - y0[edge]) * (x1[edge] - x0[edge])
    column = np.clip((across * sign) // (np.abs(rise) * step) + 1, 0, fine)
    winding = np.zeros((fine, fine + 1), dtype=np.int8)
    np.add.at(winding, (row, column), sign.astype(np.int8))
    inside = np.cumsum(winding, axis=1, dtype=np.int8)[:, :fine] != 0
    strips = np.sum([inside[:, i::_FINE] for i in range(_FINE)], axis=0)
    cells = np.sum([strips[i::_FINE] for i in range(_FINE)], axis=0)
    windows = np.zeros((CELLS, CELLS), dtype=np.int64)
    windows[:-1, :-1] = cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]
    return (windows * 255 // (4 * _FINE**2)).astype(np.uint8)
