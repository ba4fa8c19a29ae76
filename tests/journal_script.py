"""Random puts through a journal on a fake disk, and what must be there afterwards."""

import contextlib
import random
from concurrent.futures import Future
from typing import Any, Callable, Dict, Iterator, List, Tuple
from unittest import mock

from metricsd import commit as commit_module
from metricsd import compaction, journal
from metricsd.background import do
from metricsd.commit import Commit
from metricsd.store import Store
from tests.fake_disk import FakeDisk
from tests.model import points

Points = Dict[str, Dict[int, float]]

TURNS = 20
KEYS = ["a", "b", "%s", "ключ"]


class Clockwork:
    """Stands in for the reactor: timers run when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: List[Tuple[float, Callable[[], None]]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers.append((self.now + delay, callback))

    def run(self, seconds: float) -> None:
        self.now += seconds
        due = [callback for at, callback in self._timers if at <= self.now]
        self._timers = [timer for timer in self._timers if timer[0] > self.now]
        for callback in due:
            callback()


class Whenever:
    """Stands in for the background: a job is done when the test says so."""

    def __init__(self) -> None:
        self._jobs: List[Tuple[Callable[[], None], Future[None]]] = []

    def submit(self, job: Callable[[], None]) -> "Future[None]":
        outcome: Future[None] = Future()
        self._jobs.append((job, outcome))
        return outcome

    def work(self) -> None:
        """Do the next job, if there is one."""
        if self._jobs:
            do(*self._jobs.pop(0))

    def close(self, seconds: float) -> bool:
        while self._jobs:
            self.work()
        return True


@contextlib.contextmanager
def small() -> Iterator[None]:
    """Snapshots after a few turns, of several records each, and no thread of its own."""
    with mock.patch.object(compaction, "WORTHWHILE_BYTES", 400), mock.patch.object(
        compaction, "LINES_SECONDS", 0.0
    ), mock.patch.object(commit_module, "Background", Whenever), mock.patch.object(
        journal, "RETRY_SECONDS", 0.0
    ):
        yield


class Run:
    """Turns of random puts on a disk; ``history`` is what is stored after each turn."""

    def __init__(self, disk: FakeDisk, policy: str, seed: int = 0) -> None:
        self.disk = disk
        self.clockwork = Clockwork()
        self.store = Store()
        reactor: Any = self.clockwork
        self.commit = Commit(self.store, reactor, "DIR", policy, "stop", disk.itself)
        self.background: Any = self.commit._background
        self.dice = random.Random(seed)
        self.history: List[Points] = [points(self.store)]
        self.refused: List[bool] = []

    def turn(self) -> None:
        stored = {key: dict(of_key) for key, of_key in self.history[-1].items()}
        for _ in range(self.dice.randrange(1, 5)):
            key, timestamp = self.dice.choice(KEYS), self.dice.randrange(4)
            value = self.dice.choice([self.dice.random(), float("inf"), -0.0, 1e100])
            self.commit.ledger.put(key, value, timestamp)
            stored.setdefault(key, {})[timestamp] = value
        assert points(self.store) == self.history[-1], "seen before it was committed"
        self.commit.run()
        self.refused.append(self.commit.ledger.refused)
        self.history.append(self.history[-1] if self.refused[-1] else stored)
        assert points(self.store) == in_order(self.history[-1])
        self.clockwork.run(self.dice.choice([0.0, 0.01, 1.0, 11.0]))
        for _ in range(self.dice.choice([0, 1, 2, 5, 20])):
            self.background.work()
            self.clockwork.run(self.dice.choice([0.0, 0.01, 1.0]))

    def settle(self) -> None:
        """Let all that is done beside the loop come to its end."""
        for _ in range(200):
            self.clockwork.run(1.0)
            self.background.work()

    def turns(self, count: int = TURNS) -> None:
        for _ in range(count):
            self.turn()


def in_order(stored: Points) -> Points:
    return {key: dict(sorted(of_key.items())) for key, of_key in stored.items()}


def recovered(disk: FakeDisk) -> Points:
    reactor: Any = Clockwork()
    store = Store()
    Commit(store, reactor, "DIR", "always", "stop", disk.itself).close()
    found = points(store)
    again = Store()
    Commit(again, reactor, "DIR", "always", "stop", disk.killed().itself).close()
    assert points(again) == found, "recovery has changed what is there"
    return found


def same(found: Points, expected: Points) -> bool:
    """Also the order of the keys, which is that of their first put."""
    return found == in_order(expected) and list(found) == list(expected)
