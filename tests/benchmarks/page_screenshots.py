"""Screenshots of the live page and of ``eccos-aios top``: ``page_screenshots.py FOLDER``."""

from __future__ import annotations

import base64
import io
import sys
import tempfile
import time
from pathlib import Path

from live_kernel import LiveKernel
from PIL import Image
from rich.console import Console
from selenium import webdriver

from eccos_aios.cli.kernel_client import KernelClient
from eccos_aios.cli.top import view

SCREENS = {"wide": (1080, 900), "narrow": (360, 800)}
TOP_SIZE = (104, 30)  # columns and lines
TRAFFIC_S = 30.0
CALLS_PER_S = 30
COLORS = 128  # of a picture, so that it is small
UPPER_HEIGHT = 1222  # pixels: down to some of the decisions

GRADE = """
document.querySelectorAll("#decisions tbody tr").forEach((row, place) => {
  const thumb = row.querySelector(`[data-grade="${place % 5 ? 1 : 0}"]:enabled`);
  if (thumb) thumb.click();
});
"""


def main(folder: Path) -> None:
    """Write the whole page, a picture a screen and theme, its upper part as ``page.png``, and ``top.svg``."""
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
        _save(browser, folder / "page.png", UPPER_HEIGHT)
        browser.execute_script("document.querySelector('#decisions button.link').click()")
        time.sleep(1.0)
        _save_top(kernel.url, folder / "top.svg")
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
    picture.convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def _save_top(url: str, path: Path) -> None:
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=TOP_SIZE[0], file=nowhere, highlight=False, markup=False)
        console.print(view(KernelClient(url), *TOP_SIZE))
    console.save_svg(str(path), title=f"eccos-aios top --url {url}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
