"""TLS: a session around a session, and the certificates that it shows.

Owns handshakes, decrypting and encrypting, in memory: a connection reads and writes bytes as ever.
Does not know what is said inside, nor sockets.
"""

import logging
import ssl
import time
from collections import deque
from typing import Any, Callable, Deque, Optional

logger = logging.getLogger("metricsd")

# Handshakes that go on in a turn: the step that signs takes 0.26 ms with a key on the curve P-256,
# so about a millisecond. With slower keys fewer go on: none begins after SLICE_SECONDS.
HANDSHAKES_A_TURN = 4
SLICE_SECONDS = 0.001

# Seconds that a client has for its handshake, from when it has been accepted.
HANDSHAKE_SECONDS = 10.0

# Bytes that the session inside is given at a time, as many as a connection receives. What has been
# decrypted is at most twice that: a receive, and the record that had begun before it.
PIECE_BYTES = 16 * 1024

# Over and over again a client could ask for a new handshake on a connection that stands (TLS 1.2).
# The name came with Python 3.7, the bit with OpenSSL 1.1.0h.
NO_RENEGOTIATION = getattr(ssl, "OP_NO_RENEGOTIATION", 1 << 30)

REPEATS = {"repeats": True}  # the mark of what the log's filter lets through once a minute

# What they raise who have to wait for the other side.
NOT_READY = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class TlsError(Exception):
    """A certificate, its key or an authority can't be used; the message says which and why."""


class Tls:
    """The certificate of a server, read again when it is told to, and its clients' handshakes."""

    def __init__(self, cert: str, key: Optional[str], clients: Optional[str], loop: Any) -> None:
        """Take paths of files in PEM, and a Reactor.

        ``key`` may be None if it is in the file of the certificate; ``clients`` is of the authority
        whose certificates clients have to show, or None. Raises TlsError.
        """
        self._paths = cert, key, clients
        self._loop = loop
        self._waiting: Deque[TlsSession] = deque()  # to go on with their handshakes
        self.shaken = self.refused = 0  # handshakes so far, those that came to an end and others
        self._context = make_context(cert, key, clients)

    def reload(self) -> None:
        """Read the files again, for clients that come from now on; if that fails, all is as before.

        What has become of it is logged.
        """
        try:
            self._context = make_context(*self._paths)
        except TlsError as error:
            logger.error("the certificate stays as it was: %s", error)
        else:
            logger.info("the certificate has been read again")

    def around(self, session: Any, whose: Callable[[Any], str]) -> "TlsSession":
        """A session that speaks TLS, with another one inside; ``whose`` names its client."""
        deadline = self._loop.now + HANDSHAKE_SECONDS
        return TlsSession(session, self, self._context, deadline, whose)

    def wait_for_turn(self, session: "TlsSession") -> None:
        """Let a session go on with its handshake when it is its turn."""
        if not self._waiting:
            self._loop.call_later(0.0, self._go_on)
        self._waiting.append(session)

    def _go_on(self) -> None:
        """Once a turn, while there are some: a few handshakes go on."""
        start = time.perf_counter()
        for _ in range(min(HANDSHAKES_A_TURN, len(self._waiting))):
            self._waiting.popleft().shake_hands()
            if time.perf_counter() > start + SLICE_SECONDS:
                break
        if self._waiting:
            self._loop.call_later(0.0, self._go_on)

    def is_late(self, deadline: float) -> bool:
        """Whether a deadline has passed: whoever had it is about to be closed."""
        return bool(deadline <= self._loop.now)


class TlsSession:
    """A client that speaks TLS.

    The session inside hears what has been decrypted, and the end of its input as soon as either
    close_notify or the end of the connection has come: nobody can forge a line, and one that is cut
    off is dropped. Until the hands are shaken it hears nothing, and a client costs two buffers.
    """

    __slots__ = (
        "_callback", "_context", "_deadline", "_ended", "_goes_on", "_incoming", "_inner",
        "_outgoing", "_plain", "_shaken", "_tls", "_told_end", "_whose", "_with", "over",
    )  # fmt: skip

    def __init__(
        self,
        inner: Any,
        tls: Tls,
        context: ssl.SSLContext,
        deadline: float,
        whose: Callable[[Any], str],
    ) -> None:
        self._inner = inner
        self._with = tls
        self._context = context
        self._deadline = deadline
        self._whose = whose
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: Any = None  # an SSLObject, from the first byte on
        self._shaken = False
        self._callback: Optional[Callable[[], None]] = None  # of who waits for a handshake
        self._plain = b""  # decrypted, and not given to the session inside
        self._goes_on = False  # this arrival
        self._ended = False  # there will be no more input
        self._told_end = False  # the session inside knows that
        self.over = False

    @property
    def waiting(self) -> bool:
        """Whether the handshake or the session inside waits for a later turn."""
        if self._shaken:
            return bool(self._inner.waiting)
        return not self.over and self._incoming.pending > 0

    @property
    def unfinished(self) -> bool:
        """Whether there is more to do."""
        return bool(self._shaken and not self.over and (self._inner.unfinished or self._has_more))

    @property
    def _has_more(self) -> bool:
        """Whether the session inside has not heard all that has come."""
        return bool(self._plain) or (self._ended and not self._told_end)

    @property
    def quiet(self) -> bool:
        """Whether none of these holds, nor is it over."""
        return self._shaken and not (self.over or self._has_more) and bool(self._inner.quiet)

    @property
    def idle(self) -> bool:
        """Whether nothing is pending in either direction."""
        return self._shaken and not self._has_more and bool(self._inner.idle)

    @property
    def deadline(self) -> Optional[float]:
        """That of the handshake, and then that of the session inside."""
        return self._inner.deadline if self._shaken else self._deadline

    def receive(self, data: bytes, more_waiting: bool = False) -> None:
        """Take some bytes of TLS; b"" is the end of the connection's input."""
        if self.over or self._ended:
            return
        self._goes_on = more_waiting
        self._ended = not data
        self._incoming.write(data)
        if self._shaken:
            self._decrypt()
            self._pass_on()
        elif self._ended:
            self.over = True  # it has left in the middle of the handshake
        elif self._tls is None:
            self._tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def when_answered(self, callback: Callable[[], None]) -> None:
        """While ``waiting``: call back once, when it need not wait any more."""
        if self._shaken:
            self._inner.when_answered(callback)
        else:
            self._callback = callback
            self._with.wait_for_turn(self)

    def shake_hands(self) -> None:
        """Go on with the handshake, and call back."""
        callback, self._callback = self._callback, None
        if self._with.is_late(self._deadline):
            return
        try:
            self._tls.do_handshake()
            self._shaken = True
            self._with.shaken += 1
            self._decrypt()  # what has come behind it
        except NOT_READY:
            pass
        except ssl.SSLError as error:
            self._refuse(error)
        if callback is not None:
            callback()

    def go_on(self) -> None:
        """Do a little of what is unfinished."""
        if self._inner.unfinished:
            self._inner.go_on()
        elif not self._inner.waiting:
            self._pass_on()

    def replies(self) -> bytes:
        """What there is to say, encrypted; each byte once."""
        if self._shaken and not self.over:
            said = self._inner.replies()
            while said:  # a record at a time
                said = said[self._tls.write(said) :]
            if self._ends():
                self._say_goodbye()
        return self._outgoing.read()

    def _decrypt(self) -> None:
        """Decrypt all that has come."""
        plain = []
        try:
            while True:
                piece = self._tls.read(PIECE_BYTES)
                if not piece:
                    self._ended = True  # close_notify
                    break
                plain.append(piece)
        except ssl.SSLZeroReturnError:
            self._ended = True
        except NOT_READY:
            pass
        self._plain += b"".join(plain)

    def _pass_on(self) -> None:
        """Let the session inside hear the next piece of what has been decrypted."""
        piece, self._plain = self._plain[:PIECE_BYTES], self._plain[PIECE_BYTES:]
        if piece:
            self._inner.receive(piece, self._goes_on or bool(self._plain))
        elif self._ended and not self._told_end:
            self._told_end = True
            self._inner.receive(b"", False)

    def _ends(self) -> bool:
        """Whether the session inside has said all, and will not say any more."""
        if self._inner.unfinished or self._inner.waiting:
            return False
        return bool(self._inner.over or self._told_end)

    def _say_goodbye(self) -> None:
        """Say close_notify, without waiting for the client's."""
        self.over = True
        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError):
            pass  # it has been said, and the other side's has not come

    def _refuse(self, error: ssl.SSLError) -> None:
        """The handshake has failed: the alert that says why is sent, and nothing more."""
        self.over = True
        self._with.refused += 1
        reason = getattr(error, "verify_message", "") or error.reason or str(error)
        logger.warning("TLS with %s failed: %s", _Name(self, self._whose), reason, extra=REPEATS)


class _Name:
    """The name of a client, made up only if the log lets the line through."""

    def __init__(self, session: TlsSession, whose: Callable[[Any], str]) -> None:
        self._session = session
        self._whose = whose

    def __str__(self) -> str:
        return self._whose(self._session)


def make_context(cert: str, key: Optional[str], clients: Optional[str]) -> ssl.SSLContext:
    """TLS 1.2 or newer with a certificate, and for clients of an authority if there is one.

    Raises TlsError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if hasattr(context, "minimum_version"):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    else:  # Python 3.6
        context.options |= ssl.OP_NO_SSLv3 | ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
    context.options |= NO_RENEGOTIATION
    if hasattr(context, "num_tickets"):
        # Clients stay, so nobody resumes. Tickets would be the first thing that is sent to a client
        # that may never read, and one that closes with these unread resets its own connection.
        context.num_tickets = 0
    for path in (cert, key, clients):
        if path is not None:
            _check_file(path)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ValueError) as error:
        names = cert if key is None else f"{cert} and {key}"
        raise TlsError(f"no certificate and key in PEM in {names}: {_reason(error)}") from None
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(clients)
        except (OSError, ValueError) as error:
            raise TlsError(f"no certificate in PEM in {clients}: {_reason(error)}") from None
    return context


def _check_file(path: str) -> None:
    """What the ssl module does not tell, or asks on the terminal. Raises TlsError."""
    try:
        with open(path, "rb") as file:
            encrypted = b"ENCRYPTED" in file.read()
    except OSError as error:
        raise TlsError(f"cannot read {path}: {error.strerror}") from None
    if encrypted:
        raise TlsError(f"the key in {path} has a password; give one that has none")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
