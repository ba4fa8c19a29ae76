"""Graphite: its lines come in here. It knows no sockets."""

from metricsd.graphite.feed import Feed
from metricsd.graphite.intake import Intake

__all__ = ["Feed", "Intake"]
