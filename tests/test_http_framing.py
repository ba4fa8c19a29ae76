"""HTTP, byte for byte, through the session alone; and heads beside h11, where it is installed."""

import random
import re
from typing import Any, Iterable, Iterator, List, Optional

import pytest

from metricsd.http import session as sessions
from metricsd.http.framing import MAX_BODY_BYTES, MAX_HEAD_BYTES, Framing
from metricsd.http.messages import HttpError, Reply, Request, Work, text
from metricsd.http.session import (
    KEEP_ALIVE_SECONDS,
    READING_SECONDS,
    REQUEST_SECONDS,
    ROOM_BYTES,
    TURN_SECONDS,
    HttpSession,
)
from metricsd.store import Answer, StoreError
from tests.conftest import Clock

GET = b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = b"POST /b?x=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"


REPLY = re.compile(rb"HTTP/1\.1 (?=[0-9]{3} )")


@pytest.fixture(autouse=True)
def _long_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in one go does not depend on how busy the machine is."""
    monkeypatch.setattr(sessions, "TURN_SECONDS", 60.0)


def echo(request: Request) -> Work:
    """Answers with what was asked, after a while."""
    yield b""
    return text(f"{request.method} {request.path} {request.query} {request.body.decode()}\n")


def new(answering: Any = echo, clock: Optional[Clock] = None) -> HttpSession:
    return HttpSession(answering, [("X-Always", "yes")], clock or Clock())


def everything(session: HttpSession, arrivals: Iterable[bytes]) -> bytes:
    said = b""
    for data in arrivals:
        session.receive(data)
        said += session.replies()
        while session.unfinished and not session.waiting:
            session.go_on()
            said += session.replies()
    return said


def statuses(said: bytes) -> List[int]:
    return [int(part[:3]) for part in REPLY.split(said)[1:]]


def bodies(said: bytes) -> List[bytes]:
    return [part.split(b"\r\n\r\n", 1)[1] for part in REPLY.split(said)[1:]]


def test_requests_are_answered_in_their_order_however_they_are_cut() -> None:
    data = GET + POST + GET
    whole = everything(new(), [data])
    assert bodies(whole) == [b"GET /a  \n", b"POST /b x=1 hello\n", b"GET /a  \n"]
    for size in (1, 2, 7, 50):
        cut = everything(new(), [data[at : at + size] for at in range(0, len(data), size)])
        assert bodies(cut) == bodies(whole)


def test_every_head_has_its_fields() -> None:
    said = everything(new(), [GET])
    for field in (b"X-Always: yes", b"Content-Length: 9", b"Date: ", b"Content-Type: text/plain"):
        assert b"\r\n" + field in said


def test_head_has_no_body() -> None:
    said = everything(new(), [GET.replace(b"GET", b"HEAD"), GET])
    assert b"Content-Length: 10\r\n" in said
    assert bodies(said)[0] == b""


@pytest.mark.parametrize(
    "head, status",
    [
        (b"GET  /a HTTP/1.1", 400), (b"\r\nGET /a HTTP/1.1", 400), (b"GET /a", 400),
        (b"GET /a HTTP/2.0", 505),
        (b"G\x00T /a HTTP/1.1", 400), (b"GET /\xff HTTP/1.1", 400), (b"PUT /a HTTP/1.1", 501),
        (b"get /a HTTP/1.1", 501), (b"GET a HTTP/1.1", 400), (b"GET http://x/ HTTP/1.1", 400),
        (b"GET /a HTTP/1.1\r\nX : 1", 400), (b"GET /a HTTP/1.1\r\nX: 1\r\n folded", 400),
        (b"GET /a HTTP/1.1\r\n X: 1", 400), (b"GET /a HTTP/1.1\r\nX", 400),
        (b"GET /a HTTP/1.1\r\nX: a\x00b", 400), (b"GET /a HTTP/1.1\r\nX: a\rb", 400),
        (b"GET /a HTTP/1.1\r\nX: a\nY: b", 400), (b"GET /a HTTP/1.1\r\n: x", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: +1", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: 1, 1", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: -1", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length: 0x1", 400),
        (b"GET /a HTTP/1.1\r\nContent-Length:", 400),
        (b"POST /a HTTP/1.1\r\nContent-Length: 65537", 413),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked", 501),
        (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1", 501),
        (b"GET /a HTTP/1.1\r\nHost: a", 400),
        (b"GET /a HTTP/1.1\r\n" + b"X: 1\r\n" * 200, 431),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_ends_the_connection(head: bytes, status: int) -> None:
    for size in (1, 10000):
        data = head.rstrip(b"\r\n") + b"\r\nHost: localhost\r\n\r\n"
        session = new()
        data += GET
        said = everything(session, [data[at : at + size] for at in range(0, len(data), size)])
        assert statuses(said) == [status]
        assert b"\r\nConnection: close\r\n" in said
        assert session.over


def test_a_request_of_http_1_1_names_its_host() -> None:
    assert statuses(everything(new(), [b"GET /a HTTP/1.1\r\n\r\n"])) == [400]
    assert statuses(everything(new(), [b"GET /a HTTP/1.0\r\n\r\n"])) == [200]


def test_an_endless_head_is_refused_and_takes_no_more_than_its_limit() -> None:
    session = new()
    said = everything(session, [b"GET /a HTTP/1.1\r\n"] + [b"X: " + b"y" * 996 + b"\r\n"] * 17)
    assert statuses(said) == [431]
    assert session.over
    fits = b"GET /" + b"a" * (MAX_HEAD_BYTES - 60) + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert statuses(everything(new(), [fits])) == [200]


def test_lines_that_end_otherwise_are_refused_at_once() -> None:
    assert statuses(everything(new(), [b"GET / HTTP/1.1\n"])) == [400]


def test_a_body_at_its_limit() -> None:
    head = b"POST /b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % MAX_BODY_BYTES
    assert statuses(everything(new(), [head, b"x" * MAX_BODY_BYTES])) == [200]


def test_who_waits_for_a_word_before_the_body_gets_one() -> None:
    session = new()
    head = POST[: -len(b"hello") - 2] + b"Expect: 100-continue\r\n\r\n"
    assert everything(session, [head]) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert bodies(everything(session, [b"hello"])) == [b"POST /b x=1 hello\n"]


class TestConnections:
    def test_it_stays_open(self) -> None:
        session = new()
        everything(session, [GET])
        assert not session.over
        assert session.idle

    @pytest.mark.parametrize(
        "request_", [GET[:-2] + b"Connection: x, Close\r\n\r\n", b"GET /a HTTP/1.0\r\n\r\n"]
    )
    def test_it_ends_when_that_is_asked_for(self, request_: bytes) -> None:
        session = new()
        said = everything(session, [request_ + GET])
        assert statuses(said) == [200]
        assert b"\r\nConnection: close\r\n" in said
        assert session.over

    def test_a_request_has_its_time(self) -> None:
        clock = Clock()
        session = new(clock=clock)
        assert session.deadline == clock.now + REQUEST_SECONDS
        clock.now += 5
        everything(session, [GET[:10]])
        assert session.deadline == clock.now + REQUEST_SECONDS
        clock.now += 9
        everything(session, [GET[10:20]])
        assert session.deadline == clock.now + 1
        everything(session, [GET[20:]])
        assert session.deadline == clock.now + KEEP_ALIVE_SECONDS

    def test_a_reply_may_take_its_time_as_long_as_it_is_read(self) -> None:
        def endless(request: Request) -> Work:
            yield b""
            return Reply(200, "text/plain", iter(lambda: b"x" * 1000, b""))

        clock = Clock()
        session = new(endless, clock)
        session.receive(GET)
        for _ in range(10):
            assert session.deadline == clock.now + READING_SECONDS
            clock.now += READING_SECONDS - 1
            session.replies()
            session.go_on()

    def test_what_is_forgotten_gives_back_what_it_holds_at_once(self) -> None:
        ends: List[int] = []

        def holding(request: Request) -> Work:
            try:
                yield b""
            finally:
                ends.append(1)
            return text("")

        session = new(holding)
        session.receive(GET)
        del session
        assert ends == [1]

    def test_at_the_end_of_input_what_is_not_whole_is_dropped(self) -> None:
        session = new()
        assert everything(session, [GET[:-1], b""]) == b""
        assert not session.unfinished


class TestStreams:
    @staticmethod
    def answering(request: Request) -> Work:
        yield b""
        return Reply(200, "text/plain", iter([b"a" * 10, b"", b"b" * 40000, b"c"]))

    def test_they_come_in_chunks(self) -> None:
        said = everything(new(self.answering), [GET])
        body = b"a\r\n" + b"a" * 10 + b"\r\n9c40\r\n" + b"b" * 40000 + b"\r\n1\r\nc\r\n0\r\n\r\n"
        assert bodies(said) == [body]

    def test_without_chunks_the_end_of_the_connection_is_their_end(self) -> None:
        session = new(self.answering)
        said = everything(session, [b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"])
        assert bodies(said) == [b"a" * 10 + b"b" * 40000 + b"c"]
        assert session.over

    def test_no_more_is_made_than_there_is_room_for(self) -> None:
        def endless(request: Request) -> Work:
            yield b""
            return Reply(200, "text/plain", iter(lambda: b"x" * 1000, b""))

        session = new(endless)
        session.receive(GET)
        for _ in range(100):
            session.go_on()
        assert len(session.replies()) < ROOM_BYTES + 1100

    def test_a_turn_ends_after_a_millisecond_of_small_pieces(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = [0.0]
        monkeypatch.setattr(sessions, "TURN_SECONDS", TURN_SECONDS)
        monkeypatch.setattr(sessions, "perf_counter", lambda: now[0])

        def slow() -> Iterator[bytes]:
            for _ in range(10):
                now[0] += 0.4 * TURN_SECONDS
                yield b"x"

        session = new(lambda request: iter_of(Reply(200, "text/plain", slow())))
        session.receive(GET)
        turns = 1
        while session.unfinished:
            before = now[0]
            session.go_on()
            assert now[0] - before < 1.5 * TURN_SECONDS
            turns += 1
        assert turns > 3
        assert bodies(session.replies())

    def test_pipelined_requests_are_begun_a_few_at_a_time(self) -> None:
        session = new(lambda request: iter_of(text("ok\n")))
        session.receive(GET * 20)
        assert len(statuses(session.replies())) < 6
        assert session.unfinished

    def test_a_store_that_answers_later(self) -> None:
        answer = Answer()

        def late(request: Request) -> Work:
            yield answer
            return text(answer.result)

        session = new(late)
        assert everything(session, [GET + GET]) == b""
        assert session.waiting
        called: List[int] = []
        session.when_answered(lambda: called.append(1))
        answer.give("there")
        assert called
        assert bodies(everything(session, [GET])) == [b"there"] * 3

    def test_a_store_that_does_not(self) -> None:
        def refused(request: Request) -> Work:
            raise StoreError("not reached")
            yield b""

        assert bodies(everything(new(refused), [GET])) == [b"not reached\n"]


def iter_of(reply: Reply) -> Work:
    return reply
    yield b""


PARTS = [
    b"GET", b"POST", b"GE T", b"\x00", b"/", b"/x", b"*", b" ", b"  ", b"\t", b"HTTP/1.1",
    b"HTTP/1.0", b"HTTP/1.", b"http/1.1", b"\r\n", b"\n", b"\r", b"Host: a", b"Host:a", b"Host : a",
    b"Content-Length: 3", b"Content-Length:3 ", b"content-length: 03", b"Content-Length: 3, 3",
    b"Content-Length: \xb2", b"Transfer-Encoding: chunked", b"X: y", b"X:", b":", b"\x0b", b"\x7f",
    b"\x85", b"\xff", b"X: \x85", b" folded", b"abc", b"Connection: close",
    b"X-\xe9: 1", b"X: a\x1fb",
]  # fmt: skip


def hostile_head(dice: random.Random) -> bytes:
    """A head that is right but for some places."""
    lines = [b"GET /x HTTP/1.1", b"Host: a", b"Content-Length: 3", b"X: y"]
    for _ in range(dice.randrange(4)):
        where = dice.randrange(len(lines))
        kind = dice.randrange(5)
        if kind == 0:
            lines.insert(where, dice.choice(PARTS))
        elif kind == 1:
            lines[where] = dice.choice(PARTS)
        elif kind == 2:
            at = dice.randrange(len(lines[where]) + 1)
            lines[where] = lines[where][:at] + dice.choice(PARTS) + lines[where][at:]
        elif kind == 3:
            at = dice.randrange(len(lines[where]) + 1)
            lines[where] = lines[where][:at] + bytes([dice.randrange(256)]) + lines[where][at:]
        else:
            lines[where] = b"".join(dice.choice(PARTS) for _ in range(4))
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize("seed", range(4))
def test_nothing_that_h11_refuses_is_accepted(seed: int) -> None:
    h11 = pytest.importorskip("h11")
    dice = random.Random(seed)
    accepted = 0
    for _ in range(1500):
        data = hostile_head(dice) + b"abc"
        framing = Framing()
        framing.feed(data)
        try:
            request = framing.take()
        except HttpError:
            continue
        if request is None:
            continue
        accepted += 1
        theirs = h11.Connection(h11.SERVER)
        theirs.receive_data(data)
        event = theirs.next_event()  # raises RemoteProtocolError for what it refuses
        assert event.method.decode() == request.method
        assert event.target.decode() == request.path
        body = theirs.next_event()
        assert request.body == (bytes(body.data) if isinstance(body, h11.Data) else b"")
    assert accepted > 100
