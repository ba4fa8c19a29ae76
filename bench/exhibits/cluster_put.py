"""A put into a cluster: what is sent for it, and in which turn its client has an answer.

In the place of the link to a cluster there is one that tells each command, and answers as shards
would that have seen none of these keys before: two of them, with half of the slots each. It waits
until it is told to answer.
"""

import json
import logging
import threading
from typing import Any, List, Sequence, Set
from unittest import mock

import removal  # noqa: F401  # it finds metricsd

from metricsd.cluster import store as cluster
from metricsd.cluster.encoding import SLOTS, Command, name_in, slot_of
from metricsd.loop import Reactor
from metricsd.protocol import Dispatcher, Session

PUTS = b"put cpu 12.5 1503319740\nput cpu 13 1503319741\nput disk 7 1503319740\n"


class ToldLink:
    """In place of a Link."""

    puts_at_a_time = 125

    def __init__(self, _address: object) -> None:
        self.may_answer = threading.Event()
        self.fails = False
        self._hashes: Set[str] = set()

    def owners(self) -> List[int]:
        """The shard of each slot."""
        return [1] * (SLOTS // 2) + [2] * (SLOTS // 2)

    def forget_owners(self) -> None:
        """They stay the same."""

    def run(self, commands: Sequence[Command]) -> List[Any]:
        """Tell these, and answer each."""
        self.may_answer.wait()
        return [self._answer(command) for command in commands]

    def _answer(self, command: Command) -> Any:
        shard = self.owners()[slot_of(name_in(command))]
        words = [word.decode() if isinstance(word, bytes) else word for word in command]
        shown = [" ".join(words)]
        hashes = json.loads(words[4]) if words[0] == "EVAL" else []
        if hashes:
            shown = ["store " + " ".join(points) for points in hashes]
        if words[:2] == ["ZADD", "metricsd:keys"]:
            shown = [f"ZADD metricsd:keys NX NOW {words[-1]}"]
        failed = self.fails and name_in(command).startswith("{disk}")
        for line in shown:
            print(f"    shard {shard}  {line}{'   fails' if failed else ''}")
        if failed:
            return ConnectionError("a shard is down")
        if words[0] == "ZSCORE":
            return 1.0
        names = [points[0] for points in hashes]
        new = [[place, b""] for place, name in enumerate(names, 1) if name not in self._hashes]
        self._hashes.update(names)
        return new if hashes else 1

    def close(self) -> None:
        """Nothing to give back."""


class Turns:
    """A session over such a store, and the turns of its loop."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.store = cluster.ClusterStore("valkey://127.0.0.1:7000", self.reactor)
        dispatcher = Dispatcher(self.store)
        self.reactor.once_a_turn.insert(0, dispatcher.batch.run)
        self.session = Session(dispatcher)

    def put(self, arrival: bytes) -> None:
        """Let it arrive, and take turns until there is an answer."""
        self.session.receive(arrival)
        link: Any = self.store._link
        link.may_answer.clear()
        self.reactor.turn(0)
        print(f"  the turn of the puts says {self.session.replies()!r}, and goes out:")
        answered: List[bool] = []
        self.session.when_answered(lambda: answered.append(True))
        link.may_answer.set()
        while not answered:
            self.reactor.turn(1)
        print(f"  a later turn says {self.session.replies()!r}")

    def close(self) -> None:
        """End the threads."""
        self.store.close()
        self.reactor.close()


def main() -> None:
    """Put what is new, then the same once more, and once while a shard is down."""
    logging.disable(logging.CRITICAL)
    with mock.patch.object(cluster, "Link", ToldLink):
        turns = Turns()
        print("keys that nobody has put to before:")
        turns.put(PUTS)
        print("the next puts to them:")
        turns.put(PUTS.replace(b"15033197", b"15033198"))
        print("the shard of disk is down:")
        link: Any = turns.store._link
        link.fails = True
        turns.put(PUTS)
        turns.close()


if __name__ == "__main__":
    main()
