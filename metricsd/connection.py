"""One client's socket and what is left to send to it.

Owns receiving, sending, the interest in one or the other, and closing. Does not know what the bytes
mean: that is its session.
"""

import logging
import socket
import struct
from typing import Callable, Tuple

from metricsd.reactor import READ, WRITE, Reactor, close_socket
from metricsd.session import Session

try:
    import fcntl
    import termios
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("metricsd")

# One receive, in bytes. Larger ones hold the loop longer for one client; from 128 KiB on, malloc
# maps and unmaps memory for each.
RECEIVE_BYTES = 16 * 1024

# A connection that the server ends keeps reading, and dropping what it reads, for so many seconds:
# closing a socket with unread input makes TCP throw away the replies that are still under way.
LINGER_SECONDS = 2.0

# While stopping, look so often, in seconds, whether a client's system has taken its last replies.
DELIVERY_CHECK_SECONDS = 0.02


class Connection:
    """A client. It is listening or talking, never both: nothing is read while a reply is unsent.

    So a client that asks faster than it reads is slowed down by TCP, and its buffers are bounded.
    """

    __slots__ = (
        "_address",
        "_ending",
        "_input_ended",
        "_lingering",
        "_on_close",
        "_outbox",
        "_reactor",
        "_session",
        "_socket",
        "_watch",
        "last_active",
    )

    def __init__(
        self,
        sock: socket.socket,
        address: Tuple[object, ...],
        session: Session,
        reactor: Reactor,
        on_close: Callable[["Connection"], None],
    ) -> None:
        """Begin to listen to a non-blocking socket. Raises OSError if it can't be watched."""
        self._socket = sock
        self._address = address  # as accept told it: the peer may be gone when we come to ask
        self._session = session
        self._reactor = reactor
        self._on_close = on_close
        self._outbox = b""  # what is left of the last piece of replies: at most a piece is copied
        self._input_ended = False
        self._ending = False  # the server is stopping
        self._lingering = False
        self.last_active = reactor.now
        self._watch = reactor.watch(sock, READ, self._on_ready)

    def __repr__(self) -> str:
        return f"<Connection {self._address} outbox={len(self._outbox)}>"

    @property
    def idle(self) -> bool:
        """Whether nothing is pending in either direction."""
        return not self._outbox and self._session.idle

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
            close_socket(self._socket)
            self._on_close(self)

    def _on_ready(self) -> None:
        """First phase of a turn: take in what has come, or go on with what there is to say."""
        try:
            if self._outbox:
                pass  # there is room for it now
            elif self._session.unfinished:
                self._outbox = self._session.replies()
            else:
                data = self._socket.recv(RECEIVE_BYTES)
                # No data is the end of input, of which the session hears as of any arrival. While
                # stopping, so is the end of what had arrived: some clients never stop sending.
                self._input_ended = not data or (self._ending and len(data) < RECEIVE_BYTES)
                more_waiting = len(data) == RECEIVE_BYTES and self._more_waiting()
                self._outbox = self._session.receive(data, more_waiting)
        except (BlockingIOError, InterruptedError):
            return  # not ready after all; the loop comes back
        except Exception as error:
            self._fail(error)
            return
        self._reactor.after_commit(self._on_commit)

    def _on_commit(self) -> None:
        """Last phase: send once, and decide what to wait for."""
        try:
            if self._session.uncommitted:
                self._outbox = self._session.committed(self._outbox)
            if self._outbox:
                self._send()
            self.last_active = self._reactor.now
            # The interest is derived from the buffers, here and nowhere else.
            if self._outbox or self._session.unfinished:
                self._watch.change(WRITE)
            elif self._input_ended or self._session.over:
                self._end()
            elif self._watch.events != READ:
                self._watch.change(READ)
        except Exception as error:
            self._fail(error)

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._outbox)
        except (BlockingIOError, InterruptedError):
            return  # all of it waits until the socket is writable
        self._outbox = self._outbox[sent:]

    def _end(self) -> None:
        """All is said, and nothing more will be listened to."""
        if self._ending:
            self._close_when_delivered()
        elif self._input_ended:
            self.close()
        elif not self._lingering:
            self._lingering = True
            self._socket.shutdown(socket.SHUT_WR)
            self._watch.change(READ)
            self._reactor.call_later(LINGER_SECONDS, self.close)

    def _close_when_delivered(self) -> None:
        """Close when the client's system has all replies: if it sends more now, closing resets."""
        self._watch.forget()
        if _undelivered(self._socket):
            self._reactor.call_later(DELIVERY_CHECK_SECONDS, self._close_when_delivered)
            return
        try:
            self._socket.recv(RECEIVE_BYTES)  # with nothing unread the client sees an orderly end
        except OSError:
            pass
        self.close()

    def _more_waiting(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            return False

    def _fail(self, error: Exception) -> None:
        """End this connection and no other: the network failed it, or we did."""
        if isinstance(error, OSError):
            logger.debug("%r: %s", self, error)
        else:
            logger.error("%r: closed by a fault in the server", self, exc_info=error)
        self.close()


def _undelivered(sock: socket.socket) -> int:
    """How many bytes the other end's system has not acknowledged; 0 where that can't be told.

    The request has this meaning for TCP sockets on Linux: tcp(7), SIOCOUTQ.
    """
    if fcntl is None:
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))
    except OSError:
        return 0
    return int(count)
