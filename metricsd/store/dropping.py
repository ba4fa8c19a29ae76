"""Dropping: how points leave memory, because they are old or because somebody wants them gone.

Owns what has to be forgotten with a series. Does not know why it goes.
"""

from typing import Callable, Iterable, Iterator

from metricsd.store.late import LateBlocks
from metricsd.store.series import Series
from metricsd.store.series_by_key import SeriesByKey

Lost = Callable[[str], None]  # is told of the key of each series that has lost points


def drop_old(table: SeriesByKey, late: LateBlocks, oldest: int, lost: Lost) -> Iterator[int]:
    """Drop points before a timestamp, some at a time: yield how many, if any, after each step."""
    for keys in table.keys_in_order.pages():
        for key in keys:
            dropped = -1
            while dropped:
                series = table.get(key)  # between two steps it may go, or another one come
                dropped = 0 if series is None else series.drop_before(oldest)
                if series is not None and dropped:
                    late.count(series)
                    if not series:
                        _remove(table, key, series)
                    lost(key)
                yield dropped
        yield 0


def drop_keys(table: SeriesByKey, late: LateBlocks, keys: Iterable[str], lost: Lost) -> int:
    """Drop the series of these keys, at 2 us each and some 0.1 us a block; return the points."""
    points = 0
    for key in keys:
        series = table.get(key)
        if series is not None:
            points += len(series)
            late.forget(series)
            _remove(table, key, series)
            lost(key)
    return points


def _remove(table: SeriesByKey, key: str, series: Series) -> None:
    del table[key]
    table.keys_in_order.remove(series.number)
