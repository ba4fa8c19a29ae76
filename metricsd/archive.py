"""The older points of a series, in sealed blocks.

Owns the blocks and their order: where a point belongs, points that come late, dropping what is too
old. A block is opened only while it is read or written anew.
"""

from array import array
from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import Dict, List

from metricsd.columns import Columns, empty_columns, has_point, put_point
from metricsd.sealed import seal, sealed_points, unseal, unseal_timestamps

# Points in a block when it is sealed. Larger blocks take less memory a point, but so many points of
# a series may not be sealed yet, at 16 bytes each. With a point every 15 seconds it is an hour.
BLOCK_POINTS = 240

# A block that has grown larger than this is cut in two.
MAX_BLOCK_POINTS = 2 * BLOCK_POINTS

# Late points wait beside their block until there are so many; then it is opened and sealed anew
# with them. That takes some 100 us, and so one or two for each point.
LATE_POINTS = 240

# Whether a late point is new or overwrites one, the block's timestamps tell. They are kept for so
# many blocks, some 4 KiB each: 2 MiB for the whole process.
KEPT_TIMESTAMPS = 512

# At most so many blocks are dropped in one go: a tenth of a millisecond.
DROP_BLOCKS = 1024


@lru_cache(maxsize=KEPT_TIMESTAMPS)
def _timestamps(sealed: bytes) -> "array[int]":
    return unseal_timestamps(sealed)


class Archive:
    """Points in sealed blocks. Every point of a block comes before those of the next."""

    __slots__ = ("_blocks", "_firsts", "_late", "last", "points")

    def __init__(self) -> None:
        self._blocks: List[bytes] = []
        self._firsts = array("q")  # no point of a block comes before this
        self._late: Dict[bytes, Columns] = {}  # what came after a block was sealed, by the block
        self.last = 0  # no point comes after this
        self.points = 0  # in all blocks

    def append(self, columns: Columns) -> None:
        """Seal points that all come after those that are there."""
        timestamps, _ = columns
        self._blocks.append(seal(columns))
        self._firsts.append(timestamps[0])
        self.last = timestamps[-1]
        self.points += len(timestamps)

    def put(self, timestamp: int, value: float) -> bool:
        """Put a point that is not after ``last``; return whether it is a new one."""
        index = bisect_right(self._firsts, timestamp) - 1
        if index < 0:  # it comes before all others
            index = 0
            self._firsts[0] = timestamp
        sealed = self._blocks[index]
        late = self._late.get(sealed)
        if late is None:
            late = self._late[sealed] = empty_columns()
        new = put_point(late, timestamp, value) and not has_point(_timestamps(sealed), timestamp)
        self.points += new
        if len(late[0]) >= LATE_POINTS:
            self._seal_anew(index)
        return new

    def has(self, timestamp: int) -> bool:
        """Whether there is a point with this timestamp."""
        sealed = self._blocks[self._index(timestamp)]
        late = self._late.get(sealed)
        if late is not None and has_point(late[0], timestamp):
            return True
        return has_point(_timestamps(sealed), timestamp)

    def after(self, timestamp: int) -> Columns:
        """The points after a timestamp that lie together in one block; there must be one."""
        index = self._index(timestamp)
        timestamps, values = self._columns(index)
        start = bisect_right(timestamps, timestamp)
        if start == len(timestamps):
            return self._columns(index + 1)
        return timestamps[start:], values[start:]

    def drop_before(self, oldest: int) -> int:
        """Drop points before a timestamp; return how many. Some may be left, if it is not 0."""
        # A block that begins at or before this time: all blocks in front of it are older.
        whole = len(self._blocks) if self.last < oldest else self._index(oldest)
        if whole:
            dropped = self._drop_blocks(min(whole, DROP_BLOCKS))
        elif self._firsts[0] < oldest:
            dropped = self._cut_first_block(oldest)
        else:
            dropped = 0
        self.points -= dropped
        return dropped

    def _index(self, timestamp: int) -> int:
        """The block where a point belongs."""
        return max(bisect_right(self._firsts, timestamp) - 1, 0)

    def _columns(self, index: int) -> Columns:
        sealed = self._blocks[index]
        columns = unseal(sealed)
        if sealed in self._late:
            for timestamp, value in zip(*self._late[sealed]):
                put_point(columns, timestamp, value)
        return columns

    def _seal_anew(self, index: int) -> None:
        """Seal a block with its late points, as two if it has become large."""
        timestamps, values = self._columns(index)
        del self._late[self._blocks[index]]
        if len(timestamps) > MAX_BLOCK_POINTS:
            middle = len(timestamps) // 2
            self._blocks.insert(index + 1, seal((timestamps[middle:], values[middle:])))
            self._firsts.insert(index + 1, timestamps[middle])
            del timestamps[middle:], values[middle:]
        self._blocks[index] = seal((timestamps, values))

    def _drop_blocks(self, count: int) -> int:
        """Drop the first blocks; return how many points these were."""
        dropped = 0
        for index in range(count):
            sealed = self._blocks[index]
            dropped += (
                len(self._columns(index)[0]) if sealed in self._late else sealed_points(sealed)
            )
            self._late.pop(sealed, None)
        del self._blocks[:count], self._firsts[:count]
        return dropped

    def _cut_first_block(self, oldest: int) -> int:
        """Drop the first points of the first block; return how many. The others stay unsealed."""
        timestamps, values = self._columns(0)
        count = bisect_left(timestamps, oldest)
        self._late.pop(self._blocks[0], None)
        if count == len(timestamps):
            del self._blocks[0], self._firsts[0]
        else:
            del timestamps[:count], values[:count]
            self._firsts[0] = timestamps[0]
            self._blocks[0] = b""  # nothing of it is sealed, all of it late
            self._late[b""] = timestamps, values
        return count
