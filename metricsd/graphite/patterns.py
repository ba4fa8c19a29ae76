"""Regular expressions of clients, of which none may hold up everybody else.

Owns which are taken. Python's engine tries all ways in which a text can match, which may be more
than there are atoms; so a pattern is refused if it could take long for the very text.
"""

import re
import sys
from importlib import import_module
from math import factorial
from typing import Any, Optional, Tuple

from metricsd.graphite.limits import RenderError

# The standard library's parser of regular expressions, whose name has changed.
sre_parse: Any = import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

# Ways of matching that may be tried for one name: at some 5 ns each, about a millisecond.
MAX_WAYS = 200_000

MAX_PATTERN_CHARS = 1_000  # of which a repetition takes at least one

REPEATS = ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT")

# Times that something with choices inside may be repeated: a path rarely has more parts.
MAX_TIMES = 16

# Characters that are compared about as fast as one way is begun.
CHARACTERS_A_WAY = 16


class Pattern:
    """A regular expression that is safe for every text that it takes."""

    def __init__(self, pattern: str) -> None:
        """Raises RenderError if it is none, or repeats what repeats."""
        if len(pattern) > MAX_PATTERN_CHARS:
            raise RenderError(f"a regular expression is longer than {MAX_PATTERN_CHARS} characters")
        try:
            parsed = sre_parse.parse(pattern)
            self._compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise RenderError(f"not a regular expression: {pattern[:100]}: {error}") from None
        tree = list(parsed)
        choices = _choices(tree)
        if choices is None:
            raise RenderError(f"a regular expression repeats what repeats: {pattern[:100]}")
        repeats, self._branches = choices
        # What comes last never has to be given up, and what begins the text begins nowhere else.
        last = bool(tree) and str(tree[-1][0]) in REPEATS and repeats > 0
        anchored = bool(tree) and str(tree[0][0]) == "AT" and str(tree[0][1]) == "AT_BEGINNING"
        self._choices = repeats - last + (not anchored)
        self._width: int = parsed.getwidth()[0]  # characters at least

    def worst(self, text: str) -> int:
        """The most ways in which a text could be tried: where each repetition may end."""
        ways: int = len(text) + 1
        for more in range(1, self._choices):
            ways *= len(text) + 1 + more
        ways = ways // factorial(max(self._choices, 1)) * self._branches
        return ways * (1 + min(self._width, len(text)) // CHARACTERS_A_WAY)

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


Choices = Optional[Tuple[int, int]]  # repetitions, and ways through branches; None: too many


def _choices(tree: Any) -> Choices:
    """What has to be chosen on the way through a parsed pattern, anywhere in it."""
    repeats, branches = 0, 1
    for code, value in tree:
        found = _choices_of(str(code), value)
        if found is None:
            return None
        repeats += found[0]
        branches *= found[1]
    return repeats, min(branches, MAX_WAYS + 1)


def _choices_of(code: str, value: Any) -> Choices:
    if code in REPEATS:
        return _repeated(*value)
    if code.startswith("GROUPREF"):
        inside = _choices_inside(value)
        return inside and (inside[0] + 1, inside[1] * 2)
    inside = _choices_inside(value)
    return inside and (inside[0], inside[1] * (len(value[1]) if code == "BRANCH" else 1))


def _choices_inside(value: Any) -> Choices:
    if isinstance(value, sre_parse.SubPattern):
        return _choices(value)
    parts = value if isinstance(value, (list, tuple)) else ()
    return _choices([("", part) for part in parts])


def _repeated(least: int, most: int, body: Any) -> Choices:
    """Those of a repetition. Each time, all in its body has to be chosen again."""
    inside = _choices(body)
    if inside is None or most <= 1:
        return inside and (inside[0], inside[1] * (1 + most - least))
    narrowest, widest = body.getwidth()
    several = inside != (0, 1)
    if narrowest == 0 or (least != most and (several or narrowest != widest)):
        return None
    if several and most > MAX_TIMES:
        return None
    return inside[0] * most + (least != most), inside[1] ** most
