"""Watches: what a socket is watched for, and what is called then.

Owns one socket's place in the selector.
"""

import selectors
import socket
from typing import TYPE_CHECKING, Callable, Optional

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # it came with Python 3.8

Callback = Callable[[], None]

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Answerer(Protocol):
    """Somebody who is answered in the last phase of a turn."""

    def answer(self) -> None:
        """Send what there is to say."""


class Watch:
    """One socket that the reactor watches: for which events, and what it calls then."""

    __slots__ = ("_selector", "_socket", "callback", "events")

    def __init__(
        self,
        selector: selectors.BaseSelector,
        sock: socket.socket,
        events: int,
        callback: Callback,
    ) -> None:
        self._selector = selector
        self._socket = sock
        self.events = events
        self.callback: Optional[Callback] = callback
        selector.register(sock, events, self)

    def change(self, events: int, callback: Callback) -> None:
        """Wait for READ or for WRITE from now on. Raises OSError if the system refuses."""
        if self.callback is None:
            return  # it is forgotten
        self.callback = callback
        if events != self.events:
            self._selector.modify(self._socket, events, self)
            self.events = events

    def forget(self) -> None:
        """Watch no more; to be called before the socket is closed. Twice is harmless."""
        if self.callback is not None:
            self.callback = None
            try:
                self._selector.unregister(self._socket)
            except (KeyError, OSError):
                pass  # a change that the system refused has left it out already
