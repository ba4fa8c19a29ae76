"""The world: it plays a script while the server waits, and sees to it that promises are kept.

Owns what happens when. The server runs as it always does; wherever it waits in select, the script
goes on. Does not change it: its parts are handed in, and what it asks of the system is answered.
"""

import contextlib
import errno
import functools
import itertools
import logging
import math
import os
import re
import socket
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple
from unittest import mock

from metricsd import upkeep
from metricsd.attachments import Attachments
from metricsd.durable import DurableStore, database
from metricsd.durable import store as durable
from metricsd.graphite import DatagramFeed, Feed, Intake
from metricsd.loop import Connection, Endpoint, Reactor, connection, delivery
from metricsd.server import Parts, Server
from metricsd.store import Memory, Store
from simulation.actions import CROWD, MOST, act
from simulation.clients import OLD_TIMES, Client, Feeder
from simulation.dice import Dice
from simulation.machine import START, TICK, Clock, Crash, Disk, Thread
from simulation.model import Broken, Model, Put, promise
from simulation.network import (
    FIRST_DESCRIPTOR,
    Datagrams,
    Listening,
    Selector,
    Socket,
    failure,
    pair,
)
from simulation.promises import Promises
from simulation.script import Script

REST_SECONDS = 3.0  # without anything new, before a run ends
REST_TURNS = 3000  # until everybody has to be answered
CLIENT_TURNS = 50  # and so many more for each client, as few may be let in at a time
SLEEP_SECONDS = 0.25  # that pass at a time while nothing happens at all

logger = logging.getLogger("metricsd")


class Report(NamedTuple):
    """What has come of a run."""

    broken: str  # the promise, or nothing
    turns: int
    answers: int
    starts: int
    digest: int  # of all that was sent and answered


class Teller:
    """Whom to tell what happens; this one tells nobody."""

    def parts(self) -> Dict[str, Any]:
        """What a server is made of, beside what is handed in here."""
        return {"reactor": Reactor, "connection": Connection}

    def act(self, kind: str, client: str = "", data: bytes = b"") -> None:
        """Something happens outside of the server."""


NOBODY = Teller()


class SimulatedAttachments(Attachments):
    """The store and the listening socket of a world."""

    def __init__(self, world: "World", options: Any, reactor: Reactor, *others: Any) -> None:
        super().__init__(options, reactor, *others)
        self._world = world

    def open_store(self) -> Store:
        """One with a simulated thread, or memory."""
        world, options = self._world, self._world.options
        if options.fsync is None:
            return Memory(options.max_points)
        return DurableStore(
            world.disk.path,
            self._reactor,
            options.fsync,
            max_points=options.max_points,
            make_worker=world.make_thread,
        )

    def endpoints(self, dispatcher: Any, make_session: Callable[[], Any]) -> Iterator[Endpoint]:
        """Those that listen to simulated clients, and to senders of Graphite's lines."""
        world = self._world
        intake = world.intake = Intake(dispatcher.store, self._wall_clock)
        self._reactor.once_a_turn.insert(0, intake.run)
        sockets: List[Any] = [world.listening, world.feeding, world.datagrams]
        yield Endpoint("put", sockets[:1], make_session)
        yield Endpoint("graphite", sockets[1:2], lambda: Feed(intake))
        feed = DatagramFeed(intake)
        yield Endpoint("graphite-udp", sockets[2:], lambda: feed, in_datagrams=True)


class World:
    """One run."""

    def __init__(self, script: Script, folder: Path, teller: Teller = NOBODY) -> None:
        self.options = script.options
        self.clock = Clock()
        self.disk = Disk(folder, self.call, self._on_sync)
        self.disk.always = self.options.fsync == "always"
        self.model = Model()
        self.clients: List[Client] = []
        self.feeders: List[Feeder] = []  # those of them who send lines, also those who have left
        self.in_datagrams: List[Put] = []
        self.intake: Any = None
        self.report = Report("", 0, 0, 0, 0)
        self.teller = teller
        self._folder = folder
        self._left = script.actions[::-1]
        self.power_cut, self.luck = False, 0  # what kind of crash it will be
        self.step = 0
        self.stopping = False
        self.crash_in = self.work_in = -1  # system calls; negative: never
        self._synced = 0  # the step
        self._crashed = self.select_fails = False
        self.all_accepted = self.options.max_connections > CROWD * 10
        self.safe = self._value = self._fresh = self._rest = self._named = 0
        self.promises = Promises(self)
        self._changed = self.stopped = 0.0  # when, in seconds
        self.server: Optional[Server] = None

    # The run, from start to start.

    def run(self) -> Report:
        """Play the script to its end, and on until all is quiet; return what has come of it."""
        with self._patches():
            try:
                while not self._serve():
                    pass
            except Broken as broken:
                self._note(broken=self._plain(broken))
            except Exception as error:  # of the server's, or of ours
                self._note(broken=self._plain(f"the server fails: {error!r}"))
            finally:
                self._let_go()
        return self.report

    def _plain(self, message: object) -> str:
        """A message without what is different each time."""
        return re.sub(r" at 0x\w+", "", str(message)).replace(str(self._folder), "")

    def _note(self, **facts: Any) -> None:
        self.report = self.report._replace(**facts)

    def _patches(self) -> contextlib.ExitStack:
        clock, disk, options = self.clock, self.disk, self.options
        drop = functools.partial(upkeep.drop_old, stopwatch=clock.stopwatch)
        stack = contextlib.ExitStack()
        for where, name, new in (
            (time, "perf_counter", clock.stopwatch),
            (time, "sleep", clock.sleep),
            (os, "fsync", disk.fsync),
            (socket, "socketpair", self._socketpair),
            (delivery, "undelivered", Socket.undelivered),
            (connection, "handle", Socket.fileno),
            (connection, "read", lambda number, size: self._open(number).recv(size)),
            (connection, "write", lambda number, data: self._open(number).send(data)),
            (upkeep, "drop_old", drop),
            (database, "connect", disk.connect),
            (database, "WAL_PAGES", options.wal_pages),
            (durable, "LOG_BYTES", options.log_bytes),
            (durable, "CHUNK_PUTS", options.chunk_puts),
            (logger, "handle", self._on_log),
            (logger, "isEnabledFor", lambda level: level >= logging.ERROR),
        ):
            stack.enter_context(mock.patch.object(where, name, new))
        return stack

    def _serve(self) -> bool:
        """Start the server; return whether it has ended as it should, and not by a crash."""
        self._note(starts=self.report.starts + 1)
        self.stopping, self._named = False, 0
        self.promises.started()
        try:
            server = self.server = self._start()
            if self.options.fsync is not None:
                self.promises.found(server._store)
            server.serve_forever()
            promise(self.stopping, "the server ends without having been stopped")
            server.close()
            if self._crashed:
                raise Crash  # which the thread has caught
        except Crash:
            self.teller.act("the process is gone")
            self._let_go()
            for client in self.clients:
                client.leave()
                client.due = 0
            self._crashed = False
            return False
        self.promises.end(server)
        return True

    def _start(self) -> Server:
        self.selector = Selector(self._wait)
        self.sockets: List[Socket] = []  # that the server has had
        self._by_number: Dict[int, Socket] = {}
        self.listening = Listening(1, self.call)
        self.feeding, self.datagrams = Listening(0, self.call), Datagrams(0, self.call)
        self.thread: Optional[Thread] = None
        parts = self.teller.parts()
        make_reactor, self._make_connection = parts["reactor"], parts["connection"]
        parts["reactor"] = lambda clock: make_reactor(clock, self.selector)
        parts["connection"] = self._accepted
        parts["attachments"] = functools.partial(SimulatedAttachments, self)
        names = "max_connections", "max_line_bytes", "idle_timeout", "retention"
        options = {name: getattr(self.options, name) for name in names}
        clock = self.clock
        return Server("192.0.2.1", 1, clock.monotonic, clock.wall, Parts(**parts), **options)

    def _let_go(self) -> None:
        """Give back what a server that is gone has of the process."""
        server, self.server = self.server, None
        if server is not None and self.options.fsync is not None:
            with contextlib.suppress(Exception):
                server._store._database.close()  # type: ignore[attr-defined]

    def make_thread(self, reactor: Reactor) -> Thread:
        """The thread beside the loop."""
        self.thread = Thread(reactor)
        return self.thread

    def _socketpair(self) -> Tuple[Socket, Socket]:
        sender, receiver = pair(self.call)
        self.sockets.append(receiver)
        return sender, receiver

    def _accepted(self, sock: Any, *others: Any) -> Connection:
        """Make a connection, whose client has the name that observers give it."""
        name = f"c{self._named + 1}"
        numbers = (n for n in itertools.count(2) if n not in self._by_number)
        free = (n for n, other in self._by_number.items() if other.closed)
        sock.number = next(free, None) or next(numbers)  # given again soon, as the system does
        self._by_number[sock.number] = sock
        self.sockets.append(sock)
        self.teller.act("connects", name)
        self.teller.act("sends", name, bytes(sock.inbound))
        made: Connection = self._make_connection(sock, *others)
        self._named += 1
        for client in self.clients:
            if client.socket is sock:
                client.name, client.accepted = name, True
        return made

    def _open(self, descriptor: int) -> Socket:
        sock = self._by_number.get(descriptor - FIRST_DESCRIPTOR)
        if sock is None or sock.closed:
            raise failure(errno.EBADF)
        return sock

    # What happens at the system calls of the server.

    def call(self) -> None:
        """Before a system call the thread may go on, and the process may end."""
        if self.crash_in >= 0:
            self.crash_in -= 1
            if self.crash_in < 0:
                self._crashed = True
                lost = self.power_cut and not self.disk.always
                self.safe = self._synced if lost else self.step
                self.disk.restart(self.power_cut, self.luck)
        if self._crashed:
            raise Crash
        if self.work_in >= 0 and not (self.thread is not None and self.thread.at_work):
            self.work_in -= 1
            if self.work_in < 0:
                self.work()

    def work(self) -> None:
        """The thread does its next job."""
        if self.thread is not None:
            self.thread.step()
            if self._crashed:
                raise Crash  # which the thread has caught

    def _on_sync(self) -> None:
        self._synced = self.step
        self.promises.synced()

    @property
    def commits(self) -> int:
        """How many the server knows of."""
        return 0 if self.server is None else getattr(self.server._store, "commits", 0)

    @property
    def thread_is_busy(self) -> bool:
        """Whether the thread beside the loop has something to do."""
        return self.thread is not None and self.thread.busy

    def _on_log(self, record: logging.LogRecord) -> None:
        if record.exc_info and not self._crashed:
            raise Broken(f"a fault in the server: {record.exc_info[1]!r}")

    def _wait(self, timeout: Optional[float]) -> List[Any]:
        """In place of select: the script goes on until the loop has something to do."""
        now = self.clock
        now.now += TICK
        until = math.inf if timeout is None else now.now + timeout
        if self.server is not None:
            self._note(turns=self.report.turns + 1)
            self.promises.turn(self.server)
        while True:
            self.step += 1
            if self._left:
                action = self._left.pop()
                self.teller.act(action.kind)
                if action.kind != "turn":
                    act(self, action)
                    continue
                self.selector.first = action.number
            else:
                self._settle()
            if self.select_fails:
                self.select_fails = False
                raise failure(errno.EBADF)
            ready = self.selector.ready()
            if ready or now.now >= until:
                self.promises.spin(ready)
                return ready
            self.promises.sleep(until - now.now)
            if not self._left:
                now.now = min(until, now.now + SLEEP_SECONDS)

    def _settle(self) -> None:
        """The script is over: everybody does what is left to do, and at last the server stops."""
        self.listening.out_of_descriptors, self.listening.failures[:] = False, []
        self.selector.refusals, self.crash_in = 0, -1
        while self.thread_is_busy:
            self.work()
        for client in self.clients:
            if client.chatty and self.stopping and not client.expected:
                client.ask(Dice(self.step), 1, self)
            if client.has_work:
                self.push(client, MOST)
                if not client.deaf:
                    self.read(client, MOST)
            if not self.all_accepted and not client.left and client.accepted:
                if client.deaf:
                    client.leave()
                elif not client.expected:
                    client.end()  # so that others are accepted
        asking = [client for client in self.clients if client.expected and not client.deaf]
        owed = [client.name for client in asking if client.owed]
        self._rest += 1
        most = REST_TURNS + CLIENT_TURNS * len(self.clients)
        promise(self._rest < most, f"nobody comes to rest; these wait: {owed[:5]}")
        if owed:
            self._changed = self.clock.now
        if not self.stopping and self.clock.now > self._changed + REST_SECONDS:
            self.stop()

    def stop(self) -> None:
        """Stop the server, and note what it owes."""
        self.stopping = True
        self.stopped = self.clock.now
        for client in self.clients:
            client.eager |= not client.deaf
            if (client.accepted or self.all_accepted) and not client.left:
                client.due = client.answered + client.whole_requests
        if self.server is not None:
            self.server.stop()

    # What clients are told of the world, and what they do in it.

    def timestamp(self, dice: Dice, bulk: bool) -> int:
        """One for the next put."""
        self._fresh += 1
        if bulk or dice.one_in(3):
            return START + 1000 + self._fresh
        if self.options.retention:
            return START + int(self.clock.now) - dice.below(60)
        return dice.below(OLD_TIMES)

    def next_value(self) -> float:
        """One that no other put has."""
        self._value += 1
        return float(self._value)

    def may_refuse(self, put: Put, reply: str) -> bool:
        """Whether there is a reason for an error."""
        if reply == "error\nstore is full\n\n":
            limit = self.options.max_points
            return limit is not None and self.model.points > limit
        return reply == "error\nnot stored\n\n" and self.promises.may_refuse_since(put.seconds)

    def push(self, client: Client, most: int) -> None:
        """A client sends some of what it asks."""
        sock = client.socket
        if sock.closed and client.outbox and self.options.idle_timeout is None:
            sock.outbound.clear()  # TCP resets; who was idle has had its replies long since
        data = client.push(most, self.clock.now)
        if data:
            self._digest(data)
            if client.accepted:  # or else it is told then
                self.teller.act("sends", client.name, data)

    def read(self, client: Client, most: int) -> None:
        """A client reads."""
        self.age()
        answered = client.answered
        data = client.read(most, self)
        if data:
            self._digest(data)
            self._note(answers=self.report.answers + client.answered - answered)
            self.teller.act("reads", client.name, data)

    def age(self) -> None:
        """Points may be too old by now."""
        if self.options.retention:
            self.model.oldest = math.ceil(self.clock.wall() - self.options.retention)

    def _digest(self, data: bytes) -> None:
        self._note(digest=zlib.crc32(data, self.report.digest))
