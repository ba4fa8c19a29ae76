"""A put over TLS: the same turn as bytes on the wire, and as what the session inside hears.

Both sides are in this process and in memory, without any socket. The program openssl makes a
certificate that lasts a day; where there is none, that is said, and nothing is shown.
"""

import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import removal  # noqa: F401  # it finds metricsd

from metricsd.loop import Reactor
from metricsd.protocol import Dispatcher, Session
from metricsd.store import Memory
from metricsd.tls import Tls

SKIPPED = 77  # the exit code that bench/quote.py knows
MAKE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=x"


class Inside(Session):
    """A session that tells what it hears and what it says."""

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Tell, and take it in."""
        print(f"    the session inside hears  {data!r}")
        super().receive(data, more_waiting)
        self._dispatcher.batch.run()  # which the loop does once a turn

    def replies(self) -> bytes:
        """Tell, and say it."""
        said = super().replies()
        if said:
            print(f"    the session inside says   {said!r}")
        return said


class Client:
    """The other side."""

    def __init__(self, certificate: str) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=certificate)
        context.check_hostname = False
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    def shake_hands(self) -> bool:
        """Go on; whether it is done."""
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False


def on_the_wire(who: str, data: bytes) -> bytes:
    """Tell what others can see of it."""
    print(f"{who}: ~{len(data)} bytes, that begin with {data[:3].hex()}")
    return data


def shake_hands(client: Client, session: Any, reactor: Reactor) -> None:
    """Until both are done."""
    sent = said = 0
    while not (client.shake_hands() and session.idle):
        data = client.outgoing.read()
        sent += len(data)
        session.receive(data)
        if session.waiting:
            session.when_answered(lambda: None)
            reactor.turn(0)  # in which a few of those who shake hands go on
        answer = session.replies()
        said += len(answer)
        client.incoming.write(answer)
    print(f"hands are shaken: ~{sent} bytes from the client, and ~{said} to it")


def converse(certificate: str) -> None:
    """Shake hands, put and get."""
    reactor = Reactor()
    inside = Inside(Dispatcher(Memory()))
    session = Tls(certificate, None, None, reactor).around(inside, lambda _: "the client")
    client = Client(certificate)
    shake_hands(client, session, reactor)
    for request in (b"put cpu 12.5 1503319740\n", b"get cpu\n"):
        client.tls.write(request)
        session.receive(on_the_wire("client", client.outgoing.read()))
        client.incoming.write(on_the_wire("server", session.replies()))
        print(f"    the client reads          {client.tls.read(1000)!r}")
    reactor.close()


def main() -> None:
    """Make a certificate, and converse."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "server.pem"
        try:
            subprocess.check_call(
                [*MAKE.split(), "-keyout", str(path), "-out", f"{path}.crt"],
                stderr=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            print("this exhibit needs the program openssl, to make a certificate")
            sys.exit(SKIPPED)
        with path.open("a") as file:
            file.write(Path(f"{path}.crt").read_text())
        converse(str(path))


if __name__ == "__main__":
    main()
