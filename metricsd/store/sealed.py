"""Sealed points: columns as few bytes, and back again to exactly the same bits.

Owns the encoding. Does not know when points are sealed.

A column is made of small whole numbers where that can be done: timestamps and counters are taken as
their steps from one to the next, decimal fractions as the whole numbers of hundredths that they
are. It is written by planes: the lowest byte of each number, then the next byte of each. A plane of
one byte repeated, like the high bytes of small numbers, falls away; what is left is deflated if it
looks as if that helped. The ideas are those of Gorilla (Pelkonen and others, VLDB 2015) and of
VictoriaMetrics' decimal blocks, for bytes instead of bits, because with bytes Python is fast.
"""

import math
import struct
import zlib
from array import array
from io import BytesIO
from itertools import accumulate
from sys import byteorder
from typing import List, Optional, Sequence, Tuple, TypeVar

from metricsd.store.columns import INT64, Columns, empty_columns

NUMBER_BYTES = 8

# Gauges tend to be decimal fractions: times one of these they are whole numbers.
SCALES = (1.0, 10.0, 100.0, 1000.0, 10000.0, 100000.0, 1000000.0)
NO_SCALE = len(SCALES)

# The last bit of a float of this size is worth 1: adding it rounds a smaller float to a whole
# number, which then stands in the lowest bits of the sum. It comes off again without loss.
ROUNDER = 1.5 * 2**52

# No scale brings back -0.0. The byte with its sign tells it from every decimal fraction.
SIGN_BYTE = 0x80
SIGN_PLACE = array("d", (-0.0,)).tobytes().index(SIGN_BYTE)

# So many values tell whether a scale is worth trying, and whether a column climbs. If they were
# wrong, so many scales are tried in all, at some 15 us each.
SAMPLE_VALUES = 4
SCALE_TRIES = 3

# Deflating costs most where it saves least, so a plane whose bytes look random is left as it is. Of
# 30 random bytes 28 or so are different.
SAMPLE_BYTES = 30
FEW_DIFFERENT = 12

# The fastest level, little memory (setting it to zero would take longest), no checksum.
DEFLATE_LEVEL = 1
DEFLATE_MEMORY = 3
DEFLATE_WINDOW = -12  # 4 KiB

# Before the two columns: the number of points, the index of the scale, the first column's length.
HEAD = struct.Struct("<HBI")

# Before each column: how many bytes its first number takes if steps follow, and a bit for each
# plane that stands there in full, and for each that is deflated. Of the others there is one byte.
COLUMN = struct.Struct("<BBB")

# All that is left of regular timestamps: the first one and the step.
REGULAR = struct.Struct("=qQ")

# Regular timestamps whose step fits in a byte are told by their lowest bytes alone.
EVERY_BYTE = bytes(range(256))
LOW_PLACE = array("q", (1,)).tobytes().index(1)

Column = TypeVar("Column", List[float], bytes)


def seal(columns: Columns) -> bytes:
    """Return points, sorted, as bytes, which are different if the points are. At most 65,535."""
    timestamps, values = columns
    packed = _pack_regular(timestamps) or _pack_timestamps(timestamps)
    scale, numbers = _whole(values)
    head = HEAD.pack(len(timestamps), scale, len(packed))
    return head + packed + _pack(_floats(numbers), _climbs(numbers))


def unseal(sealed: bytes) -> Columns:
    """Return the points that were sealed; of no bytes, none."""
    if not sealed:
        return empty_columns()
    timestamps = unseal_timestamps(sealed)
    packed = struct.pack(f"{len(timestamps)}{INT64}", *timestamps)
    return array(INT64, packed), array("d", _floats(unseal_values(sealed)))


def unseal_timestamps(sealed: bytes) -> Sequence[int]:
    """Return the timestamps alone; where they are regular, as a range."""
    if not sealed:
        return ()
    count, _, length = HEAD.unpack_from(sealed)
    packed = sealed[HEAD.size : HEAD.size + length]
    steps, rough, smooth = COLUMN.unpack_from(packed)
    if steps and not rough and not smooth and count > 1:
        first, step = REGULAR.unpack_from(packed, COLUMN.size)
        return range(first, first + step * count, step)
    return array(INT64, _unpack(packed, count))


def unseal_values(sealed: bytes) -> Sequence[float]:
    """Return the values alone."""
    if not sealed:
        return ()
    count, scale, length = HEAD.unpack_from(sealed)
    numbers = _unpack(sealed[HEAD.size + length :], count)
    if scale == NO_SCALE:
        return array("d", numbers)
    factor, rounder = SCALES[scale], ROUNDER
    return [(number - rounder) / factor for number in struct.unpack(f"{count}d", numbers)]


def sealed_points(sealed: bytes) -> int:
    """How many points there are."""
    if not sealed:
        return 0
    return int(HEAD.unpack_from(sealed)[0])


def _pack_timestamps(timestamps: "array[int]") -> bytes:
    return _pack(timestamps.tobytes(), (timestamps[0] < 0) == (timestamps[-1] < 0))


def _pack_regular(timestamps: "array[int]") -> bytes:
    """Do what _pack_timestamps does, in a tenth of the time, if they are regular; b"" if not.

    They climb. If their lowest bytes are those of regular ones, each step differs from the regular
    one by a multiple of 256, so none is smaller. And none is larger, or they would come further.
    """
    first, last, count = timestamps[0], timestamps[-1], len(timestamps)
    step, rest = divmod(last - first, max(count - 1, 1))
    if rest or not 0 < step < 256 or (first < 0) != (last < 0):
        return b""
    start = first % 256
    regular = (EVERY_BYTE * (step * count // 256 + 2))[start : start + step * count : step]
    if timestamps.tobytes()[LOW_PLACE::NUMBER_BYTES] != regular:
        return b""
    return COLUMN.pack(NUMBER_BYTES, 0, 0) + REGULAR.pack(first, step)


def _whole(values: "array[float]") -> Tuple[int, List[float]]:
    """The index of a scale and the numbers it gives, or NO_SCALE and the values."""
    exact = values.tolist()
    bits = values.tobytes()
    repeated = bits == bits[:NUMBER_BYTES] * len(exact)  # which takes no room at any scale
    if repeated or SIGN_BYTE in bits[SIGN_PLACE::NUMBER_BYTES]:
        return NO_SCALE, exact
    sample = _sample(exact, SAMPLE_VALUES)
    tries = SCALE_TRIES
    for index, scale in enumerate(SCALES):
        if tries and _scaled(sample, scale) is not None:
            tries -= 1
            numbers = _scaled(exact, scale)
            if numbers is not None:
                return index, numbers
    return NO_SCALE, exact


def _scaled(values: List[float], scale: float) -> Optional[List[float]]:
    """The values times the scale plus ROUNDER; None if that loses a bit of any."""
    rounder = ROUNDER  # a local name is found sooner
    numbers: List[float] = []
    for value in values:
        number = value * scale + rounder
        if (number - rounder) / scale != value:  # nan is never equal
            return None
        numbers.append(number)
    return numbers


def _floats(numbers: Sequence[float]) -> bytes:
    """Floats side by side, as they stand in an array, which takes six times as long to fill."""
    return struct.pack(f"{len(numbers)}d", *numbers)


def _climbs(numbers: List[float]) -> bool:
    """Whether no number is less than the one before, nor its bits, taken as a whole number."""
    sample = _sample(numbers, SAMPLE_VALUES)
    if numbers[0] <= 0 or sample != sorted(sample) or numbers != sorted(numbers):
        return False
    return not math.isnan(sum(numbers))  # in order, but to themselves


def _pack(numbers: bytes, climbing: bool) -> bytes:
    """Write a column of unsigned numbers, as steps if they climb."""
    first = b""
    if climbing:
        first, numbers = numbers[:NUMBER_BYTES], _steps(numbers)
    count = len(numbers) // NUMBER_BYTES
    if numbers == numbers[:NUMBER_BYTES] * count:  # so are the steps of regular timestamps
        return COLUMN.pack(len(first), 0, 0) + first + numbers[:NUMBER_BYTES]
    rough = smooth = 0
    planes: List[bytes] = []
    smooth_planes: List[bytes] = []
    for place in range(NUMBER_BYTES):
        plane = numbers[place::NUMBER_BYTES]
        if plane == plane[:1] * count:
            planes.append(plane[:1])
        elif len(set(_sample(plane, SAMPLE_BYTES))) > FEW_DIFFERENT:
            rough |= 1 << place
            planes.append(plane)
        else:
            smooth |= 1 << place
            smooth_planes.append(plane)
    head = COLUMN.pack(len(first), rough, smooth)
    return b"".join([head, first, *planes, _deflate(b"".join(smooth_planes))])


def _unpack(packed: bytes, count: int) -> bytes:
    """Read what _pack wrote."""
    first_bytes, rough, smooth = COLUMN.unpack_from(packed)
    stream = BytesIO(packed)
    stream.seek(COLUMN.size)
    first = stream.read(first_bytes)
    count -= len(first) // NUMBER_BYTES
    numbers = bytearray(NUMBER_BYTES * count)
    for place in range(NUMBER_BYTES):
        if rough >> place & 1:
            numbers[place::NUMBER_BYTES] = stream.read(count)
        elif not smooth >> place & 1:
            numbers[place::NUMBER_BYTES] = stream.read(1) * count
    if smooth:
        stream = BytesIO(zlib.decompress(stream.read(), DEFLATE_WINDOW))
        for place in range(NUMBER_BYTES):
            if smooth >> place & 1:
                numbers[place::NUMBER_BYTES] = stream.read(count)
    if first:
        return array("Q", accumulate(array("Q", first + numbers))).tobytes()
    return bytes(numbers)


def _steps(numbers: bytes) -> bytes:
    """Each number but the first, minus the one before it.

    The column is taken as one integer whose digits, to the base 2^64, are the numbers, so that one
    subtraction, at the speed of C, does them all. As they climb, none borrows from the next.
    """
    each = int.from_bytes(numbers[NUMBER_BYTES:], byteorder)
    before = int.from_bytes(numbers[:-NUMBER_BYTES], byteorder)
    return (each - before).to_bytes(len(numbers) - NUMBER_BYTES, byteorder)


def _deflate(body: bytes) -> bytes:
    if not body:
        return b""
    compress = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, DEFLATE_WINDOW, DEFLATE_MEMORY)
    return compress.compress(body) + compress.flush()


def _sample(column: Column, size: int) -> Column:
    """At most so many items of a column, from all over it."""
    return column[:: len(column) // size + 1]
