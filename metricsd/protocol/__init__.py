"""The text protocol: bytes in, bytes out. It knows no sockets."""

from metricsd.protocol.commands import Dispatcher
from metricsd.protocol.lines import MAX_LINE_BYTES
from metricsd.protocol.session import Session

__all__ = ["MAX_LINE_BYTES", "Dispatcher", "Session"]
