"""A copy of a file, also while a server is writing to it."""

import argparse
import contextlib
import os
import sys

from metricsd.durable.checkpoint import Saved
from metricsd.durable.database import Database, connect
from metricsd.durable.files import link, scratch, told
from metricsd.durable.tables import TABLES, About, FileError


def backup(path: str, target: str) -> None:
    """Copy a file, as it is at one moment, to a new one. Raises FileError.

    Not by SQLite's own function, which Python 3.6 lacks, and which begins anew with each commit.
    """
    with told(f"cannot copy {path} to {target}"):
        path, target = os.path.realpath(path), os.path.realpath(target)
        with contextlib.closing(connect(path, "mode=ro")) as connection, scratch(target) as new:
            Database(new, Saved(About("always"))).close()
            connection.execute("ATTACH ? AS copy", (new,))
            connection.execute("BEGIN")
            for table in TABLES:
                connection.execute(f"REPLACE INTO copy.{table} SELECT * FROM main.{table}")
            connection.execute("COMMIT")
            connection.execute("DETACH copy")  # which brings its WAL into it
            link(new, target, os.rename)


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python3 -m metricsd.durable")
    parser.add_argument("command", choices=["backup"], help="copy a file, also one in use")
    parser.add_argument("path", metavar="PATH", help="of the store: what follows sqlite:")
    parser.add_argument("target", metavar="TARGET", help="of the copy; nothing may be there yet")
    options = parser.parse_args()
    try:
        backup(options.path, options.target)
    except FileError as error:
        print(f"metricsd: {error}", file=sys.stderr)
        return 1
    return 0
