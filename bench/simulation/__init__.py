"""A world in memory for the real server: one whole number decides all that happens in it."""

import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent

sys.path[:0] = [str(BENCH.parent), str(BENCH / "exhibits")]  # of metricsd, and of removal.py
