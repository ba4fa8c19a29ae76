"""Plain puts the short way: those of all clients in a turn as one block, most of it done in C.

Owns one short cut, with the same result as line by line. Does not know any other command: a block
that is not all plain puts is left alone, to be run line by line.
"""

from typing import TYPE_CHECKING, List, Optional, Tuple

from metricsd.protocol.counts import Counts
from metricsd.protocol.points import to_numbers
from metricsd.protocol.words import Outcome, known_bytes, of_puts
from metricsd.store import Receipt, Store

if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object  # it came with Python 3.8

# Bytes of a block of puts at most: some 400 of them, a few tenths of a millisecond.
BLOCK_BYTES = 16 * 1024

# Bytes of several clients' puts in a block at most, some 200 of them, which have nearly all of the
# gain. Where each client sends about as much, a block of one client's is cheaper: nobody counts
# whose is what.
SHARED_BYTES = 8 * 1024

PUT_START = b"put "  # of every line that goes the short way

# Stands for a "put" that begins a line. Split at white space, a block loses its line breaks, and
# words alone don't tell where a line began: "put a 1 1 put" and "put 1 1" add up to two puts.
FIRST_PUT = "\0"
MARK = " " + FIRST_PUT + " "
SHORTER = len("\nput ") - len(MARK)  # each mark makes the text, which tells how many there are


def put_block(store: Store, block: bytes) -> Tuple[int, int, Optional[Receipt]]:
    """Store a block of whole lines if each is a put that can be stored.

    Returns how many of the lines are done with, how many are left, as the store would have held up
    others, and the receipt. None means that nothing is stored: it has to be run line by line.
    """
    if block[:4] != PUT_START:
        return 0, 0, None
    try:
        text = block.decode()
        if FIRST_PUT in text:
            return 0, 0, None
        lines = "\n" + text[:-1]
        marked = lines.replace("\nput ", MARK)
        count = (len(lines) - len(marked)) // SHORTER
        words = marked.split()
        if "\n" in marked or len(words) != 4 * count or words[::4].count(FIRST_PUT) != count:
            return 0, 0, None
        values, timestamps = to_numbers(words[2::4], words[3::4])
    except ValueError:  # not UTF-8, not a number
        return 0, 0, None
    if store.room < count:
        return 0, 0, None
    taken, receipt = store.put_many(words[1::4], values, timestamps)
    return taken, count - taken, receipt


def lines_behind(lines: bytes, number: int) -> bytes:
    """The lines that come after so many."""
    return lines.split(b"\n", number)[number]


class Putter(Protocol):
    """A session whose arrival is in a block."""

    said: Outcome  # what has come of its arrival

    def take(self, outcome: Outcome, left: bytes) -> None:
        """Hear what has come of the first lines, and go on with those that are left."""

    def run_alone(self, lines: bytes) -> None:
        """Run whole lines by themselves."""


class TurnBatch:
    """What look like puts in a turn, of all clients: they are gathered, and stored together."""

    def __init__(self, store: Store, counts: Counts) -> None:
        self._points = store
        self._counts = counts
        self.putters: List[Putter] = []  # each once
        self.arrivals: List[bytes] = []  # whole lines, of each in turn

    def run(self) -> None:
        """Store what has been gathered."""
        if self.putters:
            putters, arrivals = self.putters, self.arrivals
            self.putters, self.arrivals = [], []
            self._store(putters, arrivals)

    def _store(self, putters: List[Putter], arrivals: List[bytes]) -> None:
        """Store all of it at once if that can be done, or else each half by itself.

        So a client's mistake is nobody else's: in the end only his arrival runs alone.
        """
        block = b"".join(arrivals)
        receipt = None
        if len(block) <= (BLOCK_BYTES if len(putters) == 1 else SHARED_BYTES):
            try:
                taken, left, receipt = put_block(self._points, block)
            except Exception:
                pass  # a fault of ours: it is to hit only whose line causes it
        if receipt is not None:
            self._counts.bytes_in += len(block)
            self._counts.puts += taken
            self._tell(putters, arrivals, taken, left, receipt)
        elif len(putters) > 1:
            half = len(putters) // 2
            self._store(putters[:half], arrivals[:half])
            self._store(putters[half:], arrivals[half:])
        else:
            putters[0].run_alone(arrivals[0])

    def _tell(
        self,
        putters: List[Putter],
        arrivals: List[bytes],
        taken: int,
        left: int,
        receipt: Receipt,
    ) -> None:
        """Tell each what has come of its lines, of which the last ones may be left."""
        outcome = of_puts(1, receipt)
        if taken == len(putters) and not left:
            self._counts.bytes_out += known_bytes(outcome) * taken
            for putter in putters:  # nearly always: each has put once
                putter.said = outcome
            return
        for putter, lines in zip(putters, arrivals):
            count = lines.count(b"\n") if len(putters) > 1 else taken + left
            done = min(count, taken)
            taken -= done
            putter.take(of_puts(done, receipt), lines_behind(lines, done) if done < count else b"")
