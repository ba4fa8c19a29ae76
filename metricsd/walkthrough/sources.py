"""Sources: the text of a function that is named by its file and its name.

Owns finding it, in the files of this package as they are. Does not know why it is asked for.
"""

import ast
import functools
import inspect
import textwrap
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


@functools.lru_cache(maxsize=None)  # of the few dozen places that captions name
def source(place: str) -> str:
    """The text at a place such as ``loop/reactor.py Reactor.turn``.

    Raises KeyError if there is no such file, class or function.
    """
    file, _, names = place.partition(" ")
    try:
        text = (PACKAGE / file).read_text(encoding="utf-8")
    except OSError:
        raise KeyError(place) from None
    body = ast.parse(text).body
    for name in names.split("."):
        found = [part for part in body if getattr(part, "name", None) == name]
        if not found:
            raise KeyError(place)
        body = getattr(found[0], "body", [])
    lines = text.splitlines(keepends=True)[found[0].lineno - 1 :]
    return textwrap.dedent("".join(inspect.getblock(lines))).rstrip() + "\n"
