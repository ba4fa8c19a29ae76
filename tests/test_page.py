"""The page in a real browser: what it draws is what was put."""

import contextlib
import math
import shutil
import time
from typing import Any, Callable, Iterator, List, Tuple

import pytest

from metricsd import Client, Server
from tests.conftest import running

webdriver = pytest.importorskip("selenium.webdriver", reason="the page is tried with selenium")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="the page is tried in Chromium, by its driver"
)

SECONDS = 20.0
DESK, PHONE = (1366, 657), (390, 844)
EVIL = "<img/src=x/onerror=document.title='evil'>"
ODD = "a(b),c{d}'e\"f|g=h*i?j[k]\\l"


@pytest.fixture(name="browser", scope="module")
def _browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def show(browser: Any, server: Server, view: str = "", size: Tuple[int, int] = DESK) -> None:
    """Open the page anew, on a screen of this size."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get("about:blank")
    host, port = server._listeners["http"].addresses[0][:2]
    browser.get(f"http://{host}:{port}/{view}")
    wait_for(lambda: text_of(browser, "#alive") in ("live", "still"))


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + SECONDS
    while True:
        found = condition()
        if found or time.monotonic() > deadline:
            assert found
            return found
        time.sleep(0.02)


def text_of(browser: Any, selector: str) -> str:
    return str(browser.execute_script(f"return document.querySelector({selector!r}).innerText"))


def rows(browser: Any) -> List[List[str]]:
    script = "return [...document.querySelectorAll('#rows tr')].map("
    script += "row => [...row.cells].map(cell => cell.innerText.trim()))"
    return browser.execute_script(script)  # type: ignore[no-any-return]


def inked(browser: Any, chart: int = 0) -> List[List[int]]:
    """For each column of a chart's plot, the rows where its first series is drawn."""
    script = """
    const canvas = document.querySelectorAll('.chart canvas')[arguments[0]];
    const pen = canvas.getContext('2d');
    const swatch = document.querySelectorAll('.chart')[arguments[0]].querySelector('.swatch');
    const [r, g, b] = getComputedStyle(swatch).backgroundColor.match(/\\d+/g).map(Number);
    const {data, width, height} = pen.getImageData(0, 0, canvas.width, canvas.height);
    const columns = [];
    for (let x = 0; x < width; x++) {
      const found = [];
      for (let y = 0; y < height; y++) {
        const at = (y * width + x) * 4;
        const far = [r, g, b].reduce((sum, part, i) => sum + Math.abs(data[at + i] - part), 0);
        if (data[at + 3] > 100 && far < 90) found.push(y);
      }
      columns.push(found);
    }
    return columns;
    """
    return browser.execute_script(script, chart)  # type: ignore[no-any-return]


@contextlib.contextmanager
def serving(points: List[Tuple[str, float, int]], **options: Any) -> Iterator[Server]:
    with running("127.0.0.1", 0, http=0, **options) as server:
        if points:
            with Client(*server.address, timeout=30) as client:
                client.put_many(points)
        yield server


def test_an_empty_store_says_how_to_begin_and_then_shows_it(browser: Any) -> None:
    with serving([]) as server:
        show(browser, server)
        command = wait_for(lambda: text_of(browser, "#first"))
        assert f"nc -w 1 127.0.0.1 {server.address[1]}" in command
        with Client(*server.address) as client:
            client.put("first.of.all", 12.5)
        wait_for(lambda: rows(browser) and rows(browser)[0][:2] == ["first.of.all", "12.5"])
        assert browser.execute_script("return document.querySelector('#welcome').hidden")


def test_what_is_drawn_is_what_was_put(browser: Any) -> None:
    """A sine and one peak among 100,000 points, in some 440 columns."""
    now = int(time.time())
    start = now - 100000
    points = [("s", 50 + 30 * math.sin(i / 5000), start + i) for i in range(100000)]
    points[70007] = ("s", 500.0, start + 70007)
    with serving(points) as server:
        show(browser, server, f"#key=s&from={start}&until={now}")
        wait_for(lambda: rows(browser)[0][3] == "500")
        columns = wait_for(lambda: [column for column in [inked(browser)] if any(column)])[0]
        drawn = [x for x, column in enumerate(columns) if column]
        left, right = drawn[0], drawn[-1]
        peak = min(range(len(columns)), key=lambda x: min(columns[x] or [9999]))
        assert abs((peak - left) / (right - left) - 0.70007) < 0.01
        top = min(columns[peak])
        bottom = max(max(column) for column in columns if column)
        # From the peak at 500 to the lowest point at 20: where the sine is at its highest.
        crest = left + round((right - left) * 5000 * math.pi / 2 / 100000)
        value = 500 - (min(columns[crest]) - top) / (bottom - top) * 480
        assert abs(value - 80) < 8


def test_a_peak_is_never_lost_whatever_the_width(browser: Any) -> None:
    now = int(time.time())
    points = [("s", 1.0, now - 50000 + i) for i in range(50000)]
    points[33333] = ("s", 9.0, now - 50000 + 33333)
    with serving(points) as server:
        for size in (DESK, PHONE):
            show(browser, server, f"#key=s&from={now - 50000}&until={now}", size)
            assert wait_for(lambda: rows(browser))[0][3] == "9"


def test_keys_are_text(browser: Any) -> None:
    now = int(time.time())
    with serving([(EVIL, 1.0, now), (ODD, 2.0, now), ("plain", 3.0, now)]) as server:
        show(browser, server)
        wait_for(lambda: len(rows(browser)) == 3)
        assert [row[:2] for row in rows(browser)] == [[EVIL, "1"], [ODD, "2"], ["plain", "3"]]
        assert browser.title == "metricsd"
        assert not browser.execute_script("return document.querySelectorAll('img').length")


def test_a_thousand_keys_appear_in_a_second(browser: Any) -> None:
    now = int(time.time())
    points = [(f"host{i // 10}.cpu.core{i % 10}", float(i), now) for i in range(1000)]
    with serving(points) as server:
        show(browser, server)
        wait_for(lambda: "host99" in text_of(browser, "#tree"))
        script = "return performance.getEntriesByName('keys shown')[0].startTime"
        assert browser.execute_script(script) < 1000  # milliseconds since the page was asked for
        browser.execute_script(
            "const box = document.querySelector('#search'); box.value = 'HOST42.cpu.core7';"
            "box.dispatchEvent(new Event('input'))"
        )
        wait_for(lambda: "1 found" in text_of(browser, "#tree"))
        browser.execute_script("document.querySelector('#tree input').click()")
        wait_for(lambda: ["host42.cpu.core7", "427"] in [row[:2] for row in rows(browser)])
        assert "key=host42.cpu.core7" in browser.current_url


def test_up_to_fifty_keys_the_tree_is_open(browser: Any) -> None:
    now = int(time.time())
    with serving([(f"a.b{i}.c", 1.0, now) for i in range(50)]) as server:
        show(browser, server)
        script = "return [...document.querySelectorAll('#tree details')].every(one => one.open)"
        wait_for(lambda: browser.execute_script(script))
        assert (
            browser.execute_script("return document.querySelectorAll('#tree input').length") == 50
        )


def test_it_is_live_and_a_view_is_an_address(browser: Any) -> None:
    now = int(time.time())
    with serving([("a", 1.0, now - 20), ("b", 2.0, now - 20)]) as server:
        show(browser, server, "#key=b&last=300&shape=one")
        assert rows(browser)[0][:2] == ["b", "2"]
        with Client(*server.address) as client:
            client.put("b", 7.25)
            wait_for(lambda: rows(browser)[0][1] == "7.25")
        browser.execute_script("document.querySelector('#ranges button[value=\"86400\"]').click()")
        wait_for(lambda: "last=86400" in browser.current_url)


def test_old_points_are_found(browser: Any) -> None:
    """Those of the README's dialogue are of 2017."""
    with serving([("cpu", 12.5, 1503319740), ("cpu", 13.0, 1503319739)]) as server:
        show(browser, server)
        wait_for(lambda: rows(browser) and rows(browser)[0][:4] == ["cpu", "12.5", "12.5", "13"])
        assert "last=all" in browser.current_url


def test_dragging_zooms_and_keys_move(browser: Any) -> None:
    now = int(time.time())
    with serving([("s", float(i), now - 3600 + i) for i in range(3600)]) as server:
        show(browser, server, f"#key=s&from={now - 3600}&until={now}")
        drag = """
        const canvas = document.querySelector('canvas'), box = canvas.getBoundingClientRect();
        canvas.setPointerCapture = () => {};
        const send = (type, x) => canvas.dispatchEvent(new PointerEvent(type,
            {clientX: box.left + 52 + (box.width - 60) * x, clientY: box.top + 50, pointerId: 1}));
        send('pointerdown', .25); send('pointermove', .4); send('pointermove', .5);
        send('pointerup', .5);
        """
        browser.execute_script(drag)
        wait_for(lambda: 850 <= float(rows(browser)[0][2].replace(" k", "e3")) <= 950)
        assert 1700 <= float(rows(browser)[0][1]) <= 1850
        before = browser.current_url
        canvas = browser.find_element("css selector", "canvas")
        canvas.send_keys("0")
        wait_for(lambda: browser.current_url != before)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_nothing_complains(browser: Any, size: Tuple[int, int], scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    now = int(time.time())
    with serving([(f"web.host{i}.requests.per.second", float(i), now) for i in range(6)]) as server:
        browser.get_log("browser")
        show(browser, server, "", size)
        wait_for(lambda: rows(browser))
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= size[0]
        assert browser.get_log("browser") == []
        paper = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in paper[4:-1].split(",")) > 380
        assert light == (scheme == "light")


def test_without_a_server_it_says_so(browser: Any) -> None:
    with serving([("a", 1.0, int(time.time()))]) as server:
        show(browser, server)
    wait_for(lambda: text_of(browser, "#alive") == "no answer from the server")
