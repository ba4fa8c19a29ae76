"""load: puts from a file, many at a time, until the server has stored or refused each.

Owns patience with a server that has no room just now, and telling how far it is.
"""

import contextlib
import sys
import time
from typing import Any, BinaryIO, Callable, Iterator, List, Tuple

from metricsd.client.client import Client, ClientError

# Puts that are on their way at a time, and bytes of them: enough that nobody waits for the network.
BATCH_LINES = 1000
BATCH_BYTES = 256 * 1024

# What a server answers for now: the same put may be stored later.
FOR_NOW = ("store is full", "not stored")

# Seconds until refused puts are tried again, at first and at most; it doubles in between.
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0

PROGRESS_SECONDS = 0.2  # between two lines on a terminal

Numbered = Tuple[int, bytes]  # the number of a line in the file, from 1 on, and the put


def load(client: Client, options: Any) -> int:
    """Store the puts of a file; return 1 if some were refused."""
    with contextlib.ExitStack() as stack:
        file = sys.stdin.buffer
        if options.file is not None:
            file = stack.enter_context(open(options.file, "rb"))
        loading = Loading(client, options.patience, sys.stderr)
        try:
            for batch in batches(file, loading.refuse):
                loading.store(batch)
        except ClientError as error:
            raise ClientError(f"{error}; {loading.stored} points are stored") from None
        finally:
            loading.end()
    return 1 if loading.refused else 0


def batches(file: BinaryIO, refuse: Callable[[int, bytes, str], None]) -> Iterator[List[Numbered]]:
    """The puts of a file, some at a time; lines that are none are refused."""
    batch: List[Numbered] = []
    size = 0
    for number, line in enumerate(file, 1):
        try:
            words = line.decode().split()
        except UnicodeDecodeError:
            refuse(number, line, "not UTF-8")
            continue
        if len(words) == 4 and words[0] == "put":
            del words[0]
        if len(words) == 3:
            put = " ".join(["put", *words]).encode() + b"\n"
            batch.append((number, put))
            size += len(put)
        elif words:
            refuse(number, line, "neither a put nor a row of a get")
        if len(batch) == BATCH_LINES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Loading:
    """How far it is."""

    def __init__(self, client: Client, patience: float, output: Any) -> None:
        """``patience`` is how many seconds the server may store nothing."""
        self._client = client
        self._patience = patience
        self._output = output
        self._on_terminal = output.isatty()
        self._begun = self._told = time.monotonic()
        self.stored = self.refused = 0

    def store(self, batch: List[Numbered]) -> None:
        """Store a batch. Raises ClientError if the server is lost, or patience with it."""
        pause, gives_up = FIRST_PAUSE, time.monotonic() + self._patience
        while batch:
            errors = self._client.pipeline([put for _, put in batch])
            later, stored = [], len(batch) - len(errors)
            for position, reason in errors:
                reason = reason.strip()
                if reason in FOR_NOW:
                    later.append(batch[position])
                else:
                    self.refuse(*batch[position], reason)
            self.stored += stored
            self._tell(f", waiting: {reason}" if later else "")
            if later:
                if stored:
                    pause, gives_up = FIRST_PAUSE, time.monotonic() + self._patience
                if time.monotonic() + pause > gives_up:
                    raise ClientError(f"line {later[0][0]}: {reason}, for {self._patience:g} s now")
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            batch = later

    def refuse(self, number: int, line: bytes, reason: str) -> None:
        """Tell which line is not stored, and why."""
        self.refused += 1
        text = line.decode("utf-8", "backslashreplace").strip()
        self._clear()
        print(f"line {number} refused: {reason}: {text[:200]}", file=self._output)

    def end(self) -> None:
        """Tell how it has ended."""
        self._tell("", last=True)

    def _tell(self, more: str, last: bool = False) -> None:
        now = time.monotonic()
        if not self._on_terminal or (now < self._told + PROGRESS_SECONDS and not last):
            return
        self._told = now
        rate = self.stored / max(now - self._begun, 1e-6)
        self._clear()
        said = f"{self.stored} points, {rate:.0f} a second, {self.refused} refused{more}"
        print(said, file=self._output, end="\n" if last else "", flush=True)

    def _clear(self) -> None:
        if self._on_terminal:
            self._output.write("\r\033[K")
