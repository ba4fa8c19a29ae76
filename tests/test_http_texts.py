"""What OPERATING.md says of looking at a server is so."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import List, Set
from urllib.parse import urlencode

import pytest

from metricsd.counters import ROWS
from tests.conftest import running
from tests.test_http_server import address, ask
from tests.test_operating import blocks

TITLE = "See it"
NAMES = {row.name for row in ROWS}


def targets() -> List[str]:
    """What the panels of the dashboard ask for."""
    (text,) = blocks(TITLE, "json")
    return [one["target"] for panel in json.loads(text)["panels"] for one in panel["targets"]]


def yaml_with(word: str) -> str:
    (text,) = [block for block in blocks(TITLE, "yaml") if word in block]
    return text


def test_the_dashboard_asks_for_what_there_is() -> None:
    found: Set[str] = set()
    for target in targets():
        found |= set(re.findall(r"metricsd\.(\w+)", target))
    assert found <= {name.replace("metricsd_", "") for name in NAMES}


def test_each_of_its_panels_shows_something() -> None:
    with running(http=0, self_metrics=True, graphite=0) as server:
        while b"metricsd.points" not in ask(server, "/metrics/index.json")[2]:
            pass
        for target in targets():
            query = urlencode({"target": target, "from": "-1min"})
            series = json.loads(ask(server, "/render?" + query)[2].decode())
            assert series, target


def test_alarms_look_at_what_there_is(tmp_path: Path) -> None:
    rules = yaml_with("alert:")
    found = set(re.findall(r"metricsd_\w+", rules))
    assert found
    assert found <= NAMES


@pytest.mark.skipif(not shutil.which("promtool"), reason="there is no promtool here")
def test_promtool_accepts_the_files(tmp_path: Path) -> None:
    for name, kind, word in (("r.yml", "rules", "alert:"), ("p.yml", "config", "scrape_configs")):
        (tmp_path / name).write_text(yaml_with(word))
        command = ["promtool", "check", kind, str(tmp_path / name)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=50)
        assert done.returncode == 0, done.stdout.decode()


@pytest.mark.skipif(not shutil.which("curl"), reason="there is no curl here")
def test_the_command_that_deletes() -> None:
    (command,) = [block for block in blocks(TITLE) if block.startswith("curl ")]
    with running(http=0) as server:
        place = "{}:{}".format(*address(server))
        said = subprocess.check_output(
            ["sh", "-c", command.replace("127.0.0.1:8080", place)], stderr=subprocess.DEVNULL
        )
        assert json.loads(said.decode()) == {"deleted": 0}
