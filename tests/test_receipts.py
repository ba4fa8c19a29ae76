"""Receipts that settle in a later turn: what is said, when, and to whom."""

import contextlib
import random
import socket
import threading
from typing import Any, Iterator, List, Optional, Tuple
from unittest import mock

import pytest

from metricsd import server as server_module
from metricsd.loop import Connection, Worker
from metricsd.protocol import Dispatcher, Session
from metricsd.server import Parts, Server
from metricsd.store import STORED, Memory, Receipt, StoreError
from tests.conftest import running
from tests.conversation import Conversation
from tests.late_store import LateStore
from tests.model import Model
from tests.script import line, pieces
from tests.test_session import say

OK = b"ok\n\n"
WRONG = b"error\nwrong command\n\n"
NOT_STORED = b"error\nnot stored\n\n"
REFUSED = StoreError("not stored")


class TestReceipt:
    def test_it_calls_back_once(self) -> None:
        called: List[int] = []
        receipt = Receipt()
        receipt.when_settled(lambda: called.append(1))
        assert not receipt.settled
        assert called == []
        receipt.settle()
        assert receipt.settled
        assert receipt.refusal is None
        receipt.when_settled(lambda: called.append(2))
        assert called == [1, 2]

    def test_it_is_settled_once(self) -> None:
        receipt = Receipt()
        receipt.settle(REFUSED)
        with pytest.raises(RuntimeError):
            receipt.settle()
        assert receipt.refusal is REFUSED

    def test_memory_settles_at_once(self) -> None:
        assert Memory().put("a", 1.0, 1) is STORED
        assert STORED.settled
        assert STORED.refusal is None


class TestSession:
    def store_and_session(self, one_for_all: bool = True) -> Any:
        store = LateStore(one_for_all)
        session = Session(Dispatcher(store))
        assert say(session, b"get nobody\n") == OK
        return store, session

    def go_on(self, session: Session) -> bytes:
        if session.unfinished:
            session.go_on()
        return session.replies()

    @pytest.mark.parametrize("refusal", [None, REFUSED])
    def test_nothing_is_said_before_it_is_known(self, refusal: Optional[StoreError]) -> None:
        store, session = self.store_and_session()
        assert say(session, b"put a 1 1\n") == b""
        assert session.waiting
        assert not session.idle
        called: List[int] = []
        session.when_answered(lambda: called.append(1))
        store.settle(refusal)
        assert called == [1]
        assert session.replies() == (OK if refusal is None else NOT_STORED)
        assert not session.waiting
        assert session.idle

    def test_a_get_waits_for_the_puts_before_it(self) -> None:
        store, session = self.store_and_session()
        assert say(session, b"get a\nput a 1 1\nput a 2 2\nget a\nput a 3 3\nget a\n") == OK
        assert session.waiting
        assert session.unfinished
        store.settle()
        assert self.go_on(session) == OK * 2 + b"ok\na 1.0 1\na 2.0 2\n\n"
        assert session.waiting
        store.settle()
        assert self.go_on(session) == OK + b"ok\na 1.0 1\na 2.0 2\na 3.0 3\n\n"
        assert not session.waiting
        assert not session.unfinished

    def test_mistakes_keep_their_place(self) -> None:
        store, session = self.store_and_session()
        assert say(session, b"put a 1 1\nput a x 1\nput a 2 2\n") == b""
        store.settle(REFUSED)
        assert session.replies() == NOT_STORED + WRONG + NOT_STORED

    def test_receipts_that_settle_in_another_order(self) -> None:
        store, session = self.store_and_session(one_for_all=False)
        assert say(session, b"put a 1 1\nput a x 1\nput a 2 2\nput a 3 3\nget a\n") == b""
        store.settle(REFUSED, which=1)
        assert self.go_on(session) == b""
        store.settle(which=1)
        assert self.go_on(session) == b""
        store.settle()
        said = self.go_on(session)
        assert said == OK + WRONG + NOT_STORED + OK + b"ok\na 1.0 1\na 3.0 3\n\n"

    @pytest.mark.parametrize("seed", range(30))
    def test_random_scripts(self, seed: int) -> None:
        """What a client is told is so: gets show the puts that were stored, and no other."""
        dice = random.Random(seed)
        store, session = self.store_and_session(one_for_all=dice.random() < 0.5)
        model = Model()
        for _ in range(40):
            requests = [line(dice) for _ in range(dice.choice([1, 1, 3, 20]))]
            data = b"".join(request + b"\n" for request in requests)
            replies = b""
            for piece in pieces(data, dice, dice.choice([5, 100, 10000])):
                replies += say(session, piece)
                while session.waiting or session.unfinished:
                    if session.waiting:
                        refusal = REFUSED if dice.random() < 0.3 else None
                        store.settle(refusal)
                    replies += self.go_on(session)
            for request in requests:
                told_no = replies.startswith(NOT_STORED)
                expected = NOT_STORED if told_no else model.answer(request)
                assert replies.startswith(expected)
                assert not told_no or Model().answer(request) == OK  # a put, and a right one
                replies = replies[len(expected) :]
            assert not replies


class World:
    """A server on a late store, turn by turn in the test's own thread."""

    def __init__(self, stack: contextlib.ExitStack, one_for_all: bool = True) -> None:
        self.store = LateStore(one_for_all)
        parts = Parts(around_store=lambda _: self.store)
        self.server = stack.enter_context(Server("127.0.0.1", 0, parts=parts))
        self._stack = stack

    def connect(self) -> Conversation:
        """A client that has been accepted, and has asked something."""
        client = self._stack.enter_context(Conversation(self.server.address))
        client.socket.sendall(b"get nobody\n")
        client.socket.settimeout(0.0)
        while True:
            self.server.turn(10)
            with contextlib.suppress(BlockingIOError):
                assert client.read() == OK
                break
        client.socket.settimeout(10)
        return client

    def says_nothing(self, client: Conversation) -> bool:
        client.socket.settimeout(0.0)
        try:
            client.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        finally:
            client.socket.settimeout(10)
        return False


@pytest.fixture
def world() -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(stack)


def test_others_are_served_meanwhile_and_see_nothing(world: World) -> None:
    one, other = world.connect(), world.connect()
    one.socket.sendall(b"put a 1 1\n")
    world.server.turn(10)
    other.socket.sendall(b"get a\nget *\n")
    world.server.turn(10)
    assert other.read(2) == OK * 2
    assert world.says_nothing(one)
    world.store.settle()
    world.server.turn(0)
    assert one.read() == OK
    other.socket.sendall(b"get a\n")
    world.server.turn(10)
    assert other.read() == b"ok\na 1.0 1\n\n"


def test_who_sends_nothing_meanwhile_costs_no_system_call(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = world.connect()
    client.socket.sendall(b"put a 1 1\n")
    selector = world.server._reactor._selector
    calls: List[str] = []
    for name in ("register", "unregister", "modify"):
        monkeypatch.setattr(selector, name, lambda *_, name=name: calls.append(name))
    world.server.turn(10)
    world.server.turn(0)
    world.store.settle()
    world.server.turn(0)
    assert client.read() == OK
    assert calls == []


def test_who_sends_on_is_not_read_and_does_not_make_the_loop_spin(world: World) -> None:
    client = world.connect()
    client.socket.sendall(b"put a 1 1\n")
    world.server.turn(10)
    client.socket.sendall(b"put a 2 2\nget a\n")
    world.server.turn(10)  # it is forgotten here
    ready: List[Any] = []
    select = world.server._reactor._selector.select

    def counting(timeout: Optional[float] = None) -> Any:
        ready.extend(select(timeout))
        return ready

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.server._reactor._selector, "select", counting)
        world.server.turn(0)
        world.server.turn(0)
    assert ready == []
    world.store.settle()
    world.server.turn(0)
    assert client.read() == OK
    world.server.turn(0)
    world.store.settle()
    world.server.turn(0)
    assert client.read(2) == OK + b"ok\na 1.0 1\na 2.0 2\n\n"


@pytest.mark.parametrize("leave", ["close", "reset"])
@pytest.mark.parametrize("notices", [True, False])
def test_a_client_that_leaves_meanwhile(world: World, leave: str, notices: bool) -> None:
    client, witness = world.connect(), world.connect()
    client.socket.sendall(b"put a 1 1\nget a\n")
    world.server.turn(10)
    if leave == "close":
        client.socket.close()
    else:
        client.reset()
    if notices:
        world.server.turn(10)
    world.store.settle()
    for _ in range(3):
        world.server.turn(0)
    assert len(world.server._connections) == 1
    witness.socket.sendall(b"get a\n")
    world.server.turn(10)
    assert witness.read() == b"ok\na 1.0 1\n\n"  # it had arrived


def test_half_close_and_a_get_behind_a_put(world: World) -> None:
    client = world.connect()
    client.socket.sendall(b"put a 1 1\nget a\nput a 2 15")
    client.no_more()
    world.server.turn(10)
    world.server.turn(0)
    world.store.settle()
    for _ in range(3):
        world.server.turn(0)
    assert client.rest() == OK + b"ok\na 1.0 1\n\n"
    assert not world.server._connections


def test_for_some_clients_only() -> None:
    with contextlib.ExitStack() as stack:
        world = World(stack, one_for_all=False)
        clients = [world.connect() for _ in range(4)]
        for number, client in enumerate(clients):
            client.socket.sendall(b"\nput k%d 1 1\n" % number)  # the blank line: none is batched
            world.server.turn(10)
        world.store.settle(which=2)
        world.store.settle(REFUSED, which=1)
        world.server.turn(0)
        assert [world.says_nothing(client) for client in clients] == [True, False, False, True]
        assert clients[1].read() == NOT_STORED
        assert clients[2].read() == OK


def test_the_puts_of_a_turn_share_a_receipt_and_a_mistake_does_not_spread(world: World) -> None:
    clients = [world.connect() for _ in range(5)]
    puts = [b"put a 1 1\n", b"put b x 1\n", b"put c 1 1\nput c 2 2\n", b"get a\n", b"put d 1 1\n"]
    for client, put in zip(clients, puts):
        client.socket.sendall(put)
    world.server.turn(10)
    while world.says_nothing(clients[1]) or world.says_nothing(clients[3]):
        world.server.turn(10)
    assert clients[1].read() == WRONG
    assert clients[3].read() == OK
    while world.store.open:
        world.store.settle()
        world.server.turn(0)
    assert clients[0].read() == OK
    assert clients[2].read(2) == OK * 2
    assert clients[4].read() == OK


@pytest.mark.parametrize("number", [1, 2, 5])
def test_puts_that_are_refused_at_once_are_told_so_alone_and_together(number: int) -> None:
    """A receipt may be settled, as a refusal, when it is given."""

    class Refusing(Memory):
        def put_many(self, keys: List[str], *_: object) -> Tuple[int, Receipt]:
            receipt = Receipt()
            receipt.settle(REFUSED)
            return len(keys), receipt

    dispatcher = Dispatcher(Refusing())
    sessions = [Session(dispatcher) for _ in range(number)]
    for session in sessions:
        assert say(session, b"get a\n") == OK
    for session in sessions:
        session.receive(b"put a 1 1\n")
    assert [session.replies() for session in sessions] == [NOT_STORED] * number
    assert say(sessions[0], b"put a 1 1\nput a 2 2\n") == NOT_STORED * 2
    assert say(sessions[0], b"get a\n") == OK


def test_a_reply_that_is_under_way_when_the_receipt_settles(world: World) -> None:
    """The words of a put wait behind a reply that the client has not taken yet."""
    rows = b"".join(b"k 0.5 %d\n" % number for number in range(20000))
    for number in range(20000):
        world.store.memory.put("k", 0.5, number)
    client = world.connect()
    client.socket.sendall(b"get k\n" * 30 + b"put a 1 1\nget a\n")
    received = bytearray()
    expected = (b"ok\n" + rows + b"\n") * 30 + OK + b"ok\na 1.0 1\n\n"
    while len(received) < len(expected):
        world.server.turn(0)
        if world.store.open:
            world.store.settle()
        with contextlib.suppress(BlockingIOError):
            received += client.socket.recv(1 << 20, socket.MSG_DONTWAIT)
    assert bytes(received) == expected


def test_who_can_take_more_as_the_receipt_settles_is_answered_once(world: World) -> None:
    """Twice in a turn, the second answer could be written to a descriptor that has been closed."""
    client = world.connect()
    (connection,) = world.server._connections
    client.socket.sendall(b"put a 1 1\n")
    world.server.turn(10)
    connection._outbox = b"the rest of a reply\n\n"
    connection._wait_for_next()
    world.server._reactor.post(world.store.settle)
    with mock.patch.object(Connection, "answer", autospec=True) as answer:
        world.server.turn(10)
    assert answer.call_count == 1
    world.server.turn(10)
    assert client.read(2) == b"the rest of a reply\n\n" + OK


def test_stop_waits_for_it(world: World) -> None:
    client = world.connect()
    client.socket.sendall(b"put a 1 1\nget a\n")
    world.server.turn(10)
    world.server.stop()
    world.server._reactor.call_later(0.05, world.store.settle)
    world.server.serve_forever()
    assert client.rest() == OK + b"ok\na 1.0 1\n\n"


def test_stop_does_not_wait_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.1)
    client = world.connect()
    client.socket.sendall(b"put a 1 1\nget a\n")
    world.server.turn(10)
    world.server.stop()
    world.server.serve_forever()
    world.server.close()
    assert client.rest() == b""


def test_a_store_that_works_in_another_thread() -> None:
    """Many clients, whose receipts settle when a worker has had them."""
    store = LateStore()
    workers: List[Worker] = []

    def settle_later() -> None:
        if len(store.open) == 1:
            server._reactor.post(lambda: workers[0].call(threading.Event().is_set, settle))

    def settle(_result: object, _error: object) -> None:
        for _ in range(len(store.open)):
            store.settle()

    store.on_put = settle_later
    with running(parts=Parts(around_store=lambda _: store)) as server:
        workers.append(Worker(server._reactor))
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Conversation(server.address)) for _ in range(20)]
            for number in range(30):
                for index, client in enumerate(clients):
                    client.socket.sendall(b"put k%d 1 %d\nget k%d\n" % (index, number, index))
                for index, client in enumerate(clients):
                    rows = b"".join(b"k%d 1.0 %d\n" % (index, past) for past in range(number + 1))
                    assert client.read(2) == OK + b"ok\n" + rows + b"\n"
        assert workers[0].close(10)
