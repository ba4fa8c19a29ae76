"""Captions: what each step means, in plain words, and which function of which file takes it.

Owns the words. Does not know the session that they are said about.
"""

import re
from typing import Dict, NamedTuple, Tuple

from metricsd.observer import Step

CLIENT_TURN = -1  # the turn of what is not done by the loop

KEY_CHARACTERS = 40  # of a key that is looked up, in a title

# The phases of a turn, as Reactor has them, and the wait before it.
WAIT, READ_ALL, COMMIT, WRITE_ALL = "wait", "read", "commit", "write"


class Caption(NamedTuple):
    """What is said about a step, and what is lit up meanwhile."""

    phase: str
    path: Tuple[str, ...]  # the lane that bytes leave, and the one they reach; or one lane alone
    title: str
    text: str
    code: str  # file and function


def caption(step: Step) -> Caption:
    """The caption of a step; of one that nothing is known about, its own words."""
    unknown = Caption(READ_ALL, (), "{who}: {what} {detail}", "", "observer.py Observer.step")
    found = CAPTIONS.get(_kind(step), unknown)
    detail = re.sub(r"\d{4,}", lambda digits: f"{int(digits.group()):,}", step.detail)
    key = step.data.decode("utf-8", "replace")[:KEY_CHARACTERS]
    title, text = (
        words.format(who=step.who, what=step.what, detail=detail, key=key)
        for words in (found.title, found.text)
    )
    return found._replace(title=title.strip(), text=text)


def _kind(step: Step) -> str:
    """Under which name the table knows a step: its own, or that with what sets it apart."""
    what, detail = step.what, step.detail
    variants = {
        "ready": [("listener", detail == "listener"), ("to write", "to write" in detail),
                  ("several", "," in detail)],
        "received": [("the end", not step.data)],
        "answered": [("so far", detail.startswith("no request, more")),
                     ("for now", "more to do" in detail),
                     ("nothing", detail.startswith("no request, nothing")),
                     ("not yet", "no request" in detail), ("all", not step.data)],
        "queued": [("an error", step.data.startswith(b"error")), ("more", step.data[:2] != b"ok")],
        "sent": [("in part", " of " in detail), ("nothing", not step.data)],
        "put": [("one", detail == "1 point")],
        "listening": [("listener", step.who == "listener")],
    }  # fmt: skip
    for variant, true in variants.get(what, []):
        if true:
            return f"{what}: {variant}"
    return what


CAPTIONS: Dict[str, Caption] = {
    # What clients do; the loop sleeps meanwhile.
    "connects": Caption(
        WAIT, ("client", "inbound"), "{who} connects",
        "The kernel completes the connection by itself and puts it into the listening socket's "
        "queue. The server has not noticed yet.",
        "listener.py _open_socket",
    ),
    "sends": Caption(
        WAIT, ("client", "inbound"), "{who} sends {detail}",
        "The bytes travel to the server's kernel and wait there, in the receive buffer of this "
        "socket. No line of the server has run yet.",
        "reactor.py Reactor.turn",
    ),
    "reads": Caption(
        WAIT, ("outbound", "client"), "{who} reads {detail}",
        "The client takes what the kernel has for it. Room becomes free in the send buffer, and "
        "if the server waits for room, its socket becomes ready.",
        "reactor.py Reactor.turn",
    ),
    "ends": Caption(
        WAIT, ("client", "inbound"), "{who} says that it has no more to send",
        "Half of the connection is closed, as `printf '...' | nc` does it at the end. The client "
        "can still read, and wants to: its reply is owed.",
        "connection.py Connection._on_ready",
    ),
    "leaves": Caption(
        WAIT, ("client", "inbound"), "{who} closes its connection",
        "To the server this looks the same: the end of input. It learns of it as of any arrival.",
        "connection.py Connection._on_ready",
    ),
    "sleeps": Caption(
        WAIT, (), "The loop sleeps",
        "No socket is ready: {detail} does not read, so there is no room for the rest of its "
        "reply. The loop neither waits for this client nor asks again and again. It sleeps.",
        "reactor.py Reactor.turn",
    ),
    "fills": Caption(
        WAIT, ("client", "store"), "{who} has put {detail}",
        "All as before, so it is not played here. A get of this key will have a long reply.",
        "batch.py put_block",
    ),
    # What the loop does.
    "listening: listener": Caption(
        WAIT, (), "The server listens",
        "It has opened a listening socket, told the selector to watch it, and sleeps in one "
        "system call until a socket is ready. Sleeping costs no processor time.",
        "listener.py Listener.resume",
    ),
    "ready: listener": Caption(
        WAIT, ("inbound",), "The loop wakes up: a client is there",
        "The selector has returned. It names the sockets that are ready: here the listening one. "
        "A turn of the loop begins.",
        "reactor.py Reactor.turn",
    ),
    "ready": Caption(
        WAIT, ("inbound",), "The loop wakes up: {detail}",
        "The selector has returned, and names the sockets that something can be done with at "
        "once. For each of them the loop calls the function that was registered with it.",
        "reactor.py Reactor.turn",
    ),
    "ready: several": Caption(
        WAIT, ("inbound",), "The loop wakes up: {detail}",
        "Two sockets are ready in one turn. First both are read, then both are answered, so one "
        "client's long reply does not stand before another's request.",
        "reactor.py Reactor.turn",
    ),
    "ready: to write": Caption(
        WAIT, ("outbound",), "The loop wakes up: {detail}",
        "There is room again in the send buffer of this socket. That is what the loop has been "
        "waiting for on behalf of this client.",
        "reactor.py Reactor.turn",
    ),
    "opened": Caption(
        READ_ALL, ("inbound", "input"), "{who} is accepted",
        "accept gives a socket for this client alone. It is made non-blocking, gets a Connection "
        "and a Session of its own, and the selector watches it from now on.",
        "listener.py Listener._accept",
    ),
    "received": Caption(
        READ_ALL, ("inbound", "input"), "The server receives {detail} from {who}",
        "One recv moves what waits in the kernel to the session, at most 16 KiB. Just one: if "
        "there is more, the next turn comes back to it, after everybody else.",
        "connection.py Connection._on_ready",
    ),
    "received: the end": Caption(
        READ_ALL, ("inbound", "input"), "The server receives the end of input from {who}",
        "recv returns no bytes at all. That does not mean that the client is gone, only that it "
        "will send no more: what it is owed is still sent.",
        "connection.py Connection._on_ready",
    ),
    "peeked": Caption(
        READ_ALL, ("inbound",), "A look: more waits",
        "The receive has filled its buffer, so the server looks whether this arrival goes on.",
        "connection.py Connection._more_waiting",
    ),
    "put: one": Caption(
        READ_ALL, ("input", "store"), "One point is stored",
        "The line is split, its value becomes a float, its timestamp an int, and the point goes "
        "into the series of its key.",
        "batch.py put_block",
    ),
    "put": Caption(
        READ_ALL, ("input", "store"), "{detail} are stored, as one batch",
        "These lines arrived together and are all puts, so they are split, converted and stored "
        "as one block, with most of the work done in C.",
        "batch.py put_block",
    ),
    "found": Caption(
        READ_ALL, ("store", "output"), "The store is asked, and finds {detail} {key}",
        "The table of commands says which function answers a get. It reads the series and writes "
        "its points as rows, sorted by timestamp.",
        "commands.py get",
    ),
    "answered": Caption(
        READ_ALL, ("input",), "{who}: {detail}",
        "Whole lines have been run. What follows the last line feed is the beginning of a "
        "request: it stays in the read buffer until its end arrives.",
        "lines.py LineBuffer.take",
    ),
    "answered: all": Caption(
        READ_ALL, ("input",), "{who}: {detail}",
        "Every line that arrived has been run. The read buffer is empty.",
        "session.py Session.receive",
    ),
    "answered: not yet": Caption(
        READ_ALL, ("input",), "{who}: {detail}",
        "There is no line feed yet, so this is not a request yet. TCP is a stream and may cut it "
        "anywhere; the piece stays in the read buffer until the rest arrives.",
        "lines.py LineBuffer.take",
    ),
    "answered: so far": Caption(
        READ_ALL, ("store",), "{who}: a reply is under way",
        "The reply is large, so it is pulled, not pushed: the session makes some 32 KiB of it and "
        "goes on only when these are sent. In between, others have their turns.",
        "session.py Session.replies",
    ),
    "answered: for now": Caption(
        READ_ALL, ("input",), "{who}: {detail}",
        "With more than 32 KiB to say the session stops and looks for no further line. It goes on "
        "when this has been sent, so one client can't fill the memory with its replies.",
        "session.py Session.replies",
    ),
    "answered: nothing": Caption(
        READ_ALL, ("input",), "{who}: nothing more to say",
        "The session goes on and finds no further line. All that was asked has been answered.",
        "session.py Session.replies",
    ),
    "queued": Caption(
        READ_ALL, ("input", "output"), "The reply is put into the write buffer",
        "{detail} for {who}. Nothing is sent yet: first everybody who is ready is read, and what "
        "must be done before anything is said is done once for all of them.",
        "connection.py Connection._on_ready",
    ),
    "queued: an error": Caption(
        READ_ALL, ("input", "output"), "The reply is an error",
        "There is no such command. The client's mistake is an exception, BadCommand, which the "
        "session turns into a reply. Nothing else happens: the session goes on.",
        "session.py Session._run_line",
    ),
    "queued: more": Caption(
        READ_ALL, ("store", "output"), "The next part of the reply is made",
        "{detail} for {who}, made only now that the part before them is sent. So a large reply "
        "never stands in memory as a whole.",
        "session.py Session.replies",
    ),
    "committed": Caption(
        COMMIT, ("store",), "The turn is committed",
        "What must be done before anything is said, once for all clients of this turn.",
        "reactor.py Reactor.turn",
    ),
    "sent": Caption(
        WRITE_ALL, ("output", "outbound"), "The server sends {detail} of it, to {who}",
        "One send hands the write buffer to the kernel, which takes all of it. It is sent at "
        "once, without asking first whether the socket is writable: it nearly always is.",
        "connection.py Connection._send",
    ),
    "sent: in part": Caption(
        WRITE_ALL, ("output", "outbound"), "The kernel takes only {detail}",
        "The send buffer is full, as the client does not read. A blocking server would stand "
        "still here. This one keeps the rest in its write buffer and turns to the others.",
        "connection.py Connection._send",
    ),
    "sent: nothing": Caption(
        WRITE_ALL, ("output",), "The kernel takes nothing",
        "The send buffer is full. The reply stays in the write buffer.",
        "connection.py Connection._send",
    ),
    "talking": Caption(
        WRITE_ALL, ("output",), "From listening to talking: {who}",
        "There is more to say than could be sent in this turn. So the selector is told to watch "
        "this socket for room to write, and no more for input: a client that does not read is "
        "not listened to.",
        "connection.py Connection._on_commit",
    ),
    "listening": Caption(
        WRITE_ALL, ("input",), "From talking to listening: {who}",
        "All is said. The selector watches this socket for input again. This is derived from the "
        "buffers after each turn, not kept in a flag that could be wrong.",
        "connection.py Connection._on_commit",
    ),
    "dropped": Caption(
        READ_ALL, ("input",), "An unfinished line is dropped",
        "Its end will never come. To run it would be wrong: what looks like a whole put may be "
        "the front of a longer timestamp.",
        "session.py Session.receive",
    ),
    "closed": Caption(
        WRITE_ALL, ("client",), "{who} is closed: {detail}",
        "All that it was owed has been sent. The selector forgets the socket first, then it is "
        "closed: in the other order its number could already be another client's.",
        "connection.py Connection.close",
    ),
}  # fmt: skip
