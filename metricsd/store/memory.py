"""The store that is memory: every series by its key, and how many points there may be.

Owns the measurements. Does not know what may be asked about them, nor what time it is.
"""

import sys
from typing import Iterator, List, Optional, Tuple

from metricsd.store.dropping import Lost, drop_keys, drop_old
from metricsd.store.interface import STORED, Receipt, Store, StoreError
from metricsd.store.late import LateBlocks
from metricsd.store.put_each import put_each
from metricsd.store.series import Series
from metricsd.store.series_by_key import SeriesByKey


class Memory(Store):
    """Points in memory, at most ``max_points`` (None: any number). A put is stored at once."""

    room = 0  # instead of the property: every put looks at it
    on_lost: Lost = staticmethod(lambda key: None)  # of each series that has lost points

    def __init__(self, max_points: Optional[int] = None) -> None:
        self._series = SeriesByKey()
        self.dropped = 0  # points so far, for their age
        self._late = LateBlocks(lambda: self.on_late())  # whatever that is by then
        self._limit = sys.maxsize if max_points is None else max_points
        self.room = self._limit

    def put(self, key: str, value: float, timestamp: int) -> Receipt:
        """Store one point. Raises StoreError if there is no room for one more."""
        if self.room <= 0:
            self.slow_puts += 1
            if not self.has(key, timestamp):
                raise StoreError("store is full")
        series = self._series[key]
        slow = series.is_slow(timestamp)
        self.slow_puts += slow
        self.room -= (self._late.put if slow else Series.put)(series, timestamp, value)
        return STORED

    def put_many(
        self, keys: List[str], values: List[float], timestamps: List[int]
    ) -> Tuple[int, Receipt]:
        """Store the first of these points, as many as take a millisecond or two."""
        series = map(self._series.__getitem__, keys)
        taken, overwritten = put_each(series, timestamps, values, self._late.put)
        self.room -= taken - overwritten
        return taken, STORED

    @property
    def points(self) -> int:
        """How many there are."""
        return self._limit - self.room

    @property
    def series(self) -> int:
        """How many keys have points."""
        return len(self._series)

    def has(self, key: str, timestamp: int) -> bool:
        """Whether there is a point of this key with this timestamp."""
        series = self._series.get(key)
        return series is not None and series.has(timestamp)

    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if there is none."""
        return self._series.get(key)

    @property
    def late_blocks(self) -> int:
        """The blocks that have late points beside them."""
        return self._late.number

    def seal_late(self) -> None:
        """Seal one of these with its late points."""
        self._late.seal_one()

    def items(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series, in the order of their first put."""
        for keys in self._series.keys_in_order.pages():
            for key in keys:
                series = self._series.get(key)
                if series is not None:
                    yield key, series

    def drop_before(self, oldest: int) -> Iterator[None]:
        """Drop every point before a timestamp, and every series that is then empty."""
        for dropped in drop_old(self._series, self._late, oldest, self.on_lost):
            self.room += dropped
            self.dropped += dropped
            yield

    def drop(self, keys: List[str]) -> Receipt:
        """Drop these keys with all their points."""
        self.room += drop_keys(self._series, self._late, keys, self.on_lost)
        return STORED

    def close(self) -> None:
        """There is nothing to give back."""
