"""Parameters: what a function can be given, and how a call is matched with it.

Owns the types and what is said of a call that does not fit.
"""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from metricsd.graphite.limits import RenderError
from metricsd.graphite.times import parse_offset

SERIES = "seriesList"


class Parameter(NamedTuple):
    """One parameter; the last one of a function may stand for any number."""

    name: str
    type: str  # as Graphite names it, a key of TYPES
    required: bool = True
    default: Any = None
    multiple: bool = False
    options: Tuple[str, ...] = ()

    def described(self) -> Dict[str, Any]:
        """As Graphite's /functions describes it."""
        description: Dict[str, Any] = {"name": self.name, "type": self.type}
        if self.required:
            description["required"] = True
        if self.default is not None:
            description["default"] = self.default
        if self.multiple:
            description["multiple"] = True
        if self.options:
            description["options"] = sorted(self.options)
        return description


def _series(value: Any) -> Any:
    if not isinstance(value, list):
        raise ValueError
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _float(value: Any) -> float:
    if isinstance(value, list):
        raise ValueError
    return float(value)


def _integer(value: Any) -> int:
    if isinstance(value, float):
        raise ValueError
    return int(value)


def _integer_or_infinite(value: Any) -> Any:
    return value if value == float("inf") else _integer(value)


def _boolean(value: Any) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False, "none": False}
    return known[str(value).lower()]


def _interval(value: Any) -> str:
    parse_offset(_string(value))
    return str(value)


def _integer_or_interval(value: Any) -> Any:
    if isinstance(value, str):
        return _interval(value)
    number = int(value)
    if number <= 0:
        raise ValueError
    return number


def _node(value: Any) -> Any:
    if isinstance(value, float):
        return int(value)
    return value if isinstance(value, int) else _string(value)


def _anything(value: Any) -> Any:
    return value if isinstance(value, (list, int)) or value is None else _float(value)


TYPES: Dict[str, Callable[[Any], Any]] = {
    SERIES: _series, "string": _string, "float": _float, "integer": _integer,
    "intOrInf": _integer_or_infinite, "boolean": _boolean, "interval": _interval,
    "intOrInterval": _integer_or_interval, "nodeOrTag": _node, "any": _anything,
    "aggFunc": _string, "aggOrSeriesFunc": _string,
}  # fmt: skip


def bind(
    function: str,
    parameters: Tuple[Parameter, ...],
    arguments: List[Any],
    keywords: Dict[str, Any],
) -> List[Any]:
    """The arguments in the order of the parameters, checked. Raises RenderError."""
    bound: List[Any] = []
    for number, value in enumerate(arguments):
        parameter = _parameter(parameters, number)
        if parameter is None:
            raise RenderError(f"{function} takes {len(parameters)} arguments at most")
        bound.append(_checked(function, parameter, value))
    for parameter in parameters[len(arguments) :]:
        value = keywords.pop(parameter.name, None)
        if value is None and parameter.required:
            raise RenderError(f"{function} misses its argument {parameter.name}")
        if not parameter.multiple or value is not None:
            bound.append(_checked(function, parameter, value))
    for name in keywords:
        raise RenderError(f"{function} has no argument {name[:100]}, or it is given twice")
    return bound


def _parameter(parameters: Tuple[Parameter, ...], number: int) -> Optional[Parameter]:
    if number < len(parameters):
        return parameters[number]
    return parameters[-1] if parameters and parameters[-1].multiple else None


def _checked(function: str, parameter: Parameter, value: Any) -> Any:
    if value is None and not parameter.required:
        return parameter.default
    try:
        value = TYPES[parameter.type](value)
        if parameter.options and value not in parameter.options:
            raise ValueError
        return value
    except (ValueError, KeyError, TypeError, OverflowError):
        shown = "a list of series" if isinstance(value, list) else repr(value)[:100]
        raise RenderError(
            f"{function}: {shown} is no {parameter.type} for {parameter.name}"
        ) from None
