"""Rendering: the targets of a request become rows of values, others having their turns between.

Owns one request from its texts to what is answered.
"""

from math import isfinite
from typing import Dict, List, NamedTuple, Optional

from metricsd.graphite.evaluate import Budget, Memory, Scope, bounded, evaluate
from metricsd.graphite.fetch import Request
from metricsd.graphite.globs import Slices
from metricsd.graphite.limits import MAX_DATA_POINTS, MAX_TARGETS, RenderError
from metricsd.graphite.targets import parse
from metricsd.graphite.timeseries import FOLDS, TimeSeries, present
from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP, Store


class Rendered(NamedTuple):
    """Value i belongs to ``start + i * step``, in epoch seconds; None is none."""

    name: str
    start: int
    end: int
    step: int
    values: List[Optional[float]]
    tags: Dict[str, str]


def render(
    store: Store,
    targets: List[str],
    start: int,
    until: int,
    max_data_points: Optional[int],
    now: float,
) -> Slices[List[Rendered]]:
    """The series that these targets mean from ``start`` to ``until``. Raises RenderError."""
    if not MIN_TIMESTAMP // 4 < start < until < MAX_TIMESTAMP // 4:
        raise RenderError("the range is empty: until has to be after from")
    if len(targets) > MAX_TARGETS:
        raise RenderError(f"there are more than {MAX_TARGETS} targets")
    wanted = MAX_DATA_POINTS if max_data_points is None else max_data_points
    wanted = min(max(wanted, 1), MAX_DATA_POINTS)
    request = Request(store, start, until, wanted, {}, now)
    budget = Budget()
    results: List[Rendered] = []
    for target in targets:
        if not target.strip():
            continue
        memory: Memory = {}
        expression = parse(target)
        yield None
        work = evaluate(Scope(request, start, until, "average", memory), expression)
        for one in (yield from bounded(work, budget)):
            results.append(_rendered(one, wanted))
            yield None
        yield from _forget(memory)
    return results


def _forget(memory: Memory) -> Slices[None]:
    """Let go of what was computed on the way, a series at a time: some million floats take long."""
    for found in memory.values():
        while found:
            found.pop()
            yield None


def _rendered(one: TimeSeries, wanted: int) -> Rendered:
    """A series with None for what is not a finite number; as one value if only one is wanted."""
    values, step = one.values, one.step
    if wanted == 1 and len(values) > 1:
        there = present(values)
        values = [FOLDS[one.consolidation](there)] if there else [float("nan")]
        step = max(one.end - one.start, 1)
    finite = [value if isfinite(value) else None for value in values]
    return Rendered(one.name, one.start, one.end, step, finite, one.tags)
