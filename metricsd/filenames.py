"""The names of a journal's files.

Owns what a name says: segments and snapshots are numbered in the order in which they were begun.
"""

import re
from typing import Iterable, List

DAMAGED = ".damaged"  # at the end of one that is kept although a snapshot stands for it
UNFINISHED = ".new"  # at the end of the name of a file that does not count yet


def segment_name(number: int) -> str:
    """The name of a segment's file."""
    return f"{number:08d}.log"


def snapshot_name(number: int) -> str:
    """The name of the snapshot that stands for the segments up to this one."""
    return f"{number:08d}.snapshot"


def is_unfinished(name: str) -> bool:
    """Whether this is a file of a journal that does not count yet."""
    return re.fullmatch(r"(snapshot|\d{8,}\.log)\.new", name) is not None


def file_number(name: str) -> int:
    """The number of a segment or snapshot; 0 of any other file."""
    match = re.fullmatch(r"(\d{8}|[1-9]\d{8,})\.(log|snapshot)", name)
    return int(match.group(1)) if match else 0


def replaced_by(names: Iterable[str], number: int) -> List[str]:
    """Those of the files that a snapshot with this number stands for."""
    older = [name for name in names if 0 < file_number(name) <= number]
    return [name for name in older if name != snapshot_name(number)]
