"""Compaction: a journal that holds much more than the points there are is replaced by a snapshot.

Owns when that is due, and the writing of the snapshot, a little at a time. Does not hold up the
loop: it makes lines for a millisecond between turns, and a thread writes and syncs them.

The journal goes on in a new segment meanwhile. What is put there may be in the snapshot or not; it
is run again after it, and the last put wins, so both come to the same.
"""

import logging
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Callable, Generator, Iterator, List, Optional, Tuple

from metricsd.commands import PUT
from metricsd.disk import Disk
from metricsd.filenames import UNFINISHED, replaced_names, snapshot_name
from metricsd.journal import Journal
from metricsd.reactor import LOG_SECONDS, Reactor
from metricsd.records import write_record
from metricsd.recovery import END_LINE
from metricsd.rows import rows
from metricsd.store import Store

logger = logging.getLogger("metricsd")

# A journal is worth replacing when it is so large, in bytes, and holds so many times more puts than
# there are points.
WORTHWHILE_BYTES = 8 * 1024 * 1024
WORTHWHILE_FACTOR = 2

# Lines are made so long, in seconds, then everybody else has a turn.
LINES_SECONDS = 0.001

# Look so often, in seconds, whether the thread has written them.
LOOK_SECONDS = 0.002

# When a snapshot can't be written, try again after so many seconds.
SNAPSHOT_RETRY_SECONDS = 1.0

SNAPSHOT_FILE = "snapshot" + UNFINISHED

Job = Callable[[], None]  # done in the thread; may raise OSError


class Compaction:
    """Counts what is written to a journal, and replaces it when that is due."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        disk: Disk,
        reactor: Reactor,
        thread: ThreadPoolExecutor,
        holds: Tuple[int, int],
    ) -> None:
        """The journal ``holds`` so many puts and bytes. The executor has a single thread."""
        self._store = store
        self._journal = journal
        self._disk = disk
        self._reactor = reactor
        self._thread = thread
        self._puts, self._bytes = holds
        self._jobs = _no_jobs()  # the rest of the work on a snapshot
        self._running: Optional[Future[None]] = None
        self._file: Optional[int] = None
        self._busy = self._again = False
        self._next_log = reactor.now

    def written(self, puts: int, size: int) -> None:
        """So many puts have been added, with so many bytes."""
        self._puts += puts
        self._bytes += size
        large = self._bytes >= WORTHWHILE_BYTES
        if large and not self._busy and self._puts >= WORTHWHILE_FACTOR * self._store.points:
            self.begin()

    def begin(self) -> None:
        """Replace the journal, or do so again if that is under way."""
        self._again = self._busy
        if not self._busy:
            self._busy = True
            self._jobs = self._replace()
            self._go_on()

    def close(self) -> None:
        """Leave what is not finished, and does not count. The thread has nothing more to do."""
        self._jobs = _no_jobs()
        self._close()

    def _go_on(self) -> None:
        """Let the thread do one job after the other; a job is made here while it does nothing."""
        if self._running is None or self._running.done():
            try:
                self._running = self._thread.submit(self._next_job())
            except StopIteration:
                self._finish(0.0)
                return
            except Exception as error:
                self._complain(error)
                self._again = True
                self._finish(SNAPSHOT_RETRY_SECONDS)
                return
        self._reactor.call_later(LOOK_SECONDS, self._go_on)

    def _complain(self, error: Exception) -> None:
        if self._reactor.now >= self._next_log:
            self._next_log = self._reactor.now + LOG_SECONDS
            bug = not isinstance(error, OSError)
            logger.error("journal: cannot write a snapshot: %s", error, exc_info=bug)

    def _next_job(self) -> Job:
        """Raises what the last job has raised, or StopIteration."""
        error = None if self._running is None else self._running.exception()
        self._running = None
        return next(self._jobs) if error is None else self._jobs.throw(error)

    def _finish(self, pause: float) -> None:
        self._running = None
        self._busy = self._again
        if self._again:
            self._reactor.call_later(pause, self._begin_again)

    def _begin_again(self) -> None:
        self._busy = False
        self.begin()

    def _replace(self) -> Generator[Job, None, None]:
        """All that has to be done, in small jobs for the thread. Raises OSError."""
        self._disk.remove_if_there(SNAPSHOT_FILE)
        self._file = self._disk.create(SNAPSHOT_FILE)
        held, puts, size = (0, 0), 0, 0
        try:
            number = self._journal.turn_over()
            held, self._puts, self._bytes = (self._puts, self._bytes), 0, 0
            for lines in self._slices():
                record = write_record(lines, 0)
                puts += lines.count(b"\n")
                size += len(record)
                yield partial(self._write, record)
            yield from self._sync_journal()
            if not self._again:  # otherwise a segment after the snapshot is lost
                yield partial(self._install, number)
                self._journal.trust()
                held = puts, size
        finally:
            self._puts += held[0]
            self._bytes += held[1]
            self._close()

    def _sync_journal(self) -> Generator[Job, None, None]:
        """Make safe what the snapshot may hold already: nothing must be there without the rest."""
        unsynced = self._journal.unsynced()
        if unsynced is not None:
            try:
                yield unsynced.sync
            except OSError as error:
                self._journal.distrust(error)
                raise
            unsynced.done()

    def _slices(self) -> Iterator[bytes]:
        """Lines that put every point there is."""
        pieces: List[bytes] = []
        start = time.perf_counter()
        for key, series in self._store.every():
            for piece in rows(PUT + " " + key, series):
                pieces.append(piece)
                if time.perf_counter() >= start + LINES_SECONDS:
                    yield b"".join(pieces)
                    pieces.clear()
                    start = time.perf_counter()
        if pieces:
            yield b"".join(pieces)

    def _write(self, record: bytes) -> None:
        """Write and sync, in the thread: small amounts, so that no other sync has to wait long."""
        assert self._file is not None
        self._disk.write(self._file, record)
        self._disk.sync(self._file)

    def _install(self, number: int) -> None:
        """Let the snapshot count, in the thread; only then remove what it stands for."""
        self._write(write_record(END_LINE, 0))
        self._disk.rename(SNAPSHOT_FILE, snapshot_name(number))
        self._disk.sync_folder()
        for name in replaced_names(self._disk.names(), number):
            self._disk.remove(name)
        self._disk.sync_folder()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._disk.close(file)


def _no_jobs() -> Generator[Job, None, None]:
    yield from ()
