"""The comparison and the demonstrations as pictures, with matplotlib."""

import math
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS = "#1f77b4"
THEIRS = "#b8b8b8"
FAILED = "#d62728"
SHORTEST_FAILURE = 0.02  # of the longest bar

# What is worth a look; the tables hold the rest.
JOBS = [
    "put, 50 clients, pipeline 1",
    "put, 10 clients, pipeline 100",
    "put and get of 10 points in turn, 50 clients, pipeline 1",
    "get of 1,000 points, unchanged",
    "get of 1,000 points, grown by one point since",
    "get of 1,000 points, first asked",
]


class Bar(NamedTuple):
    """What a server showed in a demonstration."""

    name: str
    figure: float  # inf: never; nan: it can't be shown
    text: str
    failed: bool


def draw(outcome: Dict[str, Any], folder: Path) -> List[Path]:
    """Draw what was measured; return the files."""
    matplotlib.rcParams["svg.hashsalt"] = "metricsd"  # the same figures give the same file
    results = outcome["results"]
    jobs = [job for job in JOBS if job in results]
    figure, panels = plt.subplots(3, 2, figsize=(10, 9))
    for panel, job in zip(panels.flat, jobs):
        values = {
            name: statistics.median(figures["server_cpu_us"] for figures in rounds)
            for name, rounds in results[job].items()
            if name != "carbon"  # it does less: it never replies
        }
        _bars(panel, job, values, "µs")
    figure.suptitle("Server CPU a request, microseconds (less is better)")
    cpu = _save(figure, folder / "cpu.svg")
    kinds = list(next(iter(outcome["memory"].values())))
    figure, panels = plt.subplots(1, len(kinds), figsize=(4 * len(kinds), 2.8))
    for panel, kind in zip(panels.flat, kinds):
        values = {name: figures[kind] for name, figures in outcome["memory"].items()}
        _bars(panel, kind, values, "bytes")
    figure.suptitle("Resident memory a point, bytes (less is better)")
    return [cpu, _save(figure, folder / "memory.svg")]


def draw_why(bars: Dict[str, List[Bar]], folder: Path) -> Path:
    """Draw a panel for each demonstration of bench/why.py; return the file."""
    matplotlib.rcParams["svg.hashsalt"] = "metricsd"
    figure, panels = plt.subplots(4, 2, figsize=(10, 11))
    for panel, (what, of_each) in zip(panels.flat, bars.items()):
        most = max([bar.figure for bar in of_each if math.isfinite(bar.figure)] + [1.0])
        colours = [FAILED if bar.failed else THEIRS for bar in of_each]
        lengths = [_length(bar, most) for bar in of_each]
        drawn = panel.barh([bar.name for bar in of_each], lengths, color=colours)
        labels = panel.bar_label(drawn, [bar.text for bar in of_each], padding=3)
        for label, bar in zip(labels, of_each):
            label.set_color(FAILED if bar.failed else "black")
        panel.invert_yaxis()
        _frame(panel, what, most)
    for panel in list(panels.flat)[len(bars) :]:
        panel.set_visible(False)
    figure.suptitle("What each way to serve many clients is bad at (red: a failure)")
    return _save(figure, folder / "why.svg")


def _length(bar: Bar, most: float) -> float:
    """How long to draw a bar. A failure is seen, also if the figure is nearly nothing."""
    if math.isnan(bar.figure):
        return 0.0
    return max(min(bar.figure, most), SHORTEST_FAILURE * most if bar.failed else 0.0)


def _bars(panel: Any, title: str, values: Dict[str, float], unit: str) -> None:
    names = list(values)[::-1]
    colours = [OURS if name == "metricsd" else THEIRS for name in names]
    bars = panel.barh(names, [values[name] for name in names], color=colours)
    panel.bar_label(bars, [f"{values[name]:.3g} {unit}" for name in names], padding=3)
    _frame(panel, title, max(values.values()))


def _frame(panel: Any, title: str, most: float) -> None:
    panel.set_title(title, fontsize=10, loc="left")
    panel.set_xlim(0, most * 1.25)
    panel.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)
    return path
