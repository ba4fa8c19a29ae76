"""What a point costs that comes as a line of Graphite: metricsd beside carbon and VictoriaMetrics.

    python3 bench/graphite.py [--quick] [--only NAME]

The figure is the server's own CPU time a point, user and system, of all its threads. Every round
starts every server anew and in turn, and medians are quoted, of the ratios too.
"""

import argparse
import contextlib
import random
import re
import shutil
import socket
import statistics
import sys
import time
import urllib.request
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional

from servers import LOAD_CORE, Peer, Running, free_port, peers, pin, running, skipped

SERIES = 1000
STEP = 10  # seconds between two points of a series
SEND_BYTES = 64 * 1024  # at a time, of one sender
AGENT_LINES = 10  # that each of many senders has to send at a time
QUIET_SECONDS = 1.5  # without work, after which all is done; carbon writes files once a second
QUIET_SHARE = 0.03  # of a core that is no work: VictoriaMetrics is never quite still
SETTLE_SECONDS = 30.0  # that a server has for it

FILE = ["--store", "sqlite:FOLDER/points.db"]

# At most this many times as much as the other one.
TARGETS = {"carbon": 0.1, "carbon, files": 0.1, "VictoriaMetrics": 2.0}


class Subject(NamedTuple):
    """A server, and how much it is sent."""

    peer: Peer
    points: int
    how_many: Callable[[int], Optional[int]]  # points it has got, by its query port
    query_port: int


def count_metricsd(port: int) -> Optional[int]:
    """Ask for everything."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"get *\n")
        sock.shutdown(socket.SHUT_WR)
        count = 0
        while True:
            data = sock.recv(1 << 20)
            if not data:
                return count - len(("ok", ""))
            count += data.count(b"\n")


def count_victoria(port: int) -> Optional[int]:
    """Ask for its own counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        text = reply.read().decode()
    found: List[str] = re.findall(r'vm_rows_inserted_total\{type="graphite"\} (\d+)', text)
    return sum(int(number) for number in found)


def count_nothing(_: int) -> Optional[int]:
    """Of carbon it is not known."""
    return None


def subjects(points: int) -> List[Subject]:
    """The servers; carbon is so slow that a fifth of the points does."""
    ports = [free_port(), free_port()]
    ours = [sys.executable, "-m", "metricsd", "--port", str(ports[0]), "--log-level", "error"]
    victoria = shutil.which("victoria-metrics")
    theirs = [
        str(victoria), "-graphiteListenAddr=127.0.0.1:PORT", "-storageDataPath=FOLDER",
        f"-httpListenAddr=127.0.0.1:{ports[1]}", "-retentionPeriod=100y",
    ]  # fmt: skip
    missing = "" if victoria else "install it (Debian: apt-get install victoria-metrics)"
    carbon = next(peer for peer in peers() if peer.name == "carbon")
    with_files = carbon._replace(name="carbon, files", command=[*carbon.command, "files"])
    return [
        Subject(
            Peer("metricsd", [*ours, "--graphite", "PORT"], acknowledges=False),
            points,
            count_metricsd,
            ports[0],
        ),
        Subject(
            Peer("metricsd, file", [*ours, "--graphite", "PORT", *FILE], acknowledges=False),
            points,
            count_metricsd,
            ports[0],
        ),
        Subject(carbon, points // 5, count_nothing, 0),
        Subject(with_files, points // 5, count_nothing, 0),
        Subject(
            Peer("VictoriaMetrics", theirs, acknowledges=False, missing=missing),
            points,
            count_victoria,
            ports[1],
        ),
    ]


def lines(points: int) -> Iterator[bytes]:
    """Points of SERIES series in turn, as they come from agents."""
    dice = random.Random(16)
    names = ("load", "memory", "disk", "network", "processes")
    paths = [f"servers.web{n // 5:03}.{names[n % 5]}.value" for n in range(SERIES)]
    first = int(time.time()) - points // SERIES * STEP  # carbon's files take nothing much older
    for number in range(points):
        timestamp = first + number // SERIES * STEP
        yield f"{paths[number % SERIES]} {dice.random() * 100:.3f} {timestamp}\n".encode()


def wait_for_end(sock: socket.socket) -> None:
    """Say that this is all, and wait until the server has come to that: then it closes, too."""
    sock.settimeout(SETTLE_SECONDS)
    sock.shutdown(socket.SHUT_WR)
    sock.recv(1)


def send_stream(port: int, points: int) -> None:
    """One sender with much to send, as a relay is."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        waiting: List[bytes] = []
        size = 0
        for line in lines(points):
            waiting.append(line)
            size += len(line)
            if size > SEND_BYTES:
                sock.sendall(b"".join(waiting))
                waiting.clear()
                size = 0
        sock.sendall(b"".join(waiting))
        wait_for_end(sock)


def send_agents(port: int, points: int) -> None:
    """50 senders with some lines each at a time, as agents have them."""
    with contextlib.ExitStack() as stack:
        senders = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(50)
        ]
        waiting: List[bytes] = []
        turn = 0
        for line in lines(points):
            waiting.append(line)
            if len(waiting) == AGENT_LINES:
                senders[turn % len(senders)].sendall(b"".join(waiting))
                waiting.clear()
                turn += 1
        senders[0].sendall(b"".join(waiting))
        for sock in senders:
            wait_for_end(sock)


def cpu(pid: int) -> float:
    """CPU seconds of all threads of a process so far, finer than in ticks (Linux)."""
    nanoseconds = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        nanoseconds += int(path.read_text().split()[0])
    return nanoseconds / 1e9


def settle(server: Running) -> float:
    """Wait until it has no more work; its CPU seconds then. Raises OSError if that takes long."""
    deadline = time.monotonic() + SETTLE_SECONDS
    used = cpu(server.pid)
    while time.monotonic() < deadline:
        before = used
        time.sleep(QUIET_SECONDS)
        used = cpu(server.pid)
        if used - before < QUIET_SHARE * QUIET_SECONDS:
            return used
    raise OSError(f"{server.peer.name} is still at work after {SETTLE_SECONDS:g} s")


def measure(subject: Subject, send: Callable[[int, int], None]) -> float:
    """Microseconds of CPU a point. Raises OSError if not all points have come."""
    with running(subject.peer) as server:
        before = settle(server)
        send(server.port, subject.points)
        used = settle(server) - before
        count = subject.how_many(subject.query_port)
        if count is not None and count != subject.points:
            raise OSError(f"{subject.peer.name} has {count} of {subject.points} points")
    return used / subject.points * 1e6


def compare(points: int, rounds: int, only: Optional[str]) -> Dict[str, Dict[str, List[float]]]:
    """Measure all servers, in turn, in each round; tell each figure as it comes."""
    found: Dict[str, Dict[str, List[float]]] = {}
    for number in range(rounds):
        for subject in subjects(points):
            name = subject.peer.name
            if only not in (None, name) or skipped(subject.peer):
                if number == 0:
                    print(skipped(subject.peer) or f"{name} left out", file=sys.stderr)
                continue
            for send in (send_stream, send_agents):
                figure = measure(subject, send)
                found.setdefault(send.__name__[5:], {}).setdefault(name, []).append(figure)
                said = f"round {number + 1} of {rounds}: {name}, {send.__name__[5:]}"
                print(f"{said}: {figure:.2f} us a point", file=sys.stderr, flush=True)
    return found


def table(found: Dict[str, Dict[str, List[float]]]) -> str:
    """The medians in Markdown, and metricsd's part of each of the others'."""
    text = [
        "| senders | server | CPU us a point | metricsd's part | target |",
        "|---|---|--:|--:|--:|",
    ]
    for send, figures in found.items():
        for name, all_rounds in figures.items():
            cells = [send, name, f"{statistics.median(all_rounds):.2f}", "", ""]
            ours = figures.get("metricsd")
            if name in TARGETS and ours:
                part = statistics.median(a / b for a, b in zip(ours, all_rounds))
                cells[3:] = [f"{part:.3f}", f"at most {TARGETS[name]:g}"]
            text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="CPU of the server a point, by Graphite's lines")
    parser.add_argument("--quick", action="store_true", help="one round of few points, a minute")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--points", type=int, default=500000)
    parser.add_argument("--only", metavar="NAME", help="metricsd, carbon or VictoriaMetrics")
    options = parser.parse_args()
    pin(0, LOAD_CORE)
    if options.quick:
        options.rounds, options.points = 1, 100000
    print(table(compare(options.points, options.rounds, options.only)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
