"""Answer to the second exercise: no key is longer than 20 characters."""

import sys
from pathlib import Path
from typing import Optional, Tuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from metricsd.protocol import Dispatcher, Session
from metricsd.protocol.batch import put_block
from metricsd.protocol.commands import COMMANDS, BadCommand, Command, put
from metricsd.store import Memory, Receipt, Store

MAX_KEY_CHARACTERS = 20


def put_limited(dispatcher: Dispatcher, key: str, value: str, timestamp: str) -> Receipt:
    """Do what put does, for a key within the limit."""
    if len(key) > MAX_KEY_CHARACTERS:
        raise BadCommand
    return put(dispatcher, key, value, timestamp)


def put_block_limited(store: Store, block: bytes) -> Tuple[int, int, Optional[Receipt]]:
    """Do what put_block does, but leave a block with a long word to be run line by line."""
    if max(map(len, block.split()), default=0) > MAX_KEY_CHARACTERS:
        return 0, 0, None
    return put_block(store, block)


def main() -> None:
    """Put a key that is too long, two at a time: with half of the answer, and with all."""
    arrival = b"put %s 1 1\n" % (b"k" * 21) * 2
    with mock.patch.dict(COMMANDS, put=Command(put_limited, arguments=3)):
        print("the command alone is limited:")
        print(answers(arrival), end="")
        # That of one client's puts, and that of the single puts of all clients in a turn.
        alone = mock.patch("metricsd.protocol.session.put_block", put_block_limited)
        together = mock.patch("metricsd.protocol.batch.put_block", put_block_limited)
        with alone, together:
            print("so are the short cuts:")
            print(answers(arrival), end="")


def answers(arrival: bytes) -> str:
    """All that a new session says to an arrival."""
    session = Session(Dispatcher(Memory()))
    session.receive(arrival)
    return session.replies().decode()


if __name__ == "__main__":
    main()
