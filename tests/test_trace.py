"""--trace: what the loop does, told line by line."""

import contextlib
import gc
import io
import random
import re
import signal
import socket
import subprocess
import weakref
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, cast

import pytest

from metricsd.loop import Connection, Listener, Reactor, Watch
from metricsd.loop.polling import EpollSelector, make_selector
from metricsd.protocol import Session
from metricsd.server import PLAIN, Parts, Server
from metricsd.store import Memory, Receipt, Store, StoreError
from metricsd.walkthrough.disk import Disk
from metricsd.watch import Step, Trace, observed, steps, trace_line
from metricsd.watch.parts import (
    ObservedConnection,
    ObservedListener,
    ObservedReactor,
    ObservedSession,
    ObservedWatch,
)
from metricsd.watch.steps import Moment, Phase, Point
from metricsd.watch.trace import EXCERPT_CHARACTERS, LINES, TRACE_COLUMNS, excerpt
from tests.conversation import SECONDS, Conversation
from tests.test_command_line import COMMAND, ROOT, started

START = Moment(0, Phase.WAIT)


class Traced:
    """A server that the test takes turns with, and the lines that it has written."""

    def __init__(self, **limits: Any) -> None:
        self.stream = io.StringIO()
        self.server = Server("127.0.0.1", 0, parts=Parts(**self.parts()), **limits)

    def parts(self) -> Dict[str, Any]:
        return observed(Trace(self.stream))

    def __enter__(self: Any) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.close()

    def client(self) -> Conversation:
        client = Conversation(self.server.address)
        self.server.turn(SECONDS)
        return client

    def lines(self) -> List[str]:
        """Since the last time, without port numbers."""
        said = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", self.stream.getvalue())
        self.stream.seek(0)
        self.stream.truncate()
        return said.splitlines()

    def rest(self) -> None:
        """Take a turn without a client, so that the next ones come in the order of their sending.

        epoll's list of the sockets that may be ready still holds those of the last turn.
        """
        self.server.turn(0)
        self.lines()

    def turn(self) -> List[str]:
        self.server.turn(SECONDS)
        return self.lines()

    def told_of(self, client: Conversation, data: bytes) -> List[str]:
        client.socket.sendall(data)
        return self.turn()


def test_a_conversation() -> None:
    with Traced() as traced, traced.client() as client:
        assert traced.lines() == [
            "start     listener  listening  on ADDRESS",
            "turn 1    loop      ready      listener",
            "          c1        opened     from ADDRESS",
        ]
        assert traced.told_of(client, b"put cpu 12.5 1503319740\n") == [
            "turn 2    loop      ready      c1 to read",
            r"          c1        received   24 bytes  'put cpu 12.5 1503319740\n'",
            r"          store     put        1 point  'cpu 12.5 1503319740\n'",
            "          c1        answered   1 request, nothing left to read",
            r"          c1        queued     4 bytes  'ok\n\n'",
            "          c1        sent       4 bytes, all",
        ]
        assert traced.told_of(client, b"put a 1 1\nput cpu 2 2\ngut cpu\nget c") == [
            "turn 3    loop      ready      c1 to read",
            r"          c1        received   35 bytes  'put a 1 1\nput cpu 2 2\ngut cpu\nget c'",
            r"          store     put        1 point  'a 1.0 1\n'",
            r"          store     put        1 point  'cpu 2.0 2\n'",
            "          c1        answered   3 requests, 5 bytes left to read  'get c'",
            r"          c1        queued     29 bytes  'ok\n\nok\n\nerror\nwrong command\n\n'",
            "          c1        sent       29 bytes, all",
        ]
        assert traced.told_of(client, b"pu\nget *\nget c") == [
            "turn 4    loop      ready      c1 to read",
            r"          c1        received   14 bytes  'pu\nget *\nget c'",
            "          store     found      2 points of  'cpu'",
            "          store     found      every key",
            "          c1        answered   2 requests, 5 bytes left to read  'get c'",
            "          c1        queued     76 bytes  "
            r"'ok\ncpu 2.0 2\ncpu 12.5 1503319740\n\nok\n'...",
            "          c1        sent       76 bytes, all",
        ]
        client.no_more()
        assert traced.turn() == [
            "turn 5    loop      ready      c1 to read",
            "          c1        received   the end of input",
            "          c1        dropped    an unfinished line  'get c'",
            "          c1        closed     end of input",
        ]


def test_two_clients_and_a_batch_in_one_turn() -> None:
    with Traced() as traced, traced.client() as one, traced.client() as two:
        traced.lines()
        one.socket.sendall(b"put a 1 1\nput b 2 2\n")
        two.socket.sendall(b"get nobody\n")
        traced.server.turn(SECONDS)
        assert one.read(2) == b"ok\n\n" * 2
        assert traced.lines() == [
            "turn 3    loop      ready      c1 to read, c2 to read",
            r"          c1        received   20 bytes  'put a 1 1\nput b 2 2\n'",
            r"          store     put        2 points  'a 1.0 1\nb 2.0 2\n'",
            r"          c2        received   11 bytes  'get nobody\n'",
            "          store     found      nothing of  'nobody'",
            "          c1        answered   2 requests, nothing left to read",
            r"          c1        queued     8 bytes  'ok\n\nok\n\n'",
            "          c1        sent       8 bytes, all",
            "          c2        answered   1 request, nothing left to read",
            r"          c2        queued     4 bytes  'ok\n\n'",
            "          c2        sent       4 bytes, all",
        ]


def test_the_puts_of_two_clients_are_one_block() -> None:
    """They are stored when both have been read, and before either is answered."""
    with Traced() as traced, traced.client() as one, traced.client() as two:
        for client in (one, two):
            client.socket.sendall(b"put k 0 0\n")
            traced.server.turn(SECONDS)
            client.read()
        traced.rest()
        one.socket.sendall(b"put a 1 1\n")
        two.socket.sendall(b"put c 3 3\n")
        traced.server.turn(SECONDS)
        assert one.read() + two.read() == b"ok\n\n" * 2
        assert traced.lines() == [
            "turn 6    loop      ready      c1 to read, c2 to read",
            r"          c1        received   10 bytes  'put a 1 1\n'",
            r"          c2        received   10 bytes  'put c 3 3\n'",
            r"          store     put        2 points  'a 1.0 1\nc 3.0 3\n'",
            "          c1        answered   1 request, nothing left to read",
            r"          c1        queued     4 bytes  'ok\n\n'",
            "          c1        sent       4 bytes, all",
            "          c2        answered   1 request, nothing left to read",
            r"          c2        queued     4 bytes  'ok\n\n'",
            "          c2        sent       4 bytes, all",
        ]
        one.socket.sendall(b"put a 4 4\n")
        two.socket.sendall(b"put c 5 yesterday\n")
        traced.server.turn(SECONDS)
        assert two.read() == b"error\nwrong command\n\n"
        assert [line for line in traced.lines() if "put  " in line] == [
            r"          store     put        1 point  'a 4.0 4\n'"
        ]


def test_listening_and_talking() -> None:
    """A reply of one piece that the kernel does not take at once, then many pieces."""
    with Traced() as traced:
        with traced.client() as writer:
            key, points = "k" * 40, 1400
            for start in range(0, points, 200):
                times = range(start, start + 200)
                puts = b"".join(b"put %s 0.1%016d %d\n" % (key.encode(), t, t) for t in times)
                writer.socket.sendall(puts)
                traced.server.turn(SECONDS)
            with Conversation(traced.server.address, receive_buffer=4096) as reader:
                traced.server.turn(SECONDS)
                traced.lines()
                said = traced.told_of(reader, b"get %s\nget *\n" % key.encode())
                assert "c2        talking    until all is sent nothing is read" in said[-1]
                partial = re.search(r"sent +(\d+) of (\d+) bytes$", said[-2])
                assert partial
                assert 0 < int(partial.group(1)) < int(partial.group(2))
                assert (
                    "answered   1 request, more to do, 6 bytes left to read  'get *\\n'" in said[-4]
                )
                reader.socket.setblocking(False)
                while "listening" not in "".join(said):
                    try:
                        reader.socket.recv(1 << 20)
                    except BlockingIOError:
                        pass
                    traced.server.turn(0)
                    said += traced.lines()
                assert said[-1] == "          c2        listening  all is sent"
                assert any("answered   1 request, nothing left to read" in line for line in said)


def ended(traced: Traced) -> str:
    """The last line, which tells why the client was closed."""
    lines = traced.lines()
    while not lines or "closed" not in lines[-1]:
        lines = traced.turn()
    return lines[-1].strip()


def test_why_a_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    with Traced(idle_timeout=0.1) as traced, traced.client():
        assert ended(traced) == "c1        closed     idle"
    with Traced() as traced:
        traced.client().reset()
        assert ended(traced) == "c1        closed     Connection reset by peer"
        with traced.client() as browser:
            assert traced.told_of(browser, b"GET / HTTP/1.1\n")[-1].endswith("no more will be sent")
            assert browser.rest() == b"error\nwrong command\n\n"
        assert ended(traced) == "c2        closed     HTTP or TLS"
        with traced.client() as client:
            monkeypatch.setattr(Session, "receive", lambda *_: 1 // 0)
            client.socket.sendall(b"get k\n")
            assert ended(traced) == "c3        closed     a fault in the server: ZeroDivisionError"
        with traced.client():
            traced.server.close()
            assert traced.lines()[-2:] == [
                "          listener  closed",
                "          c4        closed     server ends",
            ]


def test_a_send_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: List[OSError] = [BlockingIOError(), ConnectionResetError(104, "gone")]

    def fail(*_: object) -> int:
        raise errors.pop(0)

    with Traced() as traced:
        monkeypatch.setattr("metricsd.loop.connection.write", fail)
        with socket.create_connection(traced.server.address) as client:
            traced.server.turn(SECONDS)
            client.sendall(b"get k\n")
            assert ended(traced) == "c1        closed     gone"


def test_an_interest_that_can_not_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "no room")

    with Traced() as traced, traced.client() as client:
        client.socket.sendall(b"".join(b"put k%d 1 1\n" % number for number in range(1000)))
        traced.turn()
        monkeypatch.setattr(EpollSelector, "modify", fail)
        client.socket.sendall(b"get *\n" * 10)
        assert ended(traced) == "c1        closed     no room"


def test_the_limit_of_connections() -> None:
    with Traced(max_connections=1) as traced, traced.client() as first:
        assert traced.lines()[-1] == "          listener  paused     new clients wait in the kernel"
        first.socket.close()
        assert traced.turn()[-2:] == [
            "          c1        closed     end of input",
            "          listener  listening  on ADDRESS",
        ]


def test_a_full_store_and_a_timer() -> None:
    with Traced(max_points=1, idle_timeout=1.0) as traced, traced.client() as client:
        said = traced.told_of(client, b"put a 1 99999999999\nput a 1 2\n")
        assert "          store     refused    store is full" in said
        assert traced.turn() == ["turn 3    loop      timer      <Task close_idle>"]


def test_an_arrival_that_goes_on() -> None:
    with Traced() as traced, traced.client() as client:
        data = b"put k 1 1\n" * 2000
        assert len(data) > 16384
        said = traced.told_of(client, data)
        assert "          c1        peeked     more waits in the kernel" in said


class Slow(Traced):
    """With a store that settles puts when the test says so."""

    def __init__(self) -> None:
        self.disk: Optional[Disk] = None
        super().__init__()

    def parts(self) -> Dict[str, Any]:
        parts = super().parts()
        around = parts["around_store"]

        def around_store(memory: Memory) -> Store:
            self.disk = Disk(memory, lambda callback: self.server._reactor.post(callback))
            self.disk.slow = True
            return cast(Store, around(self.disk))

        return dict(parts, around_store=around_store)

    def settle(self, refusal: Optional[StoreError] = None) -> List[str]:
        assert self.disk is not None
        self.disk.flush(refusal)
        return self.turn()


def test_a_put_that_is_settled_later() -> None:
    with Slow() as slow, slow.client() as one, slow.client() as two:
        slow.lines()
        assert slow.told_of(one, b"put k 1 1\nget k\n") == [
            "turn 3    loop      ready      c1 to read",
            r"          c1        received   16 bytes  'put k 1 1\nget k\n'",
            r"          store     put        1 point, not stored yet  'k 1.0 1\n'",
            "          loop      committed  1 point, once for all clients",
            "          c1        answered   no request yet, more to do, 6 bytes left to read  "
            r"'get k\n'",
            "          c1        waiting    for what becomes of its puts",
        ]
        assert slow.told_of(two, b"get k\n")[2:] == [
            "          store     found      nothing of  'k'",
            "          c2        answered   1 request, nothing left to read",
            r"          c2        queued     4 bytes  'ok\n\n'",
            "          c2        sent       4 bytes, all",
        ]
        assert slow.told_of(one, b"get m\n") == [
            "turn 5    loop      ready      c1 to read",
            "          c1        unwatched  what it sends waits in the kernel",
        ]
        assert slow.settle() == [
            "turn 6    loop      ready      waker",
            "          store     stored     1 point",
            "          c1        watched    again",
            "          store     found      1 point of  'k'",
            "          c1        answered   2 requests, nothing left to read",
            r"          c1        queued     16 bytes  'ok\n\nok\nk 1.0 1\n\n'",
            "          c1        sent       16 bytes, all",
        ]
        assert slow.turn()[:2] == [
            "turn 7    loop      ready      c1 to read",
            r"          c1        received   6 bytes  'get m\n'",
        ]


def test_puts_that_are_refused_later() -> None:
    with Slow() as slow, slow.client() as one, slow.client() as two:
        for client in (one, two):
            slow.told_of(client, b"get k\n")
        slow.rest()
        one.socket.sendall(b"put a 1 1\n")
        two.socket.sendall(b"put c 3 3\n")
        assert slow.turn() == [
            "turn 6    loop      ready      c1 to read, c2 to read",
            r"          c1        received   10 bytes  'put a 1 1\n'",
            r"          c2        received   10 bytes  'put c 3 3\n'",
            r"          store     put        2 points, not stored yet  'a 1.0 1\nc 3.0 3\n'",
            "          loop      committed  2 points, once for all clients",
            "          c1        answered   no request yet, nothing left to read",
            "          c1        waiting    for what becomes of its puts",
            "          c2        answered   no request yet, nothing left to read",
            "          c2        waiting    for what becomes of its puts",
        ]
        assert slow.settle(StoreError("the disk is full")) == [
            "turn 7    loop      ready      waker",
            "          store     refused    2 points: the disk is full",
            r"          c1        queued     24 bytes  'error\nthe disk is full\n\n'",
            "          c1        sent       24 bytes, all",
            r"          c2        queued     24 bytes  'error\nthe disk is full\n\n'",
            "          c2        sent       24 bytes, all",
        ]


def test_one_receipt_for_several_puts_and_one_that_is_refused_at_once() -> None:
    told: List[Step] = []
    around_store = observed(told.append)["around_store"]

    class Refusing(Memory):
        receipt = Receipt()

        def put_many(self, keys: List[str], *_: object) -> Tuple[int, Receipt]:
            return len(keys), self.receipt

    store = around_store(Refusing())
    store.put_many(["a"], [1.0], [1])
    store.put_many(["b", "c"], [2.0, 3.0], [2, 3])
    refusal = StoreError("the disk is full")
    Refusing.receipt.settle(refusal)
    store.put_many(["d"], [4.0], [4])
    points = tuple(map(Point, "abc", (1.0, 2.0, 3.0), (1, 2, 3)))
    assert told == [
        steps.Put(START, points[:1], stored=False),
        steps.Put(START, points[1:], stored=False),
        steps.Settled(START, 3, refusal),
        steps.Refused(START, refusal),
    ]


def test_the_rest_of_a_store_is_passed_on() -> None:
    memory = Memory(max_points=7)
    told: List[Step] = []
    store = observed(told.append)["around_store"](memory)
    store.put("k", 1.0, 1)
    assert store.room == memory.room == 6
    assert [key for key, _ in store.items()] == ["k"]
    for _ in store.drop_before(2):
        pass
    assert store.find("k") is None and store.room == 7
    store.close()
    assert [type(step) for step in told] == [steps.Put, steps.FoundAll, steps.Found]


def test_each_phase_of_a_turn_has_its_steps() -> None:
    told: List[Step] = []
    with Server("127.0.0.1", 0, parts=Parts(**observed(told.append))) as server:
        with Conversation(server.address) as client:
            for data in (b"get k\n", b"put k 1 1\n"):
                server.turn(SECONDS)
                client.socket.sendall(data)
            server.turn(SECONDS)
    phases = [(type(step).__name__, step.at.phase) for step in told if step.at.turn == 3]
    assert phases == [
        ("Ready", Phase.READ),
        ("Received", Phase.READ),
        ("Put", Phase.COMMIT),
        ("Answered", Phase.WRITE),
        ("Queued", Phase.WRITE),
        ("Sent", Phase.WRITE),
        ("NotListening", Phase.WAIT),
        ("Closed", Phase.WAIT),
    ]


def test_every_step_has_a_line_and_knows_its_moment() -> None:
    kinds = Step.__args__  # type: ignore[attr-defined]
    assert set(LINES) == set(kinds)
    assert all(kind._fields[0] == "at" for kind in kinds)


@pytest.mark.parametrize(
    "kind, additions",
    [
        (ObservedReactor, {"_call_later"}),
        (ObservedListener, set()),
        (ObservedConnection, {"_tell", "_tell_queued", "_tell_sent", "_cause"}),
        (ObservedSession, {"_tell"}),
        (ObservedWatch, {"_tell"}),
    ],
)
def test_what_observes_takes_the_place_of_something(kind: type, additions: Set[str]) -> None:
    """A method that is renamed in a plain part is not silently observed no more."""
    plain = kind.__mro__[1]
    methods = {name for name in vars(kind) if callable(getattr(kind, name))}
    assert {name for name in methods if not hasattr(plain, name)} == additions


@pytest.mark.parametrize(
    "ready, start, end", [(4, "c1 to read, ", " c4 to read"), (5, "5 so", "...")]
)
def test_many_ready_clients_are_counted(ready: int, start: str, end: str) -> None:
    with Traced() as traced, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(traced.client()) for _ in range(ready)]
        traced.lines()
        for client in clients:
            client.socket.sendall(b"get k\n")
        traced.server.turn(SECONDS)
        told = traced.lines()[0].split(maxsplit=4)[4]
        assert told.startswith(start) and told.endswith(end) and told.count(" to read") == 4


def test_no_line_is_longer_than_its_limit_nor_says_what_a_terminal_obeys() -> None:
    dice = random.Random(7)
    with Traced() as traced, traced.client() as client:
        hostile = [bytes(dice.randrange(256) for _ in range(3000)) + b"\n" for _ in range(20)]
        hostile += [b"put \x1b[2J%s 1 1\nget \x1b[2J\n" % (b"k" * 500), "put \u202e 1 1\n".encode()]
        said: List[str] = []
        for data in hostile:
            said += traced.told_of(client, data)
    assert max(map(len, said)) <= TRACE_COLUMNS
    assert all(line.isprintable() and ord(max(line)) < 128 for line in said)


def test_excerpts() -> None:
    room = EXCERPT_CHARACTERS - 2  # the quotes
    assert excerpt(b"") == "''"
    assert excerpt(b"k" * room) == "'" + "k" * room + "'"
    assert excerpt(b"k" * (room + 1)) == "'" + "k" * room + "'..."
    assert excerpt(b"\n" * room) == repr("\n" * (room // 2)) + "..."
    assert excerpt(b"k\xff" + b"\xff" * 99) == "'k" + "\\xff" * ((room - 1) // 4) + "'..."
    assert excerpt(b"it's") == '"it\'s"'
    long = trace_line(steps.Found(START, "k", 10**99), first_of_turn=False)
    assert len(long) == TRACE_COLUMNS and long.endswith("...")


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_stream_that_fails_costs_no_client_anything(error: Callable[[], Exception]) -> None:
    class Broken(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise error()

    stream = Broken()
    with Server("127.0.0.1", 0, parts=Parts(**observed(Trace(stream)))) as server:
        with Conversation(server.address) as client:
            client.socket.sendall(b"get k\n")
            server.turn(SECONDS)
            server.turn(SECONDS)
            assert client.read() == b"ok\n\n"
    assert stream.writes == 1


def test_a_stream_that_is_none_is_not_written_to() -> None:
    Trace(None)(steps.Stopping(START))


def test_off_means_the_plain_parts() -> None:
    """No stand-in is there, so there is nothing that could cost anything."""
    assert Parts(Reactor, Listener, Connection, Session, None) == PLAIN
    with Server("127.0.0.1", 0) as server, Conversation(server.address) as client:
        server.turn(SECONDS)
        client.socket.sendall(b"get k\n")
        server.turn(SECONDS)
        (connection,) = server._connections
        assert type(server._store) is Memory
        assert server._dispatcher.store is server._store
        assert type(server._reactor) is Reactor
        assert type(server._reactor.once_a_turn) is list
        assert type(server._reactor._selector) is type(make_selector())
        assert type(server._listeners["put"]) is Listener
        assert type(connection) is Connection
        assert type(connection._socket) is socket.socket
        assert type(connection.session) is Session
        assert type(connection._watch) is Watch
        assert connection._reactor is server._reactor


def test_an_observed_server_says_the_same() -> None:
    dice = random.Random(11)
    requests = [
        b"put a 1 1\n",
        b"put b 2 2\nput c 3 3\n",
        b"get a\n",
        b"get *\n",
        b"wrong\n",
        b"\n",
    ]
    script = b"".join(dice.choice(requests) for _ in range(500))
    cuts = sorted(dice.sample(range(1, len(script)), 80))
    pieces = [script[start:end] for start, end in zip([0, *cuts], [*cuts, len(script)])]
    said: List[bytes] = []
    for parts in (PLAIN, Parts(**observed(lambda step: None))):
        with Server("127.0.0.1", 0, parts=parts) as server, Conversation(server.address) as client:
            server.turn(SECONDS)
            for piece in pieces:
                client.socket.sendall(piece)
                server.turn(SECONDS)
            client.no_more()
            while server._connections:
                server.turn(SECONDS)
            said.append(client.rest())
    assert said[0] == said[1]
    assert said[0].count(b"\n\n") > 400


def test_a_failure_leaves_no_circle_behind() -> None:
    """Such would be left to the collector, which rarely comes."""
    gc.collect()
    with Traced() as traced:
        for _ in range(3):
            client = traced.client()
            (connection,) = map(weakref.ref, traced.server._connections)
            client.reset()
            assert ended(traced).endswith("Connection reset by peer")
            traced.rest()
            assert connection() is None


def test_the_command_line_traces_to_standard_error_beside_the_log() -> None:
    with subprocess.Popen(
        [*COMMAND, "--port", "0", "--trace", "--log-level", "info"],
        stderr=subprocess.PIPE,
        cwd=str(ROOT),
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        port = int(re.findall(r"^start +listener +listening +on 127\.0\.0\.1:(\d+)$", first)[0])
        assert "metricsd INFO: listening on" in process.stderr.readline().decode()
        with Conversation(("127.0.0.1", port)) as client:
            assert client.ask(b"get k\n") == b"ok\n\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        said = process.stderr.read().decode().splitlines()
    assert "          loop      stopping   what has arrived is answered" in said
    assert "          c1        closed     the server stops" in said
    assert said[-1].endswith("metricsd INFO: stopped")
    assert not any("Traceback" in line for line in said)


def test_without_the_option_nothing_is_traced() -> None:
    with started() as (process, port), Conversation(("127.0.0.1", port)) as client:
        assert client.ask(b"get k\n") == b"ok\n\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()
    assert said[-1].endswith("metricsd INFO: stopped")
    assert all(" metricsd INFO: " in line for line in said)
