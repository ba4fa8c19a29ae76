"""Plain puts the short way: those of all clients in a turn as one block, most of it done in C.

Owns one short cut, with the same result as line by line. Does not know any other command: a block
that is not all plain puts is left alone, to be run line by line.
"""

from typing import TYPE_CHECKING, List, Optional, Tuple

from metricsd.protocol.points import to_numbers
from metricsd.protocol.words import Outcome, Puts, of_puts
from metricsd.store import Store

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # it came with Python 3.8

# Bytes of a block of puts: some 400 of them, a few tenths of a millisecond.
BLOCK_BYTES = 16 * 1024

# Single puts that make the block of a turn full: about half a millisecond.
MAX_JOINED = 256

PUT_START = b"put "  # of every line that goes the short way

# Stands for a "put" that begins a line. Split at white space, a block loses its line breaks, and
# words alone don't tell where a line began: "put a 1 1 put" and "put 1 1" add up to two puts.
FIRST_PUT = "\0"


def put_block(store: Store, block: bytes) -> Tuple[Optional[Outcome], bytes]:
    """Store a block of whole lines if each is a put that can be stored.

    Returns what has come of it, and the lines that the store has left for another turn, if it
    would have taken long. No outcome means that nothing is stored: it has to be run line by line.
    """
    if block[:4] != PUT_START:
        return None, block
    try:
        text = block.decode()
        if FIRST_PUT in text:
            return None, block
        count = text.count("\n")
        words = ("\n" + text).replace("\nput ", " " + FIRST_PUT + " ").split()
        if len(words) != 4 * count or words[::4].count(FIRST_PUT) != count:
            return None, block
        values, timestamps = to_numbers(words[2::4], words[3::4])
    except ValueError:  # not UTF-8, not a number
        return None, block
    if store.room < count:
        return None, block
    taken, receipt = store.put_many(words[1::4], values, timestamps)
    left = b"" if taken == count else block.split(b"\n", taken)[taken]
    return of_puts(taken, receipt), left


class Putter(Protocol):
    """A session that has a line in a block."""

    def run_alone(self, lines: bytes) -> None:
        """Run whole lines by themselves."""


class Block:
    """What look like single puts, of several clients, to be stored together."""

    __slots__ = ("has_run", "lines", "outcome", "putters")

    def __init__(self) -> None:
        self.lines: List[bytes] = []
        self.putters: List[Putter] = []  # whose they are
        self.has_run = False
        self.outcome: Outcome = b""  # of each line that has not run alone

    def run(self, store: Store) -> None:
        """Store all of it; if that can't be done, each line runs by itself.

        So a client's mistake is nobody else's.
        """
        self.has_run = True
        try:
            outcome, left = put_block(store, b"".join(self.lines))
        except Exception:
            outcome = None  # a fault of ours: run one by one, it hits only whose line causes it
            left = b"".join(self.lines)
        taken = len(self.lines) - left.count(b"\n")
        if isinstance(outcome, bytes):
            self.outcome = outcome[: len(outcome) // taken]  # the replies are all the same
        elif outcome is not None:
            self.outcome = Puts(1, outcome.receipt)
        for putter, line in zip(self.putters[taken:], self.lines[taken:]):
            putter.run_alone(line)


class TurnBatch:
    """The single puts of a turn, of all clients: they are gathered in a block, and it runs."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._block = Block()

    def join(self, putter: Putter, line: bytes) -> Block:
        """Gather an arrival that is one put into a block that runs at the end of this turn.

        An arrival of several puts is a block already.
        """
        block = self._block
        block.putters.append(putter)
        block.lines.append(line)
        if len(block.lines) >= MAX_JOINED:
            self.run()
        return block

    def run(self) -> None:
        """Store what has been gathered, and begin another block."""
        block = self._block
        if block.lines:
            self._block = Block()
            block.run(self._store)
