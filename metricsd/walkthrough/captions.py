"""Captions: what each step means, in plain words, and which function of which file takes it.

Owns the words. Does not know the session that they are said about.
"""

from typing import Any, Callable, Dict, NamedTuple, Tuple

from metricsd.walkthrough import acts
from metricsd.watch import steps

QUOTED_CHARACTERS = 30  # of what a client sends, or of a key, in a caption

# Functions that more than one caption names.
TURN = "loop/reactor.py Reactor.turn"
SELECT = "loop/reactor.py Reactor._select"
RECEIVE = "loop/connection.py Connection._on_readable"
ANSWER = "loop/connection.py Connection.answer"
SEND = "loop/connection.py Connection.answer"
INTEREST = "loop/connection.py Connection._wait_for_next"
GO_ON = "protocol/session.py Session.go_on"
WAKE = "loop/waker.py Waker.call"
TAKE_LINES = "protocol/lines.py LineBuffer.take"


class Caption(NamedTuple):
    """What is said about a step, and what is lit up meanwhile."""

    path: Tuple[str, ...]  # the lane that bytes leave, and the one they reach; or one lane alone
    title: str
    text: str
    again: str  # instead, where the text has been said before
    code: str  # file and function
    data: bytes = b""  # the bytes that go this way
    spot: str = ""  # the line of that function that this is about begins with it


def caption(happening: Any) -> Caption:
    """The caption of a step or an act."""
    return CAPTIONS[type(happening)](happening)


# What happens outside of the server. The loop sleeps meanwhile.


def _connects(act: acts.Connects) -> Caption:
    return Caption(
        ("client", "inbound"),
        f"{act.client} connects",
        "The kernel completes the connection by itself and puts it into the queue of the listening "
        "socket. The server has not noticed yet.",
        f"Now the queue of the listening socket holds {act.client}.",
        "loop/endpoints.py _open_one",
    )


def _sends(act: acts.Sends) -> Caption:
    return Caption(
        ("client", "inbound"),
        f"{act.client} sends {_bytes(act.data)}",
        "The bytes travel to the server's kernel and wait there, in the receive buffer of this "
        "socket. No line of the server has run yet: the loop sleeps in select.",
        f"{_quoted(act.data)} waits in the kernel of the server.",
        SELECT,
        act.data,
        spot="return poll",
    )


def _reads(act: acts.Reads) -> Caption:
    return Caption(
        ("outbound", "client"),
        f"{act.client} reads {_bytes(act.data)}",
        "The client takes what the kernel has for it. A reply ends with an empty line, so the "
        "client knows that this is all. The loop sleeps again.",
        f"{act.client} takes what the kernel has for it: {_quoted(act.data)}.",
        SELECT,
        act.data,
    )


def _ends(act: acts.Ends) -> Caption:
    return Caption(
        ("client", "inbound"),
        f"{act.client} says that it has no more to send",
        "Half of the connection is closed, as `printf '...' | nc -N` does it. The client can "
        "still read, and wants to: its reply is owed.",
        f"{act.client} can still read, and is owed its reply.",
        RECEIVE,
    )


def _leaves(act: acts.Leaves) -> Caption:
    return Caption(
        ("client", "inbound"),
        f"{act.client} closes its connection",
        "To the server this looks the same: the end of input. It learns of it as of any arrival.",
        f"The server will find the end of input of {act.client}.",
        RECEIVE,
    )


def _fills(act: acts.Fills) -> Caption:
    return Caption(
        ("client", "store"),
        f"{act.client} has put {act.points:,} points",
        f"All as before, so it is not played here. A get of {act.key} will have a long reply.",
        "All as before, so it is not played here.",
        "protocol/batch.py put_block",
    )


def _sleeps(act: acts.Sleeps) -> Caption:
    return Caption(
        (),
        "The loop sleeps",
        f"No socket is ready: {act.client} does not read, so there is no room for the rest of its "
        "reply. The loop neither waits for this client nor asks again and again. It sleeps.",
        f"The loop sleeps until {act.client} has read.",
        SELECT,
        spot="return poll",
    )


def _disk_is_used(act: acts.DiskIsUsed) -> Caption:
    return Caption(
        ("store",),
        "From here on, puts go to a disk first",
        "Memory stores a point at once. A store that is a file answers later: a put is stored "
        "when the disk says so, and not before. Nothing else in the server changes.",
        "A put is stored when the disk says so.",
        "store/interface.py Receipt",
    )


def _disk_has_written(act: acts.DiskHasWritten) -> Caption:
    return Caption(
        ("store",),
        "The disk has written",
        "The store waited for it in a thread of its own, so that the loop did not. The thread "
        "leaves a function to be called in the loop, and wakes it.",
        "The thread of the store wakes the loop.",
        WAKE,
    )


def _disk_has_failed(act: acts.DiskHasFailed) -> Caption:
    return Caption(
        ("store",),
        "The disk is full: nothing was written",
        "Neither client has been told anything yet, so there is nothing to take back. The thread "
        "of the store wakes the loop, as before.",
        "The thread of the store wakes the loop.",
        WAKE,
    )


def _line_is_taken_out(act: acts.LineIsTakenOut) -> Caption:
    return Caption(
        (),
        "Predict: what breaks without this line?",
        "From here on, self.wake() is really missing. One client puts, the disk writes, another "
        "one gets. Who notices, and when? Say it before you go on.",
        "The line that wakes the loop is missing.",
        WAKE,
        spot="self.wake()",
    )


def _disk_is_not_heard(act: acts.DiskIsNotHeard) -> Caption:
    return Caption(
        ("store",),
        "The disk has written, and the loop sleeps on",
        f"The call that would tell {act.client} is in the list. But no byte was sent, no socket is "
        "ready, and so select does not return.",
        f"{act.client} is owed an ok, and the loop sleeps.",
        WAKE,
        spot="self._posted.append",
    )


def _nobody_notices(act: acts.NobodyNotices) -> Caption:
    return Caption(
        (),
        "How would you find that again?",
        f"Others are answered, and any other wake would serve {act.client}. A random test meets "
        "this once. bench/simulate.py takes every choice from a number, which brings it back.",
        f"{act.client} still waits.",
        SELECT,
        spot="return poll",
    )


def _line_is_back(act: acts.LineIsBack) -> Caption:
    return Caption(
        ("store",),
        "The line is back",
        "A byte is sent, so the loop wakes up and makes the call that has waited. A run that has "
        "failed is now played again, by its number.",
        "The loop is woken.",
        WAKE,
        spot="self.wake()",
    )


# What the loop and the listener do.


def _listening(step: steps.Listening) -> Caption:
    return Caption(
        (),
        "The server listens",
        "It has opened a listening socket, told the selector to watch it, and sleeps in one "
        "system call until a socket is ready. Sleeping costs no processor time.",
        "New clients are let in again.",
        "loop/listener.py Listener.resume",
    )


def _paused(step: steps.Paused) -> Caption:
    return Caption(
        (),
        "No more clients for now",
        "There is no room for another client. One that connects waits in the kernel, and the "
        "selector is not asked about it, or the loop would wake up again and again.",
        "New clients wait in the kernel.",
        "loop/listener.py Listener._pause",
    )


def _not_listening(step: steps.NotListening) -> Caption:
    return Caption(
        (), "The server listens no more", "Its listening sockets are closed.",
        "The listening sockets are closed.", "loop/listener.py Listener.close",
    )  # fmt: skip


def _ready(step: steps.Ready) -> Caption:
    names = [ready.who for ready in step.sockets]
    if steps.LISTENER in names:
        return Caption(
            ("inbound",),
            "The loop wakes up: a client is there",
            "The selector has returned. It names the sockets that are ready: here the listening "
            "one. A turn of the loop begins.",
            "The listening socket is ready: somebody waits to be accepted.",
            TURN,
            spot="for watch in ready",
        )
    if steps.WAKER in names:
        return Caption(
            ("store",),
            "The loop wakes up: somebody has called it",
            "A byte has come through a pair of sockets that the loop watches for this purpose. So "
            "another thread can end its sleep, and a signal too.",
            "The thread of the store has called.",
            "loop/waker.py Waker.on_wake",
        )
    return _ready_clients(step)


def _ready_clients(step: steps.Ready) -> Caption:
    first = step.sockets[0]
    if len(step.sockets) > 1:
        names = " and ".join(sorted(ready.who for ready in step.sockets))
        return Caption(
            ("inbound",),
            f"The loop wakes up: {names} are ready",
            f"{len(step.sockets)} sockets are ready in one turn. First all of them are read, then "
            "all are answered, so one client's long reply does not stand before another's request.",
            f"Both have sent something, and both are read before either is answered: {names}.",
            TURN,
            spot="for watch in ready",
        )
    if first.to_write:
        return Caption(
            ("outbound",),
            f"The loop wakes up: {first.who} can be sent more",
            "There is room again in the send buffer of this socket. That is what the loop has been "
            "waiting for on behalf of this client.",
            f"There is room in the send buffer again: turn {step.at.turn} goes on with the reply.",
            TURN,
            spot="for watch in ready",
        )
    return Caption(
        ("inbound",),
        f"The loop wakes up: {first.who} can be read",
        "The selector has returned, and names the sockets that something can be done with at "
        "once. For each of them the loop calls the function that was registered with it.",
        f"Turn {step.at.turn} begins. Only {first.who} is ready, so only its function is called.",
        TURN,
        spot="for watch in ready",
    )


def _timer_due(step: steps.TimerDue) -> Caption:
    return Caption(
        (), "A timer is due", "Its function is called in the first phase of a turn, after those "
        "of the sockets.", "Its function is called.", "loop/timers.py Timers.run",
    )  # fmt: skip


def _stopping(step: steps.Stopping) -> Caption:
    return Caption(
        (), "The server stops", "Nobody is let in any more. What has arrived is answered, then "
        "the connections are closed.", "What has arrived is answered.", "server.py Server._finish",
    )  # fmt: skip


# What is done for a client.


def _opened(step: steps.Opened) -> Caption:
    return Caption(
        ("inbound", "input"),
        f"{step.client} is accepted",
        "accept gives a socket for this client alone. It is made non-blocking, gets a Connection "
        "and a Session of its own, and the selector watches it from now on.",
        f"{step.client} too gets a socket, a Connection and a Session of its own.",
        "server.py Server._accept",
        spot="session = ",
    )


def _received(step: steps.Received) -> Caption:
    return Caption(
        ("inbound", "input"),
        f"The server receives {_bytes(step.data)} from {step.client}",
        "One recv moves what waits in the kernel to the session, at most 16 KiB. Just one: if "
        "there is more, the next turn comes back to it, after everybody else.",
        f"One recv: {_quoted(step.data)} is in the hands of the session of {step.client}.",
        "loop/connection.py Connection._on_readable",
        step.data,
        spot="data = read",
    )


def _peeked(step: steps.Peeked) -> Caption:
    return Caption(
        ("inbound",),
        "A look: more waits",
        "The receive has filled its buffer, so the server looks whether this arrival goes on.",
        f"This arrival of {step.client} goes on.",
        "loop/sockets.py more_waiting",
    )


def _input_ended(step: steps.InputEnded) -> Caption:
    return Caption(
        ("inbound", "input"),
        f"The server receives the end of input from {step.client}",
        "recv returns no bytes at all. That does not mean that the client is gone, only that it "
        "will send no more: what it is owed is still sent.",
        f"recv returns no bytes: {step.client} will send no more.",
        RECEIVE,
    )


def _dropped(step: steps.Dropped) -> Caption:
    return Caption(
        ("input",),
        "An unfinished line is dropped",
        "Its end will never come. To run it would be wrong: what looks like a whole put may be "
        "the front of a longer timestamp.",
        f"The end of {_quoted(step.data)} will never come.",
        "protocol/session.py Session.receive",
        step.data,
    )


def _answered(step: steps.Answered) -> Caption:
    if step.waiting:
        return Caption(
            ("input",),
            f"{step.client}: no reply yet",
            "The store has given a receipt that is open. The session keeps it in the place of a "
            "reply, and puts it into words when it is settled. Nothing is said too early.",
            f"The session of {step.client} has the same receipt, and keeps it as well.",
            "protocol/outcomes.py Outcomes.take_words",
        )
    if step.unfinished:
        return _answered_in_part(step)
    if step.input_left:
        return _answered_up_to_a_piece(step)
    if not step.requests:
        return Caption(
            ("input",),
            f"{step.client}: nothing more to say",
            "The session goes on and finds no further line. All that was asked has been answered.",
            f"All that {step.client} asked has been answered.",
            GO_ON,
        )
    return Caption(
        ("input", "output"),
        f"{step.client}: {_count(step.requests, 'request')} answered",
        "Last phase. Every line that arrived has been run, and what came of each is now put into "
        "words, in the order of the requests. Nothing is left in the read buffer.",
        f"Of what {step.client} has sent, nothing is left. The words are made in the last phase of "
        f"turn {step.at.turn}.",
        "protocol/session.py Session.replies",
    )


def _answered_in_part(step: steps.Answered) -> Caption:
    if step.requests:
        return Caption(
            ("input",),
            f"{step.client}: enough for now",
            "With more than 32 KiB to say the session stops and looks for no further line. It goes "
            "on when this has been sent, so one client can't fill the memory with its replies.",
            f"{step.client} has 32 KiB to read first.",
            GO_ON,
        )
    return Caption(
        ("store",),
        f"{step.client}: a reply is under way",
        "The reply is large, so it is pulled, not pushed: the session makes some 32 KiB of it and "
        "goes on only when these are sent. In between, others have their turns.",
        f"Another 32 KiB or so have been made, by turn {step.at.turn}. The rest can wait.",
        GO_ON,
    )


def _answered_up_to_a_piece(step: steps.Answered) -> Caption:
    if step.requests:
        return Caption(
            ("input",),
            f"{step.client}: {_count(step.requests, 'request')} answered, and a piece is left",
            "Whole lines have been run. What follows the last line feed is the beginning of a "
            "request: it stays in the read buffer until its end arrives.",
            f"{_quoted(step.input_left)} stays until its end arrives.",
            TAKE_LINES,
            step.input_left,
        )
    return Caption(
        ("input",),
        f"{step.client}: not a request yet",
        "There is no line feed, so this is not a request yet. TCP is a stream and may cut it "
        "anywhere; the piece stays in the read buffer until the rest arrives.",
        f"{_quoted(step.input_left)} has no line feed yet.",
        TAKE_LINES,
        step.input_left,
    )


def _queued(step: steps.Queued) -> Caption:
    if step.data.startswith(b"error"):
        return _queued_error(step)
    if not step.data.startswith(b"ok"):
        return Caption(
            ("store", "output"),
            "The next part of the reply is made",
            "It is made only now that the part before it is sent. So a large reply never stands in "
            "memory as a whole, however slowly its client reads.",
            f"And {_bytes(step.data)} more for {step.client}, made in turn {step.at.turn}.",
            ANSWER,
            step.data,
            spot="said = session.replies",
        )
    return Caption(
        ("store", "output"),
        f"The reply to {step.client} is put into the write buffer",
        "Everybody who was ready has been read, and what must be done before anything is said has "
        "been done once for all of them. So the replies may leave now.",
        f"{_quoted(step.data)} is ready to leave for {step.client}.",
        ANSWER,
        step.data,
        spot="said = session.replies",
    )


def _queued_error(step: steps.Queued) -> Caption:
    said = step.data.splitlines()[1:2]
    if said == [b"wrong command"]:
        return Caption(
            ("input", "output"),
            "The reply is an error",
            "There is no such command. The client's mistake is an exception, BadCommand, which the "
            "session turns into a reply. Nothing else happens: the session goes on.",
            f"{step.client} is told of its mistake.",
            "protocol/session.py Session._run_line",
            step.data,
        )
    return Caption(
        ("store", "output"),
        f"{step.client} is told that its put was refused",
        "The words of the refusal are the store's own. The client may send the point again, as it "
        "was told the truth: an ok would have been a promise that nobody keeps.",
        f"{step.client} hears the same: {_quoted(step.data)}.",
        ANSWER,
        step.data,
    )


def _waiting(step: steps.Waiting) -> Caption:
    return Caption(
        ("output",),
        f"{step.client} waits for its receipt",
        "Nothing can be said, so nothing is sent. The connection asks to be called back, and reads "
        "no more from this client until then. Everybody else is served meanwhile.",
        f"{step.client} is called back when the receipt is settled, too.",
        INTEREST,
        spot="session.when_answered",
    )


def _watched(step: steps.Watched) -> Caption:
    if step.again:
        return Caption(
            ("inbound",), f"The selector watches {step.client} again",
            "Its receipt is settled, so it may be read.", f"{step.client} may be read again.",
            "loop/connection.py Connection._on_answered",
        )  # fmt: skip
    return Caption(
        ("inbound",),
        f"The selector forgets {step.client}",
        "It sends while it waits for a receipt. That can wait as well, in the kernel, and need not "
        "wake the loop again.",
        f"What {step.client} sends can wait in the kernel.",
        "loop/connection.py Connection._on_ready_while_waiting",
    )


def _sent(step: steps.Sent) -> Caption:
    if not step.data:
        return Caption(
            ("output",),
            "The kernel takes nothing",
            "The send buffer is full. The reply stays in the write buffer.",
            f"The send buffer of {step.client} is full.",
            SEND,
        )
    if len(step.data) < step.total:
        return Caption(
            ("output", "outbound"),
            f"The kernel takes only {len(step.data):,} of {step.total:,} bytes",
            "The send buffer is full, as the client does not read. A blocking server would stand "
            "still here. This one keeps the rest in its write buffer and turns to the others.",
            f"The send buffer is full again; {step.total - len(step.data):,} bytes have to wait.",
            SEND,
            step.data,
            spot="sent = write",
        )
    return Caption(
        ("output", "outbound"),
        f"The server sends {_bytes(step.data)} to {step.client}",
        "One send hands the write buffer to the kernel, which takes all of it. It is sent at "
        "once, without asking first whether the socket is writable: it nearly always is.",
        f"The kernel takes {_bytes(step.data)}: all that was in the write buffer of {step.client}.",
        SEND,
        step.data,
        spot="sent = write",
    )


def _interest(step: steps.Interest) -> Caption:
    if step.talking:
        return Caption(
            ("output",),
            f"From listening to talking: {step.client}",
            "There is more to say than could be sent in this turn. So the selector is told to "
            "watch this socket for room to write, and no more for input: a client that does not "
            "read is not listened to.",
            f"{step.client} is not listened to until it has read its reply.",
            INTEREST,
            spot="self._watch.change(WRITE",
        )
    return Caption(
        ("input",),
        f"From talking to listening: {step.client}",
        "All is said. The selector watches this socket for input again. This is derived from the "
        "buffers after each turn, not kept in a flag that could be wrong.",
        f"All is said, so {step.client} is listened to again.",
        INTEREST,
        spot="self._watch.change(READ, self._on_readable",
    )


def _shut(step: steps.Shut) -> Caption:
    return Caption(
        ("output",),
        f"{step.client} is told that this was all",
        "This was no client of ours. It has its error; what it still sends is read and dropped "
        "for a moment, as closing at once could lose the error on its way.",
        f"{step.client} is sent no more.",
        "loop/connection.py Connection._end",
    )


def _closed(step: steps.Closed) -> Caption:
    return Caption(
        ("client",),
        f"{step.client} is closed: {CAUSES[step.cause]}",
        "All that it was owed has been sent. The selector forgets the socket first, then it is "
        "closed: in the other order its number could already be another client's.",
        f"The selector forgets the socket of {step.client}, then it is closed.",
        "loop/connection.py Connection.close",
        spot="self._watch.forget",
    )


CAUSES = {
    steps.Cause.INPUT_ENDED: "it has no more to send",
    steps.Cause.OVER: "it speaks another protocol",
    steps.Cause.STOPPING: "the server stops",
    steps.Cause.IDLE: "it has been silent for too long",
    steps.Cause.FAILED: "it failed",
    steps.Cause.SERVER_CLOSED: "the server ends",
}


# What the store does.


def _put(step: steps.Put) -> Caption:
    number = len(step.points)
    rows = "".join(f"{key} {value!r} {timestamp}\n" for key, value, timestamp in step.points)
    if not step.stored:
        return _put_not_stored(step, rows.encode())
    if step.at.phase is steps.Phase.COMMIT:
        return Caption(
            ("input", "store"),
            f"Once for all: {_count(number, 'point')} stored",
            "Whole lines that look like puts are not run while clients are read. Those of all "
            "clients in a turn are gathered, then split, converted and stored as one block.",
            f"The puts of this turn are run as one block: {_count(number, 'point')}.",
            "protocol/batch.py TurnBatch._store",
            rows.encode(),
            spot="taken, left, receipt",
        )
    if number > 1:
        return Caption(
            ("input", "store"),
            f"{number} points are stored, as one block",
            "These lines arrived together and are all puts, so they are split, converted and "
            "stored as one block, with most of the work done in C.",
            "Again as one block.",
            "protocol/batch.py put_block",
            rows.encode(),
        )
    return Caption(
        ("input", "store"),
        "One point is stored",
        "The line is split, its value becomes a float, its timestamp an int, and the point goes "
        "into the series of its key.",
        f"{_quoted(rows.encode())}: the point is in the series of its key.",
        "protocol/batch.py put_block",
        rows.encode(),
    )


def _put_not_stored(step: steps.Put, rows: bytes) -> Caption:
    number = len(step.points)
    return Caption(
        ("input", "store"),
        f"The store takes {_count(number, 'point')}, and a receipt is open",
        "The line is split and converted as ever. But the point is only on its way to the disk: no "
        "get finds it yet, and the store has not said that it is safe.",
        f"The puts of all clients in this turn are one block: {number} points and one receipt.",
        "protocol/batch.py TurnBatch._store",
        rows,
    )


def _committed(step: steps.Committed) -> Caption:
    return Caption(
        ("store",),
        "The turn is committed, once for all clients",
        "What must be done before anything may be said begins here: whatever was put in this turn, "
        "by however many clients, the disk is asked to write once.",
        f"One write for {_count(step.points, 'point')}, whoever has put them.",
        TURN,
        spot="for callback in self.once_a_turn",
    )


def _settled(step: steps.Settled) -> Caption:
    if step.refusal is None:
        return Caption(
            ("store",),
            f"The receipt is settled: {_count(step.points, 'point')} stored",
            "Now a get finds the point. Whoever has waited for this receipt is called back, and "
            "says in the last phase of this turn what there is to say.",
            "Whoever has waited is called back.",
            "store/interface.py Receipt.settle",
            spot="for callback in callbacks",
        )
    return Caption(
        ("store",),
        f"The receipt is settled: {_count(step.points, 'point')} refused",
        "The receipt now holds the reason. The points are gone, and no get has ever seen them. "
        "All who waited for this receipt are called back.",
        "The receipt holds the reason.",
        "store/interface.py Receipt.settle",
    )


def _refused(step: steps.Refused) -> Caption:
    return Caption(
        ("store",), "The store refuses the point", "There is no room for it. The session turns the "
        "refusal into a reply.", "There is no room for it.", "store/memory.py Memory.put",
    )  # fmt: skip


def _found(step: steps.Found) -> Caption:
    found = "nothing" if step.points is None else _count(step.points, "point")
    key = step.key[:QUOTED_CHARACTERS]
    return Caption(
        ("store", "output"),
        f"The store finds {found} of {key}",
        "The table of commands says which function answers a get. It reads the series and writes "
        "its points as rows, sorted by timestamp.",
        f"The series of {key} becomes rows, one for each of its points ({found}).",
        "protocol/commands.py get",
    )


def _found_all(step: steps.FoundAll) -> Caption:
    return Caption(
        ("store", "output"),
        "The store is asked for every series",
        "The reply will be as long as all that is stored. So it is not made now: the function "
        "returns an iterator, and the session takes from it a piece at a time.",
        "The reply will be made a piece at a time.",
        "protocol/commands.py get",
    )


CAPTIONS: Dict[type, Callable[[Any], Caption]] = {
    acts.Connects: _connects,
    acts.Sends: _sends,
    acts.Reads: _reads,
    acts.Ends: _ends,
    acts.Leaves: _leaves,
    acts.Fills: _fills,
    acts.Sleeps: _sleeps,
    acts.DiskIsUsed: _disk_is_used,
    acts.DiskHasWritten: _disk_has_written,
    acts.DiskHasFailed: _disk_has_failed,
    acts.LineIsTakenOut: _line_is_taken_out,
    acts.DiskIsNotHeard: _disk_is_not_heard,
    acts.NobodyNotices: _nobody_notices,
    acts.LineIsBack: _line_is_back,
    steps.Listening: _listening,
    steps.Paused: _paused,
    steps.NotListening: _not_listening,
    steps.Ready: _ready,
    steps.TimerDue: _timer_due,
    steps.Stopping: _stopping,
    steps.Opened: _opened,
    steps.Received: _received,
    steps.Peeked: _peeked,
    steps.InputEnded: _input_ended,
    steps.Dropped: _dropped,
    steps.Put: _put,
    steps.Committed: _committed,
    steps.Settled: _settled,
    steps.Refused: _refused,
    steps.Found: _found,
    steps.FoundAll: _found_all,
    steps.Answered: _answered,
    steps.Queued: _queued,
    steps.Waiting: _waiting,
    steps.Watched: _watched,
    steps.Sent: _sent,
    steps.Interest: _interest,
    steps.Shut: _shut,
    steps.Closed: _closed,
}


def _bytes(data: bytes) -> str:
    return _count(len(data), "byte")


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _quoted(data: bytes) -> str:
    """The beginning of some bytes, on one line."""
    text = data.decode("utf-8", "replace").replace("\n", "↵")
    return f"“{text}”" if len(text) <= QUOTED_CHARACTERS else f"“{text[:QUOTED_CHARACTERS]}…”"
