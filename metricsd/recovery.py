"""Recovery: a journal's puts are run again, up to the last one that is whole.

Owns which files count and in which order, and what is done about damage. Nothing is deleted but
what a snapshot that is whole stands for.

The end of a journal may be torn: the server was killed while it wrote, or the power failed before
all was on the disk. What is there in one piece is loaded, and the rest was never acknowledged as
safe. Damage before something that was safe is another matter: somebody has to decide.
"""

import logging
import re
import time
from io import BytesIO
from itertools import islice
from typing import Callable, List, NamedTuple, Optional, Tuple

from metricsd.batch import put_block
from metricsd.commands import BadCommand, run
from metricsd.disk import Disk
from metricsd.filenames import file_number, is_unfinished, replaced_by, segment_name, snapshot_name
from metricsd.journal import End, JournalError
from metricsd.lines import BLOCK_BYTES
from metricsd.records import Data, read_records, records_behind
from metricsd.session import PUT_START
from metricsd.store import Store

logger = logging.getLogger("metricsd")

STOP, SKIP = "stop", "skip"
DAMAGE_POLICIES = (STOP, SKIP)

# Disks write whole sectors. One that is torn takes with it what was safe in it before, so damage
# so close to the end, in bytes, is no more than a torn end.
SECTOR_BYTES = 512

# Somebody waits: say how far it is, so often, in seconds.
PROGRESS_SECONDS = 2.0

FOLLOWS = re.compile(rb"follows (\d+) (\d+) (\d+)\n")
END_LINE = b"end\n"  # of a snapshot


class Recovered(NamedTuple):
    """What was found."""

    end: End  # of the last segment
    whole: bool  # that segment, so that it may be written on
    next_number: int  # no file has this number, nor a higher one
    puts: int
    size: int  # in bytes, of what was read
    damaged: bool


class Piece(NamedTuple):
    """A segment that counts."""

    name: str
    number: int
    claim: Optional[End]  # how much of it counts, as the next one says; None of the last one
    next_name: str


def recover(disk: Disk, store: Store, damage: str = STOP) -> Recovered:
    """Load a journal into a store.

    Raises JournalError if it is damaged and ``damage`` is ``stop``; OSError if it can't be read.
    """
    return Recovery(disk, store, damage).run()


class Recovery:
    """One run of ``recover``."""

    def __init__(self, disk: Disk, store: Store, damage: str) -> None:
        self._disk = disk
        self._store = store
        self._damage = damage
        self._loaded: List[str] = []  # the names of files
        self._last_lines = b""
        self._gathered: List[bytes] = []
        self._gathered_bytes = 0
        self._puts = 0
        self._size = 0
        self._damaged = False
        self._started = self._said = time.monotonic()

    def run(self) -> Recovered:
        """Load what counts, and remove what a snapshot stands for."""
        names = self._disk.names()
        base = max(_numbers(names, "snapshot"), default=0)
        segments = [number for number in _numbers(names, "log") if number > base]
        end, whole = End(base, 0, 0), False
        if base:
            if self._damage == SKIP:  # then what it stands for helps, if it is still there
                self._load_replaced([number for number in _numbers(names, "log") if number <= base])
            self._load_snapshot(snapshot_name(base))
        for piece in self._chain(base, segments):
            length, torn = self._load_segment(piece)
            if length:  # otherwise it was torn when it was begun, and the one before is the last
                end, whole = End(piece.number, length, length), not torn
            if torn:
                break
        self._run_gathered()
        self._make_safe()
        self._clean(names, base)
        if self._puts:
            seconds = time.monotonic() - self._started
            logger.info("journal: %d puts read in %.1f s", self._puts, seconds)
        next_number = max([base, *segments]) + 1
        return Recovered(end, whole, next_number, self._puts, self._size, self._damaged)

    def _make_safe(self) -> None:
        """What was read may not be on the disk yet: an earlier server was killed, say."""
        for name in self._loaded:
            self._disk.sync_name(name)
        self._disk.sync_folder()

    def _clean(self, names: List[str], base: int) -> None:
        """Remove what does not count; of a damaged journal, somebody may still want it all."""
        replaced = [] if self._damaged else replaced_by(names, base)
        for name in [*filter(is_unfinished, names), *replaced]:
            self._disk.remove_if_there(name)

    def _load_replaced(self, numbers: List[int]) -> None:
        for piece in self._chain(min(numbers, default=0) - 1, numbers):
            self._load_segment(piece)

    def _chain(self, base: int, numbers: List[int]) -> List[Piece]:
        """The segments that count, oldest first: from the newest on, each tells which it follows.

        Those between were begun when the disk failed, and nothing in them counts.
        """
        pieces: List[Piece] = []
        claim: Optional[End] = None
        next_name = ""
        for number in sorted(numbers, reverse=True):
            if claim is not None and number != claim.number:
                continue
            name = segment_name(number)
            pieces.insert(0, Piece(name, number, claim, next_name))
            claim, next_name = _follows(self._disk.read(name)), name
        if claim is not None and claim.number > base:
            self._complain(f"{segment_name(claim.number)} is missing")
        return pieces

    def _load_snapshot(self, name: str) -> None:
        place, _ = self._load(name, None, lambda *_: True)
        if self._last_lines != END_LINE:
            self._complain(f"{name} is cut off at byte {place}")

    def _load_segment(self, piece: Piece) -> Tuple[int, bool]:
        """Return how much of it counts, and whether it is torn there, so that nothing follows."""
        claim = piece.claim
        if claim is None:
            return self._load(piece.name, None, _safe_before_the_end)

        def safe(_data: Data, place: int) -> bool:
            # The next segment is only synced when this one is.
            later = records_behind(self._disk.read(piece.next_name), 0)
            return place < claim.synced or any(synced for _, synced in later)

        return self._load(piece.name, claim.length, safe)

    def _load(
        self, name: str, length: Optional[int], was_safe: Callable[[Data, int], bool]
    ) -> Tuple[int, bool]:
        """Run the records of a file up to a length, or a torn end."""
        data = self._disk.read(name)
        self._loaded.append(name)
        end = len(data) if length is None else length
        place = 0
        while True:
            for end_of_record, lines, _ in read_records(data, place, end):
                self._gather(lines)
                place = end_of_record
            if place >= end:
                break
            if was_safe(data, place):
                self._complain(f"{name} is damaged at byte {place}")
                place = next((start for start, _ in records_behind(data, place)), end)
            else:
                logger.warning(
                    "journal: the last %d bytes of %s are dropped: they were not written whole",
                    max(len(data), end) - place,
                    name,
                )
                return place, True
        self._size += end
        return place, False

    def _gather(self, lines: bytes) -> None:
        """Take the lines of a record; puts wait for others, as a large block is cheaper to run."""
        self._last_lines = lines
        # Nearly all are puts, and that is seen fastest.
        if lines.startswith(PUT_START) or not (lines == END_LINE or FOLLOWS.match(lines)):
            self._gathered.append(lines)
            self._gathered_bytes += len(lines)
            if self._gathered_bytes > BLOCK_BYTES:
                self._run_gathered()

    def _run_gathered(self) -> None:
        """Run puts as those of clients are run."""
        if not self._gathered:
            return
        lines = b"".join(self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0
        self._puts += lines.count(b"\n")
        if not put_block(self._store, lines):
            for line in BytesIO(lines):
                self._run_line(line)
        if time.monotonic() > self._said + PROGRESS_SECONDS:
            self._said = time.monotonic()
            logger.info("journal: %d puts read", self._puts)

    def _run_line(self, line: bytes) -> None:
        try:
            run(self._store, line.decode().split())
        except BadCommand:
            raise JournalError(
                f"the journal in {self._disk.folder} holds a line that this version does not know: "
                f"{line[:100]!r}; start the version that wrote it"
            ) from None

    def _complain(self, what: str) -> None:
        """Raise JournalError about damage, or go on if that is wanted."""
        where = f"the journal in {self._disk.folder}: {what}"
        if self._damage == STOP:
            raise JournalError(
                f"{where}, before points that were safe on the disk. Nothing was changed. Restore "
                "the file from a copy, or load all that is whole and keep the damaged files aside: "
                "--journal-damage skip"
            )
        self._damaged = True
        logger.warning("%s; going on with what is whole", where)


def _safe_before_the_end(data: Data, place: int) -> bool:
    """Whether later records say that this place was safe, other than those in the same sector."""
    return any(
        synced > place and start >= place + SECTOR_BYTES
        for start, synced in records_behind(data, place)
    )


def _follows(data: Data) -> Optional[End]:
    """Which segment one follows, as its first record says; None if there is none."""
    match = None
    for _, lines, _ in islice(read_records(data, 0, len(data)), 1):
        match = FOLLOWS.match(lines)
    return End(*map(int, match.groups())) if match else None


def _numbers(names: List[str], kind: str) -> List[int]:
    return [file_number(name) for name in names if file_number(name) and name.endswith(kind)]
