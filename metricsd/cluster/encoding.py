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
KEYS = "metricsd:keys"

# A field of a hash whose bucket has parts.
PACKED = b"packed"

OFFSETS = [str(second) for second in range(BUCKET_SECONDS)]

# Added to the number of a bucket in the set of a key, which is sorted as text: none is negative
# then, and all have as many digits.
FIRST_BUCKET = MIN_TIMESTAMP // BUCKET_SECONDS
DIGITS = len(str(MAX_TIMESTAMP // BUCKET_SECONDS - FIRST_BUCKET))

SLOTS = 16384  # of every cluster

Word = Union[bytes, str]
Command = List[Word]
Place = Tuple[str, int]  # a key and the number of one of its buckets
Points = List[str]  # the name of a hash, and then fields and values


def index_name(key: str) -> str:
    """The name of the set of a key's buckets."""
    # A tag that is empty would be none. No key has a space, so this is no other key's name.
    tag = " " + key if key[0] == "}" else key
    return "{" + tag + "}"


def hash_name(place: Place) -> str:
    """The name of the hash of a bucket."""
    return f"{index_name(place[0])}:{place[1]}"


def member(bucket: int) -> bytes:
    """How the set of a key calls a bucket."""
    return b"%0*d" % (DIGITS, bucket - FIRST_BUCKET)


def bucket_of(name: bytes) -> int:
    """The bucket that is called so."""
    return int(name) + FIRST_BUCKET


def end_of(bucket: int) -> int:
    """The last timestamp of a bucket."""
    return min((bucket + 1) * BUCKET_SECONDS - 1, MAX_TIMESTAMP)


def points_of(keys: List[str], values: List[float], timestamps: List[int]) -> Dict[Place, Points]:
    """The points of each hash, in their order."""
    found: Dict[Place, Points] = {}
    for key, value, timestamp in zip(keys, values, timestamps):
        bucket, second = divmod(timestamp, BUCKET_SECONDS)
        place = (key, bucket)
        points = found.get(place)
        if points is None:
            points = found[place] = [hash_name(place)]
        text = repr(value)
        # A whole number takes a few bytes in a compact list, any other text one for each character.
        points += (OFFSETS[second], text[:-2] if text.endswith(".0") else text)
    return found


def columns_of(bucket: int, fields: Dict[bytes, bytes]) -> Columns:
    """The points of a hash, sorted. Raises ValueError if somebody else has written into it."""
    base = bucket * BUCKET_SECONDS
    points = sorted((int(second), value) for second, value in fields.items() if second != PACKED)
    timestamps = array("q", [base + second for second, _ in points])
    return timestamps, array("d", [float(value) for _, value in points])


def name_in(command: Command) -> str:
    """The name by which a command finds its shard."""
    name = command[3] if command[0] == b"EVAL" else command[1]
    assert isinstance(name, str)
    return name


def slot_of(name: str) -> int:
    """The slot of a name of ours: CRC16 of its hash tag, or of all of it."""
    start = name.find("{")
    end = name.find("}", start + 1)
    tag = name[start + 1 : end] if 0 <= start < end - 1 else name
    return crc_hqx(tag.encode(), 0) % SLOTS
