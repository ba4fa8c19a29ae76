"""The promises that a run has to keep, besides those about points, which are the model's.

Owns the bounds. Looks into the server, where a bound can't be seen from outside.
"""

import math
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from metricsd.durable import DurableStore
from metricsd.durable import store as durable
from metricsd.durable.opening import open_file
from metricsd.loop import Connection
from metricsd.loop.connection import RECEIVE_BYTES
from metricsd.loop.delivery import Delivery
from metricsd.loop.listener import ACCEPTS_A_TURN
from metricsd.protocol import Session
from metricsd.protocol.outcomes import REPLY_ROOM
from metricsd.protocol.replies import MAX_REPLY_BYTES
from metricsd.protocol.rows import PIECE_BYTES
from metricsd.server import STOP_SECONDS, Server
from simulation.clients import Client, Feeder
from simulation.machine import TICK
from simulation.model import promise
from simulation.network import Socket

if TYPE_CHECKING:
    from simulation.world import World

MOST = 10**9  # bytes: all of them

STALLED_TURNS = 24  # in which a client who is owed an answer gets nothing, at most
SLEEP_SECONDS = 1.5  # for which the loop sleeps while somebody is owed an answer, at most
SPIN_TURNS = 12  # in which somebody is ready, and nothing comes of it, at most
OUTBOX_BYTES = REPLY_ROOM + MAX_REPLY_BYTES + PIECE_BYTES
TIMERS = 64  # that are set beside those of clients, at most
UNSYNCED_SECONDS = 1.0 + 4 * TICK  # until a commit is synced, with everysec
STOP_MORE_SECONDS = 1.0  # that a stop may take beyond STOP_SECONDS: a turn


class Promises:
    """What is checked after each turn of the loop, and at its ends."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._spins: Dict[Socket, Tuple[int, int]] = {}  # turns, and what had moved before
        self._commits = 0
        self._unsynced_since = math.inf  # in seconds
        self._failures = 0  # of the disk, that the loop knows of by now
        self._failed = -math.inf  # when it came to know, in seconds

    def started(self) -> None:
        """A server begins."""
        self._commits, self._unsynced_since = 0, math.inf

    def synced(self) -> None:
        """The disk has all that has been committed."""
        self._commits, self._unsynced_since = self._world.commits, math.inf

    def may_refuse_since(self, seconds: float) -> bool:
        """Whether a put that was sent then may have met with a disk that had failed."""
        return self._failed >= seconds - durable.RETRY_SECONDS - TICK

    def turn(self, server: Server) -> None:
        """A turn is over."""
        world = self._world
        now = world.clock.now
        self._note_disk(now)
        excused = self.may_refuse_since(now) or world.thread_is_busy
        late = now > self._unsynced_since + UNSYNCED_SECONDS
        promise(excused or not late or world.options.fsync != "everysec", "a sync is late")
        for client in world.clients:
            if client.eager and client.has_work:
                world.push(client, MOST)
                world.read(client, MOST)
            if not client.left and (client.expected or client.socket.receives):
                self._check_client(client, excused)
        promise(world.listening.receives <= ACCEPTS_A_TURN or world.stopping, "too many at once")
        world.listening.receives = 0
        self._check_bounds(server)
        self._note_lines()
        late = world.stopping and now > world.stopped + STOP_SECONDS + STOP_MORE_SECONDS
        promise(not late, "a stop does not end")

    def _note_lines(self) -> None:
        """Lines that have been taken into memory are seen by every get from now on."""
        world = self._world
        memory = world.options.fsync is None and world.options.max_points is None
        for feeder in world.feeders:
            promise(not feeder.socket.outbound, "a sender of lines is told something")
        if memory and not world.intake.unfinished and not world.datagrams.waiting:
            taken = [put for feeder in world.feeders for put in feeder.taken()]
            for put in taken + world.in_datagrams:
                world.model.stored(put, world.step)
            world.in_datagrams.clear()

    def _note_disk(self, now: float) -> None:
        if self._commits != self._world.commits:
            self._commits = self._world.commits
            self._unsynced_since = min(self._unsynced_since, now)
        if self._failures < self._world.disk.failures:
            self._failed = now
            if not self._world.sockets[0].inbound:  # it has been woken, and so it knows
                self._failures = self._world.disk.failures

    def _check_bounds(self, server: Server) -> None:
        limit = self._world.options.max_points
        if limit is not None:
            store: Any = server._store
            chunks = store._chunks() if isinstance(store, DurableStore) else ()
            room = limit - store.points - sum(len(chunk.keys) for chunk in chunks)
            promise(store.room == room, "there is more or less room than is said")
        if limit is not None and self._world.report.starts == 1:  # a refused put may turn up later
            points = store.points
            promise(points <= limit, "there are more points than may be")
        longest = self._world.options.max_line_bytes + 1 + RECEIVE_BYTES
        most = self._world.options.max_connections
        promise(len(server._connections) <= most, "more are connected than may be")
        for connection in server._connections:
            if not isinstance(connection.session, Session):
                continue
            promise(len(connection._outbox) <= OUTBOX_BYTES, "more waits to be sent than may")
            lines = connection.session._lines
            promise(len(lines._buffer) <= longest, "more of a line is kept than may")
        self._check_timers(server)

    def _check_timers(self, server: Server) -> None:
        heap = server._reactor._timers._heap
        promise(len(heap) <= TIMERS + 2 * len(self._world.sockets), "timers heap up")
        for _, _, timer in heap:
            owner = getattr(timer.callback, "__self__", None)
            closed = isinstance(owner, (Connection, Delivery)) and owner._socket.fileno() < 0
            promise(not closed, "a timer outlives its socket")

    def _check_client(self, client: Client, excused: bool) -> None:
        sock = client.socket
        # It may send a second time if it was writable, and then its puts were stored.
        once = sock.receives <= 1 and sock.sends <= 2
        promise(once or self._world.stopping, "more than one receive or send of a client in a turn")
        sock.receives = sock.sends = 0
        if excused or sock.moved != client.moved or not self._is_owed(client):
            client.stalled, client.moved = 0, sock.moved
            return
        client.stalled += 1
        promise(client.stalled <= STALLED_TURNS, f"{client.name} is owed an answer, and starves")

    def _is_owed(self, client: Client) -> bool:
        sock = client.socket
        if self._world.stopping:
            owed = client.owed and client.answered < client.due
        else:
            owed = client.owed or client.unwanted
        return owed and client.accepted and not sock.closed and not sock.outbound

    def spin(self, ready: List[Any]) -> None:
        """Who is ready again and again is seen to."""
        world, spins = self._world, self._spins
        self._spins = {}
        for key, _ in ready:
            sock = key.fileobj
            now = sock.moved
            if sock is world.listening or sock is world.feeding:  # what one has no room for
                now = world.listening.moved + world.feeding.moved  # the other one may have taken
            turns, moved = spins.get(sock, (0, now))
            self._spins[sock] = (turns + 1 if moved == now else 0), now
            promise(turns < SPIN_TURNS, "the loop spins: nothing comes of who is ready")

    def sleep(self, seconds: float) -> None:
        """The loop has nothing to do for so long."""
        if seconds > SLEEP_SECONDS and not self._world.thread_is_busy:
            for client in self._world.clients:
                promise(not self._is_owed(client), f"the loop sleeps; {client.name} is owed")

    def found(self, store: Any) -> None:
        """All that was safe is there after a start."""
        self._world.age()
        self._world.model.restart(_points(store), self._world.safe, self._world.step)

    def end(self, server: Server) -> None:
        """The server has ended: all who were owed an answer have it, and nothing is left open."""
        world = self._world
        self._note_disk(world.clock.now)
        for client in world.clients:
            if not client.deaf:
                world.read(client, MOST)
            gone = (client.socket.reset and client.accepted) or client.socket.refused
            out = not (client.accepted or world.all_accepted)
            done = gone or out or client.deaf or isinstance(client, Feeder)
            promise(done or client.answered >= client.due, f"a stop has cut {client.name} off")
        listening = [world.listening, world.feeding, world.datagrams]
        still_open = [sock for sock in [*world.sockets, *listening] if not sock.closed]
        promise(not still_open, "a socket is open")
        promise(world.selector.closed and not world.selector.get_map(), "a socket is watched")
        promise(world.thread is None or world.thread.ended, "the thread has not ended")
        self._check_timers(server)
        if world.options.fsync is None:
            self._check_lines(_points(server._store))
            return
        world.crash_in, world.disk.fault = -1, None
        world.safe = world.step
        database, loaded = open_file(world.disk.path, world.options.fsync, False)
        self._check_lines(_points(loaded.memory))
        self.found(loaded.memory)
        database.close()

    def _check_lines(self, points: Dict[str, Dict[int, float]]) -> None:
        """If no disk has failed, every line that had come before the stop is there."""
        world = self._world
        calm = world.report.starts == 1 and not world.disk.failures
        for feeder in world.feeders:
            gone = (feeder.socket.reset and feeder.accepted) or feeder.socket.refused
            if calm and world.options.max_points is None and not gone:
                for put in feeder.lines[: feeder.due]:
                    promise(put.timestamp in points.get(put.key, ()), "a line is lost")


def _points(store: Any) -> Dict[str, Dict[int, float]]:
    """All that a store has."""
    found: Dict[str, Dict[int, float]] = {}
    for key, series in store.items():
        done = -(2**63) - 1
        found[key] = {}
        while done < series.newest:
            columns, done = series.after(done)
            found[key].update(zip(*columns))
    return found
