"""Random series, and random targets on them, nested, with every function of the table.

Owns what is drawn. Where metricsd differs on purpose (metricsd/graphite/functions.md) nothing is
drawn that would show it: a test of its own does.
"""

import random
from typing import Dict, List, NamedTuple, Tuple

from metricsd.store import Memory

FIRST = 1_000_000_200  # a multiple of all steps
STEP = 10  # seconds between the points of most series
POINTS = 240
BETWEEN_GAPS = 3  # points at least

# The keys under `once` are only ever read by one function of consolidateBy in a case, as what the
# oracle is given does not say by which function it was read.
KEYS = ("a.x.one", "a.x.two", "a.y.one", "a.y.two10", "a.y.two9", "b.z", "b.lonely", "b.counter")
PATHS = (
    "a.*.*",
    "a.x.*",
    "a.{x,y}.one",
    "a.*.two*",
    "b.*",
    "b.[a-l]*",
    "a.x.one",
    "b.counter",
    "c",
)
SLOW_KEYS = ("slow.a", "slow.b")  # a third as many points


class Case(NamedTuple):
    """A target and the request that it comes in."""

    target: str
    start: int
    until: int
    max_data_points: int


def series(chance: random.Random) -> Dict[str, List[Tuple[int, float]]]:
    """Points of all keys: walks, counters that begin anew, with gaps, nan and infinity.

    There are some points between two gaps, or else a short range might have more of these than
    points that follow each other, and so another step.
    """
    columns = {}
    for key in [*KEYS, *SLOW_KEYS, *(f"once.{key}" for key in KEYS[:3])]:
        step = 3 * STEP if key in SLOW_KEYS else STEP
        points = []
        value = chance.uniform(-50, 50)
        left_out = 0  # the last place of a gap
        for place in range(POINTS * STEP // step):
            value += chance.uniform(0, 9) if "counter" in key else chance.uniform(-9, 9)
            if "counter" in key and chance.random() < 0.02:
                value = 0.0
            strange = chance.choice([float("nan"), float("inf"), 0.0, 1e4, round(value)])
            gap = chance.random() < (0.25 if "lonely" in key else 0.1)
            followed = place - left_out > BETWEEN_GAPS
            if gap and followed:
                left_out = place
            else:
                one = strange if chance.random() < 0.04 else round(value, 2)
                points.append((FIRST + place * step, one))
        columns[key] = points
    return columns


def store_of(columns: Dict[str, List[Tuple[int, float]]]) -> Memory:
    """A store with these points."""
    store = Memory()
    for key, points in columns.items():
        for timestamp, value in points:
            store.put(key, value, timestamp)
    return store


def case(chance: random.Random) -> Case:
    """A target, and a range of the second half of the points, so that there are some before it."""
    slow = chance.random() < 0.15
    grid = 60 * STEP if slow else 1  # different steps begin together only at a common multiple
    start = FIRST + chance.randrange(90 * STEP, 150 * STEP) // grid * grid
    until = start + chance.randrange(20 * STEP, 90 * STEP)
    paths = (*PATHS, *SLOW_KEYS, "slow.*") if slow else PATHS
    target = Drawer(chance, paths, mixed=slow).target(chance.randrange(1, 5))
    return Case(target, start, until, chance.choice([5, 17, 50, 50, 400]))


class Drawer:
    """Draws targets on some paths; with ``mixed`` steps, only functions that do not combine many.

    Names that are no paths any more, other steps and constant lines are only drawn on the outside:
    within other functions they are where metricsd differs.
    """

    def __init__(self, chance: random.Random, paths: Tuple[str, ...], mixed: bool) -> None:
        self._chance = chance
        self._paths = paths
        self._mixed = mixed

    def target(self, depth: int) -> str:
        """A target with so many calls within each other, or some more."""
        chance = self._chance
        if chance.random() < 0.03:
            return self._by_value(f"constantLine({self._number()})")
        target = self._inner(depth)
        if chance.random() < 0.2 and not self._mixed:
            target = self._summarized(target)
        for _ in range(chance.choice([0, 1, 1, 2])):
            target = self._outer(target)
        return target

    def _number(self) -> str:
        return self._chance.choice(["2", "-1.5", "0.25", "10", "1e3", "100"])

    def _inner(self, depth: int) -> str:
        chance = self._chance
        if depth == 0:
            return chance.choice(self._paths)
        if chance.random() < 0.06 and not self._mixed:
            once = Drawer(chance, ("once.*.*.*", "once.a.x.*", "once.a.x.one"), False)
            function = chance.choice(["sum", "average", "min", "max", "first", "last", "avg"])
            return f'consolidateBy({once._passed_on(depth - 1)}, "{function}")'
        inner = self._inner(depth - 1)
        draws = [self._by_value, self._of_list]
        if not self._mixed:
            draws += [self._in_time, lambda inner: self._combined(inner, depth)]
        return chance.choice(draws)(inner)

    def _passed_on(self, depth: int) -> str:
        """A target within consolidateBy: with functions that pass it on."""
        if depth == 0:
            return self._chance.choice(self._paths)
        inner = self._passed_on(depth - 1)
        return self._chance.choice(
            [f"scale({inner}, 3)", f"sumSeries({inner})", f"absolute({inner})", inner]
        )

    def _by_value(self, inner: str) -> str:
        chance = self._chance
        wraps = chance.choice(["", ", 300", ", 300, 5"])
        return chance.choice([
            f"scale({inner}, {self._number()})",
            f"offset({inner}, {self._number()})",
            f"absolute({inner})",
            f"perSecond({inner})",
            f"perSecond(transformNull({inner}){wraps})",
            f"derivative({inner})",
            f"nonNegativeDerivative({inner})",
            f"nonNegativeDerivative(transformNull({inner}, 7){wraps})",
            f"integral({inner})",
            f"keepLastValue({inner}{chance.choice(['', ', 1', ', 3', ', inf'])})",
            f"transformNull({inner}{chance.choice(['', ', -1', ', 5.5'])})",
            f"removeBelowValue({inner}, {self._number()})",
        ])  # fmt: skip

    def _of_list(self, inner: str) -> str:
        chance = self._chance
        pattern = chance.choice(["one", "two$", "^a", "[0-9]", r"\.(x|z)"])
        flags = chance.choice(["", ", true", ", true, true", ", reverse=true"])
        return chance.choice([
            f"sortByMaxima({inner})",
            f"sortByName({inner}{flags})",
            f"highestAverage({inner}, {chance.choice('123')})",
            f"limit({inner}, {chance.choice('123')})",
            f'exclude({inner}, "{pattern}")',
            f'grep({inner}, "{pattern}")',
            f"{chance.choice(['sum', 'average', 'max', 'min', 'diff', 'count'])}Series({inner})",
        ])  # fmt: skip

    def _combined(self, inner: str, depth: int) -> str:
        chance = self._chance
        # What a function has named may have no second node; without it the name would be no path.
        second = "1" if inner in self._paths else "-1"
        node = chance.choice(["0", second, "-1", '"name"'])
        fold = chance.choice(
            ["sum", "average", "avg", "min", "max", "median", "diff", "stddev", "count", "range",
             "multiply", "last", "avg_zero", "total", "current", "rangeOf"]
        )  # fmt: skip
        other = self._inner(chance.randrange(depth))
        one = chance.choice(["b.counter", "a.x.one", "sumSeries(a.*.*)", "c"])
        many = chance.choice(["sum", "average", "max", "min", "diff", "count"])
        return chance.choice([
            f"{many}Series({inner}, {other})",
            f"divideSeries({inner}, {one})",
            f"asPercent({inner})",
            f"asPercent({inner}, {chance.choice(['100', '12.5', one])})",
            f"asPercent({inner}, {chance.choice(['None', other])}, {node})",
            f"asPercent({inner}, {inner})",
            f"transformNull({inner}, 0, {inner})",
            f'groupByNode({inner}, {node}, "{fold}")',
            f'groupByNode({inner}, {node}, "{many}Series")',
            f'groupByNodes({inner}, "{fold}", {chance.choice([second, "-1"])}, 0)',
        ])  # fmt: skip

    def _in_time(self, inner: str) -> str:
        chance = self._chance
        return chance.choice([
            f"movingAverage({inner}, {chance.choice(['1', '2', '5', '12', '20'])})",
            f"movingAverage({inner}, 5, 0.5)",
            f'timeShift({inner}, "{chance.choice(["1min", "-100s", "+1min", "5min"])}")',
        ])  # fmt: skip

    def _summarized(self, inner: str) -> str:
        chance = self._chance
        interval = chance.choice(["1min", "30s", "2min", "100s", "5min"])
        fold = chance.choice(["sum", "avg", "last", "max", "count", "stddev"])
        rest = chance.choice(["", f', "{fold}"', f', "{fold}", true', ', "sum", alignToFrom=true'])
        return f'summarize({inner}, "{interval}"{rest})'

    def _outer(self, inner: str) -> str:
        chance = self._chance
        if chance.random() < 0.4:
            return self._by_value(inner)
        return chance.choice([
            f'alias({inner}, "x y, (z)")',
            rf'aliasSub({inner}, "(^.*$)", "\1 A")',
            rf'aliasSub({inner}, "^.*(one|two)", "<\1>")',
            f"aliasByNode({inner}, {chance.choice(['0', '-1', '7', '2'])}, {chance.choice('012')})",
            f"aliasByMetric({inner})",
            f"{inner} | limit({chance.choice('123')})",
        ])  # fmt: skip
