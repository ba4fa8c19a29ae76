"""The puts of all clients in a turn as one block, and each line by itself: nobody can tell."""

import random
from typing import Dict, List, Tuple

import pytest

from metricsd.protocol import Dispatcher, Session
from metricsd.protocol.words import OK, WRONG_COMMAND
from metricsd.store import Memory
from tests.model import Model, points
from tests.script import line
from tests.test_batch import HOSTILE, everything
from tests.test_session import say

NOT_BLANK = [arrival for arrival in HOSTILE if arrival.strip()]
PLAIN = [b"put a 1 1\n", b"put b 2.5 -7\n", b"put a 3 1\nput c 1 2\n", "put ключ 1 1\n".encode()]


class Turns:
    """Sessions on one store; each has been through its first line, which is looked at closely."""

    def __init__(self, clients: int, store: Memory) -> None:
        self.store = store
        self.dispatcher = Dispatcher(store)
        self.sessions = [Session(self.dispatcher) for _ in range(clients)]
        self.said = b"".join(say(session, b"get nobody\n") for session in self.sessions)
        self.received = len(b"get nobody\n") * clients

    def turn(self, arrivals: Dict[int, bytes]) -> Tuple[List[bytes], Dict[int, bytes]]:
        """One turn; return what came before the batch, and what each client is told at last."""
        for client, arrival in arrivals.items():
            self.sessions[client].receive(arrival)
            self.received += len(arrival)
        joined = set(self.dispatcher.batch.arrivals)
        before = [arrival for arrival in arrivals.values() if arrival not in joined]
        self.dispatcher.batch.run()
        replies = {client: self.sessions[client].replies() for client in arrivals}
        for client in arrivals:
            while self.sessions[client].unfinished:
                self.sessions[client].go_on()
                replies[client] += self.sessions[client].replies()
        self.said += b"".join(replies.values())
        return before, replies


def repr_sorted(metrics: Dict[str, Dict[int, float]]) -> str:
    """As text, in which nan is equal to nan."""
    return repr([(key, sorted(metrics[key].items())) for key in metrics])


def in_order(arrivals: Dict[int, bytes], before: List[bytes]) -> List[Tuple[int, bytes]]:
    """As they take effect: what did not join the batch has run before it."""
    return sorted(arrivals.items(), key=lambda item: item[1] not in before)


@pytest.mark.parametrize("seed", range(8))
def test_random_and_hostile_arrivals(seed: int) -> None:
    dice = random.Random(seed)
    turns, model = Turns(6, Memory()), Model()
    for _ in range(250):
        arrivals: Dict[int, bytes] = {}
        for client in dice.sample(range(6), dice.randint(1, 6)):
            kind = dice.random()
            if kind < 0.6:
                arrivals[client] = dice.choice(PLAIN)
            elif kind < 0.7:
                arrivals[client] = dice.choice(NOT_BLANK)
            else:
                some = [line(dice) + b"\n" for _ in range(dice.choice([1, 1, 1, 3, 40]))]
                # Behind the reply to a get there may be no room, then the rest comes later.
                puts = [
                    one for one in some if "get" not in one.decode("utf-8", "replace").split()[0]
                ]
                arrivals[client] = b"".join(puts) or some[0]
        before, replies = turns.turn(arrivals)
        for client, arrival in in_order(arrivals, before):
            assert replies[client] == model.stream(arrival), arrival
    assert repr_sorted(points(turns.store)) == repr_sorted(model.metrics)
    counts = turns.dispatcher.counts
    assert (counts.bytes_in, counts.bytes_out) == (turns.received, len(turns.said))
    assert counts.puts + counts.gets + counts.wrong == turns.said.count(b"\n\n")
    assert counts.wrong == turns.said.count(WRONG_COMMAND)


def test_a_mistake_is_answered_to_whom_it_belongs() -> None:
    for bad in range(9):
        turns = Turns(9, Memory())
        arrivals = {client: b"put a %d %d\n" % (client, client) for client in range(9)}
        arrivals[bad] = b"put a x 1\n"
        before, replies = turns.turn(arrivals)
        assert not before
        assert replies.pop(bad) == WRONG_COMMAND
        assert set(replies.values()) == {OK}
        assert turns.store.points == 8


def test_a_full_store() -> None:
    """Points that overwrite others are still taken, whoever else is refused in the turn."""
    turns = Turns(4, Memory(max_points=2))
    turns.turn({0: b"put a 1 1\n", 1: b"put a 1 2\n"})
    _, replies = turns.turn({0: b"put a 5 1\n", 1: b"put a 6 3\n", 2: b"put a 7 2\n", 3: b"bad\n"})
    full = b"error\nstore is full\n\n"
    assert replies == {0: OK, 1: full, 2: OK, 3: WRONG_COMMAND}
    assert everything(turns.store) == [("a", [1, 2], ["5.0", "7.0"])]
    assert turns.dispatcher.counts.refused == 1


def test_what_would_hold_up_others_is_left_for_another_turn() -> None:
    """Each put of a late point opens a block; every line is answered all the same, in order."""
    store = Memory()
    for series in range(60):
        for timestamp in range(1000):
            store.put(f"k{series}", 0.0, timestamp)
    turns = Turns(30, store)
    arrivals = {n: b"put k%d 1 5\nput k%d 1 7\n" % (n, n + 30) for n in range(30)}
    _, replies = turns.turn(arrivals)
    assert set(replies.values()) == {OK * 2}
    late = b"".join(turns.turn({0: b"get k%d\n" % number})[1][0] for number in range(60))
    assert late.count(b" 1.0 5\n") == late.count(b" 1.0 7\n") == 30


def test_a_second_arrival_in_a_turn_is_answered_behind_the_first() -> None:
    turns = Turns(2, Memory())
    first, other = turns.sessions
    other.receive(b"put b 1 1\n")
    first.receive(b"put a 1 1\n")
    first.receive(b"get a\n")
    first.receive(b"put a")
    assert first.replies() == OK + b"ok\na 1.0 1\n\n"
    assert other.replies() == OK
    first.receive(b" 2 2\nget b\n")
    assert first.replies() == OK + b"ok\nb 1.0 1\n\n"


def test_a_large_turn_is_run_in_several_blocks() -> None:
    turns = Turns(3000, Memory())
    arrivals = {n: b"put some.longer.name.of.a.key.%d 1 1\n" % n for n in range(3000)}
    _, replies = turns.turn(arrivals)
    assert set(replies.values()) == {OK} and len(replies) == turns.store.points == 3000


@pytest.mark.parametrize(
    "arrival",
    [b"\n", b" \n", b"get a\n", b"get *\n", b"get nobody\n", b"got a\n", b"\xff\n", b"put a x 1\n"],
)
def test_a_line_that_comes_alone(arrival: bytes) -> None:
    """It runs without the steps of an arrival of several, and leaves as little behind."""
    turns, model = Turns(1, Memory()), Model()
    for one in (b"put a 1 1\n", arrival, b"\n", arrival, b"put a 2 1\nget a\n"):
        _, replies = turns.turn({0: one})
        assert replies[0] == (model.stream(one) if one.strip() else WRONG_COMMAND)
        assert turns.sessions[0].idle and turns.sessions[0].quiet
