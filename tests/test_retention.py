"""Retention: sweeps by a clock that the test moves, in slices."""

import time
from typing import Iterator, List

import pytest

from metricsd import Server, upkeep
from metricsd.loop import Reactor, Task
from metricsd.store import Memory, StoreError, late, put_all
from metricsd.upkeep import (
    LATE_SECONDS,
    LONGEST_PAUSE,
    SHORTEST_PAUSE,
    SLICE_SECONDS,
    WORKING_SHARE,
    drop_old,
)
from tests.conftest import running
from tests.conversation import Conversation


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class World:
    """A reactor whose clock, and the one on the wall, are moved by hand."""

    def __init__(self, seconds: float) -> None:
        self.clock, self.wall, self.stopwatch = Clock(0.0), Clock(10000.0), Clock(0.0)
        self.store = Memory()
        self.reactor = Reactor(self.clock)
        steps = drop_old(self.drop_before, seconds, self.wall, self.stopwatch)
        Task(self.reactor, steps)

    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        self.wall.now += seconds
        self.reactor.turn(0)

    def drop_before(self, oldest: int) -> Iterator[None]:
        return self.store.drop_before(oldest)  # looked up anew: tests replace it

    def times(self, key: str) -> List[int]:
        series = self.store.find(key)
        return [] if series is None else list(series.after(-1)[0][0])


@pytest.fixture
def world() -> Iterator[World]:
    found = World(90)
    yield found
    found.reactor.close()


def test_what_is_older_is_dropped_and_nothing_else(world: World) -> None:
    for timestamp in (1, 9909, 9910, 9911, 10000, 10**12):
        world.store.put("a", 0.5, timestamp)
    world.pass_time(SHORTEST_PAUSE)  # it is 10001 now
    assert world.times("a") == [9911, 10000, 10**12]
    world.pass_time(SHORTEST_PAUSE + 0.5)  # 10002.5
    assert world.times("a") == [10000, 10**12]
    world.pass_time(1000)
    assert world.times("a") == [10**12]


def test_it_goes_on_for_ever(world: World) -> None:
    for second in range(300):
        world.store.put("a", 0.5, 10000 + second)
        world.pass_time(1.0)
    assert 90 <= len(world.times("a")) <= 92


def test_a_sweep_makes_way_for_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice ends when its time is over; others have a turn, then the sweep goes on."""
    steps: List[int] = []

    def slow_steps(oldest: int) -> Iterator[None]:
        for _ in range(10):
            steps.append(oldest)
            world.stopwatch.now += SLICE_SECONDS * 0.6
            yield

    monkeypatch.setattr(world.store, "drop_before", slow_steps)
    world.pass_time(SHORTEST_PAUSE)
    counts = [len(steps)]
    while len(steps) < 10:
        world.pass_time(0.0)
        counts.append(len(steps))
    assert counts == [2, 4, 6, 8, 10]
    world.pass_time(0.0)  # finds the end
    world.pass_time(SHORTEST_PAUSE / 2)
    assert len(steps) == 10
    world.pass_time(SHORTEST_PAUSE / 2)
    assert len(steps) == 12


@pytest.mark.parametrize(
    "seconds, pause", [(1, SHORTEST_PAUSE), (900, 9.0), (7 * 86400, LONGEST_PAUSE)]
)
def test_how_often_it_sweeps(seconds: float, pause: float) -> None:
    world = World(seconds)
    world.store.put("a", 0.5, 1)
    world.pass_time(pause * 0.99)
    assert world.times("a") == [1]
    world.pass_time(pause * 0.02)
    assert world.times("a") == ([1] if seconds > 10000 else [])
    world.reactor.close()


def test_very_many_series_do_not_take_all_the_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: List[float] = []

    def long_steps(oldest: int) -> Iterator[None]:
        begun.append(world.clock.now)
        for _ in range(1000):
            world.stopwatch.now += SLICE_SECONDS
            yield

    monkeypatch.setattr(world.store, "drop_before", long_steps)
    while len(begun) < 3:
        world.pass_time(SLICE_SECONDS)
    working = 1000 * SLICE_SECONDS
    assert begun[2] - begun[1] >= working / WORKING_SHARE


def test_a_server_that_retains_for_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "SHORTEST_PAUSE", 0.05)
    with running(retention=1) as server, Conversation(server.address) as client:
        now = int(time.time())
        assert client.ask(b"put old 1 %d\n" % (now - 100)) == b"ok\n\n"
        assert client.ask(b"put new 1 %d\n" % (now + 100)) == b"ok\n\n"
        reply = b""
        while b"old" in reply or not reply:  # pytest's time-out ends this if it never happens
            reply = client.ask(b"get *\n")
        assert reply == b"ok\nnew 1.0 %d\n\n" % (now + 100)


def test_without_retention_everything_stays() -> None:
    with running() as server, Conversation(server.address) as client:
        assert client.ask(b"put k 1 1\n") == b"ok\n\n"
        assert not server._reactor._timers


def test_the_limit_and_retention_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a sweep drops makes room."""
    monkeypatch.setattr(upkeep, "SHORTEST_PAUSE", 0.05)
    with running(retention=1, max_points=1) as server, Conversation(server.address) as client:
        assert client.ask(b"put old 1 1\n") == b"ok\n\n"
        reply = b""
        while reply != b"ok\n\n":
            reply = client.ask(b"put new 1 %d\n" % (int(time.time()) + 100))
            assert reply in (b"ok\n\n", b"error\nstore is full\n\n")
        assert b"old" not in client.ask(b"get *\n")


def test_late_points_are_sealed_in_after_a_while() -> None:
    """Blocks that were opened take no more than before, and then nothing is left to be done."""
    now = [0.0]
    with Server("127.0.0.1", 0, clock=lambda: now[0]) as server:
        store = server._store
        assert isinstance(store, Memory)
        for number in range(100):
            times = [index * 7 + index % 3 for index in range(500)]
            put_all(store, [str(number)] * 500, [0.5] * 500, times)
        assert not server._reactor._timers
        for number in range(100):
            store.put(str(number), 1.5, 101)
        assert store.late_blocks == 100
        server.turn(0)
        assert store.late_blocks == 100
        now[0] += LATE_SECONDS
        turns = 0
        while server._reactor._timers:
            server.turn(0)
            turns += 1
            now[0] += LATE_SECONDS / 2 if not store.late_blocks else 0.0
            assert turns < 20
        assert store.late_blocks == 0
        assert turns > 5
        series = store.find("7")
        assert series is not None
        assert len(series) == 501
        store.put("0", 1.5, 102)
        assert server._reactor._timers  # and it begins anew


def test_one_task_seals_them_however_often_they_come_and_go() -> None:
    with Server("127.0.0.1", 0) as server:
        put_all(server._store, ["a"] * 500, [0.5] * 500, [index * 7 for index in range(500)])
        for number in range(100):
            server._store.put("a", 1.5, number * 7 + 1)
            assert server._store.late_blocks == 1
            server._store.seal_late()  # as a checkpoint does, or as many late points
        assert len(server._reactor._timers._heap) == 1


def test_few_blocks_have_late_points_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "MAX_LATE_BLOCKS", 10)
    store = Memory()
    times = [index * 7 + index % 3 for index in range(50 * 240)]
    put_all(store, ["a"] * len(times), [0.5] * len(times), times)
    for index in range(0, len(times), 240):
        store.put("a", 1.5, times[index] + 1)
        assert store.late_blocks <= 11
    assert store.points == len(times) + 50


def test_a_look_at_a_block_leaves_nothing_open() -> None:
    store = Memory(max_points=1000)
    put_all(store, ["a"] * 1000, [0.5] * 1000, list(range(1000)))
    for timestamp in range(-50, 0):
        with pytest.raises(StoreError):
            store.put("a", 1.5, timestamp)
    assert store.late_blocks == 0
