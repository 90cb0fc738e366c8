"""POST /api/v1/frontal/crop: every way to send a request, the same bytes in every answer, and what is refused."""

from __future__ import annotations

import ast
import base64
import io
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from contour_regions import MAP_ONLY, REGIONS
from contour_svg import ContourOptions
from face_landmarks import FaceLandmarks
from service.contours import Contourer, ContourRequest, parse_landmarks
from service.database import open_database
from service.errors import InvalidValueError
from service.result_cache import ResultCache
from tests.conftest import encoded
from tests.contour_faces import PHOTO, label_map, mesh
from tests.test_contour_svg import SHARED, needs_shared

ROUTE = "/api/v1/frontal/crop"
POINTS = mesh(roll=15)


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def canvas() -> bytes:
    """A photo of the mesh's size; with landmarks its content doesn't matter."""
    return encoded(Image.new("RGB", PHOTO, (180, 150, 130)), "JPEG")


@pytest.fixture(scope="module")
def body(canvas: bytes) -> dict[str, Any]:
    """A request with everything."""
    landmarks = [{"x": x, "y": y} for x, y in POINTS.tolist()]
    labels = encoded(Image.fromarray(label_map(POINTS)))
    return {"image": text(canvas), "landmarks": landmarks, "segmentation_map": text(labels)}


def test_json_answers_with_the_file_and_what_is_known_of_it(app_client: TestClient, body: dict[str, Any]) -> None:
    answer = app_client.post(ROUTE, json=body).json()
    assert (answer["status"], answer["output"], answer["media_type"]) == ("completed", "svg", "image/svg+xml")
    assert base64.b64decode(answer["result"]).startswith(b"<?xml")
    document = answer["contours"]
    assert (document["coordinate_space"], document["width"], document["label_scheme"]) == ("crop", 1024, "celebamask19")
    assert [region["id"] for region in document["regions"]] == list(REGIONS)
    assert "path" not in document["regions"][0]


def test_accept_gives_the_file_itself_with_the_same_bytes(app_client: TestClient, body: dict[str, Any]) -> None:
    for accept, output in (("image/svg+xml", "svg"), ("image/png", "png"), ("image/png;q=0.2, image/svg+xml", "svg")):
        file = app_client.post(ROUTE, json=body, headers={"Accept": accept})
        assert file.status_code == 200
        inside = app_client.post(ROUTE, json={**body, "output": output}).json()
        assert file.content == base64.b64decode(inside["result"])
        assert file.headers["content-type"] == inside["media_type"]


def test_a_form_with_files_is_the_same_request(app_client: TestClient, body: dict[str, Any], canvas: bytes) -> None:
    labels = base64.b64decode(body["segmentation_map"])
    form = {"landmarks": json.dumps(body["landmarks"]), "regions": "nose, hair", "crop": "false", "smoothing": "0.2"}
    files = {"image": ("photo.jpg", canvas), "segmentation_map": ("map.png", labels)}
    sent = app_client.post(ROUTE, files=files, data=form).json()
    options = {"regions": ["nose", "hair"], "crop": False, "smoothing": 0.2}
    assert sent["result"] == app_client.post(ROUTE, json={**body, **options}).json()["result"]


def test_the_route_gives_the_bytes_of_the_engine(
    app_client: TestClient, body: dict[str, Any], canvas: bytes, landmarks: FaceLandmarks
) -> None:
    request = ContourRequest(
        image=canvas,
        landmarks=tuple(map(tuple, POINTS.tolist())),
        segmentation_map=base64.b64decode(body["segmentation_map"]),
        options=ContourOptions(size=300),
    )
    result = Contourer(landmarks, max_pixels=1_000_000).contours(request)
    sent = app_client.post(ROUTE, json={**body, "size": 300}, headers={"Accept": "image/svg+xml"})
    assert sent.content == result.data


def test_landmarks_are_found_where_none_are_sent(app_client: TestClient, photo: bytes) -> None:
    answer = app_client.post(ROUTE, json={"image": "data:image/jpeg;base64," + text(photo)}).json()
    assert answer["contours"]["landmarks"] == "found"
    available = {region["id"] for region in answer["contours"]["regions"] if region["available"]}
    assert available == set(REGIONS) - set(MAP_ONLY)
    assert app_client.post(ROUTE, json={"image": text(photo)}).json()["result"] == answer["result"]


def test_a_photo_that_was_reduced_for_finding_has_contours_in_its_own_pixels(
    app_client: TestClient, photo: bytes
) -> None:
    with Image.open(io.BytesIO(photo)) as image:
        large = encoded(image.resize((4096, 4096)), "JPEG", quality=60)
    options = {"autorotate": False, "crop": False, "regions": ["nose"]}
    small, big = (
        app_client.post(ROUTE, json={"image": text(data), **options}).json()["contours"] for data in (photo, large)
    )
    assert big["width"] == 4096
    assert big["regions"][0]["centroid"] == pytest.approx(np.multiply(small["regions"][0]["centroid"], 8), abs=24)


def test_a_picture_without_a_face_is_refused(app_client: TestClient, canvas: bytes) -> None:
    answer = app_client.post(ROUTE, json={"image": text(canvas)})
    assert (answer.status_code, answer.json()["code"]) == (422, "NO_FACE_DETECTED")


@pytest.mark.parametrize("kind", ["mask", "overlay", "photo"])
def test_pngs_show_what_is_asked_for(app_client: TestClient, body: dict[str, Any], kind: str) -> None:
    answer = app_client.post(ROUTE, json={**body, "png": kind, "size": 200}, headers={"Accept": "image/png"})
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.size == (200, 200)
        assert (image.mode == "P") == (kind == "mask")


def test_a_map_may_come_as_bare_bytes_at_the_photos_size(app_client: TestClient, body: dict[str, Any]) -> None:
    raw = label_map(POINTS).tobytes()
    answer = app_client.post(ROUTE, json={**body, "segmentation_map": text(raw)}).json()
    assert answer["result"] == app_client.post(ROUTE, json=body).json()["result"]


def palette_png(labels: Any) -> bytes:
    image = Image.fromarray(labels, "P")
    image.putpalette(list(np.random.default_rng(0).integers(0, 255, 768)))
    return encoded(image)


def test_a_palettes_indices_count_and_not_its_colours(app_client: TestClient, body: dict[str, Any]) -> None:
    labels = text(palette_png(label_map(POINTS)))
    answer = app_client.post(ROUTE, json={**body, "segmentation_map": labels}).json()
    assert answer["result"] == app_client.post(ROUTE, json=body).json()["result"]


BAD_MAPS: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "JPEG": (lambda: encoded(Image.fromarray(label_map(POINTS)), "JPEG"), 415, "UNSUPPORTED_IMAGE"),
    "text": (lambda: b"no map at all", 415, "UNSUPPORTED_IMAGE"),
    "cut short": (lambda: encoded(Image.fromarray(label_map(POINTS)))[:900], 422, "IMAGE_UNREADABLE"),
    "bomb": (lambda: encoded(Image.new("L", (9000, 9000))), 422, "IMAGE_TOO_LARGE"),
    "colours": (lambda: encoded(Image.effect_noise((99, 99), 50).convert("RGB").rotate(9)), 422, "INVALID_VALUE"),
    "one pixel": (lambda: encoded(Image.new("L", (1, 1))), 422, "INVALID_VALUE"),
    "background": (lambda: encoded(Image.new("L", (99, 99))), 422, "INVALID_VALUE"),
    "16 bits": (lambda: encoded(Image.fromarray(np.full((99, 99), 40_000, np.uint16))), 422, "INVALID_VALUE"),
    "floats": (lambda: encoded(Image.new("F", (99, 99), 0.5), "TIFF"), 422, "INVALID_VALUE"),
    "negative": (lambda: encoded(Image.new("I", (99, 99), -5), "TIFF"), 422, "INVALID_VALUE"),
}


@pytest.mark.parametrize("name", BAD_MAPS)
def test_maps_that_are_none_are_refused(app_client: TestClient, body: dict[str, Any], name: str) -> None:
    build, status, code = BAD_MAPS[name]
    answer = app_client.post(ROUTE, json={**body, "segmentation_map": text(build())})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.json()


HUGE = int("9" * 400)
BAD_LANDMARKS: dict[str, Any] = {
    "text": "no JSON", "empty": [], "number": 5, "numbers": [1, 2, 3], "empty lists": [[]], "deep": [[[[1, 2]]]],
    "booleans": [[True, False]] * 468, "strings": [["1", "2"]] * 468, "nulls": [{"x": None, "y": 1}] * 468,
    "half a point": [{"x": 1}] * 468, "two faces": [POINTS.tolist(), POINTS.tolist()], "five": POINTS[:5].tolist(),
    "huge numbers": [[HUGE, HUGE]] * 468, "not in the photo": (POINTS + 9000).tolist(), "an object": {"a": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LANDMARKS)
def test_landmarks_that_are_none_are_refused(app_client: TestClient, body: dict[str, Any], name: str) -> None:
    answer = app_client.post(ROUTE, json={**body, "landmarks": BAD_LANDMARKS[name]})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE"), answer.json()
    assert answer.json()["detail"].startswith("landmarks")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(app_client: TestClient, body: dict[str, Any], number: str) -> None:
    points = "[" + ",".join([f"[{number}, 3]"] * 468) + "]"
    for raw in (f'{{"image": "{body["image"]}", "landmarks": {points}}}', f'{{"image": "x", "smoothing": {number}}}'):
        answer = app_client.post(ROUTE, content=raw.encode(), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, answer.json()


def test_a_body_of_millions_of_values_is_refused_before_it_is_parsed(app_client: TestClient) -> None:
    answer = app_client.post(ROUTE, content=b'{"landmarks":[' + b"1," * 2_000_000 + b"1]}")
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")


@pytest.mark.parametrize(
    "change",
    [{"regions": ["nostril"]}, {"regions": []}, {"size": 5}, {"size": 10**9}, {"smoothing": 2}, {"output": "pdf"},
     {"label_scheme": "mine"}, {"fill": "red"}, {"fill_opacity": -1}, {"png": "x"}, {"colour": "blue"}, {"image": 5}],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(app_client: TestClient, body: dict[str, Any], change: dict[str, Any]) -> None:
    answer = app_client.post(ROUTE, json={**body, **change})
    assert answer.status_code == 422
    assert {"detail", "code", "request_id"} <= answer.json().keys()


def test_a_turned_photo_beyond_the_limit_is_refused_as_png_only(body: dict[str, Any], landmarks: FaceLandmarks) -> None:
    request = ContourRequest(
        image=base64.b64decode(body["image"]),
        landmarks=tuple(map(tuple, POINTS.tolist())),
        options=ContourOptions(crop=False),
        output="png",
    )
    small = Contourer(landmarks, max_pixels=PHOTO[0] * PHOTO[1])
    with pytest.raises(InvalidValueError, match="megapixels"):
        small.contours(request)


# ---- the parser of landmarks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [[{"x": 1, "y": 2.5}], [[1, 2.5]], [[{"x": 1, "y": 2.5, "z": 3}]], [[[1, 2.5, 9]]],
     {"landmarks": [[{"x": 1, "y": 2.5}]]}],
    ids=str,
)  # fmt: skip
def test_landmarks_are_read_in_every_nesting(value: object) -> None:
    assert parse_landmarks(value) == ((1.0, 2.5),)


def test_a_result_is_served_again_to_its_owner_alone(body: dict[str, Any], landmarks: FaceLandmarks) -> None:
    database = open_database(None)
    kept = ResultCache(database, lifetime=timedelta(hours=1), max_bytes=10**7)
    contourer = Contourer(landmarks, max_pixels=10**6, cache=kept)
    labels = base64.b64decode(body["segmentation_map"])
    points = tuple((float(x), float(y)) for x, y in POINTS)
    request = ContourRequest(base64.b64decode(body["image"]), points, labels)
    first = contourer.contours(request, owner="me")
    again = contourer.contours(request, owner="me")
    assert "contours" in first.timings_ms
    assert "contours" not in again.timings_ms
    assert (again.data, again.document, again.media_type) == (first.data, first.document, first.media_type)
    others = [
        replace(request, landmarks=tuple((x + 1, y) for x, y in points)),
        replace(request, segmentation_map=None),
        replace(request, output="json"),
        replace(request, options=ContourOptions(smoothing=0.4)),
    ]
    assert all("contours" in contourer.contours(other, owner="me").timings_ms for other in others)
    assert "contours" in contourer.contours(request, owner="you").timings_ms
    database.close()
    assert contourer.contours(request, owner="me").data == first.data


@needs_shared
def test_the_seeds_own_input_works_as_it_is(app_client: TestClient) -> None:
    literal = ast.literal_eval((SHARED / "landmarks.txt").read_text())
    files = {name: text((SHARED / f"{name}.png").read_bytes()) for name in ("original_image", "segmentation_map")}
    body = {"image": files["original_image"], "segmentation_map": files["segmentation_map"]}
    nested = app_client.post(ROUTE, json={**body, "landmarks": literal["landmarks"]})
    assert nested.status_code == 200
    document = nested.json()["contours"]
    assert (document["label_scheme"], document["warnings"]) == ("parsing11", [])
    assert document["transform"]["roll_deg"] == pytest.approx(22.3, abs=0.5)
    flat = app_client.post(ROUTE, json={**body, "landmarks": literal["landmarks"][0]})
    assert flat.json()["result"] == nested.json()["result"]
    assert Path(SHARED).exists()
