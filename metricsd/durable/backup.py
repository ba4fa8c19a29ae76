"""A copy of a file, also while a server is writing to it."""

import argparse
import contextlib
import os
import sqlite3
import sys

from metricsd.durable.database import connect, create
from metricsd.durable.tables import TABLES, About, FileError


def backup(path: str, target: str) -> None:
    """Copy a file, as it is at one moment, to a new one. Raises FileError.

    Not by SQLite's own function, which Python 3.6 lacks, and which begins anew with each commit.
    """
    try:
        with contextlib.closing(connect(os.path.realpath(path), "mode=ro")) as connection:
            create(target, About("always"))
            try:
                _copy(connection, target)
            except BaseException:
                os.remove(target)
                raise
    except (OSError, sqlite3.Error) as error:
        what = getattr(error, "strerror", None) or error
        raise FileError(f"cannot copy {path} to {target}: {what}") from error


def _copy(connection: sqlite3.Connection, target: str) -> None:
    connection.execute("ATTACH ? AS copy", (target,))
    connection.execute("BEGIN")
    for table in TABLES:
        connection.execute(f"REPLACE INTO copy.{table} SELECT * FROM main.{table}")
    connection.execute("COMMIT")


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
