"""What was sealed opens again to exactly the same bits, and takes few bytes."""

import random
import struct
from array import array
from typing import Callable, Dict, List, Tuple

import pytest

from metricsd.store.columns import INT64, MAX_TIMESTAMP, MIN_TIMESTAMP
from metricsd.store.sealed import (
    SCALES,
    _pack_regular,
    _pack_timestamps,
    seal,
    sealed_points,
    unseal,
    unseal_timestamps,
    unseal_values,
)

SUBNORMAL = 5e-324
HOSTILE = [
    0.0,
    -0.0,
    SUBNORMAL,
    -SUBNORMAL,
    2.2250738585072014e-308,
    1.7976931348623157e308,
    -1.7976931348623157e308,
    float("inf"),
    float("-inf"),
    2.0**51,
    2.0**52 + 1,
    -(2.0**53),
    0.1 + 0.2,
    0.29,
    0.57,
    1e22,
    1 / 3,
    512.0,
]
NANS = [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF0000000000001, 0x7FFFFFFFFFFFFFFF]


def check(timestamps: List[int], values: "array[float]") -> bytes:
    columns = array("q", timestamps), values
    sealed = seal(columns)
    opened = unseal(sealed)
    assert opened[0] == columns[0]
    assert opened[1].tobytes() == values.tobytes()  # 0.0 == -0.0, but not in bits
    assert opened[0].typecode == INT64 and opened[1].typecode == "d"
    assert list(unseal_timestamps(sealed)) == timestamps
    assert array("d", unseal_values(sealed)).tobytes() == values.tobytes()
    assert sealed_points(sealed) == len(timestamps)
    return sealed


def from_bits(bits: List[int]) -> "array[float]":
    return array("d", struct.pack(f"={len(bits)}Q", *bits))


@pytest.mark.parametrize("value", HOSTILE, ids=repr)
@pytest.mark.parametrize("others", [[], [1.5, 2.25, 3.0], [0.0] * 9, [1 / 3] * 9, [-1.0, 1.0] * 20])
def test_hostile_floats(value: float, others: List[float]) -> None:
    for place in {0, len(others) // 2, len(others)}:
        values = array("d", others[:place] + [value] + others[place:])
        check(list(range(len(values))), values)


def test_nans_keep_their_payloads() -> None:
    for count in (1, 5, 200):
        check(list(range(4 * count)), from_bits(NANS * count))
    check([1, 2, 3], array("d", [1.0, float("nan"), 2.0]))


def random_values(dice: random.Random, count: int) -> "array[float]":
    kind = dice.randrange(8)
    scale = dice.choice(SCALES)
    if kind == 0:
        return from_bits([dice.getrandbits(64) for _ in range(count)])
    if kind == 1:
        return array("d", [dice.randrange(-10000, 10000) / scale for _ in range(count)])
    if kind == 2:
        total = dice.uniform(-1e6, 1e6)
        steps = [dice.random() * dice.choice([0, 1]) for _ in range(count)]
        return array("d", [total + sum(steps[:n]) for n in range(count)])
    if kind == 3:
        return array("d", [dice.choice(HOSTILE) for _ in range(count)])
    if kind == 4:
        return array("d", sorted(dice.getrandbits(40) / scale for _ in range(count)))
    if kind == 5:
        return array("d", [dice.random()]) * count
    if kind == 6:  # decimals, but for one
        values = array("d", [dice.randrange(100) / 10 for _ in range(count)])
        values[dice.randrange(count)] = dice.choice(HOSTILE)
        return values
    return array("d", [dice.gauss(0, 1) for _ in range(count)])


def random_timestamps(dice: random.Random, count: int) -> List[int]:
    kind = dice.randrange(5)
    first = dice.choice([0, 1503319740, -count // 2, MIN_TIMESTAMP, MAX_TIMESTAMP - 100 * count])
    if kind == 0:
        return [first + 15 * n for n in range(count)]
    if kind == 1:
        return [first + 15 * n + dice.randrange(15) for n in range(count)]
    if kind == 2:
        return sorted(dice.sample(range(first, first + 50 * count), count))
    everywhere = {dice.randrange(MIN_TIMESTAMP, MAX_TIMESTAMP + 1) for _ in range(count)}
    if kind == 3:
        everywhere |= {MIN_TIMESTAMP, MAX_TIMESTAMP, -1, 0}
    return sorted(everywhere)[:count]


@pytest.mark.parametrize("seed", range(300))
def test_random_points(seed: int) -> None:
    dice = random.Random(seed)
    count = dice.choice([1, 1, 2, 3, 7, 100, 240, 480])
    check(random_timestamps(dice, count), random_values(dice, count))


def test_the_most_points() -> None:
    dice = random.Random(1)
    bits = [dice.getrandbits(64) for _ in range(65535)]
    check(sorted(dice.sample(range(10**9), 65535)), from_bits(bits))


def test_no_points() -> None:
    assert unseal(b"") == (array("q"), array("d"))
    assert list(unseal_timestamps(b"")) == []
    assert sealed_points(b"") == 0


def test_other_points_are_other_bytes() -> None:
    """Blocks are told apart by their bytes."""
    dice = random.Random(3)
    seen: Dict[bytes, Tuple[Tuple[int, ...], bytes]] = {}
    for _ in range(2000):
        count = dice.randint(1, 3)
        timestamps = sorted(dice.sample(range(5), count))
        values = array("d", [dice.choice([0.0, -0.0, 1.0, 0.1]) for _ in range(count)])
        points = (tuple(timestamps), values.tobytes())
        assert seen.setdefault(check(timestamps, values), points) == points


def counter(dice: random.Random) -> Callable[[], float]:
    total = [dice.randrange(10**6)]

    def count() -> float:
        total[0] += dice.randrange(1000)
        return float(total[0])

    return count


@pytest.mark.parametrize(
    "kind, most", [("gauge", 2.3), ("counter", 1.9), ("full", 7.4), ("constant", 0.3)]
)
def test_bytes_a_point(kind: str, most: float) -> None:
    """Without the head of the bytes object, for a block as large as they are sealed."""
    dice = random.Random(4)
    kinds: Dict[str, Callable[[], float]] = {
        "gauge": lambda: dice.randrange(10000) / 100,
        "counter": counter(dice),
        "full": lambda: dice.random() * 100,
        "constant": lambda: 42.5,
    }
    values = array("d", [kinds[kind]() for _ in range(240)])
    assert len(check([1500000000 + 15 * n for n in range(240)], values)) / 240 <= most


def test_regular_timestamps_are_told_apart_from_all_others() -> None:
    """The short cut writes what the long way does, or leaves it alone."""
    dice = random.Random(5)
    told = 0
    for _ in range(3000):
        step, count = dice.choice([1, 2, 60, 255, 256, 257, 300]), dice.randint(1, 12)
        first = dice.choice([0, -count * step // 2, -count * step, 1503319740, MIN_TIMESTAMP + 512])
        timestamps = [first + step * number for number in range(count)]
        if dice.random() < 0.5:  # one is off, maybe by what its lowest byte doesn't show
            place = dice.randrange(count)
            timestamps[place] += dice.choice([-1, 1, 256, -256, 512])
            timestamps = sorted(set(timestamps))
        packed = _pack_regular(array("q", timestamps))
        assert packed in (b"", _pack_timestamps(array("q", timestamps)))
        steps = {after - before for before, after in zip(timestamps, timestamps[1:])}
        same_sign = (timestamps[0] < 0) == (timestamps[-1] < 0)
        short = len(steps) == 1 and max(steps) < 256 and same_sign
        assert bool(packed) == short
        told += short
    assert told > 500
