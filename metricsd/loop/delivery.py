"""Delivery: whether what was sent has reached the other end.

Owns the wait for that at the end of a connection. Does not know why it ends.
"""

import socket
import struct
from typing import Callable, Optional

from metricsd.loop.reactor import Reactor
from metricsd.loop.timers import Timer

try:
    import fcntl
    import termios
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

# Seconds between two looks whether a client's system has taken its last replies.
DELIVERY_CHECK_SECONDS = 0.02

DROPPED_BYTES = 16 * 1024  # of input that nobody will read any more


class Delivery:
    """Closes once the client's system has acknowledged every reply.

    Closing earlier could reset the connection and lose them.
    """

    def __init__(self, sock: socket.socket, reactor: Reactor, close: Callable[[], None]) -> None:
        self._socket = sock
        self._reactor = reactor
        self._close = close
        self._timer: Optional[Timer] = None
        self._look()

    def cancel(self) -> None:
        """Somebody else has closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        # A client that has left before has reset the connection, and acknowledges nothing any more.
        lost = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if undelivered(self._socket) and not lost:
            self._timer = self._reactor.call_later(DELIVERY_CHECK_SECONDS, self._look)
            return
        try:
            self._socket.recv(DROPPED_BYTES)  # with nothing unread the client sees an orderly end
        except OSError:
            pass
        self._close()


def undelivered(sock: socket.socket) -> int:
    """How many bytes the other end's system has not acknowledged; 0 where that can't be told.

    The request has this meaning for TCP sockets on Linux: tcp(7), SIOCOUTQ. What a unix socket has
    sent is at the other end, and stays readable there.
    """
    if fcntl is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))
    except OSError:
        return 0
    return int(count)
