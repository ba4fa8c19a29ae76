"""A reply larger than the socket takes, as --trace tells it.

The client and the server take turns in one process. The kernel is told to hold little for the
client, so that it is soon full. Turns that only send a part are counted: how many it takes is
up to the kernel.
"""

import io
import re
import socket

import removal  # noqa: F401  # it finds metricsd

from metricsd.server import Parts, Server
from metricsd.watch import Trace, observed

POINTS = 3000
KERNEL_BYTES = 4096
TURN_SECONDS = 0.05
DEAF_TURNS = 5


def main() -> None:
    """A client asks for everything, then for one key, and begins to read late."""
    told = io.StringIO()
    parts = Parts(**observed(Trace(told)))
    with Server("127.0.0.1", 0, parts=parts) as server, socket.socket() as client:
        for listening in server._listeners["put"]._sockets:  # each accepted socket inherits it
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)
        client.connect(server.address)
        server.turn()
        fill(server)
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


def fill(server: Server) -> None:
    """Put the points in."""
    left = list(range(POINTS))
    while left:
        columns = ["cpu"] * len(left), [0.25] * len(left), left
        taken, _ = server._dispatcher.store.put_many(*columns)
        del left[:taken]


def folded(text: str) -> str:
    """Say how many turns only send a part, none among them, instead of showing each."""
    begins = r"(?: sent .* of .*\n(?:.* talking .*\n)?|.*-- nothing .*\n)"
    turn = r"turn .*\n.* sent .* of .*\n"
    return re.sub(rf"({begins})((?:{turn})*)", _counted, text)


def _counted(match: "re.Match[str]") -> str:
    begins, turns = match.groups()
    return f"{begins}          ...       turns that send a part: {turns.count('turn ')}\n"


def _read(client: socket.socket) -> None:
    try:
        client.recv(1 << 20)
    except BlockingIOError:
        pass


if __name__ == "__main__":
    main()
