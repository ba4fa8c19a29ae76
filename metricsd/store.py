"""The store: every series by its key, in the order in which the keys were first put.

Owns the measurements. Does not know the protocol.
"""

from typing import Dict, Iterable, Iterator, List, Tuple

from metricsd.series import Series

EVERY_KEY = "*"


class Store:
    """An in-memory store for one thread."""

    def __init__(self) -> None:
        self._series: Dict[str, Series] = {}
        self._keys: List[str] = []

    def put(self, key: str, value: float, timestamp: int) -> None:
        """Store one measurement; ``timestamp`` must fit in 64 bits."""
        series = self._series.get(key)
        if series is None:
            self._series[key] = Series(timestamp, value)
            self._keys.append(key)
        else:
            series.put(timestamp, value)

    def put_many(
        self, keys: Iterable[str], values: Iterable[float], timestamps: Iterable[int]
    ) -> None:
        """Store measurements in their order, as ``put`` does for each."""
        find = self._series.get
        for key, value, timestamp in zip(keys, values, timestamps):
            series = find(key)
            if series is None:
                self.put(key, value, timestamp)
            else:
                series.put(timestamp, value)

    def select(self, key: str) -> Iterator[Tuple[str, Series]]:
        """Yield the series of a key, if there is one, or for ``*`` every series that is there now.

        The store may grow between two steps: keys are looked up by their position, because a dict
        that changes size can't be walked.
        """
        if key == EVERY_KEY:
            for position in range(len(self._keys)):
                name = self._keys[position]
                yield name, self._series[name]
        elif key in self._series:
            yield key, self._series[key]
