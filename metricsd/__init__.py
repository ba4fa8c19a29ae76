"""metricsd: a TCP metrics server on a hand-written event loop."""

from metricsd.client import Client, ClientError
from metricsd.server import Server, run_server
from metricsd.version import __version__

__all__ = ["Client", "ClientError", "Server", "__version__", "run_server"]
