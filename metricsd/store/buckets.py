"""Buckets: points of a series, read as one value for each of some equal spans of time.

Owns how points become values, and the summary of a block, so that one that lies in a bucket as a
whole is opened once only. Does not know who wants them. A value that is not finite is none.
"""

from bisect import bisect_left
from collections import Counter
from operator import sub
from struct import Struct
from typing import Callable, Dict, Generator, Iterator, List, NamedTuple, Sequence, Tuple, Union

from metricsd.store.answer import Answer
from metricsd.store.columns import Points
from metricsd.store.series import Series

NAN = float("nan")

# A block as it is kept: the number of its finite values, and of these all that a fold may ask for.
# With what a dict takes for it, it is less than a byte a point, and only where somebody has looked
# at a time so long that a block is in a bucket as a whole.
SUMMARY = Struct("=6d")
NO_SUMMARY = SUMMARY.pack(0, 0, NAN, NAN, NAN, NAN)

# Blocks in the range whose gaps tell the interval of a series, spread evenly.
GAP_BLOCKS = 8

# The work of reading: a block that is opened, one whose summary is known; in values computed.
OPENED_WORK = 400
KNOWN_WORK = 20


def summary(values: Sequence[float]) -> bytes:
    """What SUMMARY says of values in their order."""
    if not values:
        return NO_SUMMARY
    total = sum(values)
    if total - total != 0:
        values = [value for value in values if value - value == 0]
        return summary(values) if values and sum(values) - sum(values) == 0 else NO_SUMMARY
    return SUMMARY.pack(len(values), total, min(values), max(values), values[0], values[-1])


class Known(NamedTuple):
    """Some points of a bucket that are summed up already."""

    points: float
    sum: float
    min: float
    max: float
    first: float
    last: float


# How a bucket's value grows by some points, which come after those it has. Averages and sums are
# added up here, and divided in the end.
GROW: Dict[str, Callable[[float, Known], float]] = {
    "average": lambda value, more: value + more.sum if value == value else more.sum,
    "sum": lambda value, more: value + more.sum if value == value else more.sum,
    "min": lambda value, more: value if value <= more.min else more.min,
    "max": lambda value, more: value if value >= more.max else more.max,
    "first": lambda value, more: value if value == value else more.first,
    "last": lambda value, more: more.last,
}
FOLD: Dict[str, Callable[[Sequence[float]], float]] = {
    "average": sum, "sum": sum, "min": min, "max": max,
    "first": lambda values: values[0], "last": lambda values: values[-1],
}  # fmt: skip


class Buckets:
    """So many buckets of ``step`` seconds from ``start`` on, and a fold, a key of FOLD."""

    def __init__(self, start: int, step: int, count: int, fold: str) -> None:
        self.start = start
        self.end = start + step * count  # exclusive
        self._step = step
        self._values = [NAN] * count
        self._counts = [0] * count
        self._name = fold
        self._fold = FOLD[fold]
        self._grow = GROW[fold]

    def values(self) -> List[float]:
        """The value of each bucket; nan where there is no finite point."""
        if self._name != "average":
            return self._values
        return [value / count if count else NAN for value, count in zip(self._values, self._counts)]

    def hold(self, first: int, last: int) -> bool:
        """Whether a span of time is in one bucket."""
        return (
            self.start <= first
            and last < self.end
            and (first - self.start) // self._step == (last - self.start) // self._step
        )

    def add_known(self, timestamp: int, known: bytes) -> None:
        """Add a summary of points at and after a timestamp, in one bucket."""
        more = Known(*SUMMARY.unpack(known))
        if more.points:
            self._add(int(timestamp - self.start) // self._step, more)

    def add(self, timestamps: Sequence[int], values: Sequence[float]) -> None:
        """Add points, sorted; those outside are left out."""
        place, length = bisect_left(timestamps, self.start), bisect_left(timestamps, self.end)
        total = sum(values)
        if total - total != 0:
            finite = [(one, value) for one, value in zip(timestamps, values) if value - value == 0]
            timestamps, values = [one for one, _ in finite], [value for _, value in finite]
            place, length = bisect_left(timestamps, self.start), bisect_left(timestamps, self.end)
        while place < length:
            place = self._add_first(timestamps, values, place, length)
            if isinstance(timestamps, range) and self._step % timestamps.step == 0:
                place = self._add_whole(timestamps, values, place, length)

    def _add_first(
        self, timestamps: Sequence[int], values: Sequence[float], place: int, length: int
    ) -> int:
        """Add the points from a place on that are in one bucket; return the place after them."""
        bucket = (timestamps[place] - self.start) // self._step
        end = bisect_left(timestamps, self.start + (bucket + 1) * self._step, place, length)
        inside = values[place:end]
        if self._counts[bucket]:
            self._add(bucket, Known(*SUMMARY.unpack(summary(inside))))
        else:
            self._values[bucket] = self._fold(inside)
            self._counts[bucket] = end - place
        return end

    def _add_whole(
        self, timestamps: range, values: Sequence[float], place: int, length: int
    ) -> int:
        """Add regular points, as many as fill whole buckets, of which none has others."""
        each = self._step // timestamps.step
        number = (length - place) // each
        if number:
            bucket = (timestamps[place] - self.start) // self._step
            groups = zip(*[iter(values[place : place + number * each])] * each)
            self._values[bucket : bucket + number] = map(self._fold, groups)
            self._counts[bucket : bucket + number] = [each] * number
        return place + number * each

    def _add(self, bucket: int, more: Known) -> None:
        self._values[bucket] = self._grow(self._values[bucket], more)
        self._counts[bucket] += int(more.points)


def _after(series: Series, at: int) -> Generator[Answer, None, Tuple[Points, int]]:
    """What ``series.after`` says; a store that is elsewhere has to be waited for."""
    found = series.after(at)
    if isinstance(found, Answer):
        yield found
        return found.result
    return found


def read(series: Series, buckets: Buckets) -> Iterator[Union[int, Answer]]:
    """Put the points of a series into buckets, a block at a time; yield the work of each.

    Between two steps the series may change: what is read is what is there when its time comes.
    Of one that is elsewhere, also yield what has to be waited for.
    """
    at = buckets.start - 1
    while at < min(buckets.end - 1, series.newest):
        archive = series._archive
        if archive is None or at >= archive.last:
            columns, at = yield from _after(series, at)
            buckets.add(*columns)
            yield OPENED_WORK
            continue
        index, first, last = archive.block(at + 1)
        known = archive.summary(index, summary) if buckets.hold(first, last) else None
        if known is not None and first > at:
            buckets.add_known(first, known)
            yield KNOWN_WORK
        else:
            buckets.add(*archive.points_of(index))
            yield OPENED_WORK
        at = last


def gaps(series: Series, start: int, until: int) -> Iterator[Union[Dict[int, int], Answer]]:
    """Yield how often there are which gaps between points in a range, a block at a time.

    Of a long range some blocks are looked at, spread evenly. Of a series that is elsewhere, also
    yield what has to be waited for.
    """
    at, skip = start - 1, 0
    while at < min(until, series.newest):
        archive = series._archive
        if archive is None or at >= archive.last:
            (timestamps, _), at = yield from _after(series, at)
            times: Sequence[int] = timestamps
        else:
            index, _, _ = archive.block(at + 1)
            last_index, _, _ = archive.block(min(until, archive.last))
            times = archive.timestamps_of(index)
            skip = skip or max((last_index - index) // GAP_BLOCKS, 1)
            at = max(archive.end_of(min(index + skip - 1, last_index)), at + 1)
        yield _gaps(times[bisect_left(times, start) : bisect_left(times, until + 1)])


def _gaps(times: Sequence[int]) -> Dict[int, int]:
    if isinstance(times, range):
        return {times.step: len(times) - 1} if len(times) > 1 else {}
    return Counter(map(sub, times[1:], times))
