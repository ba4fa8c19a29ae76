"""A file is opened: by one owner, and only if it is whole; or what is whole of it is salvaged.

Owns what has to be so before anything is put. A start that is refused changes no file; and whenever
a salvage is cut short, either the damaged file is where it was, or all that was whole of it is.
"""

import contextlib
import functools
import logging
import os
import shutil
import sqlite3
from itertools import chain
from typing import Iterator, Tuple

from metricsd.durable.checkpoint import Saved, checkpoint
from metricsd.durable.database import PAGE_BYTES, Database, connect
from metricsd.durable.files import link, lock, new_file, set_aside, told
from metricsd.durable.reading import UNREADABLE, Reader
from metricsd.durable.tables import About, FileError
from metricsd.durable.wal import WITH_WAL, WITHOUT_WAL, Wal

logger = logging.getLogger("metricsd")

LEFT_ALONE = "its WAL is there without it; bring the file back, or move the WAL away"
DAMAGED = "put a backup in its place, or start with --salvage to load what is whole"
EMPTY = "it is empty, as it never is by itself; put a backup in its place, or remove it"
NOTHING = "nothing in it can be read; put a backup in its place, or move it away"

# Of what is said of damage, at most: SQLite may quote a whole table.
DAMAGE_LENGTH = 200

# Where the first page, which is the same in every file but for this, has the number of pages, in 4
# bytes. If that is 0, SQLite looks at the size of the file.
PAGES_PLACE = 28


def open_file(path: str, fsync: str, salvaging: bool) -> Tuple[Database, Reader]:
    """Load a file, or make a new one. Raises FileError."""
    with told(f"cannot use {path}"), contextlib.ExitStack() as held:
        path = os.path.realpath(path)
        if not os.path.exists(path):
            _create(path, fsync)
        lock(path, held)
        wal = Wal(path)
        try:
            reader = _read(path, wal, salvaging)
        except UNREADABLE as error:
            damage = " ".join(str(wal.damage or error).split())[:DAMAGE_LENGTH]
            if not salvaging:
                raise FileError(f"it is damaged: {damage}; {DAMAGED}") from error
            logger.warning("%s is damaged: %s", path, damage)
            _salvage(path, wal, fsync)
        else:
            reader.saved.about = reader.saved.about._replace(fsync=fsync)
            return Database(path, reader.saved, held), reader
    return open_file(path, fsync, False)  # there is another one in its place


def _create(path: str, fsync: str) -> None:
    """Make a new file, which is complete as soon as it is there."""
    if Wal(path).size:
        raise FileError(LEFT_ALONE)
    with new_file(path, fsync) as new, contextlib.suppress(FileExistsError):  # another is faster
        link(new, path, os.rename)


def _read(path: str, wal: Wal, salvaging: bool) -> Reader:
    """Load a file that is whole. Raises UNREADABLE for damage; FileError, OSError."""
    if not wal.size and not os.path.getsize(path):
        raise FileError(EMPTY)
    if wal.versions not in (WITHOUT_WAL, WITH_WAL):  # SQLite would read it, but not write
        raise sqlite3.DatabaseError("its header")
    with _reading(path, wal.known and bool(wal.frames)) as connection:
        (said,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if said != b"ok":  # how its pages hang together, also those that nobody reads
            raise sqlite3.DatabaseError(said.decode("utf-8", "replace"))
        reader = Reader(connection)
    careful = salvaging or reader.saved.about.fsync == "always"
    if reader.losses or (wal.damage and careful):
        raise sqlite3.DatabaseError(*reader.losses[:1])
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


def _salvage(path: str, wal: Wal, fsync: str) -> None:
    """Put a file in the place of a damaged one, and tell what was lost.

    The WAL of the damaged one stays behind, but the new file says that it has none. Raises OSError,
    sqlite3.Error; FileError if nothing in it is of a kind that is known here.
    """
    saved = Saved(About(fsync))
    with new_file(path, fsync) as new:
        with contextlib.closing(connect(_image(path, wal, new), "immutable=1")) as connection:
            reader = Reader(connection)
        if not reader.memory.points:
            raise FileError(NOTHING)
        saved.changed = {key: None for key, _ in reader.memory.items()}
        with contextlib.closing(Database(new, saved, contextlib.ExitStack())) as database:
            for work in checkpoint(saved, reader.memory, database.save, 0):
                if callable(work):
                    work()
        with contextlib.closing(connect(new, "mode=rw")) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        aside = set_aside(path, functools.partial(link, otherwise=shutil.copy))
        os.replace(new, path)
    torn = [f"maybe some of the last puts: {wal.damage}"] if wal.damage else []
    for loss in dict.fromkeys(torn + reader.losses):
        logger.warning("%s: lost: %s", path, loss)
    points = f"{reader.memory.points:,}"
    logger.warning("%s: %s points were salvaged; the damaged file is %s now", path, points, aside)


def _image(path: str, wal: Wal, sound: str) -> str:
    """Copy a database, with all that is whole in its WAL, and the first page of a sound one.

    What has been cut off is zeros, as SQLite reads no table while the first page of one is missing.
    """
    image = sound + ".image"
    shutil.copyfile(path, image)
    with open(image, "r+b") as file, open(sound, "rb") as other:
        for page, data in chain(wal.pages(), [(1, other.read(PAGE_BYTES))]):
            file.seek((page - 1) * len(data))
            file.write(data)
        file.seek(PAGES_PLACE)
        file.write(bytes(4))
        file.truncate(max(file.seek(0, os.SEEK_END), other.seek(0, os.SEEK_END)))
    return image
