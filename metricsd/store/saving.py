"""A series as it is saved and loaded: its sealed blocks as they are, and the other points.

Owns what of a series has to be kept so that another one can be made from it.
"""

from array import array
from bisect import bisect_right
from typing import List, NamedTuple

from metricsd.store.archive import BLOCK_POINTS, Archive
from metricsd.store.columns import MIN_TIMESTAMP, Columns, empty_columns
from metricsd.store.series import Series


class SavedSeries(NamedTuple):
    """All that there is of a series. A block that has not changed is the same object each time."""

    blocks: List[bytes]  # sealed
    firsts: List[int]  # for each block, the timestamp before which it has no point
    last: int  # no block has a point after this timestamp
    unsealed: Columns  # the points that are in no block, or overwrite some that are; sorted


def save(series: Series) -> SavedSeries:
    """Take apart what there is of a series; it stays as it is."""
    archive = series._archive
    if archive is None:
        blocks: List[bytes] = []
        firsts: List[int] = []
        last, (timestamps, values) = MIN_TIMESTAMP, empty_columns()
    else:
        (blocks, firsts), last = archive.sealed(), archive.last
        timestamps, values = archive.unsealed()
    unsealed = timestamps + series._timestamps, values + series._values
    return SavedSeries(blocks, firsts, last, unsealed)


def load(series: Series, saved: SavedSeries) -> None:
    """Make a new series what another one was when it was saved. No block is opened."""
    if saved.blocks:
        series._archive = Archive()
        series._archive.load(saved.blocks, array("q", saved.firsts), saved.last)
        series._full = BLOCK_POINTS
        series.newest = saved.last
    timestamps, values = saved.unsealed
    late = bisect_right(timestamps, series.newest)
    for timestamp, value in zip(timestamps[:late], values[:late]):
        series.put(timestamp, value)
    if late < len(timestamps):
        series._timestamps, series._values = timestamps[late:], values[late:]
        series.newest = timestamps[-1]
