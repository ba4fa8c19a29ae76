"""Evaluation: a target, as it was parsed, becomes series.

Owns the order in which that is done, and the bounds of a request. Does not know what functions do.
"""

from typing import Any, Dict, List, NamedTuple, Tuple

from metricsd.graphite.fetch import Request, fetch
from metricsd.graphite.globs import Slices
from metricsd.graphite.limits import (
    MAX_NAMES_CHARS,
    MAX_VALUES,
    VALUES_A_STEP,
    RenderError,
)
from metricsd.graphite.parameters import bind
from metricsd.graphite.table import FUNCTIONS, inner_fold
from metricsd.graphite.targets import Call, Path
from metricsd.graphite.timeseries import TimeSeries, Work
from metricsd.store import Answer

# What has been evaluated, by what it was and in which range.
Memory = Dict[Tuple[int, int, int, str], List[TimeSeries]]


class Scope(NamedTuple):
    """Where an expression is evaluated: in which range, and how points become values."""

    request: Request
    start: int  # epoch seconds
    until: int
    fold: str
    memory: Memory
    argument: Any = None  # the first one of the call, not evaluated

    def again(self, start: int, until: int) -> Work[List[TimeSeries]]:
        """Evaluate the first argument of the call in another range."""
        yield 1
        return (yield from evaluate(self._replace(start=start, until=until), self.argument))


def evaluate(scope: Scope, expression: Any) -> Work[List[TimeSeries]]:
    """The series that a Path or a Call means. Raises RenderError.

    Windows evaluate what they are of again, from before the range, so windows within windows would
    double the work with each; so what has been evaluated in a request is kept until its end.
    """
    key = (id(expression), scope.start, scope.until, scope.fold)
    if key not in scope.memory:
        if isinstance(expression, Path):
            found = yield from fetch(
                scope.request, expression.pattern, scope.start, scope.until, scope.fold
            )
        else:
            found = yield from _call(scope, expression)
        yield _names(found)
        scope.memory[key] = found
    return scope.memory[key]


def _names(found: List[TimeSeries]) -> int:
    """The work that the names are, as MAX_NAMES_CHARS has it."""
    return sum(len(one.name) for one in found) // (MAX_NAMES_CHARS // MAX_VALUES)


def _call(scope: Scope, call: Call) -> Work[List[TimeSeries]]:
    function = FUNCTIONS.get(call.function)
    if function is None:
        raise RenderError(f"there is no function {call.function[:100]}")
    values = [*call.arguments, *(value for _, value in call.keywords)]
    inner = scope._replace(fold=inner_fold(call.function, function, values, scope.fold))
    arguments = []
    for argument in call.arguments:
        arguments.append((yield from _argument(inner, argument)))
    keywords = {}
    for name, argument in call.keywords:
        keywords[name] = yield from _argument(inner, argument)
    bound = bind(call.function, function.parameters, arguments, keywords)
    first = call.arguments[0] if call.arguments else None
    try:
        computed = function.compute(inner._replace(argument=first), *bound)
        return list((yield from computed))
    except OverflowError:
        raise RenderError(f"{call.function}: a number is too large") from None


def _argument(scope: Scope, argument: Any) -> Work[Any]:
    if isinstance(argument, (Path, Call)):
        return (yield from evaluate(scope, argument))
    return argument


def bounded(work: Work[Any], budget: "Budget") -> Slices[Any]:
    """Do work, with a pause after each step. Raises RenderError when the budget is spent."""
    since = 0
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            return end.value
        if isinstance(done, Answer):
            yield done
            continue
        budget.spend(done)
        since += done
        if since >= VALUES_A_STEP:
            since = 0
            yield None


class Budget:
    """The work that a request may still cause."""

    def __init__(self, values: int = MAX_VALUES) -> None:
        self._left = values

    def spend(self, values: int) -> None:
        """Take off so many. Raises RenderError if there are not so many."""
        self._left -= values
        if self._left < 0:
            raise RenderError(
                f"more than {MAX_VALUES} values would have to be computed: ask for fewer series, "
                "or a shorter range"
            )
