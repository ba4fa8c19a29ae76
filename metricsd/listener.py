"""The listening sockets: new clients come in here, as long as there is room for them.

Owns opening the sockets, accepting, and pausing at a limit. Does not know what a client is: each
accepted socket is handed on.
"""

import errno
import logging
import os
import socket
import sys
from typing import Callable, List, Optional, Tuple

from metricsd.reactor import LOG_SECONDS, READ, Reactor, Watch, close_socket

logger = logging.getLogger("metricsd")

# The kernel completes so many connections ahead of accept (fewer if net.core.somaxconn is lower).
BACKLOG = 4096

# At most so many are accepted in one turn, so that a storm of clients does not keep the others
# waiting: at some 20 us each, about a millisecond.
ACCEPTS_A_TURN = 64

# With no descriptor left, look again after so many seconds: they may all be another process's, and
# nobody tells us when it closes one.
PAUSE_SECONDS = 1.0

# So much may wait in the kernel for a client to take more, in bytes. Without this limit the send
# buffer grows to megabytes, also for a client that has stopped reading. (Linux, macOS; tcp(7).)
UNSENT_BYTES = 64 * 1024
NOTSENT_LOWAT: Optional[int] = getattr(socket, "TCP_NOTSENT_LOWAT", None)
if NOTSENT_LOWAT is None and sys.platform.startswith("linux"):
    NOTSENT_LOWAT = 25  # Python 3.6 has no name for it; this is Linux's, from linux/tcp.h

Address = Tuple[object, ...]  # as the socket module has it: host and port come first


class ListenError(OSError):
    """An address can't be had; the message says which and why, ``errno`` is the system's."""

    def __init__(self, message: str, code: Optional[int]) -> None:
        super().__init__(message)
        self.errno = code


class Listener:
    """Accepts clients on every address that a host name stands for.

    A socket that can't be accepted stays ready, and a loop that goes on watching it spins. So at a
    limit nothing is watched, and new clients wait in the kernel, until there is room again.
    """

    def __init__(
        self,
        host: Optional[str],
        port: int,
        reactor: Reactor,
        has_room: Callable[[], bool],
        on_accept: Callable[[socket.socket, Address], None],
    ) -> None:
        """Listen. ``host`` "" or None means every address of the machine, port 0 any free port.

        Raises ListenError if the name is unknown or an address can't be had.
        """
        self._reactor = reactor
        self._has_room = has_room
        self._on_accept = on_accept
        self._next_log = reactor.now
        try:
            self._sockets = _open_sockets(host, port)
        except (OSError, UnicodeError) as error:
            where = format_address(host or "*", port)
            code = getattr(error, "errno", None)
            raise ListenError(f"cannot listen on {where}: {_reason(error)}", code) from error
        self.addresses: List[Address] = [sock.getsockname() for sock in self._sockets]
        self._watches: List[Watch] = []  # empty while there is no room
        self.resume()

    def resume(self) -> None:
        """There may be room again."""
        if self._watches:
            return
        try:
            for sock in self._sockets:
                self._watches.append(self._reactor.watch(sock, READ, self._on_ready))
        except OSError as error:
            self._pause(str(error))
            self._reactor.call_later(PAUSE_SECONDS, self.resume)

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
        except (ConnectionError, InterruptedError):
            return True  # this one is gone already
        except OSError as error:
            self._pause(str(error))
            self._reactor.call_later(PAUSE_SECONDS, self.resume)
            return False
        self._hand_on(client, address)
        return True

    def _hand_on(self, client: socket.socket, address: Address) -> None:
        try:
            client.setblocking(False)
            self._on_accept(client, address)
        except OSError as error:
            logger.debug("%s: %s", address, error)
            close_socket(client)
        except Exception:
            logger.exception("%s: refused by a fault in the server", address)
            close_socket(client)

    def _pause(self, reason: str) -> None:
        self._stop_watching()
        if self._reactor.now >= self._next_log:
            self._next_log = self._reactor.now + LOG_SECONDS
            logger.warning("new clients wait: %s", reason)

    def _stop_watching(self) -> None:
        for watch in self._watches:
            watch.forget()
        self._watches = []


def _open_sockets(host: Optional[str], port: int) -> List[socket.socket]:
    sockets: List[socket.socket] = []
    missing = OSError("the name has no address")
    try:
        for family, address in _resolve(host, port):
            if sockets and port == 0:  # the port that the system chose for the first one
                address = (address[0], sockets[0].getsockname()[1]) + address[2:]
            try:
                sockets.append(_open_socket(family, address))
            except OSError as error:
                # A name may stand for an IPv6 address on a machine that has none.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if not sockets:
            raise missing
    except BaseException:
        for sock in sockets:
            close_socket(sock)
        raise
    return sockets


def _resolve(host: Optional[str], port: int) -> List[Tuple[int, Address]]:
    """Every address of a host name, IPv4 first."""
    if not 0 <= port <= 65535:
        raise OSError(f"a port is a number from 0 to 65535, not {port}")
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = {(family, address) for family, _, _, _, address in found}
    return sorted(addresses, key=lambda pair: (pair[0] != socket.AF_INET, str(pair[1])))


def _open_socket(family: int, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this option lets two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Accepted sockets inherit these. A reply leaves in one send, which Nagle's algorithm could
        # only delay; keep-alive ends connections whose other end has lost its power.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if NOTSENT_LOWAT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        close_socket(sock)
        raise
    return sock


def format_address(host: str, port: int) -> str:
    """``127.0.0.1:8888``, or for IPv6 ``[::1]:8888``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Exception) -> str:
    """What went wrong, and what to do about it."""
    if isinstance(error, UnicodeError):
        return "this is not a host name"
    reason = getattr(error, "strerror", None) or str(error)
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        return f"{reason}; stop what listens there, or choose another port"
    if code == errno.EACCES:
        return f"{reason}; choose a port above 1023"
    return reason
