"""Outcomes: what has come of requests, in their order, until it can be put into words.

Owns the room that they take. Does not know what was asked.
"""

from typing import List, Optional

from metricsd.protocol.words import OK, Outcome, words
from metricsd.store import Receipt

# Bytes of replies that are made at a time; requests beyond that wait until these have been sent. So
# a client that asks and does not read costs this and one more piece, not all its replies.
REPLY_ROOM = 32 * 1024

# The least that each step takes of that room. A blank line has no reply, and a `get *` of many
# short series many small pieces; this bounds the work too, to 512 steps of a microsecond or two.
STEP_ROOM = 64

# Taken in addition by a put that is slow; so there are at most 8 of these before others have their
# turn, about 1 ms.
SLOW_ROOM = 4096


class Outcomes:
    """What one client is to be told, each outcome once and in order."""

    __slots__ = ("_queue", "_receipts", "room")

    def __init__(self) -> None:
        self._queue: List[Outcome] = []  # a deque, when it is empty, takes ten times the memory
        self._receipts: Optional[List[Receipt]] = None  # that were open when they came, if any
        self.room = REPLY_ROOM  # for more, in bytes

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, outcome: Outcome) -> None:
        """Add what a step of the session came to; b"" is nothing to say, but takes room."""
        if isinstance(outcome, bytes):
            size = len(outcome)
        else:
            size = outcome.number * len(OK)
            if self._receipts is None:
                self._receipts = []
            self._receipts.append(outcome.receipt)
        self.room -= size if size > STEP_ROOM else STEP_ROOM
        if not size and outcome:
            self.room = 0  # what is waited for decides how it goes on
            outcome.receipt.when_settled(self._go_on)  # type: ignore[union-attr]
        if outcome:
            self._queue.append(outcome)

    def _go_on(self) -> None:
        self.room = REPLY_ROOM

    def pending(self) -> bool:
        """Whether what has come of some put is not known yet."""
        while self._receipts and self._receipts[-1].settled:
            self._receipts.pop()
        return bool(self._receipts)

    @property
    def first(self) -> Outcome:
        """What is to be said next."""
        return self._queue[0]

    def take_words(self) -> bytes:
        """Put into words, and forget, all that comes before the first outcome that is open."""
        queue = self._queue
        if len(queue) == 1 and isinstance(queue[0], bytes):
            self.room = REPLY_ROOM
            return queue.pop()  # type: ignore[return-value]
        said: List[bytes] = []
        for outcome in queue:
            if not isinstance(outcome, bytes):
                if not outcome.receipt.settled:
                    break
                outcome = words(outcome.receipt.refusal) * outcome.number
            said.append(outcome)
        del queue[: len(said)]
        if not queue:
            self.room = REPLY_ROOM
            self._receipts = None
        return b"".join(said)
