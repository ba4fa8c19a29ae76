"""Clients who know how the server works, and do what makes the others wait longest.

A part of bench/torture.py, like scenarios.py. What counts is how long another client waits for the
reply to one put, at worst. The machine's own stalls come and go and the server's are always there,
so everything is done several times, and the best time counts.
"""

import contextlib
import random
import select
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Sequence
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import OK, Finding, Findings, Progress, Size, at_most
from subject import Client, Subject

from metricsd.protocol import MAX_LINE_BYTES
from metricsd.store import Columns, Memory
from metricsd.store.archive import BLOCK_POINTS
from metricsd.store.sealed import seal

MOST_MILLISECONDS = 5.0  # that a client waits because of a burst of another one

# A dict that grows moves all its entries at once: a million of them in some 45 ms.
GROWING_MILLISECONDS = 60.0
ENOUGH_WAITS = 5000  # of fewer, the p99.9 would be one that a growing dict may hold up

ROUNDS = 3

# Seconds for which the others are watched after the last reply: work may have been put off.
AFTERWARDS = 0.05

# Seconds between two points of a series: two at least, so that late points find a place, and of all
# lengths, which takes longest to open.
STEPS = [2**power for power in range(1, 31)]
FIRST_TIMESTAMP = 1500000000

# Values that take longest to seal: a sample of a block has no digit behind the point at any scale,
# and one value that is never in it has.
WHOLE = b"1e300"
FRACTION = b"0.123456789"
FRACTION_PLACE = 1

IDLE_SECONDS = 1.0
SWEEPS_SECONDS = 0.3  # in which there are three sweeps

CREATED_AT_A_TIME = 100
UNDER_WAY = 200  # puts of the client that creates series, so that the server is never without
RECEIVE_BYTES = 1 << 16


def late_points(size: Size, progress: Progress) -> Findings:
    """Late points in one burst: one for each of many series, one in each of many blocks."""
    with Subject() as server:
        points = _points(5 * BLOCK_POINTS)
        keys = [b"s%d" % number for number in range(size.burst_series)]
        progress(f"{len(keys):,} series")
        _store(server, dict.fromkeys(keys, points))
        # In each round another block of each series, and none of those that are not sealed yet.
        places = [5 + round_number * BLOCK_POINTS for round_number in range(ROUNDS)]
        bursts = [[_late(key, points[place]) for key in keys] for place in places]
        yield _wait(f"one late point each for {len(keys):,} series", server, bursts)
    with Subject() as server:
        blocks = size.burst_blocks
        progress(f"{blocks:,} blocks of one key")
        points = _points((blocks + 1) * BLOCK_POINTS)
        keys = [b"k%d" % round_number for round_number in range(ROUNDS)]
        _store(server, dict.fromkeys(keys, points))
        late = points[5 : blocks * BLOCK_POINTS : BLOCK_POINTS]
        bursts = [[_late(key, point) for point in late] for key in keys]
        yield _wait(f"one late point in each of {blocks:,} blocks", server, bursts)


def aligned_seals(size: Size, progress: Progress) -> Findings:
    """Series that are filled so that one burst seals all of them."""
    with Subject() as server:
        twin = Memory()  # does the same as the server's: it tells when a series will be sealed
        points = _points(BLOCK_POINTS + 1)
        bursts: List[List[bytes]] = []
        for round_number in range(ROUNDS):
            keys = [b"r%d.%d" % (round_number, number) for number in range(size.burst_series)]
            progress(f"{len(keys):,} series that are nearly full")
            full = {key: _puts_until_sealed(twin, key.decode()) - 1 for key in keys}
            _store(server, {key: points[:count] for key, count in full.items()})
            bursts.append([b"put " + key + points[count] for key, count in full.items()])
        yield _wait(f"the seals of {size.burst_series:,} series at once", server, bursts)


def idle_sweep(size: Size, progress: Progress) -> Findings:
    """Idle clients, each inside a long line that is no text, while idle clients are looked for."""
    line = b"\xff " * (MAX_LINE_BYTES // 2)
    with Subject("--idle-timeout", str(IDLE_SECONDS)) as server, contextlib.ExitStack() as stack:
        progress(f"{size.sweep_clients} clients")
        for _ in range(size.sweep_clients):
            stack.enter_context(server.client()).socket.sendall(line)
        other = stack.enter_context(server.client())
        _waits_until(other, _time_is_up(IDLE_SECONDS))
        worst = min(max(_waits_until(other, _time_is_up(SWEEPS_SECONDS))) for _ in range(ROUNDS))
        what = f"sweeps over {size.sweep_clients} unfinished lines"
        yield _finding(f"{what}, another's wait", worst, MOST_MILLISECONDS)


def new_series(size: Size, progress: Progress) -> Findings:
    """One client creates series, as fast as it can."""
    rounds: List[List[float]] = []
    for round_number in range(ROUNDS):
        progress(f"{size.new_series:,} series, {round_number + 1} of {ROUNDS}")
        with Subject() as server:
            rounds.append(sorted(_waits_beside_creator(server, size.new_series)))
    what = f"{size.new_series:,} new series, another's wait"
    worst = min(waits[-1] for waits in rounds)
    yield _finding(f"{what} at worst", worst, GROWING_MILLISECONDS)
    if min(map(len, rounds)) >= ENOUGH_WAITS:
        nearly = min(waits[len(waits) * 999 // 1000] for waits in rounds)
        yield _finding(f"{what}, p99.9", nearly, MOST_MILLISECONDS)


def _points(count: int) -> List[bytes]:
    """The ends of so many put lines, from the space after the key on, at irregular times."""
    dice = random.Random(count)
    timestamp = FIRST_TIMESTAMP
    points: List[bytes] = []
    for place in range(count):
        timestamp += dice.choice(STEPS)
        value = FRACTION if place % BLOCK_POINTS == FRACTION_PLACE else WHOLE
        points.append(b" %s %d\n" % (value, timestamp))
    return points


def _late(key: bytes, point: bytes) -> bytes:
    """A put of the second after that of another point."""
    return b"put %s 1 %d\n" % (key, int(point.split()[1]) + 1)


def _store(server: Subject, by_key: Dict[bytes, List[bytes]]) -> None:
    """Put points, key after key."""
    with server.client() as client:
        for key, points in by_key.items():
            for start in range(0, len(points), 1000):
                some = points[start : start + 1000]
                client.ask(b"".join([b"put " + key + point for point in some]), len(some))


def _puts_until_sealed(store: Memory, key: str) -> int:
    """Put points of a new series until one of them seals a block; how many that takes."""
    sealed: List[Columns] = []

    def seal_and_tell(columns: Columns) -> bytes:
        sealed.append(columns)
        return seal(columns)

    with mock.patch("metricsd.store.archive.seal", seal_and_tell):
        for timestamp in range(BLOCK_POINTS + 1):
            store.put(key, 0.5, timestamp)
            if sealed:
                return timestamp + 1
    return BLOCK_POINTS + 1  # not at once: then it is due some time after it is full


def _wait(what: str, server: Subject, bursts: Sequence[Sequence[bytes]]) -> Finding:
    """How long another client waits while bursts of puts are answered, in the best of them."""
    with server.client() as client, server.client() as other:
        worst = min(max(_waits_beside(client, other, burst)) for burst in bursts)
    return _finding(f"{what}, another's wait", worst, MOST_MILLISECONDS)


def _waits_beside(client: Client, other: Client, burst: Sequence[bytes]) -> List[float]:
    client.socket.sendall(b"".join(burst))
    replies = OK * len(burst)
    received = b""

    def answered() -> bool:
        nonlocal received
        received += _what_has_come(client)
        if not replies.startswith(received):
            raise OSError(f"a burst was answered {received[-100:]!r}")
        return len(received) == len(replies)

    return _waits_until(other, answered) + _waits_until(other, _time_is_up(AFTERWARDS))


def _waits_beside_creator(server: Subject, series: int) -> List[float]:
    asked = received = 0  # requests, bytes

    def all_answered() -> bool:
        nonlocal asked, received
        received += len(_what_has_come(client))
        answered = received // len(OK)
        while asked < min(answered + UNDER_WAY, series):
            keys = range(asked, min(asked + CREATED_AT_A_TIME, series))
            client.socket.sendall(b"".join([b"put new.%d 1 1\n" % key for key in keys]))
            asked = keys[-1] + 1
        return answered >= series

    with server.client() as client, server.client() as other:
        return _waits_until(other, all_answered)


def _what_has_come(client: Client) -> bytes:
    ready, _, _ = select.select([client.socket], [], [], 0)
    return client.socket.recv(RECEIVE_BYTES) if ready else b""


def _time_is_up(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


def _waits_until(other: Client, over: Callable[[], bool]) -> List[float]:
    """The seconds that a client waits for the replies to its puts, one after the other.

    While it waits it sends nothing, so a stall is one slow reply, however long it lasts: the worst
    is its length.
    """
    waits: List[float] = []
    while not waits or not over():
        put = b"put other 1 %d\n" % (len(waits) % 100)
        started = time.perf_counter()
        said = other.ask(put)
        waits.append(time.perf_counter() - started)
        if said != OK:
            raise OSError("a healthy client got a wrong reply")
    return waits


def _finding(what: str, seconds: float, most: float) -> Finding:
    return at_most(what, 1000 * seconds, most, "ms")


SCENARIOS: Dict[str, Callable[[Size, Progress], Findings]] = {
    "late-points": late_points,
    "aligned-seals": aligned_seals,
    "idle-sweep": idle_sweep,
    "new-series": new_series,
}
