"""Mutations: lines taken out of the real code, or turned into others, which a run has to find.

Owns the list. A mutation names a line by its text; if that is not there once, it fails, instead of
showing something else.
"""

import contextlib
import sys
from typing import Any, Iterator, NamedTuple
from unittest import mock

from removal import without

from metricsd import upkeep
from metricsd.durable import store
from metricsd.durable.checkpoint import Saved
from metricsd.durable.database import Database
from metricsd.durable.gathering import Gathering
from metricsd.durable.reading import Reader
from metricsd.durable.store import DurableStore
from metricsd.durable.wal import Wal
from metricsd.graphite import DatagramFeed, Intake
from metricsd.loop import Connection, Datagrams, Listener, Reactor, Watch, Worker
from metricsd.loop.delivery import Delivery
from metricsd.loop.timers import Timers
from metricsd.loop.waker import Waker
from metricsd.protocol import Session, batch
from metricsd.protocol.batch import TurnBatch
from metricsd.protocol.lines import LineBuffer
from metricsd.protocol.outcomes import Outcomes
from metricsd.protocol.replies import KeptReplies
from metricsd.server import Server
from metricsd.store import Memory, Series, dropping


class Mutation(NamedTuple):
    """A piece of the text of a method, and what stands there instead."""

    name: str
    owner: Any
    method: str
    text: str
    instead: str = "pass"

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """The code is so in this block. Ends the program with one line if it does not fit."""
        try:
            found = getattr(self.owner, self.method)
            function: Any = found.fget if isinstance(found, property) else found
            changed: Any = without(function, self.text, self.instead)
        except (AttributeError, SyntaxError, ValueError) as error:
            sys.exit(f"the mutation {self.name!r} is to be written anew: {error}")
        with mock.patch.object(self.owner, self.method, changed):
            yield


STORE_FIRST = """if self._written:
        self._store_written()  # first: who is told goes on, and may put
    waits = len(self._chunks) > self._written and not self._writing
    if waits and self.log_bytes < WAIT_FROM * LOG_BYTES:
        self._commit_soon()
"""
HEADER_PADDED = """head = head.ljust(HEADER.size, b"\\0")  # a full disk may have cut it short
    magic, _, self._page_size, _, _, _, *self._sums = HEADER.unpack(head)"""
HEADER_AS_IT_IS = """magic, _, self._page_size, _, _, _, *self._sums = HEADER.unpack(
        head.ljust(HEADER.size, b"\\0")
    )"""
COMMIT_FIRST = """waits = len(self._chunks) > self._written and not self._writing
    if waits and self.log_bytes < WAIT_FROM * LOG_BYTES:
        self._commit_soon()
    if self._written:
        self._store_written()
"""

MUTATIONS = [
    Mutation("a stale event", Watch, "forget", "self.callback = None"),
    Mutation("a wake that is lost", Waker, "call", "self.wake()"),
    Mutation("a call that is lost", Waker, "on_wake", "self._posted.popleft()()",
             "self._posted.popleft()(); self._posted.clear(); break"),
    Mutation("a timer that outlives its socket", Connection, "close", "self._timer.cancel()"),
    Mutation("the end of input is a close", Connection, "_receive_more_or_less",
             "self._input_ended = True", "return self.close()"),
    Mutation("watched while it waits", Connection, "_on_ready_while_waiting",
             "self._watch.forget()"),
    Mutation("never watched again", Connection, "_on_answered",
             "if self._watch.callback is None:", "if False:"),
    Mutation("a rest that is not sent", Connection, "answer", "said = self._outbox + said"),
    Mutation("listens while it talks", Connection, "_wait_for_next",
             "if self._outbox or (session", "if (session"),
    Mutation("a stop that cuts off", Delivery, "_look",
             "if undelivered(self._socket) and not lost:", "if False:"),
    Mutation("no pause without descriptors", Listener, "_pause", "self._stop_watching()"),
    Mutation("no room again", Server, "_on_close", "listener.resume()"),
    Mutation("answers made again", Reactor, "turn", "self.to_answer.clear()"),
    Mutation("a timer that is late", Timers, "run", "self._heap[0][0] <= now",
             "self._heap[0][0] <= now - 2.0"),
    Mutation("a get before its put is settled", Session, "_step",
             'held = not line.startswith(b"put ") and self._outcomes.pending()', "held = False"),
    Mutation("a session that does not wait", Session, "replies",
             "self.waiting = bool(self._outcomes)"),
    Mutation("replies without end", Session, "go_on", "while self._outcomes.room > 0:",
             "while True:"),
    Mutation("a reply given twice", Outcomes, "take_words", "del queue[: len(said)]"),
    Mutation("a block that runs twice", TurnBatch, "run",
             "self.putters, self.arrivals = [], []"),
    Mutation("a line without its beginning", LineBuffer, "feed", "self._buffer += data",
             "self._buffer = bytearray(data)"),
    Mutation("a store without a limit", Memory, "put", 'raise StoreError("store is full")'),
    Mutation("a receipt settled twice", DurableStore, "_fail",
             "refused = [self._chunks.pop() for _ in range(waiting)]",
             "refused = list(self._chunks)[-waiting:]"),
    Mutation("a pending put that is seen", DurableStore, "put_many",
             "self._take_room(len(keys))",
             "self._take_room(len(keys)); Mirror.put_many(self, keys, values, timestamps)"),
    Mutation("a commit that waits for nobody", Gathering, "is_early",
             "self._reactor.call_later(0.0 if self._hasty else WAIT_SECONDS, nothing)"),
    Mutation("no sync each second", DurableStore, "_on_commit",
             "self._sync_soon()"),
    Mutation("a log row dropped on a failed commit", Database, "_care",
             "self._suspect = True\n        raise", "self._suspect = True"),
    Mutation("a number of the log used twice", Database, "write",
             "self.saved.last_logged = chunk.number = number", "chunk.number = number"),
    Mutation("a checkpoint that covers new rows", Database, "save", "step.about.row()",
             "step.about._replace(logged=self.saved.last_logged).row()"),
    Mutation("a checkpoint that leaves a series out", Saved, "add",
             "step.kept[key] = ", "step.rows = step.rows[1:]; step.kept[key] = "),
    Mutation("a start that forgets what to save", Reader, "_run_log",
             "self.saved.changed.update(dict.fromkeys(keys))"),
    # Those of a second look, which the world had to be made stricter for, half of them.
    Mutation("idle though it is active", Connection, "_on_readable",
             "self.last_active = self._reactor.now"),
    Mutation("a stranger who may stay", Connection, "_wait_for_next",
             "self._input_ended or session.over", "self._input_ended"),
    Mutation("a stop without an end", Connection, "end_input", "self._ending = True"),
    Mutation("clients dropped at a stop", Server, "_finish", "listener.accept_waiting()"),
    Mutation("more clients than may be", Listener, "_accept", "if not self._has_room():",
             "if False:"),
    Mutation("a delivery that is not cancelled", Delivery, "cancel", "self._timer.cancel()"),
    Mutation("the first receipt for all", Outcomes, "pending", "self._receipts[-1].settled",
             "self._receipts[0].settled"),
    Mutation("replies out of order", Outcomes, "take_words", "break", "continue"),
    Mutation("a short way while it waits", Session, "replies",
             "self.unfinished or self.waiting or self.over", "self.unfinished or self.over"),
    Mutation("the rest of a block dropped", Session, "_step",
             "self._put_off(lines_behind(block, taken))"),
    Mutation("room never given back", DurableStore, "_fail", "self._take_room(-len(chunk.values))"),
    Mutation("a commit that is not counted", DurableStore, "_on_commit", "self.commits += 1"),
    Mutation("a failure that is not counted", DurableStore, "_fail", "self.commit_failures += 1"),
    Mutation("a client whose socket blocks", Listener, "_hand_on", "client.setblocking(False)"),
    Mutation("refused, and nobody is told", DurableStore, "_fail",
             "chunk.receipt.settle(self._refusal)"),
    Mutation("what was put is not saved", DurableStore, "_store_some",
             "self._saved.changed.update(chunk.names)"),
    Mutation("a log that stays full", DurableStore, "_save", "self.log_bytes -= size"),
    Mutation("one checkpoint and no more", DurableStore, "_save", "self._checkpoint = None"),
    Mutation("one sync and no more", DurableStore, "_on_sync", "self._sync_due = False"),
    Mutation("a failed checkpoint that forgets", store, "checkpoint",
             "saved.changed = changed"),
    Mutation("lines dropped behind a bad one", Intake, "_run_gathered",
             "self._blocks.append((block, now))"),
    Mutation("lines left that nobody goes on with", Intake, "_look_further", "self._wake()"),
    Mutation("datagrams that nobody reads", Datagrams, "answer", "self.resume()"),
    Mutation("a datagram without its end", DatagramFeed, "receive", 'else data + b"\\n"',
             "else data"),
    # Those of a third look, each of another kind.
    Mutation("once a turn only if somebody is ready", Reactor, "turn",
             "for callback in self.once_a_turn:",
             "for callback in self.once_a_turn if ready else ():"),
    Mutation("an interest that is not noted", Watch, "change", "self.events = events"),
    Mutation("a failure in the thread that is lost", Worker, "call", "exception = error"),
    Mutation("paused for ever", Listener, "_pause",
             "self._timer = self._reactor.call_later(seconds, self.resume)"),
    Mutation("makes more while it talks", Connection, "_on_writable",
             "if not self._outbox and self.session.unfinished:", "if self.session.unfinished:"),
    Mutation("a stranger hung up on at once", Connection, "_end", "self._lingering = True",
             "return self.close()"),
    Mutation("idle though not listened to", Connection, "idle", "self._listening and ", ""),
    Mutation("a stranger may linger for ever", Connection, "_end",
             "self._timer = self._reactor.call_later(LINGER_SECONDS, self.close)"),
    Mutation("a first line for ever", Session, "_run_line",
             "first, self._first_line = self._first_line, False", "first = self._first_line"),
    Mutation("a block that is not all puts", batch, "put_block", "len(words) != 4 * count",
             "False"),
    Mutation("a reply that was kept", KeptReplies, "reply", "kept.changes == series.changes",
             "True"),
    Mutation("a reply of another series", KeptReplies, "reply", "kept.series is series", "True"),
    Mutation("late points change nothing", Series, "_put_elsewhere", "self.changes += 1"),
    Mutation("room for what was overwritten", Memory, "put_many",
             "self.room -= taken - overwritten", "self.room -= taken"),
    Mutation("a key dropped and still listed", dropping, "_remove",
             "table.keys_in_order.remove(series.number)"),
    Mutation("nothing is too old", upkeep, "drop_old",
             "drop_before(too_old(wall_clock(), seconds))", "()"),
    Mutation("idle whatever is pending", upkeep, "close_idle", "and connection.idle", ""),
    Mutation("never idle", upkeep, "_close_if", "connection.close()"),
    Mutation("late points each begin a task", upkeep, "begin", "if task.ended:", "if True:"),
    Mutation("a stop that does not wait", Server, "_finish",
             "deadline = self._clock() + STOP_SECONDS", "deadline = self._clock()"),
    Mutation("the store is not closed", Server, "close", "self._store.close()"),
    Mutation("a commit that is not synced", Database, "__init__",
             'f"PRAGMA synchronous = {SYNCHRONOUS[saved.about.fsync]}"',
             '"PRAGMA synchronous = NORMAL"'),
    Mutation("a drop that is not run again", Reader, "_run_log",
             'self.memory.drop(names.decode().split("\\n"))'),
    Mutation("log rows dropped too early", Database, "save", "(step.about.logged,)",
             "(self.saved.last_logged,)"),
    # Those of a fourth look, as an outsider would choose them.
    Mutation("gone is a reason to pause", Listener, "_accept", "if error.errno in GONE:",
             "if False:"),
    Mutation("puts not counted", TurnBatch, "_store", "self._counts.puts += taken"),
    Mutation("first puts not counted", Session, "_step", "self._counts.puts += taken"),
    Mutation("whose lines are done", TurnBatch, "_tell", "taken -= done"),
    Mutation("half of a block twice", TurnBatch, "_store",
             "self._store(putters[half:], arrivals[half:])",
             "self._store(putters[:half], arrivals[:half])"),
    Mutation("a log that is not measured", DurableStore, "_on_commit",
             "self.log_bytes += self._chunks[self._written].size"),
    Mutation("stored bytes not counted", DurableStore, "_store_some",
             "self._stored_bytes += chunk.size"),
    Mutation("a new point that stays new", DurableStore, "_store_some",
             "self._new.difference_update(zip(keys[:taken], timestamps))"),
    Mutation("room for what was dropped", DurableStore, "_lose", "self._new = None"),
    Mutation("a chunk for more that is gone", DurableStore, "_gather", "self._chunk = None"),
    Mutation("nobody is waited for again", Gathering, "committed", "self._until = None"),
    # Those of a fifth look: what is not wrong, but without a bound, or for nothing.
    Mutation("full for what is there", DurableStore, "_find_room",
             "if more and self.room", "if self.room"),
    Mutation("puts that wait without end", DurableStore, "put_many",
             "keys, values, timestamps = keys[:1], values[:1], timestamps[:1]"),
    Mutation("a commit without end", DurableStore, "put_many",
             "chunk is None or len(chunk.keys) >= CHUNK_PUTS", "chunk is None"),
    Mutation("a commit for each", DurableStore, "put_many", "self._chunk = chunk"),
    Mutation("puts that the store does not count", DurableStore, "put_many",
             "self.puts += len(keys)"),
    Mutation("a trouble that is not over", DurableStore, "_on_commit", 'self.trouble = ""'),
    Mutation("all stored in one turn", DurableStore, "_store_written",
             "if time.perf_counter() > until:", "if False:"),
    Mutation("a log that is not dropped", DurableStore, "_store_some",
             "self._stored = chunk.number"),
    Mutation("a row that is not measured", Database, "write", "chunk.size = size_of(row)"),
    Mutation("a checkpoint all at once", store, "checkpoint", "if len(step.rows) >= STEP_ROWS:",
             "if False:"),
    Mutation("a failed checkpoint that forgets the newest", store, "checkpoint",
             "changed.update(saved.changed)"),
    # What runs have found in the server itself, done again.
    Mutation("a second answer in a turn", Connection, "_on_answered",
             "if self._outbox or self._socket.fileno() < 0:", "if self._socket.fileno() < 0:"),
    Mutation("a commit begun before what is written is stored", DurableStore, "_once_a_turn",
             STORE_FIRST, COMMIT_FIRST),
    Mutation("a stop that ends a line", Connection, "_receive_more_or_less",
             "if data or not self._ending:", "if True:"),
    Mutation("a WAL cut short in its header", Wal, "__init__",
             HEADER_PADDED, HEADER_AS_IT_IS),
    Mutation("a WAL that is a header and no more", Wal, "damage", "self.size > HEADER.size",
             "self.size > 0"),
]  # fmt: skip
