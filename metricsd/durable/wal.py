"""The write-ahead log of SQLite, the WAL, read without SQLite, to see whether it is whole.

SQLite takes one with a bad frame for one that ends there, and writes over what follows. So it is
looked at before. Its format is documented and stable: https://sqlite.org/fileformat2.html, section
4, and https://sqlite.org/walformat.html for its index. Owns these formats, and no other.
"""

import contextlib
import os
import struct
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from metricsd.durable.database import PAGE_BYTES

HEADER = struct.Struct(">8I")  # magic, version, page size, number, two salts, two sums
FRAME = struct.Struct(">2I8s2I")  # page, pages of the database, salts, two sums
MAGIC = 0x377F0682  # the last bit tells the byte order of the words that are summed up
MASK = 0xFFFFFFFF

# How the index begins, in the byte order of the machine: twice the frames that it knows and salts,
# then how many of these are in the database as well.
INDEX = struct.Struct("=" + 2 * "16xI12x8s8x" + "I")

# For writing and for reading, in the header of a database: without a WAL, and with one.
VERSIONS_PLACE = 18
WITHOUT_WAL, WITH_WAL = b"\1\1", b"\2\2"


class Frame(NamedTuple):
    """A page as a transaction has written it."""

    page: int
    pages: int  # of the database after this transaction, in its last frame; 0 in the others
    place: int  # in the file, of its data
    whole: bool  # as it was written, and in its place


class Wal:
    """The file beside a database, if there is one, and it belongs to that."""

    def __init__(self, database: str) -> None:
        """Read all of it, but for a last transaction in pieces. Raises OSError.

        That one may have been under way when the power failed.
        """
        self.versions = contents(database, VERSIONS_PLACE, 2)
        self._path = os.devnull if self.versions == WITHOUT_WAL else database + "-wal"
        self.size = os.path.getsize(self._path) if os.path.exists(self._path) else 0
        head = contents(self._path, 0, HEADER.size)
        head = head.ljust(HEADER.size, b"\0")  # a full disk may have cut it short
        magic, _, self._page_size, _, _, _, *self._sums = HEADER.unpack(head)
        self._order, self._salts = "<>"[magic & 1], head[16:24]
        self.known = magic & ~1 == MAGIC and self._sum(head[:24], (0, 0)) == self._sums
        index = contents(database + "-shm", 0, INDEX.size)
        known, salts, *again, moved = INDEX.unpack(index.ljust(INDEX.size, b"\0"))
        gone = self.versions == WITH_WAL and self.size < HEADER.size and known > moved
        its = again == [known, salts] and (gone or salts == self._salts)
        self._indexed = known if its else 0
        if not self.known:  # what it should say is in its frames, too, or always the same
            self._order, self._page_size = "=", PAGE_BYTES
            self._salts = contents(self._path, HEADER.size + 8, 8)
        frames = self._read_frames()
        ends = [0, 0] + [number for number, frame in enumerate(frames, 1) if frame.pages]
        torn = not all(frame.whole for frame in frames[ends[-2] : ends[-1]])
        if torn and ends[-1] == len(frames):
            ends.pop()
        self.frames = frames[: ends[-1]]

    @property
    def damage(self) -> Optional[str]:
        """What is wrong with it, in words; None for nothing.

        The index, which outlives a process that was killed, may know of more than there is.
        """
        if self.size > HEADER.size and not self.known:
            return "its WAL, its header is damaged"
        whole = [frame.whole for frame in self.frames] + [False]
        bad = whole.index(False) + 1
        if bad <= max(len(self.frames), self._indexed):
            return f"its WAL, frame {bad} is damaged or missing"
        return None

    def pages(self) -> Iterator[Tuple[int, bytes]]:
        """Yield the pages of the database that are whole in it, with their numbers, in order."""
        for frame in self.frames:
            if frame.whole:
                yield frame.page, contents(self._path, frame.place, self._page_size)

    def _read_frames(self) -> List[Frame]:
        """The frames that were written since the header, also those behind a bad one."""
        frames: List[Frame] = []
        sums, last = self._sums, 0
        size = FRAME.size + self._page_size
        for start in range(HEADER.size, self.size - size + 1, size):
            data = contents(self._path, start, size)
            page, pages, salts, *written = FRAME.unpack_from(data)
            its = salts == self._salts  # if not, and none follows, it is left from before
            whole = its and written == self._sum(data[:8] + data[FRAME.size :], sums)
            frames.append(Frame(page, pages if its else 0, start + FRAME.size, whole))
            last, sums = len(frames) if its else last, written
        return frames[:last]

    def _sum(self, data: bytes, sums: Sequence[int]) -> List[int]:
        """The checksum of bytes in pairs of words, after those that gave ``sums``."""
        a, b = sums
        for word in struct.unpack(f"{self._order}{len(data) // 4}I", data):
            a, b = b, (a + b + word) & MASK
        return [a, b]


def contents(path: str, start: int, size: int) -> bytes:
    """A piece of a file; less where that ends, nothing if it is not there. Raises OSError."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
        file.seek(start)
        return file.read(size)
    return b""
