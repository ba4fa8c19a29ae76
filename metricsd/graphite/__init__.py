"""Graphite: its lines come in here, and its targets are evaluated. It knows no sockets."""

from metricsd.graphite.feed import DatagramFeed, Feed
from metricsd.graphite.globs import Node, expand, find, index, matching
from metricsd.graphite.intake import Intake
from metricsd.graphite.limits import MAX_VALUES, RenderError
from metricsd.graphite.render import Rendered, render
from metricsd.graphite.table import functions
from metricsd.graphite.times import parse_time

__all__ = [
    "MAX_VALUES", "DatagramFeed", "Feed", "Intake", "Node", "RenderError", "Rendered", "expand",
    "find", "functions", "index", "matching", "parse_time", "render",
]  # fmt: skip
