"""Puts into a file, as --trace tells it, and what is in the file; once the disk fails.

The clients and the server take turns in one process. What the disk does takes place in a thread, so
the loop turns until the client has its answer.
"""

import logging
import socket
import sqlite3
import sys
import tempfile
from pathlib import Path
from unittest import mock

import removal  # noqa: F401  # it finds metricsd

from metricsd import Server
from metricsd.durable import database
from metricsd.server import Parts
from metricsd.watch import Trace, observed

DISK_ERROR = sqlite3.OperationalError("disk I/O error")


def connect(server: Server) -> socket.socket:
    """A client that has been accepted."""
    client = socket.create_connection(server.address)
    server.turn(10)
    return client


def ask(server: Server, client: socket.socket, request: bytes) -> None:
    """Send a request, and take turns until there is a reply."""
    client.sendall(request)
    client.settimeout(0.0)
    while True:
        server.turn(10)
        try:
            client.recv(1000)
            return
        except BlockingIOError:
            pass


def main() -> None:
    """A client puts and gets in one go, puts once more while the disk fails, and looks again."""
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.db"
        parts = Parts(**observed(Trace(sys.stdout)))
        store = f"sqlite:{path}"
        with Server("127.0.0.1", 0, parts=parts, store=store) as server, connect(server) as client:
            ask(server, client, b"put cpu 12.5 1503319740\n")
            ask(server, client, b"get cpu\n")
            with mock.patch.object(database.Database, "write", side_effect=DISK_ERROR):
                ask(server, client, b"put cpu 13.5 1503319741\n")
            ask(server, client, b"get cpu\n")
        print()
        with sqlite3.connect(str(path)) as file:
            for row in file.execute("SELECT key, points, length(unsealed) FROM series"):
                print("series: {}, {} points, {} bytes".format(*row))
        file.close()


if __name__ == "__main__":
    main()
