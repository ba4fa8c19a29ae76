"""The network: sockets that are two buffers in memory, and the selector that watches them.

Owns what the kernel would: how many bytes wait on each side, and who is ready. Does not know who
sends what, nor when. A method without a docstring does what the one of the same name does.
"""
# ruff: noqa: D102

import errno
import os
import selectors
import socket
from collections import deque
from typing import Any, Callable, Dict, List, Optional, Tuple

from simulation.model import promise

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

Call = Callable[..., None]  # (name, socket): before each system call, which it may let fail


def failure(code: int) -> OSError:
    """The exception for an error of the system."""
    return OSError(code, os.strerror(code))


class Socket:
    """The server's end of a connection."""

    family = None  # neither TCP nor a unix socket

    def __init__(self, call: Call, room: int = 0) -> None:
        self._call = call
        self.room = room  # bytes that wait for the other end at most
        self.inbound: Any = bytearray()  # that has come, and has not been received
        self.outbound = bytearray()  # that was sent, and has not been read at the other end
        self.blocks = True
        self.ended = self.reset = self.shut = self.closed = False
        self.troubled = False  # the system has failed a call
        self.receives = self.sends = 0  # since somebody set them to 0
        self.moved = 0  # bytes in both directions, or clients

    def __repr__(self) -> str:
        return "<a socket>"

    def fileno(self) -> int:
        return -1 if self.closed else 3

    def setblocking(self, flag: bool) -> None:
        self.blocks = flag

    def getsockname(self) -> Tuple[str, int]:
        return "192.0.2.1", 8888

    def getsockopt(self, level: int, option: int) -> int:
        return errno.ECONNRESET if self.reset else 0  # SO_ERROR

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._begin("recv")
        if not (self.inbound or self.ended):
            raise BlockingIOError
        data = bytes(self.inbound[:size])
        if not flags & socket.MSG_PEEK:
            self.receives += 1
            self.moved += len(data)
            del self.inbound[:size]
        return data

    def send(self, data: bytes) -> int:
        self._begin("send")
        if self.shut:
            raise failure(errno.EPIPE)
        self.sends += 1
        count = min(len(data), self.room - len(self.outbound))
        if count <= 0:
            raise BlockingIOError
        self.outbound += data[:count]
        self.moved += count
        return count

    def shutdown(self, how: int) -> None:
        self._begin("shutdown")
        if how == socket.SHUT_RD:
            self.ended = True  # what comes after all is received, as on Linux
        else:
            self.shut = True

    def close(self) -> None:
        self.closed = self.shut = True
        if self.inbound:  # TCP resets, and what is still under way is lost
            self.outbound.clear()

    def undelivered(self) -> int:
        """Stand for what the connection asks of it with ioctl."""
        promise(not self.closed, "a socket is used after it was closed")
        return len(self.outbound)

    def ready(self, events: int) -> int:
        """Which of the events there are; all of them after a hang-up."""
        if self.reset or (self.ended and self.shut):
            return events
        found = READ if self.inbound or self.ended else 0
        return events & (found | WRITE if len(self.outbound) < self.room else found)

    def _begin(self, name: str) -> None:
        promise(not self.blocks, "a socket blocks")
        promise(not self.closed, "a socket is used after it was closed")
        self._call(name, self)
        if self.reset:
            raise failure(errno.ECONNRESET)


class Listening(Socket):
    """A listening socket: what has come are clients."""

    def __init__(self, call: Call) -> None:
        super().__init__(call)
        self.inbound, self.blocks = deque(), False

    def accept(self) -> Tuple[Socket, Tuple[str, int]]:
        if not self.inbound:
            raise BlockingIOError
        self.receives += 1
        self._begin("accept")
        self.moved += 1
        return self.inbound.popleft(), ("198.51.100.7", 40_000)

    def close(self) -> None:
        super().close()
        for sock in self.inbound:
            sock.close()


class Selector:
    """Says who is ready, beginning with number ``first`` of them; waiting is the world's turn."""

    def __init__(self, wait: Callable[[Optional[float]], List[Any]], call: Call) -> None:
        self.select = wait
        self._call = call
        self.watched: Dict[Any, selectors.SelectorKey] = {}
        self.first = 0
        self.closed = False

    def register(self, sock: Any, events: int, data: Any = None) -> None:
        promise(not sock.closed and sock not in self.watched, "a socket is watched at a wrong time")
        promise(events in (READ, WRITE), "a socket is watched for nothing, and a hang-up spins")
        self._call("watch", sock)
        self.watched[sock] = selectors.SelectorKey(sock, 3, events, data)

    def modify(self, sock: Any, events: int, data: Any = None) -> None:
        del self.watched[sock]
        self.register(sock, events, data)

    def unregister(self, sock: Any) -> None:
        promise(not sock.closed, "a socket is closed before it is forgotten")
        del self.watched[sock]

    def close(self) -> None:
        self.closed = True

    def ready(self) -> List[Tuple[selectors.SelectorKey, int]]:
        """Who is ready now."""
        found = [(key, sock.ready(key.events)) for sock, key in self.watched.items()]
        found = [(key, events) for key, events in found if events]
        first = self.first % max(len(found), 1)
        return found[first:] + found[:first]
