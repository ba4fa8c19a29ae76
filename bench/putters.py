"""Clients that put without a pause and remember what they were told, to be compared afterwards.

Owns what was acknowledged. Does not know what happens to the server meanwhile.
"""

import socket
import threading
import time
from typing import List, Tuple

OK = b"ok\n\n"
NOT_STORED = b"error\nnot stored\n\n"

PUTS = 10  # that a client sends at a time
PAUSE_SECONDS = 0.01  # between two of these: a few thousand puts a second in all
REPLY_SECONDS = 30.0
RECEIVE_BYTES = 1 << 16


class Putter(threading.Thread):
    """A client: each of its points has a timestamp of its own, and a value that tells it."""

    def __init__(self, address: Tuple[str, int], name: str, keys: int = 20) -> None:
        super().__init__(daemon=True)
        self._address = address
        self.keys = [f"{name}.{number}" for number in range(keys)]
        self.acknowledged: List[int] = []  # numbers of points
        self.refused: List[float] = []  # when
        self.other = b""  # what it was told that is neither
        self._stopped = threading.Event()

    def run(self) -> None:
        """Put until ``stop`` is called, or the server is gone."""
        number = 0
        try:
            with socket.create_connection(self._address, REPLY_SECONDS) as sock:
                while not self._stopped.is_set() and not self.other:
                    sock.sendall(b"".join(map(self._put, range(number, number + PUTS))))
                    self._read(sock, number)
                    number += PUTS
                    time.sleep(PAUSE_SECONDS)
        except OSError:
            pass  # the server was killed, or is silent: what was acknowledged counts

    def stop(self) -> None:
        """End after the puts that are under way."""
        self._stopped.set()
        self.join()

    def lost(self, address: Tuple[str, int]) -> int:
        """Ask for all keys; return how many acknowledged points are not there."""
        lost = 0
        there = {key: set(rows_of(address, key)) for key in self.keys}
        for number in self.acknowledged:
            lost += self._row(number) not in there[self._key(number)]
        return lost

    def _key(self, number: int) -> str:
        return self.keys[number % len(self.keys)]

    def _put(self, number: int) -> bytes:
        return b"put " + self._row(number) + b"\n"

    def _row(self, number: int) -> bytes:
        return f"{self._key(number)} {number % 1000}.25 {1500000000 + number}".encode()

    def _read(self, sock: socket.socket, number: int) -> None:
        """Take the replies to so many puts from this one on, in order."""
        received, end = b"", number + PUTS
        while number < end:
            data = sock.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError
            received += data
            while number < end:
                if received.startswith(OK):
                    self.acknowledged.append(number)
                    received = received[len(OK) :]
                elif received.startswith(NOT_STORED):
                    self.refused.append(time.monotonic())
                    received = received[len(NOT_STORED) :]
                elif (OK + b"|" + NOT_STORED).find(received) < 0:
                    self.other = received
                    return
                else:
                    break
                number += 1


def rows_of(address: Tuple[str, int], key: str) -> List[bytes]:
    """The rows of a key. Raises OSError if the server does not give them."""
    with socket.create_connection(address, REPLY_SECONDS) as sock:
        sock.sendall(b"get %s\n" % key.encode())
        received = b""
        while not received.endswith(b"\n\n"):
            data = sock.recv(RECEIVE_BYTES)
            if not data:
                raise ConnectionError("the reply breaks off")
            received += data
    if not received.startswith(b"ok\n"):
        raise ConnectionError(received.decode())
    return received.splitlines()[1:-1]
