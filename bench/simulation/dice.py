"""Dice: numbers that look random, the same from the same seed in every version of Python.

Owns the generator. Does not know what is decided with it.
"""

from typing import Sequence, TypeVar

# A linear congruential generator modulo 2^64; the constants are Knuth's, MMIX.
FACTOR, STEP, MASK = 6364136223846793005, 1442695040888963407, 2**64 - 1

One = TypeVar("One")


class Dice:
    """Numbers from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state = (seed * 2 + 1) * FACTOR & MASK
        self.number()

    def number(self) -> int:
        """One of 31 bits; the low bits of the state are not random enough."""
        self._state = (self._state * FACTOR + STEP) & MASK
        return self._state >> 33

    def below(self, limit: int) -> int:
        """One of 0 to ``limit`` - 1."""
        return self.number() % limit

    def one_in(self, count: int) -> bool:
        """True once in ``count`` times."""
        return self.number() % count == 0

    def choice(self, things: Sequence[One]) -> One:
        """One of some things."""
        return things[self.number() % len(things)]
