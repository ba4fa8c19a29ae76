"""The commands: a table from a name to a function and the number of its arguments.

Owns what each command does to the store and what it answers. Does not know where words come from
or where replies go. To add a command, write its function and add a row to COMMANDS.
"""

from itertools import chain
from typing import Callable, Dict, Iterator, List, NamedTuple, Union

from metricsd.rows import rows
from metricsd.series import MAX_TIMESTAMP, MIN_TIMESTAMP
from metricsd.store import Store

OK = b"ok\n\n"
WRONG_COMMAND = b"error\nwrong command\n\n"

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


def put(store: Store, key: str, value: str, timestamp: str) -> bytes:
    """Store one measurement. Raises BadCommand for what float() or int() refuses."""
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


def get(store: Store, key: str) -> Iterator[bytes]:
    """Answer every measurement of a key, or of every key."""
    found = (rows(name, series) for name, series in store.select(key))
    return chain((b"ok\n",), chain.from_iterable(found), (b"\n",))


COMMANDS: Dict[str, Command] = {
    "put": Command(put, arguments=3),
    "get": Command(get, arguments=1),
}


def run(store: Store, words: List[str]) -> Reply:
    """Run one request, given as its words. Raises BadCommand; the store is then as it was."""
    if words:
        name, *arguments = words
        command = COMMANDS.get(name)
        if command is not None and len(arguments) == command.arguments:
            return command.run(store, *arguments)
    raise BadCommand
