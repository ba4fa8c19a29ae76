"""Graphite's lines over real sockets: what a server with --graphite stores, and never says."""

import contextlib
import socket
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from metricsd import ListenError, OptionError, Server
from tests.conftest import running
from tests.conversation import SECONDS, Conversation

Address = Tuple[str, int]


def graphite(server: Server) -> Address:
    host, port = server._listeners["graphite"].addresses[0][:2]
    return host, port


@pytest.fixture(name="fed")
def _fed() -> Iterator[Server]:
    with running(graphite=0, wall_clock=lambda: 1700000000.5) as server:
        yield server


def send(address: Address, data: bytes) -> None:
    """Send lines as statsd does, which closes at once."""
    with socket.create_connection(address, SECONDS) as sock:
        sock.sendall(data)


def send_datagrams(address: Address, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for datagram in datagrams:
            sock.sendto(datagram, address)


def wait_for(server: Server, key: str, points: int) -> str:
    """Ask until there are so many points; the rows."""
    deadline = time.monotonic() + SECONDS
    with Conversation(server.address) as talk:
        while True:
            reply = talk.ask(b"get %s\n" % key.encode()).decode()
            if reply.count("\n") - 2 >= points:
                return reply[3:-1]
            assert time.monotonic() < deadline, reply


def test_what_comes_over_tcp_can_be_got(fed: Server) -> None:
    send(graphite(fed), b"a.b 1 5\r\na.b 2 6.9\nbad\na.b nan 7\na.b 3")
    assert wait_for(fed, "a.b", 3) == "a.b 1.0 5\na.b 2.0 6\na.b 3.0 1700000000\n"


def test_lines_of_a_sender_who_has_reset_go_on_by_themselves() -> None:
    """Those that take long, as there are bad ones among them, and nobody else sends any."""
    with Server("127.0.0.1", 0, graphite=0) as server:
        with Conversation(graphite(server)) as sender:
            sender.socket.sendall(b"bad\n" * 1000 + b"a 1 5\n")
            intake = server.attachments.counters._parts["intake"]
            while not intake.unfinished:
                server.turn(SECONDS)
            sender.reset()
        while intake.unfinished:
            assert server._reactor._timers, "nobody would go on with them"
            server.turn(SECONDS)
        assert (intake.points, intake.bad_lines) == (1, 1000)


def test_what_comes_over_udp_can_be_got(fed: Server) -> None:
    """As Proxmox sends it: lines in datagrams, the last one with a line feed or without."""
    send_datagrams(graphite(fed), b"a.b 1 5\na.b 2 6\n", b"a.b 3", b"bad", b"a.c 1 1\n")
    assert wait_for(fed, "a.b", 3) == "a.b 1.0 5\na.b 2.0 6\na.b 3.0 1700000000\n"
    assert wait_for(fed, "a.c", 1) == "a.c 1.0 1\n"


def test_the_server_never_says_a_byte(fed: Server) -> None:
    with Conversation(graphite(fed)) as talk:
        talk.socket.sendall(b"bad line here for you\na 1 5\nget a\n\xff\n" + b"x" * 200000 + b"\n")
        wait_for(fed, "a", 1)
        talk.socket.sendall(b"b 1 5")
        talk.no_more()
        assert talk.rest() == b""
    assert wait_for(fed, "b", 1) == "b 1.0 5\n"


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\n\r\na 1 5\n", b"\x16\x03\x01\nb 1 5\n"])
def test_a_stranger_is_hung_up_on_without_a_word(fed: Server, start: bytes) -> None:
    with Conversation(graphite(fed)) as talk:
        talk.socket.sendall(start)
        assert talk.rest() == b""
    with Conversation(fed.address) as talk:
        assert talk.ask(b"get *\n") == b"ok\n\n"


def test_lines_and_puts_are_one_store(fed: Server) -> None:
    with Conversation(fed.address) as talk:
        assert talk.ask(b"put a 1 1\n") == b"ok\n\n"
        send(graphite(fed), b"a 2 2\n")
        wait_for(fed, "a", 2)
        assert talk.ask(b"put a 3 2\nget a\n", 2) == b"ok\n\nok\na 1.0 1\na 3.0 2\n\n"


@pytest.mark.parametrize("odd", [b"", b"bad\n"])
def test_much_at_once_is_stored_to_the_last_line(fed: Server, odd: bytes) -> None:
    lines = b"".join(b"key.%d 1 %d\n" % (n % 7, n) for n in range(1, 20001))
    send(graphite(fed), lines + odd + b"last 1 1")
    wait_for(fed, "last", 1)
    assert wait_for(fed, "key.1", 2858).count("\n") == 2858


Send = Callable[[Address, bytes], None]


@pytest.mark.parametrize("send_to", [send, send_datagrams])
@pytest.mark.parametrize("odd", [b"", b"bad\n"])
@pytest.mark.parametrize("points", [1, 3000])
def test_what_has_arrived_at_a_stop_is_stored(
    quick_path: Path, send_to: Send, odd: bytes, points: int
) -> None:
    store = f"sqlite:{quick_path}/points.db"
    lines = odd + b"".join(b"a 1 %d\n" % n for n in range(1, points + 1))
    with Server("127.0.0.1", 0, graphite=0, store=store) as server:
        send_to(graphite(server), lines)
        server.stop()
        server.serve_forever()
    with running("127.0.0.1", 0, store=store) as again:
        with Conversation(again.address) as talk:
            assert talk.ask(b"get a\n").count(b"\n") == points + 2


def test_a_stop_ends_no_line() -> None:
    """Its sender may have more of it under way: 15 may be the beginning of 1503319740."""
    with Server("127.0.0.1", 0, graphite=0) as server:
        with socket.create_connection(graphite(server), SECONDS) as sock:
            sock.sendall(b"a 1 5\na 2 15")
            while not list(server._store.items()):
                server.turn(SECONDS)
            server.stop()
            server.serve_forever()
        assert [(key, len(series)) for key, series in server._store.items()] == [("a", 1)]


def test_lines_are_as_safe_as_puts(quick_path: Path) -> None:
    store = f"sqlite:{quick_path}/points.db"
    with running(graphite=0, store=store) as server:
        send(graphite(server), b"".join(b"a 1 %d\n" % n for n in range(1, 5001)))
        wait_for(server, "a", 5000)


def test_lines_are_stored_before_the_store_does_its_work(quick_path: Path) -> None:
    """If not, they would lie there until something else happens."""
    with Server("127.0.0.1", 0, graphite=0, store=f"sqlite:{quick_path}/points.db") as server:
        works: List[Any] = list(server._reactor.once_a_turn)
        owners = [type(work.__self__).__name__ for work in works]
    assert owners.index("Intake") < owners.index("DurableStore")


def test_who_sends_no_datagrams_may_still_ask(fed: Server) -> None:
    """An idle connection beside a burst of datagrams, more than a turn reads."""
    with Conversation(fed.address) as talk:
        send_datagrams(graphite(fed), *[b"a 1 %d\n" % n for n in range(1, 201)])
        assert talk.ask(b"get b\n") == b"ok\n\n"
    wait_for(fed, "a", 200)


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        with pytest.raises(ListenError, match="choose another port"):
            Server("127.0.0.1", 0, graphite=other.getsockname()[1])


@pytest.mark.parametrize("value", ["x", "1:2:3", 70000, "", ":", None])
def test_what_the_option_takes(value: Any) -> None:
    with contextlib.ExitStack() as stack:
        if value is not None:
            stack.enter_context(pytest.raises(OptionError, match="graphite takes"))
        with Server("127.0.0.1", 0, graphite=value) as server:
            assert list(server._listeners) == ["put"]
