"""Requests and replies, as values.

Owns what they are made of, and how the head of a reply is written. Does not know how a request is
read, nor who answers it.
"""

import time
from email.utils import formatdate
from http import HTTPStatus
from typing import Callable, Dict, Generator, Iterator, List, NamedTuple, Tuple, Union
from urllib.parse import parse_qsl

from metricsd.store import Receipt

# What work on a reply yields: bytes of a body; b"" when it has worked for about a millisecond, and
# others have their turn; a receipt or an answer of the store, to go on once it is settled.
Step = Union[bytes, Receipt]
Fields = List[Tuple[str, str]]

# Parameters of a request: more than a hundred targets, at 1 us each.
MAX_PARAMETERS = 1000

FORM = "application/x-www-form-urlencoded"


class Reply(NamedTuple):
    """What is said to a request: its body is made while it is sent, unless it is just bytes."""

    status: int
    content_type: str
    body: Union[bytes, Iterator[Step]]
    fields: Tuple[Tuple[str, str], ...] = ()  # of the head, beside those that every reply has


# To answer is to work for a while, and then to return the reply.
Work = Generator[Step, None, Reply]


class HttpError(Exception):
    """A request that is not done; the client is told why."""

    def __init__(self, status: int, problem: str, *fields: Tuple[str, str]) -> None:
        super().__init__(f"{status} {problem}")
        self.reply = text(problem + "\n", status, fields)


class Request(NamedTuple):
    """A whole request."""

    method: str
    path: str  # still with its percent signs
    query: str
    headers: Dict[str, str]  # by their names in lower case
    body: bytes
    version: str  # HTTP/1.0 or HTTP/1.1

    @property
    def keeps_alive(self) -> bool:
        """Whether the client may send another one behind it."""
        said = self.headers.get("connection", "").split(",")
        return self.version != "HTTP/1.0" and "close" not in [one.strip().lower() for one in said]

    def parameters(self) -> Dict[str, List[str]]:
        """Those of the query, then those of a form in the body: every value of each name.

        Raises HttpError if there are too many.
        """
        texts = [self.query]
        if self.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
            texts.append(self.body.decode("utf-8", "replace"))
        if sum(text.count("&") + 1 for text in texts) > MAX_PARAMETERS:
            raise HttpError(400, f"a request has at most {MAX_PARAMETERS} parameters")
        pairs = [pair for text in texts for pair in parse_qsl(text, keep_blank_values=True)]
        found: Dict[str, List[str]] = {}
        for name, value in pairs:
            found.setdefault(name, []).append(value)
        return found


def text(said: str, status: int = 200, fields: Tuple[Tuple[str, str], ...] = ()) -> Reply:
    """A reply in plain words."""
    return Reply(status, "text/plain; charset=utf-8", said.encode(), fields)


def head(
    status: int, fields: Fields, keeps_alive: bool, wall_clock: Callable[[], float] = time.time
) -> bytes:
    """The first lines of a reply (RFC 9112, section 4), to the blank one."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in fields]
    lines.append("Date: " + formatdate(wall_clock(), usegmt=True))
    if not keeps_alive:
        lines.append("Connection: close")
    return "\r\n".join(lines + ["", ""]).encode("latin-1")
