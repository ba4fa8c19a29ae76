"""A file is opened: by one owner, and only if it is whole, or else salvaged.

Owns what has to be so before anything is put. A start that is refused changes no file.
"""

import contextlib
import logging
import os
import shutil
import sqlite3
import stat
from typing import Iterator, Tuple

from metricsd.durable.database import Database, connect, create
from metricsd.durable.reading import Reader
from metricsd.durable.salvage import remove, salvage, set_aside, sync_folder
from metricsd.durable.tables import About, Damage, FileError, Refused
from metricsd.durable.wal import Wal

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

logger = logging.getLogger("metricsd")

# For writing and for reading, in the header of a database: without a WAL, and with one.
WITHOUT_WAL, WITH_WAL = b"\1\1", b"\2\2"

IN_USE = "another server uses it; stop that one, or choose another file"
NO_FILE = "it is a device or a pipe; choose a file"
LEFT_ALONE = "its WAL is there without it; bring the file back, or move the WAL away"
DAMAGED = "put a backup in its place, or start with --salvage to load what is whole"
EMPTY = "it is empty, as it never is by itself; put a backup in its place, or remove it"
UNUSABLE = "choose a file that can be read and written, in a folder like that"


def open_file(path: str, fsync: str, salvaging: bool) -> Tuple[Database, Reader]:
    """Load a file, or make a new one. Raises FileError."""
    try:
        path = os.path.realpath(path)
        if not os.path.exists(path):
            _create(path, fsync)
        with contextlib.ExitStack() as held:
            held.callback(os.close, _lock(path))
            try:
                reader = _read(path)
            except Damage:
                if not salvaging:
                    raise
                for line in salvage(path, fsync):
                    logger.warning("%s: %s", path, line)
            else:
                reader.saved.about = reader.saved.about._replace(fsync=fsync)
                return Database(path, reader.saved, held), reader
        return open_file(path, fsync, False)  # there is another one in its place
    except Damage as error:
        raise FileError(f"{path} is damaged: {error}; {DAMAGED}") from error
    except Refused as error:
        raise FileError(f"cannot use {path}: {error}") from error
    except (OSError, ValueError, sqlite3.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise FileError(f"cannot use {path}: {what}; {UNUSABLE}") from error


def _create(path: str, fsync: str) -> None:
    """Make a new file, which is complete as soon as it is there."""
    if Wal(path).size:
        raise Refused(LEFT_ALONE)
    new = f"{path}.{os.getpid()}.new"
    remove(new)
    try:
        create(new, About(fsync))
        try:
            os.link(new, path)
        except FileExistsError:
            pass  # another server was faster
        except OSError:  # a file system without links
            os.rename(new, path)
    finally:
        remove(new)
    sync_folder(path)


def _lock(path: str) -> int:
    """Be the only owner of a file, whatever it is called, until this descriptor is closed.

    SQLite locks it in another way; closing this before SQLite has closed it would end that.
    """
    lock = os.open(path, os.O_RDWR)
    try:
        if not stat.S_ISREG(os.fstat(lock).st_mode):  # a device may have no end, a pipe no answer
            raise Refused(NO_FILE)
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), os.stat(path)):
            raise BlockingIOError  # it has just been replaced
    except BlockingIOError:
        os.close(lock)
        raise Refused(IN_USE) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _read(path: str) -> Reader:
    """Load a file that is whole. Raises Damage, OSError, sqlite3.Error, Refused."""
    with open(path, "rb") as file:
        head = file.read(20)
    if head[18:] == WITHOUT_WAL:  # one that is there belongs to what has been salvaged
        remove(path + "-wal")
        remove(path + "-shm")
    wal = Wal(path)
    torn = wal.damage()
    if not head and not wal.size:
        raise Refused(EMPTY)
    if head[18:] not in (WITHOUT_WAL, WITH_WAL):  # SQLite would read it, but not write
        raise Damage("its header")
    try:
        with _reading(path, wal) as connection:
            reader = Reader(connection)
            reader.read()
    except Damage as error:
        raise Damage(f"its WAL, {torn}" if torn else str(error)) from error
    if torn and reader.saved.about.fsync == "always":
        raise Damage(f"its WAL, {torn}")
    if torn:  # which the other policies allow, when the power fails
        aside = set_aside(path, shutil.copy)
        logger.warning("%s: its WAL, %s: the last puts are left out; see %s", path, torn, aside)
    return reader


@contextlib.contextmanager
def _reading(path: str, wal: Wal) -> Iterator[sqlite3.Connection]:
    """Read a file without changing it, nor its WAL, nor the index of that."""
    index = path + "-shm"
    made = wal.has_frames and not os.path.exists(index)
    if made:  # SQLite wants one, though it makes its own in memory if it may not write to this one
        os.close(os.open(index, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        connection = connect(path, "mode=ro&readonly_shm=1" if wal.has_frames else "immutable=1")
        with contextlib.closing(connection):
            connection.text_factory = bytes
            connection.execute("BEGIN")
            yield connection
    finally:
        if made:
            remove(index)
