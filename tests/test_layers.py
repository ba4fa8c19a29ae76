"""The shape of the package: what may know what, and how long the core is."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest

import metricsd
from tests.beside import Beside

PACKAGE = Path(metricsd.__file__).parent
ROOT = PACKAGE.parent

# Which parts may import which. What is absent is forbidden. Anybody may know the version.
ARROWS: Dict[str, Set[str]] = {
    "loop": set(),
    "store": set(),
    "options": set(),
    "version": set(),
    "client": {"options"},
    "tls": set(),
    "counters": set(),
    "systemd": set(),
    "service": {"loop", "counters"},
    "protocol": {"store"},
    "upkeep": {"loop"},
    "durable": {"store", "loop"},
    "cluster": {"store", "loop"},
    "graphite": {"store", "protocol"},
    "http": {"store", "graphite"},
    "watch": {"loop", "store", "protocol"},
    "attachments": {
        *("counters", "loop", "store", "protocol", "upkeep", "durable", "cluster", "graphite"),
        *("http", "service", "tls"),
    },
    "server": {"loop", "store", "protocol", "options", "upkeep", "attachments"},
    "walkthrough": {"server", "watch", "store"},
    "onefile": set(),
    "__main__": {"loop", "store", "options", "server", "systemd", "watch"},
    "__init__": {"loop", "store", "options", "server", "client"},
}

# Parts that are only imported where an option asks for them.
OPTIONAL = {"systemd", "durable", "cluster", "graphite", "http", "tls", "watch", "walkthrough"}

# What is not of the standard library, and who may know it.
LIBRARIES = {"glide_sync": "cluster/links.py"}

# What a newcomer reads, in this order, and may then stop.
READING_LIST = [
    "store/__init__.py", "store/interface.py", "store/memory.py", "store/series.py",
    "protocol/commands.py", "protocol/session.py", "protocol/lines.py",
    "loop/reactor.py", "loop/connection.py", "loop/listener.py", "server.py",
]  # fmt: skip
LONGEST_CORE = 1400  # lines, blank ones and comments included

STRANGERS = re.compile(
    "journal|durab|sqlite|tls|http|graphite|cluster|observ|valkey", re.IGNORECASE
)

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """A path as it is told, from the package on."""
    return path.relative_to(PACKAGE).as_posix()


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].replace(".py", "")


@functools.lru_cache(maxsize=None)
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=None)
def imports(path: Path) -> List[Tuple[str, List[str], bool]]:
    """Each module that a file imports, the names that it takes, and whether at the top level.

    What is imported under TYPE_CHECKING counts as well.
    """
    return list(found_imports(path))


def found_imports(path: Path) -> Iterator[Tuple[str, List[str], bool]]:
    tree = tree_of(path)
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, [], id(node) not in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names = [alias.name for alias in node.names]
            yield str(node.module), names, id(node) not in inside


def ours(path: Path) -> Iterator[Tuple[str, List[str], bool]]:
    """The imports of our own parts: the path below the package, as a/b, or a."""
    for module, names, top in imports(path):
        if module == "metricsd":
            for name in names:
                is_part = (PACKAGE / name).exists() or (PACKAGE / (name + ".py")).exists()
                yield (name, [], top) if is_part else ("__init__", [name], top)
        elif module.startswith("metricsd."):
            path_of = module.split(".", 1)[1].replace(".", "/")
            inside = [name for name in names if (PACKAGE / path_of / (name + ".py")).exists()]
            for name in inside:
                yield f"{path_of}/{name}", [], top
            others = [name for name in names if name not in inside]
            if others or not inside:
                yield path_of, others, top


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_its_part_may(path: Path) -> None:
    mine = part_of(path)
    for module, names, top in ours(path):
        part = module.split("/")[0]
        if part == mine:
            assert "/" in module, f"inside a package the module is named, not the face: {module}"
            continue
        assert part == "version" or part in ARROWS[mine], f"{mine} may not know {part}"
        if "/" in module:  # a module of another package, which has to be on its face as well
            names = [module.split("/", 1)[1]]
        if part in OPTIONAL and mine not in OPTIONAL:
            assert not top, f"{part} is optional: import it where the option asks for it"
        face = PACKAGE / part / "__init__.py"
        if face.exists():
            assert set(names) <= faces_names(face), f"not on the face of {part}: {names}"


def faces_names(face: Path) -> Set[str]:
    for node in tree_of(face).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_every_part_has_its_arrows() -> None:
    assert {part_of(path) for path in FILES} == set(ARROWS)


@pytest.mark.parametrize(
    "face", [path for path in FILES if path.name == "__init__.py"], ids=name_of
)
def test_a_face_defines_nothing(face: Path) -> None:
    tree = tree_of(face)
    assert ast.get_docstring(tree)
    for node in tree.body[1:]:
        assert isinstance(node, (ast.Import, ast.ImportFrom, ast.Assign))
    assert len(face.read_text(encoding="utf-8").splitlines()) <= 60


def test_imports_run_one_way() -> None:
    left: Dict[str, Set[str]] = {}
    for path in FILES:
        name = name_of(path)[: -len(".py")]
        left[name] = set()
        for module, _, top in ours(path):
            target = module if (PACKAGE / (module + ".py")).exists() else module + "/__init__"
            if top:
                left[name].add(target)
    while left:
        free = {name for name, needs in left.items() if not needs & set(left)}
        assert free, f"a circle of imports among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


# Without those that try thousands of lines: what these find, they find in the package too.
ALONE = """
import sys
from metricsd.server import Server
Server("127.0.0.1", 0).close()
import pytest
chosen = ["-k", "not test_random and not test_mixed"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *chosen, sys.argv[1] + "/tests"]))
"""


@pytest.fixture(scope="session", name="alone")
def _alone(tmp_path_factory: Any) -> Iterator[Beside]:
    folder: Path = tmp_path_factory.mktemp("alone")
    copy, tests = folder / "metricsd", folder / "tests"
    copy.mkdir()
    (copy / "__init__.py").touch()
    for name in ("loop", "store", "protocol", "client"):
        shutil.copytree(str(PACKAGE / name), str(copy / name))
    for name in ("server", "attachments", "counters", "options", "service", "upkeep", "version"):
        shutil.copy(str(PACKAGE / (name + ".py")), str(copy))
    tests.mkdir()
    for name in ("__init__", "model", "script", "test_session", "test_batch", "test_lines"):
        shutil.copy(str(ROOT / "tests" / (name + ".py")), str(tests))
    with Beside(ALONE, folder, cwd=folder) as alone:
        yield alone


@pytest.mark.usefixtures("alone")  # which runs meanwhile
def test_the_core_is_read_in_half_an_hour() -> None:
    lines = {
        name: (PACKAGE / name).read_text(encoding="utf-8").count("\n") for name in READING_LIST
    }
    assert sum(lines.values()) <= LONGEST_CORE, lines


@pytest.mark.parametrize("name", [name for name in READING_LIST if name != "server.py"])
def test_the_core_names_no_optional_part(name: str) -> None:
    found = STRANGERS.findall((PACKAGE / name).read_text(encoding="utf-8"))
    assert not found


@pytest.mark.waits
def test_the_core_stands_alone(alone: Beside) -> None:
    """Copied by itself with an empty face, it passes the tests of the protocol."""
    alone.outcome()


@pytest.mark.parametrize("package", ["protocol", "store"])
def test_the_protocol_and_the_store_know_no_input_and_no_output(package: str) -> None:
    program = f"import sys, metricsd.{package}; print(*sys.modules)"
    stub = "import sys, types; m = types.ModuleType('metricsd'); m.__path__ = [%r]; "
    stub += "sys.modules['metricsd'] = m; "
    loaded = subprocess.check_output([sys.executable, "-S", "-c", stub % str(PACKAGE) + program])
    for name in ("socket", "selectors", "signal", "threading", "asyncio", "logging"):
        assert name not in loaded.decode().split()
    for path in (PACKAGE / package).glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?<![.\w])open\(|print\(", text)


def test_what_is_optional_is_not_loaded() -> None:
    program = "import sys, metricsd, metricsd.__main__; print(*sys.modules)"
    plain = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=str(ROOT), env=plain)
    names = loaded.decode().split()
    assert "asyncio" not in names and "sqlite3" not in names
    for part in OPTIONAL:
        assert f"metricsd.{part}" not in names


def test_asyncio_is_never_imported() -> None:
    for path in FILES:
        assert all("asyncio" not in module for module, _, _ in imports(path))


def test_nothing_but_the_standard_library() -> None:
    for path in FILES:
        for module, _, _ in imports(path):
            if module in LIBRARIES:
                assert name_of(path) == LIBRARIES[module]
            elif module.split(".")[0] != "metricsd":
                assert "site-packages" not in str(getattr(__import__(module), "__file__", ""))


LONGEST_FUNCTION = 45  # lines


@pytest.mark.skipif(sys.version_info < (3, 8), reason="ast does not tell where a function ends")
@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_function_is_long(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name}: {length} lines"
