"""Replies to gets, kept: what has not changed since the last get is not written again.

Owns one short cut, with the same result as writing all rows anew. Does not know series that are too
long to be answered in one piece: those are written as they are read.
"""

from collections import OrderedDict
from sys import getsizeof
from typing import NamedTuple, Optional

from metricsd.protocol.rows import MAX_NUMBERS_BYTES, rows
from metricsd.store import Series

# Bytes of the longest reply that is kept, and so of the longest that is made in one piece: 1,000
# points whose key has 80 bytes, at their longest. A client that asks and does not read costs this.
MAX_REPLY_BYTES = 128 * 1024

# Bytes of all kept replies together; the one that has not been asked for longest goes first. Each
# counts for its text and its key as they stand in memory (where a character of a key may take four
# bytes), and for the objects around them.
MAX_KEPT_BYTES = 4 * 1024 * 1024
OBJECTS_BYTES = 400

REPLY_HEAD = b"ok\n"
REPLY_TAIL = b"\n"


class KeptReply(NamedTuple):
    """A reply, and what the series was like when it was made."""

    text: bytes
    series: Series
    newest: int
    changes: int


def size_in_memory(key: str, reply: KeptReply) -> int:
    """Bytes that it takes to keep a reply."""
    return getsizeof(key) + getsizeof(reply.text) + OBJECTS_BYTES


class KeptReplies:
    """The last replies to gets of single keys, within MAX_KEPT_BYTES."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, KeptReply] = OrderedDict()
        self._bytes = 0

    def reply(self, key: str, series: Series) -> Optional[bytes]:
        """The whole reply to a get of this key, kept or made and then kept.

        None if it may be too long to make at once.
        """
        kept = self._kept.get(key)
        head, after = REPLY_HEAD, None
        if kept is not None and kept.series is series and kept.changes == series.changes:
            if kept.newest == series.newest:
                self._kept.move_to_end(key)
                return kept.text
            head, after = kept.text[: -len(REPLY_TAIL)], kept.newest  # it has only grown
        if len(series) * (len(key.encode()) + MAX_NUMBERS_BYTES) > MAX_REPLY_BYTES:
            return None
        text = head + b"".join(rows(key, series, after)) + REPLY_TAIL
        self._keep(key, KeptReply(text, series, series.newest, series.changes))
        return text

    def forget(self, key: str) -> None:
        """Keep nothing for this key."""
        old = self._kept.pop(key, None)
        if old is not None:
            self._bytes -= size_in_memory(key, old)

    def _keep(self, key: str, reply: KeptReply) -> None:
        self.forget(key)
        self._kept[key] = reply
        self._bytes += size_in_memory(key, reply)
        while self._bytes > MAX_KEPT_BYTES:
            self.forget(next(iter(self._kept)))
