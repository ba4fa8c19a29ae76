"""Memory that mirrors what is kept elsewhere: it can be loaded, and limited afterwards.

Owns the ways into a Memory that are no puts.
"""

import sys
from typing import Optional

from metricsd.store.memory import Memory
from metricsd.store.saving import SavedSeries, load
from metricsd.store.series import Series


class Mirror(Memory):
    """The points of a store that keeps them somewhere else too."""

    def limit(self, max_points: Optional[int]) -> None:
        """Set the limit anew. There may be more points already: then there is no room."""
        points = self.points
        self._limit = sys.maxsize if max_points is None else max_points
        self.room = self._limit - points

    def load(self, key: str, number: int, saved: SavedSeries) -> Series:
        """Make the series of this number what it was; no lower one follows."""
        self._series.made = number - 1
        series = self._series[key]
        load(series, saved)
        self._late.count(series)
        self.room -= len(series)
        return series

    def note_late(self, series: Series) -> None:
        """Count the blocks of a series that have late points, if some have been sealed."""
        self._late.count(series)
