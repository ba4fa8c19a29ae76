"""Two panels: CPU beside VictoriaMetrics' query_range on the same points, and others' latency.

    python3 bench/render.py

One series of 1,000,000 points, and 100 of 10,000, at 1,000 data points each. Ours is the work of
one render and of its JSON, in this process; theirs is that of the server for a query over HTTP,
without its cache. The first render, which opens every block, is told apart from the later ones.
Then each is rendered again and again over HTTP, while others put at fixed times (an open loop).
"""

import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Dict, List, Tuple

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))

from load import Job, cpu_seconds, measure
from servers import free_port
from subject import Subject

ROUNDS = 25
START = 1_700_000_000
STEP = 10  # seconds between points
PANELS: Tuple[Tuple[str, int, int], ...] = (("one", 1, 1_000_000), ("many", 100, 10_000))
DATA_POINTS = 1_000
PUTS = 1_000  # a second, of others
CLIENTS = 10  # that put
PUT_SECONDS = 10.0
PUTS_AT_ONCE = 500  # while a server is filled


def points(name: str, series: int, count: int) -> Dict[str, List[float]]:
    """Gauges of two decimals, by key."""
    chance = random.Random(name)
    columns = {}
    for number in range(series):
        value = 50.0
        column = []
        for _ in range(count):
            value = max(value + chance.uniform(-1, 1), 0.0)
            column.append(round(value, 2))
        columns[f"{name}_{number}"] = column
    return columns


def ours(columns: Dict[str, List[float]], name: str, count: int) -> List[float]:
    """CPU seconds of each render."""
    from metricsd.graphite import render
    from metricsd.store import Memory, put_all

    store = Memory()
    for key, column in columns.items():
        timestamps = range(START, START + STEP * count, STEP)
        put_all(store, [key] * count, column, list(timestamps))
    seconds = []
    for _ in range(ROUNDS):
        before = time.process_time()
        work = render(store, [f"{name}_*"], START, START + STEP * count - 1, DATA_POINTS, 0.0)
        while True:
            try:
                next(work)
            except StopIteration as end:
                json.dumps([one.values for one in end.value])
                break
        seconds.append(time.process_time() - before)
    return seconds


def theirs(columns: Dict[str, List[float]], name: str, count: int) -> float:
    """CPU seconds of a query, on the average."""
    program: Any = shutil.which("victoria-metrics")
    if program is None:
        sys.exit("install VictoriaMetrics (Debian: apt-get install victoria-metrics)")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, f"-storageDataPath={folder}", f"-httpListenAddr=127.0.0.1:{port}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        server = subprocess.Popen([*command, "-retentionPeriod=100y"], **quiet)  # type: ignore[call-overload]
        try:
            base = f"http://127.0.0.1:{port}"
            wait_for(base)
            for key, column in columns.items():
                send(base, key, column)
            urllib.request.urlopen(f"{base}/internal/force_flush").read()
            asked = urllib.parse.urlencode({
                "query": f'{{__name__=~"{name}_.*"}}', "start": START, "nocache": 1,
                "end": START + STEP * count - 1, "step": STEP * count // DATA_POINTS,
            })  # fmt: skip
            urllib.request.urlopen(f"{base}/api/v1/query_range?{asked}").read()
            before = spent_by(server.pid)
            for _ in range(ROUNDS):
                answer = urllib.request.urlopen(f"{base}/api/v1/query_range?{asked}").read()
            spent = (spent_by(server.pid) - before) / ROUNDS
            assert len(json.loads(answer)["data"]["result"]) == len(columns)
            return float(spent)
        finally:
            server.terminate()
            server.wait()


def spent_by(pid: int) -> float:
    """CPU seconds of a process so far."""
    seconds = cpu_seconds(pid)
    assert seconds is not None, "there is no /proc here"
    return sum(seconds)


def wait_for(base: str) -> None:
    """Wait until the server answers."""
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{base}/health").read()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("VictoriaMetrics does not start")


def send(base: str, key: str, column: List[float]) -> None:
    """Put points into VictoriaMetrics."""
    for first in range(0, len(column), 10_000):
        some = column[first : first + 10_000]
        times = [(START + STEP * (first + place)) * 1000 for place in range(len(some))]
        line = {"metric": {"__name__": key}, "values": some, "timestamps": times}
        urllib.request.urlopen(f"{base}/api/v1/import", json.dumps(line).encode()).read()


class Viewer(threading.Thread):
    """Somebody who renders a panel again and again over HTTP, until ``stop`` is called."""

    def __init__(self, port: int, name: str, count: int) -> None:
        super().__init__(daemon=True)
        asked = {
            "target": f"{name}_*", "from": START, "until": START + STEP * count - 1,
            "maxDataPoints": DATA_POINTS, "format": "json",
        }  # fmt: skip
        self._url = f"http://127.0.0.1:{port}/render?{urllib.parse.urlencode(asked)}"
        self._stopped = threading.Event()
        self.renders = 0

    def render(self) -> bytes:
        """One reply. Raises OSError."""
        return bytes(urllib.request.urlopen(self._url).read())

    def run(self) -> None:
        """Raises OSError, which ends it: the renders tell."""
        while not self._stopped.is_set():
            self.render()
            self.renders += 1

    def stop(self) -> None:
        """End after the render under way."""
        self._stopped.set()
        self.join()


def beside(columns: Dict[str, List[float]], name: str, count: int) -> Tuple[int, Dict[str, Any]]:
    """How many renders there were, and the figures of others' puts meanwhile."""
    port = free_port()
    with Subject("--http", str(port), "--log-level", "info") as server:
        with server.client() as client:
            for key, column in columns.items():
                for first in range(0, count, PUTS_AT_ONCE):
                    some = enumerate(column[first : first + PUTS_AT_ONCE], first)
                    puts = [f"put {key} {value} {START + STEP * at}\n" for at, value in some]
                    client.ask("".join(puts).encode(), len(puts))
        viewer = Viewer(port, name, count)
        rows = json.loads(viewer.render())
        assert len(rows) == len(columns)
        assert len(rows[0]["datapoints"]) >= DATA_POINTS
        viewer.start()
        job = Job(port=server.port, clients=CLIENTS, seconds=PUT_SECONDS, rate=PUTS)
        figures = measure(job, 1, server.pid, show=True)
        assert viewer.is_alive(), "a render failed"
        viewer.stop()
    return viewer.renders, figures


def main() -> None:
    """Print a row for each panel."""
    print("| panel | ours first, ms | ours, ms | VictoriaMetrics, ms | ratio |")
    print("|---|---:|---:|---:|---:|")
    later_rows = []
    for name, series, count in PANELS:
        columns = points(name, series, count)
        first, *later = ours(columns, name, count)
        mine = sorted(later)[len(later) // 2]
        other = theirs(columns, name, count)
        figures = f"{first * 1e3:.3g} | {mine * 1e3:.3g} | {other * 1e3:.3g} | {mine / other:.3g}"
        print(f"| {series:,} x {count:,} points | {figures} |", flush=True)
        renders, puts = beside(columns, name, count)
        latencies = " | ".join(f"{puts[which]:.3g}" for which in ("p50_ms", "p99_ms", "p99.9_ms"))
        later_rows.append(
            f"| {series:,} x {count:,} points | {renders} | {puts['requests']:,} | {latencies} |"
        )
    print("\n| panel over HTTP | renders | others' puts | p50, ms | p99, ms | p99.9, ms |")
    print("|---|---:|---:|---:|---:|---:|", *later_rows, sep="\n")


if __name__ == "__main__":
    main()
