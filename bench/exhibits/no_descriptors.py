"""No descriptor left: a client that can't be accepted keeps the listening socket ready.

Taken away: the listener's pause, in which it is not watched.
"""

import logging
import os
import resource
import socket
import time
from unittest import mock

from removal import say, without

from metricsd import Server
from metricsd.loop.listener import Listener

SECONDS = 0.2
SPINS = 10  # turns in these; asleep it has two, one before the pause and one to the end of them


def turns_at_the_limit() -> str:
    """Count the turns of the loop while a client waits that can't be accepted."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Server("127.0.0.1", 0) as server, socket.create_connection(server.address) as client:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_highest_descriptor() + 1, hard))
        turns = 0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            server.turn(max(end - time.monotonic(), 0))
            turns += 1
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        client.sendall(b"get k\n")
    return f"the loop {'spins' if turns > SPINS else 'sleeps'}: ~{turns:,} turns in {SECONDS} s"


def _highest_descriptor() -> int:
    """Of those that are open now, in this process."""
    with open(os.devnull) as file:
        return file.fileno() - 1


def main() -> None:
    """Show it with and without."""
    logging.disable(logging.CRITICAL)
    say("with the pause", turns_at_the_limit())
    spinning = without(Listener._pause, "self._stop_watching()")
    with mock.patch.object(Listener, "_pause", spinning):
        say("without the pause", turns_at_the_limit())


if __name__ == "__main__":
    main()
