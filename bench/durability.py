"""What it costs that an acknowledged put survives: metricsd's journal beside Redis's.

    python3 bench/durability.py --quick
    python3 bench/durability.py --out bench/results

Every round runs every server once, in turn; the figures are medians over the rounds, the ratios
too. The journal is written where temporary files are (TMPDIR says where).
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import compare
from compare import about
from load import Job, LoadError, cpu_seconds, measure
from servers import LOAD_CORE, SERVER_CORE, Peer, Running, pin, running, skipped
from workload import FIRST_TIMESTAMP

Figures = Dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0
WITHOUT = "metricsd, none"


class Settings(NamedTuple):
    """How thorough it is."""

    rounds: int
    seconds: float  # of each load
    million: int  # points that are loaded at the start
    rewritten: int  # puts onto SERIES series of one point each
    snapshot_points: int


FULL = Settings(5, 2.0, 1000000, 1500000, 1000000)
QUICK = Settings(1, 0.5, 100000, 300000, 200000)

SERIES = 1000

# A server that does nothing for so long has done all that is due; everysec looks once a second.
SETTLING_SECONDS = 1.5

# Others put for so long beside a snapshot, less than it takes.
OTHERS_SECONDS = 1.0

JOBS = {
    "50 clients, pipeline 1": Job(clients=50),
    "10 clients, pipeline 100": Job(clients=10, pipeline=100),
}


def metricsd(name: str, *options: str) -> Peer:
    """Our server with options."""
    command = [sys.executable, "-m", "metricsd", "--port", "PORT", "--log-level", "error"]
    return Peer(f"metricsd, {name}", [*command, *options])


def servers() -> List[Peer]:
    """All that are compared."""
    journal = ["--journal", "FOLDER/journal", "--fsync"]
    found = [metricsd("none")]
    found += [metricsd(policy, *journal, policy) for policy in ("never", "everysec", "always")]
    redis = shutil.which("redis-server") or ""
    missing = "" if redis else "install redis-server (Debian: apt-get install redis-server)"
    for policy in ("everysec", "always"):
        command = [
            redis,
            "--port",
            "PORT",
            "--save",
            "",
            "--logfile",
            os.devnull,
            "--dir",
            "FOLDER",
        ]
        command += ["--logfile", os.devnull, "--appendonly", "yes", "--appendfsync", policy]
        found.append(Peer(f"Redis, {policy}", command, protocol="redis", missing=missing))
    return found


def run_rounds(found: List[Peer], settings: Settings) -> Dict[str, Dict[str, List[Figures]]]:
    """The figures of each round, by job and server."""
    results: Dict[str, Dict[str, List[Figures]]] = {}
    for number in range(settings.rounds):
        for name, job in JOBS.items():
            _say(f"round {number + 1} of {settings.rounds}: {name}")
            for peer in found:
                with running(peer) as server:
                    load = job._replace(
                        port=server.port, protocol=peer.protocol, seconds=settings.seconds
                    )
                    figures = measure(load, 1, server.pid, show=False)
                if figures["wrong"]:
                    raise LoadError(f"{peer.name} gave wrong replies")
                results.setdefault(name, {}).setdefault(peer.name, []).append(figures)
    return results


def rate_table(results: Dict[str, Dict[str, List[Figures]]]) -> List[str]:
    """Puts a second and CPU a put of each, and both divided by those without a journal."""
    lines = [
        "| puts | server | puts/s | by that of none | CPU a put, us | by that of Redis, always |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for job, rows in results.items():
        for name, rounds in rows.items():
            rate = statistics.median(figures["requests_per_second"] for figures in rounds)
            cpu = statistics.median(figures["server_cpu_us"] for figures in rounds)
            by_none = _ratio(rounds, rows.get(WITHOUT), "requests_per_second")
            by_redis = _ratio(rounds, rows.get("Redis, always"), "server_cpu_us")
            lines.append(f"| {job} | {name} | {rate:,.0f} | {by_none} | {cpu:.3g} | {by_redis} |")
    return lines


def _ratio(rounds: List[Figures], others: Optional[List[Figures]], figure: str) -> str:
    pairs = [(mine[figure], other[figure]) for mine, other in zip(rounds, others or [])]
    ratios = [mine / other for mine, other in pairs if other]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def start_seconds(points: int, pipeline: int) -> float:
    """How long a start takes that loads so many points, from the command to the first reply."""
    peer = metricsd("", "--journal", "FOLDER/journal", "--fsync", "never")
    with running(peer) as server:
        job = Job(port=server.port, clients=1, pipeline=pipeline, requests=points, keys=SERIES)
        measure(job, 1, None, show=False)
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(server.folder + "/journal", copy + "/journal")
            return _time_to_listen(copy + "/journal", points)


def _time_to_listen(journal: str, points: int) -> float:
    command = [sys.executable, "-m", "metricsd", "--port", "0", "--journal", journal]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=str(ROOT), stderr=subprocess.PIPE) as process:
        pin(process.pid, SERVER_CORE)
        try:
            assert process.stderr is not None
            log = ""
            while "listening" not in log:
                line = process.stderr.readline().decode()
                if not line:
                    raise LoadError(f"the server does not start: {log}")
                log += line
            if f"{points} puts read" not in log:
                raise LoadError(f"not all points were loaded: {log}")
            return time.perf_counter() - started
        finally:
            process.kill()


def rewritten_bytes(puts: int) -> int:
    """What is left on the disk of so many puts onto SERIES points, when it has become quiet."""
    with running(metricsd("", "--journal", "FOLDER/journal", "--fsync", "everysec")) as server:
        for number in range(puts // SERIES):
            _put_into_every_series(server, 0, number)
        used = -1.0
        while used != sum(cpu_seconds(server.pid) or ()):
            used = sum(cpu_seconds(server.pid) or ())
            time.sleep(SETTLING_SECONDS)
        return sum(path.stat().st_size for path in Path(server.folder, "journal").iterdir())


def beside_a_snapshot(points: int) -> Tuple[float, float]:
    """The p99.9 in ms of others' puts while a snapshot is written, and how many seconds it took.

    The last put of those that store every point twice makes it due.
    """
    journal = ("--journal", "FOLDER/journal", "--fsync", "always")
    with running(metricsd("", *journal)) as server:
        steps = [*range(points // SERIES)] * 2
        for number in steps[:-1]:
            _put_into_every_series(server, number, number)
        outcome: List[Figures] = []
        job = Job(port=server.port, clients=4, rate=1000, seconds=OTHERS_SECONDS)
        others = threading.Thread(
            target=lambda: outcome.append(measure(job, 1, None, show=False)), daemon=True
        )
        started = time.perf_counter()
        _put_into_every_series(server, steps[-1], 0)
        others.start()
        folder = Path(server.folder, "journal")
        while not any(path.suffix == ".snapshot" for path in folder.iterdir()):
            if time.perf_counter() > started + START_SECONDS:
                raise LoadError("there is no snapshot")
            time.sleep(0.01)
        seconds = time.perf_counter() - started
        others.join()
    if not outcome:
        raise LoadError("the others were not answered")
    return outcome[0]["p99.9_ms"], seconds


def _put_into_every_series(server: Running, step: int, value: int) -> None:
    timestamp = FIRST_TIMESTAMP + 15 * step
    lines = "".join(f"put host{number} {value} {timestamp}\n" for number in range(SERIES))
    with socket.create_connection(("127.0.0.1", server.port)) as sock, sock.makefile("rb") as said:
        sock.sendall(lines.encode())
        if said.read(4 * SERIES) != b"ok\n\n" * SERIES:
            raise LoadError("wrong replies")


def report(settings: Settings) -> str:
    """Measure everything; return the Markdown."""
    found = servers()
    for line in filter(None, map(skipped, found)):
        _say(line)
    here = about(compare.QUICK)
    lines = ["{machine}; Python {python}; {date}".format(**here)]
    lines[0] += f"; {settings.rounds} rounds of {settings.seconds:g} s"
    rounds = run_rounds([peer for peer in found if not peer.missing], settings)
    lines += ["", *rate_table(rounds), "", "| what | measured |", "|---|---:|"]
    for pipeline, how in ((100, "put 100 at a time"), (1, "put one at a time")):
        _say(f"start-up with {settings.million:,} points, {how}")
        seconds = start_seconds(settings.million, pipeline)
        lines.append(f"| start-up with {settings.million:,} points, {how} | {seconds:.2f} s |")
    _say(f"{settings.rewritten:,} puts onto {SERIES:,} points")
    megabytes = rewritten_bytes(settings.rewritten) / 1e6
    what = f"on the disk after {settings.rewritten:,} puts onto {SERIES:,} points"
    lines.append(f"| {what} | {megabytes:.1f} MB |")
    _say(f"a snapshot of {settings.snapshot_points:,} points")
    worst, seconds = beside_a_snapshot(settings.snapshot_points)
    what = f"others' p99.9 while a snapshot of {settings.snapshot_points:,} points is written"
    lines += [f"| {what} | {worst:.2f} ms |", f"| that snapshot | {seconds:.1f} s |"]
    return "\n".join(lines) + "\n"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Run what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--out", metavar="DIR", help="write the tables there as well")
    options = parser.parse_args()
    pin(0, LOAD_CORE)
    try:
        text = report(QUICK if options.quick else FULL)
    except (LoadError, OSError) as error:
        print(f"durability: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(text)
    if options.out:
        Path(options.out).mkdir(parents=True, exist_ok=True)
        Path(options.out, "durability.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
