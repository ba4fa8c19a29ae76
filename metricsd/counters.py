"""The counters: what a server can tell of itself, as one table.

Owns their names, which are as Prometheus wants them, and what each is read from: plain attributes
of the parts that count. Nothing is counted here, and nothing is added up before somebody asks.
"""

import logging
from operator import attrgetter
from typing import (
    Any,
    Callable,
    Dict,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Union,
)

logger = logging.getLogger("metricsd")

COUNTER = "counter"  # it only grows while a server runs
GAUGE = "gauge"  # it goes up and down

Number = float  # or a whole number
# What a part says: a number, or numbers by what they are told apart by; None if there is none.
Reading = Union[Number, Mapping[str, Number], None]
Reader = Callable[[Any], Reading]
Sample = Tuple[Dict[str, str], Number]  # its labels, and the value
Counted = Tuple[str, str, str, List[Sample]]  # name, kind, help


class Row(NamedTuple):
    """One counter, and how each part that has to do with it is read."""

    name: str
    kind: str
    help: str
    readers: Dict[str, Reader]  # by the name of the part; what they say is added up
    label: str = ""  # what its numbers are told apart by


def _if_any(name: str) -> Reader:
    """Read what only some stores have."""
    return lambda part: getattr(part, name, None)


def _accepted(listeners: Mapping[str, Any]) -> Reading:
    counts = {name: getattr(one, "accepted", None) for name, one in listeners.items()}
    return {name: count for name, count in counts.items() if count is not None}


def _paused(listeners: Mapping[str, Any]) -> Reading:
    found: Dict[str, Number] = {}
    for listener in listeners.values():
        for reason, count in getattr(listener, "paused", {}).items():
            found[reason] = found.get(reason, 0) + count
    return found


def _datagrams(listeners: Mapping[str, Any]) -> Reading:
    counts = {name: getattr(one, "received", None) for name, one in listeners.items()}
    return {name: count for name, count in counts.items() if count is not None}


ROWS = (
    Row("metricsd_connections", GAUGE, "Connections that are open.", {"connections": len}),
    Row("metricsd_connections_limit", GAUGE, "Connections that may be open.",
        {"options": attrgetter("max_connections")}),
    Row("metricsd_connections_total", COUNTER, "Connections accepted.",
        {"listeners": _accepted}, "endpoint"),
    Row("metricsd_connections_refused_total", COUNTER, "Connections ended at their beginning.",
        {"counts": lambda counts: {"stranger": counts.strangers},
         "tls": lambda tls: {"tls": tls.refused},
         "intake": lambda intake: {"stranger": intake.strangers}}, "reason"),
    Row("metricsd_tls_handshakes_total", COUNTER, "TLS handshakes that came to an end.",
        {"tls": attrgetter("shaken")}),
    Row("metricsd_accept_pauses_total", COUNTER, "Times when new connections had to wait.",
        {"listeners": _paused}, "reason"),
    Row("metricsd_received_bytes_total", COUNTER, "Bytes that clients have sent.",
        {"counts": lambda counts: {"put": counts.bytes_in},
         "intake": lambda intake: {"graphite": intake.bytes_in}}, "endpoint"),
    Row("metricsd_sent_bytes_total", COUNTER, "Bytes of replies.",
        {"counts": lambda counts: {"put": counts.bytes_out}}, "endpoint"),
    Row("metricsd_datagrams_total", COUNTER, "Datagrams received.",
        {"listeners": _datagrams}, "endpoint"),
    Row("metricsd_requests_total", COUNTER, "Requests; wrong are those that are no commands.",
        {"counts": lambda counts: {"put": counts.puts + counts.refused, "get": counts.gets,
                                   "wrong": counts.wrong}}, "command"),
    Row("metricsd_points_put_total", COUNTER, "Points that have come, also those then refused.",
        {"counts": lambda counts: {"put": counts.puts + counts.refused},
         "intake": lambda intake: {
             "graphite": intake.points + intake.refused_full + intake.refused_failed}},
        "endpoint"),
    Row("metricsd_points_refused_total", COUNTER, "Points not stored: no room, or no disk.",
        {"counts": lambda counts: {"full": counts.refused},
         "intake": lambda intake: {"full": intake.refused_full},
         "store": lambda store: {"failed": getattr(store, "refused_puts", 0)}}, "reason"),
    Row("metricsd_lines_dropped_total", COUNTER, "Lines of Graphite that gave no point.",
        {"intake": lambda intake: {"bad": intake.bad_lines, "not_finite": intake.not_finite}},
        "reason"),
    Row("metricsd_points", GAUGE, "Points that are stored.", {"store": _if_any("points")}),
    Row("metricsd_points_limit", GAUGE, "Points that may be stored.",
        {"options": attrgetter("max_points")}),
    Row("metricsd_series", GAUGE, "Keys that have points.", {"store": _if_any("series")}),
    Row("metricsd_points_dropped_total", COUNTER, "Points dropped for their age.",
        {"store": _if_any("dropped")}),
    Row("metricsd_store_file_bytes", GAUGE, "Size of the file of the store, and of its log.",
        {"store": _if_any("file_bytes")}),
    Row("metricsd_commits_total", COUNTER, "Commits to the file.", {"store": _if_any("commits")}),
    Row("metricsd_commit_seconds_total", COUNTER, "Seconds that commits have taken.",
        {"store": _if_any("commit_seconds")}),
    Row("metricsd_commit_failures_total", COUNTER, "Commits, syncs and checkpoints that failed.",
        {"store": _if_any("commit_failures")}),
    Row("metricsd_loop_turns_total", COUNTER, "Turns of the loop.",
        {"reactor": attrgetter("turns")}),
    Row("metricsd_loop_busy_seconds_total", COUNTER, "Seconds that turns took, without waiting.",
        {"reactor": attrgetter("busy_seconds")}),
    Row("metricsd_loop_longest_turn_seconds", GAUGE, "Seconds of the longest turn so far.",
        {"reactor": attrgetter("longest_turn")}),
)  # fmt: skip


class Counters:
    """All counters of one server: to walk through them is to read them."""

    def __init__(self, rows: Sequence[Row] = ROWS) -> None:
        self._rows = rows
        self._parts: Dict[str, Any] = {}

    def add(self, **parts: Any) -> None:
        """Read these parts as well, under the names by which the table knows them."""
        self._parts.update(parts)

    def __iter__(self) -> Iterator[Counted]:
        """Yield name, kind, help and samples of each that a part has something to say to."""
        for row in self._rows:
            samples = self._samples(row)
            if samples:
                yield row.name, row.kind, row.help, samples

    def value(self, name: str) -> Optional[Number]:
        """The number of one that has no labels; None if there is none."""
        found = [samples[0][1] for named, _, _, samples in self if named == name]
        return found[0] if found else None

    def log(self) -> None:
        """Write them to the log, a line each."""
        for name, _, _, samples in self:
            for labels, value in samples:
                logger.info("%s", text_of(name, labels, value))

    def _samples(self, row: Row) -> List[Sample]:
        found: Dict[Optional[str], Number] = {}
        for part, reader in row.readers.items():
            reading = reader(self._parts[part]) if part in self._parts else None
            if reading is not None:
                numbers = reading if isinstance(reading, Mapping) else {None: reading}
                for key, number in numbers.items():
                    found[key] = found.get(key, 0) + number
        return [({} if key is None else {row.label: key}, found[key]) for key in found]


def text_of(name: str, labels: Mapping[str, str], value: Number) -> str:
    """A sample as Prometheus reads it: ``name{label="of it"} value``."""
    pairs = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{pairs}}} {value!r}" if pairs else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
