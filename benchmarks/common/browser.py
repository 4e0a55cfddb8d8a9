"""A headless Chromium that opens files and drags the mouse."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 1280, 800
HOW = "a page takes Chromium: apt-get install chromium chromium-driver; pip install selenium"

_COUNT_FRAMES = """
window.frames_at = [];
const note = (now) => { if (window.frames_at) { window.frames_at.push(now); next(); } };
const next = () => requestAnimationFrame(note);
next();
"""


def chromium() -> tuple[str, str] | None:
    """Return the paths of Chromium and its driver, if there are both."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    return (browser, driver) if browser and driver else None


@contextmanager
def browsing() -> Iterator[Any]:
    """Start the browser, with a driver of Selenium that is at its window."""
    from selenium import webdriver

    found = chromium()
    if found is None:
        raise SystemExit(HOW)
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for argument in (
        "headless=new", "no-sandbox", "disable-dev-shm-usage", "enable-unsafe-swiftshader",
        f"window-size={WIDTH},{HEIGHT}",
    ):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found[1]))
    try:
        yield driver
    finally:
        driver.quit()


def open_page(driver: Any, path: Path, is_ready: str) -> None:
    """Open a file, and wait until an expression of JavaScript is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    driver.get(path.resolve().as_uri())
    WebDriverWait(driver, 300, 0.05).until(lambda d: d.execute_script(f"return !!({is_ready})"))


def mouse(driver: Any, event: str, x: float, y: float) -> None:
    """Have the mouse do something at a place: mouseMoved, mousePressed or mouseReleased."""
    driver.execute_cdp_cmd(
        "Input.dispatchMouseEvent",
        {"type": event, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1},
    )


def click(driver: Any, x: float, y: float) -> None:
    for event in ("mousePressed", "mouseReleased"):
        mouse(driver, event, x, y)


def drag(driver: Any, num_step: int) -> list[float]:
    """Drag the page under the mouse, and return how long each frame took, in milliseconds."""
    x, y = 0.55 * WIDTH, 0.5 * HEIGHT
    driver.execute_script(_COUNT_FRAMES)
    mouse(driver, "mousePressed", x, y)
    for step in range(1, num_step + 1):
        mouse(driver, "mouseMoved", x - 5 * step, y + 2 * step)
    frames = driver.execute_script("const f = window.frames_at; window.frames_at = null; return f")
    mouse(driver, "mouseReleased", x - 5 * num_step, y + 2 * num_step)
    return [after - before for before, after in itertools.pairwise(frames)]
