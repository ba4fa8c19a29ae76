"""A swallowed signal: the handler sets a flag, and the loop does not look.

Taken away: the descriptor that wakes the loop. Since PEP 475 a wait that a signal interrupts goes
on by itself, so the flag is seen when something else ends the wait.
"""

import os
import signal
import threading
import time
from typing import List

from removal import say

from metricsd.loop.reactor import Reactor

SIGNAL_AFTER = 0.05
GIVE_UP_AFTER = 0.6


def wait_for_signal(with_wake_up: bool) -> str:
    """Take one turn of a quiet loop, in which a signal arrives."""
    reactor = Reactor()
    flag: List[bool] = []
    handler = signal.signal(signal.SIGTERM, lambda *_: flag.append(True))
    descriptor = signal.set_wakeup_fd(reactor.wake_descriptor if with_wake_up else -1)
    timer = threading.Timer(SIGNAL_AFTER, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    started = time.monotonic()
    reactor.turn(GIVE_UP_AFTER)  # in the server without a limit
    seconds = time.monotonic() - started
    timer.join()
    signal.set_wakeup_fd(descriptor)
    signal.signal(signal.SIGTERM, handler)
    reactor.close()
    assert flag
    if seconds < GIVE_UP_AFTER:
        return "the turn ends when the signal arrives"
    return "the handler has run, and the loop sleeps on until its time is up"


def main() -> None:
    """Show it with and without."""
    say("with set_wakeup_fd", wait_for_signal(True))
    say("without set_wakeup_fd", wait_for_signal(False))


if __name__ == "__main__":
    main()
