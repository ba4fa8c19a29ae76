"""Idle connections are closed, a few at a time.

Owns how often they are looked for. Does not know what makes a connection idle: it is asked.
"""

from typing import Iterator, Set

from metricsd.connection import Connection
from metricsd.reactor import Reactor

# So many sweeps begin in the time that a connection may be idle: it is closed a tenth late at most.
IDLE_SWEEPS = 10
SHORTEST_IDLE_PAUSE = 0.1  # seconds

# So many connections are looked at in a turn, which takes a tenth of a millisecond; closing one
# takes as long as looking at eight or more of them.
LOOKS_A_TURN = 512
LOOKS_A_CLOSE = 8


class IdleSweep:
    """Closes the connections that have had nothing pending for ``timeout`` seconds.

    One timer for all of them: with a timer each, every connection that comes and goes would leave
    one behind, and activity would have to move it.
    """

    def __init__(self, connections: Set[Connection], reactor: Reactor, timeout: float) -> None:
        self._connections = connections
        self._reactor = reactor
        self._timeout = timeout
        self._pause = max(timeout / IDLE_SWEEPS, SHORTEST_IDLE_PAUSE)
        self._left: Iterator[Connection] = iter(())  # to be looked at in this sweep
        reactor.call_later(self._pause, self._begin)

    def _begin(self) -> None:
        self._left = iter(list(self._connections))
        self._go_on()

    def _go_on(self) -> None:
        long_ago = self._reactor.now - self._timeout
        looks = LOOKS_A_TURN
        for connection in self._left:
            looks -= 1
            if connection.last_active <= long_ago and connection.idle:
                connection.close()
                looks -= LOOKS_A_CLOSE - 1
            if looks <= 0:
                self._reactor.call_later(0.0, self._go_on)
                return
        self._reactor.call_later(self._pause, self._begin)
