"""The busy loop, but asleep until select() says which sockets are ready.

python3 bench/peers/select_loop.py PORT
"""

import select
import sys
from typing import Any, List

from busy_loop import Client, listen
from plain_store import PlainStore


def main(port: int) -> None:
    """Serve on a port of this machine until killed."""
    store = PlainStore()
    listening = listen(port)
    clients: List[Client] = []
    while True:
        everybody: List[Any] = [listening, *clients]
        talking = [client for client in clients if client.outbox]
        readable, writable, _ = select.select(everybody, talking, [])
        for client in writable:
            client.send()
        for client in readable:
            if client is listening:
                clients.append(Client(listening.accept()[0]))
            elif not client.receive(store):
                clients.remove(client)
            elif client.outbox:
                client.send()


if __name__ == "__main__":
    main(int(sys.argv[1]))
