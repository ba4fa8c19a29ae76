"""Words become numbers here, whoever sends them.

Owns what a value and a timestamp may look like. Does not know where the words stood.
"""

import struct
import sys
from typing import Iterable, List, Tuple

from metricsd.store import INT64

# int() takes the square of the length for a number in text. Since Python 3.11, and in later
# releases of 3.7 to 3.10, it refuses more than this by itself.
MAX_TIMESTAMP_DIGITS = 4300


def _bounded_int(text: str) -> int:
    """Do what int() does, within MAX_TIMESTAMP_DIGITS."""
    if len(text) > MAX_TIMESTAMP_DIGITS:
        raise ValueError
    return int(text)


_int = int if hasattr(sys, "get_int_max_str_digits") else _bounded_int


def to_numbers(values: Iterable[str], timestamps: Iterable[str]) -> Tuple[List[float], List[int]]:
    """Return values as floats and as many timestamps, at least one, as whole seconds.

    Raises ValueError for what float() or int() refuses, and for timestamps beyond 64 bits.
    """
    numbers = list(map(float, values))
    seconds = list(map(_int, timestamps))
    try:
        struct.pack(f"{len(seconds)}{INT64}", *seconds)  # min() and max() take four times as long
    except struct.error:
        raise ValueError("a timestamp is beyond 64 bits") from None
    return numbers, seconds
