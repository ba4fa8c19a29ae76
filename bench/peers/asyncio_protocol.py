"""An asyncio Protocol: all the lines of a segment are answered with one write.

python3 bench/peers/asyncio_protocol.py PORT
"""

import asyncio
import sys
from typing import Any

from plain_store import PlainStore

STORE = PlainStore()


class MetricsProtocol(asyncio.Protocol):
    """One client."""

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self.transport = transport
        self.rest = b""

    def data_received(self, data: bytes) -> None:
        """Answer every whole line."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        replies = [STORE.answer(line.decode("utf-8", "replace")) for line in lines]
        self.transport.write("".join(replies).encode())


async def serve(port: int) -> None:
    """Serve on a port of this machine until killed."""
    loop = asyncio.get_event_loop()
    await loop.create_server(MetricsProtocol, "127.0.0.1", port)
    await loop.create_future()


if __name__ == "__main__":
    asyncio.new_event_loop().run_until_complete(serve(int(sys.argv[1])))
