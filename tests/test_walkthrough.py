"""The page that plays a session: what is recorded and written, and how a browser shows it."""

import collections
import html
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

from metricsd.store import Memory, StoreError
from metricsd.walkthrough import acts
from metricsd.walkthrough import captions as captions_module
from metricsd.walkthrough.__main__ import TEMPLATE, main, page
from metricsd.walkthrough.captions import CAPTIONS, caption
from metricsd.walkthrough.disk import Disk
from metricsd.walkthrough.play import record
from metricsd.walkthrough.recording import Frame, Recording
from metricsd.walkthrough.sources import source
from metricsd.watch import Step, steps
from metricsd.watch.steps import Cause, Moment, Phase, Point, ReadySocket
from tests.test_command_line import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
AT = Moment(7, Phase.READ)


@pytest.fixture(scope="session", name="recording")
def _recording() -> Recording:
    return record()


@pytest.fixture(name="frames")
def _frames(recording: Recording) -> List[Frame]:
    return recording.frames


def whats(frames: List[Frame]) -> List[str]:
    """The kinds of the steps, with the clients that they are about."""
    return [" ".join([*frame["lit"], frame["kind"]]) for frame in frames]


def scene(recording: Recording, title: str) -> List[Frame]:
    number = recording.scenes.index(title)
    return [frame for frame in recording.frames if frame["scene"] == number]


@pytest.mark.starts
@pytest.mark.usefixtures("browser")  # which runs meanwhile
def test_a_put_goes_through_every_lane(recording: Recording) -> None:
    frames = scene(recording, "A put")
    assert whats(frames) == [
        "Listening",
        "c1 Connects", "c1 Ready", "c1 Opened",
        "c1 Sends", "c1 Ready", "c1 Received", "c1 Put", "c1 Answered", "c1 Queued", "c1 Sent",
        "c1 Reads",
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
    assert [bool(frame["store"]["series"]) for frame in frames] == [False] * 7 + [True] * 5


def test_the_other_scenes_show_what_they_say(recording: Recording) -> None:
    batch = scene(recording, "Three puts at once")
    assert [frame["title"] for frame in batch if frame["kind"] == "Put"] == [
        "Once for all: 3 points stored"
    ]
    cut = scene(recording, "A request cut in two")
    assert [frame["clients"][0]["input"] for frame in cut if frame["kind"] == "Answered"] == [
        [5, "get c"],
        [0, ""],
    ]
    mistake = scene(recording, "A mistake")
    assert mistake[-1]["clients"][1]["received"] == [21, "error\nwrong command\n\n"]
    both = scene(recording, "Two clients in one turn")
    assert len({frame["turn"] for frame in both if frame["trace"]}) == 1
    order = [what for what in whats(both) if what.split()[1] in ("Received", "Sent")]
    assert sorted(order[:2]) == ["c1 Received", "c2 Received"]
    assert sorted(order[2:]) == ["c1 Sent", "c2 Sent"]
    half = whats(scene(recording, "Half a goodbye"))
    assert half[:2] == ["c2 Sends", "c2 Ends"]
    assert half[-3:] == ["c2 InputEnded", "c2 Dropped", "c2 Closed"]


def test_a_put_waits_for_the_disk_and_a_get_does_not(recording: Recording) -> None:
    frames = scene(recording, "A put that waits for a disk")
    assert whats(frames) == [
        "DiskIsUsed",
        "c1 Sends", "c1 Ready", "c1 Received", "c1 Put", "c1 Committed", "c1 Answered",
        "c1 Waiting",
        "c2 Sends", "c2 Ready", "c2 Received", "c2 Found", "c2 Answered", "c2 Queued", "c2 Sent",
        "c2 Reads",
        "c1 DiskHasWritten", "c1 Ready", "c1 Settled", "c1 Queued", "c1 Sent", "c1 Reads",
    ]  # fmt: skip
    assert [frame["store"]["open"] for frame in frames] == [0] * 4 + [1] * 14 + [0] * 4
    assert [frame["kind"] for frame in frames if frame["phase"] == "commit"] == ["Put", "Committed"]
    waiting = [frame["clients"][0]["interest"] == "waiting" for frame in frames]
    assert waiting == [False] * 7 + [True] * 12 + [False] * 3
    assert b"43.0" not in frames[15]["clients"][1]["received"][1].encode()
    assert ["memory", 2, "43.0 at 1503319755"] in frames[-1]["store"]["series"]


def test_what_the_disk_fails_is_refused_to_all_at_once(recording: Recording) -> None:
    frames = scene(recording, "Two puts that the disk fails")
    puts = [frame for frame in frames if frame["kind"] in ("Put", "Committed", "Settled")]
    assert [sorted(frame["lit"]) for frame in puts] == [["c1", "c2"]] * 3
    assert [frame["phase"] for frame in puts] == ["commit", "commit", "read"]
    for client in frames[-1]["clients"]:
        assert client["received"] == [18, "error\nnot stored\n\n"]
    assert frames[-1]["store"] == frames[0]["store"]


def test_nobody_hears_of_the_disk_while_a_line_is_missing(recording: Recording) -> None:
    told = whats(scene(recording, "A line is taken out"))
    assert told == [
        "LineIsTakenOut",
        "c1 Sends", "c1 Ready", "c1 Received", "c1 Put", "c1 Committed", "c1 Answered",
        "c1 Waiting",
        "c1 DiskIsNotHeard",
        "c2 Sends", "c2 Ready", "c2 Received", "c2 Found", "c2 Answered", "c2 Queued", "c2 Sent",
        "c2 Reads",
    ]  # fmt: skip
    frames = scene(recording, "A run that can be repeated")
    assert whats(frames)[2:] == ["c1 Ready", "c1 Settled", "c1 Queued", "c1 Sent", "c1 Reads"]
    assert [frame["store"]["open"] for frame in frames] == [1, 1, 1, 0, 0, 0, 0]


def test_a_large_reply_flips_the_interest(recording: Recording) -> None:
    frames = scene(recording, "A reply larger than the socket")
    told = whats(frames)
    sleep = told.index("c3 Sleeps")
    sent, talking = frames[sleep - 2], frames[sleep - 1]
    assert sent["title"].startswith("The kernel takes only ")
    assert talking["kind"] == "Interest"
    slow = talking["clients"][2]
    assert slow["interest"] == "talking"
    assert slow["output"][0] > 0 and slow["outbound"][0] > 0
    assert "c1 Reads" in told[sleep:]  # the others are served meanwhile
    assert told[-1] in ("c3 Interest", "c3 Reads")
    assert frames[-1]["clients"][2]["interest"] == "listening"
    pulled = whats(scene(recording, "A reply that is pulled"))
    assert pulled.count("c3 Queued") > 2
    assert pulled.count("c3 Interest") == 2


def test_it_ends_as_it_began(frames: List[Frame]) -> None:
    last = frames[-1]
    assert [client["interest"] for client in last["clients"]] == ["closed", "closed", "listening"]
    for client in last["clients"]:
        assert not any(client[lane][0] for lane in ("inbound", "input", "output", "outbound"))


def test_it_is_the_same_each_time(frames: List[Frame]) -> None:
    assert whats(record().frames) == whats(frames)


def test_every_phase_is_lit(frames: List[Frame]) -> None:
    phases = [phase.value for phase in Phase]
    assert sorted({frame["phase"] for frame in frames}) == sorted(phases)
    for phase in phases:
        assert f'data-phase="{phase}"' in TEMPLATE.read_text(encoding="utf-8")


def test_where_steps_are_left_out_it_is_known(frames: List[Frame]) -> None:
    for before, frame in zip(frames, frames[1:]):
        assert frame["skipped"] == (frame["turn"] > before["turn"] + 1)
    assert [frame["kind"] for frame in frames if frame["skipped"]] == ["Fills"]


def test_texts_are_not_repeated_over_and_over(frames: List[Frame]) -> None:
    texts = collections.Counter(frame["text"] for frame in frames)
    assert max(texts.values()) <= 3
    assert len(texts) >= 0.8 * len(frames)
    long = [text for text in texts if len(text) > 140]
    assert all(texts[text] == 1 for text in long)


def test_the_function_of_every_step_is_shown(recording: Recording) -> None:
    for frame in recording.frames:
        text = recording.sources[frame["code"]]
        _, name = frame["code"].split()
        assert text.startswith((f"def {name.split('.')[-1]}(", f"class {name}:"))
        assert len(text.splitlines()) <= 45
        lines = [line.strip() for line in text.splitlines()]
        assert any(line.startswith(frame["spot"]) for line in lines), frame["code"]


def test_every_place_that_a_caption_names_is_there() -> None:
    text = inspect.getsource(captions_module)
    places = set(re.findall(r'"([\w/]+\.py [\w.]+)"', text))
    assert len(places) > 30
    for place in places:
        assert source(place)
    for place in ("nowhere.py main", "server.py nothing", "server.py Server.nothing"):
        with pytest.raises(KeyError):
            source(place)


EVERY_STEP: List[Any] = [
    steps.Listening(AT, ("::1", 8888, 0, 0)),
    steps.Paused(AT),
    steps.NotListening(AT),
    steps.Ready(AT, (ReadySocket(steps.LISTENER, False),)),
    steps.Ready(AT, (ReadySocket(steps.WAKER, False),)),
    steps.Ready(AT, (ReadySocket("c1", True), ReadySocket("c2", False))),
    steps.Ready(AT, (ReadySocket("c1", True),)),
    steps.Ready(AT, (ReadySocket("c1", False),)),
    steps.TimerDue(AT, print),
    steps.Stopping(AT),
    steps.Opened(AT, "c1", ("127.0.0.1", 9)),
    steps.Received(AT, "c1", b"get k\n"),
    steps.Peeked(AT, "c1"),
    steps.InputEnded(AT, "c1"),
    steps.Dropped(AT, "c1", b"get"),
    steps.Put(AT, (Point("k", 1.0, 1),), stored=True),
    steps.Put(AT, (Point("k", 1.0, 1),) * 2, stored=True),
    steps.Put(AT, (Point("k", 1.0, 1),), stored=False),
    steps.Put(Moment(7, Phase.COMMIT), (Point("k", 1.0, 1),), stored=True),
    steps.Committed(AT, 2),
    steps.Settled(AT, 2, None),
    steps.Settled(AT, 2, StoreError("not stored")),
    steps.Refused(AT, StoreError("store is full")),
    steps.Found(AT, "k", None),
    steps.Found(AT, "k", 2),
    steps.FoundAll(AT),
    steps.Answered(AT, "c1", 0, False, False, b""),
    steps.Answered(AT, "c1", 1, False, False, b""),
    steps.Answered(AT, "c1", 0, False, False, b"get"),
    steps.Answered(AT, "c1", 1, False, False, b"get"),
    steps.Answered(AT, "c1", 0, False, True, b"get"),
    steps.Answered(AT, "c1", 1, False, True, b"get"),
    steps.Answered(AT, "c1", 0, True, True, b"get k\n"),
    steps.Queued(AT, "c1", b"ok\n\n"),
    steps.Queued(AT, "c1", b"k 1 1\n\n"),
    steps.Queued(AT, "c1", b"error\nwrong command\n\n"),
    steps.Queued(AT, "c1", b"error\nnot stored\n\n"),
    steps.Waiting(AT, "c1"),
    steps.Watched(AT, "c1", again=True),
    steps.Watched(AT, "c1", again=False),
    steps.Sent(AT, "c1", b"", 4),
    steps.Sent(AT, "c1", b"ok", 4),
    steps.Sent(AT, "c1", b"ok\n\n", 4),
    steps.Interest(AT, "c1", talking=True),
    steps.Interest(AT, "c1", talking=False),
    steps.Shut(AT, "c1"),
    *[steps.Closed(AT, "c1", cause, None) for cause in Cause],
]

EVERY_ACT: List[Any] = [
    acts.Connects("c1"),
    acts.Sends("c1", b"get k\n"),
    acts.Reads("c1", b"ok\n\n"),
    acts.Ends("c1"),
    acts.Leaves("c1"),
    acts.Fills("c1", 1000, "k"),
    acts.Sleeps("c1"),
    acts.DiskIsUsed(),
    acts.DiskHasWritten(),
    acts.DiskHasFailed(),
    acts.LineIsTakenOut(),
    acts.DiskIsNotHeard("c1"),
    acts.NobodyNotices("c1"),
    acts.LineIsBack(),
]


def test_everything_that_may_happen_has_a_caption() -> None:
    happenings = EVERY_STEP + EVERY_ACT
    kinds = Step.__args__ + acts.Act.__args__  # type: ignore[attr-defined]
    assert {type(happening) for happening in happenings} == set(kinds) == set(CAPTIONS)
    said = [caption(happening) for happening in happenings]
    for found in said:
        assert found.title and found.text and found.again and source(found.code)
        assert len(found.title) <= 70 and len(found.text) <= 190
        assert len(found.again) <= 130
    assert len({found.title for found in said}) == len(said)


def test_the_demonstration_disk_is_a_store() -> None:
    posted: List[Callable[[], None]] = []
    disk = Disk(Memory(max_points=9), posted.append)
    disk.put("a", 1.0, 1)
    disk.slow = True
    receipts = [disk.put("a", 2.0, 2), disk.put("b", 3.0, 3)]
    assert receipts[0] is receipts[1] and not receipts[0].settled
    disk.flush()
    assert disk.room == 8 and disk.find("b") is None
    posted.pop()()
    assert receipts[0].settled and disk.room == 6
    assert [key for key, _ in disk.items()] == ["a", "b"]
    refused = disk.put("c", 4.0, 4)
    disk.flush(StoreError("not stored"))
    posted.pop()()
    assert str(refused.refusal) == "not stored" and disk.find("c") is None
    for _ in disk.drop_before(3):
        pass
    assert disk.room == 8 and not disk.seal_late()
    disk.close()


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
    assert str(ROOT) not in text
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


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-m", "metricsd.walkthrough"]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    said = subprocess.check_output(command, cwd=str(tmp_path), env=environment, timeout=50)
    assert said == b"wrote walkthrough.html; open it in a browser\n"
    out = tmp_path / "out.html"
    assert main([str(out)]) == 0
    assert capsys.readouterr().out == f"wrote {out}; open it in a browser\n"
    for path in (tmp_path / "walkthrough.html", out):
        assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert "walkthrough.html" in (ROOT / ".gitignore").read_text(encoding="utf-8").split()


def test_a_path_that_can_not_be_written_is_one_clear_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["/no/such/folder/x.html"]) == 1
    assert capsys.readouterr().err == (
        "cannot write /no/such/folder/x.html: No such file or directory\n"
    )


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

# Five windows on the page in one browser; what each has become is told in an element of its name.
WINDOWS = """<!DOCTYPE html>
<style>iframe { width: 800px; height: 600px; border: 0 }</style>
<body>
<iframe name="step" src="page.html#step=8"></iframe>
<iframe name="marked" src="page.html#step=READY"></iframe>
<iframe name="controls" src="pressed.html"></iframe>
<iframe name="laptop" src="page.html" style="width: 1366px; height: 657px"></iframe>
<iframe name="phone" src="page.html" style="width: 360px; height: 740px"></iframe>
<script>
const everyStep = (view, look) => {
  for (let step = 0; step < view.eval("frames.length"); step++) {
    view.show(step);
    look();
  }
};
const lookAtLaptop = (laptop, found) => {
  const bar = laptop.document.querySelector("nav").getBoundingClientRect().top;
  found.hidden = found.scrolled = 0;
  everyStep(laptop, () => {
    found.scrolled = Math.max(found.scrolled, laptop.scrollY);
    for (const name of laptop.eval("frames[at].lit")) {
      for (const cell of laptop.document.querySelectorAll(`.row.${name} .cell`)) {
        const { top, bottom } = cell.getBoundingClientRect();
        if (top < 0 || bottom > bar) found.hidden++;
      }
    }
  });
};
const lookAtPhone = (phone, found) => {
  const root = phone.document.documentElement;
  found.beyond = 0;
  everyStep(phone, () => {
    found.beyond = Math.max(found.beyond, root.scrollWidth - root.clientWidth);
  });
  found.clients = phone.document.querySelectorAll(".row.here").length;
};
let looks = 0;
const tellAtTheEnd = () => {
  if (!window.frames.controls.document.body.dataset.seen && ++looks < 30) {
    setTimeout(tellAtTheEnd, 1000);
    return;
  }
  for (const name of ["step", "marked", "controls", "laptop", "phone"]) {
    const told = document.createElement("pre");
    told.id = name;
    told.textContent = window.frames[name].document.documentElement.outerHTML;
    document.body.append(told);
  }
};
window.onload = () => {
  lookAtLaptop(window.frames.laptop, window.frames.laptop.document.body.dataset);
  lookAtPhone(window.frames.phone, window.frames.phone.document.body.dataset);
  tellAtTheEnd();
};
</script></body>
"""


@pytest.fixture(scope="session", name="ready")
def _ready(recording: Recording) -> int:
    """The number of a step of the loop after some were left out."""
    (skipped,) = (n for n, frame in enumerate(recording.frames, 1) if frame["skipped"])
    return next(n for n, frame in enumerate(recording.frames, 1) if n > skipped and frame["trace"])


@pytest.fixture(scope="session", name="browser")
def _browser(
    recording: Recording, ready: int, tmp_path_factory: Any
) -> Iterator[Optional["subprocess.Popen[bytes]"]]:
    """One that has opened the windows, beside the other tests, and will print what is in them."""
    folder: Path = tmp_path_factory.mktemp("browser")
    text = page(recording)
    pressed = text.replace("</body>", PRESS_EVERYTHING + "</body>")
    windows = WINDOWS.replace("READY", str(ready))
    for name, content in ("page", text), ("pressed", pressed), ("windows", windows):
        (folder / (name + ".html")).write_text(content, encoding="utf-8")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        yield None
        return
    options = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=60000", "--dump-dom",
        "--allow-file-access-from-files",
    ]  # fmt: skip
    command = [browser, *options, (folder / "windows.html").as_uri()]
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **output) as process:  # type: ignore[call-overload]
        yield process
        process.kill()


@pytest.fixture(scope="session", name="shown")
def _shown(browser: Optional["subprocess.Popen[bytes]"]) -> Dict[str, str]:
    """What is in each window at the end."""
    if browser is None:
        pytest.skip("there is no Chromium here")
    dump = browser.communicate(timeout=50)[0].decode()
    assert browser.returncode == 0
    found = re.findall(r'<pre id="(\w+)">(.*?)</pre>', dump, re.DOTALL)
    return {name: html.unescape(told) for name, told in found}


def body(shown: str) -> str:
    return str(re.findall(r"<body[^>]*>", shown)[0])


@pytest.mark.waits
def test_a_step_in_a_browser(recording: Recording, shown: Dict[str, str]) -> None:
    step = shown["step"]
    frame = recording.frames[7]
    assert f'<h2 id="title">{frame["title"]}</h2>' in step
    assert f'<code id="code">{frame["code"]}</code>' in step
    assert f"8 of {len(recording.frames)}</output>" in step
    assert re.search(r'<li data-phase="read" class="lit" aria-current="step">', step)
    assert re.search(r'class="store lit"', step)
    first = recording.sources[frame["code"]].splitlines()[0].replace(">", "&gt;")
    assert f'<span class="">{first}</span>' in step
    assert "put cpu 12.5 1503319740" in step
    assert step.count("<option") == len(recording.scenes)


@pytest.mark.waits
def test_its_controls_in_a_browser(recording: Recording, shown: Dict[str, str]) -> None:
    controls = body(shown["controls"])
    last = len(recording.frames)
    batch = [frame["scene"] for frame in recording.frames].index(1) + 1
    steps = [last, last, last - 1, 1, 1, 2, last, last - 1, 1, 2, 40, batch, batch]
    assert f'data-seen="{" ".join(map(str, steps))}"' in controls
    assert 'data-playing="Pause"' in controls and 'data-paused="Play"' in controls
    assert 'data-moved="true"' in controls
    assert "data-failed" not in controls


@pytest.mark.waits
def test_a_marked_line_and_an_ellipsis_in_a_browser(
    recording: Recording, ready: int, shown: Dict[str, str]
) -> None:
    frame = recording.frames[ready - 1]
    assert f'<span class="">...</span>\n<mark class="">turn {frame["turn"]} ' in shown["marked"]
    marked = re.findall(r'<mark class="">(.*?)</mark>', shown["marked"].split('id="source"')[1])
    assert len(marked) == 1 and marked[0].strip().startswith(frame["spot"])


@pytest.mark.waits
def test_a_laptop_in_a_browser(shown: Dict[str, str]) -> None:
    """On 1366 x 657 pixels the client at hand can be seen in every step, and the title too."""
    laptop = body(shown["laptop"])
    assert 'data-hidden="0"' in laptop and 'data-scrolled="0"' in laptop


@pytest.mark.waits
def test_a_phone_in_a_browser(shown: Dict[str, str]) -> None:
    """Nothing is wider than the screen, and only the client at hand is shown."""
    phone = body(shown["phone"])
    assert 'data-beyond="0"' in phone and 'data-clients="1"' in phone
