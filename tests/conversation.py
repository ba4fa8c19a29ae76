"""A conversation with a server in raw bytes: what is sent is what the test wrote."""

import random
import socket
import time
from typing import Any, Tuple, Union

SECONDS = 10.0  # a reply that takes longer is missing


def free_port() -> int:
    """A port that nobody listens on, and that the system gives to no client meanwhile.

    A client that tries a port of the range from which its own comes may be connected to itself.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def connect(port: int) -> "Conversation":
    """A conversation, as soon as somebody listens on a port of this machine."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return Conversation(("127.0.0.1", port))
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "nobody listens"


class Conversation:
    """A client connection; ``ask`` sends, and returns as many whole replies as it is told."""

    def __init__(
        self, address: Union[Tuple[str, int], str], receive_buffer: int = 0, tls: Any = None
    ) -> None:
        """Connect to a host and port, or to the path of a unix socket; ``tls`` is a context."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        if isinstance(address, str):
            family = socket.AF_UNIX
        self.socket: Any = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        try:
            self.socket.connect(address)
            if tls is not None:
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.socket = tls.wrap_socket(self.socket, server_hostname=address[0])
        except OSError:
            self.socket.close()
            raise
        self.received = b""

    def __enter__(self) -> "Conversation":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, request: bytes, replies: int = 1) -> bytes:
        self.socket.sendall(request)
        return self.read(replies)

    def read(self, replies: int = 1) -> bytes:
        """Exactly so many replies; anything beyond them stays for the next read."""
        end = 0
        for _ in range(replies):
            end = self._end_of_reply(end)
        answer, self.received = self.received[:end], self.received[end:]
        return answer

    def _end_of_reply(self, start: int) -> int:
        searched = start
        while True:
            end = self.received.find(b"\n\n", max(start, searched - 1))
            if end >= 0:
                return end + 2
            searched = len(self.received)
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError(f"closed after {self.received[start:][-200:]!r}")
            self.received += data

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        parts = [self.received]
        self.received = b""
        while True:
            data = self.socket.recv(1 << 20)
            if not data:
                return b"".join(parts)
            parts.append(data)

    def no_more(self) -> None:
        """Half-close: nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with a reset instead of an orderly end."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00"
        )
        self.socket.close()
