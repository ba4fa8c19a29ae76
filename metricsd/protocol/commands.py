"""The commands: a table from a name to a function and the number of its arguments.

Owns what each command does to the store and what it answers. Does not know where words come from
or where replies go. To add a command, write its function and add a row to COMMANDS.
"""

from typing import Callable, Dict, Iterator, List, NamedTuple, Union

from metricsd.protocol.batch import TurnBatch
from metricsd.protocol.counts import Counts
from metricsd.protocol.points import to_numbers
from metricsd.protocol.replies import KeptReplies, pieces
from metricsd.protocol.words import OK, Outcome
from metricsd.store import Receipt, Store

PUT = "put"
EVERY_KEY = "*"

# A reply is one of three: all its bytes; the pieces of one that may be large, made as they are
# asked for; or what will become of a put, which is worded when that is known.
Reply = Union[bytes, Iterator[Outcome], Receipt]


class BadCommand(Exception):
    """The client's mistake: the request is answered with an error and changes nothing."""


class Dispatcher:
    """Runs requests on a store: what all sessions of a server share."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.counts = Counts()
        self.batch = TurnBatch(store, self.counts)
        self.kept_replies = KeptReplies()

    def run(self, words: List[str]) -> Reply:
        """Run one request, given as its words.

        Raises BadCommand or StoreError; the store is then as it was.
        """
        if words:
            name, *arguments = words
            command = COMMANDS.get(name)
            if command is not None and len(arguments) == command.arguments:
                return command.run(self, *arguments)
        raise BadCommand


def put(dispatcher: Dispatcher, key: str, value: str, timestamp: str) -> Receipt:
    """Store one measurement. Nearly all puts take a shorter way: see batch.py."""
    try:
        (number,), (seconds,) = to_numbers((value,), (timestamp,))
    except ValueError:
        raise BadCommand from None
    receipt = dispatcher.store.put(key, number, seconds)
    dispatcher.counts.puts += 1
    return receipt


def get(dispatcher: Dispatcher, key: str) -> Reply:
    """Answer every measurement of a key, or of every key."""
    dispatcher.counts.gets += 1
    if key == EVERY_KEY:
        return pieces(dispatcher.store.items())
    series = dispatcher.store.find(key)
    if series is None:
        dispatcher.kept_replies.forget(key)
        return OK
    reply = dispatcher.kept_replies.reply(key, series)
    return pieces([(key, series)]) if reply is None else reply


class Command(NamedTuple):
    """A row of the table."""

    run: Callable[..., Reply]  # called with the dispatcher and the arguments as strings
    arguments: int


COMMANDS: Dict[str, Command] = {
    PUT: Command(put, arguments=3),
    "get": Command(get, arguments=1),
}
