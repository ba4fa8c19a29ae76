"""A file is read into memory, and every row of it checked.

Owns what must be in a file for it to be whole, and what can be loaded of one that is not. Changes
no file.
"""

import sqlite3
import sys
from typing import Dict, Iterable, Iterator, List, Optional

from metricsd.durable.checkpoint import Kept, Saved
from metricsd.durable.tables import (
    FORMAT,
    TABLES,
    About,
    Damage,
    Refused,
    Row,
    is_whole,
    log_bytes,
    puts_of,
)  # fmt: skip
from metricsd.store import MAX_TIMESTAMP, Mirror, SavedSeries, Series, put_all, unseal

# What SQLite, and what Python makes of it, raise of a broken file. Its words may be broken, too.
UNREADABLE = (sqlite3.Error, UnicodeError, MemoryError)

NOT_OURS = "it has no table of metricsd's; put a backup in its place, or choose another file"

# A page that can't be read may stand for one id or, if it leads to others, for millions; and an old
# table begins with a high id. So behind it ids are tried in steps of so large a part of the way.
SEEK_PART = 0.01


class Reader:
    """Reads a file through a connection whose texts are bytes.

    With ``losses`` it goes on behind what is damaged, and notes it there in words; without it
    raises Damage.
    """

    def __init__(self, connection: sqlite3.Connection, losses: Optional[List[str]] = None) -> None:
        self._connection = connection
        self._losses = losses
        self.memory = Mirror()
        self.saved = Saved(About("always"))
        self.rows = 0  # that were whole
        self.log_bytes = 0

    def read(self) -> None:
        """Load all into ``memory``, and into ``saved`` how it is kept in the file.

        Raises Damage; Refused for a format that is not known here.
        """
        try:
            about = self._about()
            if self._losses is None:  # how its pages hang together, also those that nobody reads
                (said,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
                if said != b"ok":
                    raise Damage(said.decode("utf-8", "replace"))
            self._load_series(about)
            self._run_log()
        except UNREADABLE as error:
            raise Damage(error) from error

    def _about(self) -> Optional[About]:
        """The row that says what must be there; None if that can't be told."""
        expected = {name.encode(): sql.encode() for name, sql in TABLES.items()}
        try:
            tables = dict(self._connection.execute("SELECT name, sql FROM sqlite_master"))
            if not set(tables.values()) & set(expected.values()):
                raise Refused(NOT_OURS)
            found: Row = next(self._connection.execute("SELECT * FROM about"), ())
        except UNREADABLE as error:
            self._damaged(str(error))
            return None
        whole = len(found) > 2 and is_whole("about", found)
        if whole and found[1] != FORMAT:
            raise Refused(f"it has format {found[1]}; use a version that knows that, not {FORMAT}")
        if not whole or any(tables.get(name) != sql for name, sql in expected.items()):
            self._damaged("what it says about itself")
            return None
        _, _, order, fsync, series, logged, _ = found
        if order.decode() != sys.byteorder:
            raise Refused(f"it is from a {order.decode()}-endian machine; use it on such a one")
        self.saved.about = About(fsync.decode(), series, logged)
        self.saved.last_logged = logged
        return self.saved.about

    def _load_series(self, about: Optional[About]) -> None:
        blocks: Dict[bytes, List[Row]] = {}  # by the key
        found = last = 0
        for row in self._rows("blocks"):
            blocks.setdefault(row[1], []).append(row)
            self.saved.last_block = row[0]
        for last, name, count, points, sealed_to, rest, _ in self._rows("series"):
            found += 1
            key, rows = name.decode(), sorted(blocks.pop(name, ()), key=lambda row: row[2])
            if len(rows) == count:
                sealed = [row[3] for row in rows]
                all_of_it = SavedSeries(sealed, [row[2] for row in rows], sealed_to, unseal(rest))
                series = self.memory.load(key, last, all_of_it)
                self.saved.kept[key] = Kept(last, sealed, [row[0] for row in rows])
            else:
                series = self._load_loosely(key, last, rows, rest)
            if (len(rows), len(series)) != (count, points):
                self._damaged(f"{points - len(series)} points of {key}")
        for number, (name, rows) in enumerate(blocks.items(), last + 1):
            self._damaged(f"the newest points of {name.decode()}")
            self._load_loosely(name.decode(), number, rows, b"")
        if about is not None and found != about.series:
            self._damaged(f"{found} series are there, not {about.series}")

    def _load_loosely(self, key: str, number: int, rows: List[Row], rest: bytes) -> Series:
        """Put what is left of a series point by point: blocks may overlap, and newer ones win."""
        series = self.memory.load(key, number, SavedSeries([], [], 0, unseal(b"")))
        for sealed in [row[3] for row in sorted(rows)] + [rest]:
            timestamps, values = unseal(sealed)
            put_all(self.memory, [key] * len(values), values.tolist(), timestamps.tolist())
        return series

    def _run_log(self) -> None:
        """Do again what the log says, in its order; also what is in series and blocks already.

        A deletion, which looks at every series, is put off as long as nobody could tell.
        """
        oldest: Optional[int] = None
        for row in self._rows("log"):
            number, dropped_before = row[0], row[4]
            if number != self.saved.last_logged + 1:
                before = self.saved.last_logged
                self._damaged(f"what was put between rows {before} and {number} of log")
            self.saved.last_logged = number
            self.log_bytes += log_bytes(row)
            if dropped_before is not None:
                oldest = dropped_before if oldest is None else max(oldest, dropped_before)
                continue
            if row[3] is None:
                self.memory.drop(row[1].decode().split("\n"), self.saved.lose)
                continue
            keys, values, timestamps = puts_of(row)
            names = dict.fromkeys(keys)
            if oldest is not None and (min(timestamps) < oldest or self._ended(names, oldest)):
                self._drop_before(oldest)
                oldest = None
            put_all(self.memory, keys, values, timestamps)
            self.saved.changed.update(names)
        if oldest is not None:
            self._drop_before(oldest)

    def _ended(self, keys: Iterable[str], oldest: int) -> bool:
        """Whether one of these has only points before ``oldest``, and so would begin anew."""
        found = map(self.memory.find, keys)
        return any(series is not None and series.newest < oldest for series in found)

    def _drop_before(self, oldest: int) -> None:
        for _ in self.memory.drop_before(oldest, self.saved.lose):
            pass

    def _rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table that are whole, with ascending ids."""
        last = 0
        for row in self._scan(table):
            if row[0] > last and is_whole(table, row):
                last = row[0]
                self.rows += 1
                yield row
            else:
                self._damaged(f"row {row[0]} of {table}")

    def _scan(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table; if it may go on, also those behind a page that is broken."""
        last = 0
        while True:
            try:
                select = f"SELECT * FROM {table} WHERE id > ? ORDER BY id"
                for row in self._connection.execute(select, (last,)):
                    last = max(last, row[0])
                    yield row
                return
            except UNREADABLE as error:
                self._damaged(f"{table} behind row {last}: {error}")
            found = self._seek(table, last)
            if found is None:
                return
            yield found
            last = found[0]

    def _seek(self, table: str, last: int) -> Optional[Row]:
        """The next row that can be read; None if there is none."""
        unread, step = last, 1
        while unread + step <= MAX_TIMESTAMP:  # which is the highest id, too
            try:
                select = f"SELECT * FROM {table} WHERE id >= ? ORDER BY id LIMIT 1"
                row: Optional[Row] = self._connection.execute(select, (unread + step,)).fetchone()
                found = row is None or row[0] >= unread + step  # if not, pages are mixed up
            except UNREADABLE:
                found = False
            if not found:
                unread += step
                step = 1 + int((unread - last) * SEEK_PART)
            elif step == 1:
                return row
            else:
                step //= 2  # there may be another one before
        return None

    def _damaged(self, what: str) -> None:
        if self._losses is None:
            raise Damage(what)
        self._losses.append(what)
