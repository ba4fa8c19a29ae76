"""A series against a plain dict, with blocks so small that every boundary is crossed."""

import random
from typing import Any, Dict, List, Sequence, Tuple

import pytest

from metricsd.store import archive as archive_module
from metricsd.store import put_each as put_each_module
from metricsd.store import series as series_module
from metricsd.store.archive import BLOCK_POINTS
from metricsd.store.columns import MAX_TIMESTAMP, MIN_TIMESTAMP, Columns
from metricsd.store.put_each import put_each
from metricsd.store.sealed import seal, unseal, unseal_timestamps
from metricsd.store.series import Series


def read(series: Series) -> List[Tuple[int, float]]:
    points: List[Tuple[int, float]] = []
    done = MIN_TIMESTAMP - 1
    while done < series.newest:
        before = done
        (timestamps, values), done = series.after(done)
        assert len(timestamps) == len(values)
        assert before < done
        points += zip(timestamps, values)
    return points


@pytest.fixture
def small_blocks(request: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks of so many points, in place of some hundred."""
    points = int(request.param)
    for module in (archive_module, series_module):
        monkeypatch.setattr(module, "BLOCK_POINTS", points)
        monkeypatch.setattr(module, "MAX_BLOCK_POINTS", 2 * points)
    monkeypatch.setattr(archive_module, "LATE_POINTS", points)
    monkeypatch.setattr(archive_module, "DROP_BLOCKS", 3)
    return points


@pytest.mark.parametrize("small_blocks", [1, 2, 3, 8], indirect=True)
@pytest.mark.parametrize("seed", range(30))
def test_random_scripts(small_blocks: int, seed: int) -> None:
    """Puts in order and late, overwrites, look-ups, reads and drops."""
    dice = random.Random(seed)
    span = dice.choice([5, 50, 1000])
    drift = dice.choice([0, 0, 1, 3])  # 0: no order at all; more: nearly in order
    series = Series(dice.randint(1, small_blocks))
    model: Dict[int, float] = {}
    newest = MIN_TIMESTAMP - 1
    for step in range(400):
        timestamp = step * drift + dice.randrange(-span, span)
        action = dice.random()
        if action < 0.9:
            value = dice.choice([dice.random(), dice.randrange(100) / 10])
            newest = max(newest, timestamp)
            assert series.put(timestamp, value) == (timestamp not in model)
            model[timestamp] = value
        elif action < 0.94:
            before = len(model)
            model = {time: value for time, value in model.items() if time >= timestamp}
            assert drop(series, timestamp) == before - len(model)
        elif action < 0.97:
            assert series.has(timestamp) == (timestamp in model)
        else:
            assert read(series) == sorted(model.items())
        assert len(series) == len(model)
        assert series.newest == newest
    assert read(series) == sorted(model.items())
    for timestamp in range(-span, 400 * drift + span, 1 + span // 50):
        assert series.has(timestamp) == (timestamp in model)
        columns, end = series.after(timestamp)
        assert list(zip(*columns)) == sorted(
            item for item in model.items() if timestamp < item[0] <= end
        )


def drop(series: Series, oldest: int) -> int:
    dropped = 0
    while True:
        more = series.drop_before(oldest)
        dropped += more
        if not more:
            return dropped


@pytest.mark.parametrize("small_blocks", [3], indirect=True)
@pytest.mark.parametrize("seed", range(20))
def test_put_each_is_put_for_each(small_blocks: int, seed: int) -> None:
    dice = random.Random(seed)
    one_by_one, together = [Series(2), Series(3)], [Series(2), Series(3)]
    for _ in range(50):
        places = [dice.randrange(2) for _ in range(5)]
        timestamps = [dice.randrange(30) for _ in range(5)]
        values = [dice.random() for _ in range(5)]
        new = 0
        for place, timestamp, value in zip(places, timestamps, values):
            new += one_by_one[place].put(timestamp, value)
        series = (together[place] for place in places)
        assert put_each(series, timestamps, values, Series.put) == (5, 5 - new)
    for one, other in zip(one_by_one, together):
        assert read(one) == read(other)
        assert (one.newest, one.changes, len(one)) == (other.newest, other.changes, len(other))


@pytest.mark.parametrize("seed", range(20))
def test_put_each_stops_after_what_may_take_long(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted: blocks that are opened or sealed. What is left is put by who comes back with it."""
    monkeypatch.setattr(put_each_module, "SLOW_PUTS", 3)
    costs = Costs(monkeypatch)
    dice = random.Random(seed)
    one_by_one, together = [Series(2), Series(3)], [Series(2), Series(3)]
    slow: List[int] = []

    def put_slowly(series: Series, timestamp: int, value: float) -> bool:
        slow.append(timestamp)
        return series.put(timestamp, value)

    for _ in range(15):
        places = [dice.randrange(2) for _ in range(300)]
        timestamps = [dice.randrange(10000) for _ in range(300)]
        values = [dice.random() for _ in range(300)]
        left = 300
        while left:
            points = (together[place] for place in places[-left:])
            seals, opened = costs.sealed, costs.opened
            slow.clear()
            taken, _ = put_each(points, timestamps[-left:], values[-left:], put_slowly)
            assert taken > 0
            assert len(slow) <= 3
            assert len(slow) == 3 or taken == left
            assert slow or (costs.sealed, costs.opened) == (seals, opened)
            left -= taken
        for place, timestamp, value in zip(places, timestamps, values):
            one_by_one[place].put(timestamp, value)
    for one, other in zip(one_by_one, together):
        assert read(one) == read(other)


def test_the_ends_of_time() -> None:
    series = Series()
    assert read(series) == []
    series.put(MAX_TIMESTAMP, 1.0)
    series.put(MIN_TIMESTAMP, 2.0)
    assert read(series) == [(MIN_TIMESTAMP, 2.0), (MAX_TIMESTAMP, 1.0)]
    assert series.newest == MAX_TIMESTAMP


@pytest.mark.parametrize("small_blocks", [2], indirect=True)
def test_the_ends_of_time_sealed(small_blocks: int) -> None:
    series = Series()
    points = [MIN_TIMESTAMP, MIN_TIMESTAMP + 1, -1, 0, 1, MAX_TIMESTAMP - 1, MAX_TIMESTAMP]
    for timestamp in points:
        series.put(timestamp, 0.5)
    for timestamp in points:
        assert not series.put(timestamp, 1.5)
    assert read(series) == [(timestamp, 1.5) for timestamp in points]


def test_a_reader_sees_each_point_once_and_in_order_whatever_is_put_meanwhile() -> None:
    dice = random.Random(1)
    series = Series()
    for timestamp in range(0, 20000, 10):
        series.put(timestamp, 0.0)
    seen: List[int] = []
    done = -1
    while done < 19990:
        (timestamps, _), done = series.after(done)
        seen += timestamps
        for _ in range(20):
            series.put(dice.randrange(20000), 1.0)
    assert seen == sorted(set(seen))
    assert set(range(0, 20000, 10)) <= set(seen)


class Costs:
    """How many points were sealed and opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sealed = self.opened = 0
        monkeypatch.setattr(archive_module, "seal", self._seal)
        monkeypatch.setattr(archive_module, "unseal", self._unseal)
        monkeypatch.setattr(archive_module, "unseal_timestamps", self._unseal_timestamps)

    def _seal(self, columns: Columns) -> bytes:
        self.sealed += len(columns[0])
        return seal(columns)

    def _unseal(self, sealed: bytes) -> Columns:
        columns = unseal(sealed)
        self.opened += len(columns[0])
        return columns

    def _unseal_timestamps(self, sealed: bytes) -> Sequence[int]:
        timestamps = unseal_timestamps(sealed)
        self.opened += len(timestamps)
        return timestamps


POINTS = 40000  # some 160 blocks


def test_points_in_order_are_sealed_once_and_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = Costs(monkeypatch)
    series = Series()
    for timestamp in range(POINTS):
        series.put(timestamp, 0.5)
    assert POINTS - BLOCK_POINTS <= costs.sealed <= POINTS
    assert costs.opened == 0
    assert len(series) == POINTS


def shuffled(count: int) -> List[int]:
    timestamps = list(range(count))
    random.Random(2).shuffle(timestamps)
    return timestamps


@pytest.mark.parametrize(
    "order",
    [
        shuffled(POINTS),
        list(range(POINTS, 0, -1)),
        [place + half for place in range(POINTS // 2) for half in (POINTS, 0)],
        list(range(POINTS // 2)) * 2,  # the second half overwrites the first
    ],
    ids=["random", "reverse", "alternating", "overwriting"],
)
def test_late_points_are_sealed_a_few_times_each(
    monkeypatch: pytest.MonkeyPatch, order: List[int]
) -> None:
    """Counted, not timed: what a late point costs does not grow with the series."""
    costs = Costs(monkeypatch)
    series = Series()
    for timestamp in order:
        series.put(timestamp, 0.5)
    assert costs.sealed <= 4 * POINTS
    assert costs.opened <= 6 * POINTS
    blocks = -(-len(series) // BLOCK_POINTS)
    assert series._archive is not None
    assert len(series._archive._blocks) <= 2 * blocks
    assert [timestamp for timestamp, _ in read(series)] == sorted(set(order))
    assert_little_lies_open(series)


def test_a_late_put_between_gets_opens_what_is_read_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = Series()
    for timestamp in range(0, 100000, 10):
        series.put(timestamp, 0.5)
    costs = Costs(monkeypatch)
    for number in range(50):
        series.put(number * 2000 + 1, 0.5)
        series.after(number * 2000 - 1)  # the block where the point belongs
        series.after(99980)  # the newest points, which are not sealed
    assert costs.sealed == 0
    assert costs.opened <= 50 * 3 * BLOCK_POINTS


def assert_little_lies_open(series: Series) -> None:
    """A few points are not sealed: the newest, and late ones."""
    archive = series._archive
    assert archive is not None
    late = [len(late.columns[0]) for late in archive._late.values()]
    assert max(late, default=0) <= archive_module.LATE_POINTS
    assert len(series._timestamps) <= archive_module.MAX_BLOCK_POINTS
    assert max(len(archive._columns(index)[0]) for index in range(len(archive._blocks))) <= (
        archive_module.MAX_BLOCK_POINTS + archive_module.LATE_POINTS
    )


def with_late_points() -> Series:
    """Blocks in order, each with a late point in it."""
    series = Series()
    for timestamp in range(0, 20000, 2):
        series.put(timestamp, 0.5)
    for timestamp in range(1, 19000, 2 * BLOCK_POINTS):
        series.put(timestamp, 1.5)
    return series


def test_a_reader_opens_each_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    series = with_late_points()
    costs = Costs(monkeypatch)
    assert len(read(series)) == len(series)
    assert costs.opened <= len(series)


def test_dropping_opens_one_block_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    series = with_late_points()
    costs = Costs(monkeypatch)
    before = len(series)
    dropped = drop(series, 18001)
    assert len(read(series)) == len(series) == before - dropped
    assert costs.opened <= 4 * BLOCK_POINTS  # one block cut; then what is left is read


def test_series_that_get_the_same_late_points_are_not_all_sealed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = [Series() for _ in range(200)]
    for series in many:
        for timestamp in range(0, 6 * BLOCK_POINTS, 3):
            series.put(timestamp, 0.5)
    costs = Costs(monkeypatch)
    most = 0
    for late in range(1, 3 * BLOCK_POINTS, 3):
        before = costs.sealed
        for series in many:
            series.put(late, 0.5)
        most = max(most, costs.sealed - before)
    assert 0 < most <= 0.2 * len(many) * 2 * BLOCK_POINTS
