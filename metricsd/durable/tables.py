"""What is in the file: its tables, and how a row of each is made and checked.

Owns the format. Does not know when something is written or read. Every row ends with a checksum of
itself, and the one row of ``about`` says how many others there must be.
"""

import struct
import sys
from array import array
from collections import defaultdict
from itertools import count
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple
from zlib import crc32

from metricsd.store import OpenError, Receipt

# Of the tables below and of what is in them. A file of another format is refused.
FORMAT = 4

# SQLite shows these with .schema, comments included. A file in which they differ is damaged.
TABLES = {
    "about": """CREATE TABLE about (
  -- One row: what this file is and what must be in it.
  id INTEGER PRIMARY KEY,      -- 1
  format INTEGER NOT NULL,     -- of these tables
  byte_order TEXT NOT NULL,    -- of the numbers in the log
  fsync TEXT NOT NULL,         -- always, everysec or never: how carefully it is written
  series INTEGER NOT NULL,     -- rows in that table
  logged INTEGER NOT NULL,     -- the last id of the log that has gone into series and blocks
  checksum INTEGER NOT NULL    -- CRC-32 of the table's name and the columns before this
)""",
    "series": """CREATE TABLE series (
  -- A row for each key, in the order in which they were first put.
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL,
  blocks INTEGER NOT NULL,     -- rows in that table
  points INTEGER NOT NULL,     -- in these blocks and here
  sealed_to INTEGER NOT NULL,  -- no point in these blocks has a later timestamp
  unsealed BLOB NOT NULL,      -- the points that are in no block, or replace some; like a block
  checksum INTEGER NOT NULL    -- as in about
)""",
    "blocks": """CREATE TABLE blocks (
  -- Older points, some hundreds of one series in a row.
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL,           -- of the series
  sealed_from INTEGER NOT NULL,-- no point has an earlier timestamp
  sealed BLOB NOT NULL,        -- the points, encoded by metricsd/store/sealed.py
  checksum INTEGER NOT NULL    -- as in about
)""",
    "log": """CREATE TABLE log (
  -- What has been done since then, a row a commit: puts in their order, or a deletion. The ids
  -- leave no gap.
  id INTEGER PRIMARY KEY,
  keys TEXT,                   -- a line each
  key_numbers BLOB,            -- of each put, among these, from 0 on: in 2 bytes, or all in 4
  timestamps BLOB,             -- of each put: in 4 bytes, unsigned, or all in 8
  "values" BLOB,               -- of each put: a float in 8 bytes
  dropped_before INTEGER,      -- instead of puts: all points before this timestamp were dropped;
                               -- keys alone: these were dropped
  checksum INTEGER NOT NULL    -- as in about
)""",
}

Row = Tuple[Any, ...]

# Of a row of the log beside its texts and blobs: its numbers, and what SQLite adds.
ROW_BYTES = 32


class FileError(OpenError):
    """A file can't be used; the message is one line that says why and what to do."""


class Chunk:
    """Some puts, or a deletion: a row of the log and a commit; and the receipt of it."""

    number = 0  # the id of the row, when it has been written
    size = 0  # and about how many bytes it has

    def __init__(
        self, dropped_before: Optional[int] = None, dropped: Optional[List[str]] = None
    ) -> None:
        self.keys: List[str] = dropped or []
        self.names: Dict[str, int] = {}  # these, each once, when it has been written
        self.drops = dropped is not None  # the keys, and puts nothing
        self.values: List[float] = []
        self.timestamps: List[int] = []
        self.dropped_before = dropped_before
        self.receipt = Receipt()


class About(NamedTuple):
    """The row of ``about``, as far as it changes."""

    fsync: str
    series: int = 0
    logged: int = 0

    def row(self) -> Row:
        """As it is written."""
        return with_checksum("about", 1, FORMAT, sys.byteorder, *self)


def log_row(number: int, chunk: Chunk) -> Row:
    """The row of a chunk. Raises ValueError for keys that can't be told apart or written."""
    if chunk.dropped_before is not None:
        return with_checksum("log", number, None, None, None, None, chunk.dropped_before)
    names: Dict[str, int] = defaultdict(count().__next__)
    key_numbers = list(map(names.__getitem__, chunk.keys))
    keys = "\n".join(names)
    if keys.count("\n") != len(names) - 1:
        raise ValueError("a key has a line break")
    if chunk.drops:
        return with_checksum("log", number, keys, None, None, None, None)
    chunk.names = names
    columns = _pack("HI", key_numbers), _pack("Iq", chunk.timestamps), _pack("d", chunk.values)
    return with_checksum("log", number, keys, *columns, None)


def _pack(codes: str, numbers: Sequence[float]) -> bytes:
    """All numbers as in an array of the first of these types that does; quicker than an array."""
    try:
        return struct.pack(f"{len(numbers)}{codes[0]}", *numbers)
    except struct.error:
        return _pack(codes[1:], numbers)


def size_of(row: Row) -> int:
    """How large a row of the log is, roughly."""
    return ROW_BYTES + sum(len(field) for field in row if isinstance(field, (bytes, str)))


def puts_of(row: Row) -> Tuple[List[str], List[float], List[int]]:
    """The puts in a row of the log, in their order: keys, values and timestamps."""
    _, keys, key_numbers, timestamps, values, _, _ = row
    names = keys.decode().split("\n")
    puts = len(values) // array("d").itemsize
    numbers = array("H" if len(key_numbers) == 2 * puts else "I", key_numbers)
    seconds = array("I" if len(timestamps) == 4 * puts else "q", timestamps)
    return [names[number] for number in numbers], array("d", values).tolist(), seconds.tolist()


def with_checksum(table: str, *fields: Any) -> Row:
    """A row, given without its checksum: CRC-32, with the table, so that none passes for another's.

    A text may be given as the bytes that it is written as.
    """
    parts = [table.encode()]
    for field in fields:
        if isinstance(field, str):
            field = field.encode()
        parts.append(field if isinstance(field, bytes) else b"%r" % field)
    return (*fields, crc32(b";".join(parts)))


def intact(table: str, row: Row) -> bool:
    """Whether a row, with texts as bytes, is as it was written."""
    return row == with_checksum(table, *row[:-1])
