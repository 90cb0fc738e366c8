"""The Studio in a real Chromium, with a real service behind it: what a visitor does, sees and is told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    Route,
    ViewportSize,
    expect,
    sync_playwright,
)
from skimage import data

from examples.local_service import local_service
from tests.conftest import PAGES, encoded
from tests.servers import missing, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEY = "a-key-for-the-studio"
TIMEOUT_MS = 60_000  # a slow machine under load; what passes does not wait for it
SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
TINY_PACK = SHARED / "models" / "tiny-pack"
PHONE: ViewportSize = {"width": 390, "height": 844}
NOTE_WORDS = """place => {
  window.noted = [];
  const words = (changes) => changes.flatMap(({ addedNodes }) => [...addedNodes].map((each) => each.textContent));
  new MutationObserver((changes) => noted.push(...words(changes))).observe(place, { childList: true, subtree: true });
}"""
DROP = """(zone, [name, type, base64]) => {
  const bytes = Uint8Array.from(atob(base64), (each) => each.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name, { type }));
  for (const kind of ["dragenter", "dragover", "drop"])
    zone.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
}"""


class Visit:
    """A visitor's page. Whatever it does, it asks nobody but the service, and nothing in it fails."""

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.refusals_expected = False
        self.faults: list[str] = []
        self.strangers: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("request", self._on_request)

    def open(self, tab: str = "", *, key: str | None = KEY) -> Page:
        """The Studio at a tab, signed in with a key."""
        if key is not None:
            self.page.add_init_script(f"sessionStorage.setItem('studio.api-key', {key!r})")
        self.page.goto(f"{self.url}/studio#{tab}")
        expect(self.page.get_by_role("tab").first).to_be_visible()
        return self.page

    def check(self) -> None:
        """No fault in the console, and no request to another origin."""
        assert self.faults == []
        assert self.strangers == []

    def _on_console(self, message: ConsoleMessage) -> None:
        refused = message.text.startswith("Failed to load resource") and self.refusals_expected
        if message.type in ("error", "warning") and not refused:
            self.faults.append(message.text)

    def _on_request(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "blob:", "data:")):
            self.strangers.append(request.url)


@pytest.fixture(scope="module")
def file_server() -> Iterator[Callable[[Path], str]]:
    """Serves the files of a folder, and gives back its address."""
    servers: list[ThreadingHTTPServer] = []

    def serve(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietFiles, directory=str(folder))))
        threading.Thread(target=servers[-1].serve_forever, kwargs={"poll_interval": 0.02}).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


class QuietFiles(SimpleHTTPRequestHandler):
    """Writes no log."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
        """Keep the test's output quiet."""


@pytest.fixture(scope="module")
def url(
    tmp_path_factory: pytest.TempPathFactory, file_server: Callable[[Path], str], sdxl: Path, ip_adapter: Path
) -> Iterator[str]:
    """One service for all visits. It asks for a key."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "small-model.onnx").write_bytes(b"weights " * 500_000)
    settings = {"API_KEY": KEY, "AUTH_REGISTRATION": "open", "RATE_LIMIT_LOGIN": "off", "MAX_WORKERS": "2"}
    if TINY_PACK.is_dir():
        settings |= {"FACE_MODEL": str(TINY_PACK), "FACE_MATCH_THRESHOLD": "0.5"}
    models = {"MODELS_DIR": str(folder / "installed"), "MODEL_SERVER": file_server(folder)}
    generation = {
        "MODEL_PATH": str(sdxl), "IMAGE_SIZES": "64x64", "GENERATION_STEPS": "8", "ENABLE_IP_ADAPTER": "true",
        "IP_ADAPTER_PATH": str(ip_adapter), "IP_ADAPTER_WEIGHTS": "sdxl_models/ip-adapter.safetensors",
        "GENERATION_PRELOAD": "true", "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    with local_service("-m", "tests.studio_process", **settings, **models, **generation) as service:
        yield service.url


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        missing("Chromium", "chromium")
    expect.set_options(timeout=TIMEOUT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    visit = Visit(context.new_page(), url)
    yield visit
    visit.check()
    visit.page.unroute_all(behavior="ignoreErrors")  # what is still asked for when a test ends is nobody's any more
    context.close()


@pytest.fixture(scope="module")
def portrait(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A public-domain photo with one face."""
    path = tmp_path_factory.mktemp("photos") / "portrait.jpg"
    path.write_bytes(encoded(Image.fromarray(data.astronaut()), "JPEG", quality=90))
    return path


def check_accessible(page: Page) -> None:
    """axe-core finds nothing serious; whatever it says stands in the failure."""
    found = Axe().run(page).response["violations"]
    serious = [each for each in found if each["impact"] in ("serious", "critical")]
    assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious] == []


def panel(page: Page, name: str) -> Locator:
    return page.get_by_role("tabpanel", name=name)


def choose(page: Page | Locator, label: str, path: Path) -> None:
    page.get_by_label(label, exact=True).first.set_input_files(path)


def note_words(place: Locator) -> Callable[[], list[str]]:
    """Gives back all that was written there since: also what stood too shortly to be caught by looking."""
    place.evaluate(NOTE_WORDS)

    def words() -> list[str]:
        noted: list[str] = place.evaluate("noted")
        return noted

    return words


def drawn(page: Page, times: int = 1) -> Locator:
    """The page, once it was drawn as often as this."""
    stage = page.locator(f".stage[data-shown='{times}']")
    stage.wait_for()
    return stage


# --- the page itself ----------------------------------------------------------------------------------------------


def test_a_browser_gets_the_studio_and_a_client_gets_json(visit: Visit) -> None:
    page = visit.page
    page.goto(visit.url)
    expect(page.get_by_role("link", name=re.compile("Studio"))).to_be_visible()
    answer = page.request.get(visit.url, headers={"Accept": "*/*"})
    assert answer.json()["studio"] == "/studio"
    assert answer.headers["vary"].startswith("Accept")


def test_the_policy_lets_nothing_in_but_our_own_files(visit: Visit) -> None:
    headers = visit.page.request.get(f"{visit.url}/studio").headers
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy["script-src"], policy["style-src"], policy["connect-src"]} == {"'self'"}
    assert "unsafe" not in headers["content-security-policy"]


def test_tabs_are_moved_through_with_the_keyboard(visit: Visit) -> None:
    page = visit.open()
    first = page.get_by_role("tab", name="Personalise")
    first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Faces")).to_be_focused()
    expect(page.get_by_role("tab", name="Faces")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("End")
    expect(page.get_by_role("tab", name="Activity")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(first).to_be_focused()
    expect(page).to_have_url(re.compile("#personalise$"))
    expect(page.locator("[role=tab][tabindex='0']")).to_have_count(1)


def test_every_tab_says_that_the_service_does_not_answer_until_it_does(visit: Visit) -> None:
    visit.refusals_expected = True
    visit.page.route("**/health", lambda route: route.abort())
    page = visit.open()
    page.get_by_role("tab", name="Contours").click()
    place = panel(page, "Contours")
    expect(place.get_by_role("alert")).to_contain_text("The service does not answer")
    visit.page.unroute("**/health")
    place.get_by_role("button", name="Try again").click()
    expect(place.get_by_text("Drop a photo of a face")).to_be_visible()
    page.get_by_role("tab", name="Personalise").click()
    expect(page.get_by_text("Your page appears here")).to_be_visible()


def test_the_theme_is_the_systems_until_it_is_chosen(browser: Browser, url: str) -> None:
    context = browser.new_context(color_scheme="dark")
    visit = Visit(context.new_page(), url)
    page = visit.open()
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_role("button", name="Dark theme", pressed=True).click()
    light = page.evaluate(paper)
    assert light != dark
    page.reload()
    expect(page.get_by_role("button", name="Dark theme", pressed=False)).to_be_visible()
    assert page.evaluate(paper) == light
    visit.check()
    context.close()


# --- who you are --------------------------------------------------------------------------------------------------


def test_a_key_is_asked_for_and_a_wrong_one_is_told_so(visit: Visit) -> None:
    visit.refusals_expected = True
    page = visit.open(key=None)
    key = panel(page, "Personalise").get_by_label("API key", exact=True).last
    expect(key).to_be_visible()
    check_accessible(page)
    key.fill("not this one")
    key.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The token is unknown or no longer valid.")
    key.fill(KEY)
    key.press("Enter")
    expect(page.get_by_text("Your page appears here")).to_be_visible()
    page.get_by_role("button", name="Requests, as curl").click()
    asked = page.locator("pre.curl").filter(has_text="/models")
    expect(asked.first).to_be_visible()
    expect(asked.filter(has_not_text="Bearer $TOKEN")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(page.get_by_text("Your page appears here")).to_be_visible()
    page.get_by_role("button", name="Key in use").click()
    page.get_by_role("button", name="Sign out").click()
    expect(panel(page, "Personalise").get_by_role("button", name="Sign in")).to_be_visible()


def test_an_account_stays_signed_in_by_its_refresh_token(visit: Visit) -> None:
    page = visit.open(key=None)
    place = panel(page, "Personalise")
    place.get_by_label("New account").check()
    place.get_by_label("Username or e-mail address").fill("reader@example.com")
    place.get_by_label("Password").fill("correct horse battery")
    place.get_by_role("button", name="Make the account").click()
    expect(page.get_by_text("Your page appears here")).to_be_visible()
    kept = "Object.entries({...sessionStorage, ...localStorage}).map(([name]) => name).join()"
    assert page.evaluate(kept).split(",") == ["studio.refresh-token", "studio.username"]
    before = page.evaluate("sessionStorage.getItem('studio.refresh-token')")
    page.reload()
    expect(page.get_by_role("button", name="reader@example.com")).to_be_visible()
    expect(page.get_by_text("Your page appears here")).to_be_visible()
    now = page.evaluate("sessionStorage.getItem('studio.refresh-token')")
    assert now != before  # each works once
    page.get_by_role("button", name="Requests, as curl").click()
    expect(page.locator("pre.curl").filter(has_text="/auth/refresh")).to_contain_text('"refresh_token":"..."')
    assert before not in page.content()
    assert now not in page.content()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="reader@example.com").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Requests, as curl").click()
    logout = page.locator(".request").filter(has_text="/auth/logout")
    expect(logout).to_contain_text('"refresh_token":"..."')


# --- Personalise --------------------------------------------------------------------------------------------------


def test_a_dropped_photo_goes_into_the_page_and_the_slider_compares(visit: Visit, portrait: Path) -> None:
    page = visit.open()
    expect(page.get_by_role("button", name="Treasure island")).to_be_visible()
    zone = page.locator(".drop").first
    zone.evaluate(DROP, ["portrait.jpg", "image/jpeg", b64encode(portrait.read_bytes()).decode()])
    drawn(page)
    slider = page.get_by_role("slider", name="Before and after")
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "0 % Page, 100 % With the child")
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download", exact=True).click()
    with Image.open(saved.value.path()) as picture:
        assert picture.size == (1024, 1024)
    assert saved.value.suggested_filename == "Kite hill personalised.png"
    check_accessible(page)


def test_a_photo_that_is_faster_than_the_pages_is_drawn_when_they_come(visit: Visit, portrait: Path) -> None:
    waiting: list[Route] = []

    def wait(route: Route) -> None:
        waiting.append(route)

    visit.page.route("**/pages/slots.json", wait)
    page = visit.open()
    with page.expect_response("**/verify-face"):
        choose(page, "Drop a photo of the child", portrait)
    waiting[0].continue_()
    drawn(page)


def test_options_redraw_the_page_and_another_page_takes_its_own_slot(visit: Visit, portrait: Path) -> None:
    page = visit.open()
    choose(page, "Drop a photo of the child", portrait)
    drawn(page)
    page.get_by_label("Comic").check()
    drawn(page, 2)
    page.get_by_role("button", name="Snowy night").click()
    drawn(page, 3)
    page.get_by_role("button", name="Show as curl").first.click()
    curl = page.locator("pre.curl").filter(has_text="child_photo").first.inner_text()
    assert "-F child_photo=@portrait.jpg" in curl
    assert "-F illustration=@snowy_night.png" in curl
    assert "-F style=comic" in curl
    assert "Bearer $TOKEN" in curl
    assert KEY not in page.content()
    check_accessible(page)


def test_a_page_of_ones_own_is_kept_its_slot_clicked_and_it_can_be_removed(
    visit: Visit, portrait: Path, tmp_path: Path
) -> None:
    page = visit.open()
    own = tmp_path / "my_own_page.png"
    own.write_bytes((PAGES / "treasure_island.png").read_bytes())
    choose(page, "Drop a page of your own", own)
    slot = page.get_by_role("button", name="Replace face 1 of 1")
    slot.click()
    expect(page.get_by_text("Now drop a photo of the child")).to_be_visible()
    choose(page, "Drop a photo of the child", portrait)
    drawn(page)
    page.get_by_role("button", name="Remove My own page").click()
    expect(page.get_by_role("button", name="My own page", exact=True)).to_have_count(0)


def test_of_two_pages_of_one_title_the_chosen_one_is_marked(visit: Visit, tmp_path: Path) -> None:
    page = visit.open()
    twins = page.get_by_role("button", name="Twin", exact=True)
    for count, name in enumerate(("kite_hill.png", "snowy_night.png"), start=1):
        twin = tmp_path / name / "twin.png"
        twin.parent.mkdir()
        twin.write_bytes((PAGES / name).read_bytes())
        choose(page, "Drop a page of your own", twin)
        expect(twins).to_have_count(count)
    expect(twins.last).to_have_attribute("aria-pressed", "true")
    expect(twins.first).to_have_attribute("aria-pressed", "false")
    for left in (1, 0):
        page.get_by_role("button", name="Remove Twin").first.click()
        expect(twins).to_have_count(left)


def test_a_place_is_given_with_the_keyboard_where_no_face_is_found(
    visit: Visit, portrait: Path, tmp_path: Path
) -> None:
    page = visit.open()
    choose(page, "Drop a photo of the child", portrait)
    drawn(page)
    empty = tmp_path / "empty.png"
    empty.write_bytes(encoded(Image.new("RGB", (640, 480), "#9fc9a0")))
    visit.refusals_expected = True
    choose(page, "Drop a page of your own", empty)
    expect(page.get_by_text("No drawn face was found")).to_be_visible()
    place = page.get_by_role("button", name=re.compile("Place of the face"))
    expect(place).to_be_focused()
    box = "each => [each.style.left, each.style.height].map(parseFloat)"
    left, height = place.evaluate(box)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    wait_for(lambda: all(now > before for now, before in zip(place.evaluate(box), (left, height), strict=True)))
    page.keyboard.press("Enter")
    drawn(page, 2)
    page.get_by_role("button", name="Remove Empty").click()
    expect(page.get_by_role("button", name="Empty", exact=True)).to_have_count(0)


def test_a_photo_without_a_face_is_told_in_the_services_own_words(visit: Visit, tmp_path: Path) -> None:
    visit.refusals_expected = True
    page = visit.open()
    nobody = tmp_path / "nobody.jpg"
    nobody.write_bytes(encoded(Image.new("RGB", (400, 400), "#888888"), "JPEG"))
    choose(page, "Drop a photo of the child", nobody)
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("No faces detected in the provided image")
    expect(alert).to_contain_text("NO_FACE_DETECTED")


def test_a_book_is_made_page_by_page_and_downloaded(visit: Visit, portrait: Path) -> None:
    page = visit.open()
    make = page.get_by_role("button", name=re.compile("Make the book"))
    expect(make).to_be_disabled()
    choose(page, "Drop a photo of the child", portrait)
    drawn(page)
    make.click()
    download = page.get_by_role("button", name="Download the PDF")
    with page.expect_download() as saved:
        download.click()
    content = saved.value.path().read_bytes()
    assert content.startswith(b"%PDF")
    assert re.findall(rb"/Count (\d+)", content)[-1] == b"3"


# --- Faces --------------------------------------------------------------------------------------------------------


def test_a_face_is_drawn_and_measured_and_what_is_unknown_has_a_reason(visit: Visit, portrait: Path) -> None:
    page = visit.open("faces")
    choose(panel(page, "Faces"), "Drop a photo with faces", portrait)
    expect(page.get_by_role("button", name="Face 1 of 1")).to_be_visible()
    assert len(page.locator(".mesh-lines").get_attribute("d") or "") > 10_000
    page.get_by_label("68 points").check()
    expect(page.locator(".point-68")).to_have_count(68)
    page.get_by_label("Five points").check()
    expect(page.locator(".point-5")).to_have_count(5)
    for card in ("Quality", "Pose", "Skin tone", "Expression", "Proportions", "As it appears to the model"):
        expect(page.get_by_role("heading", name=card)).to_be_visible()
    expect(page.get_by_role("img", name=re.compile(r"Monk tone \d+ of 10"))).to_be_visible()
    expect(page.locator(".columns")).to_contain_text(re.compile("No .*age"))
    check_accessible(page)


def test_each_of_several_faces_can_be_chosen(visit: Visit, portrait: Path, tmp_path: Path) -> None:
    two = tmp_path / "two.png"
    with Image.open(portrait) as image:
        row = Image.new("RGB", (2 * image.width, image.height))
        row.paste(image, (0, 0))
        row.paste(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (image.width, 0))
    two.write_bytes(encoded(row))
    page = visit.open("faces")
    choose(panel(page, "Faces"), "Drop a photo with faces", two)
    second = page.get_by_role("button", name="Face 2 of 2")
    second.focus()
    page.keyboard.press("Enter")
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(second).to_be_focused()


def test_two_photos_are_compared_or_it_is_said_what_is_missing(visit: Visit, portrait: Path) -> None:
    page = visit.open("faces")
    place = panel(page, "Faces")
    if not TINY_PACK.is_dir():
        expect(place).to_contain_text("Comparing two photos needs a recogniser")
        pytest.skip("no recogniser in SHARED_DATA_DIR: only what is said without one was seen")
    choose(place, "Drop a photo with faces", portrait)
    expect(page.get_by_role("button", name="Face 1 of 1")).to_be_visible()
    choose(place, "Drop a second photo", portrait)
    expect(place.get_by_text("Taken for the same person", exact=True)).to_be_visible()
    other = next(path for path in sorted((SHARED / "faces").glob("*.jpg")))
    choose(place, "Drop a second photo", other)
    expect(place.get_by_text("Not taken for the same person")).to_be_visible()


def test_a_curl_line_takes_a_file_of_any_name(visit: Visit, portrait: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'it\'s a;b, "c" \\d.jpg'
    odd.write_bytes(portrait.read_bytes())
    page = visit.open("faces")
    choose(panel(page, "Faces"), "Drop a photo with faces", odd)
    expect(page.get_by_role("button", name="Face 1 of 1")).to_be_visible()
    page.get_by_role("button", name="Requests, as curl").click()
    curl = page.locator("pre.curl").filter(has_text="-F").first.inner_text()
    if shutil.which("curl") is None:
        missing("curl", "curl")
    environment = {**os.environ, "TOKEN": KEY, "NO_PROXY": "*"}
    shell = ["bash", "-c", curl]
    answer = subprocess.run(shell, check=True, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert len(json.loads(answer.stdout)["faces"]) == 1


# --- Contours -----------------------------------------------------------------------------------------------------


def test_contours_are_pointed_at_switched_off_copied_and_saved(visit: Visit, portrait: Path) -> None:
    page = visit.open("contours")
    place = panel(page, "Contours")
    choose(place, "Drop a photo of a face", portrait)
    nose = page.locator(".contours [data-region=nose]")
    nose.hover()
    expect(page.locator(".region-name")).to_have_text("Nose")
    expect(place).to_contain_text(re.compile("No .*hair.* Only a label map shows it"))
    place.get_by_label("Nose", exact=True).uncheck()
    expect(nose).to_be_hidden()
    with page.expect_download() as saved:
        place.get_by_role("button", name="Download SVG").click()
    svg = saved.value.path().read_text(encoding="utf-8")
    assert svg.lstrip().startswith("<")
    assert 'id="lips"' in svg
    assert 'id="nose"' not in svg
    place.get_by_role("button", name="Copy SVG").click()
    expect(page.locator("#announcer")).to_have_text("Copied to the clipboard.")
    assert page.evaluate("navigator.clipboard.readText()") == svg
    with page.expect_download() as saved:
        place.get_by_role("button", name="Download JSON").click()
    assert json.loads(saved.value.path().read_text(encoding="utf-8"))["schema"] == "facial-contours/1"
    check_accessible(page)


def test_contours_over_the_photo_as_it_is(visit: Visit, portrait: Path) -> None:
    page = visit.open("contours")
    place = panel(page, "Contours")
    place.get_by_label("Cut the face out as a square").uncheck()
    place.get_by_label("Turn until the eyes are level").uncheck()
    choose(place, "Drop a photo of a face", portrait)
    expect(page.locator("svg.contours")).to_have_attribute("viewBox", "0 0 512 512")
    face = page.locator(".contours [data-region=face_oval]")
    wait_for(lambda: 170 < face.evaluate("each => each.getBBox().x") < 190)


def test_options_that_were_just_changed_do_not_draw_a_new_photo_twice(visit: Visit, portrait: Path) -> None:
    page = visit.open("contours")
    place = panel(page, "Contours")
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request) if "/frontal/crop" in request.url else None)
    place.get_by_label("Cut the face out as a square").uncheck()
    choose(place, "Drop a photo of a face", portrait)
    page.locator("svg.contours").wait_for()
    page.wait_for_timeout(500)  # more than the pause after which options draw
    assert len(asked) == 2  # the curves, and the photo that they lie over


# --- Try-on and Generate ------------------------------------------------------------------------------------------


def test_a_shirt_is_tried_on_stage_by_stage_and_kept_in_the_history(visit: Visit) -> None:
    page = visit.open("try-on")
    place = panel(page, "Try-on")
    go = place.get_by_role("button", name="Try it on")
    expect(go).to_be_disabled()
    place.get_by_role("button", name="Use the drawn figure").click()
    place.get_by_role("button", name="Use the drawn shirt").click()
    words = note_words(place)
    go.click()
    expect(place.get_by_role("slider", name="Before and after")).to_be_visible()
    assert {"Find the person", "Cut out the garment", "Keep the result"} <= set(words())
    expect(place.get_by_text("Above the threshold")).to_be_visible()
    expect(place.locator(".term").filter(has_text="Covers the body")).to_be_visible()
    with page.expect_download() as saved:
        place.get_by_role("button", name="Download", exact=True).click()
    with Image.open(saved.value.path()) as picture:
        assert picture.size == (1024, 1024)
    check_accessible(page)
    page.reload()
    place.get_by_role("button", name=re.compile("^Try-on of")).first.click()
    expect(place.get_by_role("img", name="With the garment")).to_be_visible()


def test_a_past_try_on_whose_picture_is_lost_leaves_the_others(visit: Visit) -> None:
    visit.refusals_expected = True
    job = {
        "job_id": "1",
        "created_at": "2026-01-01T00:00:00Z",
        "status": "completed",
        "result": {"quality": {"score": 0.9}},
    }
    jobs = [{**job, "result_url": "/studio/no-such-picture"}, {**job, "result_url": None, "status": "failed"}]
    visit.page.route("**/api/v1/jobs?*", lambda route: route.fulfill(json={"jobs": jobs}))
    page = visit.open("try-on")
    expect(panel(page, "Try-on").get_by_role("button", name=re.compile("^Try-on of"))).to_have_count(2)


def test_a_person_who_cannot_be_dressed_is_told_why(visit: Visit, tmp_path: Path) -> None:
    nobody = tmp_path / "nobody.png"
    nobody.write_bytes(encoded(Image.new("RGB", (640, 800), "#dddddd")))
    page = visit.open("try-on")
    place = panel(page, "Try-on")
    choose(place, "Drop a photo of a person", nobody)
    place.get_by_role("button", name="Use the drawn shirt").click()
    place.get_by_role("button", name="Try it on").click()
    alert = place.get_by_role("alert")
    expect(alert).to_contain_text(re.compile("SEGMENTATION_FAILED|POSE_FAILED"))
    expect(alert).to_contain_text("Use a photo")


def test_a_picture_is_drawn_step_by_step_and_looks_at_a_photo(visit: Visit, portrait: Path) -> None:
    page = visit.open("generate")
    place = panel(page, "Generate")
    place.get_by_label("What is to be seen", exact=True).fill("a fox's $HOME by `lamplight`")
    choose(place, "Drop a photo of someone", portrait)
    place.get_by_text("More options").click()
    place.get_by_label("Seed").fill("7")
    words = note_words(place)
    place.get_by_role("button", name="Draw it").click()
    expect(place.get_by_role("img", name="Picture 1", exact=True)).to_be_visible()
    assert [each for each in words() if re.fullmatch(r"Step \d+ of 8", each)]
    expect(place.locator("dd").filter(has_text=re.compile("^7$"))).to_be_visible()
    with page.expect_download() as saved:
        place.get_by_role("button", name="Download", exact=True).click()
    with Image.open(saved.value.path()) as picture:
        assert picture.size == (64, 64)
    check_accessible(page)
    place.get_by_role("button", name="Show as curl").click()
    curl = page.locator("pre.curl").first.inner_text()
    assert "$(base64 < portrait.jpg | tr -d '\\n')" in curl
    assert "\\$HOME by \\`lamplight\\`" in curl
    shell = ["bash", "-c", "curl() { cat; }\n" + curl]  # the body, as the shell hands it on
    echoed = subprocess.run(shell, check=True, capture_output=True, text=True, cwd=portrait.parent)
    sent = json.loads(echoed.stdout)
    assert sent["prompt"] == "a fox's $HOME by `lamplight`"
    assert b64decode(sent["reference_image_url"].partition(",")[2]) == portrait.read_bytes()


def test_drawing_is_given_up_on_request(visit: Visit) -> None:
    page = visit.open("generate")
    place = panel(page, "Generate")
    place.get_by_label("What is to be seen", exact=True).fill("the sea")
    place.get_by_text("More options").click()
    place.get_by_label("Steps").fill("100")
    place.get_by_label("4", exact=True).check()
    place.get_by_role("button", name="Draw it").click()
    place.get_by_role("button", name="Cancel").click()
    expect(place.get_by_text("It was cancelled.")).to_be_visible()
    expect(place.get_by_role("button", name="Draw it")).to_be_enabled()


def test_a_tab_whose_engine_is_missing_says_what_is_missing(visit: Visit) -> None:
    """The answer is the service's own, but for one engine."""
    reason = "The model isn't installed. Get it with `python main.py models pull generation`."

    def without_it(route: Route) -> None:
        health = route.fetch().json()
        health["models"]["image_generation"] = {"state": "missing", "engine": None, "provider": None, "reason": reason}
        route.fulfill(json=health)

    visit.page.route("**/health", without_it)
    page = visit.open("generate")
    expect(page.get_by_role("tab", name="Generate (not available)")).to_be_visible()
    place = panel(page, "Generate")
    expect(place).to_contain_text("Pictures can't be generated here yet")
    expect(place.locator("code")).to_have_text("python main.py models pull generation")
    place.get_by_role("button", name="See the models").click()
    expect(page.get_by_role("tab", name="Models")).to_have_attribute("aria-selected", "true")


# --- Models and Activity ------------------------------------------------------------------------------------------


def test_a_model_is_installed_with_one_click_and_a_lost_one_says_why(visit: Visit) -> None:
    page = visit.open("models")
    place = panel(page, "Models")
    expect(place.get_by_text("on XNNPACK CPU")).not_to_have_count(0)
    place.get_by_role("button", name=re.compile("Download lost-model")).click()
    expect(page.get_by_role("alert")).to_contain_text("the server answered 404")
    place.get_by_role("button", name=re.compile("Download small-model")).click()
    card = place.locator(".model").filter(has_text="small-model")
    expect(card.get_by_text("Installed", exact=True)).to_be_visible()
    check_accessible(page)


def test_activity_shows_jobs_the_queue_and_how_long_work_took(visit: Visit, portrait: Path) -> None:
    page = visit.open()
    answer = page.request.post(
        f"{visit.url}/api/v1/frontal/crop/submit",
        headers={"Authorization": f"Bearer {KEY}"},
        multipart={"image": {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": portrait.read_bytes()}},
    )
    submitted = answer.json()
    page.get_by_role("tab", name="Activity").click()
    place = panel(page, "Activity")
    row = place.get_by_role("row").filter(has_text=submitted["job_id"][:8])
    expect(row).to_contain_text("completed")
    expect(place.get_by_text(re.compile(r"\d of 2$")).first).to_be_visible()
    chart = place.get_by_role("img", name=re.compile("Times of the latest"))
    expect(chart).to_be_visible()
    scale = "each => each.clientWidth / each.viewBox.baseVal.width"
    wait_for(lambda: 0.95 < chart.evaluate(scale) < 1.05)  # its letters are read
    with page.expect_download():
        row.get_by_role("button", name=re.compile("Download the result")).click()
    row.get_by_role("button", name=re.compile("^Remove")).click()
    expect(row).to_have_count(0)
    check_accessible(page)


# --- everywhere ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_tab_is_accessible_on_a_narrow_screen_and_nothing_sticks_out(
    browser: Browser, url: str, dark: bool
) -> None:
    context = browser.new_context(viewport=PHONE, color_scheme="dark" if dark else "light", reduced_motion="reduce")
    visit = Visit(context.new_page(), url)
    page = visit.open()
    for tab in page.get_by_role("tab").all():
        tab.click()
        place = page.locator("[role=tabpanel]:not([hidden])")
        expect(place.locator(".card").first).to_be_visible()
        if tab.inner_text() == "Activity":
            expect(place.get_by_role("table").first).to_be_visible()
        check_accessible(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], tab.inner_text()
    visit.check()
    context.close()
