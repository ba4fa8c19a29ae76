"""Slices: long work with others' turns between, and how much of it there may be at a time.

Owns how long a slice is, and the memory that renders share.
"""

from time import perf_counter
from typing import Callable, Generator, List, Optional, TypeVar

from metricsd.graphite import MAX_VALUES, RenderError
from metricsd.http.messages import HttpError, Step
from metricsd.store import Answer

# Seconds for which one client's work goes on before others have their turn.
SLICE_SECONDS = 0.0005

# Values that all renders may hold, those of replies on their way included, at some 32 bytes each:
# two are under way beside small replies, and one beside the largest reply that nobody reads.
MAX_HELD_VALUES = 2 * MAX_VALUES + MAX_VALUES // 2

# Renders that may wait for that. A dashboard asks for some tens of panels at once.
MAX_WAITING = 100

Result = TypeVar("Result")


def sliced(work: Generator[Optional[Answer], None, Result]) -> Generator[Step, None, Result]:
    """Do all of it, with b"" after each slice, or the answer of a store that is waited for.

    Raises HttpError for a client's mistake.
    """
    end = perf_counter() + SLICE_SECONDS
    while True:
        try:
            answer = next(work)
        except StopIteration as ended:
            return ended.value  # type: ignore[no-any-return]
        except RenderError as error:
            raise HttpError(400, str(error)) from None
        if answer is not None or perf_counter() >= end:
            yield b"" if answer is None else answer
            end = perf_counter() + SLICE_SECONDS


class Held:
    """Room for the values of one render, given back when nothing refers to this any more."""

    def __init__(self, shares: "Shares") -> None:
        self._shares = shares
        self._values = MAX_VALUES
        shares.held += MAX_VALUES

    def keep(self, values: int) -> None:
        """So many are left, as the render is done."""
        self._shares.give_back(self._values - values)
        self._values = values

    def __del__(self) -> None:
        self._shares.give_back(self._values)


class Shares:
    """Who may render now, and who waits."""

    def __init__(self, soon: Callable[[Callable[[], None]], object]) -> None:
        """``soon`` calls a function in the loop, and not at once."""
        self.held = 0  # values
        self._soon = soon
        self._waiting: List[Answer] = []

    def take(self) -> Generator[Answer, None, Held]:
        """Wait until there is room for one more. Raises HttpError if too many wait already."""
        if len(self._waiting) >= MAX_WAITING:
            raise HttpError(503, "too many panels at once: ask again", ("Retry-After", "1"))
        while self.held + MAX_VALUES > MAX_HELD_VALUES:
            answer = Answer()
            self._waiting.append(answer)
            yield answer
        return Held(self)

    def give_back(self, values: int) -> None:
        """There is room for so many values more."""
        self.held -= values
        if values and self._waiting:
            self._soon(self._wake)

    def _wake(self) -> None:
        """Let all look again, in their order: some may have left, and would not tell the next."""
        waiting, self._waiting = self._waiting, []
        for answer in waiting:
            answer.give(None)
