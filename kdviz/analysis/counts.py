"""A table of counts whose bins widen by doubling, so that a stream of numbers needs no range in advance."""

import numpy as np

from kdviz.base.check import require


class Counts:
    """Counts of a stream of values, row by row, on bins [i w, (i + 1) w) shared by all rows.

    w is the smallest power of two for which `bins` bins hold every value seen, so that neither the order of the stream
    nor its cuts change a count, and the tables of two streams go into the wider one's bins without error.

    Args: rows, bins: shape of the table, 8 bytes a cell.
    """

    def __init__(self, rows: int, bins: int = 1024) -> None:
        self.width, self.low = 0.0, 0
        self.table = np.zeros((rows, bins), np.int64)

    def add(self, values: np.ndarray) -> None:
        """Count values [n, columns], finite or -inf, which is left out; the columns share the rows evenly, in order."""
        finite = values > -np.inf
        if not finite.any():
            return
        self._fit(float(values.min(where=finite, initial=np.inf)), float(values.max()))
        rows, bins = self.table.shape
        columns = values.shape[1]
        cells = np.floor(np.where(finite, values, 0) / np.asarray(self.width, values.dtype)).astype(np.int64)
        cells += np.arange(columns) * rows // columns * bins - self.low
        self.table += np.bincount(cells[finite], minlength=rows * bins).reshape(rows, bins)

    def _fit(self, low: float, high: float) -> None:
        """Widen the bins and move the table as far as [low, high] needs."""
        bins = self.table.shape[1]
        if not self.width:
            least = max((high - low) / bins, max(abs(low), abs(high)) * 2.0**-40, 2.0**-100)
            self.width = 2.0 ** np.floor(np.log2(least))
            self.low = int(low // self.width)
        used = self._used()
        seen = [*used[[0, -1]]] if len(used) else []
        first, last = (int(end) for end in (low // self.width, high // self.width))
        first, last = min([first, *seen]), max([last, *seen])
        if first >= self.low and last < self.low + bins:
            return
        filled, target = self.table[:, used - self.low], used
        while last - first >= bins:
            first, last, target, self.width = first // 2, last // 2, target // 2, 2 * self.width
        self.low = int(first) - (bins - 1 - int(last - first)) // 2
        self.table = _placed(filled, target - self.low, bins)

    def _used(self) -> np.ndarray:
        """Indices of the bins that hold something, in rising order."""
        return self.low + np.flatnonzero(self.table.any(axis=0))


def shared(tables: list[Counts]) -> tuple[np.ndarray, float, np.ndarray]:
    """Several tables on the same bins, which are those of the widest and reach from the least to the largest value.

    Returns: left edges [bins], the bins' width, and counts [tables, rows, bins].
    """
    require(all(one.width for one in tables), "histogram: no values were counted")
    width = max(one.width for one in tables)
    # widths are powers of two, whose ratio a float holds exactly and an integer may not
    used = [np.floor(one._used() * (one.width / width)).astype(np.int64) for one in tables]
    low, high = min(one[0] for one in used), max(one[-1] for one in used)
    placed = [
        _placed(one.table[:, one._used() - one.low], where - low, high - low + 1)
        for one, where in zip(tables, used, strict=True)
    ]
    return np.arange(low, high + 1) * width, width, np.stack(placed)


def quantiles(table: np.ndarray, left: np.ndarray, width: float, shares: tuple[float, ...]) -> np.ndarray:
    """Quantiles of each row's values, to within one bin: [rows, shares]; values lie evenly within a bin, NaN for none.

    Args: table [rows, bins] of counts; left: edges [bins]; shares in (0, 1).
    """
    total = table.cumsum(axis=1)
    found = np.full((len(table), len(shares)), np.nan)
    for row, running in enumerate(total):
        if not running[-1]:
            continue
        wanted = np.array(shares) * running[-1]
        bin_ = np.searchsorted(running, wanted)
        before = np.where(bin_ > 0, running[bin_ - 1], 0)
        found[row] = left[bin_] + width * (wanted - before) / table[row, bin_]
    return found


def _placed(filled: np.ndarray, where: np.ndarray, bins: int) -> np.ndarray:
    """Columns added up at the bins `where` of an empty table."""
    table = np.zeros((bins, len(filled)), np.int64)
    np.add.at(table, where, filled.T)
    return np.ascontiguousarray(table.T)
