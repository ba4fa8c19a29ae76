"""Series by their keys: a table that makes a series when a key is first put.

Owns what a new series is like. Does not know how many points there may be.
"""

from typing import Dict

from metricsd.store.archive import BLOCK_POINTS
from metricsd.store.keys import Keys
from metricsd.store.series import Series

# Series that begin together and grow together must not all be sealed at once: that would hold up
# the loop, and take the memory of all unsealed points at their most. So the first block of each is
# smaller by another number of points; these are spread evenly, whatever the number of series.
STAGGER = 89


class SeriesByKey(Dict[str, Series]):
    """A dict that makes a series for a key that it does not have, and keeps the keys in order."""

    def __init__(self) -> None:
        self.keys_in_order = Keys()
        self.made = 0  # series, also those that are gone

    def __missing__(self, key: str) -> Series:
        self.made += 1
        full = BLOCK_POINTS - self.made * STAGGER % BLOCK_POINTS
        series = self[key] = Series(full, self.made)
        self.keys_in_order.append(key, self.made)
        return series
