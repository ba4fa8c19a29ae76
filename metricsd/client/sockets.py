"""Where a server is: an address becomes a socket that is connected to it.

Owns the kinds of addresses. Does not know what is said there.
"""

import socket
from typing import Any, Optional, Tuple

UNIX = "unix:"  # before the path of a socket in the file system


def connected(host: str, port: Optional[int], timeout: Optional[float], tls: Any) -> socket.socket:
    """A socket that is connected to ``host`` and ``port``, or to ``unix:PATH`` without a port.

    ``tls`` is an ssl.SSLContext, or None for no TLS. Raises OSError, OverflowError or ValueError.
    """
    path = unix_path(host) if port is None else None
    if path is not None:
        if tls is not None:
            raise ValueError("a unix socket is spoken to without TLS")
        return _connected_to_unix(path, timeout)
    if port is None:
        raise ValueError("there has to be a port, unless it is unix:PATH")
    sock = socket.create_connection((host, port), timeout)
    # A request is one segment, and in TLS the first one would wait until the end of the handshake
    # has been acknowledged: 40 ms, as there is nothing that the server would say to that.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return sock
    try:
        wrapped = tls.wrap_socket(sock, server_hostname=host)  # takes sock over
    except BaseException:
        sock.close()
        raise
    return wrapped  # type: ignore[no-any-return]


def unix_path(address: str) -> Optional[str]:
    """The path in ``unix:PATH``; None for any other address."""
    return address[len(UNIX) :] if address.startswith(UNIX) else None


def not_ready(tls: Any) -> Tuple[Any, ...]:
    """What a socket raises that does not block, and has nothing to give or to take just now."""
    if tls is None:
        return (BlockingIOError,)
    import ssl

    return BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError


def _connected_to_unix(path: str, timeout: Optional[float]) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ValueError("this system has no unix sockets")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock
