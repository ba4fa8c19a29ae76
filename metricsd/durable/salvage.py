"""What is whole of a damaged file is saved, and the damaged one is put aside.

Owns the order in which files are written and named, so that whenever it is cut short, either the
damaged file is where it was, or all that was whole of it is.
"""

import contextlib
import os
import shutil
from typing import Callable, List

from metricsd.durable.checkpoint import Saved, checkpoint
from metricsd.durable.database import PAGE_BYTES, Database, connect, create
from metricsd.durable.reading import Reader
from metricsd.durable.tables import About, Refused
from metricsd.durable.wal import Wal

# Where the first page, which is the same in every file but for this, has the number of pages.
SIZE_PLACE = 28


def salvage(path: str, fsync: str) -> List[str]:
    """Put a file in the place of a damaged one; return what was lost, line by line.

    The WAL of the damaged one stays behind, but the new file says that it has none. Raises OSError,
    sqlite3.Error; Refused if nothing in it is of a kind that is known here.
    """
    new, image = path + ".salvaging", path + ".image"
    scratch = (new, new + "-wal", image)
    for left in scratch:
        remove(left)
    try:
        create(new, About(fsync))
        _make_image(path, image, new)
        torn = Wal(path).damage()
        losses = [f"maybe some of the last puts: its WAL, {torn}"] if torn else []
        with contextlib.closing(connect(image, "immutable=1")) as connection:
            connection.text_factory = bytes
            reader = Reader(connection, losses)
            reader.read()
        if not reader.rows:
            raise Refused("nothing in it can be read; put a backup in its place, or move it away")
        _write(reader, new, fsync)
        aside = set_aside(path, os.link)
        os.replace(new, path)
    finally:
        for left in scratch:
            remove(left)
    sync_folder(path)
    told = f"{reader.memory.points:,} points were salvaged; the damaged file is {aside} now"
    return [*(f"lost: {loss}" for loss in losses), told]


def set_aside(path: str, copy: Callable[[str, str], object]) -> str:
    """Copy a file and its WAL to a name that is free, which is returned."""
    number = 1
    while os.path.exists(f"{path}.damaged{number}"):
        number += 1
    aside = f"{path}.damaged{number}"
    for end in ("-wal", ""):
        if os.path.exists(path + end):
            try:
                copy(path + end, aside + end)
            except OSError:  # a file system without links
                shutil.copy(path + end, aside + end)
    return aside


def remove(path: str) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.remove(path)


def sync_folder(path: str) -> None:
    """Let the disk have the name of a file."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_image(path: str, image: str, sound: str) -> None:
    """Copy a database, with all that is whole in its WAL, and the first page of a sound one.

    What has been cut off is zeros, as SQLite reads no table while the first page of one is missing.
    """
    os.close(os.open(image, os.O_CREAT | os.O_EXCL, 0o600))
    shutil.copyfile(path, image)
    with open(image, "r+b") as file, open(sound, "rb") as other:
        for page, data in Wal(path).whole_pages():
            file.seek((page - 1) * len(data))
            file.write(data)
        first = bytearray(other.read(PAGE_BYTES))
        size = max(file.seek(0, os.SEEK_END), other.seek(0, os.SEEK_END))
        pages = -(-size // PAGE_BYTES)
        file.truncate(pages * PAGE_BYTES)
        first[SIZE_PLACE : SIZE_PLACE + 4] = pages.to_bytes(4, "big")
        file.seek(0)
        file.write(first)


def _write(reader: Reader, path: str, fsync: str) -> None:
    """Write all that has been read to a new file, which has no WAL then."""
    saved = Saved(About(fsync))
    saved.changed = {key: None for key, _ in reader.memory.items()}
    with contextlib.closing(Database(path, saved, contextlib.ExitStack())) as database:
        for work in checkpoint(saved, reader.memory, database.save, 0):
            if callable(work):
                work()
    with contextlib.closing(connect(path, "mode=rw")) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
