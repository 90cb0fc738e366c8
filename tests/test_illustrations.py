"""The main job through the API, with the real engines on a photo and a drawn page."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.PdfParser import PdfParser
from skimage import data

from tests.conftest import PAGES, encoded
from tests.servers import wait_for

BLANK = encoded(Image.new("RGB", (400, 300), "white"))


def personalize(client: TestClient, photo: bytes, page: bytes | None, headers: Any = None, **fields: Any) -> Any:
    files = {"child_photo": ("photo.jpg", photo)} | ({} if page is None else {"illustration": ("page.png", page)})
    return client.post("/personalize", files=files, data=fields, headers=headers)


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def stored(folder: Path) -> list[str]:
    return sorted(path.name for path in (*folder.glob("uploads/*"), *folder.glob("outputs/*")))


@pytest.fixture
def template_id(app_client: TestClient, page: bytes) -> Any:
    template = app_client.post("/upload-illustration-template", files={"file": ("p.png", page)}, data={"name": "Hill"})
    yield template.json()["template_id"]
    app_client.delete(f"/templates/{template.json()['template_id']}")


def test_the_answer_has_the_seeds_keys_and_the_result_can_be_fetched(
    app_client: TestClient, photo: bytes, page: bytes
) -> None:
    body = personalize(app_client, photo, page).json()
    assert body["success"] is True
    assert body["output_path"] == f"outputs/{body['output_file_id']}_personalized.png"
    assert body["message"] == "Illustration personalized successfully"
    assert (body["engine"], body["faces_in_photo"], body["slot"]["index"]) == ("classic", 1, 0)
    assert {"decode", "encode", "store"} <= body["timings_ms"].keys()
    result = pixels(app_client.get(body["download_url"]).content)
    changed = np.argwhere((result != pixels(page)).any(axis=2))
    assert len(changed) > 1000
    x1, y1, x2, y2 = body["slot"]["bbox"]
    top, left = changed.min(axis=0)
    bottom, right = changed.max(axis=0)
    margin = x2 - x1  # the face's surroundings: the rest of the page is bit for bit the page's
    assert left > x1 - margin
    assert top > y1 - margin
    assert right < x2 + margin
    assert bottom < y2 + margin


def test_the_photo_is_never_stored(app_client: TestClient, service_folder: Path, photo: bytes, page: bytes) -> None:
    before = stored(service_folder)
    body = personalize(app_client, photo, page).json()
    assert set(stored(service_folder)) - set(before) == {f"{body['output_file_id']}_personalized.png"}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("image/png", "image/png"), ("image/jpeg", "image/jpeg"), ("image/*", "image/png"), ("*/*", "application/json")],
)
def test_accept_decides_between_picture_and_json(
    app_client: TestClient, photo: bytes, page: bytes, accept: str, media_type: str
) -> None:
    answer = personalize(app_client, photo, page, headers={"Accept": accept})
    assert answer.headers["content-type"] == media_type
    if media_type != "application/json":
        file = app_client.get(f"/download/{answer.headers['x-output-file-id']}")
        assert (file.content, file.headers["content-type"]) == (answer.content, media_type)


def test_the_same_request_gives_the_same_bytes(app_client: TestClient, photo: bytes, page: bytes) -> None:
    first, second = (personalize(app_client, photo, page, headers={"Accept": "image/png"}).content for _ in range(2))
    assert first == second


def test_transparency_density_and_format_are_kept(app_client: TestClient, photo: bytes, page: bytes) -> None:
    with Image.open(io.BytesIO(page)) as image:
        rgba = image.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    data = encoded(rgba, "PNG", dpi=(300, 300))
    answer = personalize(app_client, photo, data, headers={"Accept": "image/png"})
    with Image.open(io.BytesIO(answer.content)) as result:
        assert result.info["dpi"] == pytest.approx((300, 300), abs=0.02)
        np.testing.assert_array_equal(np.asarray(result.getchannel("A")), np.asarray(rgba.getchannel("A")))


def test_a_slot_can_be_given_as_a_box(app_client: TestClient, photo: bytes, page: bytes) -> None:
    found = personalize(app_client, photo, page).json()["slot"]["bbox"]
    given = personalize(app_client, photo, page, slot=json.dumps(found)).json()["slot"]
    assert given["bbox"] == pytest.approx(found, abs=12)


def test_points_put_a_face_on_a_page_that_has_none(app_client: TestClient, photo: bytes) -> None:
    points = [[170, 120], [230, 120], [200, 150], [178, 180], [222, 180]]
    answer = personalize(app_client, photo, BLANK, headers={"Accept": "image/png"}, slot=json.dumps(points))
    assert answer.status_code == 200
    assert (pixels(answer.content) != 255).any()


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"slot": "7"}, "INVALID_VALUE"),
        ({"slot": "-1"}, "INVALID_VALUE"),
        ({"slot": "face"}, "INVALID_VALUE"),
        ({"slot": "true"}, "INVALID_VALUE"),
        ({"slot": "[1, 2, 3]"}, "INVALID_VALUE"),
        ({"slot": "[0, 0, 99999, 99999]"}, "INVALID_VALUE"),
        ({"slot": "[NaN, 0, 10, 10]"}, "INVALID_VALUE"),
        ({"slot": "[0, 0, 1e999, 10]"}, "INVALID_VALUE"),
        ({"slot": "[[1,1],[2,2],[3,3],[4,4],[5,5],[6,6]]"}, "INVALID_VALUE"),
        ({"face_box": "[9, 9, 1, 1]"}, "INVALID_VALUE"),
        ({"face_box": "nonsense"}, "INVALID_VALUE"),
        ({"strength": "1.5"}, "VALIDATION_ERROR"),
        ({"likeness": "nan"}, "VALIDATION_ERROR"),
        ({"style": "oil"}, "VALIDATION_ERROR"),
        ({"seed": "-1"}, "VALIDATION_ERROR"),
        ({"format": "tiff"}, "VALIDATION_ERROR"),
    ],
)
def test_values_that_cannot_be_used_are_refused(
    app_client: TestClient, photo: bytes, page: bytes, fields: dict[str, str], code: str
) -> None:
    answer = personalize(app_client, photo, page, **fields)
    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_face_box_chooses_among_several_faces(app_client: TestClient, photo: bytes, page: bytes) -> None:
    with Image.open(io.BytesIO(photo)) as image:
        pair = Image.new("RGB", (image.width * 2, image.height))
        pair.paste(image, (0, 0))
        pair.paste(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), (image.width, 0))
    both = encoded(pair, "JPEG", quality=92)
    answers = [
        personalize(app_client, both, page, headers={"Accept": "image/png"}, face_box=json.dumps(box))
        for box in ([150, 40, 320, 230], [700, 40, 880, 230])
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content != answers[1].content
    assert personalize(app_client, both, page).json()["faces_in_photo"] == 2


def test_a_photo_without_a_face_is_refused_in_the_seeds_words(app_client: TestClient, page: bytes) -> None:
    body = personalize(app_client, BLANK, page).json()
    assert body["code"] == "NO_FACE_DETECTED"
    assert body["detail"].startswith("No faces detected in the provided image")


def test_a_page_without_a_face_says_how_to_give_one(app_client: TestClient, photo: bytes) -> None:
    answer = personalize(app_client, photo, BLANK)
    assert (answer.status_code, answer.json()["code"]) == (422, "NO_FACE_SLOT")
    assert "`slot`" in answer.json()["detail"]


def test_one_page_must_be_named(app_client: TestClient, photo: bytes, page: bytes, template_id: str) -> None:
    for answer in (personalize(app_client, photo, None), personalize(app_client, photo, page, template_id=template_id)):
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")


def test_diffusion_is_not_pretended(app_client: TestClient, photo: bytes, page: bytes) -> None:
    answer = personalize(app_client, photo, page, engine="diffusion")
    assert (answer.status_code, answer.json()["code"]) == (503, "MODEL_UNAVAILABLE")


def test_a_template_is_kept_with_its_slots(app_client: TestClient, page: bytes, template_id: str) -> None:
    template = app_client.get(f"/templates/{template_id}").json()
    assert template["name"] == "Hill"
    assert len(template["slots"][0]["landmarks"]) == 478
    assert template_id in {listed["template_id"] for listed in app_client.get("/templates").json()["templates"]}
    np.testing.assert_array_equal(pixels(app_client.get(template["image_url"]).content), pixels(page))


def test_a_stored_page_gives_what_the_sent_page_gives(
    app_client: TestClient, photo: bytes, page: bytes, template_id: str
) -> None:
    by_id = personalize(app_client, photo, None, headers={"Accept": "image/png"}, template_id=template_id)
    by_file = personalize(app_client, photo, page, headers={"Accept": "image/png"})
    difference = np.abs(pixels(by_id.content).astype(int) - pixels(by_file.content))
    assert difference.mean() < 0.05  # stored points are rounded to a hundredth of a pixel


def test_slots_can_be_corrected_and_shown_slots_sent_back(app_client: TestClient, template_id: str) -> None:
    shown = app_client.get(f"/templates/{template_id}").json()["slots"]
    slots = [*shown, [[170, 120], [230, 120], [200, 150], [178, 180], [222, 180]]]
    corrected = app_client.put(f"/templates/{template_id}/slots", json={"slots": slots}).json()
    assert len(corrected["slots"]) == len(shown) + 1
    assert corrected["slots"][0] == shown[0]
    assert app_client.get(f"/templates/{template_id}").json() == corrected


def test_slots_can_be_given_with_the_page(app_client: TestClient) -> None:
    given = json.dumps([[[170, 120], [230, 120], [200, 150], [178, 180], [222, 180]]])
    answer = app_client.post("/upload-illustration-template", files={"file": ("p", BLANK)}, data={"slots": given})
    body = answer.json()
    assert body["file_path"] == f"uploads/{body['template_id']}_template.png"
    assert body["slots"][0]["kps"][0] == [170, 120]
    assert app_client.delete(f"/templates/{body['template_id']}").json() == {"success": True}
    assert app_client.get(f"/templates/{body['template_id']}").status_code == 404


def test_the_bundled_slots_can_be_sent_as_they_lie(app_client: TestClient, page: bytes) -> None:
    stored = json.loads((PAGES / "slots.json").read_text(encoding="utf-8"))[sorted(PAGES.glob("*.png"))[0].name]
    body = app_client.post(
        "/upload-illustration-template", files={"file": ("p", page)}, data={"slots": json.dumps(stored)}
    ).json()
    assert np.abs(np.array(body["slots"][0]["kps"]) - stored[0]["kps"]).max() < 10
    app_client.delete(f"/templates/{body['template_id']}")


def test_face_box_counts_in_the_pixels_of_the_file_however_large_it_is(app_client: TestClient, page: bytes) -> None:
    two = Image.new("RGB", (4000, 2000), (128, 128, 128))
    astronaut = Image.fromarray(data.astronaut())
    two.paste(astronaut.resize((1800, 1800)), (0, 100))
    two.paste(astronaut.resize((900, 900)), (2600, 100))
    sent = encoded(two, "JPEG", quality=90)
    whole = personalize(app_client, sent, page).json()
    chosen = personalize(app_client, sent, page, face_box="[2800, 100, 3200, 700]")
    assert (whole["success"], chosen.status_code) == (True, 200)
    assert personalize(app_client, sent, page, face_box="[2100, 1500, 2500, 1900]").json()["code"] == "NO_FACE_DETECTED"


@pytest.mark.parametrize("slots", ["{}", "[[1,2]]", "[{}]", "[[0,0,NaN,1]]", "[[0,0,9999,9999]]", "[" * 100_000])
def test_slots_that_are_none_are_refused(app_client: TestClient, service_folder: Path, slots: str) -> None:
    before = stored(service_folder)
    answer = app_client.post("/upload-illustration-template", files={"file": ("p", BLANK)}, data={"slots": slots})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")
    assert stored(service_folder) == before


def book(client: TestClient, photo: bytes, template_ids: list[str], **fields: str) -> Any:
    """The finished job, as its status_url shows it."""
    answer = client.post(
        "/personalize/book", files={"child_photo": ("c", photo)}, data={"template_ids": template_ids, **fields}
    )
    assert answer.status_code == 202
    status_url = answer.json()["status_url"]
    wait_for(lambda: client.get(status_url).json()["status"] in {"completed", "failed"})
    return client.get(status_url).json()


def test_a_book_is_a_job_and_one_zip_of_its_pages_in_order(
    app_client: TestClient, service_folder: Path, photo: bytes, page: bytes, template_id: str
) -> None:
    before = stored(service_folder)
    jobs = [book(app_client, photo, [template_id, template_id], format="jpeg") for _ in range(2)]
    assert [(job["status"], job["result"]["pages"]) for job in jobs] == [("completed", 2)] * 2
    first, second = (app_client.get(job["result_url"]) for job in jobs)
    assert first.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
        assert archive.namelist() == ["page_001.jpg", "page_002.jpg"]
        assert archive.testzip() is None
        assert pixels(archive.read("page_001.jpg")).shape == pixels(page).shape
    assert first.content == second.content
    assert app_client.get(jobs[0]["result"]["download_url"]).content == first.content
    # The photo lay on the disk as long as the job was to be done, and no longer.
    wait_for(lambda: set(stored(service_folder)) - set(before) == {f"{job['job_id']}_book.zip" for job in jobs})


def test_a_books_page_is_the_page_that_personalize_makes(
    app_client: TestClient, photo: bytes, template_id: str
) -> None:
    single = personalize(
        app_client, photo, None, headers={"Accept": "image/png"}, template_id=template_id, style="comic"
    )
    job = book(app_client, photo, [template_id], style="comic")
    with zipfile.ZipFile(io.BytesIO(app_client.get(job["result_url"]).content)) as archive:
        assert archive.read("page_001.png") == single.content


def test_a_book_can_be_a_pdf_of_pages_at_their_own_size(
    app_client: TestClient, photo: bytes, page: bytes, template_id: str
) -> None:
    with Image.open(io.BytesIO(page)) as image:
        dense = encoded(image.convert("RGB"), "PNG", dpi=(300, 300))
    other = app_client.post("/upload-illustration-template", files={"file": ("p.png", dense)}).json()["template_id"]
    results = [
        app_client.get(book(app_client, photo, [template_id, other], format="pdf")["result_url"]) for _ in range(2)
    ]
    pdf = results[0].content
    assert results[0].headers["content-type"] == "application/pdf"
    with PdfParser(buf=pdf) as parser:
        boxes = [parser.read_indirect(page)[b"MediaBox"] for page in parser.pages]
    assert [box[2:] for box in boxes] == [[pytest.approx(image.width * 72 / dpi, rel=1e-4)] * 2 for dpi in (150, 300)]
    assert pdf == results[1].content
    app_client.delete(f"/templates/{other}")


def test_a_book_with_a_page_that_fails_names_it_and_stores_nothing(
    app_client: TestClient, service_folder: Path, photo: bytes, template_id: str
) -> None:
    blank = app_client.post("/upload-illustration-template", files={"file": ("p", BLANK)}).json()["template_id"]
    before = stored(service_folder)
    job = book(app_client, photo, [template_id, blank])
    assert (job["status"], job["error"]["code"]) == ("failed", "NO_FACE_SLOT")
    assert job["error"]["detail"].startswith("page 2")
    wait_for(lambda: stored(service_folder) == before)


def test_what_would_fail_every_page_of_a_book_is_refused_at_once(
    app_client: TestClient, service_folder: Path, photo: bytes, template_id: str
) -> None:
    before = stored(service_folder)
    for child, ids, code in ((BLANK, [template_id], "NO_FACE_DETECTED"), (photo, [str(uuid4())], "NOT_FOUND")):
        answer = app_client.post("/personalize/book", files={"child_photo": ("c", child)}, data={"template_ids": ids})
        assert answer.json()["code"] == code
    refused = {"template_ids": [template_id], "webhook_url": "http://169.254.169.254/"}
    answer = app_client.post("/personalize/book", files={"child_photo": ("c", photo)}, data=refused)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")  # there is no WEBHOOK_SECRET
    assert stored(service_folder) == before


def test_the_same_order_of_a_book_is_one_job(app_client: TestClient, photo: bytes, template_id: str) -> None:
    def order(**fields: str) -> Any:
        return app_client.post(
            "/personalize/book", files={"child_photo": ("c", photo)}, data={"template_ids": [template_id], **fields},
            headers={"Idempotency-Key": f"order-{template_id}"},
        )  # fmt: skip

    first = order()
    assert order().json()["job_id"] == first.json()["job_id"]
    other = order(format="pdf")
    assert (other.status_code, other.json()["code"]) == (409, "CONFLICT")
    wait_for(lambda: app_client.get(first.json()["status_url"]).json()["status"] == "completed")


def test_a_download_takes_ranges_head_and_if_none_match(app_client: TestClient, photo: bytes, page: bytes) -> None:
    url = personalize(app_client, photo, page).json()["download_url"]
    whole = app_client.get(url)
    assert "attachment" in whole.headers["content-disposition"]
    part = app_client.get(url, headers={"Range": "bytes=0-7"})
    assert (part.status_code, part.content) == (206, b"\x89PNG\r\n\x1a\n")
    head = app_client.head(url)
    assert (head.status_code, head.content, head.headers["etag"]) == (200, b"", whole.headers["etag"])
    fresh = app_client.get(url, headers={"If-None-Match": whole.headers["etag"]})
    assert (fresh.status_code, fresh.content) == (304, b"")
    beyond = app_client.get(url, headers={"Range": f"bytes={len(whole.content)}-"})
    assert (beyond.status_code, beyond.json()["code"]) == (416, "RANGE_NOT_SATISFIABLE")
    assert app_client.delete(url).json() == {"success": True}
    assert app_client.get(url).json()["code"] == "NOT_FOUND"
    assert app_client.delete(url).status_code == 404


def test_unknown_ids_are_not_found(app_client: TestClient, photo: bytes) -> None:
    for url in (f"/download/{uuid4()}", f"/templates/{uuid4()}", f"/templates/{uuid4()}/image"):
        assert app_client.get(url).json()["code"] == "NOT_FOUND"
    assert personalize(app_client, photo, None, template_id=str(uuid4())).json()["code"] == "NOT_FOUND"
    correction = app_client.put(f"/templates/{uuid4()}/slots", json={"slots": []})
    assert correction.json()["code"] == "NOT_FOUND"
