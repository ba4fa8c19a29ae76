"""Functions that give series other names.

Owns which name; the values stay as they are.
"""

import re
from typing import Any, List, Tuple

from metricsd.graphite.patterns import Pattern
from metricsd.graphite.timeseries import TimeSeries, Work

# The first path in a name that functions have made: what follows the innermost first parenthesis.
FIRST_PATH = re.compile(r"(?:[A-Za-z_]\w*\(\s*)*((?:[^\s(){},'\"\\|]|\{[^{}()]*\}|\\.)+)")

# Characters of names whose making counts as the work for one value.
CHARACTERS_A_VALUE = 100


def key_of(one: TimeSeries, nodes: Tuple[Any, ...]) -> str:
    """The parts of a series' path at these places, or its tags of these names, with dots."""
    path = one.name
    if path.endswith(")"):
        found = FIRST_PATH.match(path)
        path = found.group(1) if found else path
    parts = path.split(";")[0].split(".")
    return ".".join(_node_or_tag(one, parts, node) for node in nodes)


def _node_or_tag(one: TimeSeries, parts: List[str], node: Any) -> str:
    if isinstance(node, int) and -len(parts) <= node < len(parts):
        return parts[node]
    return one.tags.get(str(node), "")


def alias(scope: Any, series: List[TimeSeries], name: str) -> Work[List[TimeSeries]]:
    """Call the series by a name."""
    yield len(series)
    return [one.called(name) for one in series]


def alias_sub(
    scope: Any, series: List[TimeSeries], search: str, replace: str
) -> Work[List[TimeSeries]]:
    """Replace what a regular expression finds in the names."""
    pattern = Pattern(search)
    results = []
    for one in series:
        name = pattern.replaced(one.name, replace)
        results.append(one.called(name))
        yield 1 + (len(name) + pattern.worst(one.name)) // CHARACTERS_A_VALUE
    return results


def alias_by_node(scope: Any, series: List[TimeSeries], *nodes: Any) -> Work[List[TimeSeries]]:
    """Call each series by parts of its dotted path, or by its tags."""
    results = []
    for one in series:
        results.append(one.called(key_of(one, nodes)))
        yield 5 + len(one.name) // CHARACTERS_A_VALUE
    return results


def alias_by_metric(scope: Any, series: List[TimeSeries]) -> Work[List[TimeSeries]]:
    """Call each series by the last part of its dotted path."""
    results = []
    for one in series:
        inside = one.name.split(")")[0][one.name.rfind("(") + 1 :]  # as Graphite cuts it
        results.append(one.called(inside.split(".")[-1].split(",")[0]))
        yield 5 + len(one.name) // CHARACTERS_A_VALUE
    return results


def exclude(scope: Any, series: List[TimeSeries], pattern: str) -> Work[List[TimeSeries]]:
    """Leave out the series whose names a regular expression finds something in."""
    return (yield from _with(series, pattern, False))


def grep(scope: Any, series: List[TimeSeries], pattern: str) -> Work[List[TimeSeries]]:
    """Keep the series whose names a regular expression finds something in."""
    return (yield from _with(series, pattern, True))


def _with(series: List[TimeSeries], text: str, wanted: bool) -> Work[List[TimeSeries]]:
    pattern = Pattern(text)
    results = []
    for one in series:
        if pattern.is_in(one.name) == wanted:
            results.append(one)
        yield 1 + pattern.worst(one.name) // CHARACTERS_A_VALUE
    return results
