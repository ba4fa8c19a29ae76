"""The promises that a run has to keep, besides those about points, which are the model's.

Owns the bounds. Looks into the server, where a bound can't be seen from outside.
"""

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Set, Tuple, cast

from metricsd.durable import DurableStore
from metricsd.durable import store as store_file
from metricsd.loop.connection import RECEIVE_BYTES
from metricsd.loop.listener import ACCEPTS_A_TURN, PAUSE_SECONDS
from metricsd.protocol import Session
from metricsd.protocol.outcomes import REPLY_ROOM
from metricsd.protocol.replies import MAX_REPLY_BYTES
from metricsd.protocol.rows import PIECE_BYTES
from metricsd.server import STOP_SECONDS
from metricsd.upkeep import (
    IDLE_SWEEPS,
    LOOKS_A_CLOSE,
    LOOKS_A_TURN,
    SHORTEST_IDLE_PAUSE,
    SHORTEST_PAUSE,
)
from simulation.clients import FULL, MOST, Client
from simulation.model import Get, Gone, Put, Request, promise

if TYPE_CHECKING:
    from simulation.world import World

TICK = 2.0**-12  # seconds that a turn takes at least; a power of two, so that sums are exact

STALLED_TURNS = 16  # in which a client who is owed an answer gets nothing: a commit waits for 5
SLEEP_SECONDS = 1.5  # for which the loop sleeps while somebody is owed an answer, at most
SPIN_TURNS = 12  # in which the same one is ready, and nothing comes of it, at most
OUTBOX_BYTES = REPLY_ROOM + MAX_REPLY_BYTES + PIECE_BYTES
TIMERS = 16  # of tasks, and others that are no client's, at most
UNSYNCED_SECONDS = 1.0 + 4 * TICK  # until a commit is synced, with everysec
STOP_MORE_SECONDS = 1.0  # that a stop may take beyond STOP_SECONDS: a turn

# A sweep may just have passed by what is late, and takes some turns to its end, however long these
# are; the next one begins after a pause, which ends within a turn, and takes as many. So of a turn
# no more than a pause counts; what is late is gone after so many of these, and two sweeps' turns.
SWEEP_PAUSES = 3
SWEEP_TURNS = 25  # more than one, of sweeps for old points that are cut into slices


class Promises:
    """What is checked after each turn of the loop of one server, and at its end."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._spins = self._moved = self._commits = self._failures = 0
        self._ready: Set[Any] = set()  # those who were in each turn since something came of it
        self._unsynced_since = math.inf  # in seconds
        self.asked: Dict[type, int] = Counter()  # requests, by their kind
        self.answered: Dict[type, int] = Counter()  # of these, but not of puts without room
        self._before = world.now  # when the last turn ended
        self._swept = 0.0  # seconds that count for sweeps
        self._aged: Deque[Tuple[float, Gone]] = deque()  # what is too old, since when
        self._failed = -math.inf  # when the loop last heard that the disk had failed, in seconds

    def synced(self) -> None:
        """The disk has all that has been committed."""
        self._commits, self._unsynced_since = self._world.server._store.commits, math.inf

    def disk_fails(self, seconds: float) -> bool:
        """Whether what was sent then may have met with a disk that had failed."""
        unheard = self._failures < self._world.disk.failures
        return unheard or self._failed >= seconds - TICK

    def may_refuse(self, put: Put, reply: str) -> bool:
        """Whether there is a reason for an error."""
        if reply == FULL:
            limit = self._world.options["max_points"]
            return limit is not None and self._world.model.points > limit
        return reply == "error\nnot stored\n" and self.disk_fails(put.seconds)

    def turn(self) -> None:
        """A turn is over."""
        world, store = self._world, self._world.server._store
        passed, self._before = world.now - self._before, world.now
        excused = bool(world.jobs)
        if isinstance(store, DurableStore):
            self._check_disk(store)
            excused |= bool(store._written or store._checkpoint)  # in their order, some in a turn
        excused |= self.disk_fails(world.now)
        for client in world.clients:
            if client.eager:
                client.push(MOST)
                client.read(MOST)
            if not client.left:
                self._check_client(client, excused)
                self._check_idle(client, passed)
        promise(world.listening.receives <= ACCEPTS_A_TURN or world.stopping, "too many at once")
        world.listening.receives = 0
        self._check_bounds()
        self._note_lines()
        self._swept += min(passed, SHORTEST_PAUSE)
        self._aged.append((self._swept, (world.model.oldest, world.step)))
        pauses = SWEEP_PAUSES + (2 * SWEEP_TURNS if world.sliced else 0)
        while self._aged[0][0] < self._swept - pauses * SHORTEST_PAUSE:
            world.model.gone = self._aged.popleft()[1]
        slow = world.disk.failures or any(client.deaf for client in world.clients)
        seconds = STOP_MORE_SECONDS + (STOP_SECONDS if slow else 0.0)
        promise(not world.stopping or world.now <= world.stopped + seconds, "a stop does not end")

    def _check_disk(self, store: DurableStore) -> None:
        now, policy = self._world.now, self._world.options["fsync"]
        if self._failures != store.commit_failures:
            self._failures, self._failed = store.commit_failures, now
            promise(self._failures <= self._world.disk.failures, "a write fails, and not the disk")
        if self._commits != store.commits:
            self._commits, self._unsynced_since = store.commits, min(self._unsynced_since, now)
        late = policy == "everysec" and now > self._unsynced_since + UNSYNCED_SECONDS
        excused = self.disk_fails(now - store_file.SYNC_SECONDS) or self._world.jobs
        promise(excused or not late, "a sync is late")
        written = list(store._chunks)[: store._written]
        logged = store._stored_bytes + sum(chunk.size for chunk in written)
        promise(store.log_bytes == logged, "the log is longer than is counted, or shorter")
        if self._world.options["max_points"]:
            pending = sum(len(chunk.values) for chunk in store._chunks)
            exact = store._pending == pending and (pending or not store._new)
            promise(exact, "room is not what it is said to be")

    def _check_client(self, client: Client, excused: bool) -> None:
        sock = client.socket
        once = sock.receives <= 1 and sock.sends <= 1
        promise(once or client.feeds or self._world.stopping, "a client is served twice in a turn")
        sock.receives = sock.sends = 0
        if sock.moved != client.moved:
            client.active = self._world.now
        waits = not excused and sock.moved == client.moved and self._is_owed(client)
        client.stalled, client.moved = client.stalled + 1 if waits else 0, sock.moved
        promise(client.stalled <= STALLED_TURNS, f"{client.name} is owed an answer, and starves")

    def _check_idle(self, client: Client, passed: float) -> None:
        sock, timeout = client.socket, self._world.options["idle_timeout"]
        pending = client.feeds or client.expected or client.outbox or sock.outbound or sock.shut
        if timeout is None or client.connection is None or pending:
            client.overdue = 0.0
            return
        pause = max(timeout / IDLE_SWEEPS, SHORTEST_IDLE_PAUSE)
        if self._world.now > client.connection.last_active + timeout:
            client.overdue += min(passed, pause)
        sweep = len(self._world.sockets) * LOOKS_A_CLOSE // LOOKS_A_TURN  # turns more
        late = client.overdue > (SWEEP_PAUSES + 2 * sweep) * pause
        promise(not late, f"{client.name} is idle, and not closed")

    def _is_owed(self, client: Client) -> bool:
        sock = client.socket
        there = client.connection is not None
        return client.owed and there and not sock.closed and not sock.outbound

    def _check_bounds(self) -> None:
        options, server = self._world.options, self._world.server
        promise(len(server._connections) <= options["max_connections"], "too many are connected")
        full = options["max_points"] and self._world.server._store.points > options["max_points"]
        # What was refused for a disk may be there after a start.
        promise(not full or self._world.starts > 1, "there are more points than may be")
        for connection in server._connections:
            if isinstance(connection.session, Session):
                lines = len(connection.session._lines._buffer)
                longest = options["max_line_bytes"] + 1 + RECEIVE_BYTES
                promise(lines <= longest, "more of a line is kept than may")
                promise(len(connection._outbox) <= OUTBOX_BYTES, "more waits to be sent than may")
        room = len(server._connections) < options["max_connections"] and not self._world.stopping
        if room and self._world.now > self._world.refused + PAUSE_SECONDS + TICK:
            for sock in (self._world.listening, self._world.feeding):
                promise(sock in self._world.selector.watched, "nobody listens for new clients")
        counts = server._dispatcher.counts
        for kind, count in ((Put, counts.puts), (Get, counts.gets), (Request, counts.wrong)):
            counted = self.answered[kind] <= count <= self.asked[kind]
            promise(counted, f"a {kind.__name__} is not counted, or twice")
        self._check_timers()

    def _check_timers(self) -> None:
        heap = [timer.callback for _, _, timer in self._world.server._reactor._timers._heap]
        owners = [getattr(callback, "__self__", None) for callback in heap if callback is not None]
        sockets = [getattr(owner, "_socket", None) for owner in owners]
        few = len(heap) <= TIMERS + 2 * len(self._world.sockets)  # with those that were cancelled
        promise(few and sockets.count(None) <= TIMERS, "timers heap up")
        late = any(sock is not None and sock.fileno() < 0 for sock in sockets)
        promise(not late, "a timer outlives its socket")

    @property
    def _intake(self) -> Any:
        return self._world.server.attachments.counters._parts["intake"]

    def _note_lines(self) -> None:
        """Lines that have been stored are seen by every get from now on."""
        intake = self._intake
        refused = intake.refused_full or intake.refused_failed
        datagrams = self._world.server._listeners["graphite-udp"]
        if refused or intake.unfinished or intake._open or datagrams._sessions:
            return
        for client in self._world.clients:
            while client.feeds and client.expected and client.expected[0].end <= client.taken:
                put = cast(Put, client.expected.popleft())
                self._world.model.stored(put, self._world.step)

    def spin(self, ready: List[Any]) -> None:
        """Who is ready again and again is seen to, or to lines that came before and are slow."""
        intake = self._intake
        moved = sum(sock.moved for sock in self._world.sockets) + intake.points + intake.bad_lines
        moved += intake.refused_full + intake.refused_failed
        moved += sum(pending.points for pending in intake._open)
        there = {key.fileobj for key, _ in ready}
        again = there & self._ready if moved == self._moved else set()
        self._spins = self._spins + 1 if again else 0
        self._ready = again or there
        self._moved = moved
        promise(self._spins < SPIN_TURNS, "the loop spins: nothing comes of who is ready")

    def sleep(self, seconds: float) -> None:
        """The loop has nothing to do for so long."""
        if seconds > SLEEP_SECONDS and not self._world.jobs:
            for client in self._world.clients:
                promise(not self._is_owed(client), f"the loop sleeps; {client.name} is owed")

    def end(self) -> None:
        """The server has ended: all who were owed an answer have it, and nothing is left open."""
        world = self._world
        calm = world.starts == 1 and not world.disk.failures and not world.options["max_points"]
        for client in world.clients:
            if not client.deaf:
                client.read(MOST)  # what is left
                client.read(MOST)  # and the end
            there = client.connection or world.all_accepted
            gone = client.socket.reset or client.socket.troubled
            if calm and client.feeds and there and not gone:
                for put in client.expected:
                    if put.end <= client.arrived:
                        world.model.stored(cast(Put, put), world.step)
        still_open = [sock for sock in world.sockets if not sock.closed]
        promise(not still_open, "a socket is open")
        promise(world.selector.closed and not world.selector.watched, "a socket is watched")
        self._check_timers()
