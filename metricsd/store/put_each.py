"""Points the short way: put to many series, without a call for each.

Owns one short cut, with the same result as `put` for each, and how much is done at once.
"""

from operator import length_hint
from typing import Callable, Iterable, List, Tuple

from metricsd.store.series import Series

# Puts at a time that may open or seal a block, or both: at up to 150 us each, about 1 ms, after
# which others have their turn.
SLOW_PUTS = 8


def put_each(
    series: Iterable[Series],
    timestamps: List[int],
    values: Iterable[float],
    put_slowly: Callable[[Series, int, float], bool],
) -> Tuple[int, int]:
    """Do ``one.put(timestamp, value)`` for each of the series, stopping after SLOW_PUTS slow ones.

    For these ``put_slowly`` is called. Returns how many were put, and how many of these overwrote
    another. The body of `put` stands here again: without a call for each point this takes a fifth
    less time.
    """
    overwritten = slow = 0
    left = iter(timestamps)
    for one, timestamp, value in zip(series, left, values):
        if timestamp > one.newest and len(one._timestamps) < one._full:
            one._timestamps.append(timestamp)
            one._values.append(value)
            one.newest = timestamp
        elif not one.is_slow(timestamp):
            overwritten += not one.put(timestamp, value)
        else:
            overwritten += not put_slowly(one, timestamp, value)
            slow += 1
            if slow == SLOW_PUTS:
                return len(timestamps) - length_hint(left), overwritten
    return len(timestamps), overwritten
