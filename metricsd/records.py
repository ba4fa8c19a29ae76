"""Records: batches of lines in a file, written so that what is torn or damaged shows.

Owns the format of the journal's files. Does not know what the lines say, nor where the bytes are.

A record is a line of its own in front of its lines: ``#``, a checksum over all that follows, the
length of the lines in bytes, and how many bytes of the file were safe on the disk when the record
was written. Numbers are in hexadecimal. No line of a batch begins with ``#``.
"""

import mmap
import re
import zlib
from typing import Iterator, NamedTuple, Optional, Union

Data = Union[bytes, mmap.mmap]  # a file's bytes, maybe not all in memory

RECORD_HEAD = re.compile(b"#([0-9a-f]{8})( ([0-9a-f]{8}) ([0-9a-f]{12})\n)")


class Record(NamedTuple):
    """A record that was found whole."""

    start: int
    end: int
    lines: bytes
    synced: int  # so many bytes of the file were safe before this one was written


def write_record(lines: bytes, synced: int) -> bytes:
    """Return lines as a record. CRC-32 finds every damage of up to 32 bits in a row."""
    numbers = b" %08x %012x\n" % (len(lines), synced)
    return b"#%08x" % zlib.crc32(lines, zlib.crc32(numbers)) + numbers + lines


def read_record(data: Data, start: int) -> Optional[Record]:
    """The record that begins here; None if there is no whole and undamaged one."""
    head = RECORD_HEAD.match(data, start)
    if head is None:
        return None
    checksum, numbers, length, synced = head.groups()
    end = head.end() + int(length, 16)
    lines = data[head.end() : end]
    if end > len(data) or zlib.crc32(lines, zlib.crc32(numbers)) != int(checksum, 16):
        return None
    return Record(start, end, lines, int(synced, 16))


def records_behind(data: Data, start: int) -> Iterator[Record]:
    """Yield the undamaged records that begin after this place, whatever lies between them."""
    for head in RECORD_HEAD.finditer(data, start + 1):
        record = read_record(data, head.start())
        if record is not None:
            yield record
