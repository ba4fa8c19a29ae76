"""The turn as a batch: what a put costs when others put in the same turn.

Taken away: waiting until everybody has been read. Each arrival is stored when it comes.
"""

import socket
import sys
from types import FrameType
from typing import Any, List, Tuple
from unittest import mock

from removal import say, without

from metricsd.loop import Connection, Reactor
from metricsd.protocol import Dispatcher, Session
from metricsd.store import Memory

WRONG = b"put cpu twelve 1503319740\n"
OK = b"ok\n\n"
WRONG_COMMAND = b"error\nwrong command\n\n"


class Turns:
    """Turns of the loop with some clients, and what the last one was made of."""

    def __init__(self, clients: int) -> None:
        self.calls = self.blocks = 0  # of functions, Python's and C's; of the store
        self._reactor, dispatcher = Reactor(), Dispatcher(Memory())
        self._reactor.once_a_turn.append(dispatcher.batch.run)
        self._pairs = [socket.socketpair() for _ in range(clients)]
        for number, (ours, _) in enumerate(self._pairs):
            ours.setblocking(False)
            Connection(ours, (number,), Session(dispatcher), self._reactor, lambda _: None)

    def turn(self, arrivals: List[bytes]) -> List[bytes]:
        """Each client sends something; return what each is told."""
        for (_, theirs), arrival in zip(self._pairs, arrivals):
            theirs.sendall(arrival)
        self.calls = self.blocks = 0
        sys.setprofile(self._count)
        self._reactor.turn(0)
        sys.setprofile(None)
        return [theirs.recv(100) for _, theirs in self._pairs]

    def close(self) -> None:
        """Give back the sockets."""
        self._reactor.close()
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _count(self, frame: FrameType, event: str, _argument: Any) -> None:
        self.calls += event in ("call", "c_call")
        self.blocks += event == "call" and frame.f_code is Memory.put_many.__code__


def cost(clients: int) -> Tuple[int, int]:
    """How often the store is called for a put of each client in one turn, and calls in all."""
    turns = Turns(clients)
    puts = [b"put host%d.cpu 12.5 1503319740\n" % number for number in range(clients)]
    for _ in range(2):  # the first line of a client is looked at more closely
        assert turns.turn(puts) == [OK] * clients
    turns.close()
    return turns.blocks, turns.calls


def table() -> List[str]:
    """A line for each number of clients. How many calls a put takes differs with the Python."""
    lines = []
    for clients in (1, 4, 48):
        blocks, calls = cost(clients)
        who = f"{clients} client{'s' * (clients > 1)}:"
        lines.append(f"{who:12}{blocks:2} to the store, ~{calls / clients:.0f} calls a put")
    return lines


def a_mistake() -> str:
    """One of 48 puts is none."""
    turns = Turns(48)
    puts = [b"put host%d.cpu 12.5 1503319740\n" % number for number in range(48)]
    turns.turn(puts)
    puts[30] = WRONG
    replies = turns.turn(puts)
    turns.close()
    right = replies[30] == WRONG_COMMAND and replies.count(OK) == 47
    said = "one is told of an error, and 47 ok" if right else "wrong replies"
    return f"{turns.blocks} to the store; {said}"


def main() -> None:
    """Show it with and without."""
    say("all arrivals of a turn as one block", *table())
    at_once = "self._batch.arrivals.append(data); self._batch.run()"
    alone = without(Session.receive, "self._batch.arrivals.append(data)", at_once)
    with mock.patch.object(Session, "receive", alone):
        say("without: each arrival by itself", *table())
    say("as one block, and one of 48 puts is wrong", a_mistake())


if __name__ == "__main__":
    main()
