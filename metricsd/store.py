"""The store: every series by its key, in the order in which the keys were first put.

Owns the measurements. Does not know what may be asked about them.
"""

from typing import Dict, Iterable, Iterator, List, Optional, Tuple

from metricsd.replies import KeptReplies
from metricsd.series import Series, put_each


class SeriesByKey(Dict[str, Series]):
    """A dict that makes a series for a key that it does not have, and keeps the keys in order."""

    def __init__(self) -> None:
        self.keys_in_order: List[str] = []

    def __missing__(self, key: str) -> Series:
        series = self[key] = Series()
        self.keys_in_order.append(key)
        return series


class Store:
    """An in-memory store for one thread."""

    def __init__(self) -> None:
        self._series = SeriesByKey()
        self.kept_replies = KeptReplies()  # to gets; derived from the series

    def put(self, key: str, value: float, timestamp: int) -> None:
        """Store one measurement; ``timestamp`` must fit in 64 bits."""
        self._series[key].put(timestamp, value)

    def put_many(
        self, keys: Iterable[str], values: Iterable[float], timestamps: Iterable[int]
    ) -> None:
        """Store measurements in their order, as ``put`` does each."""
        put_each(map(self._series.__getitem__, keys), timestamps, values)

    def find(self, key: str) -> Optional[Series]:
        """The series of a key; None if it was never put."""
        return self._series.get(key)

    def every(self) -> Iterator[Tuple[str, Series]]:
        """Yield every key that is there now, with its series, in the order of their first put.

        The store may grow between two steps: keys are looked up by their position, because a dict
        that changes size can't be walked.
        """
        keys = self._series.keys_in_order
        for position in range(len(keys)):
            yield keys[position], self._series[keys[position]]
