"""One series: the points of one key, sorted by timestamp, in columns.

Owns the points and their order. Does not know its key, nor how a row is written.
"""

from array import array
from bisect import bisect_left, bisect_right
from typing import List, Tuple

MIN_TIMESTAMP = -(2**63)
MAX_TIMESTAMP = 2**63 - 1

# Points in a block. A late point moves at most two blocks' worth of memory (8 KiB a column), which
# costs about as much as any other call; one long column would move all that follows it.
BLOCK_POINTS = 512

Columns = Tuple["array[int]", "array[float]"]  # timestamps and values, equally long


class Series:
    """A non-empty run of points, at most one for each timestamp.

    Timestamps are whole seconds that fit in 64 bits, values are floats: 16 bytes a point. The
    points lie in blocks, so that a point out of order moves one block and not the whole series.
    Nearly every point is newer than all before it, so the newest block is kept at hand.
    """

    __slots__ = ("_blocks", "_firsts", "_timestamps", "_values")

    def __init__(self, timestamp: int, value: float) -> None:
        self._blocks: List[Columns] = []
        self._firsts: List[int] = []
        self._start_block(timestamp, value)

    def put(self, timestamp: int, value: float) -> None:
        """Store a point; one that is there already at this timestamp is overwritten."""
        timestamps = self._timestamps
        if timestamp <= timestamps[-1]:
            self._put_late(timestamp, value)
        elif len(timestamps) < BLOCK_POINTS:
            timestamps.append(timestamp)
            self._values.append(value)
        else:
            self._start_block(timestamp, value)

    @property
    def newest(self) -> int:
        """The largest timestamp."""
        return self._timestamps[-1]

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

    def _put_late(self, timestamp: int, value: float) -> None:
        index = max(bisect_right(self._firsts, timestamp) - 1, 0)
        timestamps, values = self._blocks[index]
        place = bisect_left(timestamps, timestamp)
        if place < len(timestamps) and timestamps[place] == timestamp:
            values[place] = value
            return
        timestamps.insert(place, timestamp)
        values.insert(place, value)
        self._firsts[index] = timestamps[0]
        if len(timestamps) > 2 * BLOCK_POINTS:
            self._split_block(index)

    def _start_block(self, timestamp: int, value: float) -> None:
        self._blocks.append((array("q", (timestamp,)), array("d", (value,))))
        self._firsts.append(timestamp)
        self._timestamps, self._values = self._blocks[-1]

    def _split_block(self, index: int) -> None:
        timestamps, values = self._blocks[index]
        middle = len(timestamps) // 2
        self._blocks[index] = timestamps[:middle], values[:middle]
        self._blocks.insert(index + 1, (timestamps[middle:], values[middle:]))
        self._firsts.insert(index + 1, timestamps[middle])
        self._timestamps, self._values = self._blocks[-1]
