"""A headless Chromium for tests of pages; where there is none they skip, or fail if HEARTWOOD_REQUIRE_BROWSER is set."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REQUIRE = "HEARTWOOD_REQUIRE_BROWSER"
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> tuple[str, str]:
    """The paths of Chromium and its driver, or a skip that says what is missing."""
    found = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(found):
        why = "needs Chromium: apt-get install chromium chromium-driver"
        if os.environ.get(REQUIRE):
            pytest.fail(f"{REQUIRE} is set, and this {why}")
        pytest.skip(why)
    return str(found[0]), str(found[1])


class Browser:
    """One page at a time; what it logs and requests is kept."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def show(self, page: Path, *, fragment: str = "", width: int = 1440, dark: bool = False) -> None:
        """Load a page from its file, at a width, light or dark."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.resolve().as_uri() + fragment)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def complaints(self) -> list[str]:
        """What the console has said since the page was loaded."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self) -> list[str]:
        """Every address that was asked for since the page was loaded."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """A browser with a profile folder of its own."""
    binary, driver_path = chromium()
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = binary
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
