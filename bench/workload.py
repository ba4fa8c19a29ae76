"""What a load client sends, and what it has to be answered: prepared blocks of requests.

Every key belongs to one client and every timestamp is new, as with machines that each report their
own metrics, so all servers append and none overwrites.
"""

import random
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

FIRST_TIMESTAMP = 1500000000  # ten digits, as real ones have

# The points that are stored before gets are measured go out in blocks of this many requests.
SETUP_BLOCK = 500

MIXES = ("put", "get", "mixed")


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
    def get(key: str, points: List[Tuple[int, str]]) -> Block:
        """A get of a key that holds exactly these points, sorted by time."""
        rows = "".join(f"{key} {value} {timestamp}\n" for timestamp, value in points)
        return Block(f"get {key}\n".encode(), f"ok\n{rows}\n".encode())


class Redis:
    """The same points in Redis: a hash for each key, from timestamp to value."""

    @staticmethod
    def put(key: str, value: str) -> Tuple[str, bytes]:
        """An HSET with %d for its field, and the reply for a new field."""
        words = f"*4\r\n$4\r\nHSET\r\n${len(key)}\r\n{key}\r\n$10\r\n%d\r\n"
        return f"{words}${len(value)}\r\n{value}\r\n", b":1\r\n"

    @staticmethod
    def get(key: str, points: List[Tuple[int, str]]) -> Block:
        """An HGETALL."""
        words = [str(word) for point in points for word in point]
        reply = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        request = f"*2\r\n$7\r\nHGETALL\r\n${len(key)}\r\n{key}\r\n"
        return Block(request.encode(), reply.encode(), any_order=True)


class Carbon:
    """Graphite's line protocol, which has no replies and no get."""

    @staticmethod
    def put(key: str, value: str) -> Tuple[str, bytes]:
        """A line with %d for its timestamp."""
        return f"{key} {value} %d\n", b""


PROTOCOLS: Dict[str, Any] = {"metricsd": Metricsd, "redis": Redis, "carbon": Carbon}


class Workload:
    """The endless requests of one client: ``pipeline`` of them in a block, over ``keys`` keys.

    The mix is put, get (of a key that holds ``points`` points) or mixed (in turn one of each).
    """

    def __init__(
        self, protocol: str, mix: str, name: str, keys: int, pipeline: int, points: int
    ) -> None:
        self._protocol = PROTOCOLS[protocol]
        self._pipeline = pipeline
        self._timestamp = FIRST_TIMESTAMP
        self._dice = random.Random(name)
        self._kinds = ["put", "get"] if mix == "mixed" else [mix]
        self._names = [f"{name}.{number}" for number in range(keys)]
        self._points = points
        self._gets: List[Block] = []

    def setup(self) -> Iterator[Block]:
        """Yield the blocks that store what the gets will read; run them first."""
        if "get" not in self._kinds:
            return
        for name in self._names:
            key = name + ".read"
            points = [(FIRST_TIMESTAMP + n, self._value()) for n in range(self._points)]
            self._gets.append(self._protocol.get(key, points))
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
        cycle = len(self._names) * len(self._kinds)
        templates = [self._template(start) for start in range(cycle)]
        while True:
            for template, puts, replies, any_order in templates:
                timestamps = range(self._timestamp, self._timestamp + puts)
                self._timestamp += puts
                requests = template % tuple(timestamps) if puts else template
                yield Block(requests, replies, any_order)

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
