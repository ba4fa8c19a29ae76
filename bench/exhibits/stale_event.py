"""A stale event: the callback of one socket closes another that is ready in the same turn.

Taken away: the reactor's look at whether a socket is still watched, before it calls back.
"""

import socket
from unittest import mock

from removal import say, without

from metricsd.loop import READ, Reactor, Watch


def session_replaced() -> str:
    """A new session of a user ends the old one, in a turn in which both have sent something."""
    reactor = Reactor()
    (old, old_client), (new, new_client) = socket.socketpair(), socket.socketpair()

    def end_the_old_one() -> None:
        old_watch.forget()
        old.close()

    old_client.send(b"get k\n")
    new_client.send(b"get k\n")
    new_watch = reactor.watch(new, READ, end_the_old_one)  # first in line
    old_watch = reactor.watch(old, READ, lambda: said.append(old.recv(100)))
    said = [b"nothing"]
    try:
        reactor.turn(0)
        return f"the loop goes on; from the closed socket it read {said[-1].decode()}"
    except OSError as error:
        return f"the loop ends: {error}"
    finally:
        new_watch.forget()
        reactor.close()
        for sock in (old, old_client, new, new_client):
            sock.close()


def main() -> None:
    """Show it with and without."""
    say("with the check", session_replaced())
    # As if the turn called what was watched when the socket got ready.
    stale = without(Watch.forget, "self.callback = None")
    with mock.patch.object(Watch, "forget", stale):
        say("without the check", session_replaced())


if __name__ == "__main__":
    main()
