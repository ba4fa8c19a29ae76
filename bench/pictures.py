"""The comparison as pictures, with matplotlib."""

import statistics
from pathlib import Path
from typing import Any, Dict, List

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

OURS = "#1f77b4"
THEIRS = "#b8b8b8"

# What is worth a look; the tables hold the rest.
JOBS = [
    "put, 50 clients, pipeline 1",
    "put, 10 clients, pipeline 16",
    "put, 10 clients, pipeline 100",
    "get of 1,000 points, 10 clients, pipeline 1",
]


def draw(outcome: Dict[str, Any], folder: Path) -> List[Path]:
    """Draw what was measured; return the files."""
    matplotlib.rcParams["svg.hashsalt"] = "metricsd"  # the same figures give the same file
    results = outcome["results"]
    jobs = [job for job in JOBS if job in results]
    figure, panels = plt.subplots(2, 2, figsize=(10, 6.5))
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


def _bars(panel: Any, title: str, values: Dict[str, float], unit: str) -> None:
    names = list(values)[::-1]
    colours = [OURS if name == "metricsd" else THEIRS for name in names]
    bars = panel.barh(names, [values[name] for name in names], color=colours)
    panel.bar_label(bars, [f"{values[name]:.3g} {unit}" for name in names], padding=3)
    panel.set_title(title, fontsize=10, loc="left")
    panel.set_xlim(0, max(values.values()) * 1.25)
    panel.xaxis.set_visible(False)
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None}, facecolor="white")
    plt.close(figure)
    return path
