"""Datagrams: each is taken as a conversation of its own, to which nothing is said.

Owns the sockets that they come to, and how many are read in a turn. Does not know what they say.
"""

import logging
import socket
from typing import Any, Callable, Dict, List

from metricsd.loop.endpoints import Address, Endpoint
from metricsd.loop.logs import REPEATS
from metricsd.loop.reactor import Reactor
from metricsd.loop.sessions import Session
from metricsd.loop.sockets import close_socket
from metricsd.loop.watches import READ, Watch

logger = logging.getLogger("metricsd")

# Datagrams that are read in a turn from each socket, at some 5 us each, and bytes of these after
# which no more are read: about half a millisecond.
DATAGRAMS_A_TURN = 64
BYTES_A_TURN = 32 * 1024

# The same at a stop, more than nearly any system lets wait: who goes on sending must not keep the
# server from stopping.
LAST_DATAGRAMS = 4096
LAST_BYTES = 8 * 1024 * 1024

DATAGRAM_BYTES = 64 * 1024  # of the largest that there can be

FAULT = "a datagram was dropped by a fault in the server"

# Seconds until another try when the system refuses to watch.
PAUSE_SECONDS = 1.0


class Datagrams:
    """Reads what comes to an endpoint; it can be used in the place of a Listener.

    While a session is not done with its datagram nothing is read, so that the kernel's buffer
    fills, and then drops: datagrams have no other way to be slowed down.
    """

    def __init__(self, endpoint: Endpoint, reactor: Reactor, *_: Any) -> None:
        self.endpoint = endpoint
        self.received = self.received_bytes = 0  # so far
        self._make_session = endpoint.make_session
        self._sockets = endpoint.sockets
        self._reactor = reactor
        self.addresses: List[Address] = [sock.getsockname() for sock in self._sockets]
        self._watches: List[Watch] = []
        # Those that may not be done with their datagrams, in order; one session may take several.
        self._sessions: Dict[Session, None] = {}
        self._answering = False  # these are looked at in the last phase of this turn
        self.resume()

    def resume(self) -> None:
        """Read from now on, unless a session is not done."""
        if self._watches or self._sessions:
            return
        try:
            for sock in self._sockets:
                self._watches.append(self._reactor.watch(sock, READ, self._reader(sock)))
        except OSError as error:
            self._stop_watching()
            logger.warning("datagrams wait: %s", error, extra=REPEATS)
            self._reactor.call_later(PAUSE_SECONDS, self.resume)

    def accept_waiting(self) -> None:
        """Read all that has come, for the last time."""
        for sock in self._sockets:
            self._read_some(sock, LAST_DATAGRAMS, LAST_BYTES)

    def close(self) -> None:
        """Read no more, and do what there is left to do, unless that has to wait."""
        self._stop_watching()
        for sock in self._sockets:
            close_socket(sock)
        self._sockets = []
        for session in self._sessions:
            while session.unfinished and not session.waiting and self._go_on_with(session):
                pass
        self._sessions.clear()

    def _reader(self, sock: socket.socket) -> Callable[[], None]:
        return lambda: self._read_some(sock, DATAGRAMS_A_TURN, BYTES_A_TURN)

    def _read_some(self, sock: socket.socket, limit: int, bytes_limit: int) -> None:
        """First phase of a turn: take in what has come."""
        end = self.received_bytes + bytes_limit
        for _ in range(limit):
            try:
                datagram = sock.recv(DATAGRAM_BYTES)
            except OSError:  # there is none, or the system tells of an earlier one
                break
            self.received += 1
            self.received_bytes += len(datagram)
            if datagram:
                self._take(datagram)
            if self.received_bytes >= end:
                break
        self._answer_soon()

    def _take(self, datagram: bytes) -> None:
        session = self._make_session()
        try:
            session.receive(datagram, False)
            session.receive(b"", False)
        except Exception:
            logger.exception(FAULT)
        else:
            self._sessions[session] = None

    def _go_on(self) -> None:
        """First phase: let the first session do a little of what is left."""
        for first in self._sessions:  # if there is none, this has been closed meanwhile
            if not self._go_on_with(first):
                del self._sessions[first]
            self._answer_soon()
            return

    def _go_on_with(self, session: Session) -> bool:
        """Return whether that went well."""
        try:
            session.go_on()
        except Exception:
            logger.exception(FAULT)
            return False
        return True

    def _answer_soon(self) -> None:
        if not self._answering:
            self._answering = True
            self._reactor.to_answer.append(self)

    def answer(self) -> None:
        """Last phase: forget the sessions that are done, and wait for the first that is not."""
        self._answering = False
        for first in list(self._sessions):
            if not self._is_done(first):
                self._wait_for(first)
                return
            del self._sessions[first]
        self.resume()

    def _wait_for(self, session: Session) -> None:
        self._stop_watching()
        if session.waiting:
            session.when_answered(self._go_on)
        else:
            self._reactor.call_later(0.0, self._go_on)

    def _is_done(self, session: Session) -> bool:
        try:
            session.replies()  # nobody hears them
        except Exception:
            logger.exception(FAULT)
            return True
        return not (session.unfinished or session.waiting)

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.forget()
        self._watches = []
