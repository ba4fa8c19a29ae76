"""Datagrams: each is taken as a conversation of its own, to which nothing is said.

Owns the sockets that they come to, and how many are read in a turn. Does not know what they say.
"""

import logging
import socket
from typing import Any, Callable, List, Optional

from metricsd.loop.endpoints import Address, Endpoint
from metricsd.loop.reactor import Reactor
from metricsd.loop.sessions import Session
from metricsd.loop.sockets import close_socket
from metricsd.loop.watches import READ, Watch

logger = logging.getLogger("metricsd")

# Datagrams that are read in a turn from each socket: at some 10 us each, half a millisecond.
DATAGRAMS_A_TURN = 64

DATAGRAM_BYTES = 64 * 1024  # of the largest that there can be


class Datagrams:
    """Reads what comes to an endpoint; it can be used in the place of a Listener.

    While a session waits for an answer nothing is read, so that the kernel's buffer fills, and then
    drops: datagrams have no other way to be slowed down.
    """

    def __init__(self, endpoint: Endpoint, reactor: Reactor, *_: Any) -> None:
        """Watch the sockets. Raises OSError if the system refuses."""
        self.received = 0  # so far
        self._make_session = endpoint.make_session
        self._sockets = endpoint.sockets
        self._reactor = reactor
        self.addresses: List[Address] = [sock.getsockname() for sock in self._sockets]
        self._watches: List[Watch] = []
        self._session: Optional[Session] = None  # that is not done with its datagram
        self.resume()

    def resume(self) -> None:
        """Read from now on, unless a session is not done."""
        if not self._watches and self._session is None:
            for sock in self._sockets:
                self._watches.append(self._reactor.watch(sock, READ, self._reader(sock)))

    def accept_waiting(self) -> None:
        """Read what has come."""
        for sock in self._sockets:
            self._read(sock)

    def close(self) -> None:
        """Read no more."""
        self._stop_watching()
        for sock in self._sockets:
            close_socket(sock)
        self._sockets = []

    def _reader(self, sock: socket.socket) -> Callable[[], None]:
        return lambda: self._read(sock)

    def _read(self, sock: socket.socket) -> None:
        for _ in range(DATAGRAMS_A_TURN):
            if self._session is not None:
                return
            try:
                datagram = sock.recv(DATAGRAM_BYTES)
            except OSError:  # there is none, or the system tells of an earlier one
                return
            self.received += 1
            self._take(datagram)

    def _take(self, datagram: bytes) -> None:
        session = self._make_session()
        try:
            session.receive(datagram, False)
            session.receive(b"", False)
            while session.unfinished and not session.waiting:
                session.go_on()
            session.replies()
        except Exception:
            logger.exception("a datagram was dropped by a fault in the server")
            return
        if session.waiting:
            self._session = session
            self._stop_watching()
            session.when_answered(self._on_answered)

    def _on_answered(self) -> None:
        self._session = None
        self.resume()

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.forget()
        self._watches = []
