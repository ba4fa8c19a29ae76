"""Compare metricsd with other servers at the same work, in turn, on this machine.

    python3 bench/compare.py --quick
    python3 bench/compare.py --out bench/results

The figure is the server's own CPU time a request, user and system, as the operating system counts
it: the server has one core, the load the other, so requests/s would often be those of the load.
Every round runs every server once; the figures are medians over the rounds, the ratios too.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import re
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from load import Job, LoadError, cpu_seconds, measure
from memory import measure_memory, memory_table
from servers import LOAD_CORE, Peer, Running, peers, pin, running, skipped
from workload import Workload

Figures = Dict[str, Any]


class Settings(NamedTuple):
    """How thorough a comparison is."""

    rounds: int
    seconds: float  # of each load
    points: int  # stored for get *
    series: int  # whose memory is measured, with so many points each:
    series_points: int
    others_seconds: float  # that others put while one client reads everything


# The server that is slowest to begin its answer to get * has so long.
READ_SECONDS = 30.0

BULK_PIPELINE = 100

# A server that does nothing for so long has done all that it was sent.
SETTLING_SECONDS = 0.3

FULL = Settings(5, 1.0, points=1000000, series=1000, series_points=2000, others_seconds=5.0)
QUICK = Settings(1, 0.4, points=100000, series=50, series_points=1000, others_seconds=1.0)


def jobs(quick: bool) -> Dict[str, Job]:
    """Every kind of load, by the name that it has in the tables."""
    found: Dict[str, Job] = {}
    for mix, what in (("put", "put"), ("get", "get of 10 points")):
        for clients in (1, 50):
            for pipeline in (1, 16, 100):
                name = f"{what}, {_count(clients, 'client')}, pipeline {pipeline}"
                found[name] = Job(mix=mix, clients=clients, pipeline=pipeline, points=10)
    for pipeline in (16, 100):
        found[f"put, 10 clients, pipeline {pipeline}"] = Job(clients=10, pipeline=pipeline)
    found["get of 1,000 points, 10 clients, pipeline 1"] = Job(
        mix="get", clients=10, keys=10, points=1000
    )
    if quick:
        keep = ("put, 50 clients, pipeline 1$", "put, 10 clients", "get of 1,000")
        return {n: j for n, j in found.items() if any(re.match(start, n) for start in keep)}
    return found


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


def run_storage(peer: Peer, settings: Settings) -> Figures:
    """One client reads everything while others put."""
    with running(peer) as server:
        _store(server, settings.points, 10)
        return _read_everything(server, settings)


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


def _read_everything(server: Running, settings: Settings) -> Figures:
    """``get *`` half of the time, while others put 1,000 times a second."""
    server.forget_peak()
    before = server.memory()
    seconds: List[float] = []
    done = threading.Event()
    reader = threading.Thread(target=_read_again, args=(server.port, seconds, done))
    reader.start()
    job = Job(port=server.port, clients=4, rate=1000, seconds=settings.others_seconds)
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
    with socket.create_connection(("127.0.0.1", port), READ_SECONDS) as sock:
        while not done.is_set():
            started = time.perf_counter()
            sock.sendall(b"get *\n")
            end = b""
            while end != b"\n\n":
                data = sock.recv(1 << 20)
                if not data:
                    return
                end = (end + data)[-2:]
            seconds.append(time.perf_counter() - started)
            done.wait(seconds[-1])  # a server that stalls has so long to catch up


def compare(settings: Settings, quick: bool) -> Dict[str, Any]:
    """Run everything; return the figures of each round by job and peer."""
    found = peers()
    for line in filter(None, map(skipped, found)):
        _say(line)
    found = [peer for peer in found if not peer.missing]
    loads = jobs(quick)
    steps = (len(loads) + 1) * settings.rounds + 1
    results: Dict[str, Dict[str, List[Figures]]] = {}
    for round_number in range(settings.rounds):
        for number, (name, job) in enumerate(loads.items()):
            step = round_number * (len(loads) + 1) + number + 1
            _say(f"[{step}/{steps}] round {round_number + 1}: {name}")
            for peer in found:
                if _can_do(peer, job):
                    figures = run_load(peer, job, settings)
                    results.setdefault(name, {}).setdefault(peer.name, []).append(figures)
        _say(f"[{(round_number + 1) * (len(loads) + 1)}/{steps}] round {round_number + 1}: get *")
        for peer in found:
            if peer.protocol == "metricsd" and peer.max_clients > 1:
                figures = run_storage(peer, settings)
                results.setdefault("storage", {}).setdefault(peer.name, []).append(figures)
    _say(f"[{steps}/{steps}] memory a point")
    memory = {
        peer.name: measure_memory(peer, settings.series, settings.series_points)
        for peer in found
        if peer.acknowledges
    }
    names = [peer.name for peer in found]
    return {"about": about(settings), "peers": names, "results": results, "memory": memory}


def _can_do(peer: Peer, job: Job) -> bool:
    """Whether a peer does this work. Without replies there are no round trips to measure."""
    if not peer.acknowledges:
        return job.mix == "put" and job.pipeline == BULK_PIPELINE
    return job.clients <= peer.max_clients


def about(settings: Settings) -> Dict[str, str]:
    """The machine, the Python and the date."""
    processor = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = re.findall(r"model name\s*:\s*(.*)", file.read())
        processor = names[0] if names else processor
    return {
        "machine": f"{processor}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.date.today().isoformat(),
        "rounds": f"{settings.rounds} of {settings.seconds:g} s",
        "stored": f"{settings.series:,} series of {settings.series_points:,} points",
    }


def median(rounds: List[Figures], figure: str) -> Optional[float]:
    """The median of a figure over the rounds; None if it was not measured."""
    values = [figures[figure] for figures in rounds if figure in figures]
    return statistics.median(values) if values else None


def ratio(ours: List[Figures], theirs: List[Figures], figure: str) -> Optional[float]:
    """The median over the rounds of our figure divided by theirs in the same round.

    A round in which theirs is 0 tells nothing: the system counts CPU in ticks of a hundredth of a
    second, and the load was too short for one. None if all were.
    """
    pairs = [(mine[figure], other[figure]) for mine, other in zip(ours, theirs)]
    ratios = [mine / other for mine, other in pairs if other]
    return statistics.median(ratios) if ratios else None


def tables(outcome: Dict[str, Any]) -> str:
    """The Markdown tables."""
    names: List[str] = outcome["peers"]
    results = outcome["results"]
    lines = ["{machine}; Python {python}; {date}; {rounds}".format(**outcome["about"]), ""]
    lines += ["Server CPU a request in microseconds, and in brackets ours divided by theirs:", ""]
    lines += _head("work", names)
    for job, rows in results.items():
        if job != "storage":
            lines.append(_row(job, [_cpu(rows, name) for name in names]))
    lines += ["", "Requests a second, and the p99 latency in milliseconds, in a closed loop:", ""]
    lines += _head("work", names)
    for job, rows in results.items():
        if job != "storage":
            lines.append(_row(job, [_speed(rows.get(name)) for name in names]))
    lines += ["", "One client reads everything while others put:", ""]
    rows = results["storage"]
    lines += _head("figure", list(rows))
    for figure, what in STORAGE_FIGURES.items():
        lines.append(_row(what, [_number(median(rows[name], figure)) for name in rows]))
    lines += ["", "Resident memory a point in bytes, {stored}:".format(**outcome["about"]), ""]
    lines += memory_table(outcome["memory"])
    if "carbon" in names:
        lines += [
            "",
            "carbon never acknowledges a put: its CPU is counted until it has gone quiet.",
        ]
    return "\n".join(lines) + "\n"


NOT_MEASURED = "-"

STORAGE_FIGURES = {
    "get_all_seconds": "`get *`, seconds",
    "others_p99.9_ms": "others' put meanwhile, p99.9, ms",
    "growth_mb": "memory growth meanwhile, MB",
}


def _head(first: str, names: List[str]) -> List[str]:
    return [_row(first, names), "|---|" + "---:|" * len(names)]


def _row(first: str, cells: List[str]) -> str:
    return "| " + " | ".join([first, *cells]) + " |"


def _cpu(rows: Dict[str, List[Figures]], name: str) -> str:
    if name not in rows:
        return NOT_MEASURED
    figure = _number(median(rows[name], "server_cpu_us"))
    if name == "metricsd":
        return f"**{figure}**"
    by_theirs = ratio(rows["metricsd"], rows[name], "server_cpu_us")
    return figure if by_theirs is None else f"{figure} ({by_theirs:.2f})"


def _speed(rounds: Optional[List[Figures]]) -> str:
    if not rounds or "p99_ms" not in rounds[0]:
        return NOT_MEASURED
    return f"{median(rounds, 'requests_per_second'):,.0f}/s {_number(median(rounds, 'p99_ms'))} ms"


def _number(value: Optional[float]) -> str:
    """Three significant digits."""
    if value is None:
        return NOT_MEASURED
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run the comparison that the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--out", metavar="DIR", help="write the tables and pictures there as well")
    options = parser.parse_args()
    pin(0, LOAD_CORE)
    try:
        outcome = compare(QUICK if options.quick else FULL, options.quick)
    except (LoadError, OSError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(tables(outcome))
    if options.out:
        write(outcome, Path(options.out))
    return 0


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
