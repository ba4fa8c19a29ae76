"""One series: the points of one key, sorted by timestamp.

Owns the newest points, in columns, and passes older ones on to be sealed. Does not know its key,
nor how a row is written.
"""

from bisect import bisect_left, bisect_right
from typing import Optional, Tuple

from metricsd.store.archive import BLOCK_POINTS, MAX_BLOCK_POINTS, Archive
from metricsd.store.columns import MIN_TIMESTAMP, Points, empty_columns, has_point, put_point


class Series:
    """The points of one key, at most one for each timestamp.

    Timestamps are whole seconds that fit in 64 bits, values are floats. Nearly every point is newer
    than all before it, so the newest ones are kept in columns that grow; once these are full they
    go into the archive, and others begin.
    """

    __slots__ = ("_archive", "_full", "_timestamps", "_values", "changes", "newest", "number")

    def __init__(self, full: int = BLOCK_POINTS, number: int = 0) -> None:
        """Begin a series whose first ``full`` points make the first block."""
        self.number = number  # tells it from all others, and grows in the order of the first puts
        self._full = full
        self._timestamps, self._values = empty_columns()
        self._archive: Optional[Archive] = None  # all that comes before these
        self.changes = 0  # to points that were there, or between them; growing is none
        self.newest = MIN_TIMESTAMP - 1  # the largest timestamp ever put

    def put(self, timestamp: int, value: float) -> bool:
        """Store a point; return False if it overwrote the one with this timestamp."""
        if timestamp > self.newest and len(self._timestamps) < self._full:
            self._timestamps.append(timestamp)
            self._values.append(value)
            self.newest = timestamp
            return True
        return self._put_elsewhere(timestamp, value)

    def is_slow(self, timestamp: int) -> bool:
        """Whether to put this timestamp means to seal a block, or may mean to open one."""
        if timestamp > self.newest:
            return len(self._timestamps) >= self._full
        late = self._archive is not None and timestamp <= self._archive.last
        return late or len(self._timestamps) >= MAX_BLOCK_POINTS

    def __len__(self) -> int:
        return len(self._timestamps) + (self._archive.points if self._archive else 0)

    def has(self, timestamp: int) -> bool:
        """Whether there is a point with this timestamp."""
        if self._archive is not None and timestamp <= self._archive.last:
            return self._archive.has(timestamp)
        return has_point(self._timestamps, timestamp)

    def after(self, timestamp: int) -> Tuple[Points, int]:
        """Some of the points after a timestamp, and the one up to which these are all.

        A reader that comes back with that one, until it is ``newest``, reads the series in order,
        each point once, whatever is stored in the meantime.
        """
        if self._archive is not None and timestamp < self._archive.last:
            return self._archive.after(timestamp)
        start = bisect_right(self._timestamps, timestamp)
        return (self._timestamps[start:], self._values[start:]), self.newest

    def drop_before(self, oldest: int) -> int:
        """Drop points before a timestamp; return how many. Some may be left, if it is not 0."""
        if self._archive is not None:
            dropped = self._archive.drop_before(oldest)
            if not self._archive.points:
                self._archive = None
        else:
            dropped = bisect_left(self._timestamps, oldest)
            del self._timestamps[:dropped], self._values[:dropped]
        self.changes += dropped
        return dropped

    @property
    def late_blocks(self) -> int:
        """How many sealed blocks have late points beside them."""
        return 0 if self._archive is None else self._archive.late_blocks

    def seal_late(self, most: int) -> bool:
        """If more than so many blocks wait for late points, seal one with them; return whether."""
        return self._archive is not None and self._archive.seal_late(most)

    def _put_elsewhere(self, timestamp: int, value: float) -> bool:
        """Put a late point in its place, or the next one in new columns."""
        if timestamp > self.newest:
            self._seal(len(self._timestamps))
            return self.put(timestamp, value)
        self.changes += 1
        if self._archive is not None and timestamp <= self._archive.last:
            return self._archive.put(timestamp, value)
        new = put_point((self._timestamps, self._values), timestamp, value)
        if len(self._timestamps) > MAX_BLOCK_POINTS:
            self._seal(BLOCK_POINTS)
        return new

    def _seal(self, count: int) -> None:
        """Pass the oldest of the newest points on to the archive."""
        if self._archive is None:
            self._archive = Archive()
        self._archive.append((self._timestamps[:count], self._values[:count]))
        del self._timestamps[:count], self._values[:count]
        self._full = BLOCK_POINTS
