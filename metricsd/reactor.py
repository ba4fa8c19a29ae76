"""The event loop: waits until descriptors are ready or a timer is due, and calls back.

Owns the selector, the timers and the order of things in a turn. Knows descriptors and callbacks,
nothing of what is read or written, and catches no exception.
"""

import heapq
import selectors
import socket
import time
from itertools import count
from typing import Callable, Dict, List, Optional, Tuple

Callback = Callable[[], None]
Watch = Tuple[int, Callback]  # the events that are waited for, and what to call then

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

# The loop wakes up at least so often, in seconds, while a timer is set: the system calls behind a
# selector refuse waits of more than some weeks.
LONGEST_WAIT = 3600.0


class Reactor:
    """A single-threaded loop over one selector.

    A turn has three phases: every callback whose descriptor is ready (they read, and leave their
    answers in buffers), then ``commit`` once, then whatever was left with ``after_commit`` (they
    write). So one commit serves all clients of a turn, and no answer leaves before it.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.commit: Callback = _nothing  # the middle phase; whoever needs one sets it
        self.clock = clock  # seconds; only differences mean anything
        self._selector = selectors.DefaultSelector()
        self._watched: Dict[int, Watch] = {}  # by descriptor
        self._after_commit: List[Callback] = []
        self._timers: List[Tuple[float, int, Callback]] = []  # a heap, the next one first
        self._timer_numbers = count()  # timers due at the same time run in the order they were set
        self._stopping = False
        self._waker, self._wake_end = socket.socketpair()
        self._waker.setblocking(False)
        self._wake_end.setblocking(False)
        self.watch(self._wake_end, READ, self._drain_wake_end)

    def watch(self, sock: socket.socket, events: int, callback: Callback) -> None:
        """Call back in each turn that finds the socket ready for ``events``, READ or WRITE.

        Replaces what was said of this socket before. A hang-up or an error counts as ready. Raises
        OSError if the system refuses; forget the socket then.
        """
        descriptor = sock.fileno()
        known = self._watched.get(descriptor)
        wanted = (events, callback)
        if known == wanted:
            return
        if known is None:
            self._selector.register(descriptor, events, wanted)
        else:
            self._selector.modify(descriptor, events, wanted)
        self._watched[descriptor] = wanted

    def forget(self, sock: socket.socket) -> None:
        """Stop watching a socket, if it is watched. To be called before the socket is closed."""
        descriptor = sock.fileno()
        if self._watched.pop(descriptor, None) is not None:
            try:
                self._selector.unregister(descriptor)
            except KeyError:
                pass  # a modify that failed has left it out already

    def call_later(self, delay: float, callback: Callback) -> None:
        """Call once, ``delay`` seconds from now. There is no way back: check when called."""
        heapq.heappush(self._timers, (self.clock() + delay, next(self._timer_numbers), callback))

    def after_commit(self, callback: Callback) -> None:
        """Call once, in the last phase of this turn."""
        self._after_commit.append(callback)

    def turn(self, timeout: Optional[float] = None) -> None:
        """Wait for something to do, at most ``timeout`` seconds (None: no limit), and do it."""
        for key, _ in self._selector.select(self._patience(timeout)):
            # An earlier callback of this turn may have closed this one, or given its descriptor to
            # a new connection: what was ready is then no longer there.
            watch: Watch = key.data
            if self._watched.get(key.fd) is watch:
                watch[1]()
        self._run_timers()
        self.commit()
        callbacks, self._after_commit = self._after_commit, []
        for callback in callbacks:
            callback()

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
        self.forget(self._wake_end)
        self._wake_end.close()
        self._waker.close()
        self._selector.close()

    def _patience(self, timeout: Optional[float]) -> Optional[float]:
        if not self._timers:
            return timeout
        until_due = min(max(self._timers[0][0] - self.clock(), 0.0), LONGEST_WAIT)
        return until_due if timeout is None else min(until_due, timeout)

    def _run_timers(self) -> None:
        if not self._timers:
            return
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            _, _, callback = heapq.heappop(self._timers)
            callback()

    def _drain_wake_end(self) -> None:
        try:
            self._wake_end.recv(4096)
        except BlockingIOError:
            pass


def _nothing() -> None:
    """The commit of a loop that has nothing to commit."""
