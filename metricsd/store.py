"""The store: every series by its key, and how many points there may be.

Owns the measurements. Does not know what may be asked about them, nor what time it is.
"""

import sys
from typing import Dict, Iterator, List, Optional, Tuple

from metricsd.archive import BLOCK_POINTS
from metricsd.keys import Keys
from metricsd.replies import KeptReplies
from metricsd.series import Series, put_each


class StoreError(Exception):
    """The store can't do what it is asked; the message is what the client is told."""


# Series that begin together and grow together must not all be sealed at once: that would hold up
# the loop, and take the memory of all unsealed points at their most. So the first block of each is
# smaller by another number of points; these are spread evenly, whatever the number of series.
STAGGER = 89


class SeriesByKey(Dict[str, Series]):
    """A dict that makes a series for a key that it does not have, and keeps the keys in order."""

    def __init__(self) -> None:
        self.keys_in_order = Keys()
        self._made = 0  # series, also those that are gone

    def __missing__(self, key: str) -> Series:
        series = self[key] = Series(BLOCK_POINTS - self._made * STAGGER % BLOCK_POINTS)
        self._made += 1
        self.keys_in_order.append(key)
        return series


class Store:
    """An in-memory store for one thread, of at most ``max_points`` points (None: any number)."""

    journaled = refused = False  # a put is stored at once; see Ledger

    def __init__(self, max_points: Optional[int] = None) -> None:
        self._series = SeriesByKey()
        self._limit = sys.maxsize if max_points is None else max_points
        self.room = self._limit  # for so many more points; batch.py looks here before it puts
        self.kept_replies = KeptReplies()  # to gets; derived from the series

    def put(self, key: str, value: float, timestamp: int, _line: bytes = b"") -> None:
        """Store one measurement; ``timestamp`` must fit in 64 bits.

        Raises StoreError if there is no room for one more point. The line that it came in is for
        the ledger, which stands in for a store.
        """
        if self.room <= 0 and not self.has(key, timestamp):
            raise StoreError("store is full")
        self.room -= self._series[key].put(timestamp, value)

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int], _lines: bytes = b""
    ) -> None:
        """Store measurements in their order, as ``put`` does each; there must be room for all."""
        series = map(self._series.__getitem__, keys)
        self.room -= len(keys) - put_each(series, timestamps, values)

    @property
    def points(self) -> int:
        """How many there are."""
        return self._limit - self.room

    def limit(self, max_points: Optional[int]) -> None:
        """Set the limit anew. There may be more points already: then there is no room."""
        points = self.points
        self._limit = sys.maxsize if max_points is None else max_points
        self.room = self._limit - points

    def has(self, key: str, timestamp: int) -> bool:
        """Whether there is a point of this key with this timestamp."""
        series = self._series.get(key)
        return series is not None and series.has(timestamp)

    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if there is none."""
        return self._series.get(key)

    def every(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series, in the order of their first put.

        Keys may come and go between two steps.
        """
        for _, keys in self._series.keys_in_order.pages():
            for key in keys:
                series = self._series.get(key)
                if series is not None:
                    yield key, series

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp, and every series that is then empty.

        The work is done in steps of some 0.1 ms, one each time that the next item is asked for.
        """
        for number, keys in self._series.keys_in_order.pages():
            for key in keys:
                dropped = -1
                while dropped:
                    dropped = self._series[key].drop_before(oldest)
                    self.room += dropped
                    yield
            empty = {key for key in keys if not self._series[key]}
            if empty:
                self._series.keys_in_order.remove(number, empty)
            for key in empty:
                del self._series[key]
                self.kept_replies.forget(key)
            yield
