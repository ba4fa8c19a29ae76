"""Writes the whole server as one module: ``python3 -m metricsd.onefile PATH``.

For places that take a single file, like the course's grader. Made from the package's own modules,
joined in the order of their imports; it holds no code of its own. It relies on their style: each
begins with a docstring, and every import of a module or of its names stands on one line.
"""

import argparse
import ast
import re
import sys
import textwrap
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

from metricsd.version import __version__

PACKAGE = Path(__file__).resolve().parent

HEADER = '''"""metricsd {version}: a TCP metrics server on a hand-written event loop, in one file.

Made by `python3 -m metricsd.onefile` from these modules, in this order:
{names}.

Use: run_server("127.0.0.1", 8888), or run this file; --help tells its options.
"""
'''


def one_file(start: str = "__main__") -> str:
    """Return the source of one module that does what the package's module ``start`` does.

    Raises ValueError if two modules give one name two meanings.
    """
    names: List[str] = []
    _collect(start, names)
    imports: Set[Tuple[str, str]] = set()
    seen: Dict[str, str] = {}
    parts: List[str] = []
    for name in names:
        source = (PACKAGE / (name + ".py")).read_text(encoding="utf-8")
        parts.append(_section(name, source, imports, seen))
    clashes = {name or module for module, name in imports} & set(seen)
    if clashes:
        raise ValueError("defined here and imported there: " + ", ".join(sorted(clashes)))
    header = HEADER.format(version=__version__, names=textwrap.fill(", ".join(names), 96))
    return "\n\n".join([header + "\n" + _import_lines(imports)] + parts)


def main(arguments: Optional[List[str]] = None) -> int:
    """Write the file; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m metricsd.onefile", description="Write the whole server as one module."
    )
    parser.add_argument("path", metavar="PATH", help="the file to write or replace")
    path = parser.parse_args(arguments).path
    try:
        Path(path).write_text(one_file(), encoding="utf-8")
    except OSError as error:
        print(f"cannot write {path}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"wrote {path}")
    return 0


def _collect(name: str, names: List[str]) -> None:
    """Append a module's name, after those of the modules that it imports."""
    tree = ast.parse((PACKAGE / (name + ".py")).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and _is_ours(node) and _module(node) not in names:
            _collect(_module(node), names)
    names.append(name)


def _is_ours(node: ast.ImportFrom) -> bool:
    return node.module is not None and node.module.startswith("metricsd.")


def _module(node: ast.ImportFrom) -> str:
    return str(node.module).split(".", 1)[1]


def _section(name: str, source: str, imports: Set[Tuple[str, str]], seen: Dict[str, str]) -> str:
    """A module's text without its imports, its docstring as comments under a heading."""
    tree = ast.parse(source)
    lines = source.split("\n")
    drop: Set[int] = set()  # line numbers, from 0
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _note_import(node, lines[node.lineno - 1], imports)
            drop.add(node.lineno - 1)
        elif isinstance(node, ast.Assign) and _said_before(node, lines[node.lineno - 1], seen):
            drop.add(node.lineno - 1)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            _remember(node.target.id, name, seen)
        elif isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            _remember(node.name, name, seen)
    heading = (ast.get_docstring(tree) or "").split("\n")
    first = len(lines) - source.split('"""', 2)[2].count("\n")  # the line after the docstring
    kept = [line for number, line in enumerate(lines) if number >= first and number not in drop]
    body = re.sub(r"\n{4,}", "\n\n\n", "\n".join(kept).strip("\n"))  # where lines were dropped
    title = "# {} {}.py {}".format("-" * 8, name, "-" * (78 - len(name)))
    return "\n".join([title] + [("# " + line).rstrip() for line in heading] + ["", body, ""])


def _note_import(node: ast.stmt, line: str, imports: Set[Tuple[str, str]]) -> None:
    if line.endswith("("):
        raise ValueError("an import must stand on one line: " + line)
    if isinstance(node, ast.ImportFrom):
        if not _is_ours(node):
            imports.update((str(node.module), alias.name) for alias in node.names)
    elif isinstance(node, ast.Import):
        imports.update((alias.name, "") for alias in node.names)


def _import_lines(imports: Set[Tuple[str, str]]) -> str:
    plain = [f"import {module}\n" for module, name in sorted(imports) if not name]
    froms = []
    for module in sorted({module for module, name in imports if name}):
        names = ", ".join(sorted(name for origin, name in imports if origin == module and name))
        if len(names) > 70:
            names = "(\n" + textwrap.indent(textwrap.fill(names + ",", 96), "    ") + "\n)"
        froms.append(f"from {module} import {names}\n")
    return "".join(plain + froms)


def _said_before(node: ast.Assign, line: str, seen: Dict[str, str]) -> bool:
    """Whether the same assignment stood in an earlier module (``logger = ...``)."""
    again = False
    for target in node.targets:
        if isinstance(target, ast.Name):
            again = seen.get(target.id) == line
            _remember(target.id, line, seen)
    return again


def _remember(name: str, meaning: str, seen: Dict[str, str]) -> None:
    if seen.setdefault(name, meaning) != meaning:
        raise ValueError("two modules define " + name)


if __name__ == "__main__":
    sys.exit(main())
