"""Takes the README's pictures of the Studio: `make screenshots` writes docs/studio-*.webp.

Drives Debian's Chromium (apt-get install chromium) over a service of its own, with what the Studio brings along.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from examples.local_service import local_service

DOCS = Path(__file__).resolve().parents[1] / "docs"
DESKTOP: ViewportSize = {"width": 1280, "height": 880}
PHONE: ViewportSize = {"width": 390, "height": 844}
SCALE = 1.5
QUALITY = 82


def personalise(page: Page) -> None:
    """The sample photo in the first page, with the slider over it."""
    page.get_by_role("button", name="Try it with the sample photo").click()
    page.locator(".stage[data-shown]").wait_for()


def snowy_night(page: Page) -> None:
    """Another page, so that the phone shows another one."""
    page.get_by_role("button", name="Snowy night").click()
    page.get_by_role("button", name="Use the sample photo").locator("visible=true").click()
    page.locator(".stage[data-shown]").wait_for()
    page.locator(".stage").evaluate("stage => window.scrollTo(0, stage.getBoundingClientRect().top + scrollY - 108)")


def faces(page: Page) -> None:
    """Box and mesh over the face, and what was measured."""
    page.get_by_role("button", name="Use the sample photo").locator("visible=true").click()
    page.locator(".dials").wait_for()
    page.mouse.move(2, 400)


def contours(page: Page) -> None:
    """All regions, the nose pointed at."""
    page.get_by_role("button", name="Use the sample photo").locator("visible=true").click()
    page.locator(".contours [data-region=nose]").hover()


def try_on(page: Page) -> None:
    """The drawn shirt on the drawn figure."""
    page.get_by_role("button", name="Use the drawn figure").click()
    page.get_by_role("button", name="Use the drawn shirt").click()
    page.get_by_role("button", name="Try it on").click()
    page.locator(".terms").wait_for()


def nothing(page: Page) -> None:
    """The tab as it is."""
    page.locator("[role=tabpanel]:not([hidden]) .card").first.wait_for()


SHOTS: list[tuple[str, str, Callable[[Page], None], bool, ViewportSize]] = [
    ("personalise", "Personalise", personalise, False, DESKTOP),
    ("personalise-phone", "Personalise", snowy_night, True, PHONE),
    ("faces", "Faces", faces, True, DESKTOP),
    ("contours", "Contours", contours, False, DESKTOP),
    ("try-on", "Try-on", try_on, False, DESKTOP),
    ("models", "Models", nothing, True, DESKTOP),
    ("activity", "Activity", nothing, False, DESKTOP),
]
"""Name of the file, tab, what is done there, dark, size."""


def main() -> int:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        print("Chromium is not installed: apt-get install chromium", file=sys.stderr)
        return 1
    with local_service(API_KEY="", AUTH_REQUIRED="false") as service, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, tab, act, dark, size in SHOTS:
            picture = shot(browser, f"{service.url}/studio", tab, act, dark=dark, size=size)
            path = DOCS / f"studio-{name}.webp"
            picture.save(path, quality=QUALITY, method=6)
            print(f"{path}: {path.stat().st_size // 1024} kB")
        browser.close()
    return 0


def shot(
    browser: Browser, url: str, tab: str, act: Callable[[Page], None], *, dark: bool, size: ViewportSize
) -> Image.Image:
    """A tab after something was done in it."""
    context = browser.new_context(
        viewport=size, color_scheme="dark" if dark else "light", device_scale_factor=SCALE, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(url)
    page.get_by_role("tab", name=tab).click()
    act(page)
    if size is not PHONE:
        page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(400)  # ms, until pictures and fonts are painted
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    context.close()
    return picture


if __name__ == "__main__":
    sys.exit(main())
