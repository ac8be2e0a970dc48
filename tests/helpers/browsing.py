"""Chromium, without a window, for tests of pages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
NEEDS_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver, which are not installed"
    ),
]
ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900"),
)


def new_browser(profile: Path) -> Any:
    """Return a browser that keeps what it writes in the folder `profile`."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(DRIVER))


def show(browser: Any, page: Path | str, *, dark: bool = False, width: int = 1280) -> None:
    """Open a page; what was logged before is forgotten."""
    theme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    theme.append({"name": "prefers-reduced-motion", "value": "reduce"})  # what is clicked stands still
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": theme})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(page if isinstance(page, str) else page.as_uri())


def drawn(browser: Any, most: int = 99) -> list[Any]:
    """Bring the charts into sight and return them once they are drawn."""
    figures = browser.find_elements("css selector", "figure[data-chart]")[:most]
    for figure in figures:
        browser.execute_script("arguments[0].scrollIntoView()", figure)
        until(lambda figure=figure: figure.get_attribute("data-drawn") == "yes", figure.get_attribute("data-chart"))
    return figures


def until(holds: Callable[[], Any], what: str = "", seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.02)
