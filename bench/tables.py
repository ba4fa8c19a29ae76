"""What a comparison came to, as Markdown: medians, ratios, and how far the rounds lie apart.

Owns the words and the tables. A ratio is the median over the rounds of ours divided by theirs in
the same round: the machine's speed wavers, and two servers measured minutes apart tell nothing.
"""

import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from memory import memory_table

Figures = Dict[str, Any]
Rounds = Dict[str, List[Figures]]  # the figures of each round, by server

OURS = "metricsd"
NOT_MEASURED = "-"
CPU = "server_cpu_us"
STORAGE = "storage"  # the one work that is no load

# Half of what lies between the highest and the lowest round, by their median: with more than this a
# row tells little. On a quiet machine nearly all are below 0.05.
SPREAD_SHARE = 0.1

LEVEL = 1.005  # a ratio above this is written as 1.01 or more: unfavourable

# The rows and servers that say most, in a table for those who look once. Some are unfavourable.
IN_SHORT = (
    "put, 50 clients, pipeline 1",
    "put, 10 clients, pipeline 100",
    "put and get of 10 points in turn, 50 clients, pipeline 1",
    "get of 10 points, 50 clients, pipeline 16",
    "get of 1,000 points, unchanged",
    "get of 1,000 points, first asked",
)
IN_SHORT_SERVERS = (OURS, "Redis", "uvloop", "asyncio")


class Figure(NamedTuple):
    """A figure of the storage run, its name in the tables, and whether less of it is better."""

    name: str
    what: str
    by_theirs: bool = False


ALONE_CPU = "all_cpu_seconds"
ALONE = (
    Figure("all_mb", "MB"),
    Figure("all_mb_per_second", "MB/s"),
    Figure(ALONE_CPU, "server CPU, seconds", by_theirs=True),
)
BESIDE = (
    Figure("get_all_seconds", "`get *`, seconds"),
    Figure("others_p99.9_ms", "others' put meanwhile, p99.9, ms"),
    Figure("growth_mb", "memory growth meanwhile, MB"),
)


def median(rounds: List[Figures], figure: str) -> Optional[float]:
    """The median of a figure over the rounds; None if it was not measured."""
    values = _values(rounds, figure)
    return statistics.median(values) if values else None


def spread(rounds: List[Figures], figure: str) -> Optional[float]:
    """Half of the range of a figure over the rounds, by its median; None of fewer than two."""
    values = _values(rounds, figure)
    middle = median(rounds, figure)
    return (max(values) - min(values)) / 2 / middle if len(values) > 1 and middle else None


def ratio(ours: List[Figures], theirs: List[Figures], figure: str) -> Optional[float]:
    """The median over the rounds of our figure divided by theirs in the same round.

    A round in which theirs is 0 tells nothing: the load was too short for the system's clock. None
    if all were.
    """
    pairs = [(mine[figure], other[figure]) for mine, other in zip(ours, theirs)]
    ratios = [mine / other for mine, other in pairs if other]
    return statistics.median(ratios) if ratios else None


def tables(outcome: Dict[str, Any]) -> str:
    """All tables, each under a heading."""
    names: List[str] = outcome["peers"]
    works = {work: rows for work, rows in outcome["results"].items() if work != STORAGE}
    storage: Rounds = outcome["results"][STORAGE]
    short = [name for name in IN_SHORT_SERVERS if name in names]
    lines = ["{machine}; Python {python}; {date}; {rounds}".format(**outcome["about"])]
    lines += [""]
    for warning in warnings(outcome):
        lines += [f"**Warning**: {warning}.", ""]
    lines += _cpu_table(
        "In short", {work: works[work] for work in IN_SHORT if work in works}, short
    )
    everything = "`get *` of {points} points".format(**outcome["about"])
    lines += [_unfavourable(works, storage, everything), ""]
    lines += _cpu_table("Server CPU a request", works, names)
    lines += ["Microseconds; ± is half of what lies between the rounds' highest and lowest, by the"]
    lines += ["median; in brackets ours divided by theirs, so above 1 is unfavourable.", ""]
    lines += ["## Requests a second", ""]
    lines += ["And the p99 latency in milliseconds, in a closed loop:", ""]
    lines += _head("work", names)
    lines += [
        _row(work, [_speed(rows.get(name)) for name in names]) for work, rows in works.items()
    ]
    lines += ["", "## One client reads everything: {points} points".format(**outcome["about"]), ""]
    lines += _figures_table(storage, ALONE)
    lines += ["", "## One client reads everything while others put", ""]
    lines += _figures_table({name: storage[name] for name in _beside(storage)}, BESIDE)
    lines += ["", "## Resident memory a point in bytes", "", "{stored}:".format(**outcome["about"])]
    lines += ["", *memory_table(outcome["memory"])]
    if "carbon" in names:
        lines += ["", "carbon never acknowledges a put: its CPU is counted until it is quiet."]
    return "\n".join(lines) + "\n"


def warnings(outcome: Dict[str, Any]) -> List[str]:
    """Why not to believe the figures, a line each."""
    found: List[str] = list(outcome["warnings"])
    wide = []
    for work, rows in outcome["results"].items():
        apart = {name: spread(rounds, CPU) or 0.0 for name, rounds in rows.items()}
        widest = max(apart, key=lambda name: apart[name])
        if apart[widest] > SPREAD_SHARE:
            wide.append(f"{work} ({widest} ±{100 * apart[widest]:.0f} %)")
    if wide:
        limit = f"±{100 * SPREAD_SHARE:.0f} %"
        found.append(f"the rounds lie apart by more than {limit} in {'; '.join(wide)}")
    return found


def _unfavourable(works: Dict[str, Rounds], storage: Rounds, everything: str) -> str:
    """A sentence that names every row in which another server takes less."""
    ratios = {work: _ratios(rows, CPU) for work, rows in works.items()}
    ratios[everything] = _ratios(storage, ALONE_CPU)
    found = []
    for work, by_theirs in ratios.items():
        above = [f"{name} {one:.2f}" for name, one in by_theirs.items() if one > LEVEL]
        if above:
            found.append(f"{work} ({', '.join(above)})")
    if not found:
        return "No row is unfavourable."
    return f"Unfavourable are {len(found)} of {len(ratios)} rows: {'; '.join(found)}."


def _ratios(rows: Rounds, figure: str) -> Dict[str, float]:
    """Ours by theirs, of each server of which that can be said."""
    found = {name: ratio(rows[OURS], rows[name], figure) for name in rows if name != OURS}
    return {name: one for name, one in found.items() if one is not None}


def cpu_table(outcome: Dict[str, Any]) -> str:
    """That of the loads alone."""
    return "\n".join(_cpu_table("Server CPU a request", outcome["results"], outcome["peers"]))


def _cpu_table(heading: str, works: Dict[str, Rounds], names: List[str]) -> List[str]:
    lines = [f"## {heading}", "", *_head("server CPU a request, us", names)]
    lines += [
        _row(work, [_cell(rows, name, CPU) for name in names]) for work, rows in works.items()
    ]
    return [*lines, ""]


def _figures_table(rows: Rounds, figures: Tuple[Figure, ...]) -> List[str]:
    lines = _head("`get *`", list(rows))
    for figure in figures:
        if figure.by_theirs:
            cells = [_cell(rows, name, figure.name) for name in rows]
        else:
            cells = [_number(median(rows[name], figure.name)) for name in rows]
        lines.append(_row(figure.what, cells))
    return lines


def _beside(storage: Rounds) -> List[str]:
    """The servers that others could put to while one client read."""
    return [name for name, rounds in storage.items() if _values(rounds, BESIDE[0].name)]


def _values(rounds: List[Figures], figure: str) -> List[float]:
    return [figures[figure] for figures in rounds if figure in figures]


def _head(first: str, names: List[str]) -> List[str]:
    return [_row(first, names), "|---|" + "---:|" * len(names)]


def _row(first: str, cells: List[str]) -> str:
    return "| " + " | ".join([first, *cells]) + " |"


def _cell(rows: Rounds, name: str, figure: str) -> str:
    """The median, how far the rounds lie apart, and ours by theirs."""
    if name not in rows:
        return NOT_MEASURED
    text = _number(median(rows[name], figure))
    if name == OURS:
        text = f"**{text}**"
    apart = spread(rows[name], figure)
    if apart is not None:
        text += f" ±{100 * apart:.0f} %"
    by_theirs = None if name == OURS else ratio(rows[OURS], rows[name], figure)
    return text if by_theirs is None else f"{text} ({by_theirs:.2f})"


def _speed(rounds: Optional[List[Figures]]) -> str:
    if not rounds or "p99_ms" not in rounds[0]:
        return NOT_MEASURED
    return f"{median(rounds, 'requests_per_second'):,.0f}/s {_number(median(rounds, 'p99_ms'))} ms"


def _number(value: Optional[float]) -> str:
    """Three significant digits."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
