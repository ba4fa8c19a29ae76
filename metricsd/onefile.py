"""Writes the whole server as one module: ``python3 -m metricsd.onefile PATH``.

For places that take a single file, like the course's grader. Owns which parts go in, and how they
import each other there. The modules themselves go in as they stand, as text, and so may be written
in any way.
"""

import argparse
import ast
import builtins
import inspect
import re
import sys
import textwrap
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from metricsd.version import __version__

PACKAGE = Path(__file__).resolve().parent

# What goes in unless more is asked for: the half-hour core, the store that is an SQLite file, the
# command line.
PARTS = (
    "loop", "store", "protocol", "server", "attachments", "counters", "options", "service",
    "systemd", "upkeep", "version", "client", "durable", "__init__", "__main__",
)  # fmt: skip

# The option that asks for a part, if it is one that may have been left out.
ASKED_FOR_BY = {
    "cluster": "--store valkey://",
    "graphite": "--graphite",
    "http": "--http",
    "tls": "--tls-cert",
    "watch": "--trace",
}

START = '''"""metricsd {version}: a TCP metrics server on a hand-written event loop, in one file.

Use: run_server("127.0.0.1", 8888), or run this file; --help tells its options. The package with all
its names, like Server and Client, is IMPORTER.load("metricsd").

Made by `python3 -m metricsd.onefile`. Every module of the package stands below as it is, as text
under its name, and Importer answers its import statements. Line numbers, as in a traceback, are
those of this file. In the order in which the modules build upon each other:

{names}
"""

import builtins
import sys
import threading
from types import ModuleType
from typing import Any, Dict, Optional, Sequence, Tuple


def run_server(host, port, **options):
    """Serve on an address until SIGINT or SIGTERM; OPTIONS below tells what else can be set."""
    IMPORTER.load("metricsd").run_server(host, port, **options)


def main():
    """Run the server as the command line says; return the exit code."""
    try:
        return IMPORTER.load("metricsd.__main__").main()
    except LeftOut as error:
        print("metricsd: " + str(error), file=sys.stderr)
        return 2


{importer}

IMPORTER = Importer("metricsd", {asked_for_by!r})
'''

MODULE = """

# {line}
# {title}
# {line}
IMPORTER.add({name!r}, IMPORTER.line(), r'''
{source}''')
"""

END = """

if __name__ == "__main__":
    sys.exit(main())
"""

# Three quotes would end the text, and so do other quotes and backslashes beside them change it.
QUOTES = re.compile(r"[\\']*'''[\\']*")


class LeftOut(ImportError):
    """A part of the package is not in this build."""


class Importer:
    """Imports modules that are given as text.

    Does so without telling Python: a package of the same name that is installed, or another file
    like this one, has modules of its own.
    """

    def __init__(self, package: str, asked_for_by: Dict[str, str]) -> None:
        self._package = package
        self._asked_for_by = asked_for_by  # by the name of a part: the option that needs it
        self._sources: Dict[str, Tuple[int, str]] = {}
        self._modules: Dict[str, ModuleType] = {}
        self._lock = threading.RLock()
        self._builtins = dict(vars(builtins), __import__=self._import)
        self._file = sys._getframe(1).f_code.co_filename

    @staticmethod
    def line() -> int:
        """The number of the line where this is called."""
        return sys._getframe(1).f_lineno

    def add(self, name: str, line: int, source: str) -> None:
        """Add a module that is to be imported by this name, and whose text begins in a line."""
        self._sources[name] = line, source

    def load(self, name: str) -> Any:
        """Import a module and return it."""
        with self._lock:
            parent, _, last = name.rpartition(".")
            if parent:
                self.load(parent)
            if name not in self._modules:  # importing the parent may have done it
                if name not in self._sources:
                    raise LeftOut(self._without(name), name=name)
                self._run(name)
                if parent:
                    setattr(self._modules[parent], last, self._modules[name])
            return self._modules[name]

    def _run(self, name: str) -> None:
        line, source = self._sources[name]
        module = self._modules[name] = ModuleType(name)
        module.__dict__.update(__file__=self._file, __builtins__=self._builtins)
        try:
            exec(compile("\n" * (line - 1) + source, self._file, "exec"), module.__dict__)
        except BaseException:
            del self._modules[name]
            raise

    def _import(
        self,
        name: str,
        names: Optional[Dict[str, Any]] = None,
        local_names: Optional[Dict[str, Any]] = None,
        wanted: Optional[Sequence[str]] = (),
        level: int = 0,
    ) -> Any:
        """What an import statement calls in these modules."""
        if level or name.partition(".")[0] != self._package:
            return __import__(name, names, local_names, wanted or (), level)
        module = self.load(name)
        for each in wanted or ():
            if not hasattr(module, each) and f"{name}.{each}" in self._sources:
                self.load(f"{name}.{each}")
        return module if wanted else self._modules[self._package]

    def _without(self, name: str) -> str:
        option = self._asked_for_by.get(name.split(".")[1])
        said = f"{option}: " if option else ""
        return f"{said}this build, which is one file, has no {name}"


def one_file(more: Sequence[str] = (), package: Path = PACKAGE) -> str:
    """Return the source of one module that does what the package does, with ``more`` parts.

    Raises ValueError if there is no such part, or if it is more than modules.
    """
    sources = dict(_sources(package, [*PARTS, *more]))
    names = _in_order(sources)
    importer = inspect.getsource(LeftOut) + "\n\n" + inspect.getsource(Importer)
    start = START.format(
        version=__version__,
        names=textwrap.fill(", ".join(names) + ".", 96),
        importer=importer,
        asked_for_by={part: option for part, option in ASKED_FOR_BY.items() if part not in more},
    )
    return start + "".join(_module(package.name, name, *sources[name]) for name in names) + END


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m metricsd.onefile", description="Write the whole server as one module."
    )
    parser.add_argument("path", metavar="PATH", help="the file to write or replace")
    parser.add_argument(
        "--with",
        metavar="PART",
        dest="more",
        action="append",
        default=[],
        help="put in a further part of the package, like watch; may be given again",
    )
    options = parser.parse_args(arguments)
    try:
        Path(options.path).write_text(one_file(options.more), encoding="utf-8")
    except ValueError as error:
        parser.error(str(error))
    except OSError as error:
        print(f"cannot write {options.path}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {options.path}")
    return 0


def _sources(package: Path, parts: Sequence[str]) -> Iterator[Tuple[str, Tuple[str, str]]]:
    """Yield the name of each module with its path and its text."""
    for part in parts:
        folder, file = package / part, package / (part + ".py")
        strange = [path.name for path in folder.glob("*.*") if path.suffix not in (".py", ".pyc")]
        if strange or not (file.exists() or folder.is_dir()):
            what = "holds more than modules" if strange else "is no part of the package"
            raise ValueError(f"{part} {what}")
        for path in [file] if file.exists() else sorted(folder.glob("*.py")):
            words = path.relative_to(package.parent).with_suffix("").parts
            name = ".".join(words[:-1] if words[-1] == "__init__" else words)
            source = path.read_text(encoding="utf-8")
            yield name, (path.relative_to(package.parent).as_posix(), source)


def _in_order(sources: Dict[str, Tuple[str, str]]) -> List[str]:
    """The names of modules, each after those that it imports, as far as there is no circle."""
    names: List[str] = []
    seen: Set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in sources:
            return
        seen.add(name)
        _, source = sources[name]
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                visit(node.module)
                for alias in node.names:
                    visit(f"{node.module}.{alias.name}")
        names.append(name)

    for name in sources:
        visit(name)
    return names


def _module(package: str, name: str, path: str, source: str) -> str:
    """A module as text, under a heading, as an argument of a call."""
    text = QUOTES.sub(_quoted, source if source.endswith("\n") else source + "\n")
    return MODULE.format(line="=" * 98, title=path, name=name, source=text)


def _quoted(quotes: "re.Match[str]") -> str:
    """End the text, go on with a plain string, begin another text: all in the same line."""
    return "''' \"" + quotes.group().replace("\\", "\\\\") + "\" r'''"


if __name__ == "__main__":
    sys.exit(main())
