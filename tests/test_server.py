"""The whole server over real sockets: what clients do to it, and what it does at its limits."""

import contextlib
import errno
import gc
import multiprocessing
import os
import random
import resource
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable

import pytest

import metricsd
from metricsd import Server, run_server
from metricsd import server as server_module
from metricsd.loop import Connection, delivery, endpoints, listener
from metricsd.loop.delivery import undelivered
from metricsd.protocol import Session
from metricsd.protocol.outcomes import REPLY_ROOM, STEP_ROOM
from tests.conftest import running
from tests.conversation import Conversation, connect, free_port
from tests.model import Model
from tests.script import lines, pieces
from tests.test_session import SEED_DIALOGUE

ROOT = Path(metricsd.__file__).parent.parent
Talk = Callable[..., Conversation]
OK = b"ok\n\n"
WRONG = b"error\nwrong command\n\n"


def test_seed_dialogue(talk: Talk) -> None:
    client = talk()
    for request, reply in SEED_DIALOGUE:
        assert client.ask(request) == reply


def test_seed_check_script(talk: Talk) -> None:
    """Every step of the course's own check, in the bytes that its client sends."""
    first, second = talk(), talk()
    assert first.ask(b"get wrong command test\n\n") == WRONG
    for client in (first, first, first, second):
        assert client.ask(b"get some_key\n") == OK
    for client, request in [
        (first, b"put k1 0.25 1\n"),
        (second, b"put k1 2.156 2\n"),
        (first, b"put k1 0.35 3\n"),
        (second, b"put k2 30 4\n"),
        (first, b"put k2 40 5\n"),
        (first, b"put k2 41 5\n"),
    ]:
        assert client.ask(request) == OK
    everything = b"ok\nk1 0.25 1\nk1 2.156 2\nk1 0.35 3\nk2 30.0 4\nk2 41.0 5\n\n"
    assert first.ask(b"get *\n") == everything
    assert second.ask(b"get k2\n") == b"ok\nk2 30.0 4\nk2 41.0 5\n\n"
    assert first.ask(b"get k3\n") == OK


def test_clients_share_one_store_and_nothing_else(talk: Talk) -> None:
    first, second = talk(), talk()
    first.socket.sendall(b"put a 1")
    assert second.ask(b"get *\n") == OK
    assert second.ask(b"\xff\n") == WRONG
    assert first.ask(b" 1\n") == OK
    assert second.ask(b"get *\n") == b"ok\na 1.0 1\n\n"


@pytest.mark.parametrize("longest", [3, 1000, 100000])
def test_mixed_script_in_pieces(talk: Talk, longest: int) -> None:
    dice = random.Random(longest)
    data = b"".join(line + b"\n" for line in lines(longest, 2000))
    client = talk()

    def send() -> None:
        for piece in pieces(data, dice, longest):
            client.socket.sendall(piece)

    sender = threading.Thread(target=send)
    sender.start()
    expected = Model().stream(data)
    assert client.read(expected.count(b"\n\n")) == expected
    sender.join()


def test_half_close_is_answered_then_closed(talk: Talk) -> None:
    client = talk()
    client.socket.sendall(b"put a 1 1\nget a\nput a 1 15")
    client.no_more()
    assert client.rest() == OK + b"ok\na 1.0 1\n\n"
    assert talk().ask(b"get a\n") == b"ok\na 1.0 1\n\n"


def test_half_close_with_a_reply_larger_than_every_buffer(talk: Talk) -> None:
    filler = talk()
    puts = b"".join(b"put k 0.25 %d\n" % timestamp for timestamp in range(100000))
    with contextlib.ExitStack() as stack:
        thread = threading.Thread(target=filler.socket.sendall, args=(puts,))
        stack.callback(thread.join)
        thread.start()
        assert filler.read(100000) == OK * 100000
    client = talk(receive_buffer=4096)
    client.socket.sendall(b"get k\n" * 3)
    client.no_more()
    rows = b"".join(b"k 0.25 %d\n" % timestamp for timestamp in range(100000))
    assert client.rest() == (b"ok\n" + rows + b"\n") * 3


def test_an_orderly_close_in_the_middle_of_a_line_stores_nothing(talk: Talk) -> None:
    client = talk()
    client.socket.sendall(b"put a 1 15")
    client.no_more()
    assert client.rest() == b""
    assert talk().ask(b"get *\n") == OK


def test_resets_at_every_stage_leave_the_others_alone(talk: Talk) -> None:
    witness = talk()
    for request in (b"", b"put a 1", b"get *\n", b"put a 1 1\n" * 5000, b"get a\n" * 5000):
        for _ in range(5):
            client = talk()
            client.socket.sendall(request)
            client.reset()
            assert witness.ask(b"get nobody\n") == OK


def test_a_client_that_does_not_read_is_slowed_down_and_the_others_are_not(talk: Talk) -> None:
    witness = talk()
    witness.ask(b"".join(b"put k 0.25 %d\n" % t for t in range(1000)), 1000)
    greedy = talk(receive_buffer=4096)
    greedy.socket.settimeout(0.3)
    sent = 0
    with contextlib.suppress(socket.timeout):
        while sent < 50 * 1024 * 1024:
            sent += greedy.socket.send(b"get k\n" * 1000)
    assert sent < 50 * 1024 * 1024  # the server has stopped reading
    assert witness.ask(b"get nobody\n") == OK
    greedy.socket.settimeout(10)
    reply = b"ok\n" + b"".join(b"k 0.25 %d\n" % t for t in range(1000)) + b"\n"
    assert greedy.read(20) == reply * 20


@pytest.mark.skipif(endpoints.NOTSENT_LOWAT is None, reason="not to be had on this system")
def test_a_client_that_does_not_read_leaves_little_in_the_kernel(
    server: Server, talk: Talk
) -> None:
    """The send buffer may grow to megabytes, but not for one that sleeps."""
    with talk() as other:
        for start in range(0, 200000, 1000):
            other.ask(b"".join(b"put k 0.5 %d\n" % (start + n) for n in range(1000)), 1000)
        sleeper = talk(receive_buffer=4096)
        assert sleeper.ask(b"get nobody\n") == OK  # so it has been accepted
        sleeper.socket.sendall(b"get k\n")
        (connection,) = [
            found
            for found in server._connections
            if found._address[1] == sleeper.socket.getsockname()[1]
        ]
        before = -1
        while before != undelivered(connection._socket) or not before:
            before = undelivered(connection._socket)
            time.sleep(0.1)
        assert before <= 512 * 1024


def test_blank_lines_that_fill_several_receives_are_one_arrival() -> None:
    """The bytes wait in the kernel before the server looks, so they are there together."""
    with Server("127.0.0.1", 0) as server:
        with Conversation(server.address) as first, Conversation(server.address) as second:
            first.socket.sendall(b"\n" * 16384 * 2)
            second.socket.sendall(b"\n" * 16384 + b"get k\n" + b"\n" * 16384)
            first.no_more()
            second.no_more()
            server.stop()
            server.serve_forever()
            assert first.rest() == WRONG
            assert second.rest() == OK


def test_a_browser_can_not_store_anything(server: Server, talk: Talk) -> None:
    url = "http://{}:{}/x".format(*server.address)
    body = b"put a 1 1\r\nput b 2 2\r\n" * 10000
    with pytest.raises(Exception):  # whatever urllib makes of a reply that is not HTTP
        urllib.request.urlopen(urllib.request.Request(url, body), timeout=5)
    assert talk().ask(b"get *\n") == OK


def test_an_http_request_is_told_so_and_then_the_connection_ends(talk: Talk) -> None:
    client = talk()
    client.socket.sendall(b"POST /x HTTP/1.1\r\n\r\n" + b"put a 1 1\r\n" * 100000)
    client.no_more()
    assert client.rest() == WRONG
    waiting = talk()
    waiting.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert waiting.rest() == WRONG


def test_a_stop_leaves_no_timer_of_a_connection_that_lingers() -> None:
    with Server("127.0.0.1", 0) as server, Conversation(server.address) as client:
        client.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while not server._connections:
            server.turn(10)
        server.turn(10)
        assert client.rest() == WRONG  # and it has not closed
        server.stop()
        server.serve_forever()
        assert not server._connections
        assert not any(timer.callback for _, _, timer in server._reactor._timers._heap)


def test_idle_burns_no_cpu(talk: Talk) -> None:
    """With clients in every state: new, in mid-line, answered, and not reading."""
    clients = [talk() for _ in range(4)]
    clients[1].socket.sendall(b"put a 1")
    clients[2].ask(b"".join(b"put a 1 %d\n" % t for t in range(2000)), 2000)
    clients[3].socket.settimeout(0.2)
    with contextlib.suppress(socket.timeout):
        while True:
            clients[3].socket.sendall(b"get a\n" * 1000)
    before = time.process_time()
    assert not threading.Event().wait(0.25)
    assert time.process_time() - before < 0.025


def test_many_clients_at_once(talk: Talk) -> None:
    clients = [talk() for _ in range(300)]
    for number, client in enumerate(clients):
        client.socket.sendall(b"put k%d 1 1\nget k%d\n" % (number, number))
    for number, client in enumerate(clients):
        assert client.read(2) == OK + b"ok\nk%d 1.0 1\n\n" % number


def test_partial_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets that take a few bytes at a time, or none at all, change nothing but the pace."""
    dice = random.Random(3)

    def reluctant(handle: int, said: bytes) -> int:
        if dice.random() < 0.3:
            raise BlockingIOError
        return os.write(handle, said[: dice.randint(1, 700)])

    data = b"".join(line + b"\n" for line in lines(3, 500))
    monkeypatch.setattr("metricsd.loop.connection.write", reluctant)
    with running() as server, Conversation(server.address) as client:
        expected = Model().stream(data)
        assert client.ask(data, expected.count(b"\n\n")) == expected


def answered(client: Conversation) -> bool:
    client.socket.settimeout(0)
    try:
        return bool(client.socket.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.socket.settimeout(10)


class TestLimits:
    def test_connections_wait_at_the_limit_without_a_spin(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with running(max_connections=2) as server, contextlib.ExitStack() as stack:
            first, second, third, fourth = (
                stack.enter_context(Conversation(server.address)) for _ in range(4)
            )
            assert first.ask(b"get k\n") == second.ask(b"get k\n") == OK
            third.socket.sendall(b"get k\n")
            fourth.socket.sendall(b"get k\n")
            third.socket.settimeout(0.15)
            before = time.process_time()
            with pytest.raises(socket.timeout):
                third.read()
            assert time.process_time() - before < 0.025
            assert first.ask(b"get k\n") == OK
            third.socket.settimeout(10)
            first.socket.close()
            assert third.read() == OK
            second.reset()
            assert fourth.read() == OK
        assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
            "new clients wait: the limit of connections is reached"
        ]

    def test_a_place_that_gets_free_goes_to_each_endpoint_in_turn(self) -> None:
        with running(max_connections=1, graphite=0) as server, contextlib.ExitStack() as stack:
            holder = stack.enter_context(Conversation(server.address))
            assert holder.ask(b"get k\n") == OK
            waiting = [stack.enter_context(Conversation(server.address)) for _ in range(4)]
            for one in waiting:
                one.socket.sendall(b"get k\n")
            other = server._listeners["graphite"].addresses[0][:2]
            with socket.create_connection(other) as sender:
                sender.sendall(b"k 1 1\n")
            holder.socket.close()
            replies = []
            for one in waiting:
                replies.append(one.read())
                one.socket.close()
            assert b"ok\nk 1.0 1\n\n" in replies[:3]

    def test_connections_wait_at_the_descriptor_limit_without_a_spin(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listener, "PAUSE_SECONDS", 0.05)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with running() as server, contextlib.ExitStack() as stack:
            first = stack.enter_context(Conversation(server.address))
            assert first.ask(b"get k\n") == OK
            second = stack.enter_context(Conversation(server.address))
            second_served = second.ask(b"get k\n")
            third = stack.enter_context(Conversation(server.address))
            third.ask(b"get k\n")
            waiting = socket.socket()
            stack.callback(waiting.close)
            taken = os.dup(waiting.fileno())
            os.close(taken)
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken, hard))  # not one more
            try:
                waiting.settimeout(0.2)
                waiting.connect(server.address)
                waiting.sendall(b"get k\n")
                before = time.process_time()
                with pytest.raises(socket.timeout):
                    waiting.recv(100)
                assert time.process_time() - before < 0.05
                assert first.ask(b"get k\n") == second_served == OK
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            waiting.settimeout(10)
            assert waiting.recv(100) == OK  # found out by looking again: nobody has left
        messages = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert len(messages) == 1
        assert "Too many open files" in messages[0]

    def test_idle_connections_are_closed_and_others_are_not(self) -> None:
        """With a clock that the test moves, in the test's own thread."""
        now = [0.0]
        with Server("127.0.0.1", 0, idle_timeout=10, clock=lambda: now[0]) as server:
            turn = server._reactor.turn
            with contextlib.ExitStack() as stack:
                idle, halfway, unread, busy = (
                    stack.enter_context(Conversation(server.address)) for _ in range(4)
                )
                idle.socket.sendall(b"put k 1 1\n")
                halfway.socket.sendall(b"get k\nget ")
                unread.socket.sendall(b"get k\n")
                busy.socket.sendall(b"get k\n")
                while not all(map(answered, (idle, halfway, unread, busy))):
                    turn(0.01)
                for connection in server._connections:
                    if connection._address == unread.socket.getsockname():
                        connection._outbox += b"not sent"
                for _ in range(9):
                    now[0] += 1.05
                    busy.socket.sendall(b"get k\n")
                    turn(1)
                assert len(server._connections) == 4
                now[0] += 2
                turn(0)
                assert len(server._connections) == 3
                assert idle.rest() == OK
                now[0] += 20
                turn(0)
                assert len(server._connections) == 2
                assert busy.rest().count(b"ok") == 10
                halfway.socket.sendall(b"k\n")
                turn(1)
                assert halfway.read(2) == b"ok\nk 1.0 1\n\n" * 2

    def test_a_client_who_has_asked_more_while_the_process_slept_is_not_idle(self) -> None:
        """It is not listened to just then: the replies to a full round have just been sent."""
        now = [0.0]
        full = REPLY_ROOM // STEP_ROOM - 1  # gets; to take them in is a step, too
        with Server("127.0.0.1", 0, idle_timeout=10, clock=lambda: now[0]) as server:
            turn = server._reactor.turn
            with Conversation(server.address) as client:
                turn(1)
                client.socket.sendall(b"get k\n" * full)
                turn(1)
                client.socket.sendall(b"get k\n")
                now[0] += 20
                turn(1)
                turn(0)
                assert client.read(full + 1) == OK * (full + 1)

    def test_a_client_who_has_ended_a_line_while_the_process_slept_is_not_idle(self) -> None:
        """The line was too long, and is answered already: so nothing more is said to it."""
        now = [0.0]
        with Server(
            "127.0.0.1", 0, idle_timeout=10, max_line_bytes=100, clock=lambda: now[0]
        ) as server, Conversation(server.address) as client:
            turn = server._reactor.turn
            turn(1)
            client.socket.sendall(b"x" * 200)
            turn(1)
            client.socket.sendall(b"x\n")
            now[0] += 20
            turn(1)
            client.socket.sendall(b"get k\n")
            turn(1)
            assert client.read(2) == b"error\nwrong command\n\n" + OK

    def test_many_idle_connections_are_closed_a_few_at_a_time(self) -> None:
        now = [0.0]
        with Server("127.0.0.1", 0, idle_timeout=10, clock=lambda: now[0]) as server:
            with contextlib.ExitStack() as stack:
                for _ in range(200):
                    stack.enter_context(Conversation(server.address))
                while len(server._connections) < 200:
                    server._reactor.turn(1)
                now[0] += 20
                left = []
                for _ in range(4):
                    server._reactor.turn()
                    left.append(len(server._connections))
                assert left == [136, 72, 8, 0]

    @pytest.mark.parametrize(
        "limits",
        [
            {"max_connections": 0},
            {"max_line_bytes": 0},
            {"idle_timeout": -1},
            {"idle_timeout": 0},
            {"max_points": 0},
            {"retention": 0},
            {"retention": float("inf")},
            {"retention": float("nan")},
        ],
    )
    def test_a_limit_that_is_none(self, limits: Any) -> None:
        with pytest.raises(ValueError):
            Server("127.0.0.1", 0, **limits)

    def test_a_tiny_idle_timeout_burns_no_cpu(self) -> None:
        with running(idle_timeout=1e-6):
            before = time.process_time()
            assert not threading.Event().wait(0.15)
            assert time.process_time() - before < 0.025

    def test_a_listener_that_can_not_be_watched_is_tried_again(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listener, "PAUSE_SECONDS", 0.05)
        with running(max_connections=1) as server:
            watch = server._reactor.watch
            failures = [OSError(errno.ENOSPC, "made by the test")] * 2

            def fail(sock: Any, events: int, callback: Any) -> Any:
                if failures and sock in server._listeners["put"]._sockets:
                    raise failures.pop()
                return watch(sock, events, callback)

            with Conversation(server.address) as first:
                assert first.ask(b"get k\n") == OK
                second = Conversation(server.address)
                second.socket.sendall(b"get k\n")
                monkeypatch.setattr(server._reactor, "watch", fail)
            with second:
                assert second.read() == OK
            assert not failures

    def test_a_line_limit_of_one_s_own(self) -> None:
        with running(max_line_bytes=5) as server, Conversation(server.address) as client:
            assert client.ask(b"get k\nget kk\nget k\n", 3) == OK + WRONG + OK


@pytest.mark.parametrize(
    "code", ["EPROTO", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "ECONNABORTED"]
)
def test_a_client_that_is_gone_before_it_is_accepted_holds_up_nobody(
    code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accept = socket.socket.accept
    failures = [OSError(getattr(errno, code), "made by the test")] * 3

    def fail(sock: socket.socket) -> Any:
        if failures:
            raise failures.pop()
        return accept(sock)

    with Server("127.0.0.1", 0) as server, Conversation(server.address) as client:
        monkeypatch.setattr(socket.socket, "accept", fail)
        client.socket.sendall(b"get k\n")
        server.turn(10)
        server.turn(10)
        assert client.read() == OK
    assert not failures
    assert not caplog.records


def test_one_port_for_all_addresses_of_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first address gets one that is taken on the second, and another is tried."""
    with socket.socket() as taken, contextlib.ExitStack() as stack:
        taken.bind(("127.0.0.2", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        found = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET, ("127.0.0.2", 0))]
        monkeypatch.setattr(endpoints, "_resolve", lambda *_: found)
        opened = endpoints._open_one
        first = [port]

        def open_one(family: int, address: Any) -> Any:
            if address == ("127.0.0.1", 0) and first:
                address = ("127.0.0.1", first.pop())
            return opened(family, address)

        monkeypatch.setattr(endpoints, "_open_one", open_one)
        sockets = [stack.enter_context(sock) for sock in endpoints.open_tcp("both", 0)]
        assert not first
        ports = {sock.getsockname()[1] for sock in sockets}
        assert len(sockets) == 2
        assert len(ports) == 1
        assert ports != {port}


class TestAddresses:
    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "", None])
    def test_kinds_of_hosts(self, host: str) -> None:
        with running(host, 0) as server:
            port = server.address[1]
            for address, number in server.addresses:
                assert number == port
                there = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
                with Conversation((there, port)) as client:
                    assert client.ask(b"get k\n") == OK

    def test_a_port_in_use(self, server: Server) -> None:
        with pytest.raises(OSError, match="Address already in use") as failure:
            Server(*server.address)
        assert failure.value.errno == errno.EADDRINUSE

    @pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 100, ".."])
    def test_an_unknown_host(self, host: str) -> None:
        with pytest.raises(OSError):
            Server(host, 0)

    @pytest.mark.parametrize("port", [-1, 65536, 10**10])
    def test_an_impossible_port(self, port: int) -> None:
        with pytest.raises(ValueError, match=f"^port takes .* 65535, not {port}$"):
            Server("127.0.0.1", port)


class TestStopping:
    def test_a_connection_that_is_closed_while_its_last_replies_are_under_way(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The timer of the next look must not outlive the socket."""
        monkeypatch.setattr(delivery, "undelivered", lambda sock: sock.fileno() >= 0)
        monkeypatch.setattr(delivery, "DELIVERY_CHECK_SECONDS", 0.0)
        with Server("127.0.0.1", 0) as server, Conversation(server.address) as client:
            client.socket.sendall(b"get k\n")
            while not server._connections:
                server.turn(10)
            server.turn(10)
            (one,) = server._connections
            one.end_input()
            server.turn(10)  # it has ended, and looks whether all has been delivered
            assert one._timer is not None
            one.close()
            server.turn(0)
            server.turn(0)
            assert not server._connections
            assert client.rest() == OK

    def test_what_has_arrived_is_answered(self) -> None:
        """Also from clients that have not been accepted yet."""
        with Server("127.0.0.1", 0) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Conversation(server.address)) for _ in range(200)]
            for client in clients:
                client.socket.sendall(b"put k 1 1\nget k\nget ")
            server.stop()
            server.serve_forever()
            for client in clients:
                assert client.rest() == OK + b"ok\nk 1.0 1\n\n"

    def test_a_client_that_has_left_without_its_last_replies_is_not_waited_for(self) -> None:
        """Its system resets the connection, and will never acknowledge them."""
        with Server("127.0.0.1", 0) as server:
            with Conversation(server.address) as client:
                client.socket.sendall(b"get k\n")
            server.stop()
            started = time.monotonic()
            server.serve_forever()
            assert time.monotonic() - started < server_module.STOP_SECONDS / 2

    def test_a_client_that_does_not_read_is_cut_off_in_time(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(server_module, "STOP_SECONDS", 0.3)
        with running() as server, Conversation(server.address, receive_buffer=4096) as client:
            client.ask(b"".join(b"put k 0.25 %d\n" % t for t in range(2000)), 2000)
            client.socket.settimeout(0.1)
            with contextlib.suppress(socket.timeout):
                while True:
                    client.socket.sendall(b"get k\n" * 100)
            started = time.monotonic()
            server.stop()
            server.close()
            assert time.monotonic() - started < 5
        assert "1 clients cut off while stopping" in caplog.text

    def test_a_client_that_sends_on_still_gets_its_replies(self) -> None:
        """Closing a socket with unread input resets it, and drops what is still to be delivered."""
        with Server("127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with Conversation(server.address, receive_buffer=4096) as client:
                puts = b"".join(b"put k 0.25 %d\n" % t for t in range(2000))
                sender = threading.Thread(target=client.socket.sendall, args=(puts,))
                sender.start()
                assert client.read(2000) == OK * 2000
                sender.join()
                client.socket.sendall(b"get k\n")
                start = client.socket.recv(1)
                server.stop()
                thread.join(0.3)  # a server that does not wait has gone by then
                client.socket.sendall(b"put z 1 1\n")
                assert (start + client.rest()).count(b"\n") == 2002
            thread.join(10)
            assert not thread.is_alive()

    def test_a_client_that_never_stops_sending_does_not_hold_the_end_up(self) -> None:
        with running() as server, Conversation(server.address) as client:
            ended = threading.Event()

            def send() -> None:
                with contextlib.suppress(OSError):
                    while not ended.is_set():
                        client.socket.sendall(b"put k 1 1\n")

            sender = threading.Thread(target=send)
            sender.start()
            client.read(100)
            server.stop()
            with contextlib.suppress(OSError):
                client.rest()
            started = time.monotonic()
            server.close()
            ended.set()
            sender.join()
            assert time.monotonic() - started < 3

    def test_it_ends_under_load(self) -> None:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(running())
            done = threading.Event()
            all_served = threading.Barrier(6)

            def ask_for_ever() -> None:
                with Conversation(server.address) as client:
                    client.ask(b"get k\n")
                    all_served.wait(10)
                    with contextlib.suppress(EOFError, OSError):
                        while not done.is_set():
                            assert client.ask(b"put k 1 1\n" * 10, 10) == OK * 10

            threads = [threading.Thread(target=ask_for_ever) for _ in range(5)]
            for thread in threads:
                thread.start()
                stack.callback(thread.join)
            stack.callback(done.set)
            all_served.wait(10)
            started = time.monotonic()
            server.stop()
            server.close()
            assert time.monotonic() - started < 5

    def test_leaving_the_context_stops_a_server_in_a_thread(self) -> None:
        with Server("127.0.0.1", 0) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            with Conversation(server.address) as client:
                assert client.ask(b"get k\n") == OK
        thread.join(10)
        assert not thread.is_alive()

    def test_stopping_twice_and_after_the_end(self) -> None:
        server = Server("127.0.0.1", 0)
        server.stop()
        server.serve_forever()
        server.stop()
        server.close()
        server.close()
        server.stop()


class TestRunServer:
    PROGRAM = "import sys, metricsd; metricsd.run_server('127.0.0.1', int(sys.argv[1]))"

    def test_a_signal_at_the_first_sign_of_life_ends_it_cleanly(self) -> None:
        def exit_code(_: int) -> int:
            command = [sys.executable, "-m", "metricsd", "--port", "0"]
            with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=str(ROOT)) as process:
                assert process.stderr is not None
                assert b"listening" in process.stderr.readline()
                process.send_signal(signal.SIGTERM)
                return process.wait(10)

        with ThreadPoolExecutor(2) as threads:
            assert list(threads.map(exit_code, range(10))) == [0] * 10

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signals_end_it_cleanly(self, number: int) -> None:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-X", "dev", "-W", "error", "-c", self.PROGRAM, str(port)],
            stderr=subprocess.PIPE,
        )
        with process, connect(port) as client:
            assert client.ask(b"put k 1 1\n") == OK
            client.socket.sendall(b"get k\n")
            process.send_signal(number)
            assert client.rest() == b"ok\nk 1.0 1\n\n"
            assert process.wait(10) == 0
            assert process.stderr is not None
            said = process.stderr.read().decode().splitlines()
        assert said[0] == f"metricsd INFO: listening on 127.0.0.1:{port}"
        assert said[-1] == "metricsd INFO: stopped"
        assert all(line.startswith("metricsd INFO: ") for line in said)

    def test_it_announces_itself_as_the_application_set_up_logging(self) -> None:
        program = "import logging; logging.basicConfig(level='ERROR'); " + self.PROGRAM
        port = free_port()
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(port)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        with process, connect(port) as client:
            assert client.ask(b"get k\n") == OK
            process.terminate()
            assert process.wait(10) == 0
            assert process.stderr is not None
            assert process.stderr.read() == b""

    def test_a_port_in_use_is_one_error_that_ends_in_one_clear_line(self, server: Server) -> None:
        command = [sys.executable, "-c", self.PROGRAM, str(server.address[1])]
        process = subprocess.run(command, stderr=subprocess.PIPE, timeout=20)
        said = process.stderr.decode()
        assert process.returncode == 1
        assert said.count("Traceback") == 1
        assert said.splitlines()[-1].endswith(
            f"ListenError: cannot listen on 127.0.0.1:{server.address[1]}: Address already in use; "
            "stop what listens there, or choose another port"
        )

    def test_a_second_signal_ends_it_at_once(self) -> None:
        port = free_port()
        process = subprocess.Popen([sys.executable, "-c", self.PROGRAM, str(port)])
        with process, connect(port) as client:
            client.ask(b"".join(b"put k 0.25 %d\n" % t for t in range(2000)), 2000)
            client.socket.settimeout(0.2)
            with contextlib.suppress(socket.timeout):
                while True:
                    client.socket.sendall(b"get k\n" * 100)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(ConnectionError):
                while True:  # until it has begun to stop, nobody having taken its replies
                    Conversation(("127.0.0.1", port)).socket.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(3) == -signal.SIGTERM

    def test_in_a_thread_that_is_not_the_main_one(self) -> None:
        port = free_port()
        threading.Thread(target=run_server, args=("127.0.0.1", port), daemon=True).start()
        with connect(port) as client:
            assert client.ask(b"get k\n") == OK

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_in_a_child_process(self, method: str) -> None:
        port = free_port()
        context: Any = multiprocessing.get_context(method)
        process = context.Process(target=run_server, args=("127.0.0.1", port))
        process.start()
        with connect(port) as client:
            assert client.ask(b"get k\n") == OK
        process.terminate()
        process.join(10)
        assert process.exitcode == 0

    def test_signal_handlers_are_as_before(self) -> None:
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

        def stop() -> None:
            while signal.getsignal(signal.SIGTERM) is before[1]:
                time.sleep(0.001)  # not yet: it would end the tests
            os.kill(os.getpid(), signal.SIGTERM)

        stopping = threading.Thread(target=stop, daemon=True)
        stopping.start()
        run_server("127.0.0.1", 0)
        stopping.join()
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        assert signal.set_wakeup_fd(-1) == -1


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with running() as server, contextlib.ExitStack() as stack:
            for _ in range(20):
                client = stack.enter_context(Conversation(server.address))
                client.ask(b"get k\n")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fault_of_ours_ends_one_connection_and_is_logged(
    talk: Talk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    witness = talk()
    assert witness.ask(b"get k\n") == OK
    victim = talk()

    def fault(*_: object) -> None:
        raise ZeroDivisionError("made by the test")

    with monkeypatch.context() as patch:
        patch.setattr("metricsd.protocol.commands.Dispatcher.run", fault)
        victim.socket.sendall(b"get k\n")
        assert victim.rest() == b""
    assert witness.ask(b"get k\n") == OK
    assert "made by the test" in caplog.text
    assert "Traceback" in caplog.text


def test_a_fault_of_ours_while_accepting_costs_one_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no session today")

    with running() as server:
        with monkeypatch.context() as patch:
            patch.setattr(Session, "__init__", broken)
            with Conversation(server.address) as client:
                assert client.rest() == b""
        with Conversation(server.address) as client:
            assert client.ask(b"get k\n") == OK
    assert "refused by a fault in the server" in caplog.text


def test_others_are_served_while_one_client_reads_a_lot(talk: Talk) -> None:
    """Turn by turn: between two pieces of a large reply everyone else has a turn."""
    witness = talk()
    reader = talk()
    reader.ask(b"".join(b"put k 0.25 %d\n" % t for t in range(50000)), 50000)
    reader.socket.sendall(b"get k\n" * 20)
    first = reader.socket.recv(1)
    assert first == b"o"
    served = 0
    size = 20 * (4 + sum(len(b"k 0.25 %d\n" % t) for t in range(50000)))
    received = len(first)
    with selectors.DefaultSelector() as selector:
        selector.register(reader.socket, selectors.EVENT_READ)
        while received < size:
            if selector.select(0):
                received += len(reader.socket.recv(65536))
            assert witness.ask(b"get nobody\n") == OK
            served += 1
    assert served > 100


def test_closed_connections_leave_no_circles() -> None:
    """The collector is kept from looking for them: see bound_garbage_collection."""

    def there() -> int:
        return sum(isinstance(found, (Connection, Session)) for found in gc.get_objects())

    gc.collect()
    before = there()
    gc.disable()
    try:
        with Server("127.0.0.1", 0) as server:
            for ending in (b"put k 1 1\n", b"get k\nget k", b"GET / HTTP/1.1\n", b"put k 1 2\nx\n"):
                for leave in ("close", "reset"):
                    client = Conversation(server.address)
                    client.socket.sendall(ending)
                    while not server._connections:
                        server.turn(10)
                    server.turn(10)
                    getattr(client if leave == "reset" else client.socket, leave)()
                    while server._connections:
                        server.turn(10)
            server.turn(0)
            assert there() == before
    finally:
        gc.enable()


def test_the_collector_does_not_stop_everybody() -> None:
    """With many objects that stay, no collection looks through them all."""
    program = """
import gc, time
from metricsd.loop import bound_garbage_collection
bound_garbage_collection()
seen = []
gc.callbacks.append(lambda phase, info: seen.append((phase, info["generation"])))
kept = [[] for _ in range(1000000)]
assert ("stop", 0) in seen or ("stop", 1) in seen
assert ("stop", 2) not in seen
"""
    subprocess.check_call([sys.executable, "-c", program], cwd=str(ROOT))
