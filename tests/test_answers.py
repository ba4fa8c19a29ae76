"""Gets that can't be answered at once: what is said, when, and in what order."""

import random
from typing import Any, Iterator, List, Tuple

import pytest

from metricsd.graphite.render import render
from metricsd.protocol import Dispatcher, Session
from metricsd.server import Parts, Server
from metricsd.store import Answer, Memory, Series, StoreError
from tests.conversation import Conversation
from tests.model import Model
from tests.script import line, pieces
from tests.test_session import say

OK = b"ok\n\n"
NOT_READ = b"error\nnot read\n\n"
REFUSED = StoreError("not read")


class SeriesElsewhere(Series):
    """A series that is asked for its points, a few at a time."""

    __slots__ = ("_key", "_store")

    def __init__(self, store: "Elsewhere", key: str) -> None:
        super().__init__()
        self._store = store
        self._key = key
        self.newest = 2**63 - 1

    def __len__(self) -> int:
        return 2**63 - 1

    def after(self, timestamp: int) -> Any:
        def find() -> Any:
            series = self._store.memory.find(self._key)
            if series is None or timestamp >= series.newest:
                return ([], []), self.newest
            (timestamps, values), _ = series.after(timestamp)
            few = timestamps[: self._store.few], values[: self._store.few]
            return few, few[0][-1]

        return self._store.ask(find)


class Elsewhere(Memory):
    """A store whose puts are stored at once, and whose gets wait until a test lets them go on."""

    def __init__(self, points: int = 2) -> None:
        super().__init__()
        self.memory = Memory()
        self.few = points  # in an answer
        self.asked: List[Tuple[Answer, Any]] = []

    def put(self, *point: Any) -> Any:
        return self.memory.put(*point)

    def put_many(self, *points: Any) -> Any:
        return self.memory.put_many(*points)

    def ask(self, function: Any) -> Answer:
        self.asked.append((Answer(), function))
        return self.asked[-1][0]

    def answer(self) -> None:
        answer, function = self.asked.pop(0)
        answer.give(function())

    def refuse(self) -> None:
        self.asked.pop(0)[0].settle(REFUSED)

    def find(self, key: str) -> Any:
        return SeriesElsewhere(self, key)

    def items(self) -> Iterator[Any]:
        yield self.ask(lambda: None)
        for number, (key, _) in enumerate(list(self.memory.items())):
            if number % 3 == 2:
                yield self.ask(lambda: None)
            yield key, SeriesElsewhere(self, key)


@pytest.fixture
def store() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def session(store: Elsewhere) -> Session:
    session = Session(Dispatcher(store))
    assert say(session, b"put a 1 1\nput a 2 2\nput a 3 3\nput b 4 4\nput c 5 5\n") == OK * 5
    return session


def go_on(session: Session) -> bytes:
    said = session.replies()
    while session.unfinished and not session.waiting:
        session.go_on()
        said += session.replies()
    return said


def all_of_it(store: Elsewhere, session: Session) -> bytes:
    said = b""
    while session.waiting:
        store.answer()
        said += go_on(session)
    return said


def test_nothing_is_said_before_something_is_known(store: Elsewhere, session: Session) -> None:
    assert say(session, b"get a\n") == b""
    assert session.waiting
    assert session.unfinished
    assert not session.idle
    called: List[int] = []
    session.when_answered(lambda: called.append(1))
    store.answer()
    assert called == [1]
    assert go_on(session) == b"ok\na 1.0 1\na 2.0 2\n"
    assert all_of_it(store, session) == b"a 3.0 3\n\n"
    assert session.idle


def test_an_unknown_key_and_every_key(store: Elsewhere, session: Session) -> None:
    assert say(session, b"get nobody\n") == b""
    assert all_of_it(store, session) == OK
    assert say(session, b"get *\n") == b""
    rows = b"a 1.0 1\na 2.0 2\na 3.0 3\nb 4.0 4\nc 5.0 5\n"
    assert all_of_it(store, session) == b"ok\n" + rows + b"\n"


def test_what_comes_behind_a_get_waits_for_it(store: Elsewhere, session: Session) -> None:
    assert say(session, b"put b 1 1\nget b\nput b 2 2\nget x y\nget b\n") == OK
    assert session.waiting
    said = all_of_it(store, session)
    first, last = b"ok\nb 1.0 1\nb 4.0 4\n\n", b"ok\nb 1.0 1\nb 2.0 2\nb 4.0 4\n\n"
    assert said == first + OK + b"error\nwrong command\n\n" + last


@pytest.mark.parametrize("request_", [b"get a\n", b"get *\n"])
def test_a_get_that_fails_is_an_error(store: Elsewhere, session: Session, request_: bytes) -> None:
    assert say(session, request_ + b"get b\n") == b""
    store.refuse()
    assert go_on(session) == NOT_READ
    assert all_of_it(store, session) == b"ok\nb 4.0 4\n\n"


@pytest.mark.parametrize("request_", [b"get a\n", b"get *\n"])
def test_half_a_reply_is_never_taken_for_the_whole(
    store: Elsewhere, session: Session, request_: bytes
) -> None:
    assert say(session, request_) == b""
    while not go_on(session):
        store.answer()
    store.refuse()
    with pytest.raises(ConnectionError):
        go_on(session)


@pytest.mark.parametrize("seed", range(20))
def test_random_scripts(seed: int) -> None:
    dice = random.Random(seed)
    store, model = Elsewhere(dice.choice([1, 3, 100])), Model()
    session = Session(Dispatcher(store))
    for _ in range(30):
        requests = [line(dice) for _ in range(dice.choice([1, 1, 3, 20]))]
        data = b"".join(request + b"\n" for request in requests)
        replies = b""
        for piece in pieces(data, dice, dice.choice([5, 100, 10000])):
            replies += say(session, piece)
            replies += all_of_it(store, session) + go_on(session)
        assert replies == b"".join(map(model.answer, requests))


@pytest.mark.parametrize("target", ["m.*", "sumSeries(m.*)", "m.a", "m.{a,c}"])
def test_graphs_of_what_has_to_be_waited_for(store: Elsewhere, target: str) -> None:
    for number in range(50):
        store.put("m.a", number, 1000 + 10 * number)
        store.put("m.b", number, 1000 + 20 * number)
        store.put("m.c", number, 1000 + 10 * number)
    work = render(store, [target], 1000, 1500, 100, 2000.0)
    at_once = render(store.memory, [target], 1000, 1500, 100, 2000.0)
    with pytest.raises(StopIteration) as expected:
        while True:
            next(at_once)
    waited = 0
    with pytest.raises(StopIteration) as found:
        while True:
            if next(work) is not None:
                store.answer()
                waited += 1
    assert waited
    assert found.value.value == expected.value.value


def test_others_are_served_meanwhile() -> None:
    store = Elsewhere()
    store.memory.put("a", 1.0, 1)
    with Server("127.0.0.1", 0, parts=Parts(around_store=lambda _: store)) as server:
        with Conversation(server.address) as one, Conversation(server.address) as other:
            one.socket.sendall(b"get a\n")
            while not store.asked:
                server.turn(0)
            other.socket.sendall(b"put b 1 1\n")
            while store.memory.find("b") is None:
                server.turn(0)
            assert other.read() == OK
            store.answer()
            while not store.asked:
                server.turn(0)
            store.answer()
            server.turn(0)
            server.turn(0)
            assert one.read() == b"ok\na 1.0 1\n\n"


def test_a_reply_that_breaks_off_ends_the_connection_and_no_other() -> None:
    store = Elsewhere(points=1)
    store.memory.put("a", 1.0, 1)
    store.memory.put("a", 1.0, 2)
    with Server("127.0.0.1", 0, parts=Parts(around_store=lambda _: store)) as server:
        with Conversation(server.address) as one, Conversation(server.address) as other:
            one.socket.sendall(b"get a\n")
            other.socket.sendall(b"put a 1 1\n")
            while not store.asked:
                server.turn(0)
            store.answer()
            while not store.asked:
                server.turn(0)
            store.refuse()
            while len(server._connections) > 1:
                server.turn(0)
            assert one.rest() == b"ok\na 1.0 1\n"
            assert other.read() == OK
