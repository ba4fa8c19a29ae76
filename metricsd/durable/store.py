"""The store that is a file and memory: puts go into the file, and then gets see them.

Owns what has been put and is not safe yet, and when something is written. Does not know how.
"""

import logging
import time
from collections import deque
from functools import partial
from itertools import chain
from typing import Callable, Deque, Iterable, Iterator, List, Optional, Set, Tuple

from metricsd.durable.checkpoint import SLICE_SECONDS, checkpoint
from metricsd.durable.gathering import Gathering, nothing
from metricsd.durable.opening import open_file
from metricsd.durable.tables import Chunk, FileError
from metricsd.loop import REPEATS, Reactor, Steps, Task, Worker
from metricsd.store import Mirror, Receipt, StoreError

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

# Puts that have been written and are stored before the loop looks at the clock. Storing takes
# SLICE_SECONDS at a time; with the slice of a checkpoint in the same turn it is a millisecond.
SLICE_PUTS = 500

# Seconds from a checkpoint that has failed to the next one.
RETRY_SECONDS = 0.5

# Seconds from a commit to the sync that it waits for with everysec, of the second that it may take.
SYNC_SECONDS = 0.5

# Seconds that the disk has when the server ends, and those of them that go into a last checkpoint.
CLOSE_SECONDS = 5.0
LAST_SAVE_SECONDS = 1.0

logger = logging.getLogger("metricsd")


class DurableStore(Mirror):
    """Points in memory that are in an SQLite file as well.

    What is put is gathered while a commit is under way, then it is the next commit. ``room`` has
    been taken for all of it.
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
        super().__init__()
        self.path = path
        self.puts = self.refused_puts = self.commits = self.checkpoints = 0
        self.commit_failures = 0  # also of syncs and checkpoints
        self.commit_seconds = 0.0  # that commits have taken, in all
        self._reactor = reactor
        self._fsync = fsync
        self._database, loaded = open_file(path, fsync, salvage)
        self._saved = loaded.saved
        self.become(loaded.memory, max_points)
        self.on_lost = self._lose
        self.log_bytes = self._stored_bytes = loaded.log_bytes  # and those that memory has
        self._stored = self._saved.last_logged
        self._chunks: Deque[Chunk] = deque()  # that are not in memory, nor maybe in the file
        self._written = 0  # of these, from the first on, that are in the file
        self._writing = False  # the one behind them is in the thread
        self._chunk: Optional[Chunk] = None  # the last one, for more puts
        self._began = 0.0  # when the last commit began
        self._pending = 0  # puts in all these
        self._gathering = Gathering(reactor)
        self._new: Optional[Set[Tuple[str, int]]] = None  # points in these, if it matters
        self._refusal = StoreError("not stored")
        self._checkpoint: Optional[Task] = None  # while one is under way
        self._sync_due = False  # for everysec: what has been committed is not synced yet
        try:
            self._worker = make_worker(reactor)
        except RuntimeError as error:  # the system has no thread left
            self._database.close()
            raise FileError(f"cannot use {path}: {error}; raise the limit of threads") from error
        reactor.once_a_turn.append(self._once_a_turn)

    @property
    def file_bytes(self) -> int:
        """The size of the file and its WAL, when something was last written."""
        return self._database.bytes

    @property
    def points(self) -> int:
        """How many there are."""
        return super().points - self._pending

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Take one point. Raises StoreError if there is no room for one more."""
        if self.room <= 0:
            self._find_room(key, timestamp)
        return self.put_many([key], [value], [timestamp])[1]

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Take points in their order; there must be room for all. One, if too many are waiting."""
        if self._pending >= PENDING_PUTS:
            keys, values, timestamps = keys[:1], values[:1], timestamps[:1]
            self.slow_puts += 1  # a session does not do many of these in a turn
        if self._new is not None:
            self._new |= self._not_stored(zip(keys, timestamps))
        chunk = self._chunk
        if chunk is None or len(chunk.keys) >= CHUNK_PUTS:
            chunk = self._gather(Chunk())
            self._chunk = chunk
        chunk.keys += keys
        chunk.values += values
        chunk.timestamps += timestamps
        self.puts += len(keys)
        self._take_room(len(keys))
        return len(keys), chunk.receipt

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp, and every series that is then empty."""
        before = self.dropped
        yield from super().drop_before(oldest)
        if self.dropped > before:
            self._gather(Chunk(oldest))

    def drop(self, keys: List[str]) -> Receipt:
        """Drop these keys with all their points, after what was put before."""
        return self._gather(Chunk(dropped=keys)).receipt

    def close(self) -> None:
        """Write what is left and let go of the file. Waits CLOSE_SECONDS for the disk."""
        self._reactor.once_a_turn.remove(self._once_a_turn)
        if self._checkpoint is not None:
            self._checkpoint.cancel()
        self._worker.call(self._finish, lambda _, error: None)
        if not self._worker.close(CLOSE_SECONDS):
            logger.error("%s: the disk does not answer; the last puts may not be safe", self.path)
            return
        for chunk in self._chunks:
            chunk.receipt.settle(None if chunk.number else self._refusal)

    def _gather(self, chunk: Chunk) -> Chunk:
        """Let a chunk wait for its commit; no more is added to the one before."""
        self._chunks.append(chunk)
        self._chunk = None
        return chunk

    def _lose(self, key: str) -> None:
        """A series has lost points: a put that waits may not overwrite any more, but be new."""
        self._saved.lose(key)
        self._new = None

    def _take_room(self, puts: int) -> None:
        """More puts are pending; or fewer, if negative."""
        self._pending += puts
        self.room -= puts

    def _once_a_turn(self) -> None:
        """Second phase of a turn: store what the last commit has written, and begin another."""
        if self._written:
            self._store_written()  # first: who is told goes on, and may put
        waits = len(self._chunks) > self._written and not self._writing
        if waits and self.log_bytes < WAIT_FROM * LOG_BYTES:
            self._commit_soon()
        if self.log_bytes >= SAVE_FROM * LOG_BYTES and self._checkpoint is None:
            self._checkpoint = Task(self._reactor, self._save(), self._worker)

    def _commit_soon(self) -> None:
        """Begin a commit, unless somebody is about to put who should be in it."""
        chunk = self._chunks[self._written]
        if chunk is self._chunk:
            if self._gathering.is_early(self.puts, self._pending):
                return
            self._chunk = None
        self._writing = True
        self._began = time.perf_counter()
        self._worker.call(partial(self._database.write, chunk), self._on_commit)

    def _on_commit(self, _: None, error: Optional[Exception]) -> None:
        """What was gathered has been written by the thread, or has not."""
        self._writing = False
        if error is not None:
            self._fail(error)
            return
        self.log_bytes += self._chunks[self._written].size
        self._written += 1
        self._gathering.committed(self._pending)
        self.commits += 1
        self.commit_seconds += time.perf_counter() - self._began
        if self.trouble:
            self.trouble = ""
            logger.info("%s: puts are stored again", self.path)
        if self._fsync == "everysec" and not self._sync_due:
            self._sync_soon()

    def _store_written(self) -> None:
        """Let gets see what is safe, and say so; a little at a time."""
        until = time.perf_counter() + SLICE_SECONDS
        while self._written:
            if time.perf_counter() > until:
                self._reactor.call_later(0.0, nothing)  # the next turn is to follow at once
                return
            chunk = self._chunks[0]
            self._store_some(chunk)
            if not chunk.keys:
                self._chunks.popleft()
                self._written -= 1
                chunk.receipt.settle()

    def _store_some(self, chunk: Chunk) -> None:
        """Store the first puts of a chunk, as many as take a slice at most; maybe all."""
        keys, timestamps = chunk.keys[:SLICE_PUTS], chunk.timestamps[:SLICE_PUTS]
        if chunk.drops:
            super().drop(keys)
            taken = len(keys)
        else:
            taken, _ = super().put_many(keys, chunk.values, timestamps)
            self._take_room(-taken)
            if self._new is not None:
                self._new.difference_update(zip(keys[:taken], timestamps))
        del chunk.keys[:taken], chunk.values[:taken], chunk.timestamps[:taken]
        if not chunk.keys:
            self._saved.changed.update(chunk.names)
            self._stored = chunk.number
            self._stored_bytes += chunk.size

    def _fail(self, error: Exception) -> None:
        """The disk has failed: what waits for it is refused. With the next put it is tried anew."""
        self.trouble = "the disk is full or fails"
        self.commit_failures += 1
        logger.error("%s: puts are refused: %s", self.path, error, extra=REPEATS)
        self._chunk = self._new = None
        waiting = len(self._chunks) - self._written - self._writing
        refused = [self._chunks.pop() for _ in range(waiting)]
        for chunk in reversed(refused):
            self._take_room(-len(chunk.values))
            self.refused_puts += len(chunk.values)
            chunk.receipt.settle(self._refusal)
        self._gathering.committed(0)  # nobody is expected

    def _sync_soon(self) -> None:
        """For everysec: sync what has been committed, also by then."""
        self._sync_due = True
        sync = partial(self._worker.call, self._database.sync, self._on_sync)
        self._reactor.call_later(SYNC_SECONDS, sync)

    def _on_sync(self, _: None, error: Optional[Exception]) -> None:
        """All that has been committed until now is on the disk, or it is tried again."""
        self._sync_due = False
        if error is not None:
            logger.error("%s: the last puts may not be safe", self.path, extra=REPEATS)
            self._fail(error)
            self._sync_soon()

    def _save(self) -> Steps:
        """Make a checkpoint."""
        size = self._stored_bytes
        try:
            yield from checkpoint(self._saved, self, self._database.save, self._stored)
            self.log_bytes -= size
            self._stored_bytes -= size
            self.checkpoints += 1
        except Exception as error:
            self._fail(error)
            yield RETRY_SECONDS
        finally:
            self._checkpoint = None

    def _finish(self) -> None:
        """What is left to do when the loop has ended; in the thread, as the disk may hang."""
        database = self._database
        try:
            for chunk in self._chunks:
                if not chunk.number:
                    database.write(chunk)
                while chunk.number > self._stored:
                    self._store_some(chunk)
            database.sync()
            until = time.perf_counter() + LAST_SAVE_SECONDS
            for work in checkpoint(self._saved, self, database.save, self._stored):
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
            pending = (zip(chunk.keys, chunk.timestamps) for chunk in self._chunks)
            self._new = self._not_stored(chain.from_iterable(pending))
        more = self._not_stored([(key, timestamp)]) - self._new
        if more and self.room + self._pending <= len(self._new):
            raise StoreError("store is full")

    def _not_stored(self, points: Iterable[Tuple[str, int]]) -> Set[Tuple[str, int]]:
        """Which of these points are not in memory."""
        return {point for point in points if not self.has(*point)}
