"""Counters in the text that Prometheus reads.

Owns the format, as https://prometheus.io/docs/instrumenting/exposition_formats/ has it, version
0.0.4. Does not know what is counted.
"""

from typing import Dict, Iterable, List, Tuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Samples = List[Tuple[Dict[str, str], float]]  # by their labels


# What is counted, and what it has come to: name, kind (counter or gauge), help, samples.
Metric = Tuple[str, str, str, Samples]


def exposition(metrics: Iterable[Metric]) -> str:
    """All of them, each with its help and its type."""
    lines: List[str] = []
    for name, kind, meaning, samples in metrics:
        lines.append(f"# HELP {name} {_escaped(meaning)}")
        lines.append(f"# TYPE {name} {kind}")
        lines += [f"{name}{_labels(labels)} {value!r}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(said: str) -> str:
    return said.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(said: str) -> str:
    return _escaped(said).replace('"', '\\"')
