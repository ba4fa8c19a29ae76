"""One client's socket and what is left to send to it.

Owns receiving, sending, the interest in one or the other, and closing. Does not know what the bytes
mean: that is its session.
"""

import logging
import socket
from typing import Callable, Tuple, Union

from metricsd.loop.delivery import Delivery
from metricsd.loop.reactor import Reactor
from metricsd.loop.sessions import Session
from metricsd.loop.sockets import close_socket, handle, more_waiting, read, write
from metricsd.loop.timers import NO_TIMER, Timer
from metricsd.loop.watches import READ, WRITE

logger = logging.getLogger("metricsd")

# Bytes of one receive. Larger ones hold the loop longer for one client; from 128 KiB on, malloc
# maps and unmaps memory for each.
RECEIVE_BYTES = 16 * 1024

# Seconds for which a connection that the server ends goes on reading, and drops what it reads:
# closing a socket with unread input makes TCP throw away the replies that are still under way.
LINGER_SECONDS = 2.0


class Connection:
    """A client. It is listening or talking, never both: nothing is read while a reply is unsent.

    So a client that asks faster than it reads is slowed down by TCP, and its buffers are bounded.
    """

    __slots__ = (
        "_address", "_ending", "_handle", "_input_ended", "_lingering", "_listening", "_on_close",
        "_outbox", "_reactor", "_socket", "_timer", "_waiting", "_watch", "last_active", "session",
    )  # fmt: skip

    def __init__(
        self,
        sock: socket.socket,
        address: Tuple[object, ...],
        session: Session,
        reactor: Reactor,
        on_close: Callable[["Connection"], None],
    ) -> None:
        """Watch a socket that does not block. Raises OSError if the system refuses."""
        self._socket = sock
        self._handle = handle(sock)
        self._address = address  # for the log; the socket may not know it any more
        self.session = session
        self._reactor = reactor
        self._on_close = on_close
        self._outbox = b""  # said and not yet sent
        self._listening = True  # for the next arrival, with nothing left to say
        self._waiting = False  # the session has been asked to call back
        self._input_ended = False  # the client says no more, but may still be listening
        self._lingering = False  # we have said all, too: what is read now is dropped
        self._ending = False  # the server wants to stop
        self._timer: Union[Timer, Delivery] = NO_TIMER  # of the end; there is at most one
        self.last_active = reactor.now  # in seconds, by the reactor's clock
        self._watch = reactor.watch(sock, READ, self._on_readable)

    def __repr__(self) -> str:
        return f"<Connection {self._address} outbox={len(self._outbox)}>"

    @property
    def idle(self) -> bool:
        """Whether nothing is pending in either direction."""
        return self._listening and not self._outbox and self.session.idle

    def end_input(self) -> None:
        """Answer what has arrived, then close: as if the client had said that this is all."""
        self._ending = True
        try:
            # What waits in the socket is still received; after it comes the end of input.
            self._socket.shutdown(socket.SHUT_RD)
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        """End the connection now. Closing twice is harmless."""
        if self._socket.fileno() >= 0:
            self._watch.forget()
            self._timer.cancel()
            close_socket(self._socket)
            self._on_close(self)

    def _on_readable(self) -> None:
        """First phase of a turn, while listening: take in what has come."""
        try:
            data = read(self._handle, RECEIVE_BYTES)
            if data and len(data) < RECEIVE_BYTES and not self._ending:
                self.session.receive(data, False)
            else:
                self._receive_more_or_less(data)
        except (BlockingIOError, InterruptedError):
            return  # not ready after all; the loop comes back
        except Exception as error:
            self._fail(error)
            return
        self.last_active = self._reactor.now
        self._reactor.to_answer.append(self)

    def _receive_more_or_less(self, data: bytes) -> None:
        """Take in as much as fits, of which there may be more, or the last that there is.

        No data is the end of input, of which the session hears as of any arrival. While stopping,
        so is the end of what had arrived: some clients never stop sending.
        """
        full = len(data) == RECEIVE_BYTES
        if not full:
            self._input_ended = True
            self._listening = False
        if data or not self._ending:  # or else a line that had begun would be taken for a whole one
            self.session.receive(data, full and more_waiting(self._socket))

    def _on_writable(self) -> None:
        """First phase, while talking: make more of what there is to say, if all has been sent."""
        self.last_active = self._reactor.now
        try:
            if not self._outbox and self.session.unfinished:
                self.session.go_on()
        except Exception as error:
            self._fail(error)
            return
        self._reactor.to_answer.append(self)

    def _on_ready_while_waiting(self) -> None:
        """First phase: something has come that can't be read yet: stop watching, or spin."""
        if self._waiting:  # if not, the answer has come in this turn
            self._watch.forget()

    def _on_answered(self) -> None:
        """First phase of a turn: what the session was waiting for has come."""
        self._waiting = False
        if self._outbox or self._socket.fileno() < 0:
            return  # the rest of a reply goes first; or the client has left meanwhile
        try:
            if self._watch.callback is None:
                self._watch = self._reactor.watch(self._socket, READ, self._on_readable)
        except Exception as error:
            self._fail(error)
        else:
            self._on_writable()

    def answer(self) -> None:
        """Last phase: send once, and decide what to wait for."""
        session = self.session
        sent = 0
        try:
            said = session.replies()
            if self._outbox:
                said = self._outbox + said
            if said:
                sent = write(self._handle, said)
        except (BlockingIOError, InterruptedError):
            pass  # the system takes nothing now
        except Exception as error:
            self._fail(error)
            return
        if sent == len(said) and self._listening and session.quiet:
            return  # nearly always: all is said, and the next arrival is waited for
        self._outbox = said[sent:]
        try:
            self._wait_for_next()
        except Exception as error:
            self._fail(error)

    def _wait_for_next(self) -> None:
        """The interest is derived from the buffers, here and nowhere else."""
        session = self.session
        if session.waiting and not self._waiting:
            self._waiting = True
            session.when_answered(self._on_answered)
        self._listening = False
        if self._outbox or (session.unfinished and not self._waiting):
            self._watch.change(WRITE, self._on_writable)
        elif self._waiting:
            self._watch.change(READ, self._on_ready_while_waiting)
        elif self._input_ended or session.over:
            self._end()
        else:
            self._watch.change(READ, self._on_readable)
            self._listening = True

    def _end(self) -> None:
        """All is said, and nothing more will be listened to."""
        if self._ending:
            self._watch.forget()
            self._timer.cancel()  # it may have lingered
            self._timer = Delivery(self._socket, self._reactor, self.close)
        elif self._input_ended:
            self.close()
        elif not self._lingering:
            self._lingering = True
            self._socket.shutdown(socket.SHUT_WR)
            self._watch.change(READ, self._on_readable)
            self._timer = self._reactor.call_later(LINGER_SECONDS, self.close)

    def _fail(self, error: Exception) -> None:
        """End this connection and no other: the network failed it, or we did."""
        if isinstance(error, OSError):
            logger.debug("%r: %s", self, error)
        else:
            logger.error("%r: closed by a fault in the server", self, exc_info=error)
        self.close()
