"""One client at a time, blocking: the second waits until the first has gone.

python3 bench/peers/blocking.py PORT
"""

import socket
import sys

from plain_store import PlainStore


def main(port: int) -> None:
    """Serve on a port of this machine until killed."""
    store = PlainStore()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
        while True:
            client, _ = listening.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                serve(client, store)
            except OSError:
                pass


def serve(client: socket.socket, store: PlainStore) -> None:
    """Answer one client until it closes."""
    with client:
        rest = b""
        while True:
            data = client.recv(65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            replies = [store.answer(line.decode("utf-8", "replace")) for line in lines]
            client.sendall("".join(replies).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
