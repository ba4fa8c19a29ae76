"""Replies to gets, kept: what has not changed since the last get is not written again.

Owns one short cut, with the same result as writing all rows anew. Does not know series that are too
long to be answered in one piece: those are written as they are read.
"""

from collections import OrderedDict
from typing import NamedTuple, Optional

from metricsd.rows import MAX_NUMBERS_BYTES, rows
from metricsd.series import Series

# The longest reply that is kept, and so the longest that is made in one piece: 1,000 points whose
# key has 80 bytes, at their longest. A client that asks and does not read costs this much.
MAX_REPLY_BYTES = 128 * 1024

# All kept replies together; the one that has not been asked for longest goes first. Each counts for
# its text and for the objects around it, some 600 bytes.
MAX_KEPT_BYTES = 4 * 1024 * 1024
KEPT_REPLY_BYTES = 600

REPLY_START = b"ok\n"
REPLY_END = b"\n"


class KeptReply(NamedTuple):
    """A reply, and what the series was like when it was made."""

    text: bytes
    series: Series
    newest: int
    changes: int


class KeptReplies:
    """The last replies to gets of single keys, within MAX_KEPT_BYTES."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, KeptReply] = OrderedDict()
        self._bytes = 0

    def get(self, key: str, series: Series) -> Optional[bytes]:
        """The whole reply to a get of this key, or None if it may be too long to make at once."""
        kept = self._kept.get(key)
        start, done = REPLY_START, None
        if kept is not None and kept.series is series and kept.changes == series.changes:
            if kept.newest == series.newest:
                self._kept.move_to_end(key)
                return kept.text
            start, done = kept.text[: -len(REPLY_END)], kept.newest  # it has only grown
        if len(series) * (len(key.encode()) + MAX_NUMBERS_BYTES) > MAX_REPLY_BYTES:
            return None
        text = start + b"".join(rows(key, series, done)) + REPLY_END
        self._keep(key, KeptReply(text, series, series.newest, series.changes))
        return text

    def forget(self, key: str) -> None:
        """Keep nothing for this key."""
        old = self._kept.pop(key, None)
        if old is not None:
            self._bytes -= len(old.text) + KEPT_REPLY_BYTES

    def _keep(self, key: str, reply: KeptReply) -> None:
        self.forget(key)
        self._kept[key] = reply
        self._bytes += len(reply.text) + KEPT_REPLY_BYTES
        while self._bytes > MAX_KEPT_BYTES:
            self.forget(next(iter(self._kept)))
