"""What whoever runs a server is told, and what signals ask for."""

import logging
import signal
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from metricsd import Server
from metricsd.counters import ROWS, Counters
from metricsd.loop import Reactor, Task
from metricsd.loop.logs import LOG_SECONDS
from metricsd.options import checked
from metricsd.service import (
    LOOK_SECONDS,
    QUIET_SECONDS,
    REASONS,
    REFUSALS,
    tell_of_store,
    tell_refusals,
)
from tests.conftest import Clock, forget_log_lines, running
from tests.conversation import Conversation
from tests.test_command_line import COMMAND, lines_until, started


def told_of_store(caplog: pytest.LogCaptureFixture, server: Server) -> str:
    caplog.set_level(logging.INFO, "metricsd")
    server.attachments.announce([])
    return caplog.messages[-1]


def test_what_is_told_of_a_file(quick_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = f"sqlite:{quick_path}/points.db"
    with running(store=store) as server, Conversation(server.address) as talk:
        talk.ask(b"put a 1 1\nput a 1 2\n", 2)
    options: Any = {"fsync": "everysec", "max_points": 7, "retention": "36500d"}
    with Server("127.0.0.1", 0, store=store, **options) as server:
        assert told_of_store(caplog, server) == (
            f"points are in {quick_path}/points.db, synced within a second; 2 now, at most 7, "
            "dropped when older than 3153600000 s"
        )


def test_what_is_told_of_memory(caplog: pytest.LogCaptureFixture) -> None:
    with Server("127.0.0.1", 0) as server:
        assert told_of_store(caplog, server) == (
            "points are in memory, which a restart empties; 0 now, any number of them, "
            "kept for ever"
        )


@pytest.mark.parametrize("user", ["", "me:geheim@", ":geheim@"])
def test_what_is_told_of_a_cluster_is_no_password(
    user: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "metricsd")
    options = checked({"store": f"valkey://{user}10.0.0.1:7000,10.0.0.2:7000"})
    tell_of_store(options, None)
    assert caplog.messages[-1].startswith("points are in valkey://10.0.0.1:7000,10.0.0.2:7000; any")


def test_usr1_writes_the_counters_to_the_log() -> None:
    with started() as (process, port), Conversation(("127.0.0.1", port)) as talk:
        talk.ask(b"put a 1 1\n")
        process.send_signal(signal.SIGUSR1)
        said = lines_until(process, "metricsd_loop_longest_turn_seconds ")
        assert any(line.endswith(" metricsd_points 1") for line in said)
        assert any(line.endswith(' metricsd_requests_total{command="put"} 1') for line in said)
        assert talk.ask(b"get a\n") == b"ok\na 1.0 1\n\n"


def test_hup_does_not_end_it() -> None:
    with started() as (process, port), Conversation(("127.0.0.1", port)) as talk:
        process.send_signal(signal.SIGHUP)
        lines_until(process, "SIGHUP: 0 things are read anew")
        assert talk.ask(b"get a\n") == b"ok\n\n"


def test_under_nohup_hup_is_left_alone() -> None:
    command = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *COMMAND]
    with started(command=command) as (process, port), Conversation(("127.0.0.1", port)) as talk:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        said = lines_until(process, "metricsd_loop_longest_turn_seconds ")
        assert not any("SIGHUP" in line for line in said)
        assert talk.ask(b"get a\n") == b"ok\n\n"


def test_a_hook_that_fails_does_not_keep_others_from_being_called(
    caplog: pytest.LogCaptureFixture,
) -> None:
    called: List[str] = []

    def missing() -> None:
        raise FileNotFoundError(2, "there is no certificate", "server.pem")

    def faulty() -> None:
        raise KeyError("x")

    with Server("127.0.0.1", 0) as server:
        server.attachments.on_reload += [missing, faulty, lambda: called.append("last")]
        server.attachments.on_signals()["SIGHUP"]()
        assert not called  # in a signal's handler nothing is done but to wake the loop
        server.turn(0)
    assert called == ["last"]
    assert "server.pem" in caplog.text
    assert "by a fault in the server" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(number: int) -> None:
    with started() as (process, port), Conversation(("127.0.0.1", port)) as talk:
        talk.socket.sendall(b"put a 1 1\n")
        process.send_signal(number)
        lines_until(process, "stopped")
        assert process.wait(10) == 0
        assert talk.rest() == b"ok\n\n"


class Refusing:
    """A part that refuses."""

    refused = strangers = 0


def test_what_is_refused_is_told_once_a_minute_at_most(
    clock: Clock, reactor: Reactor, caplog: pytest.LogCaptureFixture
) -> None:
    part = Refusing()
    readers = {
        "metricsd_points_refused_total": lambda part: {"full": part.refused},
        "metricsd_connections_refused_total": lambda part: {"stranger": part.strangers},
    }
    counters = Counters(
        [row._replace(readers={"part": readers[row.name]}) for row in ROWS if row.name in readers]
    )
    counters.add(part=part)
    Task(reactor, tell_refusals(counters))

    def later(seconds: float) -> List[str]:
        caplog.clear()
        clock.now += seconds
        reactor.turn(0)
        return caplog.messages

    assert later(LOOK_SECONDS) == []
    part.refused = 2
    assert later(LOOK_SECONDS) == [
        "refused since this was last told: 2 points as the store is full"
    ]
    part.refused, part.strangers = 5, 1
    assert later(QUIET_SECONDS - 1) == []
    forget_log_lines()  # the log goes by another clock
    assert later(1) == [
        "refused since this was last told: 1 connections of clients that speak HTTP or TLS, "
        "3 points as the store is full"
    ]
    assert later(2 * QUIET_SECONDS) == []


def test_the_log_lets_through_what_is_told() -> None:
    assert QUIET_SECONDS > LOG_SECONDS


def test_a_full_store_is_told_of() -> None:
    program = "from metricsd import service; service.LOOK_SECONDS = 0.05; "
    program += "from metricsd.__main__ import main; main()"
    command = [sys.executable, "-c", program, "--max-points", "1", "--graphite", "0"]
    with started(command=command) as (process, port), Conversation(("127.0.0.1", port)) as talk:
        talk.ask(b"put a 1 1\nput a 1 2\nput a 1 3\n", 3)
        said = lines_until(process, "refused since")[-1]
    assert said.endswith("refused since this was last told: 2 points as the store is full")


def test_every_reason_has_its_words() -> None:
    reasons = {
        reason
        for row in ROWS
        if row.name in REFUSALS
        for reader in row.readers.values()
        for reason in reader(Everything())  # type: ignore[union-attr]
    }
    assert reasons == set(REASONS)
    assert set(REFUSALS) < {row.name for row in ROWS}


class Everything:
    def __getattr__(self, name: str) -> int:
        return 0


@pytest.mark.parametrize(
    "options, told",
    [
        ({}, "next: talk to it in another terminal: nc 127.0.0.1 {put}"),
        ({"http": 0}, "next: open http://127.0.0.1:{http} in a browser"),
    ],
)
def test_it_tells_the_next_step(
    options: Dict[str, Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "metricsd")
    with Server("127.0.0.1", 0, **options) as server:
        server.attachments.announce(server._listeners.values())
        ports = {name: one.addresses[0][1] for name, one in server._listeners.items()}
    assert told.format(**ports) in caplog.messages


def test_graphite_beyond_this_machine_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "metricsd")
    with Server("127.0.0.1", 0, graphite=":0") as server:
        server.attachments.announce(server._listeners.values())
        port = server._listeners["graphite"].addresses[0][1]
    said = [text for text in caplog.messages if text.startswith("listening for graphite on ")]
    assert said and f"0.0.0.0:{port}" in said[0]
    assert any(text.startswith("0.0.0.0 can be reached from other") for text in caplog.messages)
