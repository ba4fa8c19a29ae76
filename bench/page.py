"""Take the picture of the page that the README shows: a real server with a day of made-up points.

Needs Chromium with its driver, and selenium: pip install '.[page]'.
"""

import argparse
import math
import random
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Iterator, Tuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from metricsd import Client, Server  # noqa: E402

DAY = 86400
STEP = 15  # seconds between two points
SIZE = (1366, 657)
KEYS = ("web.requests", "web.milliseconds", "db.connections", "room.temperature")
LOAD_SECONDS = 20.0


def points(now: int) -> Iterator[Tuple[str, float, int]]:
    """A day of four machines' measurements."""
    dice = random.Random(7)
    for number in range(DAY // STEP):
        timestamp = now - DAY + number * STEP
        day = math.sin(2 * math.pi * (timestamp % DAY) / DAY - 1.8)
        busy = 120 + 90 * day + dice.gauss(0, 6)
        slow = 300.0 if number == 4100 else 0.0
        yield KEYS[0], round(max(busy, 3), 1), timestamp
        yield KEYS[1], round(18 + busy / 12 + dice.expovariate(0.4) + slow, 2), timestamp
        yield KEYS[2], float(round(20 + busy / 9)), timestamp
        yield KEYS[3], round(20.5 + 1.6 * day + dice.gauss(0, 0.05), 2), timestamp


def take(url: str, path: Path) -> None:
    """Open a page as a browser shows it, and save what is seen."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium") or shutil.which("google-chrome"))
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.ChromeService(str(shutil.which("chromedriver")))
    with webdriver.Chrome(options=options, service=service) as browser:
        screen = {"width": SIZE[0], "height": SIZE[1], "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.get(url)
        deadline = time.monotonic() + LOAD_SECONDS
        while browser.execute_script("return document.querySelectorAll('#rows tr').length") < 4:
            if time.monotonic() > deadline:
                raise SystemExit("page: the page does not show its points")
        browser.save_screenshot(str(path))


def main() -> None:
    """Serve, put, and take the picture."""
    parser = argparse.ArgumentParser(prog="page.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", default=str(ROOT / "bench" / "results"), metavar="DIR")
    folder = Path(parser.parse_args().out)
    with Server("127.0.0.1", 0, http=0, self_metrics=True) as server:
        threading.Thread(target=server.serve_forever).start()
        with Client(*server.address) as client:
            client.put_many(points(int(time.time())))
        host, port = server._listeners["http"].addresses[0][:2]
        keys = "&".join(f"key={key}" for key in KEYS)
        take(f"http://{host}:{port}/#{keys}&last={DAY}", folder / "page.png")
    print(f"wrote {folder / 'page.png'}")


if __name__ == "__main__":
    main()
