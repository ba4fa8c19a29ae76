"""The trace: a running commentary on what the loop does, one line a step.

Owns how a step looks as a line of text. Does not know how steps come about: it is told them.
"""

from typing import TextIO

from metricsd.observer import Step

# No line is longer, so that none breaks in a terminal of usual size, whatever a client sends.
TRACE_COLUMNS = 100

# Of the bytes of a step so many characters are shown at most, as Python writes them.
EXCERPT_CHARACTERS = 44

CUT = "..."


class Trace:
    """Writes each step that it is told. A stream that fails is written to no more."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._turn = -1  # of the last line
        self._broken = False

    def __call__(self, step: Step) -> None:
        """Write a line; the first one of a turn says which turn it is."""
        line = trace_line(step, first_of_turn=step.turn != self._turn)
        self._turn = step.turn
        if not self._broken:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # what reads it has gone; the server has not
                self._broken = True


def trace_line(step: Step, first_of_turn: bool) -> str:
    """A step in columns: turn, who, what, and the rest."""
    turn = f"turn {step.turn}" if step.turn else "start"
    line = f"{turn if first_of_turn else '':9} {step.who:9} {step.what:10} {step.detail}"
    if step.data and step.what != "sent":  # that was shown when it was queued
        line += "  " + excerpt(step.data)
    line = line.rstrip().encode("ascii", "backslashreplace").decode()
    return line if len(line) <= TRACE_COLUMNS else line[: TRACE_COLUMNS - len(CUT)] + CUT


def excerpt(data: bytes) -> str:
    """The front of some bytes, escaped, in EXCERPT_CHARACTERS at most and the sign of a cut."""
    shown = data[:EXCERPT_CHARACTERS]
    while len(repr(shown)) - len("b") > EXCERPT_CHARACTERS:
        shown = shown[:-1]  # no escape is cut in two
    return repr(shown)[1:] + (CUT if len(shown) < len(data) else "")
