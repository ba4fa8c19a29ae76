"""All clients in one thread: each socket is asked, round after round, whether there is anything.

python3 bench/peers/busy_loop.py PORT
"""

import socket
import sys
from typing import List

from plain_store import PlainStore


class Client:
    """One client: its socket, the line that is not whole yet, the replies that are not sent."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.rest = b""
        self.outbox = b""

    def fileno(self) -> int:
        """The descriptor, for those who want to wait for it."""
        return self.socket.fileno()

    def receive(self, store: PlainStore) -> bool:
        """Answer what has come, if anything has; return whether there may be more."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            self.socket.close()
            return False
        *lines, self.rest = (self.rest + data).split(b"\n")
        replies = [store.answer(line.decode("utf-8", "replace")) for line in lines]
        self.outbox += "".join(replies).encode()
        return True

    def send(self) -> None:
        """Send as much as the kernel takes."""
        try:
            self.outbox = self.outbox[self.socket.send(self.outbox) :]
        except BlockingIOError:
            pass
        except OSError:
            self.outbox = b""


def listen(port: int) -> socket.socket:
    """A listening socket that never blocks."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    listening.listen(128)
    listening.setblocking(False)
    return listening


def main(port: int) -> None:
    """Serve on a port of this machine until killed."""
    store = PlainStore()
    listening = listen(port)
    clients: List[Client] = []
    while True:
        try:
            clients.append(Client(listening.accept()[0]))
        except BlockingIOError:
            pass
        clients = [client for client in clients if client.receive(store)]
        for client in clients:
            if client.outbox:
                client.send()


if __name__ == "__main__":
    main(int(sys.argv[1]))
