"""What is asked of every store, and what a store says of the puts that it was given.

Owns the interface, the receipt and the one exception. Does not know where points are kept.
"""

import abc
from typing import Callable, Iterator, List, Optional, Tuple

from metricsd.store.series import Series
from metricsd.store.tended import Tended


class StoreError(Exception):
    """The store can't do what it is asked; the message is what the client is told."""


class OpenError(Exception):
    """A store can't be opened; the message is one line that says why and what to do."""


class Receipt:
    """What becomes of some puts: it is open until it is settled, and then they are stored or not.

    For one thread, that of the loop: a store that works in others settles its receipts there.
    """

    __slots__ = ("_callbacks", "refusal", "settled")

    def __init__(self) -> None:
        self.settled = False
        self.refusal: Optional[StoreError] = None  # why the puts were not stored
        self._callbacks: List[Callable[[], None]] = []

    def settle(self, refusal: Optional[StoreError] = None) -> None:
        """The puts are stored, or refused. Raises RuntimeError if that was said before."""
        if self.settled:
            raise RuntimeError("a receipt is settled once")
        self.settled = True
        self.refusal = refusal
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once it is settled; at once, if it is."""
        if self.settled:
            callback()
        else:
            self._callbacks.append(callback)


STORED = Receipt()  # the receipt of every put that is stored at once
STORED.settle()


class Store(Tended):
    """Points by key and timestamp, for one thread.

    A point whose receipt is open is not found yet, nor ever if the receipt turns into a refusal.
    """

    slow_puts = 0  # calls of ``put`` so far that had to open or seal a block: up to 150 us each

    @property
    @abc.abstractmethod
    def room(self) -> int:
        """The points for which there is room in any case; more may fit, if some overwrite."""

    @abc.abstractmethod
    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Take one point; ``timestamp`` must fit in 64 bits.

        Raises StoreError if there is no room for one more point.
        """

    @abc.abstractmethod
    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Take points in their order, as ``put`` does each; there must be ``room`` for all.

        Returns how many were taken, at least one, and their receipt. It is all of them, unless that
        would hold up everybody else for more than a millisecond or two.
        """

    @abc.abstractmethod
    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if there is none."""

    @abc.abstractmethod
    def items(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series, in the order of their first put.

        Keys may come and go between two steps. A store that is elsewhere also yields what has to be
        waited for; see Answer.
        """

    def drop(self, keys: List[str]) -> Receipt:
        """Drop these keys, some hundreds, with their points. Raises StoreError where none can."""
        raise StoreError("series can't be dropped here")
