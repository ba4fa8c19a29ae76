"""The text protocol: bytes in, bytes out. It knows no sockets."""

from metricsd.protocol.commands import Dispatcher
from metricsd.protocol.lines import MAX_LINE_BYTES, LineBuffer
from metricsd.protocol.points import to_numbers
from metricsd.protocol.session import Session
from metricsd.protocol.strangers import FOREIGN_START, is_foreign

__all__ = [
    "FOREIGN_START", "MAX_LINE_BYTES", "Dispatcher", "LineBuffer", "Session", "is_foreign",
    "to_numbers",
]  # fmt: skip
