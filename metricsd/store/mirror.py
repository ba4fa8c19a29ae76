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

    def become(self, other: "Mirror", max_points: Optional[int]) -> None:
        """Have the points of another one, which is not used any more; a limit of its own.

        There may be more points already: then there is no room.
        """
        self._series, self._late = other._series, other._late
        other.on_late = lambda: self.on_late()  # whatever that is by then
        self._limit = sys.maxsize if max_points is None else max_points
        self.room = self._limit - other.points

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
