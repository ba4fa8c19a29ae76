"""What a load client sends, and what it has to be answered: prepared blocks of requests.

Every key belongs to one client and every timestamp is new, as with machines that each report their
own metrics, so all servers append and none overwrites.
"""

import itertools
import random
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

FIRST_TIMESTAMP = 1500000000  # ten digits, as real ones have

# The points that are stored before gets are measured go out in blocks of this many requests.
SETUP_BLOCK = 500

MIXES = ("put", "get", "mixed", "grown")


class Block(NamedTuple):
    """Requests that are sent together, and the replies to all of them."""

    requests: bytes
    replies: bytes
    any_order: bool = False  # Redis gives the fields of a hash in an order of its own

    def wrong(self, received: bytes) -> Optional[int]:
        """How many of the replies received are wrong; None if they are not all there yet.

        For bytes that are not the expected ones: then only their blank lines tell where they end.
        """
        if self.any_order:
            if len(received) < len(self.replies):
                return None
            right = sorted(received.split(b"\r\n")) == sorted(self.replies.split(b"\r\n"))
            return 0 if right else 1
        expected, answers = self.replies.split(b"\n\n"), received.split(b"\n\n")
        if len(answers) < len(expected):
            return None
        return sum(answer != wanted for answer, wanted in zip(answers, expected))


class Metricsd:
    """The protocol of metricsd, and of every peer that speaks it."""

    @staticmethod
    def put(key: str, value: str) -> Tuple[str, bytes]:
        """A request with %d for its timestamp, and the reply."""
        return f"put {key} {value} %d\n", b"ok\n\n"

    @staticmethod
    def row(key: str, timestamp: int, value: str) -> bytes:
        """A point in the reply to a get."""
        return f"{key} {value} {timestamp}\n".encode()

    @staticmethod
    def get(key: str, rows: bytes, count: int) -> Block:
        """A get of a key that holds exactly these rows, sorted by time, so many in all."""
        return Block(f"get {key}\n".encode(), b"ok\n" + rows + b"\n")


class Redis:
    """The same points in Redis: a hash for each key, from timestamp to value."""

    @staticmethod
    def put(key: str, value: str) -> Tuple[str, bytes]:
        """An HSET with %d for its field, and the reply for a new field."""
        words = f"*4\r\n$4\r\nHSET\r\n${len(key)}\r\n{key}\r\n$10\r\n%d\r\n"
        return f"{words}${len(value)}\r\n{value}\r\n", b":1\r\n"

    @staticmethod
    def row(key: str, timestamp: int, value: str) -> bytes:
        """A field and its value in the reply to an HGETALL."""
        return f"$10\r\n{timestamp}\r\n${len(value)}\r\n{value}\r\n".encode()

    @staticmethod
    def get(key: str, rows: bytes, count: int) -> Block:
        """An HGETALL."""
        request = f"*2\r\n$7\r\nHGETALL\r\n${len(key)}\r\n{key}\r\n"
        return Block(request.encode(), b"*%d\r\n" % (2 * count) + rows, any_order=True)


class Carbon:
    """Graphite's line protocol, which has no replies and no get."""

    @staticmethod
    def put(key: str, value: str) -> Tuple[str, bytes]:
        """A line with %d for its timestamp."""
        return f"{key} {value} %d\n", b""


PROTOCOLS: Dict[str, Any] = {"metricsd": Metricsd, "redis": Redis, "carbon": Carbon}


class Workload:
    """The endless requests of one client: ``pipeline`` of them in a block, over ``keys`` keys.

    The mix is put, get (of a key that holds ``points`` points), mixed (in turn one of each) or
    grown (a put of one more point and a get of them all, taken as one request).
    """

    def __init__(
        self, protocol: str, mix: str, name: str, keys: int, pipeline: int, points: int
    ) -> None:
        self._protocol = PROTOCOLS[protocol]
        self._pipeline = pipeline
        self._timestamp = FIRST_TIMESTAMP
        self._dice = random.Random(name)
        self._grows = mix == "grown"
        self._kinds = ["put", "get"] if mix == "mixed" else [mix]
        self._names = [f"{name}.{number}" for number in range(keys)]
        self._points = points
        self._stored: List[bytes] = []  # of each key that is read, its rows
        self._gets: List[Block] = []

    def setup(self) -> Iterator[Block]:
        """Yield the blocks that store what the gets will read; run them first."""
        if self._kinds == ["put"]:
            return
        for name in self._names:
            key = name + ".read"
            points = [(FIRST_TIMESTAMP + n, self._value()) for n in range(self._points)]
            rows = b"".join(self._protocol.row(key, *point) for point in points)
            self._stored.append(rows)
            self._gets.append(self._protocol.get(key, rows, len(points)))
            for start in range(0, len(points), SETUP_BLOCK):
                requests = b""
                replies = b""
                for timestamp, value in points[start : start + SETUP_BLOCK]:
                    request, reply = self._protocol.put(key, value)
                    requests += (request % timestamp).encode()
                    replies += reply
                yield Block(requests, replies)

    def blocks(self) -> Iterator[Block]:
        """Yield block after block, without end. Made from templates: little work for each."""
        if self._grows:
            pairs = self._growing()
            while True:
                of_each = list(zip(*itertools.islice(pairs, self._pipeline)))
                yield Block(b"".join(of_each[0]), b"".join(of_each[1]), any(of_each[2]))
        cycle = len(self._names) * len(self._kinds)
        templates = [self._template(start) for start in range(cycle)]
        while True:
            for template, puts, replies, any_order in templates:
                timestamps = range(self._timestamp, self._timestamp + puts)
                self._timestamp += puts
                requests = template % tuple(timestamps) if puts else template
                yield Block(requests, replies, any_order)

    def _growing(self) -> Iterator[Block]:
        """Yield a put and a get of the same key, which grows, without end."""
        for count in itertools.count(self._points + 1):
            for place, name in enumerate(self._names):
                key, value, timestamp = name + ".read", self._value(), FIRST_TIMESTAMP + count - 1
                request, reply = self._protocol.put(key, value)
                self._stored[place] += self._protocol.row(key, timestamp, value)
                get = self._protocol.get(key, self._stored[place], count)
                put = (request % timestamp).encode()
                yield Block(put + get.requests, reply + get.replies, get.any_order)

    def _template(self, start: int) -> Tuple[bytes, int, bytes, bool]:
        """Requests with %d for timestamps, how many of those there are, and the replies."""
        requests: List[bytes] = []
        replies: List[bytes] = []
        puts = 0
        any_order = False
        for number in range(start * self._pipeline, (start + 1) * self._pipeline):
            place = number // len(self._kinds) % len(self._names)
            if self._kinds[number % len(self._kinds)] == "put":
                request, reply = self._protocol.put(self._names[place], self._value())
                requests.append(request.encode())
                replies.append(reply)
                puts += 1
            else:
                get = self._gets[place]
                requests.append(get.requests)
                replies.append(get.replies)
                any_order |= get.any_order
        return b"".join(requests), puts, b"".join(replies), any_order

    def _value(self) -> str:
        return str(self._dice.randrange(10000) / 100)
