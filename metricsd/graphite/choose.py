"""Functions that put series in an order, or choose some of them.

Owns which and in which order; the series stay as they are.
"""

import re
from math import inf
from typing import Any, Callable, List

from metricsd.graphite.combine import row_function
from metricsd.graphite.timeseries import TimeSeries, Work

DIGITS = re.compile(r"(\d+)")


def sort_by_maxima(scope: Any, series: List[TimeSeries]) -> Work[List[TimeSeries]]:
    """The series with the largest value first."""
    return (yield from _descending(series, row_function("max")))


def highest_average(scope: Any, series: List[TimeSeries], n: int) -> Work[List[TimeSeries]]:
    """The so many series whose averages are the highest."""
    return (yield from _descending(series, row_function("average")))[:n]


def _descending(
    series: List[TimeSeries], function: Callable[[List[float]], float]
) -> Work[List[TimeSeries]]:
    keys = []
    for one in series:
        value = function(one.values)
        keys.append(value if value == value else -inf)
        yield len(one.values)
    order = sorted(range(len(series)), key=keys.__getitem__, reverse=True)
    return [series[place] for place in order]


def sort_by_name(
    scope: Any, series: List[TimeSeries], natural: bool, reverse: bool
) -> Work[List[TimeSeries]]:
    """The series by their names; naturally, 2 comes before 10."""

    def natural_key(one: TimeSeries) -> str:
        return DIGITS.sub(lambda digits: digits.group().lstrip("0").zfill(10), one.name)

    yield 5 * len(series)
    return sorted(series, key=natural_key if natural else lambda one: one.name, reverse=reverse)


def limit(scope: Any, series: List[TimeSeries], n: int) -> Work[List[TimeSeries]]:
    """The first so many series."""
    yield 1
    return series[:n]
