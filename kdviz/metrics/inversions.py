"""How many pairs of a row are out of order, for many rows at once, in O(k log k) by whole arrays of small integers.

The values of a row are cut into FAN groups of like size. A pair out of order is in two groups or in one. Those in two
are found from the groups' numbers alone: by comparison where their positions are near, else from a table of how many of
each group lie in each stretch of positions. Those in one are the inversions of the group, which is a shorter row: the
positions of its values, in the order of the values, have as many pairs out of order as the values in that of positions.
Each step is a sort, a bincount or a comparison of adjacent arrays, all of which vectorise, as a merge would not.
"""

import numpy as np

FAN = 16  # groups of values
NEAR = 64  # positions of a stretch, compared with one another
LEAF = 128  # the longest row whose pairs are all compared; its counts of one distance fit int8


def inversions(rows: np.ndarray, below: int) -> np.ndarray:
    """The pairs i < j with rows[:, i] > rows[:, j]; equal values are in order.

    Args:
        rows: [n, k], whole numbers from 0.
        below: above all of them.
    Returns: [n] int64.

    >>> inversions(np.array([[0, 1, 2], [2, 1, 0], [1, 1, 0]]), 3)
    array([0, 3, 2])
    """
    n, k = rows.shape
    if k <= LEAF:
        return _compared(rows, below)
    size = -(-k // FAN)
    length, bits = FAN * size, (FAN * size - 1).bit_length()
    wide = np.int32 if bits + below.bit_length() <= 31 else np.int64
    keys = np.full((n, length), below, wide)  # equal values at the end add no inversion
    keys[:, :k] = rows
    keys <<= bits
    keys |= np.arange(length, dtype=wide)
    keys.sort(axis=1)
    keys &= (1 << bits) - 1  # the position of each value, by rising value
    inside = inversions(keys.reshape(n * FAN, size), length)
    return inside.reshape(n, FAN).sum(axis=1) + _between(keys, size)


def _between(positions: np.ndarray, size: int) -> np.ndarray:
    """Inversions of two groups each; groups of `size` follow one another in positions [n, FAN * size]."""
    n, length = positions.shape
    stretches = -(-length // NEAR)
    groups = np.full(n * stretches * NEAR, FAN - 1, np.uint8)
    places = positions + np.arange(0, len(groups), stretches * NEAR)[:, None]
    groups[places.ravel()] = np.tile(np.repeat(np.arange(FAN, dtype=np.uint8), size), n)
    groups = groups.reshape(n * stretches, NEAR)
    near = _compared(groups, FAN).reshape(n, stretches).sum(axis=1)
    cells = groups + np.arange(0, len(groups) * FAN, FAN)[:, None]
    table = np.bincount(cells.ravel(), minlength=len(groups) * FAN).reshape(n, stretches, FAN)
    earlier, smaller = (table.cumsum(axis=axis) - table for axis in (1, 2))
    return near + np.einsum("nsg,nsg->n", earlier, smaller)


def _compared(rows: np.ndarray, below: int) -> np.ndarray:
    """Inversions of short rows: one comparison of whole slabs per distance, in the smallest integers that hold them."""
    narrow = np.uint8 if below <= 1 << 8 else np.uint16 if below <= 1 << 16 else np.uint32
    columns = np.ascontiguousarray(rows.T.astype(narrow))
    counts = np.zeros(columns.shape, np.int8)
    greater = np.empty(columns.shape, bool)
    for distance in range(1, len(columns)):
        found = np.greater(columns[:-distance], columns[distance:], out=greater[distance:])
        counts[distance:] += found.view(np.int8)
    return counts.sum(axis=0, dtype=np.int64)
