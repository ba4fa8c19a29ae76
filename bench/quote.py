"""Keep texts and what they quote together: the READMEs' tables of results, and the walkthrough.

    python3 bench/quote.py            take anew what has parted from its source
    python3 bench/quote.py --check    exit with 1 if one has parted from its source

In the Markdown a comment says what follows it:

    <!-- code metricsd/loop/reactor.py Reactor.turn -->    functions, classes, constants, by name
    <!-- table bench/README.md Where the time goes -->    the first table under a heading
    <!-- output python3 bench/exhibits/pushing.py -->    what a command prints
    <!-- transcript python3 bench/exhibits/large_get.py -->    the same, and any number may vary

In an output, a number after ~ was measured, and a port was free: another in its place is no
difference. A command that exits with SKIPPED needs a program that is not here: what it has printed
elsewhere stays.
"""

import argparse
import ast
import re
import shlex
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parent.parent
TEXTS = [
    ROOT / "README.md",
    ROOT / "bench" / "README.md",
    ROOT / "metricsd" / "WALKTHROUGH.md",
]

RUN_SECONDS = 60  # the longest takes two, of a machine that has nothing else to do
SKIPPED = 77  # as in the test suites of Automake
AT_A_TIME = 4  # commands that run: most of them mostly wait

# A comment, and below it a fenced block or a table, if there is one already.
QUOTATION = re.compile(
    r"^<!-- (code|table|output|transcript) (.+?) -->\n((?:```\w+\n.*?^```\n)|(?:\|[^\n]*\n)+)?",
    re.MULTILINE | re.DOTALL,
)
MEASURED = re.compile(r"(?<=~)[\d,.]*\d|(?<=127\.0\.0\.1:)\d+")
NUMBER = re.compile(r"\d+")


class QuoteError(Exception):
    """What is to be quoted is not there."""


class SkippedError(Exception):
    """What is to be quoted can't be had on this machine."""


class Quotation(NamedTuple):
    """A place in a text where something is quoted."""

    kind: str
    source: str
    text: str  # as it stands there

    def fresh(self) -> str:
        """The same from its source. Raises QuoteError if that is not there."""
        return SOURCES[self.kind](self.source)

    def parted(self, fresh: str) -> Optional[str]:
        """The first line that differs, as it is now, but for what was measured; None if none."""
        varies = NUMBER if self.kind == "transcript" else MEASURED
        for stands, now in zip_longest(self.text.split("\n"), fresh.split("\n"), fillvalue=""):
            if varies.sub("0", stands) != varies.sub("0", now):
                return now
        return None


def quotations(text: str) -> Iterator[Quotation]:
    """Yield every quotation of a text."""
    for match in QUOTATION.finditer(text):
        yield Quotation(match.group(1), match.group(2), match.group(3) or "")


def rewritten(text: str) -> str:
    """The text with its quotations as their sources are. Raises QuoteError."""

    def fresh(match: "re.Match[str]") -> str:
        quotation = Quotation(match.group(1), match.group(2), match.group(3) or "")
        try:
            new = quotation.fresh()
        except SkippedError:
            return match.group()
        if quotation.parted(new) is None:
            return match.group()  # another port, or another measurement, is no news
        return f"<!-- {quotation.kind} {quotation.source} -->\n{new}"

    return QUOTATION.sub(fresh, text)


def code(source: str) -> str:
    """Definitions out of a Python file, one below the other."""
    path, *names = source.split()
    lines = _read(path).split("\n")
    tree = ast.parse("\n".join(lines))
    parts = [_definition(tree, lines, name) for name in names]
    if None in parts or not parts:
        raise QuoteError(f"{path} has no {names[parts.index(None)] if names else 'names here'}")
    owners = sorted({name.rpartition(".")[0] for name in names} - {""})
    title = "# " + path + "".join(f", class {owner}" for owner in owners)
    return f"```python\n{title}\n" + "\n\n\n".join(filter(None, parts)) + "\n```\n"


def table(source: str) -> str:
    """The first table under a heading of another text."""
    path, _, heading = source.partition(" ")
    below = re.split(rf"^#+ {re.escape(heading)}\n", _read(path), flags=re.MULTILINE)
    found = re.search(r"(?:^\|.*\n)+", below[-1], re.MULTILINE)
    if len(below) != 2 or found is None:
        raise QuoteError(f"{path} has no table under {heading!r}")
    return found.group()


def output(source: str) -> str:
    """What a command prints."""
    words = [sys.executable if word == "python3" else word for word in shlex.split(source)]
    process = subprocess.run(
        words,
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=RUN_SECONDS,
    )
    said = process.stdout.decode()
    if process.returncode == SKIPPED:
        raise SkippedError(said)
    if process.returncode:
        raise QuoteError(f"{source} failed: {said.strip()[-200:]}")
    return "```text\n" + said + "```\n"


SOURCES = {"code": code, "table": table, "output": output, "transcript": output}


def _read(path: str) -> str:
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except OSError as error:
        raise QuoteError(f"{path}: {error.strerror}") from None


def _definition(tree: ast.AST, lines: List[str], qualified: str) -> Optional[str]:
    """The text of a function, class, constant or attribute; None if it is not there."""
    node: Optional[ast.AST] = tree
    for name in qualified.split("."):
        node = _named(node, name)
    if not isinstance(node, ast.stmt):
        return None
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno] + [one.lineno for one in decorators]) - 1
    indent = _indent(lines[first])
    # Python 3.6 does not know where a definition ends: where the next line is no deeper than the
    # first, unless it closes a bracket.
    end = first + 1 + len(decorators)
    while end < len(lines) and _belongs(lines[end], indent):
        end += 1
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        while first and lines[first - 1].strip().startswith("#"):
            first -= 1
    return textwrap.dedent("\n".join(lines[first:end])).strip("\n")


def _named(tree: Optional[ast.AST], name: str) -> Optional[ast.stmt]:
    """The definition of a name in a module or a class."""
    found: Dict[str, ast.stmt] = {}
    for node in getattr(tree, "body", []):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:  # of NAME[key] = value, the name
                found[getattr(getattr(target, "value", target), "id", "")] = node
        elif isinstance(node, ast.AnnAssign):
            found[getattr(node.target, "id", "")] = node
    return found.get(name)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _belongs(line: str, indent: int) -> bool:
    return not line.strip() or _indent(line) > indent or line.strip()[0] in ")]}"


def check(text: str) -> List[str]:
    """A line for every quotation that has parted from its source, in the order of the text."""
    with ThreadPoolExecutor(AT_A_TIME) as threads:
        return [line for line in threads.map(_complaint, quotations(text)) if line]


def _complaint(quotation: Quotation) -> str:
    """What is wrong with a quotation, in a line; empty if nothing is."""
    try:
        differs = quotation.parted(quotation.fresh())
        if differs is not None:
            return f"{quotation.kind} {quotation.source}: does not stand there: {differs!r}"
    except QuoteError as error:
        return str(error)
    except SkippedError:
        pass
    return ""


def main() -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing, say what differs")
    options = parser.parse_args()
    complaints: List[str] = []
    try:
        for path in TEXTS:  # what is quoted from one that comes before is up to date then
            text = path.read_text(encoding="utf-8")
            if options.check:
                complaints += check(text)
            else:
                path.write_text(rewritten(text), encoding="utf-8")
    except (OSError, QuoteError) as error:
        complaints.append(str(error))
    for complaint in complaints:
        print(f"quote: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
