"""Answer to the third exercise: a meter of how late the loop is."""

import sys
import time
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from metricsd.loop.reactor import Reactor

PAUSE_SECONDS = 0.05
HOG_SECONDS = 0.25
LATE_SECONDS = 0.1


class LagMeter:
    """Tells again and again how late a timer is called: so late may any client be answered."""

    def __init__(
        self,
        reactor: Reactor,
        tell: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._tell = tell
        self._clock = clock
        self._set()

    def _set(self) -> None:
        self._due = self._clock() + PAUSE_SECONDS
        self._reactor.call_later(PAUSE_SECONDS, self._on_due)

    def _on_due(self) -> None:
        self._tell(self._clock() - self._due)
        self._set()  # only now: a timer that is set by the clock alone would pile up behind a stall


def main() -> None:
    """Measure a loop, and then one with a callback that takes its time."""
    reactor = Reactor()
    LagMeter(reactor, tell)
    for _ in range(3):
        reactor.turn()
    print("a callback sleeps:")
    reactor.call_later(0.0, lambda: time.sleep(HOG_SECONDS))
    for _ in range(3):
        reactor.turn()
    reactor.close()


def tell(lag: float) -> None:
    """Print a measurement."""
    print(f"{'late' if lag > LATE_SECONDS else 'on time'}: ~{1000 * lag:.1f} ms")


if __name__ == "__main__":
    main()
