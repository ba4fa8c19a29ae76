"""Graphite's lines: what each means, that both ways agree, and what is dropped, by reason."""

import random
from typing import List, Optional, Tuple

import pytest

from metricsd.graphite import DatagramFeed, Feed, Intake
from metricsd.graphite.plaintext import canonical, point_of_line, points_of_block
from metricsd.store import Memory, StoreError
from tests.late_store import LateStore
from tests.model import points

NOW = 1700000000


def new_intake(store: Memory) -> Intake:
    return Intake(store, lambda: NOW + 0.9, lambda: None)


def fed(data: bytes, store: Optional[Memory] = None) -> Tuple[Intake, Memory]:
    """Feed one whole conversation; return the intake and the store."""
    store = store or Memory()
    intake = new_intake(store)
    feed = Feed(intake)
    feed.receive(data)
    feed.receive(b"")
    finish(intake)
    assert feed.replies() == b""
    return intake, store


def finish(intake: Intake) -> None:
    intake.run()
    while intake.unfinished:
        intake.go_on()


@pytest.mark.parametrize(
    "line, point",
    [
        (b"a.b 1 5", ("a.b", 1.0, 5)),
        (b"a.b 1.5e3 5\r", ("a.b", 1500.0, 5)),
        (b" a.b\t1  5 ", ("a.b", 1.0, 5)),
        (b"a 1 1503319740.99", ("a", 1.0, 1503319740)),
        (b"a 1 15e8", ("a", 1.0, 1500000000)),
        (b"a 1 15E8", ("a", 1.0, 1500000000)),
        (b"a 1 -5", ("a", 1.0, -5)),
        (b"a 1 -9007199254740993", ("a", 1.0, -9007199254740993)),
        (b"a 1", ("a", 1.0, NOW)),
        (b"a 1 -1", ("a", 1.0, NOW)),
        (b"a 1 -1.0", ("a", 1.0, NOW)),
        (b"a 1 0", ("a", 1.0, NOW)),
        (b"a 1 N", ("a", 1.0, NOW)),
        (b"a;b=2;a=1 1 5", ("a;a=1;b=2", 1.0, 5)),
        ("ключ 1 5".encode(), ("ключ", 1.0, 5)),
    ],
)
def test_a_line_is_a_point(line: bytes, point: Tuple[str, float, int]) -> None:
    intake, store = fed(line + b"\n")
    key, value, timestamp = point
    assert points(store) == {key: {timestamp: value}}
    assert (intake.points, intake.bad_lines, intake.not_finite) == (1, 0, 0)
    # The same without its line feed, at the end of input.
    assert points(fed(line)[1]) == points(store)


@pytest.mark.parametrize(
    "line",
    [
        b"a", b"a 1 5 6", b"a x 5", b"a 1 x", b"a 1 nan", b"a 1 inf", b"a 1 1e999", b"a 1 1e30",
        b"a 1 9223372036854775808", b"a 1 " + b"9" * 5000, b"a 1 n", b"a \xff 5", b"\xff 1 5",
        b"put a 1 5", b"a 1,5 5", b"a 1 5 \x00", b"\x80\x02]q\x00(U\x01aq\x01K\x05K\x01\x86q",
    ],
)  # fmt: skip
def test_a_bad_line_costs_that_line(line: bytes) -> None:
    intake, store = fed(b"b 1 5\n" + line + b"\nb 2 6\n")
    assert points(store) == {"b": {5: 1.0, 6: 2.0}}
    assert (intake.points, intake.bad_lines, intake.not_finite) == (2, 1, 0)


@pytest.mark.parametrize("value", [b"nan", b"NaN", b"inf", b"-inf", b"1e999", b"-Infinity"])
@pytest.mark.parametrize("beside", [b"", b"odd\n"])
def test_what_is_not_finite_is_dropped(value: bytes, beside: bytes) -> None:
    intake, store = fed(b"b 1 5\na " + value + b" 5\nb 2 6\n" + beside)
    assert points(store) == {"b": {5: 1.0, 6: 2.0}}
    assert (intake.points, intake.bad_lines, intake.not_finite) == (2, bool(beside), 1)


def test_nothing_but_what_is_not_finite() -> None:
    assert fed(b"a nan 5\n")[0].not_finite == 1


def test_finite_values_whose_sum_is_not() -> None:
    intake, store = fed(b"a 1e308 1\na 1e308 2\na -1e308 3\n")
    assert points(store) == {"a": {1: 1e308, 2: 1e308, 3: -1e308}}
    assert intake.not_finite == 0


def test_blank_lines_are_no_lines() -> None:
    intake, _ = fed(b"\n\r\n a 1 5\n\n\n")
    assert (intake.points, intake.bad_lines) == (1, 0)


@pytest.mark.parametrize(
    "path, key",
    [
        ("a", "a"),
        ("a;b=1", "a;b=1"),
        ("a;c=1;b=2", "a;b=2;c=1"),
        ("a;a1=x;a=y", "a;a=y;a1=x"),  # by name, though `1` comes before `=`
        ("a;b=2;b=1", "a;b=1;b=2"),
        ("a;c=x=y;b", "a;b;c=x=y"),
        ("a;", "a;"),
        ("a;c\0;b", "a;c\0;b"),
    ],
)
def test_tags_are_sorted_by_name(path: str, key: str) -> None:
    assert canonical(path) == key


PATHS = ["a", "a.b", "x;b=2;a=1", "x;a=1", "ключ", "\0", "N", "1", "5;", "a\0b", "put"]
VALUES = ["1", "-0", "0.1", "1e100", "nan", "inf", "-inf", "1e999", "1_000", "٣.٥", "x", "N", "\0"]
TIMES = ["5", "1503319740", "-1", "0", "N", "-5", "5.9", "-0.5", "1e9", "1e400", "nan", "inf",
         "٤٢", "007", str(2**63), "9007199254740993", "9" * 5000, "0x10", "\0"]  # fmt: skip
SPACES = [" ", " ", " ", "  ", "\t", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\n", ""]


def random_line(dice: random.Random) -> bytes:
    if dice.random() < 0.7:  # else nearly no block would be all usual lines
        text = f"{dice.choice('abc')} {dice.choice(VALUES[:8])} {dice.choice(TIMES[:9])}\n"
        return text.encode()
    words = [dice.choice(PATHS), dice.choice(VALUES), dice.choice(TIMES)]
    if dice.random() < 0.3:
        words = [dice.choice(words) for _ in range(dice.randint(0, 5))]
    line = "".join(dice.choice(SPACES) + word for word in words).encode()
    if dice.random() < 0.03:
        line += b"\xff"
    return line + dice.choice([b"\n", b"\r\n", b" \n"])


Found = List[Tuple[str, str, int]]


def one_by_one(block: bytes) -> Tuple[Found, int]:
    found: Found = []
    bad = 0
    for line in block.split(b"\n")[:-1]:
        try:
            point = point_of_line(line + b"\n", NOW)
        except ValueError:
            bad += 1
        else:
            found += [(point[0], repr(point[1]), point[2])] if point else []
    return found, bad


def check(block: bytes) -> bool:
    """The short way finds what the long one does, or nothing; return whether it did."""
    columns = points_of_block(block, NOW)
    if columns is None:
        return False
    keys, values, timestamps = columns
    found, bad = one_by_one(block)
    assert bad == 0
    assert list(zip(keys, map(repr, values), timestamps)) == found
    return True


@pytest.mark.parametrize(
    "block",
    [
        b"x 1 1 \0 \n 1 1\n",  # the words of the two lines add up to two lines
        b"x 1 1 \0\n1 1\n",
        b"a 1\nb 1 1 1\n",
        b"a\n1 1\nb 1 1\n",
        b"a 1 1\n\nb 1 1\n",
        b"a 1 1\n\n",
        b"a 1 1 a 1 1\n",
        b"a 1 1 x a 1 1\n",
        b"a 1 1 x\n1 1\n",
        "a 1 1\u2028a 1 1\n".encode(),
        b"\n",
    ],
)
def test_odd_blocks_do_not_go_the_short_way(block: bytes) -> None:
    assert not check(block)


@pytest.mark.parametrize(
    "block",
    [
        b"a 1 1\n",
        b"a 1 1\r\nb 2 2\r\n",
        b"a nan 1\nb 2 2\n",
        b"a 1 1.5\nb 2 -1\n",
        b"a;c=1;b=1 1 N\nb 2 -9007199254740993\n",
        "a\u20281 1\n".encode(),
    ],
)
def test_usual_blocks_go_the_short_way(block: bytes) -> None:
    assert check(block)


def test_random_blocks_mean_the_same_both_ways() -> None:
    dice = random.Random(16)
    short = 0
    for _ in range(15000):
        short += check(b"".join(random_line(dice) for _ in range(dice.randint(1, 4))))
    assert 3000 < short < 12000


def test_the_cut_of_a_stream_changes_nothing() -> None:
    dice = random.Random(17)
    data = b"".join(random_line(dice) for _ in range(3000)) + b"last 1 5"
    found, bad = one_by_one(data + b"\n")
    finite = [point for point in found if point[1] not in ("nan", "inf", "-inf")]
    for longest in (1, 50, 30000):
        store = Memory()
        intake = new_intake(store)
        feed = Feed(intake)
        start = 0
        while start < len(data):
            end = start + dice.randint(1, longest)
            feed.receive(data[start:end])
            start = end
            intake.run()
            intake.go_on()
        feed.receive(b"")
        finish(intake)
        assert (intake.bad_lines, intake.not_finite) == (bad, len(found) - len(finite))
        assert intake.points == len(finite)
        expected = Memory()
        for key, value, timestamp in finite:
            expected.put(key, float(value), timestamp)
        assert points(store) == points(expected)


class Counting(Memory):
    """Notes how many points are put at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: List[int] = []

    def put_many(self, keys, values, timestamps):  # type: ignore[no-untyped-def]
        self.calls.append(len(keys))
        return super().put_many(keys, values, timestamps)


def test_lines_of_many_senders_are_one_block() -> None:
    store = Counting()
    intake = new_intake(store)
    for number in range(100):
        Feed(intake).receive(b"sender%d 1 5\n" % number)
    intake.run()
    assert store.calls == [100]
    assert len(points(store)) == 100


def test_a_block_is_bounded() -> None:
    store = Counting()
    intake = new_intake(store)
    for _ in range(5):
        Feed(intake).receive(b"sender 1 5\n" * 700)
    intake.run()
    assert store.calls == [1400, 1400, 700]


def test_the_end_of_input_goes_the_short_way() -> None:
    intake = new_intake(Memory())
    feed = Feed(intake)
    feed.receive(b"a 1 5\n")
    feed.receive(b"")
    intake.run()
    assert (intake.points, intake.unfinished) == (1, False)


def test_a_feed_is_idle_between_lines() -> None:
    intake = new_intake(Memory())
    feed = Feed(intake)
    idle = []
    for data in (b"a 1 5\n", b"a 1", b" 6\n"):
        feed.receive(data)
        intake.run()
        idle.append(feed.idle)
    assert idle == [True, False, True]


def test_a_feed_is_not_idle_while_its_lines_are_left() -> None:
    intake = new_intake(Memory())
    feed = Feed(intake)
    feed.receive(b"bad\na 1 5\n")
    idle = [feed.idle]
    intake.run()
    idle.append(feed.idle)
    finish(intake)
    assert (idle, feed.idle, intake.points) == ([False, False], True, 1)


def test_a_long_line_within_the_limit() -> None:
    key = "x" * 40000
    assert points(fed(f"{key} 1 5\n".encode())[1]) == {key: {5: 1.0}}


def test_a_line_over_the_limit_is_one_bad_line() -> None:
    store = Memory()
    intake = new_intake(store)
    feed = Feed(intake, max_line_bytes=20)
    feed.receive(b"a 1 1\n" + b"x" * 21)
    feed.receive(b"y" * 100)
    feed.receive(b" 1 1\nb 1 1\n" + b"c 1 1" + b" " * 15 + b"\n" + b"d 1 1" + b" " * 16 + b"\n")
    feed.receive(b"e 1 1" + b" " * 16)  # cut at the limit it would be a point
    feed.receive(b"")
    finish(intake)
    assert sorted(points(store)) == ["a", "b", "c"]
    assert (intake.points, intake.bad_lines) == (3, 3)


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\nb 1 5\n",
        b"POST /x HTTP/1.1\nb 1 5\n",
        b"\x16\x03\x01\x02\x00\nb 1 5\n",
        b"\x16\x03",
        b"GET / HTTP/1.1\n" + b"b 1 5\n" * 5000,
        b"GET /" + b"x" * 70000,
    ],
)
@pytest.mark.parametrize("size", [1, 100000])
def test_strangers_are_hung_up_on(start: bytes, size: int) -> None:
    store = Memory()
    intake = new_intake(store)
    feed = Feed(intake)
    if len(start) > 40000 and size == 1:
        size = 1000
    for place in range(0, len(start), size):
        feed.receive(start[place : place + size])
    assert feed.over
    feed.receive(b"a 1 5\n")
    finish(intake)
    assert (points(store), intake.strangers, intake.bad_lines) == ({}, 1, 0)
    assert feed.replies() == b""


def test_a_stranger_is_one_only_at_the_beginning() -> None:
    store = Memory()
    intake = new_intake(store)
    feed = Feed(intake)
    for line in (b"a 1 5\n", b"GET / HTTP/1.1\n", b"\x16\x03\n", b"b 1 5\n"):
        feed.receive(line)
    finish(intake)
    assert not feed.over
    assert sorted(points(store)) == ["a", "b"]
    assert (intake.strangers, intake.bad_lines) == (0, 2)


def test_what_a_full_store_refuses_is_counted() -> None:
    store = Memory(max_points=3)
    lines = b"".join(b"a %d %d\n" % (number, number) for number in range(1, 51))
    intake, _ = fed(lines + b"a 7 1\n", store)
    assert points(store) == {"a": {1: 7.0, 2: 2.0, 3: 3.0}}  # a point that is there has its room
    assert (intake.points, intake.refused_full) == (4, 47)


def test_a_step_is_bounded() -> None:
    """Bad lines, and puts that a store is slow with, are done a little at a time."""
    intake = new_intake(Memory())
    intake.add(b"x\n" * 2000)
    intake.run()
    assert intake.bad_lines == 0
    intake.go_on()
    assert 0 < intake.bad_lines <= 512
    full = new_intake(Memory(max_points=1))
    full.add(b"a 1 1\na 1 2\n" * 100)
    full.run()
    full.go_on()
    assert 0 < full.refused_full <= 8


def test_lines_wait_for_those_that_are_left() -> None:
    store = Memory()
    intake = new_intake(store)
    intake.add(b"bad\n" * 1000 + b"a 1 5\n")
    intake.run()
    intake.add(b"a 2 5\n")
    intake.run()
    assert points(store) == {}
    finish(intake)
    assert points(store) == {"a": {5: 2.0}}


def test_a_store_that_takes_some_at_a_time() -> None:
    class Slow(Memory):
        def put_many(self, keys, values, timestamps):  # type: ignore[no-untyped-def]
            return super().put_many(keys[:2], values[:2], timestamps[:2])

    store = Slow()
    intake, _ = fed(b"".join(b"a %d %d\n" % (n, n) for n in range(1, 30)), store)
    assert points(store) == {"a": {n: float(n) for n in range(1, 30)}}
    assert intake.points == 29


def test_now_is_when_the_lines_came() -> None:
    times = iter([100.0, 200.0])
    store = Memory()
    intake = Intake(store, lambda: next(times), lambda: None)
    intake.add(b"a 1\na 1 5\nb 1\n")
    intake.run()
    intake.add(b"c 1 N\n")
    intake.run()
    finish(intake)
    assert points(store) == {"a": {100: 1.0, 5: 1.0}, "b": {100: 1.0}, "c": {200: 1.0}}


def test_receipts_are_counted_when_they_are_settled() -> None:
    store = LateStore(one_for_all=False)
    intake = Intake(store, lambda: NOW, lambda: None)
    for lines in (b"a 1 1\n", b"a 2 2\na 3 3\n", b"a 4 4\n"):
        intake.add(lines)
        intake.run()
    assert intake.points == 0
    store.settle(StoreError("not stored"), which=1)
    assert (intake.points, intake.refused_failed) == (0, 0)  # in their order
    store.settle()
    assert (intake.points, intake.refused_failed) == (1, 2)
    store.settle()
    assert (intake.points, intake.refused_failed) == (2, 2)


def test_a_sender_waits_while_too_much_is_not_safe() -> None:
    store = LateStore()
    intake = Intake(store, lambda: NOW, lambda: None)
    feed = Feed(intake)
    lines = b"".join(b"some.key.%d 1 %d\n" % (number, number) for number in range(500))
    fed_bytes = 0
    while not feed.waiting:
        feed.receive(lines)
        intake.run()
        fed_bytes += len(lines)
        assert fed_bytes < 3_000_000
    assert fed_bytes > 1_000_000
    called: List[bool] = []
    feed.when_answered(lambda: called.append(feed.waiting))
    assert not called
    store.settle()
    assert called == [False]
    assert intake.points == fed_bytes // len(lines) * 500


def test_who_waits_is_called_when_there_is_room_again() -> None:
    store = LateStore(one_for_all=False)
    intake = Intake(store, lambda: NOW, lambda: None)
    while len(store.open) < 400:
        intake.add(b"a" * 10000 + b" 1 5\n")
        intake.run()
    called: List[int] = []
    intake.when_free(lambda: called.append(len(store.open)))
    while store.open:
        store.settle()
    assert called == [2**21 // 10005]


def test_points_of_one_receipt_are_counted_together() -> None:
    store = LateStore()
    intake = Intake(store, lambda: NOW, lambda: None)
    intake.add(b"a 1 5\n" * 100 + b"bad\n")
    finish(intake)
    assert len(intake._open) == 1
    store.settle()
    assert intake.points == 100


def test_what_is_left_waits_as_well() -> None:
    store = LateStore()
    intake = Intake(store, lambda: NOW, lambda: None)
    for number in range(200):
        key = b"%03d" % number + b"x" * 997
        intake.add(b"bad\n" + b"".join(b"%s 1 %d\n" % (key, n) for n in range(1, 17)))
    intake.run()
    while not intake.full:
        intake.go_on()
    taken = len(store.open[0][1][0])
    assert 2**21 < taken * 1032 <= 2**21 + 1032  # not one more than makes it full
    intake.go_on()
    intake.go_on()
    assert len(store.open[0][1][0]) == taken
    while store.open:
        store.settle()
        while intake.unfinished and not intake.full:
            intake.go_on()
    assert (intake.points, intake.bad_lines) == (3200, 200)


def test_each_datagram_ends_its_last_line() -> None:
    store = Memory()
    intake = new_intake(store)
    feed = DatagramFeed(intake, max_line_bytes=10000)
    many = b"".join(b"many 1 %d\n" % n for n in range(1, 3001))
    for datagram in (b"GET / HTTP/1.1\nd 1 5", b"a 1 5", b"", b"b 1 5\nc 1 5", b"\x16\x03", many):
        feed.receive(datagram)
        feed.receive(b"")
    feed.receive(b"x" * 10001)
    feed.receive(b"e 1 5")
    while feed.unfinished:
        feed.go_on()
    assert not feed.over
    assert sorted(points(store)) == ["a", "b", "c", "d", "e", "many"]
    assert (intake.points, intake.bad_lines) == (3005, 3)


def test_a_large_datagram_runs_a_block_at_a_time() -> None:
    store = Counting()
    feed = DatagramFeed(new_intake(store))
    feed.receive(b"sender 1 5\n" * 5000)
    assert store.calls == []
    while feed.unfinished:
        before = sum(store.calls)
        feed.go_on()
        assert sum(store.calls) - before <= 17 * 1024 // 11
    assert sum(store.calls) == 5000
