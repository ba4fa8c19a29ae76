"""Regular expressions of clients, of which none may hold up everybody else.

Owns which are taken. Python's engine tries all ways in which a text can match, which may be more
than there are atoms; so a pattern is refused if it could take long for the very text.
"""

import re
import sys
from importlib import import_module
from math import factorial
from typing import Any, Iterator

from metricsd.graphite.limits import RenderError

# The standard library's parser of regular expressions, whose name has changed.
sre_parse: Any = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

# Ways of matching that may be tried for one name: at some 5 ns each, about a millisecond.
MAX_WAYS = 200_000

MAX_PATTERN_CHARS = 1_000  # of which a repetition takes at least one

REPEATS = ("MAX_REPEAT", "MIN_REPEAT")


class Pattern:
    """A regular expression that is safe for every text that it takes."""

    def __init__(self, pattern: str) -> None:
        """Raises RenderError if it is none, or repeats what repeats."""
        if len(pattern) > MAX_PATTERN_CHARS:
            raise RenderError(f"a regular expression is longer than {MAX_PATTERN_CHARS} characters")
        try:
            tree = list(sre_parse.parse(pattern))
            self._compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise RenderError(f"not a regular expression: {pattern[:100]}: {error}") from None
        repeats = list(_repeats(tree))
        if any(_varies(body) for body in repeats):
            raise RenderError(f"a regular expression repeats what repeats: {pattern[:100]}")
        # What comes last never has to be given up, and what begins the text begins nowhere else.
        last = bool(tree) and str(tree[-1][0]) in REPEATS
        anchored = bool(tree) and str(tree[0][0]) == "AT" and str(tree[0][1]) == "AT_BEGINNING"
        self._choices = len(repeats) - last + (not anchored)

    def worst(self, text: str) -> int:
        """The most ways in which a text could be tried: where each repetition may end."""
        ways = len(text) + 1
        for more in range(1, self._choices):
            ways *= len(text) + 1 + more
        return ways // factorial(max(self._choices, 1))

    def is_in(self, text: str) -> bool:
        """Whether there is a match anywhere. Raises RenderError if finding out could take long."""
        self._check(text)
        return self._compiled.search(text) is not None

    def replaced(self, text: str, replacement: str) -> str:
        """The text with each match replaced. Raises RenderError, also for a bad replacement."""
        self._check(text)
        try:
            return self._compiled.sub(replacement, text)
        except (re.error, IndexError) as error:
            raise RenderError(f"not a replacement: {replacement[:100]}: {error}") from None

    def _check(self, text: str) -> None:
        if self.worst(text) > MAX_WAYS:
            raise RenderError(
                f"a regular expression could take too long for {text[:100]}: use fewer * and +, "
                "and begin it with ^"
            )


def _repeats(tree: Any) -> Iterator[Any]:
    """What is repeated, anywhere in a parsed pattern."""
    for code, value in tree:
        if str(code) in REPEATS:
            least, most, body = value
            if most > 1 and least != most:
                yield body
            yield from _repeats(body)
        else:
            yield from _repeats_inside(value)


def _repeats_inside(value: Any) -> Iterator[Any]:
    if isinstance(value, sre_parse.SubPattern):
        yield from _repeats(value)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _repeats_inside(part)


def _varies(body: Any) -> bool:
    """Whether a body can match one text in several ways, or texts of several lengths."""
    least, most = body.getwidth()
    return bool(least != most) or least == 0
