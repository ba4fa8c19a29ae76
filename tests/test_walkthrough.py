"""The page that plays a session: what is recorded and written, and how a browser shows it."""

import ast
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple

import pytest

from metricsd import walkthrough
from metricsd.captions import CAPTIONS, CLIENT_TURN, caption
from metricsd.observer import Step
from metricsd.recording import Frame, Recording
from metricsd.walkthrough import TEMPLATE, page, record
from tests.test_command_line import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
PACKAGE = ROOT / "metricsd"


@pytest.fixture(scope="module", name="recording")
def _recording() -> Recording:
    return record()


@pytest.fixture(name="frames")
def _frames(recording: Recording) -> List[Frame]:
    return recording.frames


def whats(frames: List[Frame]) -> List[str]:
    return [f"{frame['who']} {frame['what']}" for frame in frames]


def scene(recording: Recording, title: str) -> List[Frame]:
    number = recording.scenes.index(title)
    return [frame for frame in recording.frames if frame["scene"] == number]


def test_a_put_goes_through_every_lane(recording: Recording) -> None:
    frames = scene(recording, "A put")
    assert whats(frames) == [
        "listener listening",
        "c1 connects", "loop ready", "c1 opened",
        "c1 sends", "loop ready", "c1 received", "store put", "c1 answered", "c1 queued", "c1 sent",
        "c1 reads",
    ]  # fmt: skip
    lanes = ("inbound", "input", "output", "outbound", "received")
    filled = [
        [lane for lane in lanes if client[lane][0]]
        for frame in frames[1:]
        for client in frame["clients"]
    ]
    assert filled == [
        [], [], [],
        ["inbound"], ["inbound"], ["input"], ["input"], [], ["output"], ["outbound"],
        ["received"],
    ]  # fmt: skip
    assert [bool(frame["store"]) for frame in frames] == [False] * 7 + [True] * 5


def test_the_other_scenes_show_what_they_say(recording: Recording) -> None:
    batch = scene(recording, "Three puts at once")
    assert [frame["title"] for frame in batch if frame["who"] == "store"] == [
        "3 points are stored, as one batch"
    ]
    cut = scene(recording, "A request cut in two")
    assert [frame["clients"][0]["input"] for frame in cut if frame["what"] == "answered"] == [
        [5, "get c"],
        [0, ""],
    ]
    mistake = scene(recording, "A mistake")
    assert mistake[-1]["clients"][1]["received"] == [21, "error\nwrong command\n\n"]
    both = scene(recording, "Two clients in one turn")
    assert len({frame["turn"] for frame in both if frame["trace"]}) == 1
    order = [what for what in whats(both) if what.split()[1] in ("received", "sent")]
    assert sorted(order[:2]) == ["c1 received", "c2 received"]
    assert sorted(order[2:]) == ["c1 sent", "c2 sent"]
    half = whats(scene(recording, "Half a goodbye"))
    assert half[:2] == ["c2 sends", "c2 ends"]
    assert half[-3:] == ["c2 received", "c2 dropped", "c2 closed"]


def test_a_large_reply_flips_the_interest(recording: Recording) -> None:
    frames = scene(recording, "A reply larger than the socket")
    told = whats(frames)
    sleep = told.index("loop sleeps")
    sent, talking = frames[sleep - 2], frames[sleep - 1]
    assert sent["title"].startswith("The kernel takes only ")
    assert talking["what"] == "talking"
    slow = talking["clients"][2]
    assert slow["interest"] == "talking"
    assert slow["output"][0] > 0 and slow["outbound"][0] > 0
    assert "c1 reads" in told[sleep:]  # the others are served meanwhile
    assert told[-1] in ("c3 listening", "c3 reads")
    assert frames[-1]["clients"][2]["interest"] == "listening"
    pulled = whats(scene(recording, "A reply that is pulled"))
    assert pulled.count("c3 queued") > 2
    assert pulled.count("c3 talking") == pulled.count("c3 listening") == 1


def test_it_ends_as_it_began(frames: List[Frame]) -> None:
    last = frames[-1]
    assert [client["interest"] for client in last["clients"]] == ["closed", "closed", "listening"]
    for client in last["clients"]:
        assert not any(client[lane][0] for lane in ("inbound", "input", "output", "outbound"))


def test_it_is_the_same_each_time(frames: List[Frame]) -> None:
    assert whats(record().frames) == whats(frames)


def test_every_step_has_a_caption_and_every_caption_a_place_in_the_code(
    frames: List[Frame],
) -> None:
    assert all(frame["title"] and frame["text"] for frame in frames)
    for frame in frames:
        assert "{" not in frame["title"] + frame["text"]
    for found in CAPTIONS.values():
        file, name = found.code.split()
        assert name in definitions(PACKAGE / file)
        assert len(found.text) <= 230


def definitions(path: Path) -> Set[str]:
    """Functions, and methods with their class."""
    names: Set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{part.name}" for part in node.body if hasattr(part, "name")}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


@pytest.mark.parametrize(
    "step, start",
    [
        (Step(1, "c1", "peeked", "more waits in the kernel", b""), "A look"),
        (Step(1, "c1", "sent", "nothing for now", b""), "The kernel takes nothing"),
        (Step(1, "loop", "committed", "", b""), "The turn is committed"),
        (Step(1, "loop", "timer", "IdleSweep._begin", b""), "loop: timer IdleSweep._begin"),
        (Step(CLIENT_TURN, "c1", "waves", "", b""), "c1: waves"),
    ],
)
def test_captions_of_what_is_not_in_the_session(step: Step, start: str) -> None:
    assert caption(step).title.startswith(start)


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: List[Tuple[str, Dict[str, Optional[str]]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def error(self, message: str) -> None:  # abstract before Python 3.10
        raise AssertionError(message)


def test_the_page_needs_nothing_else(recording: Recording) -> None:
    text = page(recording)
    assert not re.search(r"https?://|//[a-z]|@import|url\(|fetch\(|XMLHttpRequest", text)
    tags = Page(text).tags
    for tag, attributes in tags:
        assert tag not in ("link", "img", "iframe", "object")
        assert "src" not in attributes and "href" not in attributes
    assert len(text) < 300000
    assert json.loads(re.findall(r"const recording = (.*);\n", text)[0])["frames"]
    assert text.count("</script>") == 1  # nothing recorded ends it early


def test_the_page_is_accessible() -> None:
    tags = Page(TEMPLATE.read_text(encoding="utf-8")).tags
    buttons = [attributes for tag, attributes in tags if tag == "button"]
    assert len(buttons) == 5
    for attributes in buttons + [found for tag, found in tags if tag in ("input", "select")]:
        assert attributes["aria-label"]
    assert any(attributes.get("aria-live") == "polite" for _, attributes in tags)
    assert ("html", {"lang": "en"}) in tags
    text = TEMPLATE.read_text(encoding="utf-8")
    for needed in ("prefers-color-scheme: dark", "prefers-reduced-motion", ":focus-visible"):
        assert needed in text


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "metricsd.walkthrough"]
    said = subprocess.check_output([*command, str(path)], cwd=str(ROOT))
    assert said.decode() == f"wrote {path}\n"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_a_path_that_can_not_be_written_is_one_clear_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert walkthrough.main(["/no/such/folder/x.html"]) == 1
    assert capsys.readouterr().err == (
        "cannot write /no/such/folder/x.html: No such file or directory\n"
    )


def browse(path: Path, address: str, profile: Path) -> str:
    """What the page looks like to a program, after a browser has run it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium here")
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--virtual-time-budget=20000", "--dump-dom",
        "--allow-file-access-from-files",
    ]  # fmt: skip
    command = [browser, *options, path.as_uri() + address]
    return subprocess.check_output(command, stderr=subprocess.DEVNULL, timeout=50).decode()


def test_a_step_in_a_browser(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(recording), encoding="utf-8")
    shown = browse(path, "#step=8", tmp_path / "profile")
    frame = recording.frames[7]
    assert f'<h2 id="title">{frame["title"]}</h2>' in shown
    assert f'<code id="code">{frame["code"]}</code>' in shown
    assert f"8 of {len(recording.frames)}</output>" in shown
    assert re.search(r'<li data-phase="read" class="lit" aria-current="step">', shown)
    assert re.search(r'class="store lit"', shown)
    assert "put cpu 12.5 1503319740" in shown
    assert shown.count("<option") == len(recording.scenes)


PRESS_EVERYTHING = """
<script>
const seen = [];
const note = () => seen.push(at + 1);
const press = (key) => {
  document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  note();
};
window.onerror = (message) => { document.body.dataset.failed = message; };
for (const key of ["End", "ArrowRight", "ArrowLeft", "Home", "ArrowLeft", "ArrowRight"]) press(key);
for (const name of ["last", "back", "first", "next"]) { $(name).click(); note(); }
$("slider").value = 40; $("slider").dispatchEvent(new Event("input")); note();
$("scene").value = 1; $("scene").dispatchEvent(new Event("change")); note();
press(" "); document.body.dataset.playing = $("play").textContent;
setTimeout(() => {
  document.body.dataset.moved = at > 12;
  press(" "); document.body.dataset.paused = $("play").textContent;
  seen.pop();
  for (let step = 0; step < frames.length; step++) show(step, true);
  document.body.dataset.seen = seen.join(" ");
}, 12000);
</script>
"""


def test_its_controls_in_a_browser(recording: Recording, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    text = page(recording).replace("</body>", PRESS_EVERYTHING + "</body>")
    path.write_text(text, encoding="utf-8")
    body = re.findall(r"<body[^>]*>", browse(path, "", tmp_path / "profile"))[0]
    last = len(recording.frames)
    batch = [frame["scene"] for frame in recording.frames].index(1) + 1
    steps = [last, last, last - 1, 1, 1, 2, last, last - 1, 1, 2, 40, batch, batch]
    assert f'data-seen="{" ".join(map(str, steps))}"' in body
    assert 'data-playing="Pause"' in body and 'data-paused="Play"' in body
    assert 'data-moved="true"' in body
    assert "data-failed" not in body


PHONE = """<!DOCTYPE html>
<body><iframe src="page.html" style="width: 360px; height: 740px; border: 0"></iframe>
<script>
window.onload = () => {
  const phone = window.frames[0];
  const root = phone.document.documentElement;
  let beyond = 0;
  for (let step = 0; step < phone.eval("frames.length"); step++) {
    phone.show(step);
    beyond = Math.max(beyond, root.scrollWidth - root.clientWidth);
  }
  document.body.dataset.beyond = beyond;
  document.body.dataset.clients = phone.document.querySelectorAll(".row.here").length;
};
</script></body>
"""


def test_a_phone_in_a_browser(recording: Recording, tmp_path: Path) -> None:
    """Nothing is wider than the screen, and only the client at hand is shown."""
    (tmp_path / "page.html").write_text(page(recording), encoding="utf-8")
    path = tmp_path / "phone.html"
    path.write_text(PHONE, encoding="utf-8")
    body = re.findall(r"<body[^>]*>", browse(path, "", tmp_path / "profile"))[0]
    assert 'data-beyond="0"' in body and 'data-clients="1"' in body
