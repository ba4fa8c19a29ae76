"""New clients come in here, as long as there is room for them.

Owns accepting, and pausing at a limit. Does not know what a client is: each accepted socket is
handed on.
"""

import logging
import socket
from typing import Callable, Dict, List, Optional

from metricsd.loop.endpoints import BACKLOG, Address, Endpoint
from metricsd.loop.logs import REPEATS
from metricsd.loop.reactor import Reactor
from metricsd.loop.sockets import GONE, close_socket
from metricsd.loop.timers import Timer
from metricsd.loop.watches import READ, Watch

logger = logging.getLogger("metricsd")

# Clients accepted in one turn, so that a storm of them does not keep the others waiting: at some 20
# us each, about a millisecond.
ACCEPTS_A_TURN = 64

# Seconds until another look when no descriptor is left: they may all be another process's, and
# nobody tells us when it closes one.
PAUSE_SECONDS = 1.0


class Listener:
    """Accepts the clients of one endpoint.

    A socket that can't be accepted stays ready, and a loop that goes on watching it spins. So at a
    limit nothing is watched, and new clients wait in the kernel, until there is room again.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        reactor: Reactor,
        has_room: Callable[[], bool],
        on_accept: Callable[[socket.socket, Address, Endpoint], None],
    ) -> None:
        self.endpoint = endpoint
        self._sockets = endpoint.sockets
        self._reactor = reactor
        self._has_room = has_room
        self._on_accept = on_accept
        self.addresses: List[Address] = [sock.getsockname() for sock in self._sockets]
        self._watches: List[Watch] = []  # empty while there is no room
        self._timer: Optional[Timer] = None  # of the next look
        self.accepted = 0  # clients so far
        self.paused: Dict[str, int] = {}  # how often so far, by the reason
        self.resume()

    def resume(self) -> None:
        """There may be room again."""
        if self._watches:
            return
        try:
            for sock in self._sockets:
                self._watches.append(self._reactor.watch(sock, READ, self._on_ready))
        except OSError as error:
            self._pause(str(error), PAUSE_SECONDS)

    def accept_waiting(self) -> None:
        """Accept every client that waits in the kernel, as far as there is room."""
        for sock in self._sockets:
            self._accept_some(sock, BACKLOG)

    def close(self) -> None:
        """Accept no more."""
        self._stop_watching()
        for sock in self._sockets:
            close_socket(sock)
        self._sockets = []

    def _on_ready(self) -> None:
        for sock in self._sockets:
            self._accept_some(sock, ACCEPTS_A_TURN)

    def _accept_some(self, sock: socket.socket, limit: int) -> None:
        for _ in range(limit):
            if not self._watches or not self._accept(sock):
                break

    def _accept(self, sock: socket.socket) -> bool:
        """Accept one client; return whether there may be another."""
        if not self._has_room():
            self._pause("the limit of connections is reached")
            return False
        try:
            client, address = sock.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in GONE:
                return True
            self._pause(str(error), PAUSE_SECONDS)
            return False
        self._hand_on(client, address)
        return True

    def _hand_on(self, client: socket.socket, address: Address) -> None:
        try:
            self.accepted += 1
            client.setblocking(False)
            self._on_accept(client, address, self.endpoint)
        except OSError as error:
            logger.debug("%s: %s", address, error)
            close_socket(client)
        except Exception:
            logger.exception("%s: refused by a fault in the server", address)
            close_socket(client)

    def _pause(self, reason: str, seconds: Optional[float] = None) -> None:
        """Watch nothing until ``resume``; call it in so many seconds, if they are given."""
        self._stop_watching()
        self.paused[reason] = self.paused.get(reason, 0) + 1
        logger.warning("new clients wait: %s", reason, extra=REPEATS)
        if seconds is not None:
            self._timer = self._reactor.call_later(seconds, self.resume)

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.forget()
        self._watches = []
        if self._timer is not None:
            self._timer.cancel()
