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
        with _quiet(), TTFont(path, lazy=True) as opened:
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
    full: list[tuple[np.ndarray, bool]] = []
    for i in range(len(doubled)):
        on, before = bool(flags[i] & 1), bool(flags[i - 1] & 1)
        if not on and not before:
            full.append(((doubled[i - 1] + doubled[i]) // 2, True))
        full.append((doubled[i], on))
    first = next(i for i, (_, on) in enumerate(full) if on)
    full = [*full[first:], *full[: first + 1]]
    scale, corners = _UNIT // 2 // _STEPS**2, []
    for i in range(len(full) - 1):
        (point, on), (after, _) = full[i], full[i + 1]
        if on:
            corners.append(point * _STEPS**2 * scale)
        else:
            before = full[i - 1][0]
            for t in range(1, _STEPS):
                u = _STEPS - t
                corners.append((u * u * before + 2 * u * t * point + t * t * after) * scale)
    return np.stack(corners)


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
    flat = row * (fine + 1) + column
    winding = np.zeros(fine * (fine + 1), dtype=np.int64)
    np.add.at(winding, flat, sign)
    inside = np.cumsum(winding.reshape(fine, fine + 1), axis=1)[:, :fine] != 0
    cells = inside.reshape(CELLS, _FINE, CELLS, _FINE).sum(axis=(1, 3))
    windows = np.zeros((CELLS, CELLS), dtype=np.int64)
    windows[:-1, :-1] = cells[:-1, :-1] + cells[1:, :-1] + cells[:-1, 1:] + cells[1:, 1:]
    return (windows * 255 // (4 * _FINE**2)).astype(np.uint8)
