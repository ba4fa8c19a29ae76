"""A reply larger than the socket takes, as --trace tells it.

The client and the server take turns in one process. The kernel is told to hold little for the
client, so that it is soon full. Of turns in a row that only send a part, the first is shown.
"""

import io
import re
import socket

import removal  # noqa: F401  # it finds metricsd

from metricsd import Server
from metricsd.trace import Trace

POINTS = 3000
KERNEL_BYTES = 4096
TURN_SECONDS = 0.05
DEAF_TURNS = 5


def main() -> None:
    """A client asks for everything, then for one key, and begins to read late."""
    told = io.StringIO()
    with Server("127.0.0.1", 0, tell=Trace(told)) as server, socket.socket() as client:
        for listening in server._listener._sockets:  # each accepted socket inherits it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        client.connect(server.address)
        server.turn()
        server._store.put_many(["cpu"] * POINTS, [0.25] * POINTS, list(range(POINTS)))
        client.sendall(b"get *\nget cpu\n")
        for _ in range(DEAF_TURNS):
            server.turn(TURN_SECONDS)
        told.write("          -- nothing happens, until the client begins to read --\n")
        client.settimeout(0)
        while "listening  all is sent" not in told.getvalue():
            _read(client)
            server.turn(TURN_SECONDS)
        text = told.getvalue()
    print(folded(text), end="")


def folded(text: str) -> str:
    """Of turns in a row that only send a part, leave the first."""
    turn = r"turn .*\n.* sent .* of .*\n"
    return re.sub(rf"({turn})(?:{turn})+", r"\1          ...\n", text)


def _read(client: socket.socket) -> None:
    try:
        client.recv(1 << 20)
    except BlockingIOError:
        pass


if __name__ == "__main__":
    main()
