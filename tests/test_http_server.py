"""The window on the store, through real sockets."""

import base64
import hashlib
import http.client
import re
import socket
from contextlib import closing
from typing import Any, Iterator, Tuple

import pytest

from metricsd import Server
from tests.conftest import running

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


def test_a_request_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metricsd.http.session.REQUEST_SECONDS", 0.2)
    monkeypatch.setattr("metricsd.upkeep.OVERDUE_PAUSE", 0.05)
    with running("127.0.0.1", 0, http=0) as server, socket.create_connection(
        address(server)
    ) as client:
        client.settimeout(10)
        client.sendall(b"GET / HTTP/1.1\r\n")
        assert client.recv(100) == b""
