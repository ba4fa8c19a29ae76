"""What is whole of a damaged file is saved, and the damaged one is put aside.

Owns the order in which files are written and named, so that whenever it is cut short, either the
damaged file is where it was, or all that was whole of it is.
"""

import contextlib
import functools
import logging
import os
import shutil
from itertools import chain

from metricsd.durable.checkpoint import Saved, checkpoint
from metricsd.durable.database import PAGE_BYTES, Database, connect
from metricsd.durable.files import link, new_file, set_aside
from metricsd.durable.reading import Reader
from metricsd.durable.tables import About, Refused
from metricsd.durable.wal import Wal

NOTHING = "nothing in it can be read; put a backup in its place, or move it away"

# Where the first page, which is the same in every file but for this, has the number of pages, in 4
# bytes. If that is 0, SQLite looks at the size of the file.
PAGES_PLACE = 28

logger = logging.getLogger("metricsd")


def salvage(path: str, fsync: str) -> None:
    """Put a file in the place of a damaged one, and tell what was lost.

    The WAL of the damaged one stays behind, but the new file says that it has none. Raises OSError,
    sqlite3.Error; Refused if nothing in it is of a kind that is known here.
    """
    wal, saved = Wal(path), Saved(About(fsync))
    with new_file(path, fsync) as new:
        with contextlib.closing(connect(_image(path, wal, new), "immutable=1")) as connection:
            reader = Reader(connection)
        if not reader.memory.points:
            raise Refused(NOTHING)
        saved.changed = {key: None for key, _ in reader.memory.items()}
        with contextlib.closing(Database(new, saved)) as database:
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
