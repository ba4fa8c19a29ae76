"""Buckets of points: what blocks' summaries say is what their points say."""

import random
from math import inf, isclose, isfinite, nan
from typing import Any, Dict, List, Sequence

import pytest

from metricsd.store import Memory, Series, buckets
from metricsd.store.sealed import unseal_values

PLAINLY: Dict[str, Any] = {
    "average": lambda values: sum(values) / len(values), "sum": sum, "min": min, "max": max,
    "first": lambda values: values[0], "last": lambda values: values[-1],
}  # fmt: skip


def plainly(points: Dict[int, float], start: int, step: int, count: int, fold: str) -> List[float]:
    rows: List[List[float]] = [[] for _ in range(count)]
    for timestamp in sorted(points):
        place = (timestamp - start) // step
        if 0 <= place < count and isfinite(points[timestamp]):
            rows[place].append(points[timestamp])
    return [PLAINLY[fold](row) if row else nan for row in rows]


def alike(ours: List[float], theirs: List[float]) -> bool:
    return len(ours) == len(theirs) and all(
        (one != one and other != other) or isclose(one, other, rel_tol=1e-12, abs_tol=1e-9)
        for one, other in zip(ours, theirs)
    )


def read(series: Series, start: int, step: int, count: int, fold: str) -> List[float]:
    made = buckets.Buckets(start, step, count, fold)
    for _ in buckets.read(series, made):
        pass
    return made.values()


def filled(chance: random.Random, regular: bool) -> Any:
    """A series of some blocks, some of whose points came late or overwrote others."""
    store, points = Memory(), {}
    timestamp = 0
    for _ in range(2000):
        timestamp += 10 if regular else chance.randrange(1, 30)
        points[timestamp] = chance.choice([round(chance.uniform(-9, 9), 2)] * 30 + [nan, inf])
    for timestamp, value in points.items():
        store.put("k", value, timestamp)
    for _ in range(40):
        late = chance.randrange(timestamp // 2)
        points[late] = chance.uniform(-99, 99)
        store.put("k", points[late], late)
    return store, points


@pytest.mark.parametrize("fold", sorted(PLAINLY))
@pytest.mark.parametrize("regular", [True, False])
def test_both_ways_agree(fold: str, regular: bool) -> None:
    chance = random.Random(fold)
    store, points = filled(chance, regular)
    series = store.find("k")
    for step in (1, 7, 10, 60, 2500, 9000, 10**6):
        for _ in range(3):  # the second and the third time from summaries, where there are some
            start = chance.randrange(-100, 9000)
            asked = (start, step, min(25_000 // step + 1, 3000))
            assert alike(read(series, *asked, fold), plainly(points, *asked, fold)), asked


def test_summaries_go_with_their_blocks() -> None:
    store, points = filled(random.Random(1), True)
    series = store.find("k")
    asked = (0, 20_000, 1, "average")
    read(series, *asked)
    kept = len(series._archive._summaries)
    assert kept >= 3
    for timestamp in range(12_001, 15_000, 2):  # late enough in number to seal these blocks anew
        points[timestamp] = 1000.0
        store.put("k", 1000.0, timestamp)
    while store.late_blocks:
        store.seal_late()
    assert alike(read(series, *asked), plainly(points, *asked))
    for _ in store.drop_before(15_000):
        pass
    points = {one: value for one, value in points.items() if one >= 15_000}
    assert alike(read(series, *asked), plainly(points, *asked))
    assert set(series._archive._summaries) <= set(series._archive._blocks)


def test_a_block_in_one_bucket_is_opened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: List[bytes] = []

    def noted(sealed: bytes) -> Sequence[float]:
        opened.append(sealed)
        return unseal_values(sealed)

    store = Memory()
    for timestamp in range(5000):
        store.put("k", float(timestamp), timestamp)
    monkeypatch.setattr("metricsd.store.archive.unseal_values", noted)
    for blocks in (20, 0):
        assert read(store.find("k"), 0, 5000, 1, "sum") == [sum(range(5000))]  # type: ignore[arg-type]
        assert len(opened) >= blocks - 1
        assert bool(opened) == bool(blocks)
        opened.clear()


def test_what_is_added_may_change_while_it_is_read() -> None:
    store = Memory()
    for timestamp in range(2000):
        store.put("k", 1.0, timestamp)
    made = buckets.Buckets(0, 100, 30, "sum")
    for step, _ in enumerate(buckets.read(store.find("k"), made)):  # type: ignore[arg-type]
        if step == 3:
            for _ in store.drop_before(1500):
                pass
            store.put("k", 1.0, 2500)
    assert made.values()[15:20] == [100.0] * 5
    assert made.values()[25] == 1.0


def test_gaps_of_some_blocks_tell_those_of_all() -> None:
    store = Memory()
    for place in range(60_000):
        store.put("k", 1.0, 15 * place)
    seen: List[Any] = list(buckets.gaps(store.find("k"), 0, 10**9))  # type: ignore[arg-type]
    assert len(seen) < 2 * buckets.GAP_BLOCKS
    assert set().union(*seen) == {15}
