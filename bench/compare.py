"""Compare metricsd with other servers at the same work, in turn, on this machine.

    python3 bench/compare.py --quick
    python3 bench/compare.py --out bench/results
    python3 bench/compare.py --only "put, 50 clients, pipeline 1" --rounds 15

The figure is the server's own CPU time a request, user and system, as the operating system counts
it: the server has one core, the load the other, so requests/s would often be those of the load.
Every round runs every server once, and begins with another one than the last; the figures are
medians over the rounds, the ratios too.
"""

import argparse
import contextlib
import json
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from load import Job, LoadError, cpu_seconds, measure, positive
from machine import about, look_around
from memory import measure_memory
from reading import run_reading
from servers import LOAD_CORE, Peer, Running, peers, pin, running, skipped
from tables import STORAGE, Figures, cpu_table, tables, warnings
from workload import Workload


class Settings(NamedTuple):
    """How thorough a comparison is."""

    rounds: int
    seconds: float  # of each load
    points: int  # stored for get *
    series: int  # whose memory is measured, with so many points each:
    series_points: int
    others_seconds: float  # that others put while one client reads everything


BULK_PIPELINE = 100

# A server that does nothing for so long has done all that it was sent.
SETTLING_SECONDS = 0.3

FULL = Settings(5, 0.8, points=1000000, series=1000, series_points=2000, others_seconds=3.0)
QUICK = Settings(1, 0.4, points=100000, series=50, series_points=1000, others_seconds=1.0)


def jobs(quick: bool, only: str = "") -> Dict[str, Job]:
    """Every kind of load, or the one of a name, by the name that it has in the tables."""
    found: Dict[str, Job] = {}
    for mix, what in (("put", "put"), ("get", "get of 10 points")):
        for clients, pipeline in ((1, 1), (1, 100), (50, 1), (50, 16)):
            name = f"{what}, {_count(clients, 'client')}, pipeline {pipeline}"
            found[name] = Job(mix=mix, clients=clients, pipeline=pipeline, points=10)
    for pipeline in (16, 100):
        found[f"put, 10 clients, pipeline {pipeline}"] = Job(clients=10, pipeline=pipeline)
    name = "put and get of 10 points in turn, 50 clients, pipeline 1"
    found[name] = Job(mix="mixed", points=10)
    found.update(large_gets())
    if only:
        return {n: j for n, j in found.items() if n == only}
    if quick:
        keep = ("put, 50 clients, pipeline 1$", "put, 10 clients", "put and get", "get of 1,000")
        return {n: j for n, j in found.items() if any(re.match(start, n) for start in keep)}
    return found


# Keys that are asked in turn, so that no reply is kept until it is asked for again: some 12 MB,
# three times what ours keeps.
FIRST_ASKED_KEYS = 300

# Keys that grow by a point before each get, and how often in all: each to 1,060 points.
GROWING_KEYS = 50
GROWN = 3000


def large_gets() -> Dict[str, Job]:
    """Gets of 1,000 points by 10 clients, pipeline 1.

    A server may keep what it has answered. So there is the same answer again and again, one that
    has grown since it was given, and one that nobody has asked for.
    """
    job = Job(mix="get", clients=10, keys=10, points=1000)
    grown = job._replace(mix="grown", keys=GROWING_KEYS, requests=GROWN)
    return {
        "get of 1,000 points, unchanged": job,
        "get of 1,000 points, grown by one point since": grown,
        "get of 1,000 points, first asked": job._replace(keys=FIRST_ASKED_KEYS),
    }


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def run_load(peer: Peer, job: Job, settings: Settings) -> Figures:
    """One load on a server of its own."""
    with running(peer) as server:
        if not peer.acknowledges:
            return _run_unacknowledged(server, job)
        job = job._replace(port=server.port, protocol=peer.protocol, seconds=settings.seconds)
        figures = measure(job, 1, server.pid, show=False)
    if figures["wrong"]:
        raise LoadError(f"{peer.name} gave {figures['wrong']} wrong replies")
    return figures


def _run_unacknowledged(server: Running, job: Job) -> Figures:
    """Send puts, and wait until the server has no more work: there is no other sign of its end."""
    puts = 100000
    before = sum(cpu_seconds(server.pid) or ())
    with contextlib.ExitStack() as stack:
        senders = []
        for number in range(job.clients):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            keys = max(1, job.keys // job.clients)
            workload = Workload("carbon", "put", f"load.{number}", keys, job.pipeline, 1)
            senders.append((sock, workload.blocks()))
        for _ in range(-(-puts // (job.clients * job.pipeline))):
            for sock, blocks in senders:
                sock.sendall(next(blocks).requests)
        sent = -(-puts // (job.clients * job.pipeline)) * job.clients * job.pipeline
        used = before
        while used != sum(cpu_seconds(server.pid) or ()):
            used = sum(cpu_seconds(server.pid) or ())
            time.sleep(SETTLING_SECONDS)
    return {"server_cpu_us": (used - before) / sent * 1e6}


def compare(settings: Settings, loads: Dict[str, Job], whole: bool = True) -> Dict[str, Any]:
    """Run the loads, and on the whole the rest; return each round's figures by load and peer."""
    found = peers()
    for line in filter(None, map(skipped, found)):
        _say(line)
    found = [peer for peer in found if not peer.missing]
    busy = look_around(_say)
    works = [*loads, STORAGE] if whole else [*loads]
    steps = len(works) * settings.rounds + whole
    results: Dict[str, Dict[str, List[Figures]]] = {}
    for step in range(1, len(works) * settings.rounds + 1):
        name = works[(step - 1) % len(works)]
        round_number = (step - 1) // len(works) + 1
        _say(f"[{step}/{steps}] round {round_number}: {'get *' if name == STORAGE else name}")
        first = (round_number - 1) % len(found)  # to be the first costs some CPU time more
        for peer, figures in run_work(found[first:] + found[:first], settings, loads.get(name)):
            results.setdefault(name, {}).setdefault(peer.name, []).append(figures)
    names = [peer.name for peer in found]
    stored = f"{settings.series:,} series of {settings.series_points:,} points"
    here = dict(
        about(settings.rounds, settings.seconds), stored=stored, points=f"{settings.points:,}"
    )
    outcome = {"about": here, "warnings": busy, "peers": names, "results": results}
    if whole:
        _say(f"[{steps}/{steps}] memory a point")
        outcome["memory"] = {
            peer.name: measure_memory(peer, settings.series, settings.series_points)
            for peer in found
            if peer.acknowledges
        }
    return outcome


def run_work(
    found: List[Peer], settings: Settings, job: Optional[Job]
) -> Iterator[Tuple[Peer, Figures]]:
    """Give one load, or without one the reading of everything, to each that can do it, in turn."""
    for peer in found:
        if job is None:
            if peer.acknowledges:
                yield peer, run_reading(peer, settings.points, settings.others_seconds)
        elif _can_do(peer, job):
            yield peer, run_load(peer, job, settings)


def _can_do(peer: Peer, job: Job) -> bool:
    """Whether a peer does this work. Without replies there are no round trips to measure."""
    if not peer.acknowledges:
        return job.mix == "put" and job.pipeline == BULK_PIPELINE
    return job.clients <= peer.max_clients


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the comparison that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--out", metavar="DIR", help="write the tables and pictures there as well")
    parser.add_argument("--only", metavar="NAME", help="a single kind of puts or gets")
    parser.add_argument("--rounds", type=positive, help="that are run of each (5)")
    options = parser.parse_args()
    if options.only is not None and options.out:
        parser.error("--out: tables are of all the work, so not with --only")
    loads = jobs(options.quick, options.only or "")
    if not loads:
        parser.error("--only: there are " + "; ".join(jobs(quick=False)))
    settings = QUICK if options.quick else FULL
    if options.rounds:
        settings = settings._replace(rounds=options.rounds)
    pin(0, LOAD_CORE)
    try:
        outcome = compare(settings, loads, whole=options.only is None)
    except (LoadError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(cpu_table(outcome) if options.only else tables(outcome))
    for warning in warnings(outcome):
        _say(f"warning: {warning}")
    if options.out:
        write(outcome, Path(options.out))
    _say(NEXT_AFTER_OUT if options.out else NEXT)
    return 0


# The one thing to do next.
NEXT = "next: python3 bench/compare.py --out bench/results (some ten minutes, on a quiet machine)"
NEXT_AFTER_OUT = "next: python3 bench/quote.py (takes the tables of the READMEs from these results)"


def write(outcome: Dict[str, Any], folder: Path) -> None:
    """Write the figures, the tables, and the pictures if there is a library for them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(outcome, indent=1) + "\n", encoding="utf-8")
    (folder / "compare.md").write_text(tables(outcome), encoding="utf-8")
    try:
        from pictures import draw
    except ImportError:
        _say("no pictures: matplotlib is not installed (pip install matplotlib)")
        return
    for path in draw(outcome, folder):
        _say(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
