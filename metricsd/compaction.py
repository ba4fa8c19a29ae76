"""Compaction: a journal that holds much more than the points there are is replaced by a snapshot.

Owns when that is due, and the writing of the snapshot, a little at a time. Does not hold up the
loop: it makes lines for a millisecond between turns, which are written and synced beside it.

The journal goes on in a new segment meanwhile. What is put there may be in the snapshot or not; it
is run again after it, and the last put wins, so both come to the same.
"""

import logging
import time
from concurrent.futures import Future
from functools import partial
from typing import Generator, Iterator, List, NamedTuple, Optional

from metricsd.background import Background, Job
from metricsd.commands import PUT
from metricsd.disk import Disk
from metricsd.filenames import DAMAGED, UNFINISHED, replaced_by, snapshot_name
from metricsd.journal import Journal
from metricsd.reactor import LOG_SECONDS, Reactor
from metricsd.records import write_record
from metricsd.recovery import END_LINE, Recovered
from metricsd.rows import rows
from metricsd.store import Store

logger = logging.getLogger("metricsd")

# A journal is worth replacing when it is so large, in bytes, and holds so many times more puts than
# there are points.
WORTHWHILE_BYTES = 8 * 1024 * 1024
WORTHWHILE_FACTOR = 2

# Lines are made so long, in seconds, then everybody else has a turn.
LINES_SECONDS = 0.001

# Look so often, in seconds, whether they are written.
LOOK_SECONDS = 0.002

# When a snapshot can't be written, try again after so many seconds, then after twice as many.
FIRST_RETRY_SECONDS = 1.0
LAST_RETRY_SECONDS = 60.0

SNAPSHOT_FILE = "snapshot" + UNFINISHED


class Held(NamedTuple):
    """What the segments up to a number hold, in puts and bytes."""

    number: int
    puts: int
    size: int


class Compaction:
    """Counts what is written to a journal, and replaces it when that is due."""

    def __init__(
        self,
        store: Store,
        journal: Journal,
        disk: Disk,
        reactor: Reactor,
        background: Background,
        found: Recovered,
    ) -> None:
        """``found`` is what the journal holds."""
        self._store = store
        self._journal = journal
        self._disk = disk
        self._reactor = reactor
        self._background = background
        self._puts, self._bytes = found.puts, found.size
        self._keep_replaced = found.damaged
        self._jobs = _no_jobs()  # the rest of the work on a snapshot
        self._running: Optional[Future[None]] = None
        self._file = 0
        self._busy = False
        self._again = False  # another one is needed: what this one stands for is not all there is
        self._held: Optional[Held] = None  # what the next one stands for
        self._pause = FIRST_RETRY_SECONDS
        self._next_log = reactor.now

    def written(self, puts: int, size: int) -> None:
        """So many puts have been added, with so many bytes."""
        self._puts += puts
        self._bytes += size
        large = self._bytes >= WORTHWHILE_BYTES
        if large and not self._busy and self._puts >= WORTHWHILE_FACTOR * self._store.points:
            self.begin()

    def begin(self) -> None:
        """Replace all that there is now, even if a replacement is under way."""
        self._held = None
        self._again = self._busy
        if not self._busy:
            self._busy = True
            self._start()

    def _start(self) -> None:
        self._again = False
        self._jobs = self._replace()
        self._go_on()

    def close(self) -> None:
        """Leave what is not finished, and does not count. Nothing is done in the background now."""
        self._jobs.close()
        self._jobs = _no_jobs()

    def _go_on(self) -> None:
        """Let one job after the other be done; each is made here when the last is done."""
        if self._running is None or self._running.done():
            try:
                self._running = self._background.submit(self._next_job())
            except StopIteration:
                self._finish(0.0)
                return
            except Exception as error:
                self._complain(error)
                self._again = True
                self._finish(self._pause)
                self._pause = min(2 * self._pause, LAST_RETRY_SECONDS)
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
            self._reactor.call_later(pause, self._start)

    def _replace(self) -> Generator[Job, None, None]:
        """All that has to be done, in small jobs for the background. Raises OSError."""
        puts = size = 0
        self._disk.remove_if_there(SNAPSHOT_FILE)
        self._file = self._disk.create(SNAPSHOT_FILE)
        try:
            held = self._held  # a snapshot that could not be written stood for that much
            if held is None:
                held = self._held = Held(self._journal.turn_over(), self._puts, self._bytes)
            for lines in self._slices():
                record = write_record(lines, 0)
                puts += lines.count(b"\n")
                size += len(record)
                yield partial(self._write, record)
            yield from self._sync_journal()
            # If a sync has failed meanwhile, segments after that number have been given up. What
            # is in them has to be in the snapshot too, so another one is written.
            if not self._again:
                yield partial(self._install, held.number)
                self._held = None
                if not self._again:
                    self._journal.trust()
                self._pause = FIRST_RETRY_SECONDS
                # What has been written since comes on top of it.
                self._puts += puts - held.puts
                self._bytes += size - held.size
        finally:
            self._disk.close(self._file)
            self._disk.remove_if_there(SNAPSHOT_FILE)  # it has another name by now, or is no use

    def _sync_journal(self) -> Generator[Job, None, None]:
        """Make safe what the snapshot may hold already: nothing must be there without the rest."""
        unsynced = self._journal.take_unsynced()
        if unsynced is not None:
            try:
                yield unsynced.sync
            except OSError as error:
                self._journal.distrust(error)
                self._held = None
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
        """Write and sync: a little at a time, so that no other sync has to wait long."""
        self._disk.write(self._file, record)
        self._disk.sync(self._file)

    def _install(self, number: int) -> None:
        """Let the snapshot count; only then remove what it stands for."""
        self._write(write_record(END_LINE, 0))
        self._disk.rename(SNAPSHOT_FILE, snapshot_name(number))
        self._disk.sync_folder()
        for name in replaced_by(self._disk.names(), number):
            if self._keep_replaced:
                self._disk.rename(name, name + DAMAGED)
            else:
                self._disk.remove(name)
        self._disk.sync_folder()
        self._keep_replaced = False


def _no_jobs() -> Generator[Job, None, None]:
    yield from ()
