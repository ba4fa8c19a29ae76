"""Columns: points as two arrays, one of timestamps and one of values, sorted by timestamp.

Owns how one point is found, put or overwritten in them. Does not know how many there should be.
"""

from array import array
from bisect import bisect_left
from typing import Sequence, Tuple

MIN_TIMESTAMP = -(2**63)
MAX_TIMESTAMP = 2**63 - 1

# 64 bits with a sign, for arrays and structs. Where "l" has them, as on every 64-bit system but
# Windows, Python converts numbers in fewer steps: it saves a thirtieth of what a put takes.
INT64 = "l" if array("l").itemsize == 8 else "q"

# Equally long. A point takes 16 bytes; in a dict from int to float it would take some 100.
Columns = Tuple["array[int]", "array[float]"]

# The same for who only reads: what is in a block need not become arrays for that.
Points = Tuple[Sequence[int], Sequence[float]]


def empty_columns() -> Columns:
    """Columns without points."""
    return array(INT64), array("d")


def put_point(columns: Columns, timestamp: int, value: float) -> bool:
    """Put a point in its place; return False if it overwrote the one with this timestamp."""
    timestamps, values = columns
    place = bisect_left(timestamps, timestamp)
    if place < len(timestamps) and timestamps[place] == timestamp:
        values[place] = value
        return False
    timestamps.insert(place, timestamp)
    values.insert(place, value)
    return True


def has_point(timestamps: Sequence[int], timestamp: int) -> bool:
    """Whether a timestamp is among these, which are sorted."""
    place = bisect_left(timestamps, timestamp)
    return place < len(timestamps) and timestamps[place] == timestamp
