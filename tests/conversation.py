"""A conversation with a server in raw bytes: what is sent is what the test wrote."""

import socket
from typing import Tuple

SECONDS = 10.0  # a reply that takes longer is missing


class Conversation:
    """A client connection; ``ask`` sends and returns as many whole replies as it is told to await."""

    def __init__(self, address: Tuple[str, int], receive_buffer: int = 0) -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.connect(address)
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
                raise EOFError("closed after {!r}".format(self.received[start:][-200:]))
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
