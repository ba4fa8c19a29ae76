"""Replies to gets: those that are large, in pieces, and those that are kept.

Owns how a reply begins and ends, and one short cut: what has not changed since the last get is not
written again. Does not know what a row looks like.
"""

from collections import OrderedDict
from itertools import chain
from sys import getsizeof
from typing import Iterable, Iterator, NamedTuple, Optional, Tuple

from metricsd.protocol.rows import MAX_NUMBERS_BYTES, rows
from metricsd.protocol.words import Outcome, Puts, words
from metricsd.store import Answer, Series, StoreError

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


def pieces(found: Iterable[Tuple[str, Series]]) -> Iterator[Outcome]:
    """The reply that is the rows of these series, made a piece at a time as it is asked for.

    It begins with the first piece, as until then it may turn out to be an error.
    """
    every_row = _every_row(found)
    first = next(every_row, b"")
    if isinstance(first, bytes):
        return chain((REPLY_HEAD, first), every_row, (REPLY_TAIL,))
    return _late_pieces(first, every_row)


def _every_row(found: Iterable[Tuple[str, Series]]) -> Iterator[Outcome]:
    for item in found:
        if isinstance(item, Answer):  # of a store that is elsewhere: more keys
            yield Puts(0, item)
            item.result  # noqa: B018 - raises StoreError, if it is none
        else:
            yield from rows(*item)


def _late_pieces(first: Outcome, every_row: Iterator[Outcome]) -> Iterator[Outcome]:
    """A reply of which the first piece has to be waited for.

    Raises ConnectionError, which ends the connection, if it can't be told to the end: a client must
    not take the part that it has for the whole.
    """
    try:
        while not isinstance(first, bytes):
            yield first
            first = next(every_row, b"")
    except StoreError as error:
        yield words(error)
        return
    yield REPLY_HEAD + first
    try:
        yield from every_row
    except StoreError as error:
        raise ConnectionError(str(error)) from error
    yield REPLY_TAIL


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
        text = head + b"".join(rows(key, series, after)) + REPLY_TAIL  # type: ignore[arg-type]
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
