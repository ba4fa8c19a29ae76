"""Functions that make one series of many, or one of two.

Owns what they compute; each takes the scope of its call and lists of series, and yields its work.
"""

from itertools import zip_longest
from math import sqrt
from typing import Any, Callable, Dict, List, Optional, Tuple

from metricsd.graphite.labels import key_of
from metricsd.graphite.limits import VALUES_A_STEP, RenderError
from metricsd.graphite.timeseries import NAN, TimeSeries, Work, brought_together, made, present

Row = Callable[[List[float]], float]


def _median(values: List[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _product(values: List[float]) -> float:
    product = 1.0
    for value in values:
        product *= value
    return product


def _deviation(values: List[float]) -> float:
    average = sum(values) / len(values)
    return sqrt(sum((value - average) * (value - average) for value in values) / len(values))


# What becomes of the values that are there at one time, at least one.
ROWS: Dict[str, Row] = {
    "average": lambda row: sum(row) / len(row),
    "sum": sum,
    "min": min,
    "max": max,
    "median": _median,
    "diff": lambda row: row[0] + sum(-value for value in row[1:]),
    "stddev": _deviation,
    "count": len,
    "range": lambda row: max(row) - min(row),
    "last": lambda row: row[-1],
}
# These see also how many are missing.
WHOLE_ROWS: Dict[str, Row] = {
    "avg_zero": lambda row: sum(present(row)) / len(row),
    "multiply": lambda row: _product(row),
}
ALIASES = {"rangeOf": "range", "avg": "average", "total": "sum", "current": "last"}
AGGREGATES: Tuple[str, ...] = (*ROWS, *WHOLE_ROWS, *ALIASES)


def row_function(name: str) -> Row:
    """How a row of values becomes one, nan if none is there. Raises RenderError."""
    name = ALIASES.get(name, name)
    if name in WHOLE_ROWS:
        whole = WHOLE_ROWS[name]
        return lambda row: whole(row) if present(row) else NAN
    if name not in ROWS:
        raise RenderError(f"there is no aggregation {name[:100]}")
    fold = ROWS[name]

    def of_present(row: List[float]) -> float:
        there = present(row)
        return fold(there) if there else NAN

    return of_present


def paths(series: List[TimeSeries]) -> str:
    """What series came from, each once."""
    return ",".join(dict.fromkeys(one.path for one in series))


def rows(series: List[TimeSeries], function: Callable[[List[float]], float]) -> Work[List[float]]:
    """A value for each row of series with one start and one step, some rows at a time."""
    values: List[float] = []
    length = max(len(one.values) for one in series)
    at_once = max(VALUES_A_STEP // len(series), 1)
    for first in range(0, length, at_once):
        columns = [one.values[first : first + at_once] for one in series]
        values += [function(list(row)) for row in zip_longest(*columns, fillvalue=NAN)]
        yield at_once * len(series)
    return values


def aggregate(series: List[TimeSeries], name: str) -> Work[List[TimeSeries]]:
    """One series of all: ``nameSeries(...)``; of none, none."""
    if name.endswith("Series"):
        name = name[: -len("Series")]
    function = row_function(name)
    if not series:
        return []
    together, start, end, step = yield from brought_together(series)
    values = yield from rows(together, function)
    result = made(f"{name}Series({paths(series)})", start, end, step, values)
    tags = set(series[0].tags.items()).intersection(*(one.tags.items() for one in series))
    return [result._replace(tags=dict([("name", result.name), *tags, ("aggregatedBy", name)]))]


def of_all(name: str) -> Callable[..., Work[List[TimeSeries]]]:
    """The function that aggregates all of its lists."""

    def function(scope: Any, *lists: List[TimeSeries]) -> Work[List[TimeSeries]]:
        return (yield from aggregate([one for series in lists for one in series], name))

    function.__doc__ = f"One series of all: {name} at each time, of the values that are there."
    return function


def count_series(scope: Any, *lists: List[TimeSeries]) -> Work[List[TimeSeries]]:
    """How many series there are, at each time, whether or not they have a value then."""
    series = [one for some in lists for one in some]
    if not lists:
        return [constant(scope, 0)]
    if not series:
        return []
    together, start, end, step = yield from brought_together(series)
    length = max(len(one.values) for one in together)
    return [made(f"countSeries({paths(series)})", start, end, step, [float(len(series))] * length)]


def constant(scope: Any, value: float) -> TimeSeries:
    """A value at the beginning, in the middle and at the end of the range."""
    step = (scope.until - scope.start) // 2
    name = str(value)
    one = made(name, scope.start, scope.until, step, [float(value)] * 3)
    return one._replace(path=f"constantLine({name})")


def group_by_node(
    scope: Any, series: List[TimeSeries], node: Any, callback: str
) -> Work[List[TimeSeries]]:
    """One series for each name at a place of the dotted path, by an aggregation of its series."""
    return (yield from _group(series, callback, (node,)))


def group_by_nodes(
    scope: Any, series: List[TimeSeries], callback: str, *nodes: Any
) -> Work[List[TimeSeries]]:
    """One series for each combination of names at places of the dotted path."""
    return (yield from _group(series, callback, nodes))


def _group(
    series: List[TimeSeries], callback: str, nodes: Tuple[Any, ...]
) -> Work[List[TimeSeries]]:
    callback = {"avg": "average"}.get(callback, callback)
    results = []
    for key, some in _by_key(series, nodes).items():
        if callback == "countSeries":
            results += [one.called(key) for one in (yield from count_series(None, some))]
        else:
            results += [one.called(key) for one in (yield from aggregate(some, callback))]
    return results


def _by_key(series: List[TimeSeries], nodes: Tuple[Any, ...]) -> Dict[str, List[TimeSeries]]:
    groups: Dict[str, List[TimeSeries]] = {}
    for one in series:
        groups.setdefault(key_of(one, nodes), []).append(one)
    return groups


def _quotient(value: float, divisor: float) -> float:
    """As IEEE 754 has it, but nothing for a division by zero."""
    return value / divisor if divisor else NAN


def _pair(
    first: TimeSeries, second: TimeSeries, name: str, combine: Callable[[float, float], float]
) -> Work[TimeSeries]:
    together, start, end, step = yield from brought_together([first, second])
    columns = zip_longest(*(one.values for one in together), fillvalue=NAN)
    values = [combine(*row) for row in columns]
    yield 2 * len(values)
    return made(name, start, end, step, values)


def divide_series(
    scope: Any, dividends: List[TimeSeries], divisors: List[TimeSeries]
) -> Work[List[TimeSeries]]:
    """Each series of the first list divided by the only one of the second."""
    if len(divisors) > 1:
        raise RenderError(f"divideSeries divides by one series, not by {len(divisors)}")
    results = []
    for one in dividends:
        if not divisors:
            missing = one._replace(values=[NAN] * len(one.values))
            results.append(missing.named(f"divideSeries({one.name},MISSING)"))
            yield len(one.values)
        else:
            name = f"divideSeries({one.name},{divisors[0].name})"
            results.append((yield from _pair(one, divisors[0], name, _quotient)))
    return results


def _percent(value: float, total: float) -> float:
    return _quotient(value, total) * 100.0


def as_percent(
    scope: Any, series: List[TimeSeries], total: Any, *nodes: Any
) -> Work[List[TimeSeries]]:
    """Each series as a share of a total: of all, of a number, of others, or by groups."""
    if not series:
        return []
    if nodes:
        return (yield from _percent_by_nodes(series, total, nodes))
    if total is None:
        total = yield from aggregate(series, "sum")
        total = [total[0].called(f"sumSeries({paths(series)})")]
    elif not isinstance(total, list):
        return (yield from _percent_of_number(series, total))
    if len(total) == len(series) != 1:
        pairs = list(zip(*(sorted(some, key=lambda one: one.name) for some in (series, total))))
    elif len(total) == 1:
        pairs = [(one, total[0]) for one in series]
    else:
        raise RenderError("asPercent takes as total a number, one series, or as many as the first")
    return (yield from _percents(pairs))


def _percent_of_number(series: List[TimeSeries], total: float) -> Work[List[TimeSeries]]:
    results = []
    for one in series:
        values = [_percent(value, total) for value in one.values]
        name = f"asPercent({one.name},{total})"
        results.append(made(name, one.start, one.end, one.step, values))
        yield len(values)
    return results


def _percents(pairs: List[Tuple[Any, ...]]) -> Work[List[TimeSeries]]:
    results = []
    for one, total in pairs:
        results.append((yield from _percent_of(one, total)))
    return results


def _percent_of(one: Optional[TimeSeries], total: Optional[TimeSeries]) -> Work[TimeSeries]:
    """A share; of nothing, or of something that is missing, all is missing."""
    name = f"asPercent({one.name if one else 'MISSING'},{total.name if total else 'MISSING'})"
    if one and total:
        return (yield from _pair(one, total, name, _percent))
    there = one or total
    assert there is not None
    yield len(there.values)
    return made(name, there.start, there.end, there.step, [NAN] * len(there.values))


def _percent_by_nodes(
    series: List[TimeSeries], total: Any, nodes: Tuple[Any, ...]
) -> Work[List[TimeSeries]]:
    if not (total is None or isinstance(total, list)):
        raise RenderError("asPercent with nodes takes as total a list of series, or none")
    groups = _by_key(series, nodes)
    totals: Dict[str, TimeSeries] = {}
    for key, some in (groups if total is None else _by_key(total, nodes)).items():
        summed = some if len(some) == 1 else (yield from aggregate(some, "sum"))
        totals[key] = summed[0]
    pairs: List[Tuple[Any, ...]] = []
    for key in dict.fromkeys([*groups, *totals]):
        alone: List[Optional[TimeSeries]] = [None]
        ones = groups.get(key) or alone
        pairs += [(one, totals.get(key)) for one in ones]
    return (yield from _percents(pairs))
