"""--trace: what the loop does, told line by line."""

import contextlib
import io
import random
import re
import selectors
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any, Callable, List
from unittest import mock

import pytest

from metricsd import Server
from metricsd.connection import Connection
from metricsd.observer import Step
from metricsd.reactor import Reactor
from metricsd.session import Session
from metricsd.store import Store
from metricsd.trace import EXCERPT_CHARACTERS, TRACE_COLUMNS, Trace, excerpt, trace_line
from tests.conftest import running
from tests.conversation import SECONDS, Conversation
from tests.test_command_line import COMMAND, ROOT, started


class Traced:
    """A server that the test takes turns with, and the lines that it has written."""

    def __init__(self, **limits: Any) -> None:
        self.stream = io.StringIO()
        self.server = Server("127.0.0.1", 0, tell=Trace(self.stream), **limits)

    def __enter__(self) -> "Traced":
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
            "          c1        answered   2 requests, nothing left to read",
            r"          c1        queued     8 bytes  'ok\n\nok\n\n'",
            r"          c2        received   11 bytes  'get nobody\n'",
            "          store     found      nothing of  'nobody'",
            "          c2        answered   1 request, nothing left to read",
            r"          c2        queued     4 bytes  'ok\n\n'",
            "          c1        sent       8 bytes, all",
            "          c2        sent       4 bytes, all",
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
        assert ended(traced) == "c2        closed     HTTP"
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

    class Failing(socket.socket):
        def send(self, *_: object) -> int:
            raise errors.pop(0)

    with Traced() as traced:
        monkeypatch.setattr(socket, "socket", Failing)  # what accept makes
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
        monkeypatch.setattr(selectors.DefaultSelector, "modify", fail)
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
        assert traced.turn() == ["turn 3    loop      timer      IdleSweep._begin"]


def test_an_arrival_that_goes_on() -> None:
    with Traced() as traced, traced.client() as client:
        data = b"put k 1 1\n" * 2000
        assert len(data) > 16384
        said = traced.told_of(client, data)
        assert "          c1        peeked     more waits in the kernel" in said


def test_a_commit_has_its_place(tmp_path: Path) -> None:
    steps: List[Step] = []
    with running(journal=str(tmp_path), tell=steps.append) as server:
        with Conversation(server.address) as client:
            client.ask(b"get k\nput k 1 1\n", 2)
            client.ask(b"get k\n")
            with mock.patch("os.fsync", side_effect=OSError(5, "Input/output error")):
                client.ask(b"put k 2 2\n")
    told = [step.what for step in steps if step.who in ("c1", "store") or step.what == "committed"]
    first = told.index("received")
    assert told[first : told.index("received", first + 1)] == [
        "received", "found", "answered", "queued", "put", "committed", "sent",
    ]  # fmt: skip
    assert told.count("committed") == 1
    assert told[told.index("corrected") - 1 :][:3] == ["queued", "corrected", "sent"]


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
    long = trace_line(Step(1, "loop", "ready", "c1 " * 99, b""), first_of_turn=False)
    assert len(long) == TRACE_COLUMNS and long.endswith("...")


@pytest.mark.parametrize("error", [BrokenPipeError, ValueError])
def test_a_stream_that_fails_costs_no_client_anything(error: Callable[[], Exception]) -> None:
    class Broken(io.StringIO):
        writes = 0

        def write(self, text: str) -> int:
            self.writes += 1
            raise error()

    stream = Broken()
    with Server("127.0.0.1", 0, tell=Trace(stream)) as server:
        with Conversation(server.address) as client:
            client.socket.sendall(b"get k\n")
            server.turn(SECONDS)
            server.turn(SECONDS)
            assert client.read() == b"ok\n\n"
    assert stream.writes == 1


def test_off_means_the_plain_parts() -> None:
    """No stand-in is there, so there is nothing that could cost anything."""
    with Server("127.0.0.1", 0) as server, Conversation(server.address) as client:
        server.turn(SECONDS)
        client.socket.sendall(b"get k\n")
        server.turn(SECONDS)
        (connection,) = server._connections
        assert type(server._store) is Store
        assert type(server._reactor) is Reactor
        assert type(server._reactor._selector) is selectors.DefaultSelector
        assert server._connect is Connection
        assert type(connection) is Connection
        assert type(connection._socket) is socket.socket
        assert type(connection._session) is Session
        assert connection._session._store is server._store
        assert connection._reactor is server._reactor


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
        (line,) = process.stderr.read().decode().splitlines()
    assert line.endswith("metricsd INFO: stopped")


def test_the_example_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    example = readme.split("## Watch it work")[1].split("```text\n")[1].split("```")[0]
    with Traced() as traced, traced.client() as client:
        traced.lines()
        said = traced.told_of(client, b"put cpu 12.5 1503319740\nget cpu")
    assert said == example.splitlines()
