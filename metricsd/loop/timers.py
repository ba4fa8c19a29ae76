"""Timers: what is to be called when its time has come.

Owns the order in which timers are due. Does not wait: the reactor does.
"""

import heapq
import logging
from itertools import count
from typing import Callable, List, Optional, Tuple

logger = logging.getLogger("metricsd")

# Seconds after which the loop wakes up in any case while a timer is set: the system calls behind a
# selector refuse waits of more than some weeks.
LONGEST_WAIT = 3600.0


class Timer:
    """A callback that is due at some time, unless it is cancelled before."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Optional[Callable[[], None]] = callback

    def cancel(self) -> None:
        """Never call back. Its entry leaves the heap when it would have been due."""
        self.callback = None


NO_TIMER = Timer(lambda: None)  # stands where none is set: to cancel it is harmless


class Timers:
    """The timers of a loop, by its clock, which counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._heap: List[Tuple[float, int, Timer]] = []  # the next one comes first
        self._numbers = count()  # those due at the same time run in the order they were set

    def __bool__(self) -> bool:
        return bool(self._heap)

    def add(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call once, ``delay`` seconds from now. An exception that it raises is logged."""
        timer = Timer(callback)
        heapq.heappush(self._heap, (self._clock() + delay, next(self._numbers), timer))
        return timer

    def until_due(self, timeout: Optional[float]) -> float:
        """The seconds until the first one is due, or ``timeout`` if that is less."""
        until_due = min(max(self._heap[0][0] - self._clock(), 0.0), LONGEST_WAIT)
        return until_due if timeout is None else min(until_due, timeout)

    def run(self, now: float) -> None:
        """Call those that are due."""
        due: List[Timer] = []  # all of them first: one that sets itself again must wait its turn
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        for timer in due:
            if timer.callback is not None:
                try:
                    timer.callback()
                except Exception:
                    logger.exception("a timer failed: %r", timer.callback)
