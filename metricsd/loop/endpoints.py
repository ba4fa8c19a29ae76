"""Endpoints: where clients may connect or send to, and what is spoken there.

Owns opening the sockets, with the options that accepted ones inherit. Does not accept, nor read.
"""

import errno
import ipaddress
import logging
import os
import socket
import sys
from itertools import product
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple

from metricsd.loop.sessions import Session
from metricsd.loop.sockets import close_socket

logger = logging.getLogger("metricsd")

# Connections that the kernel completes ahead of accept (fewer if net.core.somaxconn is lower).
BACKLOG = 4096

# Bytes that may wait in the kernel for a client to take more. Without this limit the send buffer
# grows to megabytes, also for a client that has stopped reading. (Linux, macOS; tcp(7).)
UNSENT_BYTES = 64 * 1024
NOTSENT_LOWAT: Optional[int] = getattr(socket, "TCP_NOTSENT_LOWAT", None)
if NOTSENT_LOWAT is None and sys.platform.startswith("linux"):
    NOTSENT_LOWAT = 25  # Python 3.6 has no name for it; this is Linux's, from linux/tcp.h

# Bytes of datagrams that may wait in the kernel, for bursts while the loop is busy; a system that
# allows less gives what it allows (Linux: net.core.rmem_max).
DATAGRAMS_WAITING_BYTES = 4 * 1024 * 1024

# Free ports that are tried until one is free on every address of a name.
PORT_TRIES = 16

Address = Tuple[object, ...]  # as the socket module has it: host and port come first
Opener = Callable[[int, Address], socket.socket]  # of one family, on one address


class ListenError(OSError):
    """An address can't be had; the message says which and why, ``errno`` is the system's."""

    def __init__(self, message: str, code: Optional[int]) -> None:
        super().__init__(message)
        self.errno = code


class Endpoint(NamedTuple):
    """Listening sockets, and how a session is made for each client that connects to one."""

    name: str
    sockets: List[socket.socket]
    make_session: Callable[[], Session]
    in_datagrams: bool = False  # each is a conversation of its own, without replies
    protection: str = ""  # of what is said, in words, such as "with TLS"
    guarded: bool = False  # nobody gets in who has not proved who it is


def open_tcp(host: Optional[str], port: int) -> List[socket.socket]:
    """Listen on every address of a host; "" or None is every one of the machine, port 0 any free.

    Raises ListenError if the name is unknown or an address can't be had.
    """
    return _open(host, port, (_open_one,))


def open_tcp_and_udp(
    host: Optional[str], port: int
) -> Tuple[List[socket.socket], List[socket.socket]]:
    """Listen as open_tcp does, and take datagrams at the same addresses and port."""
    sockets = _open(host, port, (_open_one, _open_datagrams))
    half = len(sockets) // 2
    return sockets[:half], sockets[half:]


def prepare(sock: socket.socket) -> None:
    """Set what the sockets that a TCP one accepts inherit; nothing on a unix one. Raises OSError.

    A reply leaves in one send, which Nagle's algorithm could only delay; keep-alive ends
    connections whose other end has lost its power.
    """
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if NOTSENT_LOWAT is not None:
            sock.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)


def format_address(host: str, port: int) -> str:
    """``127.0.0.1:8888``, or for IPv6 ``[::1]:8888``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def say_address(address: Any) -> str:
    """An address of the socket module, as format_address has it, or ``unix:/path``."""
    return "unix:" + address if isinstance(address, str) else format_address(*address[:2])


def announce(listeners: Iterable[Any]) -> None:
    """Tell in the log where a server listens, and who can get there."""
    exposed: Dict[str, None] = {}  # a set, in order
    for listener in listeners:
        endpoint = listener.endpoint
        what = "" if endpoint.name in ("put", "unix") else f"for {endpoint.name} "
        where = " and ".join(map(say_address, listener.addresses))
        logger.info("listening %s", f"{what}on {where} {endpoint.protection}".rstrip())
        if not endpoint.guarded:
            exposed.update((a[0], None) for a in listener.addresses if _from_elsewhere(a))
    for host in exposed:
        logger.warning(
            "%s can be reached from other machines, and the protocol has no access control: "
            "anyone who reaches it can read and write every metric",
            host,
        )


def _from_elsewhere(address: Any) -> bool:
    """Whether other machines get to an address of this one."""
    if isinstance(address, str):  # a path
        return False
    return not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback


def _open(host: Optional[str], port: int, kinds: Iterable[Opener]) -> List[socket.socket]:
    """Open a socket of each kind on every address, all on one port. Raises ListenError."""
    tries = PORT_TRIES if port == 0 else 1
    while True:
        tries -= 1
        try:
            return _open_all(host, port, kinds)
        except (OSError, UnicodeError) as error:
            code = getattr(error, "errno", None)
            if code == errno.EADDRINUSE and tries > 0:
                continue  # the port that the first address was given is not free on another one
            where = format_address(host or "*", port)
            raise ListenError(f"cannot listen on {where}: {_reason(error)}", code) from None


def _open_all(host: Optional[str], port: int, kinds: Iterable[Opener]) -> List[socket.socket]:
    sockets: List[socket.socket] = []
    missing = OSError("the name has no address")
    try:
        for open_one, (family, address) in product(kinds, _resolve(host, port)):
            if sockets and port == 0:  # the port that the system chose for the first one
                address = (address[0], sockets[0].getsockname()[1]) + address[2:]
            try:
                sockets.append(open_one(family, address))
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


def _open_one(family: int, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere this option lets two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # IPv4 has a socket of its own
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        prepare(sock)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        close_socket(sock)
        raise
    return sock


def _open_datagrams(family: int, address: Address) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        # No SO_REUSEADDR: with it a second server could take the port, and all that comes to it.
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, DATAGRAMS_WAITING_BYTES)
        sock.setblocking(False)
        sock.bind(address)
    except BaseException:
        close_socket(sock)
        raise
    return sock


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
