"""The counters: what a real server tells of itself after known things have happened to it."""

import re
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Tuple
from urllib.request import urlopen

import pytest

from metricsd import Server
from metricsd.counters import COUNTER, GAUGE, ROWS, Counters, text_of
from tests.conftest import running
from tests.conversation import SECONDS, Conversation

Values = Dict[str, Any]


def values(server: Server) -> Values:
    """Each sample by the text in front of its value."""
    return {
        text_of(name, labels, 0).rsplit(" ", 1)[0]: value
        for name, _, _, samples in server.attachments.counters
        for labels, value in samples
    }


def value_of(server: Server, name: str, least: float) -> Any:
    """A value, as soon as it is large enough."""
    deadline = time.monotonic() + SECONDS
    while True:
        value = values(server).get(name, 0)
        if value >= least:
            return value
        assert time.monotonic() < deadline, f"{name} is {value}"
        time.sleep(0.001)


def test_requests_points_and_bytes(server: Server) -> None:
    requests = b"put a 1 1\nput b 1 1\nput a 2 2\nget a\nnonsense\nput a 3 2\n"
    with Conversation(server.address) as talk:
        replies = talk.ask(requests, 6)
        found = values(server)
    assert found['metricsd_requests_total{command="put"}'] == 4
    assert found['metricsd_requests_total{command="get"}'] == 1
    assert found['metricsd_requests_total{command="wrong"}'] == 1
    assert found['metricsd_points_put_total{endpoint="put"}'] == 4
    assert found["metricsd_points"] == 3
    assert found["metricsd_series"] == 2
    assert found['metricsd_received_bytes_total{endpoint="put"}'] == len(requests)
    assert found['metricsd_sent_bytes_total{endpoint="put"}'] == len(replies)
    assert "metricsd_points_limit" not in found  # there is none
    assert not any("file" in name or "commit" in name for name in found)  # of a store in memory


def test_connections() -> None:
    with running(max_connections=2) as server:
        with Conversation(server.address) as one, Conversation(server.address) as two:
            one.ask(b"get a\n")
            two.ask(b"get a\n")
            with Conversation(server.address) as third:
                pauses = (
                    'metricsd_accept_pauses_total{reason="the limit of connections is reached"}'
                )
                assert value_of(server, pauses, 1) == 1
                found = values(server)
                assert found["metricsd_connections"] == found["metricsd_connections_limit"] == 2
                assert found['metricsd_connections_total{endpoint="put"}'] == 2
                one.socket.close()
                third.ask(b"get a\n")
        with Conversation(server.address) as stranger:
            stranger.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
            stranger.rest()
        assert values(server)['metricsd_connections_refused_total{reason="stranger"}'] == 1
        assert values(server)['metricsd_connections_total{endpoint="put"}'] == 4


def test_what_is_refused_and_what_is_dropped_for_its_age(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metricsd.upkeep.SHORTEST_PAUSE", 0.05)
    now = 1000.0
    with running(
        max_points=2, retention=10, wall_clock=lambda: now, graphite=0
    ) as server, Conversation(server.address) as talk:
        talk.ask(b"put a 1 999\nput a 1 1000\nput a 1 998\n", 3)
        found = values(server)
        assert found["metricsd_points"] == found["metricsd_points_limit"] == 2
        assert found['metricsd_points_refused_total{reason="full"}'] == 1
        assert found['metricsd_points_put_total{endpoint="put"}'] == 3
        now = 1009.5
        assert value_of(server, "metricsd_points_dropped_total", 1) == 1
        assert values(server)["metricsd_points"] == 1


def test_lines_of_graphite() -> None:
    with running(graphite=0, max_points=2) as server:
        address = server._listeners["graphite"].addresses[0]
        lines = b"a 1 5\nbad\na nan 6\na 1 7\na 1 8\n"
        with socket.create_connection(address) as sock:
            sock.sendall(lines)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"a 2 5\n", address)
        assert value_of(server, 'metricsd_points_put_total{endpoint="graphite"}', 4) == 4
        found = values(server)
    assert found['metricsd_points_refused_total{reason="full"}'] == 1
    assert found['metricsd_lines_dropped_total{reason="bad"}'] == 1
    assert found['metricsd_lines_dropped_total{reason="not_finite"}'] == 1
    assert found['metricsd_received_bytes_total{endpoint="graphite"}'] == len(lines) + 6
    assert found['metricsd_connections_total{endpoint="graphite"}'] == 1
    assert found['metricsd_datagrams_total{endpoint="graphite-udp"}'] == 1


def test_a_file_and_its_commits(quick_path: Path) -> None:
    with running(store=f"sqlite:{quick_path}/points.db") as server:
        with Conversation(server.address) as talk:
            talk.ask(b"put a 1 1\n")
            found = values(server)
            assert found["metricsd_commits_total"] == 1
            assert 0 < found["metricsd_commit_seconds_total"] < SECONDS
            assert found["metricsd_store_file_bytes"] > 0
            assert found["metricsd_points"] == found["metricsd_series"] == 1
            server._store._database.write = failing  # type: ignore[attr-defined]
            assert talk.ask(b"put a 1 2\n") == b"error\nnot stored\n\n"
            found = values(server)
    assert found["metricsd_commit_failures_total"] == 1
    assert found['metricsd_points_refused_total{reason="failed"}'] == 1
    assert found['metricsd_points_refused_total{reason="full"}'] == 0


def failing(_: Any) -> None:
    raise OSError("no space left")


def test_the_loop() -> None:
    with Server("127.0.0.1", 0) as server:
        before = values(server)
        for _ in range(3):
            server.turn(0)
        after = values(server)
    assert after["metricsd_loop_turns_total"] == before["metricsd_loop_turns_total"] + 3
    assert after["metricsd_loop_busy_seconds_total"] > before["metricsd_loop_busy_seconds_total"]
    longest = after["metricsd_loop_longest_turn_seconds"]
    assert 0 < longest <= after["metricsd_loop_busy_seconds_total"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_as_prometheus_wants_it(row: Any) -> None:
    assert re.match(r"metricsd_[a-z_]+\Z", row.name)
    assert row.kind in (COUNTER, GAUGE)
    assert row.name.endswith("_total") == (row.kind == COUNTER)
    assert row.help.endswith(".")
    assert re.match(r"[a-z]*\Z", row.label)


def test_no_name_is_there_twice() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)


def test_what_is_not_there_says_nothing() -> None:
    assert list(Counters()) == []


@pytest.mark.parametrize(
    "sample, text",
    [
        (("a", {}, 7), "a 7"),
        (("a", {"b": "c", "d": "e"}, 0.5), 'a{b="c",d="e"} 0.5'),
        (("a", {"b": '"\\\n'}, 1), 'a{b="\\"\\\\\\n"} 1'),
    ],
)
def test_a_sample_as_text(sample: Tuple[str, Dict[str, str], float], text: str) -> None:
    assert text_of(*sample) == text


def test_they_are_served_over_http() -> None:
    with running(http=0) as server:
        host, port = server._listeners["http"].addresses[0]
        with urlopen(f"http://{host}:{port}/metrics", timeout=SECONDS) as reply:
            said = reply.read().decode()
    for row in ("metricsd_points 0", 'metricsd_connections_total{endpoint="http"} 1'):
        assert row in said.splitlines()


def test_handshakes() -> None:
    counters = Counters()
    counters.add(tls=SimpleNamespace(shaken=3, refused=2))
    said = {text_of(name, *samples[0]) for name, _, _, samples in counters}
    assert said == {
        "metricsd_tls_handshakes_total 3", 'metricsd_connections_refused_total{reason="tls"} 2',
    }  # fmt: skip
