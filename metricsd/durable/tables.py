"""What is in the file: its tables, and how a row of each is made and checked.

Owns the format. Does not know when something is written or read. Every row ends with a checksum of
itself, and the one row of ``about`` says how many others there must be.
"""

import struct
import sys
from array import array
from collections import defaultdict
from itertools import count
from typing import Any, DefaultDict, List, NamedTuple, Optional, Tuple
from zlib import crc32

from metricsd.store import OpenError, Receipt

# Of the tables below and of what is in them. A file of another format is refused.
FORMAT = 1

# SQLite shows these with .schema, comments included. A file in which they differ is damaged.
TABLES = {
    "about": """CREATE TABLE about (
  -- One row: what this file is and what must be in it.
  id INTEGER PRIMARY KEY,      -- 1
  format INTEGER NOT NULL,     -- of these tables
  byte_order TEXT NOT NULL,    -- of the numbers in the log
  fsync TEXT NOT NULL,         -- always, everysec or never: how carefully it is written
  series INTEGER NOT NULL,     -- rows in that table
  blocks INTEGER NOT NULL,     -- rows in that table
  logged INTEGER NOT NULL,     -- the last id of the log that has gone into these two
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
  -- What has been done since then: puts in their order, or a deletion. The ids leave no gap.
  id INTEGER PRIMARY KEY,
  keys TEXT,                   -- each once, a line each
  key_numbers BLOB,            -- of each put: which of these, from 0; in 2 bytes, or all in 4
  timestamps BLOB,             -- of each put: in 4 bytes, unsigned, or all in 8
  "values" BLOB,               -- of each put: a float in 8 bytes
  dropped_before INTEGER,      -- instead of puts: all points before this timestamp were dropped
  checksum INTEGER NOT NULL    -- as in about
)""",
}

Row = Tuple[Any, ...]

# What numbers in the log are written as, if all fit in the first: see the module struct.
NUMBER_CODES, TIMESTAMP_CODES = "HI", "Iq"

# Of a row of the log beside its texts and blobs: its numbers, and what SQLite adds.
ROW_BYTES = 32


class FileError(OpenError):
    """A file can't be used; the message is one line that says why and what to do."""


class Refused(Exception):
    """A file is not opened; the message says why and what to do, but not which file."""


class Chunk:
    """Some puts, or a deletion: what makes a row of the log, and the receipt of it."""

    __slots__ = (
        "dropped_before", "keys", "names", "number", "receipt", "size", "timestamps", "values"
    )  # fmt: skip

    def __init__(self, dropped_before: Optional[int] = None) -> None:
        self.keys: List[str] = []
        self.values: List[float] = []
        self.timestamps: List[int] = []
        self.dropped_before = dropped_before
        self.receipt = Receipt()
        self.names: List[str] = []  # the keys, each once; known as soon as the row has been made
        self.number = 0  # the id of the row, when it has been written
        self.size = 0  # about how many bytes this is in the log


class About(NamedTuple):
    """The row of ``about``, as far as it changes."""

    fsync: str
    series: int = 0
    blocks: int = 0
    logged: int = 0

    def row(self) -> Row:
        """As it is written."""
        return with_checksum("about", 1, FORMAT, sys.byteorder, *self)


def log_row(number: int, chunk: Chunk) -> Row:
    """The row of a chunk. Raises ValueError for keys that can't be told apart or written."""
    if chunk.dropped_before is not None:
        return with_checksum("log", number, None, None, None, None, chunk.dropped_before)
    numbering: DefaultDict[str, int] = defaultdict(count().__next__)
    key_numbers = _packed(list(map(numbering.__getitem__, chunk.keys)), NUMBER_CODES)
    chunk.names = list(numbering)
    text = "\n".join(chunk.names)
    if text.count("\n") != len(chunk.names) - 1:
        raise ValueError("a key has a line break")
    timestamps = _packed(chunk.timestamps, TIMESTAMP_CODES)
    values = struct.pack(f"{len(chunk.values)}d", *chunk.values)
    return with_checksum("log", number, text, key_numbers, timestamps, values, None)


def log_bytes(row: Row) -> int:
    """How large a row of the log is, roughly."""
    return ROW_BYTES + sum(len(field) for field in row if isinstance(field, (bytes, str)))


def puts_of(row: Row) -> Tuple[List[str], List[float], List[int]]:
    """The puts in a row of the log, in their order: keys, values and timestamps."""
    _, keys, key_numbers, timestamps, values, _, _ = row
    names = keys.decode().split("\n")
    puts = len(values) // struct.calcsize("d")
    each = [names[number] for number in _unpacked(key_numbers, puts, NUMBER_CODES)]
    return each, array("d", values).tolist(), _unpacked(timestamps, puts, TIMESTAMP_CODES)


def _packed(numbers: List[int], codes: str) -> bytes:
    """Numbers in as few bytes each as all of them fit in."""
    try:
        return struct.pack(f"{len(numbers)}{codes[0]}", *numbers)  # quicker than an array
    except struct.error:
        return struct.pack(f"{len(numbers)}{codes[1]}", *numbers)


def _unpacked(data: bytes, count: int, codes: str) -> List[int]:
    return array(codes[len(data) > count * struct.calcsize(codes[0])], data).tolist()


def with_checksum(table: str, *fields: Any) -> Row:
    """A row, given without its checksum."""
    return (*fields, checksum(table, fields))


def is_whole(table: str, row: Row) -> bool:
    """Whether a row, with texts as bytes, is as it was written."""
    return bool(row[-1] == checksum(table, row[:-1]))


def checksum(table: str, fields: Row) -> int:
    """CRC-32 of the fields of a row, with its table, so that no row passes for that of another."""
    parts = [table.encode()]
    for field in fields:
        if isinstance(field, str):
            field = field.encode()
        parts.append(field if isinstance(field, bytes) else b"%r" % field)
    return crc32(b";".join(parts))
