"""The store that is a file and memory: puts go into the file, and then gets see them.

Owns what has been put and is not safe yet, and when something is written. Does not know how.
"""

import logging
import time
from collections import deque
from functools import partial
from itertools import chain
from typing import Callable, Deque, Iterator, List, Optional, Set, Tuple

from metricsd.durable.checkpoint import checkpoint
from metricsd.durable.gathering import Gathering, nothing
from metricsd.durable.opening import open_file
from metricsd.durable.tables import Chunk, FileError
from metricsd.loop import REPEATS, Reactor, Steps, Task, Worker
from metricsd.store import Receipt, Series, Store, StoreError

# Bytes of the log at most. A start runs it again, some 400,000 puts, in a few tenths of a second.
LOG_BYTES = 8 * 1024 * 1024

# The part of it that is filled when a checkpoint begins, and that from which commits wait for it.
SAVE_FROM = 0.75
WAIT_FROM = 0.875

# Puts in a row of the log, and so in a commit, at most: some 100 KiB, as one of these takes as long
# as ten turns, whatever is in it.
CHUNK_PUTS = 5000

# Puts that wait, or are being written, from which on one is taken at a time: who has brought more
# keeps it, and is not read from until then. They take half a second to be written, and some 150
# bytes each. To hold clients up takes twice as long a put, so it begins beyond what is usual: two
# thousand of them with a hundred puts under way.
PENDING_PUTS = 200000

# Seconds that the loop spends at a time on storing what has been written, and the puts after which
# it looks at the clock. With the slice of a checkpoint in the same turn it is a millisecond.
SLICE_SECONDS = 0.0005
SLICE_PUTS = 500

# Seconds from a failure of the disk until it is tried again, with the next put; until then puts are
# refused at once.
RETRY_SECONDS = 0.5

# Seconds from a commit to the sync that it waits for with everysec, of the second that it may take.
SYNC_SECONDS = 0.5

# Seconds that the disk has when the server ends, and those of them that go into a last checkpoint.
CLOSE_SECONDS = 5.0
LAST_SAVE_SECONDS = 1.0

logger = logging.getLogger("metricsd")


class DurableStore(Store):
    """Points in an SQLite file, all of which are in memory as well.

    What is put is gathered while a commit is under way, then it is the next commit.
    """

    def __init__(
        self,
        path: str,
        reactor: Reactor,
        fsync: str = "always",
        salvage: bool = False,
        max_points: Optional[int] = None,
        make_worker: Callable[[Reactor], Worker] = Worker,
    ) -> None:
        """Load a file, or make a new one. Raises FileError."""
        self.path = path
        self.puts = self.refused_puts = self.commits = self.checkpoints = 0
        self.commit_failures = 0  # also of syncs and checkpoints
        self.commit_seconds = 0.0  # that commits have taken, in all
        self._reactor = reactor
        self._fsync = fsync
        self._database, loaded = open_file(path, fsync, salvage)
        self._memory, self._saved = loaded.memory, loaded.saved
        self._memory.limit(max_points)
        self._memory.on_late = lambda: self.on_late()  # whatever that is by then
        self.log_bytes = self._stored_bytes = loaded.log_bytes  # and those that memory has
        self._stored = self._saved.last_logged
        self._written: Deque[Chunk] = deque()  # in the file, and not in memory yet
        self._writing: Deque[Chunk] = deque()  # in the thread; at most one
        self._waiting: Deque[Chunk] = deque()  # for their commit
        self._chunk: Optional[Chunk] = None  # the last of these, for more puts
        self._began = 0.0  # when the last commit began
        self._pending = 0  # puts in all these
        self._gathering = Gathering(reactor)
        self._new: Optional[Set[Tuple[str, int]]] = None  # points in these, if it matters
        self._refusal = StoreError("not stored")
        self._refused = Receipt()
        self._refused.settle(self._refusal)
        self._refused_until = 0.0
        self._failed = False
        self._saving = False  # a checkpoint is under way
        self._checkpoint: Optional[Task] = None
        self._sync: Optional[Task] = None
        try:
            self._worker = make_worker(reactor)
        except RuntimeError as error:  # the system has no thread left
            self._database.close()
            raise FileError(f"cannot use {path}: {error}; raise the limit of threads") from error
        reactor.once_a_turn.append(self._once_a_turn)

    @property
    def room(self) -> int:
        """The points for which there is room in any case; more may fit, if some overwrite."""
        return self._memory.room - self._pending

    @property
    def trouble(self) -> str:  # type: ignore[override]
        """Why puts are refused, since the last one that was."""
        return "the disk is full or fails" if self._failed else ""

    @property
    def _pauses(self) -> bool:
        """Whether the disk has failed just now, so that what is put is refused at once."""
        return bool(self._refused_until) and self._reactor.now < self._refused_until

    @property
    def file_bytes(self) -> int:
        """The size of the file and its WAL, when something was last written."""
        return self._database.bytes

    @property
    def points(self) -> int:
        """How many there are."""
        return self._memory.points

    @property
    def series(self) -> int:
        """How many keys have points."""
        return self._memory.series

    @property
    def dropped(self) -> int:
        """Points dropped for their age, so far."""
        return self._memory.dropped

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Take one point. Raises StoreError if there is no room for one more."""
        if self.room <= 0 and not self._pauses:  # what is refused takes none
            self._find_room(key, timestamp)
        return self.put_many([key], [value], [timestamp])[1]

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Take points in their order; there must be room for all. One, if too many are waiting."""
        if self._pauses:
            self.refused_puts += len(keys)
            return len(keys), self._refused
        if self._pending >= PENDING_PUTS:
            keys, values, timestamps = keys[:1], values[:1], timestamps[:1]
            self.slow_puts += 1  # a session does not do many of these in a turn
        if self._new is not None:
            self._new |= self._not_stored(keys, timestamps)
        chunk = self._chunk
        if chunk is None or len(chunk.keys) >= CHUNK_PUTS:
            chunk = self._gather(Chunk())
            self._chunk = chunk
        chunk.keys += keys
        chunk.values += values
        chunk.timestamps += timestamps
        self.puts += len(keys)
        self._pending += len(keys)
        return len(keys), chunk.receipt

    @property
    def late_blocks(self) -> int:
        """The blocks in memory that have late points beside them."""
        return self._memory.late_blocks

    def seal_late(self) -> None:
        """Seal one of them; the next checkpoint of its series will write it."""
        self._memory.seal_late()

    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if there is none."""
        return self._memory.find(key)

    def items(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series, in the order of their first put."""
        return self._memory.items()

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp, and every series that is then empty."""
        lost: List[str] = []

        def lose(key: str, series: Series) -> None:
            self._saved.lose(key, series)
            lost[:] = [key]

        yield from self._memory.drop_before(oldest, lose)
        if lost:
            self._new = None
            self._gather(Chunk(oldest))

    def drop(self, keys: List[str]) -> Receipt:
        """Drop these keys with all their points, after what was put before."""
        if self._pauses:
            return self._refused
        self._new = None
        return self._gather(Chunk(dropped=keys)).receipt

    def close(self) -> None:
        """Write what is left and let go of the file. Waits CLOSE_SECONDS for the disk."""
        self._reactor.once_a_turn.remove(self._once_a_turn)
        for task in (self._checkpoint, self._sync):
            if task is not None:
                task.cancel()
        self._worker.call(self._finish, lambda _, error: None)
        if not self._worker.close(CLOSE_SECONDS):
            logger.error("%s: the disk does not answer; the last puts may not be safe", self.path)
            return
        for chunk in self._chunks():
            chunk.receipt.settle(None if chunk.number else self._refusal)

    def _chunks(self) -> Iterator[Chunk]:
        """All that is not in memory yet, in its order."""
        return chain(self._written, self._writing, self._waiting)

    def _gather(self, chunk: Chunk) -> Chunk:
        """Let a chunk wait for its commit; no more is added to the one before."""
        self._waiting.append(chunk)
        self._chunk = None
        return chunk

    def _once_a_turn(self) -> None:
        """Second phase of a turn: store what the last commit has written, and begin another."""
        if self._written:
            self._store_written()  # first: who is told goes on, and may put
        if self._waiting and not self._writing and self.log_bytes < WAIT_FROM * LOG_BYTES:
            self._commit_soon()
        due = self.log_bytes >= SAVE_FROM * LOG_BYTES and self._reactor.now >= self._refused_until
        if due and not self._saving:
            self._saving = True
            self._checkpoint = Task(self._reactor, self._save(), self._worker)

    def _commit_soon(self) -> None:
        """Begin a commit, unless somebody is about to put who should be in it."""
        chunk = self._waiting[0]
        if chunk is self._chunk and self._gathering.is_early(self.puts, self._pending):
            return
        self._writing.append(self._waiting.popleft())
        if not self._waiting:
            self._chunk = None
        self._began = time.perf_counter()
        self._worker.call(partial(self._database.write, chunk), self._on_commit)

    def _on_commit(self, _: None, error: Optional[Exception]) -> None:
        """What was gathered has been written by the thread, or has not."""
        chunk = self._writing.popleft()
        if error is not None:
            self._waiting.appendleft(chunk)
            self._fail(error)
            return
        self._written.append(chunk)
        self._gathering.committed(self._pending)
        self.log_bytes += chunk.size
        self.commits += 1
        self.commit_seconds += time.perf_counter() - self._began
        if self._failed:
            self._failed = False
            logger.info("%s: puts are stored again", self.path)
        if self._fsync == "everysec" and self._sync is None:
            self._sync = Task(self._reactor, self._sync_soon(), self._worker)

    def _store_written(self) -> None:
        """Let gets see what is safe, and say so; a little at a time."""
        until = time.perf_counter() + SLICE_SECONDS
        while self._written:
            if time.perf_counter() > until:
                self._reactor.call_later(0.0, nothing)  # the next turn is to follow at once
                return
            chunk = self._written[0]
            self._store_some(chunk)
            if not chunk.keys:
                self._written.popleft()
                chunk.receipt.settle()

    def _store_some(self, chunk: Chunk) -> None:
        """Store the first puts of a chunk, as many as take a slice at most; maybe all."""
        keys, timestamps = chunk.keys[:SLICE_PUTS], chunk.timestamps[:SLICE_PUTS]
        if chunk.drops:
            self._memory.drop(keys, self._saved.lose)
            self._new = None  # a put that waits may not overwrite any more, but be a new point
            keys, taken = [], len(keys)
        else:
            taken, _ = self._memory.put_many(keys, chunk.values, timestamps)
        if self._new is not None:
            self._new.difference_update(zip(keys[:taken], timestamps))
        del chunk.keys[:taken], chunk.values[:taken], chunk.timestamps[:taken]
        self._pending -= 0 if chunk.drops else taken
        if not chunk.keys:
            self._saved.changed.update(chunk.names)
            self._stored = chunk.number
            self._stored_bytes += chunk.size

    def _fail(self, error: Exception) -> None:
        """The disk has failed: it has a pause, and what waits for it is refused."""
        self._failed = True
        self.commit_failures += 1
        self._refused_until = self._reactor.now + RETRY_SECONDS
        logger.error("%s: puts are refused: %s", self.path, error, extra=REPEATS)
        self._chunk = self._new = None
        refused, self._waiting = self._waiting, deque()
        for chunk in refused:
            self._pending -= len(chunk.values)
            self.refused_puts += len(chunk.values)
            chunk.receipt.settle(self._refusal)
        self._gathering.committed(0)  # nobody is expected

    def _sync_soon(self) -> Steps:
        """For everysec: sync what has been committed, and try until that is done."""
        while True:
            yield SYNC_SECONDS
            self._sync = None  # what is committed from now on needs another one
            try:
                yield self._database.sync
                return
            except Exception as error:
                logger.error("%s: the last puts may not be safe", self.path, extra=REPEATS)
                self._fail(error)

    def _save(self) -> Steps:
        """Make a checkpoint."""
        size = self._stored_bytes
        try:
            yield from checkpoint(self._saved, self._memory, self._database.save, self._stored)
            self.log_bytes -= size
            self._stored_bytes -= size
            self.checkpoints += 1
        except Exception as error:
            self._fail(error)
        finally:
            self._saving = False

    def _finish(self) -> None:
        """What is left to do when the loop has ended; in the thread, as the disk may hang."""
        database = self._database
        try:
            for chunk in self._chunks():
                if not chunk.number:
                    database.write(chunk)
                while chunk.number > self._stored:
                    self._store_some(chunk)
            database.sync()
            until = time.perf_counter() + LAST_SAVE_SECONDS
            for work in checkpoint(self._saved, self._memory, database.save, self._stored):
                if callable(work):
                    work()
                if time.perf_counter() > until:
                    break
        except Exception as error:
            logger.error("%s: the last puts may not be safe: %s", self.path, error)
        finally:
            database.close()

    def _find_room(self, key: str, timestamp: int) -> None:
        """Count exactly. Raises StoreError if this would be one point too many."""
        if self._new is None:
            self._new = set()
            for chunk in self._chunks():
                self._new |= self._not_stored(chunk.keys, chunk.timestamps)
        more = self._not_stored([key], [timestamp]) - self._new
        if more and self._memory.room <= len(self._new):
            raise StoreError("store is full")

    def _not_stored(self, keys: List[str], timestamps: List[int]) -> Set[Tuple[str, int]]:
        """Which of these points are not in memory."""
        has = self._memory.has
        return {point for point in zip(keys, timestamps) if not has(*point)}
