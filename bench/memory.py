"""Resident memory a point, by kind of value, of metricsd and of other servers.

    python3 bench/memory.py

Many series grow together, a point for each every 15 seconds, as machines report theirs. What counts
is by how much the server's resident memory has grown, as the operating system says.
"""

import argparse
import random
import socket
import sys
from typing import Any, Callable, Dict, Iterator, List

from load import LoadError
from servers import LOAD_CORE, Peer, Running, peers, pin, running, skipped
from workload import FIRST_TIMESTAMP, PROTOCOLS

STEP_SECONDS = 15
REPLY_SECONDS = 30.0

Figures = Dict[str, float]  # bytes a point, by kind of value


def gauge(dice: random.Random) -> Iterator[str]:
    """Two decimals, up to 100."""
    while True:
        yield str(dice.randrange(10000) / 100)


def counter(dice: random.Random) -> Iterator[str]:
    """Whole numbers that grow by up to 1,000."""
    total = dice.randrange(10**6)
    while True:
        total += dice.randrange(1000)
        yield str(total)


def full_precision(dice: random.Random) -> Iterator[str]:
    """All digits that a float has, up to 100."""
    while True:
        yield repr(dice.random() * 100)


KINDS: Dict[str, Callable[[random.Random], Iterator[str]]] = {
    "gauges of two decimals": gauge,
    "counters": counter,
    "floats of full precision": full_precision,
}


def measure_memory(peer: Peer, series: int, points: int) -> Figures:
    """Bytes a point of every kind, each in a server of its own."""
    return {kind: _bytes_a_point(peer, kind, series, points) for kind in KINDS}


def _bytes_a_point(peer: Peer, kind: str, series: int, points: int) -> float:
    values = [KINDS[kind](random.Random(number)) for number in range(series)]
    with running(peer) as server:
        before = server.memory()
        _store(server, values, points)
        return (server.memory() - before) / (series * points)


def _store(server: Running, values: List[Iterator[str]], points: int) -> None:
    protocol: Any = PROTOCOLS[server.peer.protocol]
    address = ("127.0.0.1", server.port)
    with socket.create_connection(address, REPLY_SECONDS) as sock, sock.makefile("rb") as replies:
        for number in range(points):
            timestamp = FIRST_TIMESTAMP + STEP_SECONDS * number
            requests, expected = "", b""
            for place, following in enumerate(values):
                request, reply = protocol.put(f"host{place}.metric", next(following))
                requests += request % timestamp
                expected += reply
            sock.sendall(requests.encode())
            if replies.read(len(expected)) != expected:
                raise LoadError(f"{server.peer.name} gave wrong replies")


def memory_table(by_peer: Dict[str, Figures]) -> List[str]:
    """The lines of a Markdown table."""
    lines = ["| values | " + " | ".join(by_peer) + " |", "|---|" + "---:|" * len(by_peer)]
    for kind in KINDS:
        cells = [f"{figures[kind]:.3g}" for figures in by_peer.values()]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    return lines


def main() -> int:
    """Measure every server that is here, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--series", type=int, default=1000, help="series (%(default)s)")
    parser.add_argument("--points", type=int, default=2000, help="points of each (%(default)s)")
    parser.add_argument("--only", metavar="NAME", help="measure this server alone")
    options = parser.parse_args()
    if options.series < 1 or options.points < 1:
        parser.error("--series and --points must be positive")
    found = [peer for peer in peers() if peer.acknowledges and options.only in (None, peer.name)]
    if not found:
        parser.error(f"--only: {options.only!r} is none of {', '.join(p.name for p in peers())}")
    pin(0, LOAD_CORE)
    by_peer: Dict[str, Figures] = {}
    try:
        for peer in found:
            print(skipped(peer) or f"measuring {peer.name}", file=sys.stderr, flush=True)
            if not peer.missing:
                by_peer[peer.name] = measure_memory(peer, options.series, options.points)
    except (LoadError, OSError) as error:
        print(f"memory: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(memory_table(by_peer)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
