"""The event loop: waits until sockets are ready or a timer is due, and calls back.

Owns the selector, the timers and the order of things in a turn. Knows descriptors and callbacks,
nothing of what is read or written, and catches no exception of a callback.
"""

import heapq
import logging
import selectors
import socket
import time
from itertools import count
from typing import Callable, List, Optional, Tuple

logger = logging.getLogger("metricsd")

Callback = Callable[[], None]

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

# The loop wakes up at least so often, in seconds, while a timer is set: the system calls behind a
# selector refuse waits of more than some weeks.
LONGEST_WAIT = 3600.0

# When the system fails to tell what is ready, ask again after so many seconds.
SELECT_PAUSE = 0.05

# So many seconds at least between two log lines about what may happen thousands of times.
LOG_SECONDS = 60.0


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

    def change(self, events: int) -> None:
        """Wait for READ or for WRITE from now on. Raises OSError if the system refuses."""
        if events != self.events and self.callback is not None:
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


class Reactor:
    """A single-threaded loop over one selector.

    A turn has three phases. First the callbacks of all sockets that are ready: they read, and leave
    what they have to say in buffers; and those of timers that are due. Then ``commit``, once: the
    place for what must be done before anything is said, such as writing a journal. Last, what was
    left with ``after_commit``: sending. So one commit serves all clients of a turn.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        selector: Optional[selectors.BaseSelector] = None,
    ) -> None:
        self.commit: Callback = _nothing
        self.now = clock()  # in seconds, as it was when this turn began
        self._clock = clock
        self._selector = selectors.DefaultSelector() if selector is None else selector
        self._after_commit: List[Callback] = []
        self.after_commit = self._after_commit.append  # call once, in the last phase of this turn
        self._timers: List[Tuple[float, int, Callback]] = []  # a heap: the next one comes first
        self._timer_numbers = count()  # timers due at the same time run in the order they were set
        self._stopping = False
        self._next_log = self.now
        self._waker, self._wake_end = socket.socketpair()
        try:
            self._waker.setblocking(False)
            self._wake_end.setblocking(False)
            self._wake_watch = self.watch(self._wake_end, READ, self._drain_wake_end)
        except BaseException:
            self._close_descriptors()
            raise

    def watch(self, sock: socket.socket, events: int, callback: Callback) -> Watch:
        """Call back in each turn that finds the socket ready for ``events``, READ or WRITE.

        A hang-up or an error counts as ready. Raises OSError if the system refuses.
        """
        return Watch(self._selector, sock, events, callback)

    def call_later(self, delay: float, callback: Callback) -> None:
        """Call once, ``delay`` seconds from now. There is no way back: check when called."""
        heapq.heappush(self._timers, (self._clock() + delay, next(self._timer_numbers), callback))

    def turn(self, timeout: Optional[float] = None) -> None:
        """Wait for something to do, at most ``timeout`` seconds (None: no limit), and do it."""
        if self._timers:
            timeout = self._patience(timeout)
        try:
            ready = self._selector.select(timeout)
        except OSError as error:
            ready = []
            self._select_failed(error)
        self.now = self._clock()
        for key, _ in ready:
            # Not the callback that was set when the socket got ready, but the one there is now: an
            # earlier one in this turn may have closed the socket, and then there is none.
            callback = key.data.callback
            if callback is not None:
                callback()
        if self._timers:
            self._run_timers()
        self.commit()
        for callback in self._after_commit:
            callback()
        self._after_commit.clear()

    def run(self) -> None:
        """Take turns until ``stop`` is called."""
        while not self._stopping:
            self.turn()

    def stop(self) -> None:
        """Let ``run`` return after the turn it is in. Safe from any thread and signal handler."""
        self._stopping = True
        try:
            self._waker.send(b"\0")
        except OSError:
            pass  # full: it is awake; closed: it has ended

    @property
    def wake_descriptor(self) -> int:
        """A byte written here ends a wait: the one for signal.set_wakeup_fd.

        Without it a signal that arrives just before the wait is handled when the wait ends, which
        may be never: since PEP 475 an interrupted wait goes on.
        """
        return self._waker.fileno()

    def close(self) -> None:
        """Give back the loop's own descriptors."""
        self._wake_watch.forget()
        self._close_descriptors()

    def _patience(self, timeout: Optional[float]) -> Optional[float]:
        until_due = min(max(self._timers[0][0] - self._clock(), 0.0), LONGEST_WAIT)
        return until_due if timeout is None else min(until_due, timeout)

    def _run_timers(self) -> None:
        due: List[Callback] = []  # all of them first: one that sets itself again must wait its turn
        while self._timers and self._timers[0][0] <= self.now:
            due.append(heapq.heappop(self._timers)[2])
        for callback in due:
            callback()

    def _close_descriptors(self) -> None:
        close_socket(self._wake_end)
        close_socket(self._waker)
        self._selector.close()

    def _drain_wake_end(self) -> None:
        try:
            self._wake_end.recv(4096)
        except OSError:
            pass  # nothing there after all; if there is, the next turn comes back to it

    def _select_failed(self, error: OSError) -> None:
        """Wait a moment instead, and go on: timers, stopping and the next turn still work."""
        if not isinstance(error, InterruptedError):
            time.sleep(SELECT_PAUSE)
            if self._clock() >= self._next_log:
                self._next_log = self._clock() + LOG_SECONDS
                logger.error("cannot wait for events: %s", error)


def close_socket(sock: socket.socket) -> None:
    """Close, whatever the system says to it: the descriptor is free in any case, see close(2)."""
    try:
        sock.close()
    except OSError:
        pass


def _nothing() -> None:
    """The commit of a loop that has nothing to commit."""
