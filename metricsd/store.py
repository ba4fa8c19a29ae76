"""The store: every series by its key, in the order in which the keys were first put.

Owns the measurements. Does not know the protocol.
"""

from typing import Dict, Iterable, Iterator, List, Tuple

from metricsd.series import Series, put_each

EVERY_KEY = "*"


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

    def put(self, key: str, value: float, timestamp: int) -> None:
        """Store one measurement; ``timestamp`` must fit in 64 bits."""
        self._series[key].put(timestamp, value)

    def put_many(
        self, keys: Iterable[str], values: Iterable[float], timestamps: Iterable[int]
    ) -> None:
        """Store measurements in their order, as ``put`` does each."""
        put_each(map(self._series.__getitem__, keys), timestamps, values)

    def select(self, key: str) -> Iterator[Tuple[str, Series]]:
        """Yield the series of a key, if there is one, or for ``*`` every series that is there now.

        The store may grow between two steps: keys are looked up by their position, because a dict
        that changes size can't be walked.
        """
        if key == EVERY_KEY:
            keys = self._series.keys_in_order
            for position in range(len(keys)):
                yield keys[position], self._series[keys[position]]
        elif key in self._series:
            yield key, self._series[key]
