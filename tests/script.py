"""Random requests: a long mixed script of everything that a client may send, good and bad."""

import random
from typing import List

KEYS = [
    "cpu",
    "eth0.rx",
    "a",
    "*",
    "put",
    "get",
    "ключ",
    "метрика.\U0001f600",
    "%s%d",
    "\x00",
    "k" * 300,
]
VALUES = ["1", "-0", "0.1", "12.50", "1e100", "nan", "inf", "-inf", "1_000", "5e-324", "٣.٥"]
TIMES = ["1503319740", "-5", "+5", "007", "1_0", "0", str(2**63 - 1), str(-(2**63)), "٤٢"]
BAD_VALUES = ["x", "1,5", "0x10", "1__0", "--1", "1e", "put"]
BAD_TIMES = ["1.5", "0x10", "1e9", "", "x", str(2**63), str(-(2**63) - 1), "9" * 5000, "nan"]
SPACES = [" ", "  ", "\t", "\r", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000"]
BAD_LINES = [
    "GET cpu", "PUT a 1 1", "putx a 1 1", "getkey", "get", "get a b", "put", "put a", "put a 1",
    "put a 1 1 1", "got test_key", "*", "put put put put", "POST / HTTP/1.1",
]  # fmt: skip


def line(dice: random.Random) -> bytes:
    """One request without its line feed; never blank."""
    kind = dice.random()
    if kind < 0.5:
        return _put(dice, dice.choice(VALUES), _time(dice))
    if kind < 0.75:
        return _join(dice, ["get", dice.choice(KEYS + ["nobody"])])
    if kind < 0.80:
        return _put(dice, dice.choice(BAD_VALUES), _time(dice))
    if kind < 0.85:
        return _put(dice, dice.choice(VALUES), dice.choice(BAD_TIMES))
    if kind < 0.95:
        return dice.choice(BAD_LINES).encode()
    return b"put \xff\xfe 1 1" if kind < 0.98 else b"get \xc3"


def lines(seed: int, count: int) -> List[bytes]:
    dice = random.Random(seed)
    return [line(dice) for _ in range(count)]


def pieces(data: bytes, dice: random.Random, longest: int) -> List[bytes]:
    """The same bytes in random pieces."""
    cut: List[bytes] = []
    start = 0
    while start < len(data):
        end = start + dice.randint(1, longest)
        cut.append(data[start:end])
        start = end
    return cut


def _time(dice: random.Random) -> str:
    return dice.choice(TIMES) if dice.random() < 0.3 else str(dice.randrange(-50, 50))


def _put(dice: random.Random, value: str, timestamp: str) -> bytes:
    return _join(dice, ["put", dice.choice(KEYS), value, timestamp])


def _join(dice: random.Random, words: List[str]) -> bytes:
    if dice.random() < 0.8:
        return " ".join(words).encode()
    around = [dice.choice(SPACES + [""]), dice.choice(SPACES + [""])]
    return (around[0] + dice.choice(SPACES).join(words) + around[1]).encode()
