"""A thread for each client, and a lock around the store.

python3 bench/peers/threads.py PORT
"""

import socket
import socketserver
import sys
import threading

from plain_store import PlainStore

STORE = PlainStore()
LOCK = threading.Lock()


class Handler(socketserver.BaseRequestHandler):
    """One client."""

    def handle(self) -> None:
        """Answer until the client closes."""
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        rest = b""
        while True:
            try:
                data = self.request.recv(65536)
            except OSError:
                return
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            with LOCK:
                replies = [STORE.answer(line.decode("utf-8", "replace")) for line in lines]
            self.request.sendall("".join(replies).encode())


class Server(socketserver.ThreadingTCPServer):
    """A listening socket with the usual options."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
