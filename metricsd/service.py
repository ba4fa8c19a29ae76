"""The service: what a server tells, in the log, to whoever runs it.

Owns the lines about its store and the next step, at the start, and those about what is refused.
Does not count, and does not decide what is refused.
"""

import logging
from typing import Any, Dict, Iterable, Iterator, Optional, Tuple

from metricsd.counters import Counters
from metricsd.loop import REPEATS, Steps, format_address

logger = logging.getLogger("metricsd")

SYNCED = {
    "always": "synced before each reply",
    "everysec": "synced within a second",
    "never": "synced when the system does it",
}

# Seconds between two looks at what has been refused, and from telling of it until the next look:
# a quick answer to who asks why, and no flood. The log lets the same words through once a minute,
# by another clock than the loop's: with a second more than that none is lost.
LOOK_SECONDS = 10.0
QUIET_SECONDS = 61.0

# What is refused, and how its reasons are put.
REFUSALS: Dict[str, str] = {
    "metricsd_points_refused_total": "points",
    "metricsd_lines_dropped_total": "lines",
    "metricsd_connections_refused_total": "connections",
}
REASONS: Dict[str, str] = {
    "full": "as the store is full",
    "failed": "as the disk or the cluster has failed",
    "bad": "that are no lines of Graphite",
    "not_finite": "with values that are not finite",
    "stranger": "of clients that speak HTTP or TLS",
    "tls": "whose TLS handshake has failed",
}


def tell_of_store(options: Any, points: Optional[float]) -> None:
    """Tell where points live, with which policy and limits, and how many there are."""
    most = "any number of them" if options.max_points is None else f"at most {options.max_points}"
    age = options.retention
    kept = "kept for ever" if age is None else f"dropped when older than {age:.10g} s"
    number = "" if points is None else f"{points:.0f} now, "
    logger.info("points are in %s; %s%s, %s", _place(options), number, most, kept)


def tell_next_step(listeners: Iterable[Any]) -> None:
    """Tell a newcomer the one thing to do next."""
    found = {one.endpoint.name: one for one in listeners if one.addresses}
    if "http" in found:
        scheme = "https" if found["http"].endpoint.protection else "http"
        logger.info("next: open %s://%s in a browser", scheme, _reached(found["http"]))
    elif "put" in found and not found["put"].endpoint.protection:
        host, port = found["put"].addresses[0][:2]
        logger.info("next: talk to it in another terminal: nc %s %d", _this_machine(host), port)


def _reached(listener: Any) -> str:
    host, port = listener.addresses[0][:2]
    return format_address(_this_machine(host), port)


def _this_machine(host: str) -> str:
    """An address of this machine that leads there; some stand for every one."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def tell_refusals(counters: Counters) -> Steps:
    """Tell what has been refused since it was last told, and why; at most once a minute."""
    told: Dict[Tuple[str, str], float] = {}
    while True:
        now = dict(_refused(counters))
        new = {key: now[key] - told.get(key, 0) for key in now}
        said = [f"{new[key]:.0f} {key[0]} {REASONS.get(key[1], key[1])}" for key in new if new[key]]
        if said:
            logger.warning("refused since this was last told: %s", ", ".join(said), extra=REPEATS)
        told = now
        yield QUIET_SECONDS if said else LOOK_SECONDS


def _refused(counters: Counters) -> Iterator[Tuple[Tuple[str, str], float]]:
    for name, _, _, samples in counters:
        if name in REFUSALS:
            for labels, count in samples:
                yield (REFUSALS[name], labels["reason"]), count


def _place(options: Any) -> str:
    """Where points live, and how sure that is."""
    kind, _, path = options.store.partition(":")
    if kind == "memory":
        return "memory, which a restart empties"
    if kind == "sqlite":
        return f"{path}, {SYNCED[options.fsync or 'always']}"
    _, _, hosts = path[len("//") :].rpartition("@")  # what comes before is a password
    return f"{kind}://{hosts}"
