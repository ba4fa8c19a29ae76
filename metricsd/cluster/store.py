"""The store that is a cluster: puts and gets of this front go there, each when the last is back.

Owns what waits to be sent, and how much that may be. Keeps no point. Does not know how anything is
sent.
"""

import logging
import sys
import time
from collections import deque
from functools import partial
from typing import Any, Callable, Deque, Iterator, List, Optional, Tuple

from metricsd.cluster.address import parse
from metricsd.cluster.links import Link, LinkError, ReplicatedLink
from metricsd.cluster.reading import Found, Page, Question, ask, points_after
from metricsd.cluster.sweeping import Sweeper
from metricsd.cluster.writing import Batch, Writer
from metricsd.loop import REPEATS, Reactor, Steps, Task, Worker
from metricsd.store import (
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    Answer,
    OpenError,
    Receipt,
    Store,
    StoreError,
)

# Puts that are answered together at most: some 10 ms of work for the thread that sends them.
BATCH_PUTS = 2000

# Bytes of puts that wait to be sent, from which on one put is taken at a time: who has brought more
# keeps it, and is not read from until then. Puts have some 150 bytes beside their keys.
MAX_WAITING_BYTES = 8 * 1024 * 1024
PUT_BYTES = 150

# Questions that are asked together: a few milliseconds' work for the thread, if all are large.
QUESTIONS = 16

# Seconds from the end of a sweep over the list of keys to the next, by the retention, and between
# two pages of it.
SWEEPS = 10
SHORTEST_SWEEP_PAUSE = 60.0
PAGE_PAUSE = 0.05

# Seconds that the cluster has when the server ends.
CLOSE_SECONDS = 5.0

NOT_STORED = StoreError("not stored")
NOT_READ = StoreError("not read")

logger = logging.getLogger("metricsd")


class ClusterSeries:
    """The points of one key, which are elsewhere: nothing of it is known before it is asked for."""

    newest = MAX_TIMESTAMP  # for all that is known here
    changes = 0
    _archive = None  # no block of it is here

    def __init__(self, reader: "Reader", key: str, first: Optional[Found] = None) -> None:
        self._reader = reader
        self._key = key
        self._first = first

    def __len__(self) -> int:
        return sys.maxsize  # likewise: it is to be read a piece at a time

    def after(self, timestamp: int) -> Any:
        """As of any series, but with an Answer in the place of what it comes to."""
        if self._first is not None and timestamp < MIN_TIMESTAMP:
            return self._first
        return self._reader.ask(points_after(self._key, timestamp))


class Reader:
    """Asks the cluster, many questions at a time."""

    def __init__(self, link: Link, reactor: Reactor, worker: Worker) -> None:
        self._link = link
        self._reactor = reactor
        self._worker = worker
        self._waiting: Deque[Tuple[Question, Answer]] = deque()
        self._busy = False

    def ask(self, question: Question) -> Answer:
        """Ask this, in this turn or a later one."""
        answer = Answer()
        self._waiting.append((question, answer))
        return answer

    def once_a_turn(self) -> None:
        """Second phase of a turn: ask, if nothing else is asked just now."""
        if self._waiting and not self._busy:
            self._busy = True
            Task(self._reactor, self._ask_all(), self._worker)

    def _ask_all(self) -> Steps:
        while self._waiting:
            count = min(len(self._waiting), QUESTIONS)
            asked = [self._waiting.popleft() for _ in range(count)]
            try:
                found = yield partial(ask, self._link, [question for question, _ in asked])
            except Exception as error:
                found = [error] * count
            for (_, answer), result in zip(asked, found):
                if isinstance(result, Exception):
                    log_failure("gets", result)
                    answer.settle(NOT_READ)
                else:
                    answer.give(result)
        self._busy = False


class ClusterStore(Store):
    """A front of a cluster, which many of them may share."""

    room = sys.maxsize  # what is full is the cluster's to say
    late_blocks = 0

    def __init__(
        self,
        url: str,
        reactor: Reactor,
        acknowledge: str = "primary",
        password_file: Optional[str] = None,
        retention: Optional[float] = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin. Raises OpenError for a wrong address, or if the client library is missing.

        The cluster need not be there yet.
        """
        address = parse(url, password_file)
        self.puts = self.refused_puts = self.batches = 0
        self._reactor = reactor
        self._link = ReplicatedLink(address) if acknowledge == "replica" else Link(address)
        self._reading_link = Link(address)
        self._writer = Writer(self._link, retention, wall_clock)
        self._waiting: Deque[Batch] = deque()
        self._waiting_bytes = 0
        self._writing: Optional[Batch] = None
        try:
            self._worker = Worker(reactor)
            self._reading_worker = Worker(reactor)
        except RuntimeError as error:  # the system has no thread left
            raise OpenError(
                f"cannot use the cluster: {error}; raise the limit of threads"
            ) from error
        self._reader = Reader(self._reading_link, reactor, self._reading_worker)
        reactor.once_a_turn.append(self._once_a_turn)
        reactor.once_a_turn.append(self._reader.once_a_turn)
        if retention is not None:
            pause = max(retention / SWEEPS, SHORTEST_SWEEP_PAUSE)
            Task(reactor, self._sweep(pause), self._worker)

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Take one point."""
        return self.put_many([key], [value], [timestamp])[1]

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Take points in their order: all, or one if there are too many waiting."""
        most = BATCH_PUTS
        if self._waiting_bytes > MAX_WAITING_BYTES:
            most = 1
            self.slow_puts += 1  # a session does not do many of these in a turn
        keys, values, timestamps = keys[:most], values[:most], timestamps[:most]
        if not self._waiting or len(self._waiting[-1].keys) + len(keys) > BATCH_PUTS:
            self._waiting.append(Batch())
        size = sum(map(len, keys)) + PUT_BYTES * len(keys)
        self._waiting_bytes += size
        batch = self._waiting[-1]
        batch.size += size
        self.puts += len(keys)
        return len(keys), batch.add(keys, values, timestamps)

    def find(self, key: str) -> Any:
        """The series of a key, whether there are points of it or not."""
        return ClusterSeries(self._reader, key)

    def items(self) -> Iterator[Any]:
        """Yield every key that is there now, with its series; and what has to be waited for."""
        page = Page()
        while not page.whole:
            yield self._reader.ask(page.question())
            for key, first in page.found.items():
                yield key, ClusterSeries(self._reader, key, first)

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Nothing to do: buckets expire by themselves."""
        return iter(())

    def seal_late(self) -> None:
        """There is nothing to seal here."""

    def close(self) -> None:
        """Send what is left and hang up. Waits CLOSE_SECONDS for the cluster."""
        self._reactor.once_a_turn.remove(self._once_a_turn)
        self._reactor.once_a_turn.remove(self._reader.once_a_turn)
        left = ([] if self._writing is None else [self._writing]) + list(self._waiting)
        for batch in self._waiting:
            self._worker.call(partial(self._writer.write, batch), _ignore)
        self._worker.call(self._link.close, _ignore)
        self._reading_worker.call(self._reading_link.close, _ignore)
        ends = time.monotonic() + CLOSE_SECONDS
        for worker in (self._worker, self._reading_worker):
            if not worker.close(max(0.0, ends - time.monotonic())):
                logger.error("the cluster does not answer; the last puts may not be safe")
        for batch in left:
            self._settle(batch)

    def _once_a_turn(self) -> None:
        """Second phase of a turn: send what has been gathered, if nothing is under way."""
        if self._waiting and self._writing is None:
            Task(self._reactor, self._write_all(), self._worker)

    def _write_all(self) -> Steps:
        while self._waiting:
            batch = self._writing = self._waiting.popleft()
            try:
                yield partial(self._writer.write, batch)
            except Exception as error:
                logger.exception("a batch of puts failed")
                batch.problem = str(error)
            self._writing = None
            self._waiting_bytes -= batch.size
            self.batches += 1
            self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        """Tell whoever has put these what has come of them."""
        self.trouble = ""
        if batch.problem:
            self.trouble = log_failure("puts", batch.problem)
        for receipt, count, stored in batch.outcomes():
            if not stored:
                self.refused_puts += count
            receipt.settle(None if stored else NOT_STORED)

    def _sweep(self, pause: float) -> Steps:
        """Again and again, take keys without points out of the list."""
        sweeper = Sweeper(self._link)
        while True:
            yield pause
            order: Optional[float] = -1.0
            while order is not None:
                try:
                    order = yield partial(sweeper.sweep, order)
                except LinkError as error:
                    log_failure("old keys", error)
                    break
                yield PAGE_PAUSE


def log_failure(what: str, error: object) -> str:
    """Say what the cluster has failed to do, not each time; return it, as one line."""
    why = " ".join(str(error).split())
    logger.error("%s fail at the cluster: %s", what, why, extra=REPEATS)
    return f"{what} fail at the cluster: {why}"


def _ignore(_result: object, _error: object) -> None:
    pass
