"""What bench/torture.py does to the server, one function a scenario.

Each returns its findings: what was done, what was measured, and the bound that it has to keep.
"""

import contextlib
import http.client
import logging
import math
import random
import resource
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from subject import Client, Subject, close_all

from metricsd.loop.connection import RECEIVE_BYTES
from metricsd.protocol import MAX_LINE_BYTES, Dispatcher, Session
from metricsd.protocol.outcomes import REPLY_ROOM
from metricsd.protocol.rows import PIECE_BYTES
from metricsd.server import STOP_SECONDS
from metricsd.store import Memory
from tests import durable_damage, faults, script
from tests.model import Model

OK = b"ok\n\n"
WRONG = b"error\nwrong command\n\n"

# What a client may cost that sends and does not read, in bytes: a reply with the piece that exceeds
# its room, one receive, and the objects of a connection.
CONNECTION_BYTES = 2500
TAKEN_BYTES = 2e6  # it is not listened to any more before it has sent so much
UNREAD_BYTES = REPLY_ROOM + PIECE_BYTES + RECEIVE_BYTES + CONNECTION_BYTES
# A bytearray that grows takes an eighth more than it holds.
ENDLESS_BYTES = MAX_LINE_BYTES * 9 // 8 + RECEIVE_BYTES + CONNECTION_BYTES

PUTS = b"put k 1 1\n" * 400
STREAM = 500  # requests in a stream of fuzz
STREAMS_A_SERVER = 10
IDLE_OPEN = 7  # descriptors of a server without clients: 3 standard, epoll, 2 to wake, 1 to listen

NEAR_ZERO = 0.02  # of a core
ASLEEP_SECONDS = 5.0  # to fill the buffers of the kernel for all who do not read, and
SECONDS_A_BYTE = 2e-7  # for what it has taken from them: a put has ten bytes at least
STORM_GROWTH = 4e6  # bytes that the allocator may keep for itself after very many requests
FSYNC_POLICIES = ("always", "everysec", "never")
KILL_PUTS = 3000  # after so many at most
SLOPE_SECONDS = 60.0
SLEEPERS_BUFFERS = 0.3  # seconds in which whoever does not read is blocked
PAUSE_SECONDS = 0.001  # between two looks whether the server takes more: it has the processor


class Finding(NamedTuple):
    """One line of the outcome."""

    what: str
    measured: str
    bound: str
    held: bool


def at_most(what: str, measured: float, bound: float, unit: str) -> Finding:
    """A figure that must not be larger than its bound."""
    bound_text = f"at most {_figure(bound)} {unit}".strip()
    return Finding(what, f"{_figure(measured)} {unit}".strip(), bound_text, measured <= bound)


def exactly(what: str, measured: int, bound: int, unit: str) -> Finding:
    """A count that must be what it has to be."""
    measured_text, bound_text = (f"{number:,} {unit}".strip() for number in (measured, bound))
    return Finding(what, measured_text, bound_text, measured == bound)


def _figure(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


class Size(NamedTuple):
    """How much of everything: in full, and for a first look."""

    connections: int
    sleepers: int
    storm: int
    hold_seconds: float
    probes: int
    session_fuzz: int
    socket_fuzz: int
    offsets: int
    fault_uses: int
    soak_seconds: float
    burst_series: int
    burst_blocks: int
    sweep_clients: int
    new_series: int
    kills: int
    flips: int


FULL = Size(
    connections=10000, sleepers=1000, storm=20000, hold_seconds=5.0, probes=3000,
    session_fuzz=1000000, socket_fuzz=100000, offsets=RECEIVE_BYTES, fault_uses=1000,
    soak_seconds=120.0, burst_series=1260, burst_blocks=2000, sweep_clients=512,
    new_series=1000000, kills=100, flips=10000,
)  # fmt: skip
QUICK = Size(
    connections=300, sleepers=50, storm=500, hold_seconds=1.0, probes=500,
    session_fuzz=20000, socket_fuzz=5000, offsets=200, fault_uses=1,
    soak_seconds=5.0, burst_series=300, burst_blocks=500, sweep_clients=128,
    new_series=100000, kills=5, flips=100,
)  # fmt: skip

Progress = Callable[[str], None]
Findings = Iterator[Finding]


def _p99(server: Subject, probes: int) -> float:
    """The p99 latency of a healthy client's requests, in seconds. Raises OSError if one fails."""
    latencies = []
    with server.client() as client:
        for number in range(probes):
            started = time.perf_counter()
            if client.ask(b"put healthy 1 %d\n" % (number % 100)) != OK:
                raise OSError("a healthy client got a wrong reply")
            latencies.append(time.perf_counter() - started)
    return sorted(latencies)[len(latencies) * 99 // 100]


def _beside(server: Subject, probes: int) -> Finding:
    """How a healthy client fares beside those that misbehave, and at another server meanwhile."""
    with Subject() as quiet:
        ratios = [_p99(server, probes) / _p99(quiet, probes) for _ in range(5)]
    return at_most("others' p99, by that of a quiet server", statistics.median(ratios), 2.0, "")


def _fill(server: Subject) -> None:
    """Store so much that ``get *`` is larger than every buffer."""
    with server.client() as client:
        for start in range(0, 100000, 1000):
            puts = [b"put k%d 0.5 %d\n" % (n % 100, n) for n in range(start, start + 1000)]
            client.ask(b"".join(puts), 1000)


@contextlib.contextmanager
def _clients(server: Subject, count: int, progress: Progress) -> Iterator[List[Client]]:
    clients: List[Client] = []
    try:
        for number in range(count):
            if number % 1000 == 999:
                progress(f"{number + 1:,} connections")
            clients.append(server.client(small_buffers=True))
        yield clients
    finally:
        close_all(clients)


def _until_blocked(clients: List[Client], requests: bytes, most: int) -> float:
    """Let every client send until the server takes no more, or ``most`` bytes; return the mean."""
    left = dict.fromkeys(clients, most)
    for client in clients:
        client.socket.setblocking(False)
    quiet_since = time.monotonic()
    while left and time.monotonic() - quiet_since < SLEEPERS_BUFFERS:
        before = sum(left.values())
        for client in list(left):
            with contextlib.suppress(BlockingIOError):
                left[client] -= client.socket.send(requests[: left[client]])
            if left[client] <= 0:
                del left[client]
        if sum(left.values()) < before:
            quiet_since = time.monotonic()
        else:
            time.sleep(PAUSE_SECONDS)
    return most - sum(left.values()) / len(clients)


def _until_asleep(server: Subject) -> float:
    """How long the server goes on working for clients that do not read, in seconds.

    Those in which others had the processor, on a machine that is busy, do not count.
    """
    started, kept_waiting = time.monotonic(), server.kept_waiting()
    while time.monotonic() < started + 10 * ASLEEP_SECONDS:
        if server.cpu_share(0.2) <= NEAR_ZERO and server.sleeps():
            return time.monotonic() - started - (server.kept_waiting() - kept_waiting)
    return math.inf


def connections(size: Size, progress: Progress) -> Findings:
    """Many connections at once, each putting and getting, with a low soft descriptor limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(size.connections, hard - 100)
    with Subject(descriptors=(64, hard)) as server:
        before = server.memory()
        with _clients(server, count, progress) as clients:
            right = 0
            for number, client in enumerate(clients):
                said = client.ask(b"put k%d 1 1\nget k%d\n" % (number, number), 2)
                right += said == b"ok\n\nok\nk%d 1.0 1\n\n" % number
            yield exactly(
                f"{count:,} connections at once, a put and a get each", right, count, "right"
            )
            growth = (server.memory() - before) / count
            # Each has stored a series of one point too; that is part of the figure.
            yield at_most("memory for each connection", growth, CONNECTION_BYTES, "bytes")
            yield at_most(
                "CPU while all are silent", server.cpu_share(size.hold_seconds), NEAR_ZERO, ""
            )


def descriptors(size: Size, progress: Progress) -> Findings:
    """The limit of descriptors is hit and held."""
    with Subject(descriptors=(64, 64)) as server:
        yield from _at_a_limit(server, 200, size)


def max_connections(size: Size, progress: Progress) -> Findings:
    """The limit of connections is hit and held."""
    with Subject("--max-connections", "50") as server:
        yield from _at_a_limit(server, 200, size)


def _at_a_limit(server: Subject, count: int, size: Size) -> Findings:
    lines = server.log().count("\n")
    clients = [server.client() for _ in range(count)]
    try:
        clients[0].ask(b"put k 1 1\n")
        share = server.cpu_share(size.hold_seconds)
        yield at_most(f"CPU with {count} clients at the limit", share, NEAR_ZERO, "")
        logged = server.log().count("\n") - lines
        yield at_most("log lines a second", logged / size.hold_seconds, 1.0, "")
        served = sum(client.ask(b"get k\n") == b"ok\nk 1.0 1\n\n" for client in clients[:40])
        yield exactly("those that came in time are served", served, 40, "clients")
        waiting = clients.pop()
        waiting.socket.sendall(b"get k\n")
        close_all(clients)
        started = time.monotonic()
        waiting.read()
        waiting.socket.close()
        yield at_most("recovery when there is room", time.monotonic() - started, 1.0, "s")
    finally:
        close_all(clients)


def readers(size: Size, progress: Progress) -> Findings:
    """Clients that ask ``get *`` fifty times and never read."""
    with Subject() as server:
        _fill(server)
        yield from _asleep(server, b"get *\n" * 50, 50 * 6, UNREAD_BYTES, size, progress)


def putters(size: Size, progress: Progress) -> Findings:
    """Clients that put for ever and never read their acknowledgements."""
    with Subject() as server:
        yield from _asleep(server, PUTS, 10**7, UNREAD_BYTES, size, progress)


def endless_lines(size: Size, progress: Progress) -> Findings:
    """Lines that never end."""
    with Subject() as server:
        line = b"x" * 40000
        yield from _asleep(server, line, 10 * MAX_LINE_BYTES, ENDLESS_BYTES, size, progress)


def _asleep(
    server: Subject, requests: bytes, most: int, bound: int, size: Size, progress: Progress
) -> Findings:
    with _clients(server, 1, progress) as clients:  # the first one costs what all share
        _until_blocked(clients, requests, most)
        _until_asleep(server)
    before = server.memory()
    with _clients(server, size.sleepers, progress) as clients:
        progress("they send")
        taken = _until_blocked(clients, requests, most)
        yield at_most("bytes taken from each", taken, TAKEN_BYTES, "bytes")
        working = ASLEEP_SECONDS + taken * len(clients) * SECONDS_A_BYTE
        yield at_most("it works on for", _until_asleep(server), working, "s")
        growth = (server.memory() - before) / len(clients)
        yield at_most(f"memory for each of {len(clients):,}", growth, bound, "bytes")
        yield at_most("CPU while they sleep", server.cpu_share(size.hold_seconds), NEAR_ZERO, "")
        yield _beside(server, size.probes)
        alive = server.descriptors()
        yield exactly("connections closed on them", max(0, len(clients) - alive), 0, "")


def drip(size: Size, progress: Progress) -> Findings:
    """One byte a second in each direction."""
    with Subject() as server:
        with server.client() as client:
            client.ask(b"".join(b"put big 0.5 %d\n" % n for n in range(5000)), 5000)
            before = server.memory()
        with _clients(server, size.sleepers, progress) as clients:
            for client in clients[::2]:
                client.socket.sendall(b"get big\n")
            seconds = max(2, int(2 * size.hold_seconds))
            for second in range(seconds):
                progress(f"second {second + 1} of {seconds}")
                for client in clients[::2]:
                    client.socket.recv(1)
                for client in clients[1::2]:
                    client.socket.sendall(b"get big\n"[second % 8 : second % 8 + 1])
                share = server.cpu_share(1.0)
            growth = (server.memory() - before) / len(clients)
            yield at_most(f"memory for each of {len(clients):,}", growth, UNREAD_BYTES, "bytes")
            yield at_most("CPU", share, 10 * NEAR_ZERO, "")
            yield _beside(server, size.probes)


def offsets(size: Size, progress: Progress) -> Findings:
    """Lines around the limit, beginning at every offset of the receive buffer."""
    limit = 1000
    wrong = 0
    step = RECEIVE_BYTES // size.offsets
    for offset in range(0, RECEIVE_BYTES, step):
        if offset % 4096 < step:
            progress(f"offset {offset:,}")
        stream = (b"get k\n" * (offset // 6) + b"x" * (offset % 6 - 1) + b"\n")[:offset]
        expected = OK * (offset // 6) + WRONG * (offset % 6 > 1)
        for length in (limit - 1, limit, limit + 1, 3 * limit):
            stream += b"get " + b"x" * (length - 4) + b"\n"
            expected += OK if length <= limit else WRONG
        session = Session(Dispatcher(Memory()), limit)
        starts = range(0, len(stream), RECEIVE_BYTES)
        said = [_answers(session, stream[start : start + RECEIVE_BYTES]) for start in starts]
        wrong += b"".join(said) != expected
    yield exactly(f"wrong of {RECEIVE_BYTES // step:,} offsets, 4 lengths each", wrong, 0, "")


def _answers(session: Session, arrival: bytes, more_waiting: bool = False) -> bytes:
    """All that a session says to an arrival."""
    session.receive(arrival, more_waiting)
    said = [session.replies()]
    while session.unfinished:
        session.go_on()
        said.append(session.replies())
    return b"".join(said)


def storms(size: Size, progress: Progress) -> Findings:
    """Connections that are reset, half-closed, or gone before they are accepted."""
    with Subject() as server:
        with server.client() as client:
            client.ask(b"".join(b"put big 0.5 %d\n" % n for n in range(2000)), 2000)
        for ending in (_reset_early, _reset_late, _half_close):  # the allocator gets to know them
            for _ in range(200):
                ending(server)
        open_before = server.quiet_descriptors(0, 0.5)
        before = server.memory()
        for ending in (_reset_early, _reset_late, _half_close):
            for number in range(size.storm):
                if number % 5000 == 4999:
                    progress(f"{ending.__name__.strip('_')}: {number + 1:,}")
                ending(server)
        left = server.quiet_descriptors(open_before) - open_before
        yield exactly(f"descriptors left after 3 x {size.storm:,}", left, 0, "")
        yield at_most("memory growth", server.memory() - before, STORM_GROWTH, "bytes")
        with server.client() as client:
            right = client.ask(b"get nobody\n") == OK
        yield exactly("a healthy client afterwards", int(right), 1, "right")


def _reset_early(server: Subject) -> None:
    server.client().reset()


def _reset_late(server: Subject) -> None:
    client = server.client(small_buffers=True)
    client.socket.sendall(b"get big\nget big\nput x")
    client.reset()


def _half_close(server: Subject) -> None:
    with server.client() as client:
        client.socket.sendall(b"get nobody\nput unfinished 1")
        client.socket.shutdown(socket.SHUT_WR)
        if client.read() != OK or client.socket.recv(1):
            raise OSError("a half-closed connection was not answered")


def session_fuzz(size: Size, progress: Progress) -> Findings:
    """Random and mutated requests through the session, against a plain model."""
    failures = 0
    for seed in range(size.session_fuzz // STREAM):
        if seed % 100 == 99:
            progress(f"{(seed + 1) * STREAM:,} requests")
        stream = _mutated(seed)
        failures += not _same(seed, stream, _through_session(seed, stream), Model().stream(stream))
    yield exactly(f"wrong of {size.session_fuzz // STREAM:,} streams of {STREAM}", failures, 0, "")


def _through_session(seed: int, stream: bytes) -> bytes:
    dice = random.Random(seed)
    session = Session(Dispatcher(Memory()))
    said: List[bytes] = []
    try:
        for piece in script.pieces(stream, dice, dice.choice([7, 100, 5000, 100000])):
            said.append(_answers(session, piece, more_waiting=True))
    except Exception as error:
        print(f"seed {seed}: {error!r}", file=sys.stderr)
    return b"".join(said)


def socket_fuzz(size: Size, progress: Progress) -> Findings:
    """The same through sockets, in random pieces, pipelined."""
    failures = 0
    for start in range(0, size.socket_fuzz // STREAM, STREAMS_A_SERVER):
        progress(f"{start * STREAM:,} requests")
        with Subject() as server:
            model = Model()
            for seed in range(start, start + STREAMS_A_SERVER):
                stream = _mutated(seed)
                expected = model.stream(stream)
                failures += not _same(seed, stream, _through_socket(server, stream), expected)
    yield exactly(f"wrong of {size.socket_fuzz // STREAM:,} streams of {STREAM}", failures, 0, "")


def _through_socket(server: Subject, stream: bytes) -> bytes:
    with server.client() as client:
        sender = threading.Thread(target=_send_all, args=(client.socket, stream))
        sender.start()
        said = b""
        while True:
            data = client.socket.recv(1 << 20)
            if not data:
                break
            said += data
        sender.join()
        return said


def _send_all(sock: socket.socket, data: bytes) -> None:
    dice = random.Random(len(data))
    for piece in script.pieces(data, dice, 20000):
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)


def _mutated(seed: int) -> bytes:
    """Requests of which some have bytes changed, dropped or doubled; none is blank."""
    dice = random.Random(-seed)
    lines = [b"get nobody"]  # HTTP as the first line would end the session
    for line in script.lines(seed, STREAM - 1):
        if dice.random() < 0.2:
            place = dice.randrange(len(line))
            change = dice.choice([b"", bytes((dice.randrange(256),)), line[: place + 1]])
            line = (line[:place] + change + line[place + 1 :]).replace(b"\n", b"x")
        lines.append(line if line.decode("utf-8", "replace").split() else b"x")
    return b"\n".join(lines) + b"\n"


def _same(seed: int, stream: bytes, said: bytes, expected: bytes) -> bool:
    """Compare; print the first line that was answered wrongly, so that it can become a test."""
    if said == expected:
        return True
    answers, wanted = said.split(b"\n\n"), expected.split(b"\n\n")
    for line, answer, right in zip(stream.split(b"\n"), answers, wanted):
        if answer != right:
            print(f"seed {seed}: {line!r} was answered {answer[-200:]!r}", file=sys.stderr)
            break
    return False


def fault_injection(size: Size, progress: Progress) -> Findings:
    """Every system call fails at its first use, its second, and so on, with every error."""
    runs = failures = 0
    try:
        for fault in faults.all_faults(size.fault_uses):
            runs += 1
            if runs % 50 == 0:
                progress(str(fault))
    except faults.Failed as error:
        print(error, file=sys.stderr)
        failures += 1
    yield exactly(f"{runs:,} runs with a failing call, failures", failures, 0, "")


def soak(size: Size, progress: Progress) -> Findings:
    """A mixed load, with clients that come and go, for a time: nothing may grow."""
    with Subject() as server:
        with server.client() as client:  # all that will ever be stored
            for number in range(100):
                lines = [b"put k%d 0.5 %d\n" % (number, n) for n in range(100)]
                client.ask(b"".join(lines) + b"get k%d\nget *\n" % number, 102)
        before = server.memory()
        deadline = time.monotonic() + size.soak_seconds
        halfway = deadline - size.soak_seconds / 2
        dice = random.Random(1)
        clients = [server.client() for _ in range(20)]
        memory: List[Tuple[float, int]] = []
        requests = 0
        while time.monotonic() < deadline:
            client = clients.pop(dice.randrange(len(clients)))
            keys = dice.randrange(100)
            lines = [b"put k%d %d %d\n" % (keys, dice.randrange(99), n) for n in range(100)]
            client.ask(b"".join(lines) + b"get k%d\nget *\nwrong\n" % keys, 103)
            requests += 103
            if dice.random() < 0.5:
                clients.append(client)
            else:
                client.reset() if dice.random() < 0.5 else client.socket.close()
                clients.append(server.client())
            if requests % 10300 == 0:
                progress(f"{deadline - time.monotonic():.0f} s to go")
            if time.monotonic() > halfway:
                memory.append((time.monotonic(), server.memory()))
        close_all(clients)
        growth = server.memory() - before
        yield at_most(f"memory growth in {requests:,} requests", growth, STORM_GROWTH, "bytes")
        if size.soak_seconds >= SLOPE_SECONDS:  # by then the allocator has found its pages
            yield at_most("in the second half", _slope(memory) / 1024, 1.0, "KiB/s")
        yield exactly("descriptors left", server.quiet_descriptors(IDLE_OPEN) - IDLE_OPEN, 0, "")


def _slope(points: List[Tuple[float, int]]) -> float:
    """By how much the second number of each pair grows as the first one does: least squares."""
    mean_x = statistics.mean(x for x, _ in points)
    mean_y = statistics.mean(y for _, y in points)
    below = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / below


def stopping(size: Size, progress: Progress) -> Findings:
    """SIGTERM while clients misbehave; a second signal."""
    for name, requests in (("readers", b"get *\n" * 50), ("putters", PUTS), ("lines", b"x" * 9999)):
        progress(name)
        with Subject() as server:
            _fill(server)
            with _clients(server, min(size.sleepers, 200), progress) as clients:
                _until_blocked(clients, requests, 10**7 if name == "putters" else 10**5)
                seconds = server.stop(3 * STOP_SECONDS)
                yield at_most(f"stopping beside {name}", seconds, STOP_SECONDS + 1.0, "s")
                code = server.process.poll()
                yield exactly("exit code", -1 if code is None else code, 0, "")
    progress("a second signal")
    with Subject() as server:
        _fill(server)
        with _clients(server, 10, progress) as clients:
            _until_blocked(clients, b"get *\n" * 50, 300)
            accepted = IDLE_OPEN + len(clients)
            server.quiet_descriptors(accepted)  # before that, fewer would not tell that it stops:
            server.process.send_signal(signal.SIGTERM)
            server.quiet_descriptors(accepted - 1)  # it does not listen any more
            seconds = server.stop(STOP_SECONDS)
            yield at_most("a second signal ends it in", seconds, 1.0, "s")


def browser(size: Size, progress: Progress) -> Findings:
    """A real HTTP client's POST whose body holds puts."""
    body = "\n".join(f"put stolen{number} 1 1" for number in range(1000)) + "\n"
    with Subject() as server:
        stored = 0
        for path in ("/", "*", "put", "http://127.0.0.1/"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            with contextlib.suppress(http.client.HTTPException, OSError):
                connection.request("POST", path, body, {"Content-Type": "text/plain"})
                connection.getresponse()
            connection.close()
        with server.client() as client:
            stored += client.ask(b"get *\n").count(b"stolen")
        yield exactly("puts stored from HTTP bodies", stored, 0, "")


def kills(size: Size, progress: Progress) -> Findings:
    """SIGKILL at random moments, with a file: what was acknowledged is there again."""
    dice = random.Random(1)
    acknowledged: Dict[bytes, int] = {}  # by key: so many, with the timestamps 0, 1, 2 ...
    lost = invented = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(size.kills + 1):
            progress(f"{number} of {size.kills}")
            store = f"sqlite:{folder}/points.db"
            with Subject("--store", store, "--fsync", dice.choice(FSYNC_POLICIES)) as server:
                with server.client() as client:
                    for key, count in acknowledged.items():
                        rows = client.ask(b"get %s\n" % key).split(b"\n")[1:-2]
                        lost += max(count - len(rows), 0)
                        expected = [b"%s %d.0 %d" % (key, n, n) for n in range(len(rows))]
                        invented += rows != expected
                keys = [b"%d.%d" % (number, client) for client in range(8)]
                arguments = [(server, key, acknowledged) for key in keys]
                putters = [threading.Thread(target=_put, args=each) for each in arguments]
                for putter in putters:
                    putter.start()
                enough = dice.randrange(1, KILL_PUTS)
                while sum(acknowledged.get(key, 0) for key in keys) < enough:
                    time.sleep(0.001)
                server.process.kill()
                for putter in putters:
                    putter.join()
    yield exactly(f"acknowledged puts lost, of {sum(acknowledged.values()):,}", lost, 0, "")
    yield exactly("series with a point that was never put", invented, 0, "")


def _put(server: Subject, key: bytes, acknowledged: Dict[bytes, int]) -> None:
    """Put one after the other, or a few at a time, until the server has ended."""
    count = 0
    with contextlib.suppress(OSError), server.client() as client:
        while True:
            numbers = range(count, count + 1 + count % 3)
            client.ask(b"".join(b"put %s %d %d\n" % (key, n, n) for n in numbers), len(numbers))
            count = acknowledged[key] = numbers[-1] + 1


def flips(size: Size, progress: Progress) -> Findings:
    """A bit flipped anywhere in a file: what was safe is there, or the start tells of damage."""
    yield from _damage(size.flips, progress, "flipped bits", _flip)


def cuts(size: Size, progress: Progress) -> Findings:
    """The end of a file cut off: what was safe is there, or the start tells of damage."""
    yield from _damage(size.flips // 10, progress, "cuts", durable_damage.cut)


def _flip(data: bytes, dice: random.Random) -> bytes:
    return durable_damage.flipped(data, dice.randrange(8 * len(data)))


def _damage(
    count: int, progress: Progress, what: str, change: Callable[[bytes, random.Random], bytes]
) -> Findings:
    """Change the files of a server that was killed; and salvage what can't be started with."""
    dice = random.Random(1)
    outcomes: Dict[str, int] = {}
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        original = durable_damage.Original(Path(folder), "always")
        names = [name for name in original.killed if not name.endswith("-shm")]
        for number in range(count):
            if number % 100 == 0:
                progress(f"{number:,} of {count:,}")
            # Before the WAL is in the database, and after.
            source = original.killed if dice.random() < 0.7 else original.closed
            sizes = [len(source.get(name, b"")) for name in names]
            (name,) = dice.choices(names, sizes)
            files = dict(source)
            files[name] = change(source[name], dice)
            path = durable_damage.write(Path(folder) / "damaged", files)
            try:
                said = durable_damage.outcome(original, path)
            except AssertionError as error:
                said = f"wrong: {error}"
                print(f"{what} {number}, {name}: {error}", file=sys.stderr)
            outcomes[said.split(":")[0]] = outcomes.get(said.split(":")[0], 0) + 1
    logging.disable(logging.NOTSET)
    told = ", ".join(f"{outcomes[said]:,} {said}" for said in sorted(outcomes))
    wrong = outcomes.get("wrong", 0)
    yield exactly(f"lost without a word, or wrong, of {count:,} {what} ({told})", wrong, 0, "")


SCENARIOS: Dict[str, Callable[[Size, Progress], Findings]] = {
    "connections": connections,
    "descriptors": descriptors,
    "max-connections": max_connections,
    "readers": readers,
    "putters": putters,
    "endless-lines": endless_lines,
    "drip": drip,
    "offsets": offsets,
    "storms": storms,
    "session-fuzz": session_fuzz,
    "socket-fuzz": socket_fuzz,
    "faults": fault_injection,
    "stopping": stopping,
    "browser": browser,
    "soak": soak,
    "kills": kills,
    "flips": flips,
    "cuts": cuts,
}
