"""Screenshots of the live page, wide and narrow, dark and light: ``page_screenshots.py FOLDER``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from live_kernel import LiveKernel
from selenium import webdriver

SCREENS = {"wide": (1200, 1500), "narrow": (360, 2400)}
TRAFFIC_S = 20.0


def main(folder: Path) -> None:
    """Write a picture a screen and theme."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options, webdriver.ChromeService("/usr/bin/chromedriver"))
    with LiveKernel(Path(tempfile.mkdtemp()), latency_s=0.15) as kernel, kernel.traffic(60):
        browser.get(f"{kernel.url}/eccos/")
        time.sleep(TRAFFIC_S)
        kernel.cores["gpt-4o-mini"].fail("401", everywhere=True)
        time.sleep(3.0)
        browser.execute_script("document.querySelector('[data-grade=\"1\"]:enabled').click()")
        browser.execute_script("document.querySelector('#decisions button.link').click()")
        time.sleep(1.0)
        for name, (width, height) in SCREENS.items():
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": name == "narrow"}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            for theme in ("dark", "light"):
                media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                time.sleep(1.0)
                browser.save_screenshot(str(folder / f"page_{name}_{theme}.png"))
    browser.quit()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
