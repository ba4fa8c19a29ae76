"""The window on the store, through real sockets."""

import base64
import hashlib
import http.client
import json
import re
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

from metricsd import Server
from metricsd.http.session import READING_SECONDS, REQUEST_SECONDS
from metricsd.store import Memory
from metricsd.upkeep import COUNTERS_PAUSE, store_counters
from tests.conftest import Clock, running

Answered = Tuple[int, "http.client.HTTPMessage", bytes]


@pytest.fixture(name="web")
def _web() -> Iterator[Server]:
    with running("127.0.0.1", 0, http=0, http_host="Metrics.example") as server:
        yield server


def address(server: Server) -> Tuple[str, int]:
    return server._listeners["http"].addresses[0][:2]  # type: ignore[no-any-return]


def ask(server: Server, path: str, method: str = "GET", **options: Any) -> Answered:
    with closing(http.client.HTTPConnection(*address(server), timeout=10)) as connection:
        connection.request(method, path, **options)
        reply = connection.getresponse()
        return reply.status, reply.headers, reply.read()


def test_health(web: Server) -> None:
    status, headers, body = ask(web, "/health")
    assert (status, body) == (200, b"ok\n")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers


def test_a_full_store_is_not_well() -> None:
    with running("127.0.0.1", 0, http=0, max_points=1) as server:
        assert ask(server, "/health")[0] == 200
        with socket.create_connection(server.address) as client:
            client.sendall(b"put a 1 1\n")
            assert client.recv(100) == b"ok\n\n"
        assert ask(server, "/health")[::2] == (503, b"store is full\n")


@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:1", 200), ("[::1]:80", 200), ("localhost", 200), ("LocalHost.:8080", 200),
        ("10.1.2.3", 200), ("metrics.example:80", 200), ("evil.example", 403), ("", 403),
        ("localhost.evil.example", 403), ("localhost@evil.example", 403), ("127.0.0.1.nip.io", 403),
        ("[::1", 403), ("localhost:80:80", 403), ("localhost:x", 403), ("a, localhost", 403),
    ],
)  # fmt: skip
def test_only_for_names_of_this_server(web: Server, host: str, status: int) -> None:
    assert ask(web, "/health", headers={"Host": host})[0] == status


def test_paths_and_methods(web: Server) -> None:
    assert ask(web, "/nothing")[0] == 404
    assert ask(web, "/health", "DELETE")[0] == 405
    assert ask(web, "/health", "DELETE")[1]["Allow"] == "GET, HEAD"
    assert ask(web, "/health", "HEAD")[::2] == (200, b"")
    assert ask(web, "/health", "OPTIONS")[0] == 501


def test_the_page_runs_its_own_script_and_no_other(web: Server) -> None:
    status, headers, body = ask(web, "/")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    for tag in ("script", "style"):
        (content,) = re.findall(b"<%b>(.*?)</%b>" % (tag.encode(), tag.encode()), body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not re.search(rb"""\son\w+=["']|\sstyle=["']|javascript:""", body)
    assert b"nc -w 1 127.0.0.1 %d" % web.address[1] in body


def test_a_connection_stays_open_and_requests_may_be_pipelined(web: Server) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection(address(web)) as client:
        for _ in range(2):
            client.sendall(request * 3)
            said = b""
            while said.count(b"ok\n") < 3:
                data = client.recv(10000)
                assert data
                said += data
        client.sendall(request + request[:20])
        client.shutdown(socket.SHUT_WR)
        said = b"".join(iter(lambda: client.recv(10000), b""))
        assert said.count(b"HTTP/1.1 200 OK") == 1


class Ahead:
    """A clock that goes by itself, and that the test puts forward."""

    seconds = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.seconds


def test_a_request_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metricsd.upkeep.OVERDUE_PAUSE", 0.05)
    clock = Ahead()
    with running("127.0.0.1", 0, http=0, clock=clock) as server, socket.create_connection(
        address(server)
    ) as client:
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\n")
        sessions: List[Any] = []
        while not any(session._framing.begun for session in sessions):  # its time runs from then on
            time.sleep(0.001)
            sessions = [one.session for one in list(server._connections)]
        clock.seconds = REQUEST_SECONDS
        assert client.recv(100) == b""


def test_counters_for_prometheus(web: Server) -> None:
    status, headers, body = ask(web, "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\nmetricsd_points 0\n" in body
    assert re.search(rb'\nmetricsd_connections_total\{endpoint="http"\} [1-9]', body)


@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool here")
def test_promtool_finds_nothing_to_say_about_these(quick_path: Path) -> None:
    with running("127.0.0.1", 0, http=0, graphite=0, store=f"sqlite:{quick_path}/p") as server:
        body = ask(server, "/metrics")[2]
    check = subprocess.Popen(["promtool", "check", "metrics"], stdin=-1, stdout=-1, stderr=-2)
    said = check.communicate(body, 50)[0]
    assert (check.returncode, said) == (0, b"")


def test_counters_are_stored_as_points() -> None:
    with running("127.0.0.1", 0, http=0, self_metrics=True) as server:
        deadline = time.monotonic() + 10
        keys: List[str] = []
        while not keys and time.monotonic() < deadline:
            keys = json.loads(ask(server, "/metrics/index.json")[2].decode())
        assert {"metricsd.points", "metricsd.connections_total.put"} <= set(keys)
        assert all(re.match(r"metricsd\.[a-z_]+(\.[a-z-]+)?$", key) for key in keys)


def test_counters_are_not_stored_where_there_is_no_room() -> None:
    clock = Clock()
    store = Memory(max_points=3)
    counters: Any = [
        ("metricsd_a", "gauge", "", [({}, 1.0)]),
        ("metricsd_b_total", "", "", [({}, 2)]),
    ]
    steps = store_counters(counters, store, lambda: clock.now)
    assert next(steps) == 0.0
    assert next(steps) == COUNTERS_PAUSE
    assert [key for key, _ in store.items()] == ["metricsd.a", "metricsd.b_total"]
    clock.now += 1
    next(steps)
    assert store.points == 2


def test_who_never_reads_takes_little_memory_and_has_his_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Twenty ask for much again and again, and read nothing; then somebody else is served."""
    monkeypatch.setattr("metricsd.upkeep.OVERDUE_PAUSE", 0.05)
    clock = Ahead()
    request = b"GET /metrics/index.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 400
    with running("127.0.0.1", 0, http=0, clock=clock) as server:
        for number in range(20000):
            server._store.put(f"key.{number}", 1.0, 1)
        with ExitStack() as ends:
            clients = []
            for _ in range(20):
                client = ends.enter_context(socket.create_connection(address(server)))
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.settimeout(10)
                client.sendall(request[:8000])
                clients.append(client)
            assert ask(server, "/health")[0] == 200
            sessions = [one.session for one in list(server._connections)]
            held = [len(getattr(one, "_said", b"")) for one in sessions]
            assert max(held) < 64 * 1024
            assert len(held) >= len(clients)
            deadline = time.monotonic() + 10
            while server._connections and time.monotonic() < deadline:
                clock.seconds += READING_SECONDS  # again: the kernel may still take some of it
                time.sleep(0.01)
            assert not server._connections
