"""Plain puts the short way: a block of them as one, with most of the work done in C.

Owns one short cut, with the same result as line by line. Does not know any other command: a block
that is not all plain puts is left alone, to be run line by line.
"""

from metricsd.columns import MAX_TIMESTAMP, MIN_TIMESTAMP
from metricsd.commands import MAX_TIMESTAMP_CHARACTERS
from metricsd.ledger import AnyStore

# Stands for a "put" that begins a line. Split at white space, a block loses its line breaks, and
# words alone don't tell where a line began: "put a 1 1 put" and "put 1 1" add up to two puts.
FIRST_PUT = "\0"


def put_block(store: AnyStore, block: bytes) -> int:
    """Store a block of whole lines, if each is a put that can be stored; return how many were.

    0 means that the block has to be run line by line. Either all of a block is stored or nothing.
    """
    if block[:4] != b"put ":
        return 0
    try:
        text = block.decode()
        count = text.count("\n")
        if count > 1:
            return _put_lines(store, block, text, count)
        _, key, value, timestamp = text.split()
        if len(timestamp) > MAX_TIMESTAMP_CHARACTERS:
            return 0
        number, seconds = float(value), int(timestamp)
    except ValueError:  # not UTF-8, not four words, not a number
        return 0
    if not MIN_TIMESTAMP <= seconds <= MAX_TIMESTAMP or store.room < 1:
        return 0
    store.put(key, number, seconds, block)
    return 1


def _put_lines(store: AnyStore, block: bytes, text: str, count: int) -> int:
    """Do the same for several lines. Raises ValueError for what is not a number."""
    if FIRST_PUT in text:
        return 0
    words = ("\n" + text).replace("\nput ", " " + FIRST_PUT + " ").split()
    if len(words) != 4 * count or words[::4].count(FIRST_PUT) != count:
        return 0
    timestamps = words[3::4]
    if len(text) > MAX_TIMESTAMP_CHARACTERS < len(max(timestamps, key=len)):
        return 0
    values = list(map(float, words[2::4]))
    seconds = list(map(int, timestamps))
    if min(seconds) < MIN_TIMESTAMP or max(seconds) > MAX_TIMESTAMP or store.room < count:
        return 0
    store.put_many(words[1::4], values, seconds, block)
    return count
