"""The store: the limit of points, and dropping old ones."""

import random
from typing import Dict, Iterator

import pytest

from metricsd.store import Memory, StoreError
from metricsd.store import keys as keys_module
from tests.model import Model, points
from tests.script import lines
from tests.test_session import answer, new

FULL = b"error\nstore is full\n\n"


def test_at_the_limit_only_overwriting_goes_on() -> None:
    store = Memory(max_points=3)
    for timestamp in (1, 2, 3):
        store.put("a", 0.5, timestamp)
    for key, timestamp in (("a", 4), ("a", 0), ("b", 1)):
        with pytest.raises(StoreError, match=r"^store is full$"):
            store.put(key, 1.0, timestamp)
    store.put("a", 1.5, 2)
    assert points(store) == {"a": {1: 0.5, 2: 1.5, 3: 0.5}}
    assert store.find("b") is None


class LimitedModel(Model):
    """The protocol's model with a limit of points."""

    def __init__(self, max_points: int) -> None:
        super().__init__()
        self.max_points = max_points
        self.full = False

    def answer(self, line: bytes) -> bytes:
        self.full = False
        reply = super().answer(line)
        return FULL if self.full else reply

    def _put(self, key: str, value: float, timestamp: int) -> None:
        there = sum(map(len, self.metrics.values()))
        new = timestamp not in self.metrics.get(key, {})
        if -(2**63) <= timestamp < 2**63 and new and there >= self.max_points:
            self.full = True
            return
        super()._put(key, value, timestamp)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("max_points", [1, 7, 100])
def test_the_count_is_exact_however_puts_arrive(seed: int, max_points: int) -> None:
    dice = random.Random(seed)
    requests = lines(seed, 500)
    model = LimitedModel(max_points)
    store = Memory(max_points)
    session = new(store)
    replies = b""
    while requests:
        count = dice.randint(1, 20)
        arrival = b"".join(line + b"\n" for line in requests[:count])
        del requests[:count]
        replies += answer(session, arrival)
        assert replies == model.stream(arrival)
        replies = b""
        there = points(store)
        assert {k: sorted(p) for k, p in there.items()} == {
            key: sorted(found) for key, found in model.metrics.items()
        }
        assert store.room == max_points - sum(map(len, there.values()))
    assert store.room < max_points


def test_a_refused_put_is_a_request_like_any_other() -> None:
    session = new(Memory(max_points=1))
    assert answer(session, b"put a 1 1\n") == b"ok\n\n"
    assert answer(session, b"put a 1 2\n\n") == FULL  # the blank line with it has no reply
    assert answer(session, b"put a 1 2\nget a\nput b 1 1\nput a 2 1\nget *\n") == (
        FULL + b"ok\na 1.0 1\n\n" + FULL + b"ok\n\n" + b"ok\na 2.0 1\n\n"
    )
    assert answer(session, b"put a x 2\n") == b"error\nwrong command\n\n"


def sweep(store: Memory, oldest: int) -> None:
    for _ in store.drop_before(oldest):
        pass


@pytest.mark.parametrize("seed", range(20))
def test_dropping_against_a_dict(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points are put while a sweep is under way: those that are not old all stay."""
    monkeypatch.setattr(keys_module, "PAGE_KEYS", 3)
    dice = random.Random(seed)
    store = Memory(max_points=10**6)
    model: Dict[str, Dict[int, float]] = {}
    for now in range(0, 2000, 100):
        sweeping: Iterator[None] = store.drop_before(now - 300)
        for _ in range(200):
            key = "key%d" % dice.randrange(now // 300 * 5, now // 300 * 5 + 10)
            timestamp, value = now + dice.randrange(-290, 100), dice.random()
            store.put(key, value, timestamp)
            model.setdefault(key, {})[timestamp] = value
            next(sweeping, None)
        for _ in sweeping:
            pass
        sweep(store, now - 300)
        model = {
            key: {time: value for time, value in found.items() if time >= now - 300}
            for key, found in model.items()
        }
        model = {key: found for key, found in model.items() if found}
        assert points(store) == model
        assert store.room == 10**6 - sum(map(len, model.values()))


def test_an_empty_series_disappears_and_begins_again_at_the_end() -> None:
    store = Memory()
    for key, timestamp in (("a", 1), ("b", 5), ("c", 1)):
        store.put(key, 0.5, timestamp)
    sweep(store, 3)
    assert [key for key, _ in store.items()] == ["b"]
    assert store.find("a") is None
    store.put("a", 0.5, 7)
    assert [key for key, _ in store.items()] == ["b", "a"]


def test_walking_on_while_series_go() -> None:
    store = Memory()
    for key, timestamp in (("a", 9), ("b", 1), ("c", 9)):
        store.put(key, 0.5, timestamp)
    walk = store.items()
    assert next(walk)[0] == "a"
    sweep(store, 5)
    assert [key for key, _ in walk] == ["c"]


def test_a_get_that_is_under_way_ends_well() -> None:
    """Points and whole series are dropped in front of and behind the reader."""
    store = Memory()
    for key in "abc":
        for timestamp in range(3000):
            store.put(key, 0.5, timestamp)
    session = new(store)
    said = answer(session, b"get *\n")
    sweep(store, 2990)
    while session.unfinished:
        said += session.replies()
    rows = said[3:-1].splitlines()
    assert rows[-10:] == [b"c 0.5 %d" % timestamp for timestamp in range(2990, 3000)]
    assert said.startswith(b"ok\n") and said.endswith(b"\n\n")
    for name in (b"a", b"b", b"c"):
        times = [int(row.split()[2]) for row in rows if row.startswith(name)]
        assert times == sorted(set(times))
    said = answer(session, b"get *\n")
    sweep(store, 3000)
    assert answer(session, b"get *\n") == b"ok\n\n"


def test_a_step_of_a_sweep_is_small() -> None:
    """Counted: no step drops more than DROP_BLOCKS blocks."""
    store = Memory(max_points=10**7)
    for timestamp in range(600000):
        store.put("a", 0.5, timestamp)
    rooms = [store.room]
    for _ in store.drop_before(600000):
        rooms.append(store.room)
    steps = [after - before for before, after in zip(rooms, rooms[1:])]
    assert sum(steps) == 600000
    assert max(steps) <= 1024 * 240
    assert rooms[-1] == 10**7


def test_replies_are_not_kept_beyond_a_drop() -> None:
    store = Memory()
    session = new(store)
    answer(session, b"put a 1 1\nput a 1 2\n")
    assert answer(session, b"get a\n") == b"ok\na 1.0 1\na 1.0 2\n\n"
    sweep(store, 2)
    assert answer(session, b"get a\n") == b"ok\na 1.0 2\n\n"
    sweep(store, 3)
    assert answer(session, b"get a\n") == b"ok\n\n"
    assert session._dispatcher.kept_replies._bytes == 0
    answer(session, b"put a 1 1\n")
    assert answer(session, b"get a\n") == b"ok\na 1.0 1\n\n"


def test_series_that_begin_together_are_sealed_one_after_the_other() -> None:
    """Even if series come and go: which one it is counts, not how many there are."""
    store = Memory()
    sizes = set()
    for number in range(100):
        store.put(str(number), 0.5, number)
        series = store.find(str(number))
        assert series is not None
        sizes.add(series._full)
        sweep(store, number + 1)
    assert len(sizes) == 100
