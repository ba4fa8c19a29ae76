"""Interest in nothing: a hang-up is reported all the same, turn after turn.

Taken away: forgetting a socket that is to be left alone for a while. It stays watched, for no
event; the system takes that without complaint, and so does Python since 3.7.
"""

import socket
import time
from typing import Any, Callable

from removal import say

from metricsd.loop import READ, Reactor, Watch

SECONDS = 0.2


def turns_beside_a_pause(pause: Callable[[Watch], None]) -> str:
    """Count the turns of the loop while a client that is not listened to hangs up."""
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    watch = reactor.watch(ours, READ, lambda: None)  # paused: there is nothing to be done
    pause(watch)
    theirs.close()
    turns = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        reactor.turn(max(end - time.monotonic(), 0))
        turns += 1
    watch.forget()
    ours.close()
    reactor.close()
    return f"the loop {'spins' if turns > 100 else 'sleeps'}: ~{turns:,} turns in {SECONDS} s"


def interest_in_nothing(watch: Watch) -> None:
    """Stay registered, for no event."""
    epoll: Any = getattr(watch._selector, "_epoll", None)  # of Python 3.6, whose selector refuses
    if epoll is None:
        watch.change(0, lambda: None)
    else:
        epoll.modify(watch._socket.fileno(), 0)


def main() -> None:
    """Show it with and without."""
    say("with watch.forget()", turns_beside_a_pause(Watch.forget))
    say("without: watch.change(0)", turns_beside_a_pause(interest_in_nothing))


if __name__ == "__main__":
    main()
