"""The journal: puts in files, so that they outlive the server.

Owns the file that is being written, and what happens when that fails. Does not know what the lines
say: they come from the ledger, and go back through recovery.

A journal is a folder of segments, ``00000001.log`` and so on, and at most one snapshot,
``00000007.snapshot``, which stands for every segment up to that number. A segment is only ever
written at its end. Its first line tells which segment it follows, and how much of that one counts.
"""

import logging
import time
from typing import Callable, List, NamedTuple, Optional

from metricsd.disk import Disk
from metricsd.filenames import UNFINISHED, segment_name
from metricsd.records import write_record

ALWAYS, EVERY_SECOND, NEVER = "always", "everysec", "never"
FSYNC_POLICIES = (ALWAYS, EVERY_SECOND, NEVER)

# When no segment can be begun, try again after so many seconds, if there are puts then.
RETRY_SECONDS = 0.1


logger = logging.getLogger("metricsd")


class JournalError(Exception):
    """The journal can't be used; the message says why and what to do."""


class End(NamedTuple):
    """How much of a segment counts: its number, its length, and what of that is surely safe."""

    number: int
    length: int
    synced: int


class Segment:
    """A file that is being written."""

    __slots__ = ("abandoned", "begun", "failure", "file", "length", "number", "synced")

    def __init__(self, number: int, file: int, length: int, begun: int, synced: int) -> None:
        self.number = number
        self.file = file
        self.length = length
        self.begun = begun  # the length of its first record
        self.synced = synced  # so much of it is safe
        self.failure: Optional[OSError] = None  # of a sync; another one would prove nothing
        self.abandoned = False  # it need not be synced any more

    @property
    def end(self) -> End:
        """How much of it counts."""
        return End(self.number, self.length, self.synced)


class Unsynced(NamedTuple):
    """What is not safe yet; ``sync`` may run in another thread, one at a time."""

    disk: Disk
    retired: List[Segment]  # they are closed when they are safe
    current: Optional[Segment]
    length: int  # of the current one

    def sync(self) -> None:
        """Make it safe. Raises OSError."""
        current = [] if self.current is None else [self.current]
        try:
            for segment in [*self.retired, *current]:
                if not segment.abandoned:
                    self._sync(segment)
        finally:
            for segment in self.retired:
                self.disk.close(segment.file)

    def _sync(self, segment: Segment) -> None:
        if segment.failure is not None:
            raise _same(segment.failure)
        try:
            self.disk.sync(segment.file)
            self.disk.sync_folder()
        except OSError as error:
            segment.failure = error
            raise

    def done(self) -> None:
        """It is safe now."""
        if self.current is not None:
            self.current.synced = max(self.current.synced, self.length)


def follows_line(end: End) -> bytes:
    """The first line of a segment."""
    return b"follows %d %d %d\n" % end


class Journal:
    """The writing end, on a folder that has been recovered up to ``end``.

    If the last segment is ``whole`` it is written on, otherwise another one is begun. One that
    could not be written or synced is never written again: what a failed fsync(2) has lost, a second
    one does not bring back, even if it succeeds. The next segment says how much of it counts.

    Raises OSError if the last segment can't be opened.
    """

    def __init__(
        self,
        disk: Disk,
        end: End,
        whole: bool,
        next_number: int,
        policy: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._disk = disk
        self._end = end  # of the last segment, while none is open
        self._next_number = next_number
        self._policy = policy
        self._clock = clock
        self._segment: Optional[Segment] = None
        self._retired: List[Segment] = []  # left, but not synced yet
        self._failure: Optional[OSError] = None  # of a sync in the background
        self._retry_at = 0.0
        self._retry_error = OSError()
        # Now, while there are descriptors: clients may take them all.
        if whole:
            self._go_on(end)
            return
        try:
            self._begin()
        except OSError as error:  # a full disk: points can be read, and the next put tries again
            logger.error("journal: puts are refused until it can be written: %s", error)

    def append(self, lines: bytes) -> int:
        """Write lines; with the policy ``always``, return when they are safe. Returns the bytes.

        Raises OSError if that failed: then they are not in the journal.
        """
        if self._failure is not None:
            raise _same(self._failure)
        segment = self._segment or self._begin()
        record = write_record(lines, segment.synced)
        try:
            self._disk.write(segment.file, record)
            if self._policy == ALWAYS:
                self._disk.sync(segment.file)
        except BaseException:
            self._disown(segment)
            raise
        segment.length += len(record)
        if self._policy == ALWAYS:
            segment.synced = segment.length
        return len(record)

    def turn_over(self) -> int:
        """Begin a new segment, unless this one holds nothing; return the number of the last before.

        Raises OSError if none can be begun.
        """
        segment = self._segment or self._begin()
        if segment.length == segment.begun and self._end.number:
            return self._end.number
        self._begin()
        return segment.number

    def take_unsynced(self) -> Optional[Unsynced]:
        """What has to be synced in the background; None if there is nothing.

        Whoever takes it has to do it: segments that have been left are closed there.
        """
        current = self._segment
        length = 0 if current is None else current.length
        if not self._retired and (current is None or current.synced == length):
            return None
        retired, self._retired = self._retired, []
        return Unsynced(self._disk, retired, current, length)

    def distrust(self, failure: OSError) -> None:
        """A sync in the background has failed: leave this segment, and write no more.

        Points that were acknowledged may be lost on the disk, but are in memory. When a snapshot
        has made them safe, ``trust``.
        """
        self._failure = failure
        for segment in self._retired:
            segment.abandoned = True
        if self._segment is not None:
            self._segment.abandoned = True
            self._leave(self._segment)

    def trust(self) -> None:
        """All that was ever appended is safe, so write again."""
        self._failure = None

    def close(self) -> None:
        """Write no more."""
        for segment in [*self._retired, self._segment]:
            if segment is not None:
                self._disk.close(segment.file)
        self._retired.clear()
        self._segment = None

    def _go_on(self, end: End) -> None:
        """Write on where an earlier server has ended, when what it left is safe."""
        file = self._disk.go_on(segment_name(end.number))
        try:
            self._disk.sync(file)
        except OSError:
            self._disk.close(file)
            raise
        self._segment = Segment(end.number, file, end.length, begun=0, synced=end.length)

    def _begin(self) -> Segment:
        """Begin a segment, and leave the one that is open. Raises OSError."""
        if self._clock() < self._retry_at:
            raise _same(self._retry_error)
        try:
            return self._replace_segment()
        except OSError as error:
            self._retry_at = self._clock() + RETRY_SECONDS
            self._retry_error = _same(error)
            raise

    def _replace_segment(self) -> Segment:
        number, self._next_number = self._next_number, self._next_number + 1
        end = self._end if self._segment is None else self._segment.end
        synced = self._policy == ALWAYS
        record = write_record(follows_line(end), 0)
        name = segment_name(number)
        file = self._disk.create_whole(name + UNFINISHED, record, synced)
        # From here on the new one may be on the disk, with its word on where the old one ends.
        if self._segment is not None:
            self._leave(self._segment)
        try:
            self._disk.rename(name + UNFINISHED, name)
            if synced:
                self._disk.sync_folder()
        except OSError:
            self._disk.close(file)
            raise
        length = len(record)
        self._segment = Segment(number, file, length, length, length if synced else 0)
        return self._segment

    def _disown(self, segment: Segment) -> None:
        """What was written last does not count: take it away, and say so in the next segment.

        Each by itself would do, if only the disk did what it is told.
        """
        try:
            self._disk.truncate(segment.file, segment.length)
            if self._policy == ALWAYS:
                self._disk.sync(segment.file)
        except OSError:
            pass
        self._leave(segment)
        try:
            self._begin()
        except OSError:
            pass  # the next put tries again

    def _leave(self, segment: Segment) -> None:
        """Never write this one again."""
        self._end = segment.end
        self._segment = None
        if self._policy == ALWAYS:
            self._disk.close(segment.file)
        else:
            self._retired.append(segment)  # it is to be synced, or that is under way


def _same(error: OSError) -> OSError:
    """A new error that says the same. One that is raised again grows by the calls it passes."""
    return OSError(error.errno, error.strerror)
