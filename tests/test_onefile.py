"""The one-file build is the package, in one file."""

import ast
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import metricsd
from metricsd import onefile
from tests.conversation import connect, free_port
from tests.test_command_line import started
from tests.test_session import SEED_DIALOGUE

ROOT = Path(metricsd.__file__).parent.parent


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grader") / "solution.py"
    command = [sys.executable, "-m", "metricsd.onefile", str(path)]
    subprocess.check_call(command, cwd=str(ROOT), stdout=subprocess.DEVNULL)
    return path


def test_it_imports_the_standard_library_alone(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module))
    assert "metricsd" not in {name.split(".")[0] for name in imported}
    assert "asyncio" not in imported
    for name in imported:
        assert "site-packages" not in str(getattr(__import__(name), "__file__", ""))
    top_level = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert "run_server" in top_level


def test_it_holds_every_comment_and_definition_of_the_server(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in ("series", "store", "session", "reactor", "connection", "listener", "server"):
        source = (ROOT / "metricsd" / (name + ".py")).read_text(encoding="utf-8")
        for line in source.split('"""', 2)[2].splitlines():
            if not line.startswith(("import ", "from ")):
                assert line in text


def test_a_grader_imports_it_and_runs_the_seed_dialogue(path: Path) -> None:
    port = free_port()
    program = f"from solution import run_server; run_server('127.0.0.1', {port})"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", program]
    with subprocess.Popen(command, cwd=str(path.parent), stderr=subprocess.PIPE) as process:
        with connect(port) as client:
            for request, reply in SEED_DIALOGUE:
                assert client.ask(request) == reply
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_it_runs_as_a_program(path: Path) -> None:
    with started(command=[sys.executable, str(path)]) as (_, port), connect(port) as client:
        assert client.ask(b"get k\n") == b"ok\n\n"


def test_it_runs_in_a_thread(path: Path) -> None:
    namespace = {"__name__": "solution"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    port = free_port()
    arguments = ("127.0.0.1", port)
    threading.Thread(target=namespace["run_server"], args=arguments, daemon=True).start()  # type: ignore
    with connect(port) as client:
        assert client.ask(b"get k\n") == b"ok\n\n"


def test_a_name_with_two_meanings_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a.py").write_text('"""A."""\n\nX = 1\n', encoding="utf-8")
    (tmp_path / "b.py").write_text(
        '"""B."""\n\nfrom metricsd.a import X\n\nX = 2\n', encoding="utf-8"
    )
    monkeypatch.setattr(onefile, "PACKAGE", tmp_path)
    with pytest.raises(ValueError, match="X"):
        onefile.one_file("b")


def test_a_path_that_can_not_be_written_is_one_clear_line() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "metricsd.onefile", "/no/such/folder/x.py"],
        cwd=str(ROOT),
        stderr=subprocess.PIPE,
    )
    assert process.returncode == 1
    assert process.stderr == b"cannot write /no/such/folder/x.py: No such file or directory\n"
