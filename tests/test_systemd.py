"""systemd: a datagram socket and a stand-in in its place, and its own socket activation."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

import pytest

from metricsd.systemd import InheritError, Supervisor, inherited
from tests.conversation import SECONDS, Conversation, free_port
from tests.test_command_line import COMMAND, ROOT, lines_until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="systemd is Linux's")

# Takes the place of systemd: hands on the descriptors that its arguments name, from 3 on.
STAND_IN = """
import os, sys
numbers = [int(text) for text in sys.argv[1].split()]
spare = [os.dup2(number, 100 + index) or 100 + index for index, number in enumerate(numbers)]
for index, number in enumerate(spare):
    os.dup2(number, 3 + index)
    os.close(number)
os.environ.update(
    LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES=sys.argv[2]
)
os.execv(sys.argv[3], sys.argv[3:])
"""


def listening(kind: int = socket.SOCK_STREAM, path: str = "") -> socket.socket:
    sock = socket.socket(socket.AF_UNIX if path else socket.AF_INET, kind)
    sock.bind(path or ("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        sock.listen(5)
    return sock


@contextlib.contextmanager
def handed_on(
    sockets: Sequence[Tuple[str, socket.socket]], *options: str, **environment: str
) -> Iterator["subprocess.Popen[bytes]"]:
    """A server that a stand-in for systemd has given these sockets, from descriptor 3 on."""
    numbers = [sock.fileno() for _, sock in sockets]
    names = ":".join(name for name, _ in sockets)
    stand_in = [sys.executable, "-c", STAND_IN, " ".join(map(str, numbers)), names]
    with subprocess.Popen(
        [*stand_in, *COMMAND, *options],
        cwd=str(ROOT),
        stderr=subprocess.PIPE,
        pass_fds=numbers,
        env=dict(os.environ, **environment),
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_sockets_replace_the_options_of_their_names(tmp_path: Path) -> None:
    taken = free_port()
    with contextlib.ExitStack() as stack:
        put, graphite, http = [stack.enter_context(listening()) for _ in range(3)]
        datagrams = stack.enter_context(listening(socket.SOCK_DGRAM))
        unix = stack.enter_context(listening(path=str(tmp_path / "unix")))
        sockets = [("metricsd.socket", put), ("graphite", graphite), ("graphite", datagrams),
                   ("http", http), ("unix", unix)]  # fmt: skip
        options = ["--port", str(taken), "--graphite", str(taken), "--http", str(taken)]
        process = stack.enter_context(handed_on(sockets, *options))
        lines_until(process, "points are in")
        with socket.create_connection(graphite.getsockname()) as sender:
            sender.sendall(b"a 1 5\n")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"b 1 5\n", datagrams.getsockname())
        with Conversation(put.getsockname()) as talk:
            deadline = time.monotonic() + SECONDS
            while talk.ask(b"get *\n").count(b"\n") < 4:
                assert time.monotonic() < deadline
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(unix.getsockname())
            client.sendall(b"get a\n")
            assert client.recv(100) == b"ok\na 1.0 5\n\n"
        with socket.create_connection(http.getsockname()) as client:
            client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", taken))


def test_a_restart_refuses_nobody() -> None:
    """Who connects while no server runs waits in the socket that systemd keeps open."""
    with listening() as put:
        with handed_on([("put", put)]) as process:
            lines_until(process, "points are in")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        with Conversation(put.getsockname()) as talk:
            talk.socket.sendall(b"get a\n")
            with handed_on([("put", put)]):
                assert talk.read() == b"ok\n\n"


@pytest.mark.parametrize(
    "name, kind, words",
    [
        ("web", socket.SOCK_STREAM, "a socket is handed on as web: call it put, graphite, http, "),
        ("put", socket.SOCK_DGRAM, "what is handed on as put is no socket that listens for it"),
    ],
)
def test_what_can_t_be_used_is_one_clear_line(name: str, kind: int, words: str) -> None:
    with listening(kind) as sock, handed_on([(name, sock)]) as process:
        assert process.stderr is not None
        said = process.stderr.read().decode()
        assert process.wait(10) == 1
        assert said.startswith("metricsd: " + words)
        assert said.count("\n") == 1


def test_sockets_for_another_process_are_left_alone() -> None:
    assert inherited({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, 2) == {}
    assert inherited({}, 2) == {}
    assert inherited({"LISTEN_PID": "2", "LISTEN_FDS": "many"}, 2) == {}


def test_what_is_no_socket_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    try:
        monkeypatch.setattr("metricsd.systemd.FIRST_DESCRIPTOR", read)
        with pytest.raises(InheritError, match="handed on as put is no socket"):
            inherited({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, 7)
    finally:
        os.close(read)
        os.close(write)


class Notified:
    """The socket of a supervisor: what it was told, a datagram a time."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(SECONDS)

    def __enter__(self) -> "Notified":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hear(self) -> Dict[str, str]:
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def hear_of(self, name: str) -> Dict[str, str]:
        while True:
            facts = self.hear()
            if name in facts:
                return facts


@pytest.mark.parametrize("abstract", [False, True])
def test_what_a_supervisor_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"@metricsd-{os.getpid()}" if abstract else str(tmp_path / "notify")
    told = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "100000"}
    with Notified(address) as supervisor, handed_on([], "--port", "0", **told) as process:
        loading = supervisor.hear()
        assert loading["STATUS"] == "loading memory"
        assert int(loading["EXTEND_TIMEOUT_USEC"]) > 0
        assert supervisor.hear() == {"READY": "1", "STATUS": "serving"}
        for _ in range(3):
            assert supervisor.hear() == {"WATCHDOG": "1"}
        process.send_signal(signal.SIGTERM)
        stopping = supervisor.hear_of("STOPPING")
        assert stopping["STATUS"].startswith("stopping")
        assert process.wait(10) == 0


def test_more_time_is_asked_for_as_long_as_a_store_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metricsd.systemd.EXTEND_EVERY", 0.01)
    address = str(tmp_path / "notify")
    given = {"NOTIFY_SOCKET": address}
    with Notified(address) as heard, contextlib.closing(Supervisor(given, 1)) as supervisor:
        with supervisor.loading("points.db"):
            for _ in range(3):
                assert heard.hear()["STATUS"] == "loading points.db"
        heard.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while heard.hear():
                pass
        with pytest.raises(BlockingIOError):  # nothing comes any more
            heard.hear()


def test_who_does_not_listen_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with contextlib.closing(Supervisor({"NOTIFY_SOCKET": "/nowhere"}, 1)) as supervisor:
        supervisor.tell("READY=1")
        supervisor.tell("WATCHDOG=1")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("systemd does not hear READY=1: ")
    with contextlib.closing(Supervisor({}, 1)) as supervisor:
        supervisor.tell("READY=1")
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    "environment, seconds",
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
    ],
)
def test_the_watchdog(environment: Dict[str, str], seconds: float) -> None:
    with contextlib.closing(Supervisor(environment, 7)) as supervisor:
        assert supervisor.watchdog_seconds == seconds
        pauses = supervisor.watchdog()
        assert next(pauses, None) == (None if seconds is None else seconds / 2)


ACTIVATE = shutil.which("systemd-socket-activate")


@pytest.mark.skipif(not ACTIVATE, reason="there is no systemd-socket-activate here")
def test_socket_activation_by_systemd_s_own_program() -> None:
    put, graphite = free_port(), free_port()
    assert ACTIVATE
    command = [ACTIVATE, "-l", f"127.0.0.1:{put}", "-l", f"127.0.0.1:{graphite}"]
    command += ["--fdname=put:graphite", *COMMAND]
    with subprocess.Popen(command, cwd=str(ROOT), stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            while b"Listening on" not in process.stderr.readline():
                pass
            deadline = time.monotonic() + SECONDS
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", graphite)) as sender:
                        sender.sendall(b"a 1 5\n")
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < deadline
            with Conversation(("127.0.0.1", put)) as talk:
                while talk.ask(b"get a\n") == b"ok\n\n":
                    assert time.monotonic() < deadline
                assert re.match(rb"ok\na 1\.0 5\n\n\Z", talk.ask(b"get a\n"))
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
