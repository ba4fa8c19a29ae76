"""Tasks: work that goes on a little at a time, written as a generator.

Owns when a task goes on, and the threads in which it may wait for something. Does not know what the
work is.
"""

import logging
import queue
import threading
import time
from typing import Any, Callable, Generator, Optional, Union

from metricsd.loop.reactor import Reactor
from metricsd.loop.timers import Timer

logger = logging.getLogger("metricsd")

# What a task yields: the seconds that it sleeps (0: everybody else has a turn first), or a function
# for its worker, whose result the yield returns, or whose exception it raises.
Pause = Union[float, Callable[[], Any]]
Steps = Generator[Pause, Any, None]


# Seconds for which a loop that is busy sleeps while a thread beside it works, and between two such
# sleeps: it loses some 3 % of its time.
WAY_SECONDS = 0.00005
WAY_PAUSE = 0.002


class Worker:
    """A thread beside the loop, for functions that may wait: it calls one after the other.

    While such a function runs Python code, the loop waits at each of its system calls for up to the
    switch interval, 5 ms. So it should spend its time in calls that release the lock.
    """

    def __init__(self, reactor: Reactor) -> None:
        """Start the thread. Raises RuntimeError if the system has none left.

        It does not keep the process from ending.
        """
        self._reactor = reactor
        self._under_way = 0  # calls whose outcome the loop does not have yet
        self._next_way = 0.0
        reactor.once_a_turn.append(self._give_way)
        # SimpleQueue, which is quicker, came with Python 3.7.
        make_queue: Callable[[], Any] = getattr(queue, "SimpleQueue", queue.Queue)
        self._calls = make_queue()  # of functions; None is the end
        self._start()

    def call(self, function: Callable[[], Any], then: Callable[[Any, Any], None]) -> None:
        """Call the function in the thread; then, in the loop, ``then(result, exception)``."""

        def work() -> None:
            result = exception = None
            try:
                result = function()
            except BaseException as error:
                exception = error
            self._reactor.post(lambda: self._done(then, result, exception))

        self._under_way += 1
        self._calls.put(work)

    def close(self, seconds: float) -> bool:
        """Take no more calls; wait for those there are. Return False if that takes longer."""
        self._calls.put(None)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _done(self, then: Callable[[Any, Any], None], result: Any, exception: Any) -> None:
        self._under_way -= 1
        then(result, exception)

    def _give_way(self) -> None:
        """While the thread works, let it have Python's lock now and then.

        A busy loop lets go of the lock at each system call, but only for microseconds. Where all
        processors are busy, the thread is never awake just then, and would wait for seconds.
        """
        if self._under_way and self._reactor.now >= self._next_way:
            time.sleep(WAY_SECONDS)
            self._next_way = self._reactor.now + WAY_PAUSE

    def _run(self) -> None:
        for call in iter(self._calls.get, None):
            call()


class Task:
    """A generator that the loop resumes. It runs from the start to its first yield at once.

    An exception that it does not catch is logged, and ends this task only.
    """

    def __init__(self, reactor: Reactor, steps: Steps, worker: Optional[Worker] = None) -> None:
        self._reactor = reactor
        self._steps = steps
        self._worker = worker
        self._timer: Optional[Timer] = None
        self.ended = False  # nothing of it is left to be done
        self._resume(None, None)

    def cancel(self) -> None:
        """End it where it is, as if its yield raised GeneratorExit. Twice is harmless."""
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        self._steps.close()

    def __call__(self) -> None:
        """Go on: the pause is over."""
        self._resume(None, None)

    def __repr__(self) -> str:
        return f"<Task {getattr(self._steps, '__name__', '?')}>"

    def _resume(self, result: Any, exception: Optional[BaseException]) -> None:
        if self.ended:
            return
        try:
            go_on = self._steps.throw if exception is not None else self._steps.send
            pause = go_on(result if exception is None else exception)
        except StopIteration:
            self.ended = True
        except Exception:
            self.ended = True
            logger.exception("a task failed: %r", self._steps)
        else:
            self._wait(pause)

    def _wait(self, pause: Pause) -> None:
        if not callable(pause):
            self._timer = self._reactor.call_later(pause, self)
        elif self._worker is not None:
            self._worker.call(pause, self._resume)
        else:
            self._resume(None, RuntimeError("this task has no worker"))
