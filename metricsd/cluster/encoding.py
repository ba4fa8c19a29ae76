"""How points stand in the cluster: the names of what is kept, and fields and values as text.

Owns the encoding only. Does not know when anything is read or written.

A key has its points in hashes, one for each bucket of BUCKET_SECONDS, called ``{key}:BUCKET``: the
fields are seconds into the bucket, the values what ``repr`` says of a float. Which buckets there
are says a sorted set called ``{key}``. The braces are hash tags: all of a key is in one slot. Which
keys there are says one sorted set for all, KEYS, in the order of their first put. A bucket of many
points has more hashes: see packing.
"""

from array import array
from binascii import crc_hqx
from typing import Dict, List, Tuple, Union

from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP, Columns

# Seconds of a bucket. What the cluster keeps for each, some 240 bytes beside its points, is then
# 4 bytes a point with one a minute. Numbers up to 4,095 take 3 bytes in a compact list.
BUCKET_SECONDS = 4000

# The sorted set of all keys, by the microsecond of their first put.
KEYS = b"metricsd:keys"

# A field that every hash has, and every put sets. So the number of fields that a put has added says
# whether there was a hash before: if not, it is one more than there were points. It may have been
# there and be lost, with a primary that had not told its replica.
MARK = b""

# A field of a hash whose bucket has parts.
PACKED = b"packed"

MARKS = (MARK, PACKED)

OFFSETS = [b"%d" % second for second in range(BUCKET_SECONDS)]

# Added to the number of a bucket in the set of a key, which is sorted as text: none is negative
# then, and all have as many digits.
FIRST_BUCKET = MIN_TIMESTAMP // BUCKET_SECONDS
DIGITS = len(str(MAX_TIMESTAMP // BUCKET_SECONDS - FIRST_BUCKET))

SLOTS = 16384  # of every cluster

Word = Union[bytes, str]
Command = List[Word]
Place = Tuple[str, int]  # a key and the number of one of its buckets


def index_name(key: str) -> bytes:
    """The name of the set of a key's buckets."""
    # A tag that is empty would be none. No key has a space, so this is no other key's name.
    tag = " " + key if key[0] == "}" else key
    return b"{%s}" % tag.encode()


def hash_name(place: Place) -> bytes:
    """The name of the hash of a bucket."""
    return index_name(place[0]) + b":%d" % place[1]


def member(bucket: int) -> bytes:
    """How the set of a key calls a bucket."""
    return b"%0*d" % (DIGITS, bucket - FIRST_BUCKET)


def bucket_of(name: bytes) -> int:
    """The bucket that is called so."""
    return int(name) + FIRST_BUCKET


def end_of(bucket: int) -> int:
    """The last timestamp of a bucket."""
    return min((bucket + 1) * BUCKET_SECONDS - 1, MAX_TIMESTAMP)


def puts_of(keys: List[str], values: List[float], timestamps: List[int]) -> Dict[Place, Command]:
    """The command that stores all the points of a hash, for each; later points replace earlier."""
    found: Dict[Place, Command] = {}
    for key, value, timestamp in zip(keys, values, timestamps):
        bucket, second = divmod(timestamp, BUCKET_SECONDS)
        place = (key, bucket)
        command = found.get(place)
        if command is None:
            command = found[place] = [b"HSET", hash_name(place), MARK, b""]
        text = repr(value)
        # A whole number takes a few bytes in a compact list, any other text one for each character.
        command += (OFFSETS[second], text[:-2] if text.endswith(".0") else text)
    return found


def is_first(put: Command, added: int) -> bool:
    """Whether there was no hash before this command, which has added so many fields."""
    return added > 1 and added > len(set(put[4::2]))


def columns_of(bucket: int, fields: Dict[bytes, bytes]) -> Columns:
    """The points of a hash, sorted. Raises ValueError if somebody else has written into it."""
    base = bucket * BUCKET_SECONDS
    points = sorted((int(second), value) for second, value in fields.items() if second not in MARKS)
    timestamps = array("q", [base + second for second, _ in points])
    return timestamps, array("d", [float(value) for _, value in points])


def name_in(command: Command) -> bytes:
    """The name by which a command finds its shard."""
    name = command[3] if command[0] == b"EVAL" else command[1]
    assert isinstance(name, bytes)
    return name


def slot_of(name: bytes) -> int:
    """The slot of a name of ours: CRC16 of its hash tag, or of all of it."""
    start = name.find(b"{")
    end = name.find(b"}", start + 1)
    tag = name[start + 1 : end] if 0 <= start < end - 1 else name
    return crc_hqx(tag, 0) % SLOTS
