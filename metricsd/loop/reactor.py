"""The event loop: waits until sockets are ready or a timer is due, and calls back.

Owns the selector and the order of things in a turn. Knows descriptors and callbacks,
nothing of what is read or written.
"""

import contextlib
import selectors
import socket
import time
from typing import Callable, List, Optional

from metricsd.loop.polling import Ready, make_selector, poll
from metricsd.loop.timers import Timers
from metricsd.loop.waker import Waker
from metricsd.loop.watches import READ, Answerer, Callback, Watch


class Reactor:
    """A single-threaded loop over one selector.

    A turn has three phases. First everyone is read: the callbacks of all sockets that are ready,
    then those of the timers that are due. They leave what they have to say in buffers. Second, the
    ``once_a_turn`` callbacks run, in order, before anybody is answered: they do what is done once
    for all clients, such as storing their puts as one block. Last, everyone is answered who has
    been left in ``to_answer``.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        selector: Optional[selectors.BaseSelector] = None,
    ) -> None:
        self.once_a_turn: List[Callback] = []
        self.now = clock()  # in seconds, as it was when this turn began
        self.turns = 0  # so far
        self.busy_seconds = self.longest_turn = 0.0  # of all turns, and of one, without the waiting
        self._clock = clock
        self._selector = make_selector() if selector is None else selector
        self.to_answer: List[Answerer] = []  # in the last phase, once
        self._timers = Timers(clock)
        self.call_later = self._timers.add  # (delay, callback): call once, in so many seconds
        self.stopping = False
        with contextlib.ExitStack() as undo:
            undo.callback(self._selector.close)
            self._waker = Waker()
            undo.callback(self._waker.close)
            self.post = self._waker.call  # (callback): once, in the next turn; from any thread
            self._wake_watch = self.watch(self._waker.socket, READ, self._waker.on_wake)
            undo.pop_all()  # all is well

    def watch(self, sock: socket.socket, events: int, callback: Callback) -> Watch:
        """Call back in each turn that finds the socket ready for ``events``, READ or WRITE.

        A hang-up or an error counts as ready. Raises OSError if the system refuses.
        """
        return Watch(self._selector, sock, events, callback)

    def turn(self, timeout: Optional[float] = None) -> None:
        """Wait for something to do, at most ``timeout`` seconds (None: no limit), and do it."""
        if self._timers:
            timeout = self._timers.until_due(timeout)
        ready = self._select(timeout)
        self.now = self._clock()
        for watch in ready:
            # Not the callback that was set when the socket got ready, but the one there is now: an
            # earlier one in this turn may have closed the socket, and then there is none.
            callback = watch.callback
            if callback is not None:
                callback()
        if self._timers:
            self._timers.run(self.now)
        for callback in self.once_a_turn:
            callback()
        for answerer in self.to_answer:
            answerer.answer()
        self.to_answer.clear()
        busy = self._clock() - self.now
        self.turns += 1
        self.busy_seconds += busy
        self.longest_turn = max(self.longest_turn, busy)

    def run(self) -> None:
        """Take turns until ``stop`` is called."""
        while not self.stopping:
            self.turn()

    def stop(self) -> None:
        """Let ``run`` return after the turn it is in. Safe from any thread and signal handler."""
        self.stopping = True
        self._waker.wake()

    @property
    def wake_descriptor(self) -> int:
        """A byte written here ends a wait: the one for signal.set_wakeup_fd.

        Without it a signal that arrives just before the wait is handled when the wait ends, which
        may be never: since PEP 475 an interrupted wait goes on.
        """
        return self._waker.descriptor

    def close(self) -> None:
        """Give back the loop's own descriptors."""
        self._wake_watch.forget()
        self._waker.close()
        self._selector.close()

    def _select(self, timeout: Optional[float]) -> Ready:
        return poll(self._selector, timeout)
