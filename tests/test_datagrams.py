"""Datagrams: each one a conversation, bounded in a turn, the last ones at a stop."""

import contextlib
import socket
from typing import Callable, Iterator, List, Optional, Tuple

import pytest

from metricsd.loop import (
    Datagrams,
    Endpoint,
    ListenError,
    Reactor,
    close_socket,
    open_tcp,
    open_tcp_and_udp,
)
from tests.conversation import free_port


class Session:
    """Notes what it gets; what it does then, a test decides."""

    over = False
    idle = True
    quiet = False  # not known at once
    deadline = None

    def __init__(self, notes: List[bytes]) -> None:
        self.notes = notes
        self.steps = 0  # to do
        self.waiting = False
        self.callback: Callable[[], None] = lambda: None

    @property
    def unfinished(self) -> bool:
        return self.steps > 0

    def receive(self, data: bytes, more_waiting: bool) -> None:
        if data == b"fault":
            raise ZeroDivisionError
        self.notes.append(data)
        if data.startswith(b"steps"):
            self.steps = int(data[5:])
        self.waiting |= data.startswith(b"wait")

    def go_on(self) -> None:
        self.steps -= 1
        self.notes.append(b"step")
        if self.steps == 13:
            raise ZeroDivisionError

    def when_answered(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def replies(self) -> bytes:
        if self.notes[0] == b"late fault":
            raise ZeroDivisionError
        return b"nobody hears this"


class Bench:
    """Datagrams on a loop that a test turns, and a socket that sends to them."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.notes: List[bytes] = []
        self.sessions: List[Session] = []
        self.reactor = Reactor()
        stack.callback(self.reactor.close)
        streams, sockets = open_tcp_and_udp("127.0.0.1", 0)
        for one in streams + sockets:
            stack.callback(close_socket, one)
        endpoint = Endpoint("x", sockets, self.make, in_datagrams=True)
        self.datagrams = Datagrams(endpoint, self.reactor)
        stack.callback(self.datagrams.close)
        self.sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self.sender.connect(self.datagrams.addresses[0])

    def make(self) -> Session:
        self.sessions.append(Session(self.notes))
        return self.sessions[-1]

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.sender.send(datagram)

    def turns(self, count: int = 3) -> None:
        for _ in range(count):
            self.reactor.turn(0)

    def heard(self) -> List[bytes]:
        """Datagrams so far, without the ends of input; they are forgotten."""
        heard = [note for note in self.notes if note]
        self.notes.clear()
        return heard


@pytest.fixture(name="bench")
def _bench() -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        yield Bench(stack)


def test_each_datagram_is_a_conversation(bench: Bench) -> None:
    bench.send(b"one", b"two", b"")
    bench.turns()
    assert bench.notes == [b"one", b"", b"two", b""]
    assert len(bench.sessions) == 2
    assert bench.datagrams.received == 3


def test_so_many_are_read_in_a_turn(bench: Bench) -> None:
    bench.send(*[b"x"] * 150)
    bench.turns(1)
    assert bench.datagrams.received == 64
    bench.turns(2)
    assert bench.datagrams.received == 150


def test_so_many_bytes_are_read_in_a_turn(bench: Bench) -> None:
    bench.send(*[b"x" * 10000] * 6)
    bench.turns(1)
    assert (bench.datagrams.received, bench.datagrams.received_bytes) == (4, 40000)
    bench.turns(1)
    assert bench.datagrams.received == 6


def test_a_fault_costs_one_datagram(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.send(b"one", b"fault", b"steps15", b"two")
    bench.turns(6)
    assert [note for note in bench.heard() if note != b"step"] == [b"one", b"steps15", b"two"]
    assert caplog.text.count("a datagram was dropped by a fault in the server") == 2
    bench.send(b"three")
    bench.turns()
    assert bench.heard() == [b"three"]


def test_a_fault_that_shows_late_costs_one_datagram_as_well(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.send(b"late fault")
    bench.turns()
    assert caplog.text.count("a datagram was dropped by a fault in the server") == 1
    bench.notes.clear()
    bench.send(b"one")
    bench.turns()
    assert bench.heard() == [b"one"]


def test_what_is_left_is_done_a_step_a_turn_and_nothing_read_meanwhile(bench: Bench) -> None:
    bench.send(b"steps3", b"steps2")
    bench.turns(1)
    assert bench.heard() == [b"steps3", b"steps2"]
    bench.send(b"later")
    for _ in range(5):
        bench.turns(1)
        assert bench.heard() == [b"step"]
    bench.turns(1)
    assert bench.heard() == [b"later"]


def test_nothing_is_read_while_a_receipt_is_open(bench: Bench) -> None:
    bench.send(b"wait")
    bench.turns(1)
    bench.send(b"later")
    bench.datagrams.resume()  # as when a connection has gone
    bench.turns()
    assert bench.heard() == [b"wait"]
    bench.sessions[0].waiting = False
    bench.sessions[0].callback()
    bench.turns()
    assert [note for note in bench.heard() if note != b"step"] == [b"later"]


def test_the_last_datagrams_are_read_at_a_stop(bench: Bench) -> None:
    bench.send(b"steps2", *[b"x"] * 99)
    bench.datagrams.accept_waiting()
    bench.datagrams.close()
    bench.datagrams.close()
    assert bench.heard() == [b"steps2"] + [b"x"] * 99 + [b"step"] * 2
    bench.datagrams.resume()
    bench.turns()


def test_who_waits_at_a_stop_keeps_nobody(bench: Bench) -> None:
    bench.send(b"wait")
    bench.turns()
    bench.sessions[0].steps = 5
    bench.datagrams.close()
    bench.sessions[0].callback()
    bench.turns()
    assert bench.heard() == [b"wait"]


def test_what_can_not_be_watched_is_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    retry: List[Tuple[float, Callable[[], None]]] = []
    bench.send(b"wait")
    bench.turns()
    with monkeypatch.context() as patch:
        patch.setattr(bench.reactor, "watch", refuse)
        patch.setattr(bench.reactor, "call_later", lambda *later: retry.append(later))
        bench.sessions[0].waiting = False
        bench.sessions[0].callback()
        bench.turns()
    assert "datagrams wait: no space" in caplog.text
    ((_, resume),) = retry
    resume()
    bench.send(b"later")
    bench.turns()
    assert bench.heard()[-1] == b"later"


def refuse(*_: object) -> None:
    raise OSError("no space")


def test_streams_and_datagrams_share_a_port() -> None:
    streams, datagrams = open_tcp_and_udp("127.0.0.1", 0)
    try:
        assert [one.getsockname() for one in streams] == [one.getsockname() for one in datagrams]
        assert datagrams[0].getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= 128 * 1024
    finally:
        for one in streams + datagrams:
            one.close()


@pytest.mark.parametrize("free", [True, False])
def test_a_port_that_is_taken_for_datagrams(free: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Port 0 is another one then; any other is an error, and no socket is left open."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        port = free_port()
        other.bind(("127.0.0.1", port))
        if not free:
            with pytest.raises(ListenError, match="stop what listens there"):
                open_tcp_and_udp("127.0.0.1", port)
            for one in open_tcp("127.0.0.1", port):
                one.close()
            return
        given: List[Optional[int]] = [port, 0]
        plain = socket.socket.bind

        def bind(sock: socket.socket, address: Tuple[str, int]) -> None:
            if address[1] == 0:  # what the system gives first, the test decides
                address = (address[0], given.pop(0) or 0)
            plain(sock, address)

        monkeypatch.setattr(socket.socket, "bind", bind)
        streams, datagrams = open_tcp_and_udp("127.0.0.1", 0)
        assert given == []
        assert streams[0].getsockname() == datagrams[0].getsockname() != ("127.0.0.1", port)
        for one in streams + datagrams:
            one.close()
