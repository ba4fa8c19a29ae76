"""Sessions on a ledger: what they say holds, and no get sees what was refused."""

import random
from typing import Optional

import pytest

from metricsd.ledger import Ledger
from metricsd.session import Session
from metricsd.store import Store
from tests.model import Model
from tests.script import line, pieces
from tests.test_store import FULL, LimitedModel

NOT_STORED = b"error\nnot stored\n\n"
OK = b"ok\n\n"


class Talk:
    """A conversation in turns, each with a commit; ``refuses`` tells whether it fails."""

    def __init__(self, store: Store, refuses: Optional[random.Random] = None) -> None:
        self.ledger = Ledger(store)
        self.session = Session(self.ledger)
        self.refuses = refuses
        self.written = b""
        assert self.say(b"get nobody\n") == OK  # so that nothing later is HTTP

    def say(self, data: bytes) -> bytes:
        said = [self._commit(self.session.receive(data))]
        while self.session.unfinished:
            said.append(self._commit(self.session.replies()))
        return b"".join(said)

    def _commit(self, said: bytes) -> bytes:
        assert self.session.uncommitted == (len(self.ledger) > 0)
        if not self.session.uncommitted:
            return said
        if self.refuses is not None and self.refuses.random() < 0.5:
            self.ledger.refuse()
        else:
            self.written += self.ledger.lines
            self.ledger.store()
        return self.session.committed(said)


@pytest.mark.parametrize("seed", range(40))
def test_as_without_a_journal(seed: int) -> None:
    """Also, whoever runs what was written has the same store."""
    dice = random.Random(seed)
    talk, model, again = Talk(Store()), Model(), Session(Store())
    for _ in range(40):
        request = b"".join(line(dice) + b"\n" for _ in range(dice.choice([1, 1, 3, 20])))
        cut = pieces(request, dice, 200) if dice.random() < 0.3 else [request]
        assert b"".join(map(talk.say, cut)) == model.stream(request)
    again.receive(talk.written)
    while again.unfinished:
        again.replies()
    everything = again.receive(b"get *\n")
    while again.unfinished:
        everything += again.replies()
    assert everything == model.answer(b"get *")


def test_a_get_waits_for_the_puts_before_it() -> None:
    ledger = Ledger(Store())
    session = Session(ledger)
    assert session.receive(b"get a\nput a 1 1\nput a 2 2\nget a\nput a 3 3\n") == OK * 3
    assert session.uncommitted
    assert session.unfinished
    assert not session.idle
    ledger.store()
    assert session.committed(OK * 3) == OK * 3
    assert session.replies() == b"ok\na 1.0 1\na 2.0 2\n\n" + OK
    assert session.uncommitted
    assert not session.unfinished


def test_others_do_not_wait_and_see_what_is_stored() -> None:
    ledger = Ledger(Store())
    one, other = Session(ledger), Session(ledger)
    assert one.receive(b"put a 1 1\n") == OK
    assert other.receive(b"get a\nget *\n") == OK * 2
    assert not other.uncommitted
    ledger.store()
    assert other.receive(b"get a\n") == b"ok\na 1.0 1\n\n"


def test_refused_puts_are_told_and_gone() -> None:
    ledger = Ledger(Store())
    session = Session(ledger)
    said = session.receive(b"get a\nput a 1 1\nput a x 1\nput a 2 2\nget a\n")
    assert said == OK * 2 + b"error\nwrong command\n\n" + OK
    ledger.refuse()
    told = session.committed(said)
    assert told == OK + NOT_STORED + b"error\nwrong command\n\n" + NOT_STORED
    assert session.replies() == OK
    assert not ledger.lines
    said = session.receive(b"put a 3 3\n")
    ledger.store()
    assert session.committed(said) == OK


@pytest.mark.parametrize("seed", range(40))
def test_with_refusals(seed: int) -> None:
    """Whatever a client is told, it is so: gets show the puts that were stored, and no other."""
    dice = random.Random(seed)
    talk, model = Talk(Store(), dice), Model()
    for _ in range(60):
        requests = [line(dice) for _ in range(dice.choice([1, 1, 3, 20]))]
        replies = talk.say(b"".join(request + b"\n" for request in requests))
        for request in requests:
            told_no = replies.startswith(NOT_STORED)
            expected = NOT_STORED if told_no else model.answer(request)
            assert replies.startswith(expected)
            assert not told_no or Model().answer(request) == OK  # a put, and a right one
            replies = replies[len(expected) :]
        assert not replies


@pytest.mark.parametrize("seed", range(40))
def test_the_limit_of_points_is_exact(seed: int) -> None:
    dice = random.Random(seed)
    limit = dice.choice([1, 5, 30, 100])
    store = Store(limit)
    talk, model = Talk(store), LimitedModel(limit)
    full = 0
    for _ in range(30):
        request = b"".join(line(dice) + b"\n" for _ in range(dice.choice([1, 3, 50])))
        replies = talk.say(request)
        assert replies == model.stream(request)
        full += replies.count(FULL)
        assert store.points == sum(map(len, model.metrics.values()))
    assert full or limit == 100


def test_a_limit_below_what_is_there() -> None:
    """As after a restart with a smaller limit: everything stays, and nothing is added."""
    store = Store()
    store.put_many(["a", "a"], [1.0, 2.0], [1, 2])
    store.limit(1)
    talk = Talk(store)
    assert talk.say(b"put a 3 3\nput a 9 2\nget a\n") == FULL + OK + b"ok\na 1.0 1\na 9.0 2\n\n"
    store.limit(3)
    assert talk.say(b"put a 3 3\nput a 4 4\n") == OK + FULL
