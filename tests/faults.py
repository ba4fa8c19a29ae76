"""Fault injection: the N-th use of a system call fails, whichever socket it is for.

As SQLite tests itself: for each call and each error that it can give, let the first use fail, then
the second, and so on, until a whole run needs fewer. No failure may end the server, leave a
descriptor open, or cost a client whose own calls succeeded a reply.
"""

import contextlib
import errno
import os
import selectors
import socket
import threading
from functools import partial
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple
from unittest import mock

from metricsd import Server
from metricsd.loop import connection, endpoints, listener, reactor, sockets, waker
from metricsd.loop.polling import make_selector

BROKEN = ["ECONNRESET", "EPIPE", "ENOTCONN", "EBADF", "ENOBUFS", "ENOMEM", "ETIMEDOUT"]
NO_MEMORY = ["ENOMEM", "ENOSPC", "EBADF"]

# What each call can fail with: recv(2), send(2), accept(2), epoll_ctl(2), epoll_wait(2), close(2).
ERRORS: Dict[str, List[str]] = {
    "accept": [
        "EAGAIN", "EINTR", "ECONNABORTED", "EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EPERM", "EBADF"
    ],
    "recv": ["EAGAIN", "EINTR", *BROKEN],
    "send": ["EAGAIN", "EINTR", *BROKEN],
    "shutdown": ["ENOTCONN", "EBADF", "ENOBUFS"],
    "setsockopt": ["EBADF", "ENOMEM", "EINVAL"],
    "setblocking": ["EBADF"],
    "close": ["EINTR", "EIO", "ENOSPC"],
    "register": [*NO_MEMORY],
    "modify": [*NO_MEMORY],
    "unregister": [*NO_MEMORY],
    "select": ["EINTR", "EBADF", "ENOMEM"],
}  # fmt: skip

HARMLESS = ("EAGAIN", "EINTR")  # of recv, send and accept

SECONDS = 20.0


class Fault(NamedTuple):
    """Let the ``number``-th use of a call, counted from 1, fail with an error."""

    call: str
    number: int
    error: str

    def __str__(self) -> str:
        return f"{self.call} {self.number} {self.error}"


class Faults:
    """Counts calls and lets one fail."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.happened = False
        self.victim: Optional[Tuple[Any, ...]] = None  # the address of the client whose call failed
        self._uses = 0

    def check(self, call: str, sock: Any) -> None:
        if call != self.fault.call:
            return
        self._uses += 1
        if self._uses == self.fault.number:
            self.happened = True
            try:
                self.victim = sock.getpeername()
            except (OSError, AttributeError):
                pass  # it is no client's
            code = getattr(errno, self.fault.error)
            raise OSError(code, os.strerror(code))


def faulty_sockets(faults: Faults) -> Any:
    """The socket module with sockets that fail."""

    class FaultySocket(socket.socket):
        def accept(self) -> Tuple[socket.socket, Any]:
            faults.check("accept", self)
            sock, address = super().accept()
            return FaultySocket(sock.family, sock.type, sock.proto, sock.detach()), address

        def recv(self, *arguments: Any) -> bytes:
            faults.check("recv", self)
            return super().recv(*arguments)

        def send(self, *arguments: Any) -> int:
            faults.check("send", self)
            return super().send(*arguments)

        def shutdown(self, how: int) -> None:
            faults.check("shutdown", self)
            super().shutdown(how)

        def setsockopt(self, *arguments: Any) -> None:
            faults.check("setsockopt", self)
            super().setsockopt(*arguments)

        def setblocking(self, flag: bool) -> None:
            faults.check("setblocking", self)
            super().setblocking(flag)

        def close(self) -> None:
            """On Linux the descriptor is gone even if this fails."""
            there = self.fileno() >= 0
            try:
                if there:
                    faults.check("close", self)
            finally:
                super().close()

    class Module:
        def __getattr__(self, name: str) -> Any:
            return FaultySocket if name == "socket" else getattr(socket, name)

        @staticmethod
        def socketpair() -> Any:
            return [FaultySocket(fileno=end.detach()) for end in socket.socketpair()]

    return Module()


def faulty_selector(faults: Faults) -> selectors.BaseSelector:
    """A selector that fails, of the kind that a loop has."""

    class FaultySelector(type(make_selector())):  # type: ignore[misc]
        def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
            faults.check("register", fileobj)
            return super().register(fileobj, events, data)

        def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
            faults.check("modify", fileobj)
            return super().modify(fileobj, events, data)

        def unregister(self, fileobj: Any) -> Any:
            key = super().unregister(fileobj)
            faults.check("unregister", fileobj)
            return key

        def select(self, timeout: Optional[float] = None) -> Any:
            faults.check("select", None)
            return super().select(timeout)

        def ready(self, timeout: Optional[float] = None) -> Any:
            faults.check("select", None)
            return super().ready(timeout)

    return FaultySelector()


def faulty_calls(faults: Faults) -> Dict[str, Any]:
    """What a connection calls to receive and to send."""

    def check(call: str, descriptor: int) -> None:
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            faults.check(call, sock)

    def read(descriptor: int, most: int) -> bytes:
        check("recv", descriptor)
        return sockets.read(descriptor, most)

    def write(descriptor: int, said: bytes) -> int:
        check("send", descriptor)
        return sockets.write(descriptor, said)

    return {"read": read, "write": write}


class Talk(NamedTuple):
    """What a client sends, and what it must be told; it may leave before it has read that."""

    requests: bytes
    replies: bytes
    stays: bool = True


PUTS = b"".join(b"put big 0.5 %d\n" % number for number in range(12000))
ROWS = b"".join(b"big 0.5 %d\n" % number for number in range(12000))
WRONG = b"error\nwrong command\n\n"

# None depends on what another one stored.
TALKS = [
    Talk(b"put a 1 1\nput a 2 2\nget a\nbad\n", b"ok\n\nok\n\nok\na 1.0 1\na 2.0 2\n\n" + WRONG),
    Talk(PUTS + b"get big\n", b"ok\n\n" * 12000 + b"ok\n" + ROWS + b"\n"),
    Talk(b"get big\nget *\n", b"", stays=False),
    Talk(b"put b 1 1\nput b", b"ok\n\n"),
    Talk(b"POST / HTTP/1.1\nput c 1 1\n", WRONG),
    Talk(b"\n", WRONG),
    Talk(b"x" * 70000 + b"\nput d 1 1\nget d\n", WRONG + b"ok\n\nok\nd 1.0 1\n\n"),
]


class Failed(Exception):
    """What must not happen happened."""


def run_with(fault: Fault) -> bool:
    """Serve clients while a call fails; return whether it came to that. Raises Failed."""
    faults = Faults(fault)
    before = len(os.listdir("/proc/self/fd"))
    module = faulty_sockets(faults)
    with contextlib.ExitStack() as patches:
        for patch in (
            mock.patch.object(endpoints, "socket", module),
            mock.patch.object(waker, "socket", module),
            mock.patch.multiple(connection, **faulty_calls(faults)),
            mock.patch.object(reactor, "make_selector", partial(faulty_selector, faults)),
            mock.patch.object(listener, "PAUSE_SECONDS", 0.01),
        ):
            patches.enter_context(patch)
        _serve(faults)
    if len(os.listdir("/proc/self/fd")) != before:
        raise Failed(f"{fault}: descriptors are left open")
    return faults.happened


def _serve(faults: Faults) -> None:
    try:
        server = Server("127.0.0.1", 0)
    except OSError:
        return  # refused at the start, which is a clear line on the terminal
    crashes: List[BaseException] = []

    def serve() -> None:
        try:
            server.serve_forever()
        except BaseException as error:
            crashes.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        for talk in TALKS:
            _talk(server, talk, faults)
    finally:
        server.stop()
        thread.join(SECONDS)
        try:
            server.close()
        except OSError as error:
            crashes.append(error)
    if crashes or thread.is_alive():
        raise Failed(f"{faults.fault}: the server ended with {crashes!r}")


def _talk(server: Server, talk: Talk, faults: Faults) -> None:
    with socket.create_connection(server.address, SECONDS) as client:
        ours = client.getsockname()
        said = b""
        try:
            sender = threading.Thread(target=_send, args=(client, talk.requests))
            sender.start()
            if talk.stays:
                said = _receive(client)
            sender.join(SECONDS)
        except OSError:
            if faults.victim != ours:
                raise Failed(f"{faults.fault}: another client's connection broke") from None
    if not talk.stays:
        return
    if faults.victim == ours and faults.fault.error not in HARMLESS:
        if not talk.replies.startswith(said):
            raise Failed(f"{faults.fault}: its client was told {said[-60:]!r}")
    elif said != talk.replies:
        raise Failed(f"{faults.fault}: another client was told {said[-60:]!r}")


def _send(client: socket.socket, requests: bytes) -> None:
    try:
        client.sendall(requests)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the replies tell


def _receive(client: socket.socket) -> bytes:
    said = b""
    while True:
        data = client.recv(1 << 20)
        if not data:
            return said
        said += data


def all_faults(longest: int) -> Iterator[Fault]:
    """Every call with every error; raises Failed.

    Each with the first use, then the second, as far as there are so many, up to ``longest``.
    """
    for call, errors in ERRORS.items():
        for error in errors:
            for number in range(1, longest + 1):
                fault = Fault(call, number, error)
                if not run_with(fault):
                    break
                yield fault
