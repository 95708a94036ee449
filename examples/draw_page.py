"""Draws docs/page.png and docs/page-phone.png: the page of a running server, as people see it.

Needs playwright and a Chromium, and `slowfast serve --examples examples`:

    python examples/draw_page.py http://127.0.0.1:8000 docs
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WIDE = {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light", "locale": "en-US"}
PHONE = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark", "locale": "zh-TW"}


def ask(page: Page, words: str, button: str) -> None:
    """Ask, or have a job done, and wait for what comes of it."""
    turns = page.locator(".turn")
    number = turns.count()
    page.fill("#question", words)
    page.click(button)
    turns.nth(number).locator(".meta").wait_for(timeout=300_000)


def shot(page: Page, path: Path) -> None:
    """A picture of few colours, and so of few bytes."""
    page.wait_for_timeout(1500)  # controls of the player fade
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def draw(browser: Any, address: str, folder: Path) -> None:
    wide = browser.new_page(**WIDE)
    wide.goto(address)
    wide.get_by_text("shapes.mp4").click()
    ask(wide, "Which letter or digit is shown?", "#send")
    ask(wide, "an orange moon", "[data-job=ground]")
    wide.locator(".evidence a").first.click()
    shot(wide, folder / "page.png")
    phone = browser.new_page(**PHONE)
    phone.goto(address)
    phone.get_by_text("photos.mp4").click()
    ask(phone, "杯子什麼時候出現？", "#send")
    ask(phone, "杯子", "[data-job=ground]")
    phone.locator(".answer a").first.click()
    shot(phone, folder / "page-phone.png")


if __name__ == "__main__":
    with sync_playwright() as started:
        found = shutil.which("chromium") or shutil.which("chromium-headless-shell")
        draw(
            started.chromium.launch(executable_path=found, args=["--no-sandbox"]),
            sys.argv[1],
            Path(sys.argv[2]),
        )
