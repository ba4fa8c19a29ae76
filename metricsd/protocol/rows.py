"""Rows: how points are written in a reply, ``<key> <value> <timestamp>`` and a line feed each.

Owns the text form. Does not know which points are asked for.
"""

from bisect import bisect_right
from typing import Iterator, List, Optional

from metricsd.protocol.words import Outcome, Puts
from metricsd.store import MIN_TIMESTAMP, Answer, Series

# A reply is made in pieces of about this many bytes: 16 KiB is some 400 rows, 0.3 ms of work, after
# which the loop turns to the other clients; larger pieces are not measurably cheaper a row.
PIECE_BYTES = 16 * 1024

# The longest value is 24 characters (-2.2250738585072014e-308), the longest timestamp 20; then two
# spaces and the line feed.
MAX_NUMBERS_BYTES = 24 + 20 + 3


def rows(key: str, series: Series, after: Optional[int] = None) -> Iterator[Outcome]:
    """Yield the rows of a series, oldest first, in pieces of at most PIECE_BYTES (or one row).

    With ``after``, only those of points later than this timestamp. Points are read when the reader
    comes to them. Those stored behind the reader in the meantime are not in the reply, and it ends
    with what was the newest point when it began, so it does end.

    Of a series that is elsewhere, it also yields what has to be waited for before it goes on, and
    raises StoreError if that is in vain.
    """
    row = key.replace("%", "%%") + " %r %d\n"
    limit = max(1, PIECE_BYTES // (len(key.encode()) + MAX_NUMBERS_BYTES))
    last = series.newest
    if after is None:
        after = MIN_TIMESTAMP - 1
    while after < last:
        found = series.after(after)
        if isinstance(found, Answer):
            yield Puts(0, found)
            found = found.result
        (timestamps, values), after = found
        count = bisect_right(timestamps, last)
        for start in range(0, count, limit):
            end = min(start + limit, count)
            words: List[object] = [None] * (2 * (end - start))  # in turn: quicker than with zip()
            words[::2] = values[start:end]
            words[1::2] = timestamps[start:end]
            yield (row * (end - start) % tuple(words)).encode()
