"""Puts with a journal, as --trace tells it, and the file that they leave; once the disk refuses.

The client and the server take turns in one process, so that it is the same each time.
"""

import errno
import logging
import os
import socket
import sys
import tempfile
from pathlib import Path
from unittest import mock

import removal  # noqa: F401  # it finds metricsd

from metricsd import Server
from metricsd.trace import Trace


def main() -> None:
    """A client puts and gets in one go, then puts while the disk refuses, then looks again."""
    logging.disable(logging.ERROR)
    refused = mock.patch("os.fsync", side_effect=OSError(errno.EIO, os.strerror(errno.EIO)))
    with tempfile.TemporaryDirectory() as folder:
        with Server("127.0.0.1", 0, journal=folder, tell=Trace(sys.stdout)) as server:
            with socket.create_connection(server.address) as client:
                server.turn()
                client.sendall(b"put cpu 12.5 1503319740\nget cpu\n")
                server.turn()
                server.turn()
                with refused:
                    client.sendall(b"put cpu 13.5 1503319741\n")
                    server.turn()
                client.sendall(b"get cpu\n")
                server.turn()
                client.recv(1000)
            server.turn()
        print()
        for path in sorted(Path(folder).glob("*.log")):
            print(f"{path.name}:")
            print(path.read_text(), end="")


if __name__ == "__main__":
    main()
