"""Sockets: what the system says of them."""

import errno
import socket

# What accept may say of a client that has gone, or whose network has: accept(2). It is not ours.
GONE = (
    errno.ECONNABORTED, errno.ECONNRESET, errno.EINTR, errno.EPROTO, errno.EPERM, errno.ETIMEDOUT,
    errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOPROTOOPT,
    errno.EOPNOTSUPP, getattr(errno, "ENONET", errno.EPROTO),
)  # fmt: skip


def close_socket(sock: socket.socket) -> None:
    """Close, whatever the system says to it: the descriptor is free in any case, see close(2)."""
    try:
        sock.close()
    except OSError:
        pass
