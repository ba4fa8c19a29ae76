"""Where the time of a put goes: the server's own parts, added one after the other.

    python3 bench/stages.py
    python3 bench/stages.py --instructions

Fifty socket pairs in this process, each with a block of puts waiting; one turn of the loop answers
them all. The first figure is a bare loop over epoll that receives and sends; then come the reactor,
the connection, the session, the parsing and the store. The fastest of many turns counts, in
microseconds a put. In a server under load everything takes longer, as the kernel's network code and
ours displace each other from the processor's caches, but the proportions tell where to look.

With --instructions, callgrind counts what a server in a process of its own runs for each request,
in some one or two minutes: the figure to look at on a machine that is busy.
"""

import argparse
import platform
import select
import socket
import sys
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from instructions import JOBS, instructions_a_request, missing
from load import LoadError
from workload import Workload

from metricsd.loop import READ, Connection, Reactor
from metricsd.loop.connection import RECEIVE_BYTES
from metricsd.protocol import Dispatcher, Session
from metricsd.protocol.words import OK
from metricsd.store import STORED, Memory, Receipt, Store

CONNECTIONS = 50
TURNS = 400
PIPELINES = (1, 16, 100)

Pair = Tuple[socket.socket, socket.socket]
Stage = Tuple[str, Callable[[int], float]]


def bare(pipeline: int) -> float:
    """Epoll, receive, send."""
    pairs = _pairs()
    by_descriptor = {ours.fileno(): ours for ours, _ in pairs}
    poll = select.epoll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)

    def turn() -> None:
        for descriptor, _ in poll.poll(0, CONNECTIONS):
            ours = by_descriptor[descriptor]
            ours.recv(RECEIVE_BYTES)
            ours.send(OK * pipeline)

    try:
        return _fastest(turn, pairs, pipeline)
    finally:
        poll.close()


def with_reactor(pipeline: int) -> float:
    """The same, called back by the reactor."""
    pairs = _pairs()
    reactor = Reactor()

    def answer(ours: socket.socket) -> Callable[[], None]:
        def on_ready() -> None:
            ours.recv(RECEIVE_BYTES)
            ours.send(OK * pipeline)

        return on_ready

    for ours, _ in pairs:
        reactor.watch(ours, READ, answer(ours))
    try:
        return _fastest(lambda: reactor.turn(0), pairs, pipeline)
    finally:
        reactor.close()


def with_connection(pipeline: int) -> float:
    """Connections whose sessions say ok to anything."""
    replies = OK * pipeline
    deaf = mock.patch.object(Session, "receive", lambda *_: None)
    with deaf, mock.patch.object(Session, "replies", lambda _: replies):
        return _serve(pipeline)


def with_session(pipeline: int) -> float:
    """Sessions that don't look at the puts."""

    def say_ok(_store: Store, block: bytes) -> Tuple[int, int, Receipt]:
        return block.count(b"\n"), 0, STORED

    alone = mock.patch("metricsd.protocol.session.put_block", say_ok)
    together = mock.patch("metricsd.protocol.batch.put_block", say_ok)
    with alone, together:
        return _serve(pipeline)


def with_parsing(pipeline: int) -> float:
    """Puts split and converted, but not stored."""
    with mock.patch.object(Memory, "put_many", lambda _, keys, *columns: (len(keys), STORED)):
        return _serve(pipeline)


def whole(pipeline: int) -> float:
    """Everything."""
    return _serve(pipeline)


STAGES: List[Stage] = [
    ("epoll, receive, send", bare),
    ("selectors and the reactor", with_reactor),
    ("the connection", with_connection),
    ("the session", with_session),
    ("splitting and converting", with_parsing),
    ("storing", whole),
]


def _serve(pipeline: int) -> float:
    pairs = _pairs()
    reactor, dispatcher = Reactor(), Dispatcher(Memory())
    reactor.once_a_turn.append(dispatcher.batch.run)
    for number, (ours, _) in enumerate(pairs):
        Connection(ours, (number,), Session(dispatcher), reactor, lambda _: None)
    try:
        return _fastest(lambda: reactor.turn(0), pairs, pipeline)
    finally:
        reactor.close()


def _pairs() -> List[Pair]:
    pairs = [socket.socketpair() for _ in range(CONNECTIONS)]
    for ours, _ in pairs:
        ours.setblocking(False)
    return pairs


def _fastest(turn: Callable[[], None], pairs: List[Pair], pipeline: int) -> float:
    """Microseconds a put, in the fastest of many turns."""
    workloads = [
        Workload("metricsd", "put", f"load.{number}", 2, pipeline, 1).blocks()
        for number in range(len(pairs))
    ]
    fastest = float("inf")
    for _ in range(TURNS):
        for (_, theirs), blocks in zip(pairs, workloads):
            theirs.send(next(blocks).requests)
        started = time.perf_counter()
        turn()
        fastest = min(fastest, time.perf_counter() - started)
        for _, theirs in pairs:
            theirs.recv(RECEIVE_BYTES)
    for pair in pairs:
        for end in pair:
            end.close()
    return fastest / len(pairs) / pipeline * 1e6


def print_instructions(out: Optional[str]) -> int:
    """Print the table of instructions, and write it to a folder; return the exit code."""
    reason = missing()
    if reason:
        print(reason)
        return 0
    rows = []
    for number, (what, job) in enumerate(JOBS.items(), 1):
        print(f"[{number}/{len(JOBS)}] {what}", file=sys.stderr, flush=True)
        try:
            rows.append(f"| {what} | {instructions_a_request(job):,.0f} |")
        except (LoadError, OSError) as error:
            print(f"stages: {error}", file=sys.stderr)
            return 1
    table = "\n".join(["| user instructions a request | |", "|---|---:|", *rows])
    print(table)
    if out:
        python = f"Python {platform.python_version()}, {platform.machine()}"
        text = f"# Instructions\n\n{python}\n\n{table}\n"
        (Path(out) / "instructions.md").write_text(text, encoding="utf-8")
    return 0


def print_stages() -> int:
    """Print the table of stages; return the exit code."""
    print("| microseconds a put | " + " | ".join(f"pipeline {p}" for p in PIPELINES) + " |")
    print("|---|" + "---:|" * len(PIPELINES))
    before: Dict[int, float] = dict.fromkeys(PIPELINES, 0.0)
    for what, stage in STAGES:
        cells = []
        for pipeline in PIPELINES:
            so_far = stage(pipeline)
            cells.append(f"{so_far - before[pipeline]:.2f}")
            before[pipeline] = so_far
        print(f"| {what} | " + " | ".join(cells) + " |")
    print("| **all** | " + " | ".join(f"**{before[p]:.2f}**" for p in PIPELINES) + " |")
    return 0


def main() -> int:
    """Print the table that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--instructions", action="store_true", help="user instructions a request, by callgrind"
    )
    parser.add_argument("--out", metavar="DIR", help="write these there as well")
    options = parser.parse_args()
    return print_instructions(options.out) if options.instructions else print_stages()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
