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
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

FIRST_DESCRIPTOR = 10**6  # beyond all that the process has, so that none is mistaken for one
PIPE_BYTES = 4096

SystemCall = Callable[[], None]  # called before each; what the world does meanwhile


def failure(code: int) -> OSError:
    """The exception for an error of the system."""
    return OSError(code, os.strerror(code))


class Socket:
    """The server's end of a connection."""

    def __init__(self, number: int, call: SystemCall, out_room: int = 0) -> None:
        self.number = number
        self._call = call
        self.inbound = bytearray()  # that has come, and has not been received
        self.outbound = bytearray()  # that was sent, and has not been read at the other end
        self.out_room = out_room
        self.ended = self.reset = self.shut = self.closed = False
        self.refused = False  # the selector has refused it
        self.not_ready = False  # once, though the selector says so
        self.receives = self.sends = 0  # since somebody set them to 0
        self.moved = 0  # bytes in both directions, or clients

    def __repr__(self) -> str:
        return f"<socket {self.number}>"

    def fileno(self) -> int:
        return -1 if self.closed else FIRST_DESCRIPTOR + self.number

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._begin()
        peeking = flags & socket.MSG_PEEK
        self.receives += not peeking
        if not (self.inbound or self.ended) or self.not_ready:
            self.not_ready = False
            raise BlockingIOError
        data = bytes(self.inbound[:size])
        if not peeking:
            del self.inbound[:size]
            self.moved += len(data)
        return data

    def send(self, data: bytes) -> int:
        self._begin()
        self.sends += 1
        if self.shut:
            raise failure(errno.EPIPE)
        count = min(len(data), self.out_room - len(self.outbound))
        if count <= 0:
            raise BlockingIOError
        self.outbound += data[:count]
        self.moved += count
        return count

    def shutdown(self, how: int) -> None:
        self._begin()
        if how == socket.SHUT_RD:
            self.ended = True  # what comes after all is received, as on Linux
        else:
            self.shut = True

    def close(self) -> None:
        self.closed = self.shut = True
        if self.inbound:  # TCP resets, and what is still under way is lost
            self.outbound.clear()

    def getsockopt(self, level: int, option: int) -> int:
        """The error of the connection, as SO_ERROR has it."""
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return errno.ECONNRESET if self.reset else 0

    def undelivered(self) -> int:
        """Stand for what the connection asks of it with ioctl, and fail as that does."""
        if self.closed:
            raise ValueError("file descriptor cannot be a negative integer (-1)")
        return len(self.outbound)

    def ready(self, events: int) -> int:
        """Which of the events there are; all of them after a hang-up."""
        if self.reset or (self.ended and self.shut):
            return events
        found = READ if self.inbound or self.ended else 0
        return events & (found | WRITE if len(self.outbound) < self.out_room else found)

    def _begin(self) -> None:
        self._call()
        if self.closed:
            raise failure(errno.EBADF)
        if self.reset:
            raise failure(errno.ECONNRESET)


def pair(call: SystemCall) -> Tuple[Socket, Socket]:
    """Two sockets; what is sent to the first arrives at the second, before any world notices."""
    sender, receiver = Socket(0, lambda: None, PIPE_BYTES), Socket(0, call)
    sender.outbound = receiver.inbound
    return sender, receiver


class Listening(Socket):
    """A listening socket; ``failures`` are the errors of the next calls of accept."""

    def __init__(self, number: int, call: SystemCall) -> None:
        super().__init__(number, call)
        self.backlog: Deque[Tuple[Socket, Tuple[str, int]]] = deque()
        self.failures: List[int] = []
        self.out_of_descriptors = False

    def getsockname(self) -> Tuple[str, int]:
        return "192.0.2.1", 8888

    def accept(self) -> Tuple[Socket, Tuple[str, int]]:
        self._begin()
        self.receives += bool(self.backlog)
        if not self.backlog:
            raise BlockingIOError
        if self.out_of_descriptors:
            raise failure(errno.EMFILE)
        if self.failures:
            self.backlog.popleft()[0].reset = True
            raise failure(self.failures.pop())
        self.moved += 1
        return self.backlog.popleft()

    def close(self) -> None:
        super().close()
        for sock, _ in self.backlog:
            sock.reset = sock.closed = True

    def ready(self, events: int) -> int:
        return events & (READ if self.backlog else 0)


class Datagrams(Listening):
    """A socket to which datagrams come; what it holds when it is closed is lost."""

    def __init__(self, number: int, call: SystemCall) -> None:
        super().__init__(number, call)
        self.waiting: Deque[bytes] = deque()

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._begin()
        if not self.waiting:
            raise BlockingIOError
        self.moved += 1
        return self.waiting.popleft()[:size]

    def ready(self, events: int) -> int:
        return events & (READ if self.waiting else 0)


class Selector(selectors.BaseSelector):
    """Says who is ready, in the order of ``first``; waiting is the world's turn."""

    def __init__(self, wait: Callable[[Optional[float]], List[Any]]) -> None:
        self._wait = wait
        self._keys: Dict[Any, selectors.SelectorKey] = {}
        self.refusals = 0  # of the next changes
        self.first = 0  # where in the order of their coming the list begins
        self.closed = False

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._may_refuse(fileobj)
        if fileobj.fileno() < 0 or not events:
            raise ValueError("not to be watched")
        if fileobj in self._keys:
            raise KeyError("watched already")
        key = self._keys[fileobj] = selectors.SelectorKey(fileobj, fileobj.number, events, data)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if not events:
            raise ValueError("not to be watched")
        key = self._keys.pop(fileobj)
        self._may_refuse(fileobj)
        key = self._keys[fileobj] = key._replace(events=events, data=data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        if fileobj.fileno() < 0:
            raise ValueError("closed before it was forgotten")
        return self._keys.pop(fileobj)

    def select(self, timeout: Optional[float] = None) -> List[Any]:
        return self._wait(timeout)

    def ready(self) -> List[Tuple[selectors.SelectorKey, int]]:
        """Who is ready now."""
        found = []
        for key in self._keys.values():
            events = key.fileobj.ready(key.events)  # type: ignore[union-attr]
            if events:
                found.append((key, events))
        if len(found) > 1:
            first = self.first % len(found)
            found = found[first:] + found[:first]
        return found

    def close(self) -> None:
        self.closed = True

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def _may_refuse(self, sock: Any) -> None:
        if self.refusals:
            sock.refused = True
            self.refusals -= 1
            raise failure(errno.ENOSPC)
