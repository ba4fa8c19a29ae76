"""The write-ahead log of SQLite, the WAL, read without SQLite, to see whether it is whole.

SQLite takes one with a bad frame for one that ends there, and writes over what follows. So it is
looked at before. Its format is documented and stable: https://sqlite.org/fileformat2.html, section
4, and https://sqlite.org/walformat.html for its index. Owns these formats, and no other.
"""

import os
import struct
from typing import Iterator, List, NamedTuple, Optional, Tuple

HEADER = struct.Struct(">8I")  # magic, version, page size, number, two salts, two sums
FRAME = struct.Struct(">2I8s2I")  # page, pages of the database, salts, two sums
MAGIC = 0x377F0682  # the last bit tells the byte order of the words that are summed up
MASK = 0xFFFFFFFF

# How the index begins, in the byte order of the machine: the frames that are known are the fifth of
# these, then come sums, the salts, and two sums of all that.
INDEX = struct.Struct("=3I4xI12x8s2I")

Sums = Tuple[int, int]


class Frame(NamedTuple):
    """A page as a transaction has written it."""

    page: int
    pages: int  # of the database after this transaction, in its last frame; 0 in the others
    data: bytes
    whole: bool  # as it was written, and in its place


class Wal:
    """The file beside a database, if there is one."""

    def __init__(self, database: str) -> None:
        """Read its header. Raises OSError."""
        self.path = database + "-wal"
        self._index = database + "-shm"
        try:
            with open(self.path, "rb") as file:
                head = file.read(HEADER.size)
                self.size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            head, self.size = b"", 0
        head = head.ljust(HEADER.size, b"\0")  # a full disk may have cut it short
        fields = HEADER.unpack(head)
        self._order = "<>"[fields[0] & 1]
        self._page_size = fields[2]
        self._salts = head[16:24]
        self._sums: Sums = fields[6:]
        sums = _sums(head[:24], (0, 0), self._order)
        self._known = fields[0] & ~1 == MAGIC and sums == self._sums

    @property
    def has_frames(self) -> bool:
        """Whether there is more than a header, of which SQLite may say ``locking protocol``."""
        return self.size > HEADER.size

    def damage(self) -> Optional[str]:
        """What is wrong with it, in words; None for nothing, or a last transaction in pieces.

        That one may have been under way when the power failed. If the index knows it as written,
        which outlives a process that was killed, it was not.
        """
        if self.has_frames and not self._known:
            return "its header is damaged"
        committed = 0  # frames
        bad: Optional[int] = None
        for transaction in self.transactions():
            if bad is not None:
                return f"frame {bad} is damaged"
            whole = [frame.whole for frame in transaction]
            if not all(whole):
                bad = committed + whole.index(False) + 1
            elif transaction[-1].pages:
                committed += len(transaction)
        if self._indexed() > committed:
            return f"frame {bad or committed + 1} is damaged or missing"
        return None

    def transactions(self) -> Iterator[List[Frame]]:
        """Yield the frames of each transaction; the end of the last one may be missing."""
        frames: List[Frame] = []
        for frame in self._frames():
            frames.append(frame)
            if frame.pages:
                yield frames
                frames = []
        if frames:
            yield frames

    def whole_pages(self) -> Iterator[Tuple[int, bytes]]:
        """Yield each page that is whole and its number, in their order; to save what can be saved.

        The last transaction is left out if not all of it is.
        """
        before: List[Frame] = []
        for transaction in self.transactions():
            yield from ((frame.page, frame.data) for frame in before if frame.whole)
            before = transaction
        if before and before[-1].pages and all(frame.whole for frame in before):
            yield from ((frame.page, frame.data) for frame in before)

    def _frames(self) -> Iterator[Frame]:
        """Yield the frames that were written since the header, also those behind a bad one."""
        if not self._known:
            return
        sums, gap = self._sums, False
        with open(self.path, "rb") as file:
            file.seek(HEADER.size)
            for _ in range((self.size - HEADER.size) // (FRAME.size + self._page_size)):
                head, data = file.read(FRAME.size), file.read(self._page_size)
                page, pages, salts, *written = FRAME.unpack(head)
                before, sums = sums, (written[0], written[1])
                if salts != self._salts:
                    gap = True  # if there is none after it, it is left from before
                    continue
                if gap:
                    gap = False
                    yield Frame(0, 0, b"", False)
                right = _sums(data, _sums(head[:8], before, self._order), self._order)
                yield Frame(page, pages, data, right == sums)

    def _indexed(self) -> int:
        """The frames that the index knows, if it is the one of these frames."""
        try:
            with open(self._index, "rb") as file:
                first, second = file.read(INDEX.size), file.read(INDEX.size)
            *_, known, salts, a, b = INDEX.unpack(first)
        except (OSError, struct.error):
            return 0
        right = (
            first == second and salts == self._salts and _sums(first[:40], (0, 0), "=") == (a, b)
        )
        return int(known) if right else 0


def _sums(data: bytes, sums: Sums, order: str) -> Sums:
    """The checksum of bytes in pairs of words, after those that gave ``sums``."""
    a, b = sums
    for word in struct.unpack(f"{order}{len(data) // 4}I", data):
        a, b = b, (a + b + word) & MASK
    return a, b
