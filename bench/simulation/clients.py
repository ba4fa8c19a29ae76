"""A client: what it asks, how it reads, and whether it is told what it has to be.

Owns the other end of a connection. Does not know when it does something: the world says so.
"""

from collections import deque
from typing import TYPE_CHECKING, Deque, List, Tuple

from simulation.dice import Dice
from simulation.model import EVERY_KEY, Get, Model, Put, Request, promise
from simulation.network import Socket

if TYPE_CHECKING:
    from simulation.world import World

KEYS = ["cpu", "load", "ram", "dsk", "net"]
LONG_KEY = "a.key.that.makes.large.replies." + "x" * 50
OLD_TIMES = 40  # different timestamps that are put again and again
BULK_PUTS = 260  # more than make a block, 240

BAD_LINES = [
    b"GET cpu", b"get", b"get a b", b"put", b"put cpu 1", b"put cpu x 1", b"put cpu 1 1.5",
    b"put cpu 1 1 1", b"put \xff 1 1", b"*", b"got " + b"x" * 300,
]  # fmt: skip

FEW = 6  # lines that a feeder sends at a time, at most

EOF_EARLY = "the server closes a connection without a reason"


class Client:
    """One that connects, asks and reads."""

    def __init__(self, sock: Socket, in_room: int, model: Model) -> None:
        self.name = "a client who waits"
        self.socket = sock
        self.eager = self.deaf = False  # how it reads: at once, never, or when the world says so
        self.expected: Deque[Request] = deque()
        self.answered = 0
        self.ended = self.left = self.over = False
        self.accepted = False
        self.due = 0  # answers, when the server stops
        self.stalled = 0  # turns without a byte for or from it, though it is owed an answer
        self.moved = 0
        self.active = 0.0  # when it last sent something, in seconds
        self.chatty = False  # it goes on asking while the server stops
        self._in_room = in_room
        self._model = model
        self.outbox = bytearray()  # that is to be sent
        self._asked = self._pushed = 0  # bytes
        self._received = bytearray()
        self._order = 0

    @property
    def has_work(self) -> bool:
        """Whether there is something to send or to read."""
        sock = self.socket
        return bool(self.outbox or sock.outbound or sock.shut or sock.reset) and not self.left

    @property
    def owed(self) -> bool:
        """Whether a whole request has arrived that is not answered yet."""
        return bool(self.expected) and self.expected[0].end <= self._pushed

    @property
    def unwanted(self) -> bool:
        """Whether it has been told that it is a stranger, and not been hung up on."""
        return self.over and bool(self.answered) and not (self.socket.shut or self.left)

    @property
    def whole_requests(self) -> int:
        """How many of those that are not answered have arrived."""
        return sum(request.end <= self._pushed for request in self.expected)

    def ask(self, dice: Dice, count: int, world: "World") -> bytes:
        """Ask so much more; return it. Of BULK_PUTS each is of the same key."""
        asked = b""
        for _ in range(count):
            if self.ended or self.left or self.over:
                break
            asked += self._line(dice, count == BULK_PUTS, world) + b"\n"
            self.expected[-1].end = self._asked + len(asked)
        self._asked += len(asked)
        self.outbox += asked
        return asked

    def push(self, most: int, now: float) -> bytes:
        """Send some of what is asked, as far as the kernel takes it."""
        sock = self.socket
        if sock.closed or self.left:
            return b""
        data = bytes(self.outbox[: min(most, self._in_room - len(sock.inbound))])
        sock.inbound += data
        del self.outbox[: len(data)]
        self._pushed += len(data)
        if data:
            self.active = now
        return data

    def end(self) -> None:
        """Say no more; what has not been sent yet never is."""
        self.ended = self.socket.ended = True
        self.outbox.clear()

    def leave(self) -> None:
        """Be gone, without a word."""
        self.left = self.socket.reset = True
        self.expected.clear()

    def read(self, most: int, world: "World") -> bytes:
        """Read, and check what the replies are."""
        sock = self.socket
        if sock.reset:
            self.leave()
        if self.left:
            return b""
        data = bytes(sock.outbound[:most])
        if data:
            del sock.outbound[:most]
            self._received += data
            self._take_replies(world)
        elif sock.shut and not sock.outbound:
            self._on_end(world)
        return data

    def _on_end(self, world: "World") -> None:
        """The server says no more."""
        free = self.socket.refused or world.stopping
        timeout = world.options.idle_timeout
        silent = timeout is not None and world.clock.now >= self.active + timeout
        idle = silent and not self.owed
        promise(free or idle or self.over or self.ended, EOF_EARLY)
        done = free or not self.owed or self.over
        promise(done, "the end of input is taken for a close: a request is not answered")
        self.left = True
        self.expected.clear()

    def _line(self, dice: Dice, bulk: bool, world: "World") -> bytes:
        """One more request."""
        self._order += 1
        kind = 0 if bulk else dice.below(40)
        here = (self, self._order, world.step)
        if kind < 26:
            put = Put(*here)
            put.key = LONG_KEY if bulk else dice.choice(KEYS)
            put.seconds = world.clock.now
            put.timestamp = world.timestamp(dice, bulk)
            put.value = world.next_value()
            self._model.add(put)
            self.expected.append(put)
            return b"put %s %d %d" % (put.key.encode(), put.value, put.timestamp)
        if kind < 36:
            key = EVERY_KEY if kind == 26 else LONG_KEY if kind == 27 else dice.choice(KEYS)
            get = Get(*here, key)
            self._model.expect(get, self.expected)
            self.expected.append(get)
            return b"get " + key.encode()
        self.expected.append(Request(*here))
        if self._order == 1 and kind == 36:
            self.over = True
            return b"POST /metrics HTTP/1.1"
        return dice.choice(BAD_LINES)

    def _take_replies(self, world: "World") -> None:
        while True:
            end = self._received.find(b"\n\n") + 2
            if end < 2:
                return
            reply = bytes(self._received[:end]).decode()
            del self._received[:end]
            asked = self.owed or (self.expected and type(self.expected[0]) is Request)
            promise(bool(asked), f"a reply that nobody has asked for: {reply!r:.60}")
            self.answered += 1
            world.step += 1
            self._check(self.expected.popleft(), reply, world)

    def _check(self, request: Request, reply: str, world: "World") -> None:
        if isinstance(request, Get):
            promise(reply.startswith("ok\n"), f"a get is answered with {reply!r:.60}")
            self._model.check(request, reply[3:-1].splitlines(), world.step)
        elif not isinstance(request, Put):
            promise(reply == "error\nwrong command\n\n", f"a mistake is answered {reply!r:.60}")
        elif reply == "ok\n\n":
            self._model.stored(request, world.step)
        else:
            promise(not request.sure, "a put is refused that a get has shown")
            promise(world.may_refuse(request, reply), f"a put is answered with {reply!r:.60}")
            request.refused = True
        request.told = request.told or world.step


class Feeder(Client):
    """One that sends lines of Graphite's; nothing is ever said to it."""

    def __init__(self, sock: Socket, in_room: int, model: Model) -> None:
        super().__init__(sock, in_room, model)
        self.eager = True
        self.lines: List[Put] = []
        self._taken = 0  # of these

    def ask(self, dice: Dice, count: int, world: "World") -> bytes:
        """Send so many lines; a bad one among them is passed over."""
        if self.ended or self.left:
            return b""
        for _ in range(min(count, FEW)):
            line, put = feed(self, dice, world)
            self.outbox += line
            self._asked += len(line)
            put.end = self._asked
            self.lines.append(put)
        return b""

    def read(self, most: int, world: "World") -> bytes:
        """See whether the server closes."""
        self.left = self.left or self.socket.reset or self.socket.shut
        return b""

    @property
    def whole_requests(self) -> int:
        """How many lines have arrived."""
        return sum(put.end <= self._pushed for put in self.lines)

    def taken(self) -> List[Put]:
        """The lines that the server has received since this was asked last."""
        done = self._pushed - len(self.socket.inbound)
        first = self._taken
        while self._taken < len(self.lines) and self.lines[self._taken].end <= done:
            self._taken += 1
        return self.lines[first : self._taken]


def feed(sender: object, dice: Dice, world: "World") -> Tuple[bytes, Put]:
    """One line, now and then with a bad one before it, and what it puts."""
    put = Put(sender, 0, world.step)
    put.key = dice.choice(KEYS)
    put.seconds = world.clock.now
    put.timestamp = world.timestamp(dice, True)
    put.value = world.next_value()
    world.model.add(put)
    bad = b"cpu one 1\n" if dice.one_in(8) else b""
    return bad + b"%s %d %d\n" % (put.key.encode(), put.value, put.timestamp), put
