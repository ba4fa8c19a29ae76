"""A client: what it asks, how it reads, and whether it is told what it has to be.

Owns the other end of a connection. Does not know when it does something: the world says so.
"""

from collections import deque
from typing import TYPE_CHECKING, Deque, Optional

from metricsd.loop import Connection
from simulation.dice import Dice
from simulation.model import EVERY_KEY, Get, Put, Request, promise
from simulation.network import Datagrams, Socket

if TYPE_CHECKING:
    from simulation.world import World

MOST = 10**9  # bytes: all of them
ROOMS = [700, 5_000, 70_000, 200_000]  # bytes that a kernel keeps for a socket
KEYS = ["cpu", "load", "ram", "dsk", "net"]
LONG_KEY = "a.key.that.makes.large.replies." + "x" * 50
START = 1_500_000_000  # what the wall clock says first, in seconds
OLD_TIMES = 40  # different timestamps that are put again and again
FEW = 6  # lines that are sent at a time, at most
BULK_PUTS = 260  # of this key; more than make a block, 240

BAD_LINES = [
    b"GET cpu", b"get", b"get a b", b"put", b"put cpu 1", b"put cpu x 1", b"put cpu 1 1.5",
    b"put cpu 1 1 1", b"put cpu 1 1 put", b"put 1 1", b"put \xff 1 1", b"*", b"got " + b"x" * 300,
    b"got " + b"x" * 40_000,
]  # fmt: skip
STRANGE = b"POST /metrics HTTP/1.1"  # ends a session that begins with it
MORE = b"\nput cpu 1 1" * 2000  # which follows it, and is not run

FULL = "error\nstore is full\n"
EARLY = "the server closes a connection without a reason"


class Client:
    """One that connects, asks and reads; or that feeds: it only sends Graphite's lines."""

    def __init__(self, world: "World", sock: Socket, feeds: bool, dice: Dice) -> None:
        self._world = world
        self.name = "a client who waits"
        self.socket = sock
        self.feeds = feeds
        self.eager = not dice.one_in(3)  # it sends and reads at once
        self.deaf = not (self.eager or feeds) and dice.one_in(4)  # it never reads
        self.chatty = self.eager and not feeds and dice.one_in(4)  # also while the server stops
        self.expected: Deque[Request] = deque()  # what is to be answered, or stored
        self.ended = self.left = self.over = False
        self.connection: Optional[Connection] = None  # the server's, from when it is accepted
        self.answered = 0
        self.arrived = 0  # bytes, before the server was stopped
        self.stalled = self.moved = 0  # turns for which it waits, and bytes
        self.active = 0.0  # when it last sent or was sent something, in seconds
        self.overdue = 0.0  # seconds for which it has been idle for too long
        self._room = MOST if isinstance(sock, Datagrams) else dice.pick(ROOMS)
        self.outbox = bytearray()  # that is to be sent
        self._asked = self._pushed = 0  # bytes
        self._received = bytearray()

    @property
    def owed(self) -> bool:
        """Whether a whole request has arrived that is not answered, or it is to be hung up on."""
        if self.over and self.answered:
            return not (self.left or self.socket.shut or self._world.stopping)
        return bool(self.expected) and self.expected[0].end <= self.arrived and not self.feeds

    @property
    def taken(self) -> int:
        """Bytes that the server has received, and not to drop them at its end."""
        return min(self._pushed - len(self.socket.inbound), self.arrived)

    def ask(self, dice: Dice, count: int) -> None:
        """Ask so much more. Of BULK_PUTS each is of the same key."""
        for _ in range(min(count, FEW) if self.feeds else count):
            if self.ended or self.left or self.over:
                return
            line = self._line(dice, count == BULK_PUTS) + b"\n"
            self.outbox += line
            self._asked += len(line)
            self.expected[-1].end = self._asked
            self._world.requests += 1
            self._world.promises.asked[type(self.expected[-1])] += not self.feeds

    def _line(self, dice: Dice, bulk: bool) -> bytes:
        """One more request."""
        first = not self._asked
        here = (self, self._asked, self._world.step)
        kind = 0 if bulk or self.feeds else dice.below(40)
        if kind < 26:
            put = Put(*here)
            put.key = LONG_KEY if bulk else dice.pick(KEYS)
            put.seconds = self._world.now
            put.value = float(next(self._world.numbers))
            put.timestamp = self._timestamp(dice, int(put.value), bulk or self.feeds)
            self._world.model.add(put)
            self.expected.append(put)
            line = b"%s %d %d" % (put.key.encode(), put.value, put.timestamp)
            if self.feeds:  # now and then behind a bad one
                return b"cpu one 1\n" + line if dice.one_in(3) else line
            return b"put " + line if dice.below(8) else b"put  " + line + b" \r"
        if kind < 36:
            get = Get(*here)
            get.gone = self._world.model.gone
            get.key = EVERY_KEY if kind == 26 else LONG_KEY if kind == 27 else dice.pick(KEYS)
            self.expected.append(get)
            return b"get " + get.key.encode()
        self.expected.append(Request(*here))
        line = dice.pick(BAD_LINES) if kind < 39 else STRANGE
        self.over = first and line is STRANGE
        self.eager |= self.over and not self.deaf  # or else it is not waited for
        return line + dice.pick([b"", MORE]) if self.over else line

    def _timestamp(self, dice: Dice, number: int, new: bool) -> int:
        if new or dice.one_in(3):
            return START + 1000 + number
        if self._world.options["retention"]:
            return START + int(self._world.now) - dice.below(60)
        return dice.below(OLD_TIMES)

    def push(self, most: int) -> None:
        """Send some of what is asked, as far as the kernel takes it."""
        sock, world = self.socket, self._world
        if not self.outbox:
            return
        if sock.closed and not world.options["idle_timeout"]:
            sock.outbound.clear()  # TCP resets; who was idle has had its replies long since
        size = min(most, self._room - len(sock.inbound), len(self.outbox))
        if sock.closed or self.left or size <= 0:
            return
        data = bytes(self.outbox[:size])
        del self.outbox[:size]
        if isinstance(sock, Datagrams):
            data = data[:-1] + b" " if size % 2 else data  # the last line feed may be missing
            sock.sizes.append(len(data))
        sock.inbound += data
        self._pushed += size
        self.active = world.now
        if not world.stopping:
            self.arrived = self._pushed
        world.told(self, "sends", data)

    def end(self) -> None:
        """Say no more; what has not been sent yet never is.

        The end of input ends a sender's last line, so one that is cut would be another point: who
        feeds and is not done is gone instead, and then no line is ended.
        """
        if self.feeds and self.outbox:
            self.leave()
        self.ended = self.socket.ended = True
        self.outbox.clear()

    def leave(self) -> None:
        """Be gone, without a word."""
        self.left = self.socket.reset = True
        self.expected.clear()

    def read(self, most: int) -> None:
        """Read, and check what the replies are."""
        sock = self.socket
        if sock.reset:
            self.leave()
        elif sock.outbound and not self.left:
            promise(not self.feeds, "a sender of lines is told something")
            data = bytes(sock.outbound[:most])
            del sock.outbound[:most]
            self._received += data
            self._world.told(self, "reads", data)
            self._take_replies()
        elif sock.shut and not self.left:
            self._on_end()

    def _on_end(self) -> None:
        """The server says no more."""
        world = self._world
        timeout = world.options["idle_timeout"]
        idle = timeout is not None and world.now >= self.active + timeout and not self.owed
        free = self.socket.troubled or self.feeds or world.stopping
        promise(free or idle or self.over or self.ended, EARLY)
        free = self.socket.troubled or not (self.connection or world.all_accepted)
        promise(free or not self.owed, f"{self.name} is closed, and not answered")
        self.left = True
        if not self.feeds:
            self.expected.clear()

    def _take_replies(self) -> None:
        while b"\n\n" in self._received:
            reply, _, self._received = self._received.partition(b"\n\n")
            first = self.expected[0] if self.expected else None
            # Of a line that is too long not all may be here.
            asked = first and (first.end <= self._pushed or type(first) is Request)
            promise(asked, f"a reply that nobody has asked for: {bytes(reply)!r:.60}")
            self._check(self.expected.popleft(), reply.decode() + "\n")

    def _check(self, request: Request, reply: str) -> None:
        """A request is answered."""
        world = self._world
        world.step += 1
        self.answered += 1
        world.answers += 1
        world.promises.answered[type(request)] += reply != FULL
        if isinstance(request, Get):
            promise(reply.startswith("ok\n"), f"a get is answered with {reply!r:.60}")
            world.model.check(request, reply[3:].splitlines(), world.step)
        elif not isinstance(request, Put):
            promise(reply == "error\nwrong command\n", f"a mistake is answered {reply!r:.60}")
        elif reply == "ok\n":
            world.model.stored(request, world.step)
        else:
            promise(not request.sure, "a put is refused that a get has shown")
            why = world.promises.may_refuse(request, reply)
            promise(why, f"a put is answered with {reply!r:.60}")
            request.refused = True
        request.told = request.told or world.step
