"""Pushing: one client asks for much, and reads nothing.

Taken away: the limit of what there may be to say before the requests that follow have to wait.
"""

import socket
import sys
import time
from typing import List
from unittest import mock

from removal import say

from metricsd import Server
from metricsd.protocol import outcomes, rows

POINTS = 3000
REQUESTS = 60
TURNS = 100
BOUND = outcomes.REPLY_ROOM + rows.PIECE_BYTES


def greedy_client() -> List[str]:
    """How much waits for a client that has asked for everything, and how long a turn takes."""
    with Server("127.0.0.1", 0) as server, socket.socket() as client:
        for timestamp in range(POINTS):
            server._store.put("some.key", 0.25, timestamp)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(server.address)
        client.sendall(b"get *\n" * REQUESTS)
        longest, most = 0.0, 0
        for _ in range(TURNS):
            started = time.perf_counter()
            server.turn(0)
            longest = max(longest, time.perf_counter() - started)
            most = max([most] + [len(one._outbox) for one in server._connections])
    what = (
        "REPLY_ROOM and a piece at most" if most <= BOUND else "all that the kernel does not take"
    )
    return [
        f"{what} waits: ~{most:,} bytes",
        f"the longest turn takes ~{1000 * longest:.1f} ms",
    ]


def main() -> None:
    """Show it with and without."""
    say("with REPLY_ROOM", *greedy_client())
    with mock.patch.object(outcomes, "REPLY_ROOM", sys.maxsize):
        say("without REPLY_ROOM", *greedy_client())


if __name__ == "__main__":
    main()
