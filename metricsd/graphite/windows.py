"""Functions that look at more than one value of a series, or at another time.

Owns which times are read for them: windows and shifts read from before the range.
"""

from typing import Any, List

from metricsd.graphite.combine import row_function
from metricsd.graphite.limits import MAX_DATA_POINTS, RenderError
from metricsd.graphite.times import parse_offset
from metricsd.graphite.timeseries import NAN, TimeSeries, Work, present


def moving_average(
    scope: Any, series: List[TimeSeries], window: Any, least_share: Any
) -> Work[List[TimeSeries]]:
    """The average of the last values, so many or those of an interval, at each time."""
    if not series:
        return []
    if isinstance(window, str):
        seconds, shown = abs(parse_offset(window)), f'"{window}"'
    else:
        seconds, shown = max(one.step for one in series) * window, str(window)
    results = []
    for one in (yield from scope.again(scope.start - seconds, scope.until)):
        points = seconds // one.step if isinstance(window, str) else window
        values = yield from _averages(one.values, max(points, 1), least_share or 0)
        before = -(-seconds // one.step)  # values that are there for the windows only
        name = f"movingAverage({one.name},{shown})"
        averaged = one._replace(
            path=name,
            start=one.start + before * one.step,
            values=values[before:],
            tags=one.with_tags(movingAverage=window),
        )
        results.append(averaged.called(name))
    return results


def _averages(values: List[float], window: int, least_share: float) -> Work[List[float]]:
    """For each value the average of the window that ends with it.

    Each window is added up anew: a sum that goes along keeps the rounding errors of large values
    that it has left behind.
    """
    averages = []
    for end in range(1, len(values) + 1):
        there = present(values[max(end - window, 0) : end])
        enough = there and len(there) / window >= least_share
        averages.append(sum(there) / len(there) if enough else NAN)
        yield 1 + window // ADDED_A_VALUE
    return averages


# Values that are looked at and added in the time that one is computed in.
ADDED_A_VALUE = 4


def time_shift(
    scope: Any, series: List[TimeSeries], shift: str, reset_end: bool, align_dst: bool
) -> Work[List[TimeSeries]]:
    """The series of another time, as if it were now."""
    if align_dst:
        raise RenderError("timeShift: alignDst is not known here")
    if shift[0].isdigit():
        shift = "-" + shift
    seconds = parse_offset(shift)
    if not series:
        return []
    results = []
    for one in (yield from scope.again(scope.start + seconds, scope.until + seconds)):
        name = f'timeShift({one.name}, "{shift}")'
        end = series[0].end if reset_end else one.end - one.start + series[0].start
        moved = one._replace(start=series[0].start, end=end, tags=one.with_tags(timeShift=shift))
        results.append(moved.called(name))
        yield 1
    return results


def summarize(
    scope: Any, series: List[TimeSeries], interval: str, function: str, align_to_from: bool
) -> Work[List[TimeSeries]]:
    """Values over longer intervals: their sum, or another aggregation."""
    seconds = parse_offset(interval)
    if seconds <= 0:
        raise RenderError(f"summarize: not an interval: {interval}")
    fold = row_function(function)
    results = []
    for one in series:
        start = one.start if align_to_from else one.start - one.start % seconds
        end = one.end if align_to_from else one.end - one.end % seconds + seconds
        count = -(-(end - start) // seconds)
        if count > MAX_DATA_POINTS:
            raise RenderError(f"summarize: {interval} is too short for the range")
        values = _summarized(one, seconds, start, count, fold)
        truth = ", true" if align_to_from else ""
        name = f'summarize({one.name}, "{interval}", "{function}"{truth})'
        tags = one.with_tags(summarize=interval, summarizeFunction=function)
        results.append(
            one._replace(
                path=name, start=start, step=seconds, values=values, tags=tags,
                end=start + count * seconds if align_to_from else end,
            ).called(name)
        )  # fmt: skip
        yield len(one.values) + len(values)
    return results


def _summarized(one: TimeSeries, seconds: int, start: int, count: int, fold: Any) -> List[float]:
    rows: List[List[float]] = [[] for _ in range(count)]
    times = range(one.start, one.end, one.step)  # one that was shifted may have a value more
    for time, value in zip(times, one.values):
        row = (time - start) // seconds
        if row < count:
            rows[row].append(value)
    return [fold(row) if present(row) else NAN for row in rows]
