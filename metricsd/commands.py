"""The commands: a table from a name to a function and the number of its arguments.

Owns what each command does to the store and what it answers. Does not know where words come from
or where replies go. To add a command, write its function and add a row to COMMANDS.
"""

from itertools import chain
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Tuple, Union

from metricsd.columns import MAX_TIMESTAMP, MIN_TIMESTAMP
from metricsd.ledger import AnyStore
from metricsd.replies import REPLY_END, REPLY_START
from metricsd.rows import rows
from metricsd.series import Series

PUT = "put"
EVERY_KEY = "*"

OK = b"ok\n\n"
WRONG_COMMAND = b"error\nwrong command\n\n"
NOT_STORED = b"error\nnot stored\n\n"  # the journal could not be written

# int() takes the square of the length for a number in text. Since Python 3.11 it refuses more than
# this by itself, and so do later releases of 3.7 to 3.10.
MAX_TIMESTAMP_CHARACTERS = 4300

# A whole reply, or for one that may be large its pieces, made as they are asked for.
Reply = Union[bytes, Iterator[bytes]]


class BadCommand(Exception):
    """The client's mistake: the request is answered with WRONG_COMMAND and changes nothing."""


class Command(NamedTuple):
    """A row of the table."""

    run: Callable[..., Reply]  # called with the store and the arguments as strings
    arguments: int


def put(store: AnyStore, key: str, value: str, timestamp: str) -> bytes:
    """Store one measurement. Nearly all puts take a shorter way: see batch.py.

    Raises BadCommand for what float() or int() refuses, StoreError if the store does.
    """
    if len(timestamp) > MAX_TIMESTAMP_CHARACTERS:
        raise BadCommand
    try:
        number, seconds = float(value), int(timestamp)
    except ValueError:
        raise BadCommand from None
    if not MIN_TIMESTAMP <= seconds <= MAX_TIMESTAMP:
        raise BadCommand
    store.put(key, number, seconds)
    return OK


def get(store: AnyStore, key: str) -> Reply:
    """Answer every measurement of a key, or of every key."""
    if key == EVERY_KEY:
        return _pieces(store.every())
    series = store.find(key)
    if series is None:
        return OK
    reply = store.kept_replies.get(key, series)
    return _pieces([(key, series)]) if reply is None else reply


def _pieces(found: Iterable[Tuple[str, Series]]) -> Iterator[bytes]:
    every_row = (rows(key, series) for key, series in found)
    return chain((REPLY_START,), chain.from_iterable(every_row), (REPLY_END,))


COMMANDS: Dict[str, Command] = {
    PUT: Command(put, arguments=3),
    "get": Command(get, arguments=1),
}


def run(store: AnyStore, words: List[str]) -> Reply:
    """Run one request, given as its words.

    Raises BadCommand or StoreError; the store is then as it was.
    """
    if words:
        name, *arguments = words
        command = COMMANDS.get(name)
        if command is not None and len(arguments) == command.arguments:
            return command.run(store, *arguments)
    raise BadCommand
