"""The waker: how other threads and signals get through to a loop that sleeps.

Owns a pair of sockets, one of which the loop watches: a byte sent to it ends the wait.
"""

import socket
from collections import deque
from typing import Callable, Deque

from metricsd.loop.sockets import close_socket


class Waker:
    """Wakes a loop, with a callback to call there or without."""

    def __init__(self) -> None:
        """Open the sockets. Raises OSError if the system has no descriptor left."""
        self._posted: Deque[Callable[[], None]] = deque()
        self._sender, self.socket = socket.socketpair()
        try:
            self._sender.setblocking(False)
            self.socket.setblocking(False)
        except BaseException:
            self.close()
            raise

    @property
    def descriptor(self) -> int:
        """A byte written here wakes the loop."""
        return self._sender.fileno()

    def call(self, callback: Callable[[], None]) -> None:
        """Call once in the loop, in the order of the calls to this. Safe from any thread."""
        self._posted.append(callback)
        self.wake()

    def wake(self) -> None:
        """End the wait. Safe from any thread and signal handler."""
        try:
            self._sender.send(b"\0")
        except OSError:
            pass  # full: the loop is awake; closed: it has ended

    def on_wake(self) -> None:
        """In the loop: the socket is ready."""
        try:
            self.socket.recv(4096)
        except OSError:
            pass  # nothing there after all; if there is, the next turn comes back to it
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def close(self) -> None:
        """Give back the sockets."""
        close_socket(self.socket)
        close_socket(self._sender)
