"""The batch path and the line-by-line path are one and the same to a client."""

import random
from typing import List, Tuple

import pytest

from metricsd.protocol.batch import put_block
from metricsd.store import STORED, Memory
from tests.model import Model
from tests.script import line

HOSTILE = [
    b"put a 1\nput put b 1 1\n",  # the words of the two lines add up to two puts
    b"put a 1 1 put\nput 1 1\n",
    b"put a 1 1\nput b\n1 1\n",
    b"put a 1\n1 put b 1 1\n",
    b"put a 1 1 \x00 b 2 2\n",
    b"put \x00 1 1\nput a 1 1\n",
    b"\x00 a 1 1\n",
    b"put a 1 1\n\nput a 1 1\n",
    b"put a 1 1\n \nput a 1 1\n",
    b" put a 1 1\nput a 1 1\n",
    b"put\ta 1 1\nput a 1 1\n",
    b"put a 1 1\nput a 1 1 put a 1 1\n",
    b"put a 1 1\x0bput b 1 1\n",
    "put a 1 1\u2028put b 1 1\n".encode(),
    b"put a 1 1\nput a 1 9223372036854775808\n",
    b"put a 1 1\nput a \xff 1\n",
    b"put a 1 1\nget a\n",
    b"put a 1 1\nputs a 1 1\n",
    b"\n",
    b"\n\n\n\n",
    b"put a 1 1\nput a 1 " + b"0" * 5000 + b"1\n",  # more than int() takes, from Python 3.7 on
]


def everything(store: Memory) -> List[Tuple[str, List[int], List[str]]]:
    found = []
    for key, series in store.items():
        (timestamps, values), _ = series.after(-(2**63) - 1)
        found.append((key, list(timestamps), [repr(value) for value in values]))
    return found


def check(block: bytes) -> int:
    """The block is either stored as the model stores it, all of it, or left alone."""
    store, model = Memory(), Model()
    store.put("before", 1.0, 1)
    model.answer(b"put before 1 1")
    empty = everything(store)
    replies = model.stream(block)
    count, left, receipt = put_block(store, block)
    if receipt is None:
        assert count == left == 0
        assert everything(store) == empty
        return 0
    assert receipt is STORED and left == 0
    assert replies == b"ok\n\n" * count
    expected = [
        (key, [t for t, _ in sorted(points.items())], [repr(v) for _, v in sorted(points.items())])
        for key, points in model.metrics.items()
    ]
    assert everything(store) == expected
    return count


@pytest.mark.parametrize("block", HOSTILE)
def test_blocks_that_are_not_all_puts_are_left_alone(block: bytes) -> None:
    assert check(block) == 0


@pytest.mark.parametrize(
    "block",
    [
        b"put a 1 1\n",
        b"put a 1 1\nput a 2 1\nput a 3 0\n",
        b"put put 1 1\nput put 2 2\n",
        b"put  a\t1 1 \r\nput a 1_0 0_2\r\n",
        "put ключ nan ٣\nput b -0 1\u2028\n".encode(),
    ],
)
def test_blocks_of_puts_are_stored(block: bytes) -> None:
    assert check(block) == block.count(b"\n")


@pytest.mark.parametrize(
    "block",
    [
        "put a 1 1\u2028\nput a\u2028 1 1\n",
        "put \u2028 1 1\nput a\u2028b 1 1\n",  # one key less, and one more
        "put a\x1cb 1 1\n",
        "put a 1\x1f 1\nput a 1 \x851\n",
        "put a ٣ ٤\n",
    ],
)
def test_white_space_and_digits_that_are_not_ascii(block: str) -> None:
    check(block.encode())


def test_random_blocks() -> None:
    dice = random.Random(7)
    stored = left = 0
    for _ in range(20000):
        count = check(b"".join(line(dice) + b"\n" for _ in range(dice.randint(1, 3))))
        stored += count > 0
        left += count == 0
    assert stored > 1000 and left > 1000


def test_random_words() -> None:
    """Lines of nothing but the words that make a put, in any number and order."""
    dice = random.Random(8)
    words = [b"put", b"put", b"1", b"2", b"a", b"\n", b"\nput", b"\x00"]
    for _ in range(20000):
        check(b"put " + b" ".join(dice.choice(words) for _ in range(dice.randint(3, 16))) + b"\n")
