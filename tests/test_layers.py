"""The shape of the package: what may know what."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import Dict, Set

import pytest

import metricsd

PACKAGE = Path(metricsd.__file__).parent
CORE = [
    "columns", "sealed", "archive", "series", "rows", "replies", "keys", "store", "ledger",
    "batch", "commands", "lines", "session",
]  # fmt: skip
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py"))


def imports(name: str) -> Set[str]:
    found: Set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / (name + ".py")).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_input_and_no_output(name: str) -> None:
    allowed = {"array", "bisect", "collections", "io", "itertools", "typing"}
    allowed |= {"struct", "sys", "zlib"}
    allowed |= {"metricsd." + core for core in CORE}
    assert imports(name) <= allowed
    text = (PACKAGE / (name + ".py")).read_text(encoding="utf-8")
    assert "open(" not in text and "print(" not in text


def test_the_core_is_complete_without_the_rest() -> None:
    program = "import sys, metricsd.session as s; print(*sys.modules)"
    stub = "import sys, types; m = types.ModuleType('metricsd'); m.__path__ = [%r]; "
    stub += "sys.modules['metricsd'] = m; "
    loaded = subprocess.check_output([sys.executable, "-S", "-c", stub % str(PACKAGE) + program])
    for name in ("socket", "selectors", "signal", "threading", "asyncio", "logging"):
        assert name not in loaded.decode().split()


def test_asyncio_is_never_loaded() -> None:
    program = "import sys, metricsd, metricsd.__main__; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", program], cwd=str(PACKAGE.parent))
    assert "asyncio" not in loaded.decode().split()
    assert all("asyncio" not in imports(name) for name in MODULES)


def test_imports_run_one_way() -> None:
    left: Dict[str, Set[str]] = {
        name: {module.split(".")[1] for module in imports(name) if module.startswith("metricsd.")}
        for name in MODULES
    }
    while left:
        free = {name for name, needs in left.items() if not needs & set(left)}
        assert free, f"a circle of imports among {sorted(left)}"
        left = {name: needs for name, needs in left.items() if name not in free}


def test_the_reactor_knows_no_other_part() -> None:
    assert not any(module.startswith("metricsd") for module in imports("reactor"))


def test_nothing_but_the_standard_library() -> None:
    ours = {"metricsd." + name for name in MODULES}
    for name in MODULES:
        for module in imports(name) - ours:
            assert "site-packages" not in str(getattr(__import__(module), "__file__", ""))
