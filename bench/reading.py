"""One client reads everything: how fast, what it costs, and what others notice of it."""

import contextlib
import socket
import statistics
import threading
import time
from typing import List

from load import Job, LoadError, cpu_seconds, measure
from servers import Peer, Running, running
from tables import Figures

# How often one client reads everything with nobody beside it.
READS = 3

# The server that is slowest to begin its answer to get * has so long.
READ_SECONDS = 30.0


def run_reading(peer: Peer, points: int, others_seconds: float) -> Figures:
    """One client reads everything, by itself, and while others put."""
    with running(peer) as server:
        _store(server, points, 10 if peer.max_clients > 1 else 1)
        figures = _read_alone(server)
        if peer.protocol == "metricsd" and peer.max_clients > 1:
            figures.update(_read_beside(server, others_seconds))
    return figures


def _read_alone(server: Running) -> Figures:
    """``get *``, or of Redis an HGETALL for each key, all in one go."""
    seconds: List[float] = []
    size = 0
    with socket.create_connection(("127.0.0.1", server.port), READ_SECONDS) as sock:
        request, end = b"get *\n", b"\n\n"
        if server.peer.protocol == "redis":
            request, end = _every_hash(sock), REDIS_END
        before = sum(cpu_seconds(server.pid) or ())
        for _ in range(READS):
            started = time.perf_counter()
            size = _ask(sock, request, end)
            seconds.append(time.perf_counter() - started)
        used = sum(cpu_seconds(server.pid) or ()) - before
    return {
        "all_mb": size / 1e6,
        "all_mb_per_second": size / 1e6 / statistics.median(seconds),
        "all_cpu_seconds": used / READS,
    }


REDIS_END = b"+PONG\r\n"


def _every_hash(sock: socket.socket) -> bytes:
    """Requests for all that a Redis holds, and a PING, whose reply ends theirs."""
    sock.sendall(b"KEYS *\r\nPING\r\n")
    said = b""
    while not said.endswith(REDIS_END):
        said += sock.recv(1 << 20)
    keys = said.split(b"\r\n")[2:-2:2]
    return b"".join(b"HGETALL %s\r\n" % key for key in keys) + b"PING\r\n"


def _ask(sock: socket.socket, request: bytes, end: bytes) -> int:
    """Send a request and read its reply; return how long that is. Raises OSError."""
    sock.sendall(request)
    size, last = 0, b""
    while last != end:
        data = sock.recv(1 << 20)
        if not data:
            raise OSError("the server closed the connection")
        size += len(data)
        last = (last + data)[-len(end) :]
    return size


def _store(server: Running, points: int, clients: int) -> None:
    job = Job(
        port=server.port,
        protocol=server.peer.protocol,
        clients=clients,
        pipeline=100,
        requests=points,
        keys=max(clients, points // 1000),
    )
    if measure(job, 1, None, show=False)["wrong"]:
        raise LoadError(f"{server.peer.name} gave wrong replies")


def _read_beside(server: Running, others_seconds: float) -> Figures:
    """``get *`` half of the time, while others put 1,000 times a second."""
    server.forget_peak()
    before = server.memory()
    seconds: List[float] = []
    done = threading.Event()
    reader = threading.Thread(target=_read_again, args=(server.port, seconds, done))
    reader.start()
    job = Job(port=server.port, clients=4, rate=1000, seconds=others_seconds)
    try:
        others = measure(job, 1, None, show=False)
    finally:
        done.set()
        reader.join()
    if not seconds:
        raise LoadError(f"{server.peer.name} did not answer get *")
    return {
        "get_all_seconds": statistics.median(seconds),
        "others_p99.9_ms": others["p99.9_ms"],
        "growth_mb": (server.memory("VmHWM") - before) / 1e6,
    }


def _read_again(port: int, seconds: List[float], done: threading.Event) -> None:
    address = ("127.0.0.1", port)
    with contextlib.suppress(OSError), socket.create_connection(address, READ_SECONDS) as sock:
        while not done.is_set():
            started = time.perf_counter()
            _ask(sock, b"get *\n", b"\n\n")
            seconds.append(time.perf_counter() - started)
            done.wait(seconds[-1])  # a server that stalls has so long to catch up
