"""What the client's command line can do, but for load.

Owns how points are chosen and printed. A server knows no more than get, so the choice is made here,
row by row as they come: an answer may be larger than memory.
"""

import contextlib
import csv
import fnmatch
import io
import json
import math
import os
import re
import sys
import time
from typing import Any, Iterable, Iterator

from metricsd.client.client import Client, Row

BUFFER_BYTES = 64 * 1024  # that are printed at a time


def put(client: Client, options: Any) -> int:
    """Store one measurement."""
    client.put(options.key, options.value, options.timestamp)
    return 0


def get(client: Client, options: Any) -> int:
    """Print the points of a key that are wanted."""
    write = _write_json if options.json else _write_csv if options.csv else _write_rows
    with _output() as output:
        write(_wanted(client.rows(options.key), options), output)
    return 0


def keys(client: Client, options: Any) -> int:
    """Print the keys that match, each once."""
    matches = re.compile(fnmatch.translate(options.glob)).match
    last = None
    with _output() as output:
        for key, _, _ in client.rows("*"):  # key after key
            if key != last and matches(key):
                output.write(key + "\n")
            last = key
    return 0


def dump(client: Client, _: Any) -> int:
    """Print everything as puts."""
    with _output() as output:
        for key, timestamp, value in client.rows("*"):
            output.write(f"put {key} {value!r} {timestamp}\n")
    return 0


def _wanted(rows: Iterable[Row], options: Any) -> Iterator[Row]:
    start = -math.inf if options.start is None else options.start
    until = math.inf if options.until is None else options.until
    if options.last is not None:
        start = max(start, time.time() - options.last)
    return (row for row in rows if start <= row[1] <= until)


@contextlib.contextmanager
def _output() -> Iterator[Any]:
    """Standard output for text of the protocol, which is UTF-8 whatever the system's is.

    Raises OSError if nobody reads it any more; what is left to print is dropped then.
    """
    file = open(sys.stdout.fileno(), "wb", buffering=BUFFER_BYTES, closefd=False)  # noqa: SIM115 - closed with the text around it
    output = io.TextIOWrapper(file, "utf-8", newline="")
    try:
        yield output
        output.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
    finally:
        output.close()


def _write_rows(rows: Iterable[Row], output: Any) -> None:
    for key, timestamp, value in rows:
        output.write(f"{key} {value!r} {timestamp}\n")


def _write_csv(rows: Iterable[Row], output: Any) -> None:
    writer = csv.writer(output)
    writer.writerow(("key", "timestamp", "value"))
    writer.writerows(rows)


def _write_json(rows: Iterable[Row], output: Any) -> None:
    """JSON has no word for a value that is not finite: it is null there."""
    for key, timestamp, value in rows:
        number = value if math.isfinite(value) else None
        point = {"key": key, "timestamp": timestamp, "value": number}
        output.write(json.dumps(point) + "\n")
