"""Requests out of a stream of bytes, and nothing that only looks like one.

Owns the bytes that have come and make no whole request yet. It is strict on purpose: two programs
that frame a request differently can be made to see different requests (RFC 9112, section 11.2).
"""

import http.client
import io
import re
from typing import Dict, List, NamedTuple, Optional

from metricsd.http.messages import HttpError, Request

# Bytes of a request line with its header fields, and of a body: a hundred targets of Grafana fit.
MAX_HEAD_BYTES = 16 * 1024
MAX_BODY_BYTES = 64 * 1024

METHODS = ("GET", "HEAD", "POST", "DELETE")

# RFC 9112, sections 3 and 5, with RFC 9110's tokens (5.6.2) and field values (5.5).
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x7e]+) (HTTP/[0-9]\.[0-9])\Z")
FIELD_LINE = re.compile(
    TOKEN + rb":[ \t]*(?:[\x21-\x7e\x80-\xff](?:[ \t]*[\x21-\x7e\x80-\xff])*)?[ \t]*\Z"
)
LENGTH = re.compile(r"[0-9]{1,19}\Z")
VERSIONS = ("HTTP/1.0", "HTTP/1.1")

END_OF_LINE = b"\r\n"
END_OF_HEAD = b"\r\n\r\n"

ONLY_ONCE = ("host", "content-length", "transfer-encoding", "content-type")


class Head(NamedTuple):
    """A request up to its body."""

    request: Request
    length: int  # bytes of the body
    expects_continue: bool


class Framing:
    """What has come of a request that is not whole."""

    __slots__ = ("_buffer", "_head", "_searched", "wants_continue")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0  # no head ends before this
        self._head: Optional[Head] = None  # of a request whose body is still to come
        self.wants_continue = False  # the client waits for a word before it sends the body

    @property
    def begun(self) -> bool:
        """Whether some of a request has come."""
        return bool(self._buffer) or self._head is not None

    def feed(self, data: bytes) -> None:
        """Take bytes as they come."""
        self._buffer += data

    def take(self) -> Optional[Request]:
        """The next whole request, or None as long as more of it is to come.

        Raises HttpError for what is none; nothing behind it can be understood any more.
        """
        if self._head is None:
            self._head = self._take_head()
            if self._head is None:
                return None
            self.wants_continue = self._head.expects_continue
        length = self._head.length
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        request, self._head, self.wants_continue = self._head.request, None, False
        return request._replace(body=body)

    def _take_head(self) -> Optional[Head]:
        buffer = self._buffer
        end = buffer.find(END_OF_HEAD, max(self._searched - len(END_OF_HEAD), 0), MAX_HEAD_BYTES)
        if end < 0:
            self._searched = len(buffer)
            if len(buffer) >= MAX_HEAD_BYTES:
                raise HttpError(431, f"a head has at most {MAX_HEAD_BYTES} bytes")
            if b"\n" in buffer and not buffer.partition(b"\n")[0].endswith(b"\r"):
                raise HttpError(400, "each line of a head ends with CR and LF")
            return None
        raw = bytes(buffer[:end])
        del buffer[: end + len(END_OF_HEAD)]
        self._searched = 0
        return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """Understand a head without its blank line. Raises HttpError."""
    first, *lines = raw.split(END_OF_LINE)
    found = REQUEST_LINE.match(first)
    if found is None:
        raise HttpError(400, "this is no request line of HTTP")
    method, target, version = (part.decode("ascii") for part in found.groups())
    if version not in VERSIONS:
        raise HttpError(505, "HTTP/1.1 is spoken here, and HTTP/1.0")
    headers = parse_fields(lines)
    if method not in METHODS:
        raise HttpError(501, "what is done here is " + ", ".join(METHODS))
    if not target.startswith("/"):
        raise HttpError(400, "a target begins with a slash")
    if version == "HTTP/1.1" and "host" not in headers:
        raise HttpError(400, "a request names its host")
    path, _, query = target.partition("?")
    request = Request(method, path, query, headers, b"", version)
    expects = version == "HTTP/1.1" and headers.get("expect", "").lower() == "100-continue"
    return Head(request, body_length(headers), expects)


def parse_fields(lines: List[bytes]) -> Dict[str, str]:
    """The header fields by their names in lower case. Raises HttpError.

    The standard library lets much pass that is no field, so each line is matched before.
    """
    for line in lines:
        if FIELD_LINE.match(line) is None:
            raise HttpError(400, "a header field is a name, a colon and a value on one line")
    try:
        message = http.client.parse_headers(io.BytesIO(END_OF_LINE.join([*lines, b"", b""])))
    except http.client.HTTPException:
        raise HttpError(431, "these are too many header fields") from None
    headers: Dict[str, str] = {}
    for name, value in message.items():
        name = name.lower()
        if name in headers and name in ONLY_ONCE:
            raise HttpError(400, f"there is more than one {name}")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value.strip(" \t")
    return headers


def body_length(headers: Dict[str, str]) -> int:
    """How many bytes the body has. Raises HttpError if that is not said in one plain number."""
    if "transfer-encoding" in headers:
        raise HttpError(501, "a body comes with its Content-Length")
    said = headers.get("content-length", "0")
    if LENGTH.match(said) is None:
        raise HttpError(400, "a length is a plain number")
    if int(said) > MAX_BODY_BYTES:
        raise HttpError(413, f"a body has at most {MAX_BODY_BYTES} bytes")
    return int(said)
