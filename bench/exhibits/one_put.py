"""One put, from the socket to the store and back, as --trace tells it.

The client and the server take turns in one process, so that it is the same each time.
"""

import socket
import sys

import removal  # noqa: F401  # it finds metricsd

from metricsd.server import Parts, Server
from metricsd.watch import Trace, observed


def main() -> None:
    """A client connects, puts, asks for what it has put, and leaves."""
    parts = Parts(**observed(Trace(sys.stdout)))
    with Server("127.0.0.1", 0, parts=parts) as server:
        with socket.create_connection(server.address) as client:
            server.turn()
            client.sendall(b"put cpu 12.5 1503319740\nget c")
            server.turn()
            client.sendall(b"pu\n")
            server.turn()
            client.recv(100)
        server.turn()


if __name__ == "__main__":
    main()
