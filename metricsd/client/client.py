"""A blocking client.

Owns one connection and the reading of replies. Shares no code with the server: it shows what a
client needs to know, which is the protocol alone.
"""

import contextlib
import numbers
import selectors
import socket
import time
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from metricsd.client.sockets import connected, not_ready

Value = Union[float, str]  # what float() takes
Timestamp = Union[int, str]  # seconds; what int() takes
Measurement = Tuple[str, Value, Timestamp]  # key, value, timestamp
Row = Tuple[str, int, float]  # key, timestamp, value
Metrics = Dict[str, List[Tuple[int, float]]]

RECEIVE_BYTES = 64 * 1024

# put_many hands so many bytes to the socket in one call.
SEND_BYTES = 64 * 1024

REPLY_END = b"\n\n"


class ClientError(Exception):
    """A request failed: refused here or by the server, or the connection did."""


class Client:
    """A connection to a metrics server, open until ``close``; also a context manager.

    ``host`` and ``port`` say where it is, or ``unix:PATH`` alone. ``tls`` is an ssl.SSLContext for
    a server that speaks TLS, such as ssl.create_default_context(cafile="ca.pem").

    ``timeout`` is how many seconds the server may stay silent (None: as long as it likes). Every
    method, the constructor too, raises ClientError when it fails. After an error reply, or one with
    a malformed row, the connection goes on. After any other failure (a time-out, an end of file,
    bytes that are no reply) it is closed and every later call fails: what comes next could be the
    reply to an earlier request.
    """

    def __init__(
        self,
        host: str,
        port: Optional[int] = None,
        timeout: Optional[float] = None,
        tls: Any = None,
    ) -> None:
        self._timeout = timeout
        self._not_ready = not_ready(tls)
        self._received = bytearray()
        if timeout is not None and timeout <= 0:
            raise ClientError(f"a timeout of {timeout!r} seconds is not positive")
        try:
            self._socket = connected(host, port, timeout, tls)
        except (OSError, OverflowError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            where = host if port is None else f"{host}:{port}"
            raise ClientError(f"cannot connect to {where}: {reason}") from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection. Closing twice is harmless."""
        self._socket.close()

    def put(self, key: str, value: Value, timestamp: Optional[Timestamp] = None) -> None:
        """Store one measurement, at the present time unless a timestamp is given."""
        rows = self._request(_put_line(key, value, timestamp))
        if rows:
            raise ClientError(f"malformed reply to a put: {rows[0]!r}")

    def get(self, key: str) -> Metrics:
        """Return ``{key: [(timestamp, value), ...]}``, sorted by timestamp; ``*`` is every key.

        A key without measurements is not in the result.
        """
        metrics: Metrics = {}
        for row in self._request(_line("get", key)):
            words = row.split()
            try:
                name, value, timestamp = words
                point = int(timestamp), float(value)
            except ValueError:
                raise ClientError(f"malformed row in the reply: {row!r}") from None
            metrics.setdefault(name, []).append(point)
        for points in metrics.values():
            points.sort(key=lambda point: point[0])
        return metrics

    def rows(self, key: str) -> Iterator[Row]:
        """Yield key, timestamp and value of each row that ``get`` would return, as they come.

        However many there are, few are in memory. The connection is for nothing else until the last
        has come; leaving off earlier closes it.
        """
        error: Optional[List[bytes]] = None
        with self._closing_on_failure():
            self._expect_silence()
            self._socket.sendall(_line("get", key))
            lines = self._reply_lines()
            status = next(lines)
            if status == b"ok":
                yield from map(_row, lines)
            elif status == b"error":
                error = list(lines)
            else:
                raise ClientError(f"malformed reply: {status!r} is no status")
        if error is not None:
            raise ClientError(b" ".join(error).decode("utf-8", "replace") or "error")

    def _reply_lines(self) -> Iterator[bytes]:
        """The lines of a reply as they come, up to the blank one, which is the end."""
        while True:
            end = self._received.rfind(b"\n") + 1
            lines = bytes(self._received[:end]).split(b"\n")[:-1]
            del self._received[:end]
            for number, line in enumerate(lines, 1):
                if not line:
                    self._received[:0] = b"\n".join(lines[number:])  # there should be nothing
                    return
                yield line
            self._receive()

    def put_many(self, measurements: Iterable[Measurement]) -> None:
        """Store any number of measurements without waiting for each reply.

        Nothing is sent if one of them would break the protocol's framing. If the server refuses
        some, the others are stored all the same, and the error names the first one refused.
        """
        lines: List[bytes] = []
        for number, measurement in enumerate(measurements):
            try:
                lines.append(_put_line(*measurement))
            except (ClientError, TypeError) as error:
                raise ClientError(f"measurement {number}: {error}") from None
        refused = self.pipeline(lines)
        if refused:
            number, reason = refused[0]
            line = lines[number].decode().strip()
            raise ClientError(
                f"measurement {number} refused ({reason}): {line}; "
                f"{len(refused)} of {len(lines)} refused in all"
            )

    def _request(self, line: bytes) -> List[str]:
        """Send one request; return the lines of data in the reply."""
        with self._closing_on_failure():
            self._expect_silence()
            self._socket.sendall(line)
            status, _, data = self._read_reply().partition(b"\n")
            if status not in (b"ok", b"error"):
                raise ConnectionError(f"malformed reply: {status!r} is no status")
        try:
            rows = data.decode().split("\n") if data else []
        except UnicodeDecodeError:
            raise ClientError("malformed reply: not UTF-8") from None
        if status == b"error":
            raise ClientError(" ".join(rows) or "error")
        return rows

    def _read_reply(self) -> bytes:
        """Read up to the blank line that ends a reply; return what comes before it."""
        searched = 0
        while True:
            end = self._received.find(REPLY_END, max(searched - 1, 0))
            if end >= 0:
                reply = bytes(self._received[:end])
                del self._received[: end + len(REPLY_END)]
                return reply
            searched = len(self._received)
            self._receive()

    def _receive(self) -> None:
        data = self._socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._received += data

    def _expect_silence(self) -> None:
        """Make sure that nothing unread is taken for the reply to the next request."""
        if self._socket.fileno() < 0:
            raise ConnectionError("the connection is closed")
        if not self._received:
            self._socket.settimeout(0)
            try:
                if not self._socket.recv(1):
                    raise ConnectionError("the server closed the connection")
            except self._not_ready:
                return
            finally:
                self._socket.settimeout(self._timeout)
        raise ConnectionError("the server sent more than one reply")

    def pipeline(self, lines: List[bytes]) -> List[Tuple[int, str]]:
        """Send puts, each a line, and read the replies meanwhile; return the errors by position.

        Whoever only writes, and reads when all is written, may wait for ever: the server stops
        reading while its own replies find no reader.
        """
        outgoing = memoryview(b"".join(lines))
        answers: List[bytes] = []
        with self._closing_on_failure():
            self._expect_silence()
            self._socket.settimeout(0)
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
                while len(answers) < len(lines):
                    ready = selector.select(self._timeout)
                    if not ready:
                        raise socket.timeout("timed out")
                    _, events = ready[0]
                    if events & selectors.EVENT_READ:
                        self._receive_ready()
                        answers += self._take_answers()
                    if events & selectors.EVENT_WRITE:
                        outgoing = outgoing[self._send_ready(outgoing[:SEND_BYTES]) :]
                        if not outgoing:
                            selector.modify(self._socket, selectors.EVENT_READ)
            if outgoing:
                raise ConnectionError("the server answered what it had not been sent")
            self._socket.settimeout(self._timeout)
            return _errors(answers, len(lines))

    def _receive_ready(self) -> None:
        """Receive what there is, also what TLS has decrypted already, which no select sees."""
        pending = getattr(self._socket, "pending", None)
        with contextlib.suppress(*self._not_ready):
            self._receive()
            while pending is not None and pending():
                self._receive()

    def _send_ready(self, data: memoryview) -> int:
        """Send as much as is taken without waiting; return how many bytes that is."""
        try:
            return self._socket.send(data)
        except self._not_ready:
            return 0

    def _take_answers(self) -> List[bytes]:
        """Take every whole reply that has been received, each without the blank line at its end."""
        end = self._received.rfind(REPLY_END) + 1
        if not end:
            return []
        answers = bytes(self._received[: end - 1]).split(REPLY_END)
        del self._received[: end + 1]
        return answers

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        """Close if anything ends an exchange early, be it Ctrl-C: a reply may be left unread."""
        try:
            yield
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise ClientError(str(error)) from error
            raise


def _row(line: bytes) -> Row:
    try:
        key, value, timestamp = line.decode().split()
        return key, int(timestamp), float(value)
    except ValueError:
        raise ClientError(f"malformed row in the reply: {line!r}") from None


def _errors(answers: List[bytes], expected: int) -> List[Tuple[int, str]]:
    if len(answers) > expected:
        raise ConnectionError("the server sent too many replies")
    errors = []
    for number, answer in enumerate(answers):
        if answer != b"ok":
            status, _, reason = answer.decode("utf-8", "replace").partition("\n")
            if status != "error":
                raise ConnectionError(f"malformed reply: {answer!r}")
            errors.append((number, reason))
    return errors


def _put_line(key: str, value: Value, timestamp: Optional[Timestamp] = None) -> bytes:
    """A put. Raises ClientError, naming the argument, for one of a type that it does not take."""
    if not isinstance(key, str):
        raise ClientError(f"key takes text, not {key!r}")
    if not isinstance(value, (str, int, float)) and hasattr(value, "__float__"):
        value = float(value)  # Decimal, Fraction and the like
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ClientError(f"value takes a number, not {value!r}")
    if timestamp is None:
        timestamp = int(time.time())
    if isinstance(timestamp, bool) or not isinstance(timestamp, (str, numbers.Integral)):
        problem = f"timestamp takes whole seconds, not {timestamp!r}; try int(time.time())"
        raise ClientError(problem)
    return _line("put", key, value, timestamp)


def _line(command: str, *arguments: object) -> bytes:
    """A request. Raises ClientError if an argument would not arrive as the one word that it is."""
    try:
        words = [str(argument) for argument in arguments]
        for word in words:
            if word.split() != [word]:
                raise ClientError(f"{word!r} is empty or holds white space")
        return (" ".join([command, *words]) + "\n").encode()
    except ValueError as error:  # a lone surrogate, an int of too many digits
        raise ClientError(str(error)) from None
