"""Blocks with late points: how many there may be, and which is sealed anew first.

Owns that order. Does not know when it is time: whoever keeps the points does.
"""

from typing import Callable, Dict

from metricsd.store.series import Series

# Blocks that may have late points beside them; each takes up to 6 KiB more than it does sealed.
MAX_LATE_BLOCKS = 1024


class LateBlocks:
    """The series some of whose blocks have late points; who has waited longest comes first."""

    def __init__(self, on_first: Callable[[], None]) -> None:
        """Call ``on_first`` whenever there is a first one."""
        self.number = 0  # of blocks
        self._on_first = on_first
        self._blocks: Dict[Series, int] = {}  # of each series

    def put(self, series: Series, timestamp: int, value: float) -> bool:
        """Do ``series.put``, and see to it that there are not too many of these blocks."""
        new = series.put(timestamp, value)
        self.count(series)
        if self.number > MAX_LATE_BLOCKS:
            self.seal_one()
        return new

    def seal_one(self) -> None:
        """Seal one block with its late points, if there is one."""
        for series in self._blocks:
            series.seal_late(0)
            self.count(series)
            break

    def forget(self, series: Series) -> None:
        """A series is gone."""
        self.number -= self._blocks.pop(series, 0)

    def count(self, series: Series) -> None:
        """Count the blocks of a series again."""
        none_before = not self._blocks
        blocks = series.late_blocks
        self.number += blocks - self._blocks.pop(series, 0)
        if blocks:
            self._blocks[series] = blocks
            if none_before:
                self._on_first()
