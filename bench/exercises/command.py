"""Answer to the first exercise: a command that tells how many points a key has."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from metricsd.protocol import Dispatcher, Session
from metricsd.protocol.commands import COMMANDS, Command
from metricsd.store import Memory


def count(dispatcher: Dispatcher, key: str) -> bytes:
    """Answer how many points a key has."""
    series = dispatcher.store.find(key)
    return b"ok\n%d\n\n" % (0 if series is None else len(series))


COMMANDS["count"] = Command(count, arguments=1)


def main() -> None:
    """Hold a conversation, without any socket."""
    session = Session(Dispatcher(Memory()))
    for request in ("put cpu 12.5 1503319740", "count cpu", "count disk", "count"):
        print(f"> {request}")
        session.receive(request.encode() + b"\n")
        print(session.replies().decode(), end="")


if __name__ == "__main__":
    main()
