"""Screenshots of the live page, wide and narrow, dark and light: ``page_screenshots.py FOLDER``."""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

from live_kernel import LiveKernel
from PIL import Image
from selenium import webdriver

SCREENS = {"wide": (1080, 900), "narrow": (360, 800)}
TRAFFIC_S = 30.0
CALLS_PER_S = 30
COLORS = 128  # of a picture, so that it is small
README_HEIGHT = 1222  # pixels: down to some of the decisions

GRADE = """
document.querySelectorAll("#decisions tbody tr").forEach((row, place) => {
  const thumb = row.querySelector(`[data-grade="${place % 5 ? 1 : 0}"]:enabled`);
  if (thumb) thumb.click();
});
"""


def main(folder: Path) -> None:
    """Write a picture a screen and theme, of the whole page, and ``readme.png``, its upper part."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    with LiveKernel(Path(tempfile.mkdtemp()), latency_s=0.15) as kernel, kernel.traffic(CALLS_PER_S):
        browser.get(f"{kernel.url}/eccos/")
        time.sleep(TRAFFIC_S)
        browser.execute_script(GRADE)
        time.sleep(1.0)
        kernel.cores["gpt-4o-mini"].fail("401", everywhere=True)
        time.sleep(6.0)
        _show(browser, "wide", "light")
        _save(browser, folder / "readme.png", README_HEIGHT)
        browser.execute_script("document.querySelector('#decisions button.link').click()")
        time.sleep(1.0)
        for screen in SCREENS:
            for theme in ("dark", "light"):
                _show(browser, screen, theme)
                _save(browser, folder / f"page_{screen}_{theme}.png")
    browser.quit()


def _show(browser: webdriver.Chrome, screen: str, theme: str) -> None:
    width, height = SCREENS[screen]
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "narrow"}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    time.sleep(1.0)


def _save(browser: webdriver.Chrome, path: Path, height: int | None = None) -> None:
    width, whole = browser.execute_script(
        "const page = document.documentElement; return [page.clientWidth, page.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": width, "height": height or whole, "scale": 1}
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True})
    picture = Image.open(io.BytesIO(base64.b64decode(shot["data"])))
    picture.convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
