"""The protocol, byte for byte, through the session alone: no socket, no thread, no clock."""

import random
from typing import Iterable, Optional, Tuple

import pytest

from metricsd.protocol.batch import put_block
from metricsd.protocol.commands import Dispatcher
from metricsd.protocol.outcomes import REPLY_ROOM, STEP_ROOM
from metricsd.protocol.session import Session
from metricsd.protocol.words import OK, WRONG_COMMAND, Outcome
from metricsd.store import Memory, Receipt, Store
from tests.model import Model
from tests.script import lines, pieces

SEED_DIALOGUE = [
    (b"get test_key\n", b"ok\n\n"),
    (b"got test_key\n", b"error\nwrong command\n\n"),
    (b"put test_key 12.0 1503319740\n", b"ok\n\n"),
    (b"put test_key 13.0 1503319739\n", b"ok\n\n"),
    (b"get test_key\n", b"ok\ntest_key 13.0 1503319739\ntest_key 12.0 1503319740\n\n"),
    (b"put another_key 10 1503319739\n", b"ok\n\n"),
    (
        b"get *\n",
        b"ok\ntest_key 13.0 1503319739\ntest_key 12.0 1503319740\nanother_key 10.0 1503319739\n\n",
    ),
]


def new(store: Optional[Store] = None, max_line_bytes: int = 64 * 1024) -> Session:
    """A session, by itself."""
    return Session(Dispatcher(Memory() if store is None else store), max_line_bytes)


def say(session: Session, data: bytes, more_waiting: bool = False) -> bytes:
    """The first replies that follow when the data arrives."""
    session.receive(data, more_waiting)
    return session.replies()


def more(session: Session) -> bytes:
    """Some more replies of a session that is unfinished."""
    session.go_on()
    return session.replies()


def answer(session: Session, data: bytes, more_waiting: bool = False) -> bytes:
    """All replies that follow when the data arrives."""
    said = [say(session, data, more_waiting)]
    while session.unfinished:
        said.append(more(session))
    return b"".join(said)


def answer_all(session: Session, arrivals: Iterable[bytes]) -> bytes:
    return b"".join(answer(session, data) for data in arrivals)


def one(data: bytes, max_line_bytes: int = 64 * 1024) -> bytes:
    return answer(new(None, max_line_bytes), data)


def test_seed_dialogue() -> None:
    session = new()
    for request, reply in SEED_DIALOGUE:
        assert answer(session, request) == reply


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_seed_dialogue_however_it_is_cut(size: int) -> None:
    requests = b"".join(request for request, _ in SEED_DIALOGUE)
    arrivals = [requests[i : i + size] for i in range(0, len(requests), size)]
    assert answer_all(new(), arrivals) == b"".join(reply for _, reply in SEED_DIALOGUE)


@pytest.mark.parametrize(
    "line",
    [
        b"GET k", b"Put k 1 1", b"putx k 1 1", b"getkey", b"get", b"get a b", b"put k 1",
        b"put k 1 1 1", b"put", b"put k one 1", b"put k 1,5 1", b"put k 0x10 1", b"put k 1 1.5",
        b"put k 1 0x10", b"put k 1 1e9", b"put k 1 9223372036854775808",
        b"put k 1 -9223372036854775809", b"put k 1 nan", b"put k \xff 1", b"get \xff", b"\xff",
        b"put k 1 " + b"9" * 5000, b"put k 1 " + b"0" * 5000, b"\x00", b"get\x00k",
    ],
)  # fmt: skip
def test_wrong_commands_change_nothing(line: bytes) -> None:
    session = new()
    assert answer(session, b"put k 1 1\n") == OK
    assert answer(session, line + b"\n") == WRONG_COMMAND
    assert answer(session, b"get *\n") == b"ok\nk 1.0 1\n\n"


@pytest.mark.parametrize(
    "line, row",
    [
        (b"put k 10 1", b"k 10.0 1"),
        (b"put k 1e100 1", b"k 1e+100 1"),
        (b"put k nan 1", b"k nan 1"),
        (b"put k -inf 1", b"k -inf 1"),
        (b"put k Infinity 1", b"k inf 1"),
        (b"put k -0 1", b"k -0.0 1"),
        (b"put k 1_000 1", b"k 1000.0 1"),
        (b"put k 1e-400 1", b"k 0.0 1"),
        (b"put k 1 -5", b"k 1.0 -5"),
        (b"put k 1 +5", b"k 1.0 5"),
        (b"put k 1 007", b"k 1.0 7"),
        (b"put k 1 1_000", b"k 1.0 1000"),
        (b"put k 1 9223372036854775807", b"k 1.0 9223372036854775807"),
        (b"put k 1 -9223372036854775808", b"k 1.0 -9223372036854775808"),
        (b"put * 1 1", b"* 1.0 1"),
        (b"put put 1 1", b"put 1.0 1"),
        (b"put %s 1 1", b"%s 1.0 1"),
        (b"put k 1 1\r", b"k 1.0 1"),
        (b"  put\t k  1\x0b1 ", b"k 1.0 1"),
        ("put\u2028ключ\u00a01\u30001\x85".encode(), "ключ 1.0 1".encode()),
        ("put k ١٢ ٣".encode(), b"k 12.0 3"),
    ],
)
def test_well_formed_puts(line: bytes, row: bytes) -> None:
    for block in (line + b"\n", line + b"\n" + line + b"\n"):  # alone, and in a batch
        session = new()
        assert answer(session, block) == OK * block.count(b"\n")
        assert answer(session, b"get *\n") == b"ok\n" + row + b"\n\n"


def test_rows_are_sorted_and_the_last_put_of_a_timestamp_wins() -> None:
    session = new()
    answer(session, b"put b 1 3\nput a 1 2\nput b 2 1\nput b 3 2\nput b 4 3\n")
    assert answer(session, b"get b\n") == b"ok\nb 2.0 1\nb 3.0 2\nb 4.0 3\n\n"
    assert answer(session, b"get *\n") == b"ok\nb 2.0 1\nb 3.0 2\nb 4.0 3\na 1.0 2\n\n"


def test_get_of_the_key_star_is_get_of_every_key() -> None:
    session = new()
    answer(session, b"put a 1 1\nput * 2 2\n")
    assert answer(session, b"get *\n") == b"ok\na 1.0 1\n* 2.0 2\n\n"


@pytest.mark.parametrize("seed", range(3))
def test_mixed_script_whole_and_in_pieces(seed: int) -> None:
    data = b"".join(line + b"\n" for line in lines(seed, 600))
    expected = Model().stream(data)
    dice = random.Random(seed)
    assert one(data) == expected
    assert answer_all(new(), [data[i : i + 1] for i in range(len(data))]) == expected
    for longest in (5, 50, 5000):
        assert answer_all(new(), pieces(data, dice, longest)) == expected


@pytest.mark.parametrize("limit", [1, 9, 10, 60, 400])
def test_mixed_script_with_a_line_limit(limit: int) -> None:
    data = b"".join(line + b"\n" for line in lines(limit, 600))
    expected = Model(limit).stream(data)
    dice = random.Random(limit)
    assert one(data, limit) == expected
    for longest in (1, 30, 3000):
        assert answer_all(new(None, limit), pieces(data, dice, longest)) == expected


class TestBlankLines:
    @pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\n\n\n", b" \t\n", "\u2028\n".encode()])
    def test_an_arrival_of_nothing_else_is_one_error(self, blank: bytes) -> None:
        session = new()
        assert answer(session, blank) == WRONG_COMMAND
        assert answer(session, blank) == WRONG_COMMAND
        assert answer(session, b"get k\n") == b"ok\n\n"

    @pytest.mark.parametrize(
        "arrival",
        [
            b"get wrong command\n\n", b"\nx\n", b"\n\n\nx\n\n\n", b"\r\n\xff\n", b"\n  \nput\n",
        ],
    )  # fmt: skip
    def test_beside_a_request_they_are_nothing(self, arrival: bytes) -> None:
        assert one(arrival) == WRONG_COMMAND

    def test_beside_puts_they_are_nothing(self) -> None:
        assert one(b"\nput a 1 1\n\nput a 1 2\n\n") == OK * 2

    def test_beside_the_start_of_a_request_they_are_nothing(self) -> None:
        assert answer_all(new(), [b"\n\nge", b"t k\n"]) == b"ok\n\n"

    def test_after_the_end_of_a_request_they_are_nothing(self) -> None:
        assert answer_all(new(), [b"get k", b"\n\n\n"]) == b"ok\n\n"

    def test_after_the_end_of_a_long_line_they_are_nothing(self) -> None:
        session = new(None, 10)
        assert answer_all(session, [b"x" * 20, b"x" * 20, b"\n\n\n"]) == WRONG_COMMAND

    @pytest.mark.parametrize("space", [" ", "\x1c", "\u3000"])
    def test_any_white_space_is_blank(self, space: str) -> None:
        session = new()
        assert answer(session, b"\n" + space.encode()) == WRONG_COMMAND
        assert answer(session, b"\n") == WRONG_COMMAND

    def test_white_space_waits_for_its_line_feed(self) -> None:
        session = new()
        assert answer(session, b"  ") == b""
        assert answer(session, b"\n") == WRONG_COMMAND

    def test_receives_of_one_arrival_count_together(self) -> None:
        session = new()
        assert answer(session, b"\n" * 100, more_waiting=True) == b""
        assert answer(session, b"get k\n\n", more_waiting=True) == b"ok\n\n"
        assert answer(session, b"\n" * 100) == b""
        assert answer(session, b"\n" * 100, more_waiting=True) == b""
        assert answer(session, b"\n" * 100) == WRONG_COMMAND

    def test_more_that_was_waiting_turns_out_to_be_the_end_of_input(self) -> None:
        session = new()
        assert answer(session, b"\n", more_waiting=True) == b""
        assert answer(session, b"") == WRONG_COMMAND


class TestLongLines:
    @pytest.mark.parametrize("arrival_bytes", [1, 7, 16384, 10**6])
    def test_at_the_limit_and_beyond(self, arrival_bytes: int) -> None:
        limit = 3000
        fits = b"put k" + b" " * (limit - 8) + b"1 1"
        assert len(fits) == limit
        data = fits + b"\n" + fits + b" \n" + b"x" * 5 * limit + b"\nget k\n"
        session = new(None, limit)
        arrivals = [data[i : i + arrival_bytes] for i in range(0, len(data), arrival_bytes)]
        assert answer_all(session, arrivals) == OK + 2 * WRONG_COMMAND + b"ok\nk 1.0 1\n\n"

    def test_the_default_limit_is_64_kibibytes(self) -> None:
        key = b"k" * (65536 - len("get "))
        assert one(b"get " + key + b"\n") == b"ok\n\n"
        assert one(b"get " + key + b"k\n") == WRONG_COMMAND

    def test_the_error_comes_at_once_and_once(self) -> None:
        session = new(None, 10)
        assert answer(session, b"x" * 10) == b""
        assert answer(session, b"x") == WRONG_COMMAND
        assert answer_all(session, [b"x" * 100] * 100) == b""
        assert answer(session, b"put a 1 1\nget k\n") == b"ok\n\n"

    def test_the_end_of_a_long_line_is_not_run(self) -> None:
        session = new(None, 10)
        assert answer_all(session, [b"x" * 20, b"\nput a 1 1\n"]) == WRONG_COMMAND + OK


class TestHttp:
    REQUEST = b"POST /x HTTP/1.1\r\nHost: 127.0.0.1:8888\r\n\r\nput a 1 1\nput b 2 2\n"

    @pytest.mark.parametrize("size", [1, 10, 1000])
    def test_as_the_first_line_it_ends_the_session_and_nothing_is_stored(self, size: int) -> None:
        store = Memory()
        session = new(store)
        arrivals = [self.REQUEST[i : i + size] for i in range(0, len(self.REQUEST), size)]
        assert answer_all(session, arrivals) == WRONG_COMMAND
        assert session.over
        assert answer(new(store), b"get *\n") == b"ok\n\n"

    @pytest.mark.parametrize(
        "line",
        [
            b"GET / HTTP/1.0\r\n",
            b"PATCH /a?b HTTP/1.1\n",
            b"PUT /x HTTP/1.1\n",
            b"OPTIONS * HTTP/1.1\n",
        ],
    )
    def test_any_method(self, line: bytes) -> None:
        session = new()
        assert answer(session, line + b"put a 1 1\n") == WRONG_COMMAND
        assert session.over

    def test_a_path_over_the_line_limit_hides_nothing(self) -> None:
        store = Memory()
        session = new(store)
        request = self.REQUEST.replace(b"/x", b"/" + b"x" * 100000)
        assert answer(session, request) == WRONG_COMMAND
        assert session.over
        assert answer(new(store), b"get *\n") == b"ok\n\n"

    @pytest.mark.parametrize("before", [b"get k\n", b"x\n", b"put k 1 1\n", b"\n"])
    def test_later_it_is_an_error_like_any_other(self, before: bytes) -> None:
        session = new()
        answer(session, before)
        assert answer(session, b"POST /x HTTP/1.1\r\nput a 1 1\n") == WRONG_COMMAND + OK
        assert not session.over

    @pytest.mark.parametrize(
        "line",
        [
            b"# /var/log/x " + b"y" * 70000, b"PUTS / HTTP/1.1", b"get / HTTP/1.1", b"PUT /x",
            b"# / HTTP/1.1", b"x", b"put /x", b"x" * 100000, b"put /" + b"x" * 100000,
            b"put x HTTP/1",
            b"get * HTTP/1", b"HTTP/1.1 200 OK", b"POST HTTP/1.1",
        ],
    )  # fmt: skip
    def test_other_first_lines_do_not_end_it(self, line: bytes) -> None:
        session = new()
        assert answer(session, line + b"\nget k\n") == WRONG_COMMAND + b"ok\n\n"
        assert not session.over


class TestTls:
    HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\nput a 1 1\n" * 20

    @pytest.mark.parametrize("size", [1, 2, 3, 10, 1000])
    def test_a_handshake_at_the_very_beginning_ends_the_session(self, size: int) -> None:
        store = Memory()
        session = new(store)
        arrivals = [self.HELLO[i : i + size] for i in range(0, len(self.HELLO), size)]
        assert answer_all(session, arrivals) == WRONG_COMMAND
        assert session.over
        assert answer(new(store), b"get *\n") == b"ok\n\n"

    @pytest.mark.parametrize("before", [b"get k\n", b"\n", b"\x16\n", b"x"])
    def test_later_it_is_a_line_like_any_other(self, before: bytes) -> None:
        session = new()
        answer(session, before)
        assert answer(session, b"\x16\x03\x01\nput a 1 1\n") == WRONG_COMMAND + OK
        assert not session.over

    def test_it_need_not_end_a_line(self) -> None:
        assert one(b"\x16\x03") == WRONG_COMMAND


class TestPulling:
    def test_requests_run_only_while_there_is_room(self) -> None:
        session = new()
        said = say(session, b"x\n" * 8000)
        longest = total = len(said)
        while session.unfinished:
            said = more(session)
            longest = max(longest, len(said))
            total += len(said)
        assert total == 8000 * len(WRONG_COMMAND)
        assert longest < REPLY_ROOM + len(WRONG_COMMAND)

    @pytest.mark.parametrize(
        "requests", [b"\n" * 20000, b"get x\n" * 3000, b"get *\n"], ids=["blank", "empty", "short"]
    )
    def test_small_replies_count_as_work(
        self, requests: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Counted in steps: one call never does more than its share, however little it says."""
        store = Memory()
        for number in range(3000):
            store.put(f"k{number}", 1.0, 1)
        steps = [0]

        class Counting(Session):
            def _step(self) -> Optional[Outcome]:
                steps[0] += 1
                return super()._step()

        session = Counting(Dispatcher(store))
        say(session, requests)
        while session.unfinished:
            assert steps[0] <= REPLY_ROOM / STEP_ROOM + 1
            steps[0] = 0
            more(session)

    def test_a_large_reply_comes_in_pieces(self) -> None:
        store = Memory()
        for timestamp in range(20000):
            store.put("k", 0.5, timestamp)
        session = new(store)
        said = [say(session, b"get k\nget *\n")]
        while session.unfinished:
            said.append(more(session))
        assert max(map(len, said)) < 2 * REPLY_ROOM
        rows = b"".join(b"k 0.5 %d\n" % timestamp for timestamp in range(20000))
        assert b"".join(said) == (b"ok\n" + rows + b"\n") * 2

    def test_a_piece_is_bounded_however_long_the_key_is(self) -> None:
        store = Memory()
        for timestamp in range(100):
            store.put("k" * 60000, 0.5, timestamp)
        session = new(store)
        assert len(say(session, b"get *\n")) < REPLY_ROOM + 65000
        while session.unfinished:
            assert len(more(session)) < REPLY_ROOM + 65000

    def test_a_get_that_others_write_behind_ends(self) -> None:
        store = Memory()
        for timestamp in range(2000):
            store.put("k", 0.0, timestamp)
        session = new(store)
        said = say(session, b"get k\n")
        while session.unfinished:
            for timestamp in range(5000, 9000):
                store.put("k", 1.0, timestamp)
                store.put("new", 1.0, timestamp)
            said += more(session)
        assert said == b"ok\n" + b"".join(b"k 0.0 %d\n" % t for t in range(2000)) + b"\n"

    def test_a_get_behind_a_put_sees_it(self) -> None:
        assert one(b"put k 1 1\nget k\nput k 2 1\nget k\n") == (
            OK + b"ok\nk 1.0 1\n\n" + OK + b"ok\nk 2.0 1\n\n"
        )


def test_idle_means_nothing_pending_in_either_direction() -> None:
    session = new()
    assert session.idle
    answer(session, b"put k 1")
    assert not session.idle
    assert answer(session, b" 1\n") == OK
    assert session.idle
    say(session, b"x\n" * 8000)
    assert not session.idle
    while session.unfinished:
        more(session)
    answer(session, b"\xe3\x80\x80 \x1c")  # white space is the start of no line
    assert session.idle


@pytest.mark.parametrize("arrival", [b"put k 1 1\n", b"put k 1 1\nput k 1 2\n", b"get k\n"])
def test_it_is_not_idle_before_its_replies_are_taken(arrival: bytes) -> None:
    session = new()
    answer(session, b"get k\n")
    session.receive(arrival)
    assert not session.idle
    session.replies()
    assert session.idle


def test_both_paths_of_a_script_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mixed scripts above test what they seem to: with short blocks some are batches."""
    counts = []

    def counting(store: Store, block: bytes) -> Tuple[int, int, Optional[Receipt]]:
        taken, left, receipt = put_block(store, block)
        counts.append(receipt is not None)
        return taken, left, receipt

    monkeypatch.setattr("metricsd.protocol.session.put_block", counting)
    data = b"".join(line + b"\n" for line in lines(0, 600))
    answer_all(new(), pieces(data, random.Random(0), 50))
    assert any(counts) and not all(counts)
