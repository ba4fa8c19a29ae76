"""The store and the commands as most people write them: a dict for each key, sorted on each get."""

from typing import Dict, List

OK = "ok\n\n"
WRONG_COMMAND = "error\nwrong command\n\n"


class PlainStore:
    """Answers one line at a time."""

    def __init__(self) -> None:
        self.metrics: Dict[str, Dict[int, float]] = {}

    def answer(self, line: str) -> str:
        """Run one request and return its reply."""
        words = line.split()
        try:
            if words[0] == "put":
                _, key, value, timestamp = words
                self.metrics.setdefault(key, {})[int(timestamp)] = float(value)
                return OK
            if words[0] == "get":
                _, key = words
                return self._rows(key)
        except (ValueError, IndexError):
            pass
        return WRONG_COMMAND

    def _rows(self, key: str) -> str:
        keys = list(self.metrics) if key == "*" else [key]
        rows: List[str] = []
        for name in keys:
            for timestamp, value in sorted(self.metrics.get(name, {}).items()):
                rows.append(f"{name} {value} {timestamp}\n")
        return "ok\n" + "".join(rows) + "\n"
