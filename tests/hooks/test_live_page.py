"""The live page in a real browser, in front of a kernel with traffic."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDED = ("selenium", "uvicorn")
if CHROMIUM is None or DRIVER is None or any(find_spec(name) is None for name in NEEDED):
    pytest.skip("needs Debian's chromium and chromium-driver, selenium and uvicorn", allow_module_level=True)

from live_kernel import LiveKernel  # noqa: E402
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

WAIT_S = 30.0
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,1400"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Any) -> Any:
    """With no page and an empty console."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    return chromium


def until(browser: Any, condition: str, *arguments: Any) -> Any:
    """Wait until a script's value is true."""
    return WebDriverWait(browser, WAIT_S, 0.1).until(
        lambda driver: driver.execute_script(f"return {condition}", *arguments), condition
    )


def state_of(core: str) -> str:
    row = f"document.querySelector('#cores tr[data-key=\"{core}\"]')"
    return f"{row} && {row}.querySelector('.badge').textContent"


def errors(browser: Any, *allowed: str) -> list[str]:
    """The console's errors; lost connections are logged by the browser itself."""
    return [
        entry["message"]
        for entry in browser.get_log("browser")
        if entry["level"] in ("SEVERE", "WARNING") and not any(text in entry["message"] for text in allowed)
    ]


def test_shows_traffic_a_core_going_down_and_grades_and_outlives_a_restart(
    browser: Any, tmp_path: Path
) -> None:
    with LiveKernel(tmp_path) as kernel, kernel.traffic(40):
        browser.get(f"{kernel.url}/eccos/")
        until(browser, "document.querySelectorAll('#decisions tbody tr').length > 5")
        assert browser.find_element(By.ID, "quality-note").text.startswith("target 0.800")
        assert len(browser.find_elements(By.CSS_SELECTOR, "#compare tbody tr")) == 3
        assert len(browser.find_elements(By.CSS_SELECTOR, ".chart canvas")) == 2

        kernel.cores["gpt-4o-mini"].fail("401", everywhere=True)
        kernel.cores["gemma-3n"].fail("401", everywhere=True)
        kernel.cores["sonnet"].fail("401", everywhere=True)
        until(browser, f"({state_of('sonnet')}) === 'open'")
        until(browser, "document.getElementById('health').textContent === 'unhealthy'")
        for core in kernel.cores.values():
            core.heal()
        until(browser, f"({state_of('sonnet')}) === 'ok'")
        until(browser, "document.getElementById('health').textContent === 'healthy'")

        # The list holds still once the keyboard is in it.
        until(browser, "document.querySelector('[data-grade=\"0\"]:enabled')")
        thumb = browser.execute_script(
            "const thumb = document.querySelector('[data-grade=\"0\"]:enabled'); thumb.focus(); return thumb"
        )
        thumb.send_keys(Keys.ENTER)
        until(browser, "document.getElementById('graded').textContent.includes('graded as bad')")
        assert thumb.get_attribute("aria-pressed") == "true"
        until(browser, "document.getElementById('learning-note').textContent.includes('1 graded')")
        browser.find_element(By.CSS_SELECTOR, "#decisions button.link").send_keys(Keys.ENTER)
        until(browser, "document.querySelectorAll('#estimates tbody tr').length === 3")
        assert "reason" in browser.find_element(By.ID, "facts").text
        assert "Question" not in browser.find_element(By.TAG_NAME, "body").text  # texts are not shown
        assert errors(browser) == []

        kernel.stop()
        until(browser, "document.getElementById('link').textContent.includes('does not answer')")
        kernel.start()
        until(browser, "document.getElementById('link').textContent === ''")
        seen = browser.execute_script("return Number(document.documentElement.dataset.events)")
        until(browser, "Number(document.documentElement.dataset.events) > arguments[0] + 2", seen)
        assert errors(browser, "net::ERR_") == []


def test_a_token_is_entered_once_and_a_wrong_one_is_refused(browser: Any, tmp_path: Path) -> None:
    with LiveKernel(tmp_path, token=TOKEN) as kernel, kernel.traffic(10):
        browser.get(f"{kernel.url}/eccos/")
        until(browser, "!document.getElementById('ask').hidden")
        field = browser.find_element(By.ID, "token")
        field.send_keys("not the token", Keys.ENTER)
        until(browser, "document.getElementById('refused').textContent !== ''")
        field.send_keys(TOKEN, Keys.ENTER)
        until(browser, "document.querySelectorAll('#cores tbody tr').length === 3")
        browser.refresh()
        until(browser, "document.querySelectorAll('#cores tbody tr').length === 3")
        assert browser.find_element(By.ID, "ask").is_displayed() is False
        assert errors(browser, "401") == []


def test_names_are_text_never_markup(browser: Any, tmp_path: Path) -> None:
    from eccos_aios.sandbox import LLMQuery

    agent = "<img src=x onerror=document.title='broken'>"
    with LiveKernel(tmp_path) as kernel:
        browser.get(f"{kernel.url}/eccos/")
        assert kernel.kernel is not None
        kernel.kernel.query(agent, LLMQuery(messages=[{"role": "user", "content": "Hello"}])).result()
        until(browser, "document.getElementById('decisions').textContent.includes('<img')")
        assert browser.title == "ECCOS"
        assert browser.find_elements(By.CSS_SELECTOR, "#decisions img") == []


def test_a_narrow_screen_is_not_scrolled_sideways(browser: Any, tmp_path: Path) -> None:
    with LiveKernel(tmp_path) as kernel, kernel.traffic(40):
        browser.set_window_size(500, 900)  # the narrowest that headless Chromium has
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True},
        )
        browser.get(f"{kernel.url}/eccos/")
        until(browser, "document.querySelectorAll('#decisions tbody tr').length > 5")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 360
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        boxes = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
        assert browser.execute_script(f"return {boxes}") == 0
