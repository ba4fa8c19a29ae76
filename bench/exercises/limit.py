"""Answer to the second exercise: no key is longer than 20 characters."""

import sys
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from metricsd.batch import put_block
from metricsd.commands import COMMANDS, BadCommand, Command, put
from metricsd.session import Session
from metricsd.store import Store

MAX_KEY_CHARACTERS = 20


def put_limited(store: Store, key: str, value: str, timestamp: str) -> bytes:
    """Do what put does, for a key within the limit."""
    if len(key) > MAX_KEY_CHARACTERS:
        raise BadCommand
    return put(store, key, value, timestamp)


def put_block_limited(store: Store, block: bytes) -> int:
    """Do what put_block does, but leave a block with a long word to be run line by line."""
    if max(map(len, block.split()), default=0) > MAX_KEY_CHARACTERS:
        return 0
    return put_block(store, block)


def main() -> None:
    """Put a key that is too long, twice in one arrival: with half of the answer, and with all."""
    arrival = b"put %s 1 1\n" % (b"k" * 21) * 2
    with mock.patch.dict(COMMANDS, put=Command(put_limited, arguments=3)):
        print("the command alone is limited:")
        print(Session(Store()).receive(arrival).decode(), end="")
        with mock.patch("metricsd.session.put_block", put_block_limited):
            print("so is the short cut:")
            print(Session(Store()).receive(arrival).decode(), end="")


if __name__ == "__main__":
    main()
