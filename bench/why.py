"""Why an event loop: the same demonstrations with each way to serve many clients.

    python3 bench/why.py
    python3 bench/why.py --only threads

Every server is started anew for every demonstration, and each shows what one of them is bad at: all
of it in less than a minute. A figure in bold is a failure. The servers are those of bench/peers/,
in the order in which one leads to the next, and metricsd.
"""

import argparse
import contextlib
import math
import os
import platform
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple

from load import cpu_seconds
from servers import BENCH, LOAD_CORE, Peer, Running, pin, running
from subject import Client

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

# Who is not answered for so long, in seconds, never is.
PATIENCE = 0.5

IDLE_CLIENTS = 100
IDLE_SECONDS = 1.0
MEMORY_CLIENTS = 100  # fewer than any server here lets wait for accept
BURST_CLIENTS = 50
BURSTS = 20
MANY_CLIENTS = 1100  # select() ends at 1,024 descriptors
POINTS = 100000
LARGE_GETS = 3
UNREAD_REPLIES = 5
QUIET_SECONDS = 0.2
BUSY_SECONDS = 2.0

PUT = b"put k 1 1\n"
NEVER = math.inf
IMPOSSIBLE = math.nan  # it does not serve so many at a time
IMPOSSIBLE_TEXT = "-"
NOTE = IMPOSSIBLE_TEXT + ": can't be measured, as it serves one client at a time"

Figures = Dict[str, Dict[str, float]]  # by demonstration, then by server


class Demonstration(NamedTuple):
    """What is done to a server, and which figure is a failure."""

    what: str
    measure: Callable[[Running], float]
    fails: Callable[[float], bool]


def stages() -> List[Peer]:
    """The servers, in the order in which one leads to the next."""
    scripts = {
        "blocking": "blocking",
        "threads": "threads",
        "busy": "busy_loop",
        "select": "select_loop",
        "asyncio": "asyncio_protocol",
    }
    python = sys.executable
    return [
        Peer(name, [python, str(BENCH / "peers" / (script + ".py")), "PORT"])
        for name, script in scripts.items()
    ] + [Peer("metricsd", [python, "-m", "metricsd", "--port", "PORT", "--log-level", "error"])]


def beside_a_silent_client(server: Running) -> float:
    """Milliseconds that a put takes while another client is connected and says nothing."""
    with Client(server.port):
        return _put_milliseconds(server)


def idle(server: Running) -> float:
    """Percent of a core that it takes to serve clients that say nothing."""
    with _clients(server, IDLE_CLIENTS):
        before = _cpu(server)
        time.sleep(IDLE_SECONDS)
        return 100 * (_cpu(server) - before) / IDLE_SECONDS


def memory_a_client(server: Running) -> float:
    """KiB of resident memory for each client that has put once and stays."""
    before = server.memory()
    with _clients(server, MEMORY_CLIENTS) as clients:
        if not all(_answered(client) for client in clients):
            return IMPOSSIBLE
        return (server.memory() - before) / 1024 / MEMORY_CLIENTS


def switches(server: Running) -> float:
    """How often the kernel puts another thread on the processor, for each request of a burst."""
    with _clients(server, BURST_CLIENTS) as clients:
        if not all(_answered(client) for client in clients):
            return IMPOSSIBLE
        before = _switches(server)
        for _ in range(BURSTS):
            os.kill(server.pid, signal.SIGSTOP)  # so that they all wait when it looks
            for client in clients:
                client.socket.sendall(PUT)
            os.kill(server.pid, signal.SIGCONT)
            for client in clients:
                client.read()
        return (_switches(server) - before) / BURSTS / BURST_CLIENTS


def many_clients(server: Running) -> float:
    """How many clients, one after the other, are answered and stay."""
    with contextlib.ExitStack() as stack:
        for number in range(MANY_CLIENTS):
            try:
                client = stack.enter_context(Client(server.port))
            except OSError:
                return number
            if not _answered(client):
                return number
    return MANY_CLIENTS


def beside_a_large_get(server: Running) -> float:
    """Milliseconds that the slowest put takes while another client reads everything.

    The best of several times: the machine's stalls come and go, the server's is always there.
    """
    _fill(server)
    return min(_slowest_put_meanwhile(server) for _ in range(LARGE_GETS))


def unread_replies(server: Running) -> float:
    """MiB for the replies to a client that asks for everything and does not read."""
    _fill(server)
    before = server.memory()
    with Client(server.port, small_buffers=True) as client:
        client.socket.sendall(b"get *\n" * UNREAD_REPLIES)
        _wait_until_quiet(server)
        return (server.memory() - before) / 1024**2


DEMONSTRATIONS = [
    Demonstration(
        "a put beside a silent client, ms", beside_a_silent_client, lambda figure: figure > 100
    ),
    Demonstration("memory a client, KiB", memory_a_client, lambda figure: figure > 10),
    Demonstration("thread switches a request, in a burst of 50", switches, lambda f: f > 0.5),
    Demonstration(
        f"CPU while {IDLE_CLIENTS} clients are silent, %", idle, lambda figure: figure > 10
    ),
    Demonstration(
        f"of {MANY_CLIENTS:,} clients, answered", many_clients, lambda f: f < MANY_CLIENTS
    ),
    Demonstration(
        f"a put beside a get of {POINTS:,} points, ms", beside_a_large_get, lambda f: f > 10
    ),
    Demonstration(
        f"memory for {UNREAD_REPLIES} such replies that nobody reads, MiB",
        unread_replies,
        lambda figure: figure > 2,
    ),
]


@contextlib.contextmanager
def _clients(server: Running, count: int) -> Iterator[List[Client]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Client(server.port)) for _ in range(count)]


def _answered(client: Client) -> bool:
    return _milliseconds(client) != NEVER


def _milliseconds(client: Client) -> float:
    """How long a put takes."""
    client.socket.settimeout(PATIENCE)
    started = time.perf_counter()
    try:
        client.ask(PUT)
    except OSError:
        return NEVER
    return 1000 * (time.perf_counter() - started)


def _put_milliseconds(server: Running) -> float:
    with Client(server.port) as client:
        return _milliseconds(client)


def _slowest_put_meanwhile(server: Running) -> float:
    with Client(server.port) as reader, Client(server.port) as client:
        reading = threading.Thread(target=_read_everything, args=(reader.socket,))
        reading.start()
        slowest = 0.0
        while reading.is_alive() and slowest != NEVER:
            slowest = max(slowest, _milliseconds(client))
        reading.join()
    return slowest


def _read_everything(sock: socket.socket) -> None:
    """Keep nothing of it: that would hold up the puts that this process sends meanwhile."""
    sock.sendall(b"get *\n")
    end = b""
    while end != b"\n\n":
        end = (end + sock.recv(1 << 16))[-2:]


def _fill(server: Running) -> None:
    """Store points, under 100 keys, and leave."""
    lines = [b"put key.%d 0.25 %d\n" % (number % 100, number // 100) for number in range(POINTS)]
    with Client(server.port) as client:
        for start in range(0, POINTS, 1000):
            client.ask(b"".join(lines[start : start + 1000]), 1000)


def _cpu(server: Running) -> float:
    used = cpu_seconds(server.pid)
    if used is None:
        raise OSError(f"{server.peer.name} has ended")
    return sum(used)


def _wait_until_quiet(server: Running) -> None:
    """Until it has used no processor for a moment. One of them always does: not for ever."""
    now, before = _cpu(server), -1.0
    deadline = time.monotonic() + BUSY_SECONDS
    while now != before and time.monotonic() < deadline:
        time.sleep(QUIET_SECONDS)
        now, before = _cpu(server), now


def _switches(server: Running) -> int:
    """Context switches so far, of all its threads."""
    total = 0
    for thread in Path(f"/proc/{server.pid}/task").iterdir():
        for line in (thread / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def table(figures: Figures) -> List[str]:
    """The lines of a Markdown table, and of what explains it."""
    names = list(next(iter(figures.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
    for demonstration in DEMONSTRATIONS:
        cells = [cell(demonstration, figures[demonstration.what][name]) for name in names]
        lines.append(f"| {demonstration.what} | " + " | ".join(cells) + " |")
    if any(math.isnan(figure) for of_each in figures.values() for figure in of_each.values()):
        lines += ["", NOTE]
    return lines


def cell(demonstration: Demonstration, figure: float) -> str:
    """A figure as it stands in the table: a failure in bold."""
    return f"**{words(figure)}**" if demonstration.fails(figure) else words(figure)


def words(figure: float) -> str:
    """A figure for people."""
    if figure == NEVER:
        return "never"
    if math.isnan(figure):
        return IMPOSSIBLE_TEXT
    return f"{figure:,.0f}" if figure >= 100 else f"{round(figure, 2):.2g}"


def measure(peers: List[Peer]) -> Figures:
    """Every demonstration with every server."""
    figures: Figures = {}
    steps = len(DEMONSTRATIONS) * len(peers)
    for demonstration in DEMONSTRATIONS:
        of_each = figures[demonstration.what] = {}
        for peer in peers:
            step = sum(map(len, figures.values())) + 1
            _say(f"[{step}/{steps}] {peer.name}: {demonstration.what.rpartition(',')[0]}")
            with running(peer) as server:
                of_each[peer.name] = demonstration.measure(server)
    return figures


def write(figures: Figures, folder: Path) -> None:
    """Write the table, and the picture if there is a library for it."""
    folder.mkdir(parents=True, exist_ok=True)
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    text = [f"# Why an event loop\n\n`python3 bench/why.py`, {where}.\n", *table(figures)]
    (folder / "why.md").write_text("\n".join(text) + "\n", encoding="utf-8")
    try:
        from pictures import Bar, draw_why
    except ImportError:
        _say("no picture: matplotlib is not installed (pip install matplotlib)")
        return
    bars = {
        one.what: [
            Bar(name, figure, words(figure), one.fails(figure))
            for name, figure in figures[one.what].items()
        ]
        for one in DEMONSTRATIONS
    }
    draw_why(bars, folder)


def main() -> int:
    """Run the demonstrations and print the table."""
    names = [peer.name for peer in stages()]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAME", help="one of: " + ", ".join(names))
    parser.add_argument("--out", metavar="DIR", help="write the table and a picture there as well")
    options = parser.parse_args()
    peers = [peer for peer in stages() if options.only in (None, peer.name)]
    if not peers:
        parser.error(f"--only: {options.only!r} is none of {', '.join(names)}")
    _raise_descriptor_limit()
    pin(0, LOAD_CORE)
    try:
        figures = measure(peers)
        if options.out:
            write(figures, Path(options.out))
    except OSError as error:
        print(f"why: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\n".join(table(figures)))
    return 0


def _raise_descriptor_limit() -> None:
    """For as many clients as are needed, here and in the servers, which inherit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MANY_CLIENTS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
