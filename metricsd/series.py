"""One series: the points of one key, sorted by timestamp, in columns.

Owns the points and their order. Does not know its key, nor how a row is written.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import Iterable, List, Tuple

MIN_TIMESTAMP = -(2**63)
MAX_TIMESTAMP = 2**63 - 1

# Points in a block. A late point moves at most two blocks' worth of memory (8 KiB a column), which
# costs about as much as any other call; one long column would move all that follows it.
BLOCK_POINTS = 512

Columns = Tuple["array[int]", "array[float]"]  # timestamps and values, equally long


class Series:
    """The points of one key, at most one for each timestamp.

    Timestamps are whole seconds that fit in 64 bits, values are floats: 16 bytes a point. The
    points lie in blocks, so that a point out of order moves one block and not the whole series.
    Nearly every point is newer than all before it, so the newest block is kept at hand.
    """

    __slots__ = ("_blocks", "_firsts", "_timestamps", "_values", "changes", "newest")

    def __init__(self) -> None:
        self._blocks: List[Columns] = [(array("q"), array("d"))]
        self._firsts: List[int] = [MIN_TIMESTAMP]  # no point of a block comes before this
        self._timestamps, self._values = self._blocks[0]
        self.changes = 0  # to points that were there, or between them; growing is none
        self.newest = MIN_TIMESTAMP - 1  # the largest timestamp; without points, less than any

    def put(self, timestamp: int, value: float) -> None:
        """Store a point; one that is there already at this timestamp is overwritten."""
        if timestamp > self.newest and len(self._timestamps) < BLOCK_POINTS:
            self._timestamps.append(timestamp)
            self._values.append(value)
            self.newest = timestamp
        else:
            self._put_elsewhere(timestamp, value)

    def __len__(self) -> int:
        return sum(len(timestamps) for timestamps, _ in self._blocks)

    def later_than(self, timestamp: int, limit: int) -> Columns:
        """The next points with a larger timestamp, at most ``limit``, none at the end.

        A reader that comes back with the last timestamp it saw reads the series in order, each
        point once, whatever was stored in the meantime.
        """
        index = max(bisect_right(self._firsts, timestamp) - 1, 0)
        timestamps, values = self._blocks[index]
        start = bisect_right(timestamps, timestamp)
        if start == len(timestamps) and index + 1 < len(self._blocks):
            timestamps, values = self._blocks[index + 1]
            start = 0
        return timestamps[start : start + limit], values[start : start + limit]

    def _put_elsewhere(self, timestamp: int, value: float) -> None:
        """Put a late point in its place, or the next one in a new block."""
        if timestamp > self.newest:
            self._blocks.append((array("q", (timestamp,)), array("d", (value,))))
            self._firsts.append(timestamp)
            self._timestamps, self._values = self._blocks[-1]
            self.newest = timestamp
            return
        self.changes += 1
        index = bisect_right(self._firsts, timestamp) - 1
        timestamps, values = self._blocks[index]
        place = bisect_left(timestamps, timestamp)
        if place < len(timestamps) and timestamps[place] == timestamp:
            values[place] = value
            return
        timestamps.insert(place, timestamp)
        values.insert(place, value)
        if len(timestamps) > 2 * BLOCK_POINTS:
            self._split_block(index)

    def _split_block(self, index: int) -> None:
        timestamps, values = self._blocks[index]
        middle = len(timestamps) // 2
        self._blocks[index] = timestamps[:middle], values[:middle]
        self._blocks.insert(index + 1, (timestamps[middle:], values[middle:]))
        self._firsts.insert(index + 1, timestamps[middle])
        self._timestamps, self._values = self._blocks[-1]


def put_each(series: Iterable[Series], timestamps: Iterable[int], values: Iterable[float]) -> None:
    """Do ``one.put(timestamp, value)`` for each of the series, with its timestamp and value.

    The body of `put` stands here again: without a call for each point this takes a fifth less time.
    """
    for one, timestamp, value in zip(series, timestamps, values):
        if timestamp > one.newest and len(one._timestamps) < BLOCK_POINTS:
            one._timestamps.append(timestamp)
            one._values.append(value)
            one.newest = timestamp
        else:
            one._put_elsewhere(timestamp, value)
