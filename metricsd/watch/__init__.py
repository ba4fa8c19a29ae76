"""Watching a server at work: typed steps, the parts that tell them, and ``--trace``.

``Server(host, port, parts=Parts(**observed(tell)))`` calls ``tell`` with each step.
"""

from metricsd.watch import steps
from metricsd.watch.parts import observed
from metricsd.watch.steps import Step
from metricsd.watch.trace import Trace, trace_line

__all__ = ["Step", "Trace", "observed", "steps", "trace_line"]
