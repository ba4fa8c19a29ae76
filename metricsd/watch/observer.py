"""What all observing parts of one server share: whom they tell, what time it is, who is who.

Owns the names of the clients, c1, c2 and so on, and the present moment. Does not observe: that is
done by the parts, in parts.py.
"""

import socket
from typing import Callable, Dict

from metricsd.watch.steps import WAKER, Moment, Phase, Step

Tell = Callable[[Step], None]


class Observer:
    """Calls ``tell`` with each step, in the thread of the loop."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.at = Moment(0, Phase.WAIT)
        self.in_timer = False
        self.stopping = False
        self.open_points = 0  # put in this turn, whose receipts are open
        self._clients = 0
        self._names: Dict[object, str] = {}  # of the sockets that may become ready

    def begin_turn(self) -> None:
        """The next turn begins, with waiting."""
        self.at = Moment(self.at.turn + 1, Phase.WAIT)

    def begin(self, phase: Phase) -> None:
        """The next phase of the present turn begins."""
        self.at = Moment(self.at.turn, phase)

    def next_client(self) -> str:
        """The name of the client who comes next."""
        return f"c{self._clients + 1}"

    def client_comes(self) -> str:
        """Give a client this name."""
        self._clients += 1
        return f"c{self._clients}"

    def name(self, sock: socket.socket, name: str) -> None:
        """Call a socket by a name from now on."""
        self._names[sock] = name

    def forget(self, sock: socket.socket) -> None:
        """Its name is not needed any more."""
        self._names.pop(sock, None)

    def name_of(self, sock: object) -> str:
        """The name of a socket; those that nobody has named wake the loop."""
        return self._names.get(sock, WAKER)
