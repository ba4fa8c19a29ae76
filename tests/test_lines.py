"""Cutting a stream into lines."""

import random

import pytest

from metricsd.protocol.batch import BLOCK_BYTES
from metricsd.protocol.lines import LineBuffer
from tests.script import pieces


@pytest.mark.parametrize("seed", range(30))
def test_lines_come_out_as_they_went_in(seed: int) -> None:
    dice = random.Random(seed)
    limit, longest = dice.choice([10, 100, 50000]), dice.choice([3, 30, 30000])
    count = 50 if limit < 1000 * longest else 5  # long lines come in very many small pieces
    lines = [b"x" * dice.randint(0, limit) + b"\n" for _ in range(count)]
    buffer = LineBuffer(limit, BLOCK_BYTES)
    blocks = []
    for piece in pieces(b"".join(lines), dice, longest):
        buffer.feed(piece)
        block = buffer.take()
        while block is not None:
            assert block.endswith(b"\n")
            assert len(block) <= max(BLOCK_BYTES, limit + 1)
            blocks.append(block)
            block = buffer.take()
    assert b"".join(blocks) == b"".join(lines)
    assert not buffer.inside_line
    assert buffer.empty


def test_an_endless_line_costs_bounded_memory() -> None:
    buffer = LineBuffer(1000, BLOCK_BYTES)
    longest = 0
    for _ in range(1000):
        buffer.feed(b"x" * 700)
        longest = max(longest, len(buffer._buffer))
        buffer.take()
    assert longest < 1000 + 1 + 700
    assert buffer.inside_line


def test_no_byte_is_searched_twice() -> None:
    """Counted: a line that arrives byte by byte costs its length, not its square."""

    class Counting(bytearray):
        searched = 0

        def find(self, what, start=0, end=None):  # type: ignore[no-untyped-def]
            Counting.searched += (len(self) if end is None else end) - start
            return super().find(what, start, len(self) if end is None else end)

        def rfind(self, what, start=0, end=None):  # type: ignore[no-untyped-def]
            Counting.searched += max(min(len(self), end) - start, 0)
            return super().rfind(what, start, end)

    buffer = LineBuffer(10**6, BLOCK_BYTES)
    buffer._buffer = Counting()
    for _ in range(40000):
        buffer.feed(b"x")
        assert buffer.take() is None
    assert Counting.searched <= 2 * 40000


def test_a_line_that_never_ends_takes_no_more_than_the_limit() -> None:
    buffer = LineBuffer(1000, BLOCK_BYTES)
    for _ in range(100):
        buffer.feed(b"x" * 700)
        assert len(buffer._buffer) <= 1001
    block = buffer.take()
    assert block is not None
    assert len(block) == 1002
    buffer.feed(b"x" * 700 + b"\nget k\n")
    assert buffer.take() == b"get k\n"


def test_a_blank_line_has_not_begun_a_request() -> None:
    buffer = LineBuffer(1000, BLOCK_BYTES)
    for piece, inside in [
        (b" ", False), (b"\xe3", True), (b"\x80", True), (b"\x80", False), (b"\t", False),
        (b"\xe3\x80", True), (b"\x80 ", False), (b"x", True), (b" ", True), (b"\n ", False),
        (b"\xff", True), (b" ", True), (b"\n", False),
    ]:  # fmt: skip
        buffer.feed(piece)
        while buffer.take() is not None:
            pass
        assert buffer.inside_line == inside


def test_whether_a_line_has_begun_is_known_without_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted: asking a hundred times costs nothing, and no byte is decoded twice."""

    class Counting(bytearray):
        decoded = 0

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            found = super().__getitem__(index)
            if isinstance(index, slice) and index.stop is None:
                Counting.decoded += len(found)
            return found

    for filling in (b" ", b"\xff "):
        buffer = LineBuffer(64 * 1024, BLOCK_BYTES)
        buffer._buffer = Counting()
        Counting.decoded = 0
        for _ in range(1000):
            buffer.feed(filling)
            assert buffer.take() is None
            for _ in range(100):
                assert buffer.inside_line == (filling != b" ")
        assert Counting.decoded <= 1000 * len(filling)
