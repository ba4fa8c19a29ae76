"""The one-file build is the package, in one file."""

import ast
import contextlib
import random
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

import metricsd
from metricsd import onefile
from metricsd.onefile import Importer, LeftOut, one_file
from tests.conversation import connect, free_port
from tests.test_command_line import started
from tests.test_session import SEED_DIALOGUE

PACKAGE = Path(metricsd.__file__).parent
ROOT = PACKAGE.parent

# What the modules may import, if an option asks for it.
LEFT_OUT = (
    "metricsd.cluster",
    "metricsd.graphite",
    "metricsd.http",
    "metricsd.tls",
    "metricsd.watch",
)


@pytest.fixture(scope="module", name="path")
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("grader") / "solution.py")


def written(path: Path, *options: str) -> Path:
    assert onefile.main([str(path), *options]) == 0
    return path


def imported(path: Path) -> Dict[str, Any]:
    """The names of the module, as if it had been imported as ``solution``."""
    namespace: Dict[str, Any] = {"__name__": "solution"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), namespace)
    return namespace


def sources(path: Path) -> Dict[str, str]:
    """The modules in the file, by name."""
    found = imported(path)["IMPORTER"]._sources
    return {name: source for name, (_, source) in found.items()}


def outside(sources: Dict[str, str]) -> Iterator[str]:
    """What all these modules import and is none of them."""
    for source in sources.values():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module not in sources:
                yield str(node.module)


def test_it_imports_the_standard_library_alone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    names = {*outside(sources(path)), *outside({"solution": text})} - set(LEFT_OUT)
    assert "selectors" in names
    assert "metricsd" not in {name.split(".")[0] for name in names}
    assert "asyncio" not in names
    for name in names:
        assert "site-packages" not in str(getattr(__import__(name), "__file__", ""))


def test_run_server_is_a_function_at_the_top(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert "run_server" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_it_holds_every_module_of_the_server_as_it_stands(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    found = sources(path)
    for part in ("loop", "store", "protocol", "client", "durable"):
        for module in (PACKAGE / part).glob("*.py"):
            source = module.read_text(encoding="utf-8")
            assert source in text or "'''" in source
            assert "\n" + source in found.values()
            assert f"# {module.relative_to(ROOT).as_posix()}\n" in text
    for name in ("server", "options", "upkeep", "version", "__main__"):
        assert "\n" + (PACKAGE / (name + ".py")).read_text(encoding="utf-8") in found.values()


def test_it_holds_nothing_else(path: Path) -> None:
    parts = {name.split(".")[1] for name in sources(path) if "." in name}
    assert parts <= set(onefile.PARTS)


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
        assert b"Warning" not in process.stderr.read()
    assert {file.name for file in path.parent.iterdir()} <= {path.name, "__pycache__"}


def test_it_runs_as_a_program(path: Path) -> None:
    with started(command=[sys.executable, str(path)]) as (_, port), connect(port) as client:
        assert client.ask(b"get k\n") == b"ok\n\n"


def test_it_runs_in_a_thread(path: Path) -> None:
    port = free_port()
    run = imported(path)["run_server"]
    threading.Thread(target=run, args=("127.0.0.1", port), daemon=True).start()
    with connect(port) as client:
        assert client.ask(b"get k\n") == b"ok\n\n"


def test_it_keeps_points_in_a_file_if_it_is_told_to(path: Path, tmp_path: Path) -> None:
    options = ("--store", f"sqlite:{tmp_path / 'points.db'}")
    for expected in (b"ok\n\n", b"ok\nk 1.0 1\n\n"):
        with started(*options, command=[sys.executable, str(path)]) as (process, port):
            with connect(port) as client:
                assert client.ask(b"get k\n") == expected
                assert client.ask(b"put k 1 1\n") == b"ok\n\n"
            process.terminate()
            assert process.wait(10) == 0


def test_several_of_them_and_the_package_live_side_by_side(path: Path) -> None:
    before = dict(sys.modules)
    one, two = imported(path), imported(path)
    packages = [one["IMPORTER"].load("metricsd"), two["IMPORTER"].load("metricsd"), metricsd]
    assert {name for name in sys.modules if name.startswith("metricsd")} == {
        name for name in before if name.startswith("metricsd")
    }
    assert len({package.Server for package in packages}) == 3
    with contextlib.ExitStack() as stack:
        for package in packages:
            with pytest.raises(package.OptionError, match="max_points"):
                package.Server("127.0.0.1", 0, max_points=0)
            server = stack.enter_context(package.Server("127.0.0.1", 0))
            threading.Thread(target=server.serve_forever).start()
            client = stack.enter_context(package.Client(*server.address))
            client.put("k", 1.0, 1)
            assert client.get("k") == {"k": [(1, 1.0)]}


def test_a_traceback_shows_the_lines_of_the_file(path: Path) -> None:
    with pytest.raises(ValueError, match="port") as caught:
        imported(path)["run_server"]("127.0.0.1", -1)
    frames = traceback.extract_tb(caught.value.__traceback__)[1:]
    assert {frame.filename for frame in frames} == {str(path)}
    assert "raise OptionError" in str(frames[-1].line)
    assert frames[-1].name == "parse"


def test_what_it_does_not_have_is_one_clear_line(path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(path), "--trace"], stderr=subprocess.PIPE, timeout=20
    )
    assert process.returncode == 2
    assert process.stderr == (
        b"metricsd: --trace: this build, which is one file, has no metricsd.watch\n"
    )


def test_more_is_put_in_where_it_is_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path / "more.py", "--with", "watch")
    command = [sys.executable, str(path), "--trace", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert b" listening  on 127.0.0.1:" in process.stderr.readline()
        process.kill()


@pytest.mark.parametrize(
    ("part", "problem"),
    [("walkthrough", "holds more than modules"), ("nothing", "is no part of the package")],
)
def test_what_can_not_be_put_in_is_refused(
    part: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=f"{part} {problem}"):
        one_file([part])
    with pytest.raises(SystemExit) as caught:
        onefile.main([str(tmp_path / "x.py"), "--with", part])
    assert caught.value.code == 2
    assert f"{part} {problem}\n" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_any_text_survives() -> None:
    """In the order of its lines, so that each stands where a traceback looks for it."""
    dice = random.Random(1)
    texts = ["x = 'a'", "'''", "\\'''\\", "''''''", "'\\''''\\\\'", "# ключ \u2028 {0} {} %s \\N"]
    texts += ["".join(dice.choice("''''\\\\\"\nr{}x ") for _ in range(40)) for _ in range(3000)]
    for text in texts:
        text += "\n"
        module = onefile._module("package", "package.module", "package/module.py", text)
        added: List[str] = []
        line = module.count("\n", 0, module.index("IMPORTER")) + 1
        exec(module, {"IMPORTER": Recorder(added, line)})
        assert added == ["package.module", "\n" + text]
        assert module.count("\n") == line + text.count("\n") + 1


class Recorder:
    """Stands for an Importer."""

    def __init__(self, added: List[str], line: int) -> None:
        self._added = added
        self._line = line

    line = staticmethod(Importer.line)

    def add(self, name: str, line: int, source: str) -> None:
        assert line == self._line
        self._added += [name, source]


def importer(**modules: str) -> Importer:
    """An importer of some modules of ``package``; what is called ``face`` is that itself."""
    made = Importer("package", {"extra": "--extra"})
    for name, source in modules.items():
        made.add("package" if name == "face" else "package." + name, 1, source)
    return made


def test_modules_import_each_other_in_every_way() -> None:
    made = importer(
        face="from package.one import ONE",
        one="ONE = 1",
        two="import package.one, os.path\nfrom package import ONE, one\nTWO = ONE + one.ONE",
        three="def later():\n from package import two\n import package\n return package.two",
    )
    assert made.load("package.two").TWO == 2
    assert made.load("package.three").later() is made.load("package.two")
    assert made.load("package").ONE == 1


def test_what_was_left_out_is_named() -> None:
    made = importer(face="", one="import package.extra.more", two="from package import missing")
    with pytest.raises(LeftOut, match=r"^--extra: this build, .*, has no package\.extra$"):
        made.load("package.one")
    with pytest.raises(LeftOut, match=r"^this build, .*, has no package\.other$"):
        made.load("package.other")
    with pytest.raises(ImportError, match="missing"):
        made.load("package.two")


def test_a_module_that_fails_is_not_half_there() -> None:
    made = importer(face="", one="A = 1\nB = 1 / 0")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            made.load("package.one")


def test_two_threads_do_not_see_half_a_module() -> None:
    made = importer(face="", one="import time\ntime.sleep(0.01)\nA = 1")
    seen: List[int] = []

    def look() -> None:
        seen.append(made.load("package.one").A)

    threads = [threading.Thread(target=look) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [1] * 5


def test_it_starts_quickly(path: Path) -> None:
    """The modules are compiled at each start."""
    started_at = time.process_time()
    imported(path)["IMPORTER"].load("metricsd")
    assert time.process_time() - started_at < 2


def test_a_path_that_can_not_be_written_is_one_clear_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert onefile.main(["/no/such/folder/x.py"]) == 1
    assert capsys.readouterr().err == (
        "cannot write /no/such/folder/x.py: No such file or directory\n"
    )
