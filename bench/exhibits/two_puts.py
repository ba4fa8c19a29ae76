"""Puts of two clients in one turn, and a mistake among them, as --trace tells it."""

import socket
import sys

import removal  # noqa: F401  # it finds metricsd

from metricsd.server import Parts, Server
from metricsd.watch import Trace, observed


def main() -> None:
    """Two clients put in one turn, twice; in the second turn one of them has made a mistake."""
    parts = Parts(**observed(Trace(sys.stdout)))
    with Server("127.0.0.1", 0, parts=parts) as server:
        clients = [socket.create_connection(server.address) for _ in range(2)]
        server.turn()
        for value in (b"1", b"2", b"three"):  # the first arrival of a client runs by itself
            clients[0].sendall(b"put cpu 1 1503319740\n")
            clients[1].sendall(b"put load " + value + b" 1503319740\n")
            server.turn()
        for client in clients:
            client.close()


if __name__ == "__main__":
    main()
