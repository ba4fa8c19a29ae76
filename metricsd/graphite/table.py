"""The functions there are: one row each, beside the function itself.

Owns the table. To add a function, write it, and a row.
"""

from typing import Any, Callable, Dict, NamedTuple, Optional, Tuple

from metricsd.graphite import choose, combine, labels, transform, windows
from metricsd.graphite.combine import AGGREGATES, of_all
from metricsd.graphite.parameters import SERIES, Parameter

MODULE = "metricsd.graphite"

# What consolidateBy says of reading points is passed on through most functions to the paths below.
# Where a function makes values of another kind it is not: a sum of differences is no difference of
# sums. Below these, averages are read.
PASSED_ON, NOT_PASSED_ON = True, False


class Function(NamedTuple):
    """A function: what computes it, what it is given, and where a menu shows it."""

    group: str
    compute: Callable[..., Any]  # of the scope of the call and the arguments; yields its work
    parameters: Tuple[Parameter, ...]
    passes_on: bool = PASSED_ON


LIST = Parameter("seriesList", SERIES)
LISTS = Parameter("seriesLists", SERIES, multiple=True)
MAYBE_LISTS = Parameter("seriesLists", SERIES, required=False, multiple=True)
NODES = Parameter("nodes", "nodeOrTag", multiple=True)
MAYBE_NODES = Parameter("nodes", "nodeOrTag", required=False, multiple=True)
FACTOR = Parameter("factor", "float")
COUNT = Parameter("n", "integer")
PATTERN = Parameter("pattern", "string")
CALLBACK = Parameter("callback", "aggOrSeriesFunc", required=False, default="average")
WRAPS = (
    LIST,
    Parameter("maxValue", "float", required=False),
    Parameter("minValue", "float", required=False),
)


def _maybe(name: str, kind: str, default: Any = None, options: Tuple[str, ...] = ()) -> Parameter:
    return Parameter(name, kind, required=False, default=default, options=options)


FUNCTIONS: Dict[str, Function] = {
    "constantLine": Function("Special", transform.constant_line, (Parameter("value", "float"),)),
    # Names
    "alias": Function("Alias", labels.alias, (LIST, Parameter("newName", "string"))),
    "aliasSub": Function(
        "Alias",
        labels.alias_sub,
        (LIST, Parameter("search", "string"), Parameter("replace", "string")),
    ),
    "aliasByNode": Function("Alias", labels.alias_by_node, (LIST, NODES)),
    "aliasByTags": Function("Alias", labels.alias_by_node, (LIST, NODES)),
    "aliasByMetric": Function("Alias", labels.alias_by_metric, (LIST,)),
    # One of many
    "sumSeries": Function("Combine", of_all("sum"), (LISTS,)),
    "sum": Function("Combine", of_all("sum"), (LISTS,)),
    "averageSeries": Function("Combine", of_all("average"), (LISTS,)),
    "avg": Function("Combine", of_all("average"), (LISTS,)),
    "maxSeries": Function("Combine", of_all("max"), (LISTS,)),
    "minSeries": Function("Combine", of_all("min"), (LISTS,)),
    "diffSeries": Function("Combine", of_all("diff"), (LISTS,)),
    "countSeries": Function("Combine", combine.count_series, (MAYBE_LISTS,)),
    "divideSeries": Function(
        "Combine",
        combine.divide_series,
        (Parameter("dividendSeriesList", SERIES), Parameter("divisorSeries", SERIES)),
    ),
    "asPercent": Function(
        "Combine", combine.as_percent, (LIST, _maybe("total", "any"), MAYBE_NODES)
    ),
    "groupByNode": Function(
        "Combine", combine.group_by_node, (LIST, Parameter("nodeNum", "nodeOrTag"), CALLBACK)
    ),
    "groupByNodes": Function(
        "Combine",
        combine.group_by_nodes,
        (LIST, Parameter("callback", "aggOrSeriesFunc"), NODES),
    ),
    # Values
    "scale": Function("Transform", transform.scale, (LIST, FACTOR)),
    "offset": Function("Transform", transform.offset, (LIST, FACTOR)),
    "absolute": Function("Transform", transform.absolute, (LIST,)),
    "perSecond": Function("Transform", transform.per_second, WRAPS, NOT_PASSED_ON),
    "derivative": Function("Transform", transform.derivative, (LIST,), NOT_PASSED_ON),
    "nonNegativeDerivative": Function(
        "Transform", transform.non_negative_derivative, WRAPS, NOT_PASSED_ON
    ),
    "integral": Function("Transform", transform.integral, (LIST,), NOT_PASSED_ON),
    "keepLastValue": Function(
        "Transform", transform.keep_last_value, (LIST, _maybe("limit", "intOrInf", float("inf")))
    ),
    "transformNull": Function(
        "Transform",
        transform.transform_null,
        (LIST, _maybe("default", "float", 0), _maybe("referenceSeries", SERIES)),
    ),
    "removeBelowValue": Function(
        "Filter Data", transform.remove_below_value, (LIST, Parameter("n", "float"))
    ),
    # Times
    "consolidateBy": Function(
        "Special",
        transform.consolidate_by,
        (LIST, Parameter("consolidationFunc", "string", options=transform.CONSOLIDATIONS)),
    ),
    "summarize": Function(
        "Transform",
        windows.summarize,
        (
            LIST,
            Parameter("intervalString", "interval"),
            Parameter("func", "aggFunc", required=False, default="sum", options=AGGREGATES),
            _maybe("alignToFrom", "boolean", False),
        ),
        NOT_PASSED_ON,
    ),
    "movingAverage": Function(
        "Calculate",
        windows.moving_average,
        (LIST, Parameter("windowSize", "intOrInterval"), _maybe("xFilesFactor", "float")),
        NOT_PASSED_ON,
    ),
    "timeShift": Function(
        "Transform",
        windows.time_shift,
        (
            LIST,
            Parameter("timeShift", "interval"),
            _maybe("resetEnd", "boolean", True),
            _maybe("alignDst", "boolean", False),
        ),
    ),
    # Which, and in which order
    "sortByMaxima": Function("Sorting", choose.sort_by_maxima, (LIST,)),
    "sortByName": Function(
        "Sorting",
        choose.sort_by_name,
        (LIST, _maybe("natural", "boolean", False), _maybe("reverse", "boolean", False)),
    ),
    "highestAverage": Function("Filter Series", choose.highest_average, (LIST, COUNT)),
    "limit": Function("Filter Series", choose.limit, (LIST, COUNT)),
    "exclude": Function("Filter Series", labels.exclude, (LIST, PATTERN)),
    "grep": Function("Filter Series", labels.grep, (LIST, PATTERN)),
}


def functions() -> Dict[str, Dict[str, Any]]:
    """What there is, as Graphite's /functions describes it; infinity is written 1e9999 in JSON."""
    return {name: _described(name, function) for name, function in FUNCTIONS.items()}


def _described(name: str, function: Function) -> Dict[str, Any]:
    shown = ", ".join(_signature(parameter) for parameter in function.parameters)
    return {
        "name": name,
        "function": f"{name}({shown})",
        "description": function.compute.__doc__,
        "module": MODULE,
        "group": function.group,
        "params": [parameter.described() for parameter in function.parameters],
    }


def _signature(parameter: Parameter) -> str:
    if parameter.multiple:
        return "*" + parameter.name
    return parameter.name if parameter.required else f"{parameter.name}={parameter.default!r}"


def inner_fold(name: str, function: Function, arguments: Any, fold: str) -> str:
    """How points are read for the arguments of a call that is itself read with ``fold``."""
    if name != "consolidateBy":
        return fold if function.passes_on else "average"
    wanted: Optional[str] = next((one for one in arguments if isinstance(one, str)), None)
    return wanted if wanted in transform.CONSOLIDATIONS else fold
