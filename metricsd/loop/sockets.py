"""Sockets: what the system says of them, and how they are read and written.

Owns one short cut: where a socket is a file descriptor, read(2) and write(2) do what recv and send
do, and reach the system in fewer steps of Python's, a twentieth of what a put takes.
"""

import errno
import os
import socket
from typing import Any, Callable

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


def more_waiting(sock: socket.socket) -> bool:
    """Whether more has come than has been read. Raises OSError if the connection is lost."""
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except (BlockingIOError, InterruptedError):
        return False


read: Callable[[Any, int], bytes]  # (handle, most): the bytes that have come, b"" at the end
write: Callable[[Any, bytes], int]  # (handle, bytes): how many of them are taken
handle: Callable[[socket.socket], Any]  # of a socket, for these two

if os.name == "posix":
    read, write, handle = os.read, os.write, socket.socket.fileno
else:
    read, write, handle = socket.socket.recv, socket.socket.send, lambda sock: sock
