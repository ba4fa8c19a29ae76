"""The open file: what is written to it, each time as a whole or not at all.

Owns the connection, for the one thread that writes. Does not know what the rows stand for.
"""

import contextlib
import errno
import os
import sqlite3
from typing import Iterator, List, Tuple
from urllib.parse import quote

from metricsd.durable.checkpoint import Saved, Step
from metricsd.durable.tables import TABLES, Chunk, log_row, size_of

# In a page, as SQLite has it. With 8 KiB, some 40 % more bytes go to the disk for each put, in the
# same time of the processor.
PAGE_BYTES = 4096

# Pages of the WAL from which a commit also brings it into the database, so that the next one begins
# it anew: 4 MiB. As nobody else writes, it comes to its end each time unless somebody reads.
WAL_PAGES = 1024

# Seconds that are waited for another program that has locked the file, such as sqlite3 itself.
LOCK_SECONDS = 1.0

# What SQLite does at each commit. With NORMAL it syncs when it brings the WAL into the database, so
# that what is in the file hangs together whenever the power fails.
SYNCHRONOUS = {"always": "FULL", "everysec": "NORMAL", "never": "NORMAL"}

INSERT_LOG = "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?)"
UPDATE_ABOUT = "REPLACE INTO about VALUES (?, ?, ?, ?, ?, ?, ?)"


def connect(path: str, parameters: str) -> sqlite3.Connection:
    """Open a file that is there; its texts are bytes. Raises sqlite3.Error."""
    uri = f"file:{quote(os.fsencode(path))}?{parameters}"
    connection = sqlite3.connect(
        uri, timeout=LOCK_SECONDS, isolation_level=None, check_same_thread=False, uri=True
    )
    connection.text_factory = bytes
    return connection


class Database:
    """A file that is whole. What raises leaves it as it was, and may be tried again."""

    def __init__(self, path: str, saved: Saved, held: contextlib.ExitStack) -> None:
        """Open it for writing, with an empty WAL; it may be empty. Raises OSError, sqlite3.Error.

        ``held`` has what else is to be given back when it is closed, last of all.
        """
        self.path = path
        self.saved = saved  # what is in it
        self.bytes = 0  # of it and its WAL, when something was last written
        self._suspect = False  # whether something may be in the WAL that was not committed
        with held:
            self._connection = held.enter_context(contextlib.closing(connect(path, "mode=rw")))
            for statement in (
                f"PRAGMA page_size = {PAGE_BYTES}",  # of a file that is empty
                "PRAGMA auto_vacuum = FULL",  # a commit gives back what it leaves free
                "PRAGMA journal_mode = WAL",
                f"PRAGMA synchronous = {SYNCHRONOUS[saved.about.fsync]}",
                f"PRAGMA wal_autocheckpoint = {WAL_PAGES}",
                "PRAGMA temp_store = MEMORY",
                "BEGIN IMMEDIATE",
                *(table.replace("TABLE", "TABLE IF NOT EXISTS", 1) for table in TABLES.values()),
            ):
                self._connection.execute(statement)
            self._connection.execute(UPDATE_ABOUT, saved.about.row())
            self._connection.execute("COMMIT")
            self._empty_wal()
            self._identities = self._look()
            self._wal = os.open(path + "-wal", os.O_RDWR)
            held.callback(os.close, self._wal)
            self.close = held.pop_all().close  # brings the WAL into the database, lets go of all

    def write(self, chunk: Chunk) -> None:
        """Add a chunk to the log and commit."""
        number = self.saved.last_logged + 1
        row = log_row(number, chunk)
        with self._care():  # a statement alone is a transaction
            self._connection.execute(INSERT_LOG, row)
        self.saved.last_logged = chunk.number = number
        chunk.size = size_of(row)

    def save(self, step: Step) -> None:
        """Write a step of a checkpoint, and drop the rows of the log that are not needed then."""
        execute = self._connection.execute
        with self._care():
            execute("BEGIN IMMEDIATE")
            for statement, row in step.rows:
                execute(statement, row)
            execute("DELETE FROM log WHERE id <= ?", (step.about.logged,))
            execute(UPDATE_ABOUT, step.about.row())
            execute("COMMIT")
        self.saved.note(step)

    def sync(self) -> None:
        """Let the disk have all that has been committed."""
        with self._care():
            os.fsync(self._wal)

    @contextlib.contextmanager
    def _care(self) -> Iterator[None]:
        """Write only to files that others will find, and tidy up if the last try has failed.

        What a commit that failed has left in the WAL might be taken for damage, or for committed.
        """
        if self._look() != self._identities:
            raise OSError(errno.ENOENT, "another file is there", self.path)
        try:
            if self._suspect:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._empty_wal()
                self._suspect = False
            yield
        except BaseException:
            self._suspect = True
            raise

    def _look(self) -> List[Tuple[int, int]]:
        """Which files are there now. Raises OSError if one is not."""
        found = [os.stat(self.path), os.stat(self.path + "-wal")]
        self.bytes = sum(status.st_size for status in found)
        return [(status.st_dev, status.st_ino) for status in found]

    def _empty_wal(self) -> None:
        """Bring all of it into the database, and cut it to nothing."""
        (busy, _, _) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise sqlite3.OperationalError("another program reads the file")
