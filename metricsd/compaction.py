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
from typing import Callable, Iterator, List, Optional

from metricsd.commands import PUT
from metricsd.disk import Disk
from metricsd.filenames import UNFINISHED, replaced_names, snapshot_name
from metricsd.journal import Journal
from metricsd.reactor import Reactor
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
SNAPSHOT_RETRY_SECONDS = 10.0

SNAPSHOT_FILE = "snapshot" + UNFINISHED

Job = Callable[[], None]


class Compaction:
    """Counts what is written to a journal, and replaces it when that is due."""

    def __init__(
        self, store: Store, journal: Journal, disk: Disk, reactor: Reactor, puts: int, size: int
    ) -> None:
        """``puts`` and ``size``, in bytes, are what the journal holds so far."""
        self._store = store
        self._journal = journal
        self._disk = disk
        self._reactor = reactor
        self._puts = puts
        self._size = size
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._jobs: Iterator[Job] = iter(())  # the rest of the work on a snapshot
        self._running: Optional[Future[None]] = None
        self._file: Optional[int] = None
        self._busy = self._again = False

    def written(self, puts: int, size: int) -> None:
        """So many puts have been added, with so many bytes."""
        self._puts += puts
        self._size += size
        large = self._size >= WORTHWHILE_BYTES
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
        """Leave what is not finished; it does not count."""
        self._thread.shutdown()
        self._give_up()

    def _go_on(self) -> None:
        """Let the thread do one job after the other; a job is made here while it does nothing."""
        try:
            if self._running is None or self._running.done():
                if self._running is not None:
                    self._running.result()
                self._running = None
                self._running = self._thread.submit(next(self._jobs))
            self._reactor.call_later(LOOK_SECONDS, self._go_on)
        except StopIteration:
            self._finish(0.0)
        except OSError as error:
            logger.warning("journal: no snapshot could be written: %s; trying again soon", error)
            self._give_up()
            self._again = True
            self._finish(SNAPSHOT_RETRY_SECONDS)

    def _finish(self, pause: float) -> None:
        self._busy = False
        if self._again:
            self._busy = True
            self._reactor.call_later(pause, self._begin_again)

    def _begin_again(self) -> None:
        self._busy = False
        self.begin()

    def _replace(self) -> Iterator[Job]:
        """All that has to be done, in small jobs. Raises OSError."""
        self._disk.remove_if_there(SNAPSHOT_FILE)
        self._file = self._disk.create(SNAPSHOT_FILE)
        number = self._journal.turn_over()
        before, self._puts, self._size = (self._puts, self._size), 0, 0
        puts = size = 0
        try:
            for lines in self._slices():
                record = write_record(lines, 0)
                puts += lines.count(b"\n")
                size += len(record)
                yield partial(self._write, record)
            yield partial(self._install, number)
            before = puts, size
        finally:
            self._puts += before[0]
            self._size += before[1]

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
        yield b"".join(pieces)

    def _write(self, record: bytes) -> None:
        """Write and sync, in the thread: small amounts, so that no other sync has to wait long."""
        assert self._file is not None
        self._disk.write(self._file, record)
        self._disk.sync(self._file)

    def _install(self, number: int) -> None:
        """Let the snapshot count, in the thread; only then remove what it stands for."""
        self._write(write_record(END_LINE, 0))
        self._close()
        self._disk.rename(SNAPSHOT_FILE, snapshot_name(number))
        self._disk.sync_folder()
        for name in replaced_names(self._disk.names(), number):
            self._disk.remove(name)
        self._disk.sync_folder()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._disk.close(file)

    def _give_up(self) -> None:
        self._jobs = iter(())
        self._running = None
        try:
            self._close()
        except OSError:
            pass  # it does not count anyway
        self._disk.remove_if_there(SNAPSHOT_FILE)
