"""Targets: what a text like ``alias(sumSeries(a.*), "x")`` is made of.

Owns the grammar. Does not know which functions there are, nor which keys. The grammar is that of
Graphite's documentation, "Functions", but for what stands behind the end of a target: here it is a
mistake.
"""

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Tuple

from metricsd.graphite.limits import MAX_NESTING, MAX_TARGET_CHARS, RenderError

# Of what is no sign, a backslash takes the meaning of the next character; braces hold commas.
TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\n\r\\]|""|\\.)*"|'(?:[^'\n\r\\]|''|\\.)*')
    | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)(?=\s*[,)]|\s*\Z)
    | (?P<path>(?:
          [^\s(){},'"\\|]
        | \\[(){},.'"\\|=]
        | \{[^\s(){}'"\\|]*(?:\{[^\s(){}'"\\|]*\}[^\s(){}'"\\|]*)*\}
      )+)
    | (?P<sign>[(),|])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
NAME = re.compile(r"[A-Za-z_]\w*\Z")
KEYWORD = re.compile(r"([A-Za-z_]\w*)=(?!=)")
WORDS: Dict[str, Any] = {"true": True, "false": False, "none": None, "inf": float("inf")}
END = ("end", "")


class Path(NamedTuple):
    """A pattern of keys."""

    pattern: str


class Call(NamedTuple):
    """A function and what it is given: paths, calls, numbers, strings, truth values, None."""

    function: str
    arguments: Tuple[Any, ...]
    keywords: Tuple[Tuple[str, Any], ...]


def parse(target: str) -> Any:
    """A Path or a Call. Raises RenderError."""
    if len(target) > MAX_TARGET_CHARS:
        raise RenderError(f"a target is longer than {MAX_TARGET_CHARS} characters")
    return _Parser(target).whole()


class _Parser:
    """Takes one token after the other; each method takes what it is named after."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._tokens: List[Tuple[str, str]] = list(self._split())
        self._place = 0
        self._nesting = 0

    def whole(self) -> Any:
        """All of the target."""
        expression = self._expression()
        if self._next() != END:
            self._fail()
        return expression

    def _split(self) -> Iterator[Tuple[str, str]]:
        place = 0
        while True:
            found = TOKEN.match(self._target, place)
            if found is None:
                raise RenderError(
                    f"a target can't be read from here on: {self._target[place:][:100]}"
                )
            kind = str(found.lastgroup)
            yield kind, found.group(kind)
            if kind == "end":
                return
            place = found.end()

    def _peek(self) -> Tuple[str, str]:
        return self._tokens[self._place]

    def _next(self) -> Tuple[str, str]:
        token = self._tokens[self._place]
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _fail(self) -> None:
        rest = " ".join(text for _, text in self._tokens[max(self._place - 1, 0) :])
        raise RenderError(f"a target can't be read: {(rest or 'its end is missing')[:100]}")

    def _expression(self) -> Any:
        """A path or a call, and what it is piped through."""
        kind, text = self._next()
        if kind not in ("path", "number"):
            self._fail()
        expression: Any = self._call(text, ()) if self._opens(text) else Path(_plain(text))
        pipes = 0
        while self._peek() == ("sign", "|"):
            self._next()
            pipes += 1
            _, name = self._next()
            if not self._opens(name) or pipes > MAX_NESTING:
                self._fail()
            expression = self._call(name, (expression,))
        return expression

    def _opens(self, name: str) -> bool:
        return self._peek() == ("sign", "(") and NAME.match(name) is not None

    def _call(self, name: str, first: Tuple[Any, ...]) -> Call:
        """What stands in the parentheses of a function."""
        self._nesting += 1
        if self._nesting > MAX_NESTING:
            raise RenderError(f"functions are nested deeper than {MAX_NESTING}")
        self._next()
        arguments: List[Any] = list(first)
        keywords: List[Tuple[str, Any]] = []
        while self._peek() != ("sign", ")"):
            keyword = self._keyword()
            if keyword:
                keywords.append((keyword, self._argument()))
            elif keywords:
                self._fail()
            else:
                arguments.append(self._argument())
            if self._peek() == ("sign", ","):
                self._next()
            elif self._peek() != ("sign", ")"):
                self._next()
                self._fail()
        self._next()
        self._nesting -= 1
        return Call(name, tuple(arguments), tuple(keywords))

    def _keyword(self) -> str:
        """The name before an equals sign, which is taken off the token."""
        kind, text = self._peek()
        found = KEYWORD.match(text) if kind == "path" else None
        if found is None:
            return ""
        rest = text[found.end() :]
        if rest:
            [token, _] = _Parser(rest)._tokens if TOKEN.match(rest) else [END, END]
            self._tokens[self._place] = token
        else:
            self._next()
        return found.group(1)

    def _argument(self) -> Any:
        kind, text = self._peek()
        if kind == "string":
            self._next()
            return text[1:-1]
        if kind == "number":
            self._next()
            return _number(text)
        if kind == "path" and text.lower() in WORDS:
            self._next()
            return WORDS[text.lower()]
        return self._expression()


def _plain(path: str) -> str:
    """A path without the backslashes that stand before signs."""
    return re.sub(r"\\(.)", r"\1", path)


def _number(text: str) -> Any:
    try:
        number = float(text)
        return int(text) if re.match(r"-?\d{1,300}\Z", text) else number
    except ValueError:
        raise RenderError(f"not a number: {text[:100]}") from None
