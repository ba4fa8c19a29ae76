"""Graphite: its lines come in here. It knows no sockets."""

from metricsd.graphite.feed import DatagramFeed, Feed
from metricsd.graphite.intake import Intake

__all__ = ["DatagramFeed", "Feed", "Intake"]
