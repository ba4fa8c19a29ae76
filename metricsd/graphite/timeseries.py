"""Time series: what functions take and give, values at equal steps.

Owns what one is, and how several are brought to the same steps. A value that is missing is nan
here, as that passes through arithmetic by itself; it becomes None when the answer is made.
"""

from math import gcd
from typing import Callable, Dict, Generator, List, NamedTuple, Sequence, Tuple, TypeVar, Union

from metricsd.graphite.limits import MAX_NAME_CHARS, RenderError
from metricsd.store import Answer

Result = TypeVar("Result")

# Work that yields how much it has done since it was last asked, in values, and what has to be
# waited for.
Work = Generator[Union[int, Answer], None, Result]

NAN = float("nan")

# Series with steps of 59 and 61 s have 3,599 s in common, which helps nobody: if it takes more than
# so many of the longest step, the longest is taken instead.
MAX_COMMON_STEPS = 10


class TimeSeries(NamedTuple):
    """Value i belongs to the time from ``start + i * step`` on; ``end`` is exclusive."""

    name: str
    path: str  # what an aggregate over it is named after
    start: int  # epoch seconds
    end: int
    step: int  # seconds
    values: List[float]
    consolidation: str  # how values become one of a longer step; a key of FOLDS
    tags: Dict[str, str]

    def named(self, name: str, **tags: object) -> "TimeSeries":
        """The same with another name, which aggregates take over, and some more tags."""
        return self._replace(name=checked(name), path=name, tags=self.with_tags(**tags))

    def called(self, name: str) -> "TimeSeries":
        """The same with another name that is for show only."""
        return self._replace(name=checked(name))

    def with_tags(self, **tags: object) -> Dict[str, str]:
        """Its tags, and some more."""
        return dict(self.tags, **{name: str(value) for name, value in tags.items()})


def checked(name: str) -> str:
    """A name, if it is not longer than is allowed. Raises RenderError."""
    if len(name) > MAX_NAME_CHARS:
        raise RenderError(f"a name is longer than {MAX_NAME_CHARS} characters")
    return name


def made(name: str, start: int, end: int, step: int, values: List[float]) -> TimeSeries:
    """A series that a function makes of others."""
    return TimeSeries(checked(name), name, start, end, step, values, "average", {"name": name})


def present(values: Sequence[float]) -> List[float]:
    """The values that are there."""
    return [value for value in values if value == value]


# How the values that are there, at least one, become one.
FOLDS: Dict[str, Callable[[List[float]], float]] = {
    "average": lambda values: sum(values) / len(values),
    "sum": sum,
    "min": min,
    "max": max,
    "first": lambda values: values[0],
    "last": lambda values: values[-1],
}
FOLDS["avg"] = FOLDS["avg_zero"] = FOLDS["average"]


def common_step(steps: Sequence[int]) -> int:
    """The least common multiple, unless that is out of all proportion."""
    multiple = 1
    for step in steps:
        multiple = multiple // gcd(multiple, step) * step
        if multiple > MAX_COMMON_STEPS * max(steps):
            return max(steps)
    return multiple


def brought_together(series: List[TimeSeries]) -> Work[Tuple[List[TimeSeries], int, int, int]]:
    """The series with one start and one step, with nan where one has no value; start, end, step."""
    step = common_step(sorted({one.step for one in series}))
    first = min(one.start for one in series)
    shift = first % step if len({one.step for one in series}) == 1 else 0
    start = (first - shift) // step * step + shift
    end = max(one.end for one in series)
    end -= (end - start) % step
    if all((one.start, one.step) == (start, step) for one in series):
        return series, start, end, step
    together = []
    for one in series:
        together.append(_moved(one, start, step))
        yield len(one.values)
    return together, start, end, step


def _moved(one: TimeSeries, start: int, step: int) -> TimeSeries:
    """A series from an earlier start and with a longer step: each value where its time is."""
    fold = FOLDS[one.consolidation]
    places = range(one.start - start, one.start - start + len(one.values) * one.step, one.step)
    buckets: Dict[int, List[float]] = {}
    for place, value in zip(places, one.values):
        if value == value:
            buckets.setdefault(place // step, []).append(value)
    length = places[-1] // step + 1 if one.values else 0
    values = [NAN] * length
    for bucket, inside in buckets.items():
        values[bucket] = fold(inside)
    return one._replace(start=start, step=step, values=values)
