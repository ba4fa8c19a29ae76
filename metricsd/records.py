"""Records: batches of lines in a file, written so that what is torn or damaged shows.

Owns the format of the journal's files. Does not know what the lines say, nor where the bytes are.

A record is a line of its own in front of its lines: ``#``, a checksum over all that follows, the
length of the lines in bytes, and how many bytes of the file were safe on the disk when the record
was written. Numbers are in hexadecimal. No line of a batch begins with ``#``.
"""

import mmap
import re
import zlib
from itertools import islice
from typing import Iterator, Tuple, Union

Data = Union[bytes, mmap.mmap]  # a file's bytes, maybe not all in memory

# At the beginning of a line, so that nobody can put a key that looks like one.
RECORD_HEAD = re.compile(b"^#([0-9a-f]{8}) ([0-9a-f]{12}) ([0-9a-f]{12})\n", re.MULTILINE)
CHECKED_FROM = len("#01234567")  # on, the checksum covers everything


# A record that was found whole: where it ends, its lines, and how many bytes of the file were safe
# before it was written, in hexadecimal. A plain tuple, as there may be a million of them.
Record = Tuple[int, bytes, bytes]


def write_record(lines: bytes, synced: int) -> bytes:
    """Return lines as a record. CRC-32 finds every damage of up to 32 bits in a row."""
    numbers = b" %012x %012x\n" % (len(lines), synced)
    return b"#%08x" % zlib.crc32(lines, zlib.crc32(numbers)) + numbers + lines


def read_records(data: Data, start: int, end: int) -> Iterator[Record]:
    """Yield the records from ``start`` on, until there is no whole and undamaged one."""
    while start < end:
        head = RECORD_HEAD.match(data, start)
        if head is None:
            return
        checksum, length, synced = head.groups()
        first = head.end()
        stop = first + int(length, 16)
        if stop > end or zlib.crc32(data[start + CHECKED_FROM : stop]) != int(checksum, 16):
            return
        yield stop, data[first:stop], synced
        start = stop


def records_behind(data: Data, start: int) -> Iterator[Tuple[int, int]]:
    """Yield where each undamaged record begins after this place, whatever lies between them.

    Also how many bytes of the file were safe before it was written.
    """
    for head in RECORD_HEAD.finditer(data, start + 1):
        for _, _, synced in islice(read_records(data, head.start(), len(data)), 1):
            yield head.start(), int(synced, 16)
