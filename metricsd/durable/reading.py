"""The rows of a file become points in memory, and every row is checked.

Owns what must be in a file for it to be whole, and what can be loaded of one that is not. Changes
no file.
"""

import sqlite3
import sys
from collections import deque
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Callable, Dict, Iterator, List, Optional, Tuple

from metricsd.durable.checkpoint import Kept, Saved
from metricsd.durable.tables import FORMAT, TABLES, About, FileError, Row, intact, puts_of, size_of
from metricsd.store import MAX_TIMESTAMP, MIN_TIMESTAMP, Mirror, SavedSeries, put_all, unseal

# What SQLite, and what Python makes of it, raise of a broken file. Its words may be broken, too.
UNREADABLE = (sqlite3.Error, UnicodeError, MemoryError)

NOT_OURS = "it has no table of metricsd's; put a backup in its place, or choose another file"

# A page that can't be read may stand for one id or, if it leads to others, for millions; and an old
# table begins with a high id. So behind it ids are tried in steps of so large a part of the way.
SEEK_PART = 0.01


class Reader:
    """All that is whole in a file: in ``memory``, and in ``saved`` how it is kept in the file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Read it. Raises FileError for what is of another kind, UNREADABLE for no tables."""
        self._connection = connection
        self.losses: List[str] = []  # what is not whole, in words
        self.memory = Mirror()
        self.saved = Saved(About("always"))
        self.memory.on_lost = self.saved.lose
        self.log_bytes = 0
        about = self._about()
        self._load_series()
        if about is not None and self.memory.series != about.series:
            self.losses.append(f"{self.memory.series} series are there, not {about.series}")
        self._run_log()

    def _about(self) -> Optional[About]:
        """The row that says what must be there; None if that can't be told."""
        expected = {name.encode(): sql.encode() for name, sql in TABLES.items()}
        tables = dict(self._connection.execute("SELECT name, sql FROM sqlite_master"))
        if expected.items().isdisjoint(tables.items()):
            raise FileError(NOT_OURS)
        row = next(self._rows("about"), None)
        if row is not None and row[1] != FORMAT:
            raise FileError(f"it has format {row[1]}; use a version that knows that, not {FORMAT}")
        if row is None or not expected.items() <= tables.items():
            self.losses.append("what it says about itself")
            return None
        _, _, order, fsync, series, logged, _ = row
        if order.decode() != sys.byteorder:
            raise FileError(f"it is from a {order.decode()}-endian machine; use it on such a one")
        self.saved.about = About(fsync.decode(), series, logged)
        self.saved.last_logged = logged
        return self.saved.about

    def _load_series(self) -> None:
        blocks: Dict[bytes, List[Row]] = {}  # by the key
        for row in self._rows("blocks"):
            blocks.setdefault(row[1], []).append(row)
            self.saved.last_block = row[0]
        for number, name, count, points, sealed_to, rest, _ in self._rows("series"):
            key, rows = name.decode(), blocks.pop(name, [])
            if len(rows) == count:
                rows.sort(key=itemgetter(2))
                ids, sealed, firsts = ([row[column] for row in rows] for column in (0, 3, 2))
                all_of_it = SavedSeries(sealed, firsts, sealed_to, unseal(rest))
                self.memory.load(key, number, all_of_it)
                self.saved.kept[key] = Kept(number, list(zip(sealed, firsts)), ids)
            else:
                self._put_blocks(key, rows, rest)
            found = len(self.memory.find(key) or ())
            if (len(rows), found) != (count, points):
                self.losses.append(f"{points - found} points of {key}")
        for name, rows in blocks.items():
            self._put_blocks(name.decode(), rows, b"")
            self.losses.append(f"the newest points of {name.decode()}")

    def _put_blocks(self, key: str, rows: List[Row], rest: bytes) -> None:
        """Put points one by one, as blocks may overlap, and newer ones win."""
        for sealed in (*(row[3] for row in rows), rest):
            timestamps, values = unseal(sealed)
            put_all(self.memory, [key] * len(values), values.tolist(), timestamps.tolist())

    def _run_log(self) -> None:
        """Do again what the log says, in its order; also what is in series and blocks already.

        A deletion, which looks at every series, is put off as long as nobody could tell.
        """
        oldest = MIN_TIMESTAMP  # that is left by the deletions that are put off
        for row in self._rows("log"):
            number, names, _, _, values, dropped_before, _ = row
            before, self.saved.last_logged = self.saved.last_logged, number
            if number != before + 1:
                self.losses.append(f"what was put between rows {before} and {number} of log")
            self.log_bytes += size_of(row)
            if dropped_before is not None:
                oldest = max(oldest, dropped_before)
            elif values is None:
                self.memory.drop(names.decode().split("\n"))
            else:
                keys, values, timestamps = puts_of(row)
                if oldest > MIN_TIMESTAMP and self._can_tell(oldest, keys, timestamps):
                    deque(self.memory.drop_before(oldest), 0)
                    oldest = MIN_TIMESTAMP
                put_all(self.memory, keys, values, timestamps)
                self.saved.changed.update(dict.fromkeys(keys))
        deque(self.memory.drop_before(oldest), 0)  # all of its steps

    def _can_tell(self, oldest: int, keys: List[str], timestamps: List[int]) -> bool:
        """Whether some of these points are older, or all of a series, which would begin anew."""
        found = map(self.memory.find, dict.fromkeys(keys))
        newest = (series.newest for series in found if series is not None)
        return any(timestamp < oldest for timestamp in chain(timestamps, newest))

    def _rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table that are whole, also behind a broken page; ids ascend."""
        select = f"SELECT * FROM {table} WHERE id >= ? ORDER BY id"
        query = partial(self._connection.execute, select)
        start: Optional[int] = 1
        while start is not None:
            try:
                for row in query((start,)):
                    if row[0] >= start and intact(table, row):
                        start = row[0] + 1
                        yield row
                    else:
                        self.losses.append(f"row {row[0]} of {table}")
                return
            except UNREADABLE as error:
                self.losses.append(f"{table} from row {start} on: {error}")
            start = _seek(query, start)


def _seek(query: Callable[[Tuple[int]], sqlite3.Cursor], broken: int) -> Optional[int]:
    """The next id from which on a table can be read; None if there is none."""
    unread, step = broken, 1
    while unread + step <= MAX_TIMESTAMP:  # which is the highest id, too
        try:
            row = query((unread + step,)).fetchone()
            found = row is None or row[0] >= unread + step  # if not, pages are mixed up
        except UNREADABLE:
            found = False
        if not found:
            unread += step
            step = 1 + int((unread - broken) * SEEK_PART)
        elif step == 1:
            return unread + 1
        else:
            step //= 2  # there may be another one before
    return None
