"""Files as wholes: what goes wrong with one, who owns it, how a new one gets its name, copies.

Does not know what the rows of one stand for.
"""

import contextlib
import os
import sqlite3
import stat
import tempfile
from itertools import count
from typing import Callable, Iterator

from metricsd.durable.checkpoint import Saved
from metricsd.durable.database import Database, connect
from metricsd.durable.tables import TABLES, About, FileError

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

IN_USE = "another server uses it; stop that one, or choose another file"
NO_FILE = "it is a device or a pipe; choose a file"
UNUSABLE = "choose a file that can be read and written, in a folder like that"


@contextlib.contextmanager
def told(failure: str) -> Iterator[None]:
    """Whatever goes wrong with a file is a FileError: one line, with what to do about it."""
    try:
        yield
    except FileError as error:
        raise FileError(f"{failure}: {error}") from error
    except (OSError, ValueError, sqlite3.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise FileError(f"{failure}: {what}; {UNUSABLE}") from error


def lock(path: str, held: contextlib.ExitStack) -> None:
    """Be the only owner of a file, whatever it is called, until ``held`` is closed.

    SQLite locks it in another way; closing this before SQLite has closed it would end that.
    """
    file = os.open(path, os.O_RDWR)
    held.callback(os.close, file)
    if not stat.S_ISREG(os.fstat(file).st_mode):  # a device may have no end, a pipe no answer
        raise FileError(NO_FILE)
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(file), os.stat(path)):
            raise BlockingIOError  # it has just been replaced
    except BlockingIOError:
        raise FileError(IN_USE) from None


@contextlib.contextmanager
def new_file(path: str, fsync: str) -> Iterator[str]:
    """A file with empty tables, in a folder of its own beside a path that it is to have.

    The folder is gone afterwards, and the disk has the names of the files that were moved.
    """
    folder = os.path.dirname(path)
    with tempfile.TemporaryDirectory(prefix="metricsd-", dir=folder) as scratch:
        new = os.path.join(scratch, "new")
        os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        Database(new, Saved(About(fsync)), contextlib.ExitStack()).close()
        yield new
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def link(file: str, name: str, otherwise: Callable[[str, str], object]) -> None:
    """Give a file another name, or do ``otherwise`` if the file system has no links.

    Raises OSError, such as FileExistsError.
    """
    try:
        os.link(file, name)
    except OSError:
        if os.path.exists(name):
            raise
        otherwise(file, name)


def set_aside(path: str, copy: Callable[[str, str], object]) -> str:
    """Copy a file and its WAL to a name that is free, which is returned."""
    ends = "-wal", ""
    names = (f"{path}.damaged{number}" for number in count(1))
    aside = next(name for name in names if not any(os.path.exists(name + end) for end in ends))
    for end in ends:
        if os.path.exists(path + end):
            copy(path + end, aside + end)
    return aside


def backup(path: str, target: str) -> None:
    """Copy a file, as it is at one moment, to a new one. Raises FileError.

    Not by SQLite's own function, which Python 3.6 lacks, and which begins anew with each commit.
    """
    with told(f"cannot copy {path} to {target}"):
        target = os.path.realpath(target)
        file = connect(os.path.realpath(path), "mode=ro")
        with contextlib.closing(file), new_file(target, "always") as new:
            file.execute("ATTACH ? AS copy", (new,))
            file.execute("BEGIN")
            for table in TABLES:
                file.execute(f"REPLACE INTO copy.{table} SELECT * FROM main.{table}")
            file.execute("COMMIT")
            file.execute("DETACH copy")  # which brings its WAL into it
            link(new, target, os.rename)
