"""The log: seen also where logging was not set up, and not flooded.

Owns the one filter on the package's logger. A message that may repeat thousands of times says so,
with REPEATS, and is then told once a minute.
"""

import contextlib
import logging
from typing import Any, Dict, Iterator

# Seconds between two lines with the same words (their arguments may differ).
LOG_SECONDS = 60.0

# For the argument ``extra`` of a logging call.
REPEATS: Dict[str, Any] = {"repeats": True}


class OncePerMinute(logging.Filter):
    """Drops a message that repeats, until LOG_SECONDS after it was last let through."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Dict[str, float] = {}  # by the words: when it was let through, in seconds

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be logged."""
        if not getattr(record, "repeats", False):
            return True
        last = self.last.get(str(record.msg))
        if last is not None and last <= record.created < last + LOG_SECONDS:
            return False
        self.last[str(record.msg)] = record.created
        return True


logger = logging.getLogger("metricsd")
once_per_minute = OncePerMinute()
logger.addFilter(once_per_minute)


@contextlib.contextmanager
def log_shown() -> Iterator[None]:
    """Show the log on standard error, if nobody has set up logging."""
    if logger.hasHandlers():
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("metricsd %(levelname)s: %(message)s"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
