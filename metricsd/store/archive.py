"""The older points of a series, in sealed blocks.

Owns the blocks and their order: where a point belongs, points that come late, dropping what is too
old. A block is opened only while it is read or written anew.
"""

from array import array
from bisect import bisect_left, bisect_right
from itertools import count
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from metricsd.store.columns import Columns, Points, empty_columns, has_point, put_point
from metricsd.store.sealed import seal, sealed_points, unseal, unseal_timestamps, unseal_values

# Points in a block when it is sealed. Larger blocks take less memory a point, but so many points of
# a series may not be sealed yet, at 16 bytes each. With a point every 15 seconds it is an hour.
BLOCK_POINTS = 240

# A block that has grown larger than this is cut in two.
MAX_BLOCK_POINTS = 2 * BLOCK_POINTS

# Late points that wait beside a block at most; then it is opened and sealed anew with them. That
# takes less than 100 us, and so less than one for each point.
LATE_POINTS = BLOCK_POINTS

_made = count()  # how often a block has got its first late point

# At most so many blocks are dropped in one go: about a millisecond.
DROP_BLOCKS = 1024


class Late:
    """The points that came to a block after it was sealed, also those that overwrite others.

    Whether a point is new, the timestamps that are sealed tell. To open them takes longer than to
    put ten points, so they stay open until the block is sealed anew. That is before long: a store
    has a bounded number of these.
    """

    __slots__ = ("_sealed_timestamps", "columns", "limit", "new")

    def __init__(self, sealed: bytes) -> None:
        # With so many points the block is sealed anew. Any number from a half of LATE_POINTS up
        # will do, but a different one for each: the same late points often come to many series.
        self.limit = LATE_POINTS - next(_made) % (LATE_POINTS // 2 + 1)
        self._sealed_timestamps = unseal_timestamps(sealed)
        self.columns = empty_columns()
        self.new = 0  # points that overwrite none

    def put(self, timestamp: int, value: float) -> bool:
        """Put a point; return whether it is a new one for the block."""
        unknown = put_point(self.columns, timestamp, value)
        new = unknown and not has_point(self._sealed_timestamps, timestamp)
        self.new += new
        return new

    def has(self, timestamp: int) -> bool:
        """Whether there is a point with this timestamp, late or sealed."""
        late, _ = self.columns
        return has_point(self._sealed_timestamps, timestamp) or has_point(late, timestamp)


class Archive:
    """Points in sealed blocks. Every point of a block comes before those of the next."""

    __slots__ = ("_blocks", "_firsts", "_late", "_summaries", "last", "points")

    def __init__(self) -> None:
        self._blocks: List[bytes] = []
        self._firsts = array("q")  # no point of a block comes before this
        self._late: Dict[bytes, Late] = {}  # by the block
        self._summaries: Dict[bytes, bytes] = {}  # of some blocks, which are not opened for them
        self.last = 0  # no point comes after this
        self.points = 0  # in all blocks

    def load(self, blocks: List[bytes], firsts: "array[int]", last: int) -> None:
        """Take blocks as ``sealed`` gave them, unopened; ``last`` is their largest timestamp."""
        self._blocks[:] = blocks
        self._firsts = firsts
        self.last = last
        self.points = sum(map(sealed_points, blocks))

    def sealed(self) -> Tuple[List[bytes], List[int]]:
        """The blocks, and for each the timestamp before which it has no point."""
        first = 1 if self._blocks and not self._blocks[0] else 0  # one that was cut is not sealed
        return self._blocks[first:], self._firsts[first:].tolist()

    @property
    def late_blocks(self) -> int:
        """How many blocks have late points beside them."""
        return len(self._late)

    def seal_late(self, most: int) -> bool:
        """If more than so many blocks have late points, seal one anew; return whether."""
        if len(self._late) <= most:
            return False
        late = next(iter(self._late.values()))
        self._seal_anew(self._index(late.columns[0][0]))
        return True

    def unsealed(self) -> Columns:
        """The points that are not in these blocks, or overwrite some that are there."""
        timestamps, values = empty_columns()
        late = [late.columns for late in self._late.values() if late.columns[0]]
        for more_timestamps, more_values in sorted(late):
            timestamps += more_timestamps
            values += more_values
        return timestamps, values

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
        late = self._late_points(index)
        new = late.put(timestamp, value)
        self.points += new
        if len(late.columns[0]) >= late.limit:
            self._seal_anew(index)
        return new

    def has(self, timestamp: int) -> bool:
        """Whether there is a point with this timestamp."""
        sealed = self._blocks[self._index(timestamp)]
        late = self._late.get(sealed)
        if late is not None:
            return late.has(timestamp)
        return has_point(unseal_timestamps(sealed), timestamp)  # which do not stay open

    def after(self, timestamp: int) -> Tuple[Points, int]:
        """The points of one block after a timestamp that is before ``last``, maybe none.

        Also the largest timestamp so that there are no others up to it.
        """
        index = self._index(timestamp + 1)
        timestamps, values = self._points(index)
        start = bisect_right(timestamps, timestamp)
        last_block = index + 1 == len(self._blocks)
        end = self.last if last_block else self._firsts[index + 1] - 1
        return (timestamps[start:], values[start:]), end

    def block(self, timestamp: int) -> Tuple[int, int, int]:
        """The block where a point belongs: its index, and two timestamps that its points are in."""
        index = self._index(timestamp)
        return index, self._firsts[index], self.end_of(index)

    def end_of(self, index: int) -> int:
        """No point of a block comes after this, and none of the next before."""
        last_block = index + 1 == len(self._blocks)
        return self.last if last_block else self._firsts[index + 1] - 1

    def summary(self, index: int, summarize: Callable[[Sequence[float]], bytes]) -> Optional[bytes]:
        """What there is to say of the values of a block; None if it has late points.

        It is kept as long as the block is.
        """
        sealed = self._blocks[index]
        if sealed in self._late:
            return None
        summary = self._summaries.get(sealed)
        if summary is None:
            summary = self._summaries[sealed] = summarize(unseal_values(sealed))
        return summary

    def points_of(self, index: int) -> Tuple[Sequence[int], Sequence[float]]:
        """The timestamps and the values of a block."""
        sealed = self._blocks[index]
        if sealed in self._late:
            return self._columns(index)
        return unseal_timestamps(sealed), unseal_values(sealed)

    def timestamps_of(self, index: int) -> Sequence[int]:
        """The timestamps of a block alone; those that are late may be missing."""
        sealed = self._blocks[index]
        return unseal_timestamps(sealed) if sealed else self._late[sealed].columns[0]

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

    def _late_points(self, index: int) -> Late:
        sealed = self._blocks[index]
        late = self._late.get(sealed)
        if late is None:
            late = self._late[sealed] = Late(sealed)
        return late

    def _points(self, index: int) -> Points:
        """All points of a block, to be read."""
        sealed = self._blocks[index]
        if sealed in self._late:
            return self._columns(index)
        return unseal_timestamps(sealed), unseal_values(sealed)

    def _columns(self, index: int) -> Columns:
        """All points of a block."""
        sealed = self._blocks[index]
        late = self._late.get(sealed)
        if late is not None and not sealed:
            timestamps, values = late.columns
            return timestamps[:], values[:]
        columns = unseal(sealed)
        if late is not None:
            for timestamp, value in zip(*late.columns):
                put_point(columns, timestamp, value)
        return columns

    def _seal_anew(self, index: int) -> None:
        """Seal a block with its late points, as two if it has become large."""
        timestamps, values = self._columns(index)
        self._summaries.pop(self._blocks[index], None)
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
            dropped += sealed_points(sealed)
            self._summaries.pop(sealed, None)
            late = self._late.pop(sealed, None)
            if late is not None:
                dropped += late.new
        del self._blocks[:count], self._firsts[:count]
        return dropped

    def _cut_first_block(self, oldest: int) -> int:
        """Drop the first points of the first block; return how many. The others stay unsealed."""
        timestamps, values = self._columns(0)
        count = bisect_left(timestamps, oldest)
        self._late.pop(self._blocks[0], None)
        self._summaries.pop(self._blocks[0], None)
        if count == len(timestamps):
            del self._blocks[0], self._firsts[0]
        else:
            del timestamps[:count], values[:count]
            self._firsts[0] = timestamps[0]
            self._blocks[0] = b""  # nothing of it is sealed, all of it late
            late = self._late[b""] = Late(b"")
            late.columns = timestamps, values
            late.new = len(timestamps)
        return count
