"""A series against a plain dict, with blocks so small that every boundary is crossed."""

import random
from typing import Dict, List, Tuple

import pytest

from metricsd import series as series_module
from metricsd.series import MAX_TIMESTAMP, MIN_TIMESTAMP, Series, put_each


def read(series: Series, limit: int) -> List[Tuple[int, float]]:
    points: List[Tuple[int, float]] = []
    last = MIN_TIMESTAMP - 1
    while True:
        timestamps, values = series.later_than(last, limit)
        if not timestamps:
            return points
        assert len(timestamps) == len(values) <= limit
        points += zip(timestamps, values)
        last = timestamps[-1]


@pytest.mark.parametrize("block_points", [1, 2, 3, 8])
@pytest.mark.parametrize("seed", range(20))
def test_random_puts(monkeypatch: pytest.MonkeyPatch, block_points: int, seed: int) -> None:
    monkeypatch.setattr(series_module, "BLOCK_POINTS", block_points)
    dice = random.Random(seed)
    span = dice.choice([5, 50, 1000])
    drift = dice.choice([0, 0, 1, 3])  # 0: no order at all; more: nearly in order
    series = Series()
    model: Dict[int, float] = {}
    for step in range(300):
        timestamp, value = step * drift + dice.randrange(-span, span), dice.random()
        series.put(timestamp, value)
        model[timestamp] = value
        assert series.newest == max(model)
    for limit in (1, 2, 7, 1000):
        assert read(series, limit) == sorted(model.items())


@pytest.mark.parametrize("seed", range(20))
def test_put_each_is_put_for_each(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(series_module, "BLOCK_POINTS", 3)
    dice = random.Random(seed)
    one_by_one, together = [Series(), Series()], [Series(), Series()]
    for _ in range(50):
        places = [dice.randrange(2) for _ in range(5)]
        timestamps = [dice.randrange(30) for _ in range(5)]
        values = [dice.random() for _ in range(5)]
        for place, timestamp, value in zip(places, timestamps, values):
            one_by_one[place].put(timestamp, value)
        put_each((together[place] for place in places), timestamps, values)
    for one, other in zip(one_by_one, together):
        assert one._blocks == other._blocks
        assert one.newest == other.newest


def test_the_ends_of_time() -> None:
    series = Series()
    assert read(series, 10) == []
    series.put(MAX_TIMESTAMP, 1.0)
    series.put(MIN_TIMESTAMP, 2.0)
    assert read(series, 10) == [(MIN_TIMESTAMP, 2.0), (MAX_TIMESTAMP, 1.0)]
    assert series.newest == MAX_TIMESTAMP


def test_a_reader_sees_each_point_once_and_in_order_whatever_is_put_meanwhile() -> None:
    dice = random.Random(1)
    series = Series()
    for timestamp in range(0, 20000, 10):
        series.put(timestamp, 0.0)
    seen: List[int] = []
    last = -1
    while last < 19990:
        timestamps, _ = series.later_than(last, 50)
        seen += timestamps
        last = timestamps[-1]
        for _ in range(20):
            series.put(dice.randrange(20000), 1.0)
    assert seen == sorted(set(seen))
    assert set(range(0, 20000, 10)) <= set(seen)


@pytest.mark.parametrize("order", ["random", "reverse"])
def test_late_points_move_little_memory(order: str) -> None:
    """Counted, not timed: what an insertion moves is bounded by the blocks, not by the series."""
    timestamps = list(range(20000))
    if order == "random":
        random.Random(2).shuffle(timestamps)
    else:
        timestamps.reverse()
    series = Series()
    for timestamp in timestamps:
        series.put(timestamp, 0.0)
    sizes = [len(columns[0]) for columns in series._blocks]
    assert max(sizes) <= 2 * series_module.BLOCK_POINTS
    assert len(sizes) <= 2 * len(timestamps) / series_module.BLOCK_POINTS + 1
    assert [timestamp for timestamp, _ in read(series, 1000)] == list(range(20000))
