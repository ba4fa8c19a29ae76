"""What the walkthrough says is so: its quotations are the code's, its commands run."""

import contextlib
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple
from unittest import mock

import pytest

import metricsd
from tests.bench_scripts import BENCH, imported, run
from tests.beside import Beside
from tests.conftest import running

ROOT = Path(metricsd.__file__).parent.parent
WALKTHROUGH = (ROOT / "metricsd" / "WALKTHROUGH.md").read_text(encoding="utf-8")

QUOTED = re.findall(r"^<!-- (code|table|output|transcript) (.+) -->$", WALKTHROUGH, re.MULTILINE)
COMMANDS = "".join(re.findall(r"```sh\n(.*?)```", WALKTHROUGH, re.DOTALL)).splitlines()
CHAPTERS = re.split(r"^## (?=\d+\. )", WALKTHROUGH, flags=re.MULTILINE)
SIMULATIONS = [command for command in COMMANDS if " bench/simulate.py " in command]
OUTPUTS = [source for kind, source in QUOTED if kind in ("output", "transcript")]


def quote(text: str, *options: str, path: str = "") -> Tuple[int, str, str]:
    """Run bench/quote.py on a text in a file; its exit code, what it says, the text then."""
    Path(path).write_text(text, encoding="utf-8")
    with mock.patch.object(imported("quote"), "TEXTS", [Path(path)]):
        code, said = run("quote", *options)
    return code, said, Path(path).read_text(encoding="utf-8")


WAYS = """
import sys
import servers, why
why.pin = servers.pin = lambda *_: None
why.PATIENCE = 0.1
why.IDLE_CLIENTS, why.IDLE_SECONDS, why.MEMORY_CLIENTS, why.MANY_CLIENTS = 5, 0.1, 5, 10
why.BURST_CLIENTS, why.BURSTS, why.POINTS = 3, 2, 1000
why.QUIET_SECONDS, why.BUSY_SECONDS = 0.05, 0.2
sys.argv[1:] = ["--out", sys.argv[1], "--only", "blocking"]
sys.exit(why.main())
"""


@pytest.fixture(scope="session", name="ways")
def _ways(tmp_path_factory: Any) -> Iterator[Beside]:
    """The ways in small, which mostly wait: from the first test that asks for them on."""
    with Beside(WAYS, tmp_path_factory.mktemp("ways")) as ways:
        yield ways


CHECKING = "import sys, quote; sys.argv[1:] = ['--check']; sys.exit(quote.main())"


@pytest.fixture(scope="session", name="checking")
def _checking(tmp_path_factory: Any) -> Iterator[Beside]:
    """Everything that is quoted, run and compared, beside the other tests."""
    with Beside(CHECKING, tmp_path_factory.mktemp("checking")) as checking:
        yield checking


@pytest.fixture(scope="session", name="simulations")
def _simulations() -> Iterator[Dict[str, "subprocess.Popen[bytes]"]]:
    with contextlib.ExitStack() as stack:
        started = {}
        for command in SIMULATIONS:
            words = [sys.executable, *shlex.split(command)[1:]]
            process = subprocess.Popen(words, cwd=str(ROOT), stdout=subprocess.PIPE)
            started[command] = stack.enter_context(process)
            stack.callback(process.kill)
        yield started


@pytest.mark.starts
@pytest.mark.usefixtures("checking", "ways", "simulations")  # which run meanwhile
def test_nothing_is_quoted_by_hand() -> None:
    by_hand = re.sub(
        r"^<!-- (?:code|output|transcript) [^\n]+ -->\n```\w+\n.*?^```\n"
        r"|^<!-- table [^\n]+ -->\n(?:\|[^\n]*\n)+",
        "",
        WALKTHROUGH.partition("## 10. The files")[0],  # test_readme.py holds that map
        flags=re.MULTILINE | re.DOTALL,
    )
    assert len(QUOTED) >= 20
    assert set(re.findall(r"^```(\w+)$", by_hand, re.MULTILINE)) == {"mermaid", "sh"}
    assert not re.search(r"^\||^<!-- ", by_hand, re.MULTILINE)


def test_every_output_has_its_command_above_it() -> None:
    for source in OUTPUTS:
        assert source in COMMANDS
        assert WALKTHROUGH.index(f"\n{source}\n```") < WALKTHROUGH.index(f" {source} -->")


def test_every_exhibit_and_exercise_is_shown() -> None:
    for folder in ("exhibits", "exercises"):
        for path in (ROOT / "bench" / folder).glob("*.py"):
            assert path.name == "removal.py" or f"python3 bench/{folder}/{path.name}" in OUTPUTS


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - {*OUTPUTS, *SIMULATIONS}))
def test_a_command(command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    if words[:3] == ["python3", "-m", "metricsd"]:
        serve([sys.executable, *words[1:], "--port", "0"], tmp_path)
    elif words[0] == "sqlite3":
        look_into_a_file(words, tmp_path)
    elif words[:3] == ["python3", "-m", "metricsd.walkthrough"]:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        assert f"`{command}`" in readme  # test_readme.py runs it
    elif words[0] == "nc":
        talk_with(words)
    else:
        assert words[:3] == ["python3", "bench/why.py", "--only"]
        assert words[3] in [peer.name for peer in imported("why").stages()]


@pytest.mark.waits
@pytest.mark.parametrize("command", SIMULATIONS)
def test_a_simulation(command: str, simulations: Dict[str, "subprocess.Popen[bytes]"]) -> None:
    said, _ = simulations[command].communicate(timeout=50)
    assert simulations[command].returncode == 1 and b"what is left: c" in said  # who comes


def serve(words: List[str], folder: Path) -> None:
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(
        words, stderr=subprocess.PIPE, cwd=str(folder), env=environment
    ) as process:
        assert process.stderr is not None
        assert b" listening  on 127.0.0.1:" in process.stderr.readline()
        process.kill()


def look_into_a_file(words: List[str], folder: Path) -> None:
    path = folder / words[1]
    with metricsd.Server("127.0.0.1", 0, store=f"sqlite:{path}"):
        pass
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        schema = "".join(sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master"))
    assert schema.count("CREATE TABLE") == 4 and schema.count(" -- ") > 10
    if shutil.which(words[0]):
        said = subprocess.check_output(words, cwd=str(folder), timeout=20)
        assert said.count(b"CREATE TABLE") == 4


def talk_with(words: List[str]) -> None:
    assert words[1:] == ["127.0.0.1", "8888"]
    with running() as server:
        try:
            process = subprocess.Popen(
                [words[0], *map(str, server.address)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        except FileNotFoundError:
            pytest.skip(f"there is no {words[0]} here")
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"put cpu 1 1\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"ok\n"
            process.kill()


def test_a_put_and_a_get_are_told_without_files() -> None:
    """What an ok is worth, and where it is kept, comes after how the loop works."""
    for chapter in CHAPTERS[2:4]:
        found = re.findall(r"(?i)durab|sqlite|fsync|journal|\bdisks?\b", chapter)
        assert not found


def test_each_chapter_ends_with_one_thing_to_predict() -> None:
    assert [chapter.split(".")[0] for chapter in CHAPTERS[1:]] == [str(n) for n in range(1, 11)]
    for chapter in CHAPTERS[1:9]:
        assert chapter.count("Before you run it: what will it print") == 1
        _, _, end = chapter.rpartition("\n### Try it")
        assert "Before you run it" in end
        assert chapter.count("<details>") == end.count("<details>") == 1
        assert end.endswith("\n</details>\n\n")
        assert "```sh\n" in end


def test_its_links_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.*)$", WALKTHROUGH, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for link in re.findall(r"\]\(([^)]+)\)", WALKTHROUGH):
        path, _, anchor = link.partition("#")
        if not link.startswith("https://"):
            assert (ROOT / "metricsd" / path).exists(), link
            assert path or anchor in anchors, link


def test_the_picture_of_the_ways_is_of_the_table() -> None:
    table = (ROOT / "bench" / "results" / "why.md").read_text(encoding="utf-8")
    figures = set(re.findall(r"\d[\d.,]*|never", table.split("|---", 1)[1]))
    assert len(figures) > 10
    picture = (ROOT / "bench" / "results" / "why.svg").read_text(encoding="utf-8")
    drawn = set(re.findall(r"<!-- ([^ ]+) -->", picture))
    assert figures - drawn <= {"5", "50", "100", "100,000", "1,100"}  # of the first column


@pytest.mark.waits
def test_the_ways_in_small(ways: Beside) -> None:
    table, said = ways.outcome()
    assert "| a put beside a silent client, ms | **never** |" in table
    assert "| memory a client, KiB | - |" in table
    assert (ways.folder / "why.md").read_text(encoding="utf-8").endswith(table)
    assert (ways.folder / "why.svg").exists() or "matplotlib is not installed" in said


def test_a_way_that_is_none() -> None:
    code, said = run("why", "--only", "nobody")
    assert code == 2
    assert said.count("\n") > 1 and "Traceback" not in said


def test_quotations_are_written_and_checked(tmp_path: Path) -> None:
    path = str(tmp_path / "text.md")
    text = "Before\n\n<!-- code metricsd/protocol/commands.py PUT BadCommand -->\n\nafter\n"
    assert quote(text, "--check", path=path)[0] == 1
    code, said, written = quote(text, path=path)
    assert (code, said) == (0, "")
    assert 'PUT = "put"\n\n\nclass BadCommand(Exception):\n    """' in written
    assert written.startswith("Before\n\n") and written.endswith("```\n\nafter\n")
    assert quote(written, "--check", path=path) == (0, "", written)
    changed = written.replace("mistake", "fault")
    code, said, text = quote(changed, "--check", path=path)
    assert (code, text) == (1, changed)
    assert said.startswith("quote: code metricsd/protocol/commands.py PUT BadCommand: ")
    assert "The client" in said and said.count("\n") == 1  # the first line that differs


@pytest.mark.parametrize(
    "source",
    [
        "code metricsd/protocol/commands.py nothing",
        "code metricsd/protocol/commands.py",
        "code metricsd/nothing.py name",
        "table README.md Nothing",
        "output python3 bench/nothing.py",
    ],
)
def test_what_is_not_there_can_not_be_quoted(tmp_path: Path, source: str) -> None:
    text = f"<!-- {source} -->\n"
    for options in ((), ("--check",)):
        code, said, written = quote(text, *options, path=str(tmp_path / "text.md"))
        assert code == 1
        assert said.startswith("quote: ") and said.count("\n") == 1
        assert written == text


def test_measured_numbers_may_differ_and_others_may_not(tmp_path: Path) -> None:
    path = str(tmp_path / "text.md")
    says = """<!-- output python3 -c "print('~1,2.5 x 3 127.0.0.1:80')" -->\n```text\n%s\n```\n"""
    assert quote(says % "~7 x 3 127.0.0.1:8080", "--check", path=path)[0] == 0
    assert quote(says % "~7 x 4 127.0.0.1:8080", "--check", path=path)[0] == 1
    assert quote(says % "7 x 3 127.0.0.1:8080", "--check", path=path)[0] == 1
    told = says.replace("output", "transcript")
    assert quote(told % "~9,9.9 x 4 127.0.0.1:80", "--check", path=path)[0] == 0
    assert quote(told % "~9,9.9 y 4 127.0.0.1:80", "--check", path=path)[0] == 1


def test_what_needs_a_program_that_is_not_here_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "text.md")
    says = """<!-- output python3 -c "raise SystemExit(%d)" -->\n```text\nas elsewhere\n```\n"""
    for options in ((), ("--check",)):
        assert quote(says % 77, *options, path=path) == (0, "", says % 77)
        assert quote(says % 1, *options, path=path)[0] == 1


def test_what_the_kernel_takes_at_a_time_changes_no_transcript() -> None:
    with mock.patch.object(sys, "path", [str(BENCH / "exhibits"), *sys.path]):
        exhibit = imported("large_get")
    part = "turn 3    loop      ready      c1\n          c1        sent       5 of 9 bytes\n"
    rest = "turn 4    loop      ready      c1\n          c1        sent       4 bytes, all\n"
    texts = [
        exhibit.folded(part + part * before + "          -- nothing --\n" + part * then + rest)
        for before, then in ((0, 0), (1, 2), (3, 1))
    ]
    assert len({re.sub(r"\d+", "0", text) for text in texts}) == 1
    assert [re.findall(r"part: (\d+)", text) for text in texts] == [
        ["0", "0"],
        ["1", "2"],
        ["3", "1"],
    ]


@pytest.mark.waits
def test_nothing_has_parted_from_its_source(checking: Beside) -> None:
    """The code, the tables, and what every exhibit and exercise prints: they are run."""
    checking.outcome()
