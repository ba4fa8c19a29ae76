"""The promises that a run has to keep, besides those about points, which are the model's.

Owns the bounds. Looks into the server, where a bound can't be seen from outside.
"""

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Deque, Dict, Iterator, List, Set, Tuple

from metricsd import server, upkeep
from metricsd.durable import checkpoint
from metricsd.durable import store as durable
from metricsd.loop import connection, listener
from metricsd.protocol import outcomes, replies, rows
from simulation.clients import MOST
from simulation.model import Gone, promise

if TYPE_CHECKING:
    from simulation.world import World

TICK = 2.0**-12  # seconds that a turn takes at least; a power of two, so that sums are exact

STALLED_TURNS = 15  # in which a client who is owed an answer gets nothing: a commit waits for 5
SLEEP_SECONDS = 1.5  # for which the loop sleeps while somebody is owed an answer, at most
UNHEARD_TURNS = 2  # until the loop has heard of what the thread has done, at most
SPIN_TURNS = 11  # in which the same one is ready, and nothing comes of it, at most
OUTBOX_BYTES = outcomes.REPLY_ROOM + replies.MAX_REPLY_BYTES + rows.PIECE_BYTES
TIMERS = 16  # of tasks, and others that are no client's, at most
UNSYNCED_SECONDS = 1.0 + 3 * TICK  # until a commit is synced, with everysec
STOP_MORE_SECONDS = 1.0  # that a stop may take beyond STOP_SECONDS: a turn

# A sweep may just have passed by what is late, and takes some turns to its end, however long these
# are; the next one begins after a pause, which ends within a turn, and takes as many. So of a turn
# no more than a pause counts; what is late is gone after so many of these, and two sweeps' turns.
SWEEP_PAUSES = 3
SWEEP_TURNS = 25  # more than one, of sweeps for old points that are cut into slices

# Puts of one client that are taken in a turn, at most, where each is slow; and how many slices of
# what has been written are stored in one, by a clock that goes on by a TICK at each look.
SLOW_PUTS = outcomes.REPLY_ROOM // outcomes.SLOW_ROOM + 1
SLICES = 1 + int(checkpoint.SLICE_SECONDS / TICK)

KEPT = "who was hung up on is kept"


class Promises:
    """What is checked after each turn of the loop of one server, and at its end."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._lasted: Dict[Any, float] = {}  # what is wrong, and for how long
        self._moved = self._failures = self._commits = 0
        self._pending = self._done = self._stored = 0  # puts
        self._full: List[Tuple[Any, int]] = []  # chunks to which nothing is added, and their puts
        self.asked: Dict[str, int] = Counter()  # requests, by their kind
        self.answered: Dict[str, int] = Counter()  # of these, but not of puts without room
        self._before = world.now  # when the last turn ended
        self._swept = 0.0  # seconds that count for sweeps
        self._aged: Deque[Tuple[float, Gone]] = deque()  # what is too old, since when
        self._failed = -math.inf  # when the loop last heard that the disk had failed, in seconds

    def disk_fails(self, seconds: float) -> bool:
        """Whether what was sent then may have met with a disk that had failed."""
        unheard = self._failures < self._world.disk.failures
        return unheard or self._failed >= seconds - TICK

    def turn(self) -> None:
        """A turn is over. What is wrong for a moment must not last."""
        world = self._world
        passed, self._before = world.now - self._before, world.now
        for client in world.clients:
            if client.eager:
                client.push(MOST)
                client.read(MOST)
        if world.durable:
            self._check_disk(world.server._store)
        before, self._lasted = self._lasted, {}
        for what, whose, more, most in self._wrong(passed):
            lasted = self._lasted[what, whose] = before.get((what, whose), -more) + more
            promise(lasted <= most, what, whose)
        if not world.stopping:
            self._check_lingering(before, passed)
        self._check_bounds()
        self._note_lines(False)
        self._swept += min(passed, upkeep.SHORTEST_PAUSE)
        self._aged.append((self._swept, (world.model.oldest, world.step)))
        pauses = SWEEP_PAUSES + (2 * SWEEP_TURNS if world.sliced else 0)
        while self._aged[0][0] < self._swept - pauses * upkeep.SHORTEST_PAUSE:
            world.model.gone = self._aged.popleft()[1]

    def _wrong(self, passed: float) -> Iterator[Tuple[str, Any, float, float]]:
        """What must not last, whose it is, how much is added since the last turn, and the most."""
        world = self._world
        if self._failures < world.disk.failures and not world.jobs:
            yield "the disk has failed, and it is not heard of", "", 1, UNHEARD_TURNS
        if world.options["fsync"] == "everysec":
            safe = world.disk.synced_commits
            excused = world.jobs or self.disk_fails(world.now - durable.SYNC_SECONDS)
            if world.server._store.commits > safe:
                most = math.inf if excused else UNSYNCED_SECONDS
                yield "a sync is late, behind commits", safe, passed, most
        yield from self._wrong_with_clients(passed)
        for sock in () if world.stopping else world.sockets:
            if sock.shut and not sock.closed:
                yield KEPT, sock, passed, connection.LINGER_SECONDS
        moved = self._count_moved()
        for key, _ in world.ready if moved == self._moved else ():
            yield "the loop spins: nothing comes of who is ready", key.fileobj, 1, SPIN_TURNS
        self._moved = moved

    def _wrong_with_clients(self, passed: float) -> Iterator[Tuple[str, Any, float, float]]:
        world, store = self._world, self._world.server._store
        busy = bool(world.jobs) or self.disk_fails(world.now)
        if world.durable:
            busy |= bool(store._written or store._checkpoint)  # in their order, some in a turn
        timeout = world.options["idle_timeout"] or math.inf
        pause = max(timeout / upkeep.IDLE_SWEEPS, upkeep.SHORTEST_IDLE_PAUSE)
        looks = len(world.sockets) * upkeep.LOOKS_A_CLOSE // upkeep.LOOKS_A_TURN  # turns more
        for client in world.clients:
            still, client.seen = client.moved == client.seen, client.moved
            client.active = client.active if still else world.now
            if client.left or client.connection is None or client.closed:
                continue
            if still and not busy and client.is_stuck:
                yield "somebody is owed an answer, and starves", client, 1, STALLED_TURNS
            calm = not (client.feeds or client.expected or client.outbox or client.outbound)
            late = world.now > client.connection.last_active + timeout
            if calm and late and not client.shut:
                most = (SWEEP_PAUSES + 2 * looks) * pause
                yield "somebody is idle, and not closed", client, min(passed, pause), most

    def _check_lingering(self, before: Dict[Any, float], passed: float) -> None:
        """Who was hung up on is waited for, unless it has gone, or says no more."""
        for (what, sock), lasted in before.items():
            if what == KEPT and (what, sock) not in self._lasted:
                gone = sock.ended or sock.reset or sock.troubled
                waited = lasted + passed > connection.LINGER_SECONDS - TICK  # sums are rounded
                promise(gone or waited, "who was hung up on is not waited for", sock)

    def _count_moved(self) -> int:
        """All that has come of anything, also of lines that came before and are slow."""
        intake = self._intake
        moved = sum(sock.moved for sock in self._world.sockets) + intake.points + intake.bad_lines
        moved += intake.refused_full + intake.refused_failed
        return int(moved + sum(pending.points for pending in intake._open))

    def _check_disk(self, store: durable.DurableStore) -> None:
        commits, self._commits = self._commits, store.commits
        if self._failures != store.commit_failures:
            self._failures, self._failed = store.commit_failures, self._world.now
            promise(self._failures <= self._world.disk.failures, "a write fails, and not the disk")
        elif commits != store.commits:
            promise(not store.trouble, "puts are stored again, and it is not said")
        few = self._world.disk.most_saved <= self._world.options["STEP_ROWS"]
        promise(few, "a checkpoint does too much at a time")
        self._check_pending(store)
        counted = store._writing or store.commits == self._world.disk.commits
        promise(counted, "commits are not counted")
        written = list(store._chunks)[: store._written]
        logged = store._stored_bytes + sum(chunk.size for chunk in written)
        logged = logged if store._writing else max(logged, sum(self._world.disk.log.values()))
        promise(store.log_bytes == logged, "the log is longer than is counted, or shorter")
        if self._world.options["max_points"]:
            pending = sum(len(chunk.values) for chunk in store._chunks)
            exact = store._pending == pending and (pending or not store._new)
            promise(exact, "room is not what it is said to be")

    def _check_pending(self, store: durable.DurableStore) -> None:
        """What waits for a commit, and then in memory, does not grow without end."""
        options = self._world.options
        waiting = list(store._chunks)[store._written + store._writing :]
        puts = [0 if chunk.drops else len(chunk.keys) for chunk in waiting]
        for chunk, after in zip(puts, puts[1:]):
            full = chunk >= options["CHUNK_PUTS"]
            promise(full or not (chunk and after), "what could be one commit is several")
        for chunk, most in self._full:
            promise(len(chunk.keys) <= most, "a commit is larger than may be")
        self._full = [(chunk, n) for chunk, n in zip(waiting, puts) if n >= options["CHUNK_PUTS"]]
        # What was stored or refused in this turn may have made room for more.
        done = store.puts - store._pending
        least = self._pending - (done - self._done)
        self._pending, self._done = store._pending, done
        takers = len(self._world.clients) + 1  # all who feed are one more
        few = store._pending - least <= SLOW_PUTS * takers
        few |= least < options["PENDING_PUTS"] or self._world.stopping
        promise(few, "too many puts wait for the disk, and more are taken")
        stored = store.puts - store.refused_puts - store._pending
        promise(stored >= self._stored, "puts are not counted by the store")
        slow = stored - self._stored > SLICES * options["SLICE_PUTS"]
        promise(not slow, "what is written is stored all at once")
        self._stored = stored

    def _check_bounds(self) -> None:
        world, options, running = self._world, self._world.options, self._world.server
        for client in world.clients:
            once = (client.receives <= 1 and client.sends <= 1) or client.feeds or client.left
            promise(once or world.stopping, "a client is served twice in a turn", client)
            client.receives = client.sends = 0
        accepted, world.listening.receives = world.listening.receives, 0
        promise(accepted <= listener.ACCEPTS_A_TURN or world.stopping, "too many at once")
        connected = len(running._connections)
        promise(connected <= options["max_connections"], "too many are connected")
        full = options["max_points"] and running._store.points > options["max_points"]
        # What was refused for a disk may be there after a start.
        promise(not full or world.starts > 1, "there are more points than may be")
        longest = options["max_line_bytes"] + 1 + connection.RECEIVE_BYTES
        for one in running._connections:
            kept = len(one.session._lines._buffer)
            promise(kept <= longest, "more of a line is kept than may")
            promise(len(one._outbox) <= OUTBOX_BYTES, "more waits to be sent than may")
        rested = world.now > world.refused + listener.PAUSE_SECONDS + TICK
        if rested and not world.stopping:
            datagrams = running._listeners["graphite-udp"]
            expected: Set[Any] = set() if datagrams._sessions else {world.datagrams}
            if connected < options["max_connections"]:
                expected |= {world.listening, world.feeding}
            promise(expected <= world.selector.watched.keys(), "nobody listens for more")
        for kind, asked in self.asked.items():
            count = getattr(running._dispatcher.counts, kind)
            promise(self.answered[kind] <= count <= asked, f"{kind} are not counted, or twice")
        slow = world.disk.failures or any(client.deaf for client in world.clients)
        stopped = world.stopped + STOP_MORE_SECONDS + (server.STOP_SECONDS if slow else 0.0)
        promise(not world.stopping or world.now <= stopped, "a stop does not end")
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

    @property
    def _lines_pend(self) -> bool:
        """Whether lines have been received that are not stored yet."""
        datagrams = self._world.server._listeners["graphite-udp"]
        return bool(self._intake.unfinished or self._intake._open or datagrams._sessions)

    def _note_lines(self, ended: bool) -> None:
        """Lines that have been stored are seen by every get from now on; at the end, all are."""
        world, intake = self._world, self._intake
        pending = self._lines_pend
        if intake.refused_full or intake.refused_failed:
            return
        for client in (one for one in world.clients if one.feeds and one.expected):
            taken = 0 if pending else min(client.pushed - len(client.inbound), client.arrived)
            lost = client.reset or client.troubled or not (client.connection or world.all_accepted)
            taken = client.arrived if ended and not lost else taken
            while client.expected and client.expected[0].end <= taken:
                world.model.stored(client.expected.popleft(), world.step)

    def sleep(self, seconds: float) -> None:
        """The loop has nothing to do for so long."""
        if seconds > SLEEP_SECONDS and not self._world.jobs:
            for client in self._world.clients:
                promise(not client.is_stuck, "the loop sleeps, and somebody is owed", client)
            promise(not self._lines_pend, "the loop sleeps, and lines are not stored")

    def end(self) -> None:
        """The server has ended: all who were owed an answer have it, and nothing is left open."""
        world = self._world
        for client in world.clients:
            client.read(MOST)  # what is left
            client.read(MOST)  # and the end
        self._note_lines(True)
        promise(all(sock.closed for sock in world.sockets), "a socket is open")
        promise(world.selector.closed and not world.selector.watched, "a socket is watched")
        self._check_timers()
