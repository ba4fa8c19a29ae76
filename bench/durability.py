"""What it costs that an acknowledged put survives: metricsd's file beside Redis's.

    python3 bench/durability.py --quick
    python3 bench/durability.py --out bench/results

Every round runs every server once, in turn; the figures are medians over the rounds, the ratios
too, and with them stand the smallest and the largest. The file is written where temporary files are
(TMPDIR says where). In all it takes some seven minutes.
"""

import argparse
import contextlib
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from load import Job, LoadError, measure
from machine import about, look_around
from servers import LOAD_CORE, SERVER_CORE, Peer, Running, pin, running, skipped
from workload import FIRST_TIMESTAMP

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from metricsd import Server

Figures = Dict[str, Any]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120.0
WITHOUT = "metricsd, none"
STORE = "sqlite:FOLDER/points.db"


class Settings(NamedTuple):
    """How thorough it is."""

    rounds: int
    seconds: float  # of each load
    loaded: Tuple[int, ...]  # points that a start loads
    rewritten: int  # puts onto SERIES series of one point each
    new_points: int  # that a checkpoint saves


FULL = Settings(5, 2.0, (1000000, 20000000), 1500000, 1000000)
QUICK = Settings(1, 0.5, (100000,), 300000, 200000)

SERIES = 1000

# Seconds after the last put until the size of the files is looked at.
SETTLING_SECONDS = 4.0

# Seconds for which others get while syncs are slow.
OTHERS_SECONDS = 2.0

# Puts a second of the new points that a checkpoint saves while others get: at most half of what the
# store takes, or it is the putting that they wait for, also in memory. All of them fill the log
# several times over, so checkpoints are under way for most of that time.
NEW_POINTS_RATE = 200000
CHECKPOINT_ROUNDS = 3

SLOW_SYNC = ROOT / "tests" / "sync_faults.c"  # a library that makes each sync take 50 ms

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
    file = ["--store", STORE, "--fsync"]
    found = [metricsd("none")]
    found += [metricsd(policy, *file, policy) for policy in ("never", "everysec", "always")]
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
    """Puts a second and CPU a put of each, and both divided by those without a file."""
    lines = [
        "| puts | server | puts/s | from - to | by that of none | by that of Redis, always "
        "| CPU a put, us | by that of none | by that of Redis, always |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for job, rows in results.items():
        for name, rounds in rows.items():
            rates = [figures["requests_per_second"] for figures in rounds]
            cells = [f"{statistics.median(rates):,.0f}", f"{min(rates):,.0f} - {max(rates):,.0f}"]
            others = [rows.get(other) for other in (WITHOUT, "Redis, always")]
            cells += [_ratio(rounds, other, "requests_per_second") for other in others]
            cells.append(f"{statistics.median(one['server_cpu_us'] for one in rounds):.3g}")
            cells += [_ratio(rounds, other, "server_cpu_us") for other in others]
            lines.append(f"| {job} | {name} | {' | '.join(cells)} |")
    return lines


def _ratio(rounds: List[Figures], others: Optional[List[Figures]], figure: str) -> str:
    pairs = [(mine[figure], other[figure]) for mine, other in zip(rounds, others or [])]
    ratios = [mine / other for mine, other in pairs if other]
    return f"{statistics.median(ratios):.2f}" if ratios else "-"


def starts(points: int) -> Iterator[Tuple[str, float]]:
    """How many seconds a start takes, from the command to the first reply, and what it loads."""
    with running(metricsd("", "--store", STORE, "--fsync", "never")) as server:
        killed = Path(server.folder, "killed")
        _fill(server, points)
        killed.mkdir()
        for path in Path(server.folder).glob("points.db*"):
            shutil.copy(str(path), str(killed))
        yield f"{points:,} points, killed", _time_to_listen(killed / "points.db", points)
        # The one that was killed has ended in good order since.
        yield f"{points:,} points, closed", _time_to_listen(killed / "points.db", points)
        yield "no points", _time_to_listen(killed / "none.db", 0)


def _fill(server: Running, points: int) -> None:
    job = Job(port=server.port, clients=10, pipeline=100, requests=points, keys=SERIES)
    measure(job, 1, None, show=False)


def _time_to_listen(path: Path, points: int) -> float:
    command = [sys.executable, "-m", "metricsd", "--port", "0", "--store", f"sqlite:{path}"]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=str(ROOT), stderr=subprocess.PIPE) as process:
        pin(process.pid, SERVER_CORE)
        try:
            assert process.stderr is not None
            log = ""
            while "listening on" not in log:
                line = process.stderr.readline().decode()
                if not line:
                    raise LoadError(f"the server does not start: {log}")
                log += line
            seconds = time.perf_counter() - started
            if _count_rows(int(log.rsplit(":", 1)[1])) < points:
                raise LoadError(f"not all points were loaded: {log}")
            process.terminate()
            process.wait()
            return seconds
        finally:
            process.kill()


def _count_rows(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"get *\n")
        client.shutdown(socket.SHUT_WR)
        rows = 0
        data = client.recv(1 << 20)
        while data:
            rows += data.count(b"\n")
            data = client.recv(1 << 20)
        return rows - len(["ok", ""])


def size_of_gauges(points: int) -> float:
    """Bytes a point of the files, closed in good order, of gauges with two decimals."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "points.db")
        with Server("127.0.0.1", 0, store=f"sqlite:{path}", fsync="never") as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            dice = random.Random(1)
            for step in range(points // SERIES):
                values = [f"{dice.gauss(50, 5):.2f}" for _ in range(SERIES)]
                _put_into_every_series(server.address[1], step, values)
            server.stop()
            thread.join()
        return sum(path.stat().st_size for path in Path(folder).iterdir()) / points


def rewritten_bytes(puts: int) -> int:
    """What is on the disk after so many puts onto SERIES points, a few seconds later."""
    with running(metricsd("", "--store", STORE, "--fsync", "everysec")) as server:
        for number in range(puts // SERIES):
            _put_into_every_series(server.port, 0, [str(number)] * SERIES)
        time.sleep(SETTLING_SECONDS)
        return sum(path.stat().st_size for path in Path(server.folder).glob("points.db*"))


def beside_checkpoints(points: int) -> Iterator[Tuple[str, List[float]]]:
    """The p99.9 in ms of others' gets, in each round, while so many new points are put and saved.

    The same puts into memory alone tell which part of it is that of the checkpoints.
    """
    stores = {"and saved": ("--store", STORE), "in memory": ()}
    found: Dict[str, List[float]] = {where: [] for where in stores}
    for _ in range(CHECKPOINT_ROUNDS):
        for where, store in stores.items():
            found[where].append(_beside_new_points(points, *store))
    yield from found.items()


def _beside_new_points(points: int, *store: str) -> float:
    puts = ["--clients", "10", "--pipeline", "100", "--requests", str(points)]
    puts += ["--keys", str(SERIES), "--rate", str(NEW_POINTS_RATE)]
    with running(metricsd("", *store)) as server, _aside(server.port, *puts):
        job = Job(port=server.port, clients=4, rate=1000, mix="get", points=10, keys=4)
        seconds = max(points / NEW_POINTS_RATE, OTHERS_SECONDS)
        figures = measure(job._replace(seconds=seconds), 1, None, show=False)
    return float(figures["p99.9_ms"])


@contextlib.contextmanager
def _aside(port: int, *options: str) -> Iterator[None]:
    """A load in a process of its own, which leaves the core to the one that is measured."""
    load = str(Path(__file__).with_name("load.py"))
    command = ["nice", "-n", "19", sys.executable, load, "--port", str(port), *options]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        try:
            yield
            process.wait(START_SECONDS)
        finally:
            process.kill()


def beside_slow_syncs() -> Optional[float]:
    """The p99 in ms of others' gets while each sync takes 50 ms; None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder, "slow.so")
        control = Path(folder, "control")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SLOW_SYNC), "-ldl"]
        subprocess.check_call(command)
        control.write_text("slow")
        slow = metricsd("", "--store", STORE)
        preload = ["env", f"LD_PRELOAD={library}", f"SYNC_CONTROL={control}"]
        with running(slow._replace(command=[*preload, *slow.command])) as server:
            puts = ("--clients", "4", "--rate", "50", "--seconds", str(2 * OTHERS_SECONDS))
            with _aside(server.port, *puts):
                job = Job(port=server.port, clients=4, rate=500, mix="get", points=10, keys=4)
                figures = measure(job._replace(seconds=OTHERS_SECONDS), 1, None, show=False)
    return float(figures["p99_ms"])


def _put_into_every_series(port: int, step: int, values: List[str]) -> None:
    timestamp = FIRST_TIMESTAMP + 15 * step
    puts = (f"put host{number} {value} {timestamp}\n" for number, value in enumerate(values))
    lines = "".join(puts)
    with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as said:
        sock.sendall(lines.encode())
        if said.read(4 * SERIES) != b"ok\n\n" * SERIES:
            raise LoadError("wrong replies")


def report(settings: Settings) -> str:
    """Measure everything; return the Markdown."""
    found = servers()
    for line in filter(None, map(skipped, found)):
        _say(line)
    busy = look_around(_say)
    here = about(settings.rounds, settings.seconds)
    lines = ["{machine}; Python {python}; {date}; {rounds}".format(**here)]
    lines += [f"\n**{warning}**" for warning in busy]
    rounds = run_rounds([peer for peer in found if not peer.missing], settings)
    lines += ["", "## Puts", "", *rate_table(rounds)]
    lines += ["", "## Starts, sizes and waits", "", "| what | measured |", "|---|---:|"]
    for points in settings.loaded:
        _say(f"starts with {points:,} points")
        for what, seconds in starts(points):
            lines.append(f"| start with {what} | {seconds:.2f} s |")
    _say(f"{settings.new_points:,} gauges")
    bytes_a_point = size_of_gauges(settings.new_points)
    lines.append(
        f"| on the disk a point, {settings.new_points:,} gauges | {bytes_a_point:.1f} bytes |"
    )
    _say(f"{settings.rewritten:,} puts onto {SERIES:,} points")
    megabytes = rewritten_bytes(settings.rewritten) / 1e6
    what = f"on the disk {SETTLING_SECONDS:g} s after {settings.rewritten:,} puts onto "
    what += f"{SERIES:,} points"
    lines.append(f"| {what} | {megabytes:.1f} MB |")
    _say(f"gets while {settings.new_points:,} points are put and saved")
    for where, waits in beside_checkpoints(settings.new_points):
        what = f"others' gets' p99.9 while {settings.new_points:,} points are put {where}"
        middle = f"{statistics.median(waits):.2f} ms ({min(waits):.2f} - {max(waits):.2f})"
        lines.append(f"| {what}, {NEW_POINTS_RATE:,} a second | {middle} |")
    _say("gets while syncs are slow")
    slow = beside_slow_syncs()
    if slow is not None:
        lines.append(f"| others' gets' p99 while each sync takes 50 ms | {slow:.2f} ms |")
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
        _say("next: python3 bench/quote.py takes the tables into bench/README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
