"""Fetching: what a path means in a range, as time series with few enough values.

Owns the step: the smallest multiple of a series' own interval, the median gap between its points,
that leaves no more values than are wanted. Narrower steps would leave gaps between the values, in
which no derivative is known. Buckets begin at multiples of the step, so that what they hold does
not depend on when they are looked at; the first and the last are whole.
"""

from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from metricsd.graphite.globs import matching
from metricsd.graphite.limits import MAX_SERIES_VALUES, RenderError
from metricsd.graphite.timeseries import TimeSeries, Work
from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP, Answer, Series, Store, buckets

Points = Tuple[Sequence[int], Sequence[float]]  # timestamps and values

# A step of reading counts as the work for so many values, at least; it takes some 20 us.
BLOCK_WORK = 200


class Request(NamedTuple):
    """What is the same for all targets of a request."""

    store: Store
    start: int  # epoch seconds
    until: int
    max_data_points: int
    steps: Dict[str, int]  # of the keys that have been seen
    now: float

    @property
    def least_step(self) -> int:
        """The shortest step that leaves few enough values."""
        return max(-(-(self.until - self.start) // self.max_data_points), 1)


def fetch(
    request: Request, pattern: str, start: int, until: int, fold: str
) -> Work[List[TimeSeries]]:
    """The series that a pattern means, by name, in buckets."""
    keys: List[str] = []
    search = matching(request.store, pattern)
    while True:
        try:
            step = next(search)
        except StopIteration as end:
            keys = end.value
            break
        yield BLOCK_WORK if step is None else step
    yield from _find_steps(request, keys)
    found = []
    for key in keys:
        series = request.store.find(key)
        if series is not None:  # it may have gone meanwhile
            found.append((yield from _fetch_one(request, key, series, start, until, fold)))
            found[-1] = found[-1]._replace(path=pattern)
    return found


def _find_steps(request: Request, keys: List[str]) -> Work[None]:
    """Find out the steps of these keys. Who has no interval takes the shortest step of the others.

    What has been found is kept, so that a window reads with the same step as its range.
    """
    unknown = []
    for key in keys:
        if key in request.steps:
            continue
        series = request.store.find(key)
        interval = None if series is None else (yield from _interval(series, request))
        if interval is None:
            unknown.append(key)
        else:
            request.steps[key] = -(-request.least_step // interval) * interval
    known = [request.steps[key] for key in keys if key in request.steps]
    for key in unknown:
        request.steps[key] = min(known) if known else request.least_step


def _interval(series: Series, request: Request) -> Work[Optional[int]]:
    """The median gap between points in the range, or else between the newest ones."""
    found: Dict[int, int] = {}
    for start, until in (
        (request.start, request.until),
        (MIN_TIMESTAMP, MAX_TIMESTAMP),
    ):
        if found:
            break
        for some in buckets.gaps(series, start, until):
            if isinstance(some, Answer):
                yield some
                continue
            for gap, number in some.items():
                found[gap] = found.get(gap, 0) + number
            yield BLOCK_WORK
    middle = sum(found.values()) / 2
    for gap in sorted(found):
        middle -= found[gap]
        if middle <= 0:
            return gap
    return None


def _fetch_one(
    request: Request, key: str, series: Series, start: int, until: int, fold: str
) -> Work[TimeSeries]:
    """One series in buckets, from that of ``start`` to that of ``until``."""
    step = request.steps[key]
    first = start // step * step
    end = until // step * step + step
    count = (end - first) // step
    if count > MAX_SERIES_VALUES:
        raise RenderError(
            f"a window or a shift makes {count} values of one series, more than {MAX_SERIES_VALUES}"
        )
    made = buckets.Buckets(first, step, count, FOLD_OF.get(fold, fold))
    yield from buckets.read(series, made)
    yield count
    return TimeSeries(key, key, first, end, step, made.values(), "average", tags_of(key))


# Points that are not there are not known of, so there are no zeros to take for them.
FOLD_OF = {"avg": "average", "avg_zero": "average"}


def tags_of(key: str) -> Dict[str, str]:
    """The tags in a key ``name;tag=value``, and its name."""
    name, *tags = key.split(";")
    found = {"name": name}
    for tag in tags:
        before, equals, value = tag.partition("=")
        if not (before and equals):
            return {"name": key}
        found[before] = value
    return found
