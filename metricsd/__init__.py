"""metricsd: a TCP metrics server on a hand-written event loop."""

from metricsd.client import Client, ClientError
from metricsd.loop import ListenError
from metricsd.options import OptionError
from metricsd.server import Server, run_server
from metricsd.store import OpenError, StoreError
from metricsd.version import __version__

__all__ = [
    "Client",
    "ClientError",
    "ListenError",
    "OpenError",
    "OptionError",
    "Server",
    "StoreError",
    "__version__",
    "run_server",
]
