"""The server under torture, in a process of its own, and what the operating system says of it."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple

from load import cpu_seconds

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None  # type: ignore[assignment]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 10.0
REPLY_SECONDS = 20.0


class Client:
    """A connection that asks and reads whole replies."""

    def __init__(self, port: int, small_buffers: bool = False) -> None:
        self.socket = socket.socket()
        if small_buffers:  # so that a client that does not read is soon felt
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.socket.settimeout(REPLY_SECONDS)
        try:
            self.socket.connect(("127.0.0.1", port))
        except BaseException:
            self.socket.close()
            raise
        self._received = b""

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, requests: bytes, replies: int = 1) -> bytes:
        """Send requests and return so many replies to them."""
        self.socket.sendall(requests)
        return self.read(replies)

    def read(self, replies: int = 1) -> bytes:
        """The next replies. Raises OSError if the connection ends before."""
        end = 0
        for _ in range(replies):
            searched = end
            while True:
                found = self._received.find(b"\n\n", max(end, searched - 1))
                if found >= 0:
                    end = found + 2
                    break
                searched = len(self._received)
                data = self.socket.recv(1 << 20)
                if not data:
                    raise ConnectionError("the server closed the connection")
                self._received += data
        said, self._received = self._received[:end], self._received[end:]
        return said

    def reset(self) -> None:
        """End the connection with a reset."""
        linger = b"\x01\0\0\0\0\0\0\0"  # struct linger: on, for 0 seconds
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


class Subject:
    """A running server: ``with Subject("--max-connections", "50") as server``.

    ``descriptors`` is how many it may have open, soft and hard limit; None leaves it as it is here.
    """

    def __init__(self, *options: str, descriptors: Optional[Tuple[int, int]] = None) -> None:
        self._options = options
        self._descriptors = descriptors

    def __enter__(self) -> "Subject":
        self._log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "metricsd", "--port", "0", *self._options],
            cwd=str(ROOT),
            stderr=self._log,
            preexec_fn=self._limit_descriptors,
        )
        self.pid = self.process.pid
        deadline = time.monotonic() + START_SECONDS
        while True:
            log = self.log()
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log)
            if found and "next: " in log:  # the last line of a start
                self.port = int(found.group(1))
                return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise OSError(f"the server does not start: {self.log()}")
            time.sleep(0.01)

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _limit_descriptors(self) -> None:
        if self._descriptors is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, self._descriptors)

    def client(self, **options: Any) -> Client:
        """A new connection."""
        return Client(self.port, **options)

    def log(self) -> str:
        """All that it has logged so far."""
        return os.pread(self._log.fileno(), 1 << 24, 0).decode("utf-8", "replace")

    def memory(self) -> int:
        """Resident memory in bytes."""
        with open(f"/proc/{self.pid}/status") as file:
            return int(re.findall(r"VmRSS:\s+(\d+) kB", file.read())[0]) * 1024

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def cpu_share(self, seconds: float) -> float:
        """The part of one core that it takes during the next so many seconds."""
        before, started = self._cpu(), time.monotonic()
        time.sleep(seconds)
        return (self._cpu() - before) / (time.monotonic() - started)

    def kept_waiting(self) -> float:
        """Seconds so far in which it could have run, but others did (Linux); 0 if none counts."""
        try:
            with open(f"/proc/{self.pid}/schedstat") as file:
                return int(file.read().split()[1]) / 1e9
        except FileNotFoundError:
            return 0.0

    def sleeps(self) -> bool:
        """Whether it waits for something to happen, and not for the processor."""
        with open(f"/proc/{self.pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "S"

    def quiet_descriptors(self, expected: int, seconds: float = 10.0) -> int:
        """How many descriptors are open, once there are as many as expected or the time is up."""
        deadline = time.monotonic() + seconds
        while self.descriptors() != expected and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.descriptors()

    def stop(self, seconds: float) -> float:
        """End it with SIGTERM; return how long that took, in seconds, at most ``seconds``."""
        started = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        return time.monotonic() - started

    def _cpu(self) -> float:
        used = cpu_seconds(self.pid)
        if used is None:
            raise OSError("the server has ended")
        return sum(used)


def close_all(clients: List[Client]) -> None:
    """Close connections in an orderly way."""
    for client in clients:
        client.socket.close()
    clients.clear()
