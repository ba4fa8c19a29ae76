"""The servers that are compared: how each is started on a port, and what it can do."""

import contextlib
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional

BENCH = Path(__file__).resolve().parent
START_SECONDS = 60.0  # under callgrind, on a machine that is very busy
SERVER_CORE = 0
LOAD_CORE = 1
CARBON_MISSING = "install carbon (Debian: apt-get install graphite-carbon; PyPI: carbon)"
WARM_UP = {"metricsd": b"get warm_up\n", "redis": b"PING\r\n"}


class Peer(NamedTuple):
    """A server that can be started; ``missing`` says how to get it where it can't."""

    name: str
    command: List[str]  # PORT stands for the port, FOLDER for one of its own
    protocol: str = "metricsd"
    max_clients: int = 10**6  # it serves at a time
    acknowledges: bool = True  # each put
    missing: str = ""


def peers() -> List[Peer]:
    """Every peer, ours first."""
    python = sys.executable
    redis = shutil.which("redis-server") or ""
    carbon = shutil.which("carbon-cache") or shutil.which("carbon-cache.py")
    has_uvloop = importlib.util.find_spec("uvloop") is not None
    return [
        Peer("metricsd", [python, "-m", "metricsd", "--port", "PORT", "--log-level", "error"]),
        Peer(
            "Redis",
            [redis, "--port", "PORT", "--save", "", "--appendonly", "no", "--logfile", os.devnull],
            protocol="redis",
            missing="" if redis else "install redis-server (Debian: apt-get install redis-server)",
        ),
        Peer(
            "uvloop",
            [python, str(BENCH / "peers" / "uvloop_protocol.py"), "PORT"],
            missing="" if has_uvloop else "install uvloop (pip install uvloop)",
        ),
        Peer("asyncio", [python, str(BENCH / "peers" / "asyncio_protocol.py"), "PORT"]),
        Peer("threads", [python, str(BENCH / "peers" / "threads.py"), "PORT"]),
        Peer("blocking", [python, str(BENCH / "peers" / "blocking.py"), "PORT"], max_clients=1),
        Peer(
            "carbon",
            [python, str(BENCH / "peers" / "carbon.py"), "PORT"],
            protocol="carbon",
            acknowledges=False,
            missing="" if carbon else CARBON_MISSING,
        ),
    ]


class Running(NamedTuple):
    """A server that has been started and warmed up."""

    peer: Peer
    port: int
    pid: int
    folder: str  # of its own, until it has ended

    def memory(self, field: str = "VmRSS") -> int:
        """Resident memory in bytes, now or (VmHWM) at its highest."""
        with open(f"/proc/{self.pid}/status") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name == field:
                    return int(value.split()[0]) * 1024
        raise OSError(f"no {field} for process {self.pid}")

    def forget_peak(self) -> None:
        """Let VmHWM begin anew (proc(5), clear_refs)."""
        with open(f"/proc/{self.pid}/clear_refs", "w") as file:
            file.write("5")


@contextlib.contextmanager
def running(peer: Peer) -> Iterator[Running]:
    """Start a server on a free port and one core of its own; end it when the block is left.

    A connection comes and goes before anything is measured: with large receive buffers, like
    asyncio's, the first one that closes teaches the allocator to keep such memory.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:  # for what it may want to write
        words = [word.replace("PORT", str(port)) for word in peer.command]
        command = [word.replace("FOLDER", folder) for word in words]
        process = subprocess.Popen(
            command,
            cwd=str(BENCH.parent),
            env=dict(os.environ, TMPDIR=folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            pin(process.pid, SERVER_CORE)
            for _ in range(2):
                with connect(port, process) as warm_up:
                    if peer.acknowledges:
                        warm_up.sendall(WARM_UP[peer.protocol])
                        warm_up.recv(100)
            yield Running(peer, port, process.pid, folder)
        finally:
            process.kill()
            process.wait()


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where the system can do that and has two."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(pid, {core})


def connect(port: int, process: "subprocess.Popen[bytes]") -> socket.socket:
    """A connection to a server that has just been started. Raises OSError if it does not serve."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), START_SECONDS)
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise OSError(f"{process.args!r} does not start") from None
            time.sleep(0.01)


def free_port() -> int:
    """A port below those that the system gives to clients: one of these might get its own."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def skipped(peer: Peer) -> Optional[str]:
    """Say why a peer is left out; None if it is not."""
    return f"{peer.name} skipped: {peer.missing}" if peer.missing else None
