"""The protocol at its plainest: what each line has to be answered with, one line at a time.

Written from PROTOCOL.md's words, with nothing taken from the package: tests hold the two together.
Blank lines and HTTP are about streams, not lines, and are not modelled.
"""

from typing import Dict

from metricsd.store import Store

WRONG = b"error\nwrong command\n\n"


class Model:
    def __init__(self, max_line_bytes: int = 64 * 1024) -> None:
        self.max_line_bytes = max_line_bytes
        self.metrics: Dict[str, Dict[int, float]] = {}

    def answer(self, line: bytes) -> bytes:
        """The reply to one line, given without its line feed; b"" for a blank one."""
        try:
            if len(line) > self.max_line_bytes:
                return WRONG
            words = line.decode("utf-8").split()
            if not words:
                return b""
            if words[0] == "put":
                _, key, value, timestamp = words
                if len(timestamp) > 4300:
                    return WRONG  # as int() itself says, from Python 3.7 on
                self._put(key, float(value), int(timestamp))
                return b"ok\n\n"
            if words[0] == "get":
                _, key = words
                return b"ok\n" + self._rows(key) + b"\n"
        except ValueError:
            pass
        return WRONG

    def stream(self, data: bytes) -> bytes:
        """The replies to all whole lines of a stream."""
        return b"".join(self.answer(line) for line in data.split(b"\n")[:-1])

    def _put(self, key: str, value: float, timestamp: int) -> None:
        if not -(2**63) <= timestamp < 2**63:
            raise ValueError
        self.metrics.setdefault(key, {})[timestamp] = value

    def _rows(self, key: str) -> bytes:
        keys = self.metrics if key == "*" else [key] if key in self.metrics else []
        rows = ""
        for name in keys:
            for timestamp, value in sorted(self.metrics[name].items()):
                rows += f"{name} {value!r} {timestamp}\n"
        return rows.encode()


def points(store: Store) -> Dict[str, Dict[int, float]]:
    """Everything in a store, as the model has it."""
    found: Dict[str, Dict[int, float]] = {}
    for key, series in store.items():
        done = -(2**63) - 1
        found[key] = {}
        while done < series.newest:
            columns, done = series.after(done)
            found[key].update(zip(*columns))
    return found
