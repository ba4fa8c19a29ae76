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
import signal
import socket
import sqlite3
import sys
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from unittest import mock

from metricsd import durable, upkeep
from metricsd.attachments import Attachments
from metricsd.durable import DurableStore
from metricsd.durable.opening import open_file
from metricsd.loop import Connection, connection, delivery
from metricsd.protocol.replies import pieces
from metricsd.server import Parts, Server
from metricsd.store import archive
from simulation.clients import MOST, START, Client, Datagrams
from simulation.dice import Dice
from simulation.machine import Connection as OnDisk
from simulation.machine import Disk, Thread
from simulation.model import Broken, Model, promise
from simulation.network import Listening, Selector, Socket, failure
from simulation.promises import TICK, Promises
from simulation.script import ACTIONS, CROWD, LATER_OPTIONS, OPTIONS, Script
from simulation.telling import NOBODY, Teller

REST_TURNS = 3000  # beside one for each request, until everybody has to be answered
HANG_SECONDS = 2.0  # of the processor's time that a turn may take; most take some microseconds
SLEEP_SECONDS = 0.25  # that pass at a time while nothing happens at all
NOTHING_LEFT = errno.EMFILE, errno.ENOSPC  # of a system: no new clients for a while

# The constants of the server that are options of a script, wherever they are used.
CONSTANTS = [
    (module, name)
    for module in list(sys.modules.values())
    for name in (*OPTIONS, *LATER_OPTIONS, "MAX_BLOCK_POINTS", "LATE_POINTS")
    if name.isupper() and module.__name__.startswith("metricsd.") and hasattr(module, name)
]

logger = logging.getLogger("metricsd")


class Crash(BaseException):
    """The process is gone, as after SIGKILL, or the power is; nobody in the server catches it."""


def _on_hang(*_: Any) -> None:
    raise Broken("a turn does not end")


class Report(NamedTuple):
    """What has come of a run."""

    broken: str  # the promise, or nothing
    steps: int
    starts: int
    digest: int  # of all that was sent and answered


class World:
    """One run."""

    def __init__(self, script: Script, folder: Path, teller: Teller = NOBODY) -> None:
        points = script.options["BLOCK_POINTS"]
        self.options = dict(script.options, MAX_BLOCK_POINTS=2 * points, LATE_POINTS=points)
        self.durable = self.options["fsync"] is not None
        self.sliced = self.options["SLOW_PUTS"] < 8  # the sweeps for old points take several turns
        self.teller = teller
        self.now = self.stopped = 0.0  # seconds; they pass when the world says so
        self.refused = -math.inf  # when the system last had nothing left, in seconds
        self.step = self.starts = self.digest = 0  # steps are of all that happens, for the model
        self.disk = Disk(self, folder)
        self.model = Model()
        self.clients: List[Client] = []
        self.faults: Dict[str, List[int]] = {}  # that the next calls of a kind meet with
        self.crash_in = self.work_in = 0  # system calls until then; 0: never
        self.crash_at = ""  # of which kind these are: all of them, or writes
        self.luck = Dice(0)  # of the crash
        self.power_cut = False
        self.all_accepted = self.options["max_connections"] > CROWD * 10
        self._left = script.actions[::-1]
        self._safe = self._rest = self._most_rest = 0  # steps
        self._owed = 0.0  # when somebody was owed something last, in seconds

    # The run, from start to start.

    def run(self) -> Report:
        """Play the script to its end, and on until all is quiet; return what has come of it."""
        broken = ""
        try:
            with self._patches():
                while not self._serve():
                    pass
        except Broken as error:
            broken = str(error)
        except Exception as error:  # of the server's, or of ours
            broken = f"the server fails: {error!r}"
        finally:
            self._let_go()
        # Without what is different each time.
        broken = re.sub(r" at 0x\w+", "", broken).replace(os.path.dirname(self.disk.path), "")
        return Report(broken, self.step, self.starts, self.digest)

    def _patches(self) -> contextlib.ExitStack:
        stopwatch = itertools.count(0.0, TICK).__next__  # each look takes some time
        of_sweeps = time.time, stopwatch if self.sliced else lambda: 0.0
        thread = functools.partial(Thread, self)
        stack = contextlib.ExitStack()
        stack.callback(signal.signal, signal.SIGVTALRM, signal.signal(signal.SIGVTALRM, _on_hang))
        stack.callback(signal.setitimer, signal.ITIMER_VIRTUAL, 0)
        new: Any
        for where, name, new in (
            (time, "perf_counter", stopwatch),
            (time, "sleep", lambda seconds: None),
            (os, "fsync", self.disk.fsync),
            (sqlite3, "connect", functools.partial(OnDisk, self.disk)),
            (socket, "socketpair", self._socketpair),
            (durable, "DurableStore", functools.partial(DurableStore, make_worker=thread)),
            (delivery, "undelivered", Socket.undelivered),
            (connection, "handle", lambda sock: sock),
            (connection, "read", Socket.recv),
            (connection, "write", Socket.send),
            (upkeep.drop_old, "__defaults__", of_sweeps),
            (archive, "_made", itertools.count()),  # counts for the process: here for the run
            (logger, "handle", self._on_log),
            (logger, "isEnabledFor", lambda level: level >= logging.ERROR),
            *((module, name, self.options[name]) for module, name in CONSTANTS),
        ):
            stack.enter_context(mock.patch.object(where, name, new))
        return stack

    def _serve(self) -> bool:
        """Start the server; return whether it has ended as it should, and not by a crash."""
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
        self.starts += 1
        self.stopping = self._crashed = False
        self.jobs: List[Any] = []  # of the thread
        self.faults.clear()
        try:
            self._start()
            if self.durable:
                self._compare(self.server._store)
            self.server.serve_forever()
            promise(self.stopping, "the server ends without having been stopped")
            failures = self.disk.failures
            self.server.close()
        except Crash:
            self.teller.act("the process is gone")
            self.disk.restart(self.power_cut, self.luck)
            self._let_go()
            for client in self.clients:
                client.leave()
            return False
        self.promises.end()
        self.crash_in = 0
        self.faults.clear()
        self._safe = self.step
        if self.durable:
            opened, loaded = open_file(self.disk.path, self.options["fsync"], False)
            self._compare(loaded.memory)
            failed = self.disk.failures > failures
            promise(failed or not loaded.log_bytes, "after a stop there is something in the log")
            opened.close()
        else:
            self._compare(self.server._store)
        return True

    def _start(self) -> None:
        self._named = 0
        self.ready: List[Any] = []  # in the last turn
        self.promises = Promises(self)
        self.selector = Selector(self._wait, self.call)
        self.listening, self.feeding = Listening(self.call), Listening(self.call)
        self.datagrams = Datagrams(self)
        self.sockets: List[Socket] = [self.listening, self.feeding, self.datagrams]
        self.clients.append(self.datagrams)
        parts = self.teller.parts()
        make_reactor, self._make_connection = parts["reactor"], parts["connection"]
        parts["reactor"] = lambda clock: make_reactor(clock, self.selector)
        parts["connection"] = self._accepted
        inherited = {"put": [self.listening], "graphite": [self.feeding]}
        supervisor = SimpleNamespace(
            inherited=dict(inherited, **{"graphite-udp": [self.datagrams]}),
            loading=lambda store: contextlib.ExitStack(),
            stopping=lambda: None,
        )
        parts["attachments"] = functools.partial(Attachments, supervisor=supervisor)
        store = f"sqlite:{self.disk.path}" if self.durable else "memory"
        options = {name: value for name, value in self.options.items() if name.islower()}
        clocks = (lambda: self.now), (lambda: START + self.now)
        self.server: Any = Server("192.0.2.1", 1, *clocks, Parts(**parts), store=store, **options)

    def _let_go(self) -> None:
        """Give back what a server that is gone has of the process."""
        with contextlib.suppress(Exception):  # it may not have come so far
            self.server._store._database.close()

    def _compare(self, store: Any) -> None:
        """All that was safe is in a store."""
        self.step += 1
        reply = b"".join(pieces(store.items()))  # type: ignore[arg-type]
        found = reply.decode().splitlines()[1:-1]
        promise(len(found) == store.points, "there are more or less points than are counted")
        self.model.restart(found, self._safe, self.step)

    def _socketpair(self) -> Tuple[Socket, Socket]:
        """What is sent to the first arrives at the second, before anybody notices."""
        sender, receiver = Socket(lambda *_: None, MOST), Socket(self.call)
        sender.outbound = receiver.inbound
        self.sockets += [sender, receiver]
        return sender, receiver

    def _accepted(self, client: Client, *others: Any) -> Connection:
        """Make a connection, whose client has the name that observers give it."""
        name = f"c{self._named + 1}"
        self.sockets.append(client)
        self.teller.act("connects", name)
        self.teller.act("sends", name, bytes(client.inbound))
        made: Connection = self._make_connection(client, *others)
        self._named += 1
        client.name, client.connection, client.active = name, made, self.now
        return made

    # What happens at the system calls of the server.

    def call(self, name: str, sock: Optional[Socket] = None) -> None:
        """A call begins: the process may end before it, the thread go on, or it may fail."""
        if self.crash_in and name.startswith(self.crash_at):
            self.crash_in -= 1
            self._crashed = not self.crash_in
        if self._crashed:
            lost = self.power_cut and self.options["fsync"] != "always"
            self._safe = self.disk.safe_step if lost else self.step
            raise Crash
        if self.work_in:
            self.work_in -= 1
            if not self.work_in:
                self.work()
        if self.faults.get(name):
            if sock is not None:
                sock.troubled = True
            code = self.faults[name].pop()
            self.refused = self.now if code in NOTHING_LEFT else self.refused
            raise failure(code)

    def work(self) -> None:
        """The thread does its next job."""
        if self.jobs:
            self.work_in = 0
            self.jobs.pop(0)()
            if self._crashed:
                raise Crash  # which the thread has caught

    def _on_log(self, record: logging.LogRecord) -> None:
        if record.exc_info and not self._crashed:
            raise Broken(f"a fault in the server: {record.exc_info[1]!r}")

    def _wait(self, timeout: Optional[float]) -> List[Any]:
        """In place of select: the script goes on until the loop has something to do."""
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)  # anew: a turn has ended
        self.pass_time(TICK)
        self.clients = [client for client in self.clients if client.expected or not client.left]
        self.promises.turn()
        until = math.inf if timeout is None else self.now + timeout
        while True:
            self.step += 1
            if self._left:
                action = self._left.pop()
                self.teller.act(action.kind)
                if action.kind != "turn":
                    _, do = ACTIONS[action.kind]
                    do(self, Dice(action.number))
                    continue
                self.selector.first = action.number
            else:
                self._settle()
            self.call("select")
            self.ready = self.selector.ready()
            if self.ready or self.now >= until:
                return self.ready
            self.promises.sleep(until - self.now)
            if not self._left:
                self.pass_time(min(until - self.now, SLEEP_SECONDS))

    def _settle(self) -> None:
        """The script is over: everybody does what is left to do, and at last the server stops."""
        self.faults.clear()
        self.crash_in = 0
        while self.jobs:
            self.work()
        dice = Dice(self.step)
        if not self._rest:  # what is asked from here on, while it stops, is no reason to go on
            self._most_rest = REST_TURNS + sum(self.promises.asked.values())
        for client in self.clients:
            if self.stopping and client.chatty and not client.expected:
                client.ask(dice, 1)
            if not client.deaf:
                client.push(MOST)
                client.read(MOST)
            if not self.all_accepted and client.connection:  # so that others are accepted
                if client.deaf:
                    client.leave()
                elif not (client.owed or client.outbox):
                    client.end()
        owed = [str(client) for client in self.clients if client.owed and not client.deaf]
        if owed or not self._rest:
            self._owed = self.now
        self._rest += 1
        promise(self._rest < self._most_rest, "nobody comes to rest; these wait", owed[:5])
        if not self.stopping and self.now > self._owed + self.options["CALM"]:
            self.stop()

    def stop(self) -> None:
        """Stop the server, and note what it owes."""
        self.stopping, self.stopped = True, self.now
        for client in self.clients:
            client.eager |= not (client.deaf or client.feeds)
        self.server.stop()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, in which points grow old."""
        self.now += seconds
        if self.options["retention"]:
            self.model.oldest = math.ceil(START + self.now - self.options["retention"])

    def told(self, client: Client, kind: str, data: bytes) -> None:
        """A client sends or reads."""
        self.digest = zlib.crc32(data, self.digest)
        if client.connection:  # or else it is told then
            self.teller.act(kind, client.name, data)

    def drop(self, key: str) -> None:
        """In the loop, as a deletion does: drop a key."""
        self.step += 1
        drop = self.model.drop(key, self.step)
        receipt = self.server._dispatcher.store.drop([key])

        def settled() -> None:
            self.step += 1
            drop.refused = receipt.refusal is not None
            if not drop.refused:
                self.model.stored(drop, self.step)

        receipt.when_settled(settled)
