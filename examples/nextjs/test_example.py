"""The built example in a real Chromium, with a real service behind it. `make nextjs` runs this, `make test` not."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, expect, sync_playwright
from skimage import data

from examples.local_service import local_service
from tests.conftest import PAGES, encoded
from tests.servers import free_port, missing, wait_for

HERE = Path(__file__).resolve().parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
KEY = "a-key-that-no-browser-may-see"
TIMEOUT_MS = 60_000  # a slow machine under load; what passes does not wait for it
SIGNED_IN = {"Authorization": f"Bearer {KEY}"}
get = partial(httpx.get, timeout=TIMEOUT_MS / 1000, trust_env=False)
post = partial(httpx.post, timeout=TIMEOUT_MS / 1000, trust_env=False)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    """A service that asks for a key, and keeps one page."""
    with local_service(API_KEY=KEY, MAX_WORKERS="2") as service:
        page = {"file": (PAGES / "kite_hill.png").read_bytes()}
        kept = post(
            f"{service.url}/upload-illustration-template", files=page, data={"name": "Kite hill"}, headers=SIGNED_IN
        )
        assert kept.is_success, kept.text
        yield service.url


@pytest.fixture(scope="module")
def shop(service: str) -> Iterator[str]:
    """The example as `npm run build` left it."""
    yield from served(PYTHON_AI_SERVICE_URL=service, PYTHON_AI_SERVICE_API_KEY=KEY)


def served(**settings: str) -> Iterator[str]:
    """The example's URL as long as it runs with these settings."""
    port = free_port()
    environment = {**os.environ, "NEXT_TELEMETRY_DISABLED": "1", **settings}
    command = ["node", "node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=HERE, env=environment, start_new_session=True)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, "the example does not start: was it built?"
        try:
            return get(f"{url}/icon.svg").is_success
        except httpx.TransportError:
            return False

    try:
        wait_for(answers)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=20)


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
def page(browser: Browser, shop: str) -> Iterator[Page]:
    """A visitor's page of the shop: it asks nobody else, and nothing in it fails."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, base_url=shop)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    faults: list[str] = []
    strangers: list[str] = []

    def on_console(message: ConsoleMessage) -> None:
        refused = message.text.startswith("Failed to load resource")  # the visitor reads a sentence instead
        if message.type in ("error", "warning") and not refused:
            faults.append(message.text)

    def on_request(request: Request) -> None:
        if not request.url.startswith((f"{shop}/", "blob:", "data:")):
            strangers.append(request.url)

    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", on_request)
    yield page
    assert (faults, strangers) == ([], [])
    context.close()


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A public-domain photo with one face."""
    path = tmp_path_factory.mktemp("photos") / "astronaut.jpg"
    path.write_bytes(encoded(Image.fromarray(data.astronaut()), "JPEG", quality=90))
    return path


@pytest.fixture(scope="module")
def no_photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture with nobody in it."""
    path = tmp_path_factory.mktemp("photos") / "grey.png"
    path.write_bytes(encoded(Image.new("RGB", (320, 320), "grey")))
    return path


@pytest.fixture(scope="module")
def dressed() -> tuple[Path, Path]:
    """A real person and a real garment."""
    folder = Path(os.environ.get("SHARED_DATA_DIR", HERE.parents[2] / "shared" / "data")) / "tryon"
    photos = folder / "person_01_shortsleeve_front.jpg", folder / "garment_04_black_graphic_tee_2048.jpg"
    if not all(photo.exists() for photo in photos):
        pytest.skip(f"no photos of people and garments in {folder}")
    return photos


def try_on(page: Page, person: Path, garment: Path) -> None:
    """Send both pictures in."""
    open_page(page, "/try-on").get_by_label("Photo of you").set_input_files(person)
    page.get_by_label("Photo of the garment").set_input_files(garment)
    page.get_by_role("button", name="Try it on").click()


def open_page(page: Page, path: str) -> Page:
    """The page, with its scripts at work."""
    page.goto(path, wait_until="networkidle")
    return page


def drawn(page: Page, name: str) -> tuple[int, int]:
    """Width and height of a picture once the browser has it, in pixels of the file."""
    picture = page.get_by_role("img", name=name)
    expect(picture).to_be_visible()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=picture.element_handle())
    width, height = picture.evaluate("image => [image.naturalWidth, image.naturalHeight]")
    return int(width), int(height)


def check_accessible(page: Page) -> None:
    """axe-core finds nothing serious, in light and in dark."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        violations = Axe().run(page).response["violations"]
        serious = [each for each in violations if each["impact"] in ("serious", "critical")]
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in serious] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_visitor_personalises_a_page_that_the_shop_keeps(page: Page, photo: Path) -> None:
    open_page(page, "/").get_by_label("Photo", exact=True).set_input_files(photo)
    expect(page.get_by_label("Kite hill")).to_be_checked()
    page.get_by_label("Drawn as").select_option("watercolor")
    page.get_by_role("button", name="Personalise the page").click()
    with Image.open(PAGES / "kite_hill.png") as original:
        assert drawn(page, "The page with the face of the photo") == original.size
    expect(page.get_by_role("status")).to_have_text("The page is ready.")
    check_accessible(page)

    picture = page.get_by_role("link", name="Download").get_attribute("href")
    assert picture is not None
    assert page.request.get(picture).headers["content-type"] == "image/png"
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("heading", name="Your page")).to_have_count(0)
    assert page.request.get(picture).status == 404


def test_a_visitor_personalises_a_page_of_their_own(page: Page, photo: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_page(page, "/").get_by_label("Photo", exact=True).set_input_files(photo)
    page.get_by_label("A page of your own").check()
    page.get_by_label("Page", exact=True).set_input_files(PAGES / "snowy_night.png")
    page.get_by_role("button", name="Personalise the page").click()
    with Image.open(PAGES / "snowy_night.png") as original:
        assert drawn(page, "The page with the face of the photo") == original.size
    check_accessible(page)


def test_what_cannot_be_done_is_said_in_the_services_own_words(page: Page, no_photo: Path) -> None:
    open_page(page, "/").get_by_label("Photo", exact=True).set_input_files(no_photo)
    page.get_by_role("button", name="Personalise the page").click()
    expect(page.get_by_role("alert").filter(has_text="No faces detected in the provided image")).to_be_visible()
    expect(page.get_by_role("button", name="Personalise the page")).to_be_enabled()


def test_contours_are_shown_as_a_picture_and_listed(page: Page, photo: Path) -> None:
    open_page(page, "/contours").get_by_label("Photo", exact=True).set_input_files(photo)
    page.get_by_role("button", name="Find the regions").click()
    width, height = drawn(page, "The regions of the face")
    assert width == height > 0
    expect(page.get_by_role("rowheader", name="Left cheek")).to_be_visible()
    assert page.locator("main svg, main object, main iframe").count() == 0
    check_accessible(page)


def test_without_a_recogniser_faces_are_not_compared_and_the_visitor_reads_why(page: Page, photo: Path) -> None:
    open_page(page, "/faces")
    for label in ("First photo", "Second photo"):
        page.get_by_label(label).set_input_files(photo)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert").filter(has_text=re.compile("model|recogni", re.IGNORECASE))).to_be_visible()
    check_accessible(page)


def test_the_policy_runs_no_script_but_those_of_the_page(page: Page) -> None:
    headers = page.request.get("/").headers
    policy = dict(each.strip().split(" ", 1) for each in headers["content-security-policy"].split(";"))
    assert re.fullmatch(r"'self' 'nonce-[\w=]+' 'strict-dynamic'", policy["script-src"])
    assert (policy["default-src"], policy["object-src"], policy["frame-ancestors"]) == ("'self'", "'none'", "'none'")
    assert "x-powered-by" not in headers
    assert page.request.get("/").headers["content-security-policy"] != headers["content-security-policy"]


def test_a_visitor_tries_a_garment_on(page: Page, dressed: tuple[Path, Path]) -> None:
    try_on(page, *dressed)
    with Image.open(dressed[0]) as person:
        assert drawn(page, "You, wearing the garment") == person.size
    expect(page.get_by_text("The picture is ready.")).to_be_visible()
    page.get_by_text("How well it fits").click()
    expect(page.get_by_role("columnheader", name="Score")).to_be_visible()
    check_accessible(page)
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("status").filter(has_text="The picture is gone.")).to_be_visible()


def test_a_try_on_that_fails_says_what_to_do(page: Page, no_photo: Path) -> None:
    try_on(page, no_photo, no_photo)
    expect(page.get_by_text("The try-on did not work.")).to_be_visible()
    expect(page.get_by_role("alert").filter(has_text=re.compile(r"\w+.*\."))).to_be_visible()
    check_accessible(page)


def test_a_try_on_shows_how_far_it_is_and_can_be_cancelled(page: Page, no_photo: Path) -> None:
    """The service's answers are given here, since a real job is too quick to be caught half-way."""
    status = {"job_id": str(uuid4()), "status": "PROCESSING", "stage": "alignment", "progress": 0.4}

    def answer(route: Route) -> None:
        if route.request.method == "DELETE":
            status["status"] = "CANCELLED"
            route.fulfill(json={"success": True, "job_id": status["job_id"], "outcome": "cancelling"})
        else:
            route.fulfill(json=status)

    page.route(re.compile(r"/api/try-on/"), answer)
    try_on(page, no_photo, no_photo)
    expect(page.get_by_text("Fitting the garment…")).to_be_visible()
    assert page.get_by_role("progressbar", name="Progress").get_attribute("value") == "0.4"
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("The try-on was cancelled.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def test_a_form_that_is_sent_twice_is_one_job(shop: str) -> None:
    files = {name: encoded(Image.new("RGB", (64, 64), "grey")) for name in ("user_image", "product_image")}
    jobs = [
        post(f"{shop}/api/try-on", files=files, data={"mode": "draft"}, headers={"Idempotency-Key": key}).json()
        for key in ("0" * 32, "0" * 32, "1" * 32)
    ]
    assert jobs[0]["job_id"] == jobs[1]["job_id"] != jobs[2]["job_id"]
    assert post(f"{shop}/api/try-on", files=files).status_code == 400


@pytest.mark.parametrize(
    "path", ["/api/pictures/..%2F..%2Fmodels", "/api/pages/1", "/api/try-on/%00", "/api/try-on/x/picture"]
)
def test_only_ids_reach_the_service(shop: str, path: str) -> None:
    answer = get(f"{shop}{path}")
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize("path", ["/api/personalize", "/api/try-on", "/api/contours", "/api/faces"])
def test_a_form_of_another_site_is_refused(shop: str, path: str) -> None:
    answer = post(f"{shop}{path}", files={"image": b"x"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize("path", ["/api/personalize", "/api/try-on", "/api/contours", "/api/faces"])
def test_a_form_that_is_none_or_too_large_is_refused_before_it_is_read(shop: str, path: str) -> None:
    assert post(f"{shop}{path}", json={}).status_code == 400
    assert post(f"{shop}{path}", files={"other": b"x"}).status_code == 400
    assert post(f"{shop}{path}", content=iter([b"x"])).status_code == 411
    too_large = post(f"{shop}{path}", content=bytes(26 * 1024 * 1024))
    assert (too_large.status_code, too_large.json()["code"]) == (413, "FILE_TOO_LARGE")


def test_a_key_that_is_refused_is_the_shops_trouble_and_not_the_visitors(service: str) -> None:
    for url in served(PYTHON_AI_SERVICE_URL=service, PYTHON_AI_SERVICE_API_KEY="wrong"):
        answer = post(f"{url}/api/contours", files={"image": b"x"})
        assert (answer.status_code, answer.json()["code"]) == (502, "SERVICE_REFUSES_KEY")


def test_a_service_that_is_away_leaves_a_page_that_says_so() -> None:
    for url in served(PYTHON_AI_SERVICE_URL=f"http://127.0.0.1:{free_port()}"):
        page = get(url)
        assert page.status_code == 200
        assert "The service can&#x27;t be reached" in page.text


@pytest.mark.parametrize("path", ["/", "/try-on", "/contours", "/faces", "/no-such-page"])
def test_no_page_tells_the_key_or_where_the_service_is(shop: str, service: str, path: str) -> None:
    text = get(f"{shop}{path}").text
    assert "The picture shop" in text
    assert KEY not in text
    assert service not in text


def test_no_script_for_browsers_knows_of_the_service() -> None:
    scripts = [path for path in (HERE / ".next" / "static").rglob("*.js") if path.is_file()]
    assert scripts
    assert [path for path in scripts if "PYTHON_AI_SERVICE" in path.read_text(encoding="utf-8")] == []
