"""Functions of the values of each series by itself.

Owns what they compute. Each is written for one series; ``each`` makes it a function of a list.
"""

from typing import Any, Callable, List, Tuple

from metricsd.graphite.limits import RenderError
from metricsd.graphite.timeseries import FOLDS, NAN, TimeSeries, Work

OneByOne = Callable[..., TimeSeries]


def each(function: OneByOne) -> Callable[..., Work[List[TimeSeries]]]:
    """A function of one series as one of a list, with a series a step."""

    def of_list(scope: Any, series: List[TimeSeries], *rest: Any) -> Work[List[TimeSeries]]:
        results = []
        for one in series:
            results.append(function(one, *rest))
            yield len(one.values)
        return results

    of_list.__doc__ = function.__doc__
    return of_list


@each
def scale(one: TimeSeries, factor: float) -> TimeSeries:
    """Multiply by a number."""
    values = [value * factor for value in one.values]
    return one._replace(values=values).named(f"scale({one.name},{factor:g})", scale=factor)


@each
def offset(one: TimeSeries, factor: float) -> TimeSeries:
    """Add a number."""
    values = [value + factor for value in one.values]
    return one._replace(values=values).named(f"offset({one.name},{factor:g})", offset=factor)


@each
def absolute(one: TimeSeries) -> TimeSeries:
    """Take off the sign."""
    return one._replace(values=list(map(abs, one.values))).named(
        f"absolute({one.name})", absolute=1
    )


def _derived(one: TimeSeries, function: str, values: List[float]) -> TimeSeries:
    """A new series; an aggregate is named after the path of the old one."""
    name = f"{function}({one.name})"
    return one._replace(values=values, path=name, tags=one.with_tags(**{function: 1})).called(name)


@each
def derivative(one: TimeSeries) -> TimeSeries:
    """What is added from one value to the next."""
    values = [after - before for before, after in zip(one.values, one.values[1:])]
    return _derived(one, "derivative", [NAN][: len(one.values)] + values)


@each
def non_negative_derivative(one: TimeSeries, most: float, least: float) -> TimeSeries:
    """What is added from one value to the next of a counter, which may begin anew."""
    return _derived(one, "nonNegativeDerivative", _increases(one.values, most, least))


@each
def per_second(one: TimeSeries, most: float, least: float) -> TimeSeries:
    """What is added a second from one value to the next of a counter, which may begin anew."""
    values = [round(value / one.step, 6) for value in _increases(one.values, most, least)]
    return _derived(one, "perSecond", values)


def _increases(values: List[float], most: Any, least: Any) -> List[float]:
    """By how much a counter grows; ``most`` and ``least`` are where it wraps, if that is known."""
    increases = []
    before = NAN
    for value in values:
        if (most is not None and value > most) or (least is not None and value < least):
            increase = value = NAN
        elif value != value or before != before:
            increase = NAN
        elif value >= before:
            increase = value - before
        elif most is not None:
            increase = most + 1 + value - before - (least or 0)
        else:
            increase = NAN if least is None else value - least
        increases.append(increase)
        before = value
    return increases


@each
def integral(one: TimeSeries) -> TimeSeries:
    """The sum of all values so far."""
    values = []
    total = 0.0
    for value in one.values:
        if value == value:
            total += value
        values.append(total if value == value else NAN)
    return _derived(one, "integral", values)


@each
def keep_last_value(one: TimeSeries, limit: float) -> TimeSeries:
    """Fill gaps of at most so many values with the one before them."""
    values = list(one.values)
    last, missing = NAN, 0
    for place, value in enumerate([*values, 0.0]):  # the end ends a gap, too
        if value != value:
            missing += 1
            continue
        if 0 < missing <= limit:
            values[place - missing : place] = [last] * missing
        last, missing = value, 0
    return one._replace(values=values).named(f"keepLastValue({one.name})")


@each
def remove_below_value(one: TimeSeries, n: float) -> TimeSeries:
    """Leave out the values below a number."""
    values = [value if value >= n else NAN for value in one.values]
    return one._replace(values=values).named(f"removeBelowValue({one.name}, {n:g})")


def transform_null(
    scope: Any, series: List[TimeSeries], default: float, reference: Any
) -> Work[List[TimeSeries]]:
    """Put a number where a value is missing; with others given, only when one of them has one."""
    wanted: List[bool] = []
    if reference:
        wanted = [False] * max(len(one.values) for one in reference)
        for one in reference:
            for place, value in enumerate(one.values):
                wanted[place] |= value == value
            yield len(one.values)
    results = []
    for one in series:
        results.append(_filled(one, default, wanted))
        yield len(one.values)
    return results


def _filled(one: TimeSeries, default: float, wanted: List[bool]) -> TimeSeries:
    number = float(default)
    if not wanted:
        values = [value if value == value else number for value in one.values]
        return one._replace(values=values).named(
            f"transformNull({one.name},{default:g})", transformNull=default
        )
    short = len(one.values) - len(wanted)
    pairs = zip(one.values + [NAN] * -short, wanted + [False] * short)
    values = [number if want and value != value else value for value, want in pairs]
    tags = {"transformNull": default, "referenceSeries": 1}
    return one._replace(values=values).named(
        f"transformNull({one.name},{default:g},referenceSeries)", **tags
    )


@each
def consolidate_by(one: TimeSeries, function: str) -> TimeSeries:
    """Make one value of many by this function, as points are read and later on."""
    named = one.named(f'consolidateBy({one.name},"{function}")', consolidateBy=function)
    return named._replace(consolidation=function)


CONSOLIDATIONS: Tuple[str, ...] = tuple(FOLDS)


def constant_line(scope: Any, value: float) -> Work[List[TimeSeries]]:
    """A straight line."""
    from metricsd.graphite.combine import constant

    yield 1
    if float(value) != float(value):
        raise RenderError("constantLine takes a number")
    return [constant(scope, value)]
