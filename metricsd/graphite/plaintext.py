"""Graphite's plaintext: a line is ``path value timestamp``, and becomes a point here.

Owns what a line may look like, and the short way for blocks of usual ones. Does not know what
becomes of a point. The format: Graphite's documentation, "Feeding In Your Data".
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

from metricsd.protocol import to_numbers
from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP

# Timestamps that stand for the time of the arrival, as does a missing one and the word.
NOW = (0, -1)
NOW_WORD = "N"

# Stands for a line feed among the words of a block: split at white space, it loses these.
LINE_END = "\0"

Point = Tuple[str, float, int]


class Points(NamedTuple):
    """Points as columns; a value may be not finite."""

    keys: List[str]
    values: List[float]
    timestamps: List[int]


def points_of_block(block: bytes, now: int) -> Optional[Points]:
    """The points of whole lines, if each has three words and means a point.

    If there is None, the lines have to be read one by one. With the same result, most is done in C.
    """
    try:
        text = block.decode()
    except UnicodeDecodeError:
        return None
    marked = text.replace("\n", f" {LINE_END} ")
    count = (len(marked) - len(text)) // len("  ")  # lines
    words = marked.split()
    in_lines = len(words) == 4 * count and words[3::4].count(LINE_END) == count
    if not in_lines or LINE_END in text:
        return None
    paths, values, timestamps = words[0::4], words[1::4], words[2::4]
    try:
        numbers, seconds = _numbers(values, timestamps)
    except ValueError:
        return None
    if ";" in text:
        paths = [canonical(path) for path in paths]
    if min(seconds) <= max(NOW):
        seconds = [now if second in NOW else second for second in seconds]
    return Points(paths, numbers, seconds)


def point_of_line(line: bytes, now: int) -> Optional[Point]:
    """The point that a line means; None for a blank line. Raises ValueError for a bad one."""
    words = line.decode().split()
    if not words:
        return None
    if len(words) == 2:
        words.append(str(NOW[0]))
    path, value, timestamp = words
    (number,), (second,) = _numbers((value,), (timestamp,))
    return canonical(path), number, now if second in NOW else second


def canonical(path: str) -> str:
    """A path with its tags, ``name;tag=value;...``, in the order of their names.

    So one series has one key, whatever the order in which a sender names its tags.
    """
    if ";" not in path or LINE_END in path:
        return path
    # Compared as they are, `a1=x` would come before `a=x`: the sign after a name has to be the
    # least of all characters.
    name, *tags = path.replace("=", LINE_END).split(";")
    tags.sort()
    return ";".join([name] + tags).replace(LINE_END, "=")


def _numbers(values: Sequence[str], timestamps: Sequence[str]) -> Tuple[List[float], List[int]]:
    """Do what to_numbers does, and take timestamps with a fraction, and NOW_WORD."""
    try:
        return to_numbers(values, timestamps)
    except ValueError:
        return to_numbers(values, list(map(_whole, timestamps)))


def _whole(timestamp: str) -> str:
    """A timestamp as to_numbers takes it; one that it takes already is left as it is."""
    if timestamp == NOW_WORD:
        return str(NOW[0])
    if "." in timestamp or "e" in timestamp or "E" in timestamp:
        seconds = float(timestamp)
        if not MIN_TIMESTAMP <= seconds <= MAX_TIMESTAMP:
            raise ValueError("a timestamp is beyond 64 bits")
        return str(int(seconds))
    return timestamp
