"""The journal against a disk that fails, and one that forgets: nothing acknowledged is lost."""

import random
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from unittest import mock

import pytest

from metricsd import commit as commit_module
from metricsd import compaction, journal
from metricsd.commit import Commit
from metricsd.store import Store
from tests.fake_disk import ERRORS, FakeDisk, during, once
from tests.test_store import points

Points = Dict[str, Dict[int, float]]

TURNS = 40
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


class AtOnce:
    """Stands in for the thread: what it is given is done before it returns."""

    def __init__(self, max_workers: int) -> None:
        assert max_workers == 1

    def submit(self, job: Callable[[], None]) -> Any:
        result = mock.Mock()
        result.done.return_value = True
        result.exception.return_value = None
        try:
            job()
        except BaseException as error:
            result.exception.return_value = error
        return result

    def shutdown(self) -> None:
        pass


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    """Snapshots after a few turns, of several records each, and no thread."""
    with mock.patch.object(compaction, "WORTHWHILE_BYTES", 600), mock.patch.object(
        compaction, "LINES_SECONDS", 0.0
    ), mock.patch.object(commit_module, "ThreadPoolExecutor", AtOnce), mock.patch.object(
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
        self.commit = Commit(self.store, reactor, "DIR", policy, "stop", lambda _: disk)
        self.dice = random.Random(seed)
        self.history: List[Points] = [points(self.store)]
        self.refused: List[bool] = []

    def turn(self) -> None:
        stored = {key: dict(of_key) for key, of_key in self.history[-1].items()}
        for _ in range(self.dice.randrange(1, 5)):
            key, timestamp = self.dice.choice(KEYS), self.dice.randrange(6)
            value = self.dice.choice([self.dice.random(), float("inf"), -0.0, 1e100])
            self.commit.ledger.put(key, value, timestamp)
            stored.setdefault(key, {})[timestamp] = value
        assert points(self.store) == self.history[-1], "seen before it was committed"
        self.commit.run()
        self.refused.append(self.commit.ledger.refused)
        self.history.append(self.history[-1] if self.refused[-1] else stored)
        assert points(self.store) == in_order(self.history[-1])
        self.clockwork.run(self.dice.choice([0.0, 0.01, 1.0, 11.0]))

    def settle(self) -> None:
        """Let all that is done beside the loop come to its end."""
        for _ in range(200):
            self.clockwork.run(1.0)

    def turns(self, count: int = TURNS) -> None:
        for _ in range(count):
            self.turn()


def in_order(stored: Points) -> Points:
    return {key: dict(sorted(of_key.items())) for key, of_key in stored.items()}


def recovered(disk: FakeDisk) -> Points:
    reactor: Any = Clockwork()
    store = Store()
    Commit(store, reactor, "DIR", "always", "stop", lambda _: disk).close()
    found = points(store)
    again = Store()
    Commit(again, reactor, "DIR", "always", "stop", lambda _: disk.killed()).close()
    assert points(again) == found, "recovery has changed what is there"
    return found


def same(found: Points, expected: Points) -> bool:
    """Also the order of the keys, which is that of their first put."""
    return found == in_order(expected) and list(found) == list(expected)


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_what_was_put_is_there_again(policy: str) -> None:
    for seed in range(10):
        run = Run(FakeDisk(), policy, seed)
        run.turns()
        assert any(name.endswith(".snapshot") for name in run.disk.files), "none was written"
        assert same(recovered(run.disk.killed()), run.history[-1])
        run.commit.close()
        assert not run.disk.open_files
        if policy != "never":
            power_failed = run.disk.power_failed(run.dice)
            assert same(recovered(power_failed), run.history[-1])


@pytest.mark.parametrize("policy", ["always", "everysec", "never"])
def test_the_power_fails_after_every_turn(policy: str) -> None:
    """With ``always`` nothing is missing; otherwise what is there was there at some time."""
    for seed in range(20):
        run = Run(FakeDisk(), policy, seed)
        for _ in range(TURNS):
            run.turn()
            found = recovered(run.disk.power_failed(run.dice))
            if policy == "always":
                assert same(found, run.history[-1])
            else:
                assert any(same(found, then) for then in run.history)


def test_everysec_loses_the_last_second_at_most() -> None:
    for seed in range(20):
        run = Run(FakeDisk(), "everysec", seed)
        run.turns(5)
        run.settle()
        safe = len(run.history) - 1
        run.turns(3)
        found = recovered(run.disk.power_failed(run.dice))
        assert any(same(found, then) for then in run.history[safe:])


EVERY_FAULT = [(call, error) for call, errors in ERRORS.items() for error in errors]


@pytest.mark.parametrize(("call", "error"), EVERY_FAULT)
@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_each_use_of_each_call_fails_once(call: str, error: str, policy: str) -> None:
    """Refused puts are never seen, also not later; the next ones are stored again."""
    for use in range(1, 1000):
        disk = FakeDisk()
        run = Run(disk, policy, use)
        disk.uses.clear()
        disk.fails = once(call, use, error)
        run.turns()
        assert sum(run.refused) <= (1 if policy == "always" else 20)
        killed = recovered(disk.killed())
        lost = recovered(disk.power_failed(run.dice))
        if policy == "always":
            assert same(killed, run.history[-1])
            assert same(lost, run.history[-1])
        else:
            assert any(same(lost, then) for then in run.history)
        failures, disk.fails = disk.failures, lambda *_: None
        run.settle()
        run.turn()
        assert not run.refused[-1]
        run.commit.close()
        assert not disk.open_files
        if not failures:
            assert use > 1 or call == "truncate", "it is never called"
            return
    pytest.fail("there is no end of uses")


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_disk_that_is_full_for_a_while(policy: str) -> None:
    calls = ("write", "create")
    for first in range(1, 30, 3):
        disk = FakeDisk()
        run = Run(disk, policy, first)
        disk.uses.clear()
        disk.fails = during(calls, first, first + 8)
        run.turns(2 * TURNS)
        assert any(run.refused)
        assert not run.refused[-1], "puts are not stored again"
        assert same(recovered(disk.killed()), run.history[-1])
        if policy == "always":
            assert same(recovered(disk.power_failed(run.dice)), run.history[-1])
        run.commit.close()


def test_a_server_killed_again_and_again() -> None:
    """Each goes on where the one before was ended, by power or by force."""
    for seed in range(20):
        dice = random.Random(seed)
        disk = FakeDisk()
        history: Optional[Points] = None
        for life in range(6):
            run = Run(disk, "always", 100 * seed + life)
            assert history is None or same(run.history[0], history)
            run.turns(dice.randrange(12))
            history = run.history[-1]
            disk = disk.killed() if dice.random() < 0.5 else disk.power_failed(dice)
