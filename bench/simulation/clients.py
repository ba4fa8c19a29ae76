"""A client: what it asks, how it reads, and whether it is told what it has to be.

Owns both ends of a connection. Does not know when it does something: the world says so.
"""

from collections import deque
from typing import TYPE_CHECKING, Deque, Optional

from metricsd.loop import Connection
from simulation.dice import Dice
from simulation.model import Request, promise
from simulation.network import Socket

if TYPE_CHECKING:
    from simulation.world import World

MOST = 10**9  # bytes: all of them
ROOMS = [700, 5_000, 70_000, 200_000]  # bytes that a kernel keeps for a socket
KEYS = ["cpu", "load", "ram", "dsk", "net"]
LONG_KEY = "a.key.that.makes.large.replies." + "x" * 50
GOT_KEYS = {26: "*", 27: LONG_KEY}  # more seldom than the others
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

FULL, FAILED = "error\nstore is full\n", "error\nnot stored\n"
EARLY = "the server closes a connection without a reason"


class Client(Socket):
    """One that connects, asks and reads; or that feeds: it only sends Graphite's lines."""

    def __init__(self, world: "World", feeds: bool, dice: Dice) -> None:
        super().__init__(world.call, dice.pick(ROOMS))
        self._world = world
        self.name = "a client who waits"
        self.feeds = feeds
        self.eager = not dice.one_in(3)  # it sends and reads at once
        self.deaf = not (self.eager or feeds) and dice.one_in(4)  # it never reads
        self.chatty = self.eager and not feeds and dice.one_in(4)  # also while the server stops
        self.expected: Deque[Request] = deque()  # what is to be answered, or stored
        self.done = self.left = self.over = False  # it says no more; it is gone; it is a stranger
        self.connection: Optional[Connection] = None  # the server's, from when it is accepted
        self.arrived = 0  # bytes, before the server was stopped
        self.active = 0.0  # when it last sent or was sent something, in seconds
        self.seen = 0  # what had moved before, in bytes
        self._room = dice.pick(ROOMS)
        self.outbox = bytearray()  # that is to be sent
        self._asked = 0  # requests
        self.pushed = 0  # bytes
        self._received = bytearray()

    def __str__(self) -> str:
        return self.name

    @property
    def owed(self) -> bool:
        """Whether a whole request has arrived that is not answered, or it is to be hung up on."""
        if self.over and not self.expected:
            return not (self.left or self.shut or self._world.stopping)
        return bool(self.expected) and self.expected[0].end <= self.arrived and not self.feeds

    @property
    def is_stuck(self) -> bool:
        """Whether it is owed something, and there is nothing that it could read."""
        return bool(self.owed and self.connection and not (self.closed or self.outbound))

    def ask(self, dice: Dice, count: int) -> None:
        """Ask so much more, unless it has asked much already, and send some of it.

        Of BULK_PUTS each is of the same key.
        """
        if self.left or len(self.expected) >= BULK_PUTS:
            return
        for _ in range(min(count, FEW) if self.feeds else count):
            if not (self.done or self.over):
                self.outbox += self._line(dice, count == BULK_PUTS) + b"\n"
                self.expected[-1].end = self.pushed + len(self.outbox)
        self.push(MOST if self.eager else dice.pick([0, 3, 50, MOST]))

    def _line(self, dice: Dice, bulk: bool) -> bytes:
        """One more request."""
        world, first = self._world, not self._asked
        self._asked += 1
        choice = 0 if bulk or self.feeds else dice.below(40)
        kind = "puts" if choice < 26 else "gets" if choice < 36 else "wrong"
        request = Request(kind, self, self._asked, world.step)
        self.expected.append(request)
        world.promises.asked[kind] += not self.feeds
        if kind == "puts":
            request.key = LONG_KEY if bulk else dice.pick(KEYS)
            request.seconds = world.now
            request.timestamp = self._timestamp(dice, bulk or self.feeds)
            value = world.model.add(request)
            line = b"%s %d %d" % (request.key.encode(), value, request.timestamp)
            if self.feeds:  # now and then behind a bad one
                return b"cpu one 1\n" + line if dice.one_in(3) else line
            return b"put " + line if dice.below(8) else b"put  " + line + b" \r"
        if kind == "gets":
            request.gone = world.model.gone
            request.key = GOT_KEYS.get(choice) or dice.pick(KEYS)
            return b"get " + request.key.encode()
        line = dice.pick(BAD_LINES) if choice < 39 else STRANGE
        self.over = first and line is STRANGE
        self.eager |= self.over and not self.deaf  # or else it is not waited for
        return line + dice.pick([b"", MORE]) if self.over else line

    def _timestamp(self, dice: Dice, new: bool) -> int:
        if new or dice.one_in(3):
            return START + 1001 + self._world.model.number
        if self._world.options["retention"]:
            return START + int(self._world.now) - dice.below(60)
        return dice.below(OLD_TIMES)

    def push(self, most: int) -> None:
        """Send some of what is asked, as far as the kernel takes it."""
        world = self._world
        if not self.outbox:
            return
        if self.closed and not world.options["idle_timeout"]:
            self.outbound.clear()  # TCP resets; who was idle has had its replies long since
        size = min(most, self._room - len(self.inbound), len(self.outbox))
        if self.closed or self.left or size <= 0:
            return
        data = bytes(self.outbox[:size])
        del self.outbox[:size]
        self._arrive(data)
        self.pushed += size
        self.active = world.now
        if not world.stopping:
            self.arrived = self.pushed

    def _arrive(self, data: bytes) -> None:
        self.inbound += data
        self._world.told(self, "sends", data)

    def end(self) -> None:
        """Say no more; what has not been sent yet never is.

        The end of input ends a sender's last line, so one that is cut would be another point: who
        feeds and is not done is gone instead, and then no line is ended.
        """
        if self.feeds and self.outbox:
            self.leave()
        self.done = self.ended = True
        self.outbox.clear()

    def leave(self) -> None:
        """Be gone, without a word."""
        self.left = self.reset = True
        self.expected.clear()

    def read(self, most: int) -> None:
        """Read, and check what the replies are."""
        if self.left or self.deaf:
            return
        if self.outbound:
            promise(not self.feeds, "a sender of lines is told something")
            data = bytes(self.outbound[:most])
            del self.outbound[:most]
            self._received += data
            self._world.told(self, "reads", data)
            self._take_replies()
        elif self.shut:
            self._on_end()

    def _on_end(self) -> None:
        """The server says no more."""
        world = self._world
        timeout = world.options["idle_timeout"]
        idle = timeout is not None and world.now >= self.active + timeout and not self.owed
        free = self.troubled or self.feeds or world.stopping
        promise(free or idle or self.over or self.done, EARLY)
        free = self.troubled or not (self.connection or world.all_accepted)
        promise(free or not self.owed, "somebody is closed, and not answered", self)
        self.left = True
        if not self.feeds:
            self.expected.clear()

    def _take_replies(self) -> None:
        while b"\n\n" in self._received:
            reply, _, self._received = self._received.partition(b"\n\n")
            first = self.expected[0] if self.expected else None
            # Of a line that is too long not all may be here.
            asked = first and (first.end <= self.pushed or first.kind == "wrong")
            promise(asked, f"a reply that nobody has asked for: {bytes(reply)!r:.60}")
            self._check(self.expected.popleft(), reply.decode() + "\n")

    def _check(self, request: Request, reply: str) -> None:
        """A request is answered."""
        world = self._world
        world.step += 1
        world.promises.answered[request.kind] += reply != FULL
        if request.kind == "gets":
            promise(reply.startswith("ok\n"), f"a get is answered with {reply!r:.60}")
            world.model.check(request, reply[3:].splitlines(), world.step)
        elif request.kind == "wrong":
            promise(reply == "error\nwrong command\n", f"a mistake is answered {reply!r:.60}")
        elif reply == "ok\n":
            world.model.stored(request, world.step)
        else:
            limit = world.options["max_points"]
            full = reply == FULL and limit is not None and world.model.points > limit
            full &= not world.model.overwrites(request)
            failed = reply == FAILED and world.promises.disk_fails(request.seconds)
            known = (full or failed) and not request.sure  # or else a get has shown it
            promise(known, f"a put is answered with {reply!r:.60}")
            request.refused = True
        request.told = request.told or world.step


class Datagrams(Client):
    """A socket to which datagrams come: what was sent at once is received at once."""

    def __init__(self, world: "World") -> None:
        super().__init__(world, True, Dice(0))
        self.eager, self.blocks, self._room = True, False, MOST
        self._sizes: Deque[int] = deque()  # of those that wait

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Receive the first one."""
        data = super().recv(self._sizes[0] if self._sizes else 0)
        self._sizes.popleft()
        return data

    def _arrive(self, data: bytes) -> None:
        """One comes, whose last line feed may be missing."""
        self._sizes.append(len(data))
        super()._arrive(data[:-1] + b" " if len(data) % 2 else data)
