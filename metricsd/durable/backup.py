"""A copy of a file, also while a server is writing to it."""

import contextlib
import os

from metricsd.durable.database import connect
from metricsd.durable.files import link, new_file, told
from metricsd.durable.tables import TABLES


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
