"""Retention: points that have become too old are dropped, a little at a time.

Owns the clock on the wall and the rhythm of the sweeps. Does not know how a point is dropped: that
is the store's.
"""

import math
import time
from typing import Callable, Iterator

from metricsd.reactor import Reactor
from metricsd.store import Store

# A sweep works so long, in seconds, then everybody else has a turn.
SLICE_SECONDS = 0.001

# So many sweeps begin in the time that a point is kept, within these limits in seconds: none is
# kept a hundredth longer, nor two seconds if that is more.
SWEEPS = 100
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 60.0

# And no more than this part of the time is worked: with very many series the pauses grow longer.
WORKING_SHARE = 0.05


class Retention:
    """Drops what is older than ``seconds`` by the wall clock, between the turns of the loop."""

    def __init__(
        self,
        store: Store,
        reactor: Reactor,
        seconds: float,
        wall_clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._store = store
        self._reactor = reactor
        self._seconds = seconds
        self._wall_clock = wall_clock
        self._stopwatch = stopwatch
        self._pause = min(max(seconds / SWEEPS, SHORTEST_PAUSE), LONGEST_PAUSE)
        self._sweep: Iterator[None] = iter(())
        self._worked = 0.0  # seconds, on this sweep
        reactor.call_later(self._pause, self._begin)

    def sweep(self) -> None:
        """Drop all at once what is too old: before anybody is served."""
        for _ in self._store.drop_before(self._oldest()):
            pass

    def _oldest(self) -> int:
        return math.ceil(self._wall_clock() - self._seconds)

    def _begin(self) -> None:
        self._sweep = self._store.drop_before(self._oldest())
        self._worked = 0.0
        self._go_on()

    def _go_on(self) -> None:
        """Work for a slice of time; the rest of the sweep comes in the turns that follow."""
        start = self._stopwatch()
        for _ in self._sweep:
            if self._stopwatch() >= start + SLICE_SECONDS:
                self._worked += SLICE_SECONDS
                self._reactor.call_later(0.0, self._go_on)
                return
        self._reactor.call_later(max(self._pause, self._worked / WORKING_SHARE), self._begin)
