"""PROTOCOL.md is true: its conversation is held, and the tests it names are there."""

import re
from pathlib import Path
from typing import List, Tuple

from metricsd.protocol import Dispatcher, Session
from metricsd.store import Memory

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "metricsd" / "PROTOCOL.md").read_text(encoding="utf-8")


def conversation() -> List[Tuple[str, str]]:
    """Each request of the example with its reply."""
    example = next(part for part in TEXT.split("```") if part.startswith("text\n> "))
    turns = []
    for part in re.split(r"^> ", example[len("text\n") :], flags=re.M)[1:]:
        request, *reply = part.splitlines()
        turns.append((request + "\n", "".join(line[2:] + "\n" for line in reply)))
    return turns


def test_the_conversation() -> None:
    session = Session(Dispatcher(Memory()), 65536)
    assert len(conversation()) >= 7
    for request, reply in conversation():
        session.receive(request.encode(), False)
        assert session.replies().decode() == reply


def test_every_decision_names_tests_that_are_there() -> None:
    """In a table with the column "held by" each row names some."""
    rows = 0
    for table in re.findall(r"^\|.*held by \|\n\|[-|]+\|\n((?:\|.*\n)+)", TEXT, flags=re.M):
        for row in table.splitlines():
            named = re.findall(r"`(\w+\.py)::(\w+)`", row)
            assert named, row
            rows += 1
            for file, name in named:
                source = (TESTS / file).read_text(encoding="utf-8")
                assert re.search(r"def %s\(" % name, source), (file, name)
    assert rows > 20
