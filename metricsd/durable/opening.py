"""A file is opened: by one owner, and only if it is whole, or else salvaged.

Owns what has to be so before anything is put. A start that is refused changes no file.
"""

import contextlib
import logging
import os
import shutil
import sqlite3
from typing import Iterator, Tuple

from metricsd.durable.database import Database, connect
from metricsd.durable.files import link, lock, new_file, set_aside, told
from metricsd.durable.reading import UNREADABLE, Reader
from metricsd.durable.salvage import salvage
from metricsd.durable.tables import Damage, FileError, Refused
from metricsd.durable.wal import WITH_WAL, WITHOUT_WAL, Wal

logger = logging.getLogger("metricsd")

LEFT_ALONE = "its WAL is there without it; bring the file back, or move the WAL away"
DAMAGED = "put a backup in its place, or start with --salvage to load what is whole"
EMPTY = "it is empty, as it never is by itself; put a backup in its place, or remove it"


def open_file(path: str, fsync: str, salvaging: bool) -> Tuple[Database, Reader]:
    """Load a file, or make a new one. Raises FileError."""
    with told(f"cannot use {path}"), contextlib.ExitStack() as held:
        path = os.path.realpath(path)
        if not os.path.exists(path):
            _create(path, fsync)
        lock(path, held)
        try:
            reader = _read(path, salvaging)
        except Damage as error:
            if not salvaging:
                raise FileError(f"{path} is damaged: {error}; {DAMAGED}") from error
            logger.warning("%s is damaged: %s", path, error)
            salvage(path, fsync)
        else:
            reader.saved.about = reader.saved.about._replace(fsync=fsync)
            return Database(path, reader.saved, held), reader
    return open_file(path, fsync, False)  # there is another one in its place


def _create(path: str, fsync: str) -> None:
    """Make a new file, which is complete as soon as it is there."""
    if Wal(path).size:
        raise Refused(LEFT_ALONE)
    with new_file(path, fsync) as new, contextlib.suppress(FileExistsError):  # another is faster
        link(new, path, os.rename)


def _read(path: str, salvaging: bool) -> Reader:
    """Load a file that is whole. Raises Damage, OSError, Refused."""
    wal = Wal(path)
    if not wal.size and not os.path.getsize(path):
        raise Refused(EMPTY)
    try:
        if wal.versions not in (WITHOUT_WAL, WITH_WAL):  # SQLite would read it, but not write
            raise Damage("its header")
        with _reading(path, wal.known and bool(wal.frames)) as connection:
            (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if said != b"ok":  # how its pages hang together, also those that nobody reads
                raise Damage(said.decode("utf-8", "replace"))
            reader = Reader(connection)
        if reader.losses:
            raise Damage(reader.losses[0])
        if wal.damage and (salvaging or reader.saved.about.fsync == "always"):
            raise Damage(wal.damage)
    except (Damage, *UNREADABLE) as error:
        raise Damage(wal.damage or error) from error
    if wal.damage:  # which the other policies allow, when the power fails
        aside = set_aside(path, shutil.copy)
        logger.warning("%s: %s: the last puts are left out; see %s", path, wal.damage, aside)
    if wal.versions == WITHOUT_WAL:  # one that is there belongs to what has been salvaged
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.remove(path + end)
    return reader


@contextlib.contextmanager
def _reading(path: str, with_wal: bool) -> Iterator[sqlite3.Connection]:
    """Read a file without changing it, nor its WAL, nor the index of that."""
    index = path + "-shm"
    made = with_wal and not os.path.exists(index)
    if made:  # SQLite wants one, though it makes its own in memory if it may not write to this one
        os.close(os.open(index, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        parameters = "mode=ro&readonly_shm=1" if with_wal else "immutable=1"
        with contextlib.closing(connect(path, parameters)) as connection:
            connection.execute("BEGIN")
            yield connection
    finally:
        if made:
            os.remove(index)
