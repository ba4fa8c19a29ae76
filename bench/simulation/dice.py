"""Dice: numbers that look random, the same from the same seed in every version of Python."""

import random
from typing import Any, Sequence


class Dice(random.Random):
    """Numbers from a seed, made of those of which Python promises that they stay the same."""

    def below(self, limit: int) -> int:
        """One of 0 to ``limit`` - 1."""
        return int(self.random() * limit)

    def one_in(self, count: int) -> bool:
        """True once in ``count`` times."""
        return not self.below(count)

    def pick(self, things: Sequence[Any]) -> Any:
        """One of some things."""
        return things[self.below(len(things))]
