"""A block of puts run as one: the same result as line by line, with most of the work done in C.

Owns one short cut. Does not know any other command: a block that is not all plain puts is left to
the line-by-line path, untouched.
"""

from metricsd.commands import MAX_TIMESTAMP_CHARACTERS, BadCommand, put
from metricsd.series import MAX_TIMESTAMP, MIN_TIMESTAMP
from metricsd.store import Store

# Stands for a "put" that begins a line. Split at white space, a block loses its line breaks, and
# words alone don't tell where a line began: "put a 1 1 put" and "put 1 1" add up to two puts.
FIRST_PUT = "\0"


def put_block(store: Store, block: bytes) -> int:
    """Store a block of whole lines, if each is a well-formed put; return how many were stored.

    0 means that the block has to be run line by line. Either all of a block is stored or nothing.
    """
    try:
        text = block.decode()
        count = text.count("\n")
        if count == 1:
            return _put_line(store, text)
        if FIRST_PUT in text:
            return 0
        words = ("\n" + text).replace("\nput ", " " + FIRST_PUT + " ").split()
        if len(words) != 4 * count or words[::4].count(FIRST_PUT) != count:
            return 0
        numbers = words[3::4]
        if len(block) > MAX_TIMESTAMP_CHARACTERS < len(max(numbers, key=len)):
            return 0
        values = list(map(float, words[2::4]))
        timestamps = list(map(int, numbers))
    except ValueError:  # not UTF-8, not a number
        return 0
    if min(timestamps) < MIN_TIMESTAMP or max(timestamps) > MAX_TIMESTAMP:
        return 0
    store.put_many(words[1::4], values, timestamps)
    return count


def _put_line(store: Store, line: str) -> int:
    words = line.split()
    if len(words) != 4 or words[0] != "put":
        return 0
    try:
        put(store, words[1], words[2], words[3])
    except BadCommand:
        return 0
    return 1
