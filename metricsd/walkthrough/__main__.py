"""Writes a page that plays a session step by step: ``python3 -m metricsd.walkthrough [OUT.html]``.

Owns the file and what the user is told. What happens on the page is in play.py, how it looks in
page.html.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import List, Optional

from metricsd.walkthrough.play import record
from metricsd.walkthrough.recording import Recording

TEMPLATE = Path(__file__).resolve().parent / "page.html"
PLACE = "null; // here comes the recording"

DEFAULT_PATH = "walkthrough.html"


def page(recording: Recording) -> str:
    """The page that plays a recording; it needs nothing else."""
    data = json.dumps(
        {"scenes": recording.scenes, "frames": recording.frames, "sources": recording.sources},
        sort_keys=True,
    )
    before, after = TEMPLATE.read_text(encoding="utf-8").split(PLACE)
    return before + data.replace("<", "\\u003c") + ";" + after


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m metricsd.walkthrough",
        description="Write a page that plays a session with the server, step by step.",
    )
    parser.add_argument(
        "path",
        metavar="OUT.html",
        nargs="?",
        default=DEFAULT_PATH,
        help=f"the file to write or replace ({DEFAULT_PATH} in the current folder)",
    )
    path = parser.parse_args(arguments).path
    text = page(record())
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"cannot write {path}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {path}; open it in a browser")
    return 0


if __name__ == "__main__":
    sys.exit(main())
