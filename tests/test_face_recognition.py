"""The face recognition API: its three ways in, its choice of faces, and what it says when something is missing."""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.types import Message

from facial_expression import LABELS, PROFILE
from main import create_app
from routes import face_analysis_models, face_recognition_models, face_recognition_requests
from service import recognition
from service.image_io import decode_image
from service.inference_pool import InferencePool
from service.recognition import PHOTO_SIDE_PX
from tests.conftest import encoded, settings_in
from tests.face_packs import EMBEDDING_SIZE, picture_of_squares, write_expression_model, write_pack

API = "/api/v1"
LARGE, SMALL = (160, 160), (480, 320)
NO_FACE = "No face detected in image"
PICTURE_ROUTES = ["verify-face", "extract-embedding", "analyze-face-advanced"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    write_pack(folder / "models" / "built")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    settings = settings_in(folder, face_model="built", face_match_threshold=0.6, max_queue=64)
    with TestClient(create_app(settings)) as client:
        yield client


def jpeg(*centres: tuple[int, int], colour: tuple[int, int, int] = (255, 255, 255), **options: Any) -> bytes:
    return encoded(picture_of_squares(*centres, colour=colour), "JPEG", quality=95, subsampling=0, **options)


FACE = jpeg((320, 288))
BASE64 = base64.b64encode(FACE).decode()
FACELESS = jpeg()
WAYS_IN: dict[str, dict[str, Any]] = {
    "file": {"files": {"file": ("face.jpg", FACE, "image/jpeg")}},
    "multipart base64": {"files": {"image_base64": (None, f"data:image/jpeg;base64,{BASE64}")}},
    "form base64": {"data": {"image_base64": BASE64}},
    "JSON base64": {"json": {"image_base64": BASE64}},
    "JSON data URL": {"json": {"image_base64": f"data:image/jpeg;base64,{BASE64}"}},
}


def post(client: TestClient, route: str, picture: bytes, **fields: Any) -> Any:
    return client.post(f"{API}/{route}", files={"file": ("a.jpg", picture, "image/jpeg")}, data=fields)


def extract(client: TestClient, picture: bytes, **fields: Any) -> dict[str, Any]:
    answer = post(client, "extract-embedding", picture, **fields)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


# --- ways in ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", PICTURE_ROUTES)
@pytest.mark.parametrize("way", WAYS_IN)
def test_every_way_in_gives_the_same_answer(client: TestClient, route: str, way: str) -> None:
    answer = client.post(f"{API}/{route}", **WAYS_IN[way])
    assert answer.status_code == 200, answer.text
    assert answer.json() == client.post(f"{API}/{route}", **WAYS_IN["file"]).json()


@pytest.mark.parametrize("route", PICTURE_ROUTES)
@pytest.mark.parametrize(
    "request_parts",
    [
        {},
        {"json": {}},
        {"json": {"image_base64": None, "face": "center"}},
        {"data": {"face": "center"}},
        {"files": {"file": ("a", FACE)}, "data": {"image_base64": BASE64}},
        {"content": FACE, "headers": {"Content-Type": "image/jpeg"}},
    ],
)  # fmt: skip
def test_exactly_one_picture_is_taken(client: TestClient, route: str, request_parts: dict[str, Any]) -> None:
    answer = client.post(f"{API}/{route}", **request_parts)
    assert (answer.status_code, answer.json()["code"]) == (400, "BAD_REQUEST")
    assert "image_base64" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["data:text/html;base64,aGk=", "aGVsbG8", "a-_b", "", "\u00e9"])
def test_what_is_no_base64_is_refused_in_forms_and_json(client: TestClient, text: str) -> None:
    answer = client.post(f"{API}/extract-embedding", json={"image_base64": text})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_BASE64")
    answer = client.post(f"{API}/extract-embedding", data={"image_base64": text})
    # An empty field of a form is an absent one.
    assert (answer.status_code, answer.json()["code"]) == ((422, "INVALID_BASE64") if text else (400, "BAD_REQUEST"))


def test_a_plus_that_a_form_turned_into_a_space_is_said(client: TestClient) -> None:
    body = b"image_base64=" + BASE64.replace("/", "+").encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = client.post(f"{API}/verify-face", content=body, headers=headers)
    assert answer.status_code == 422
    assert "%2B" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400), (b"{", 400), (b"\xff\xfe", 400), (b"[" * 100_000, 400), (b'{"image_base64": "\\ud800"}', 400),
        (b"null", 422), (b"[]", 422), (b'"x"', 422), (b'{"image_base64": 5}', 422), (b'{"image_base64": {}}', 422),
        (b'{"face": "left"}', 422), (b'{"face": -1}', 422), (b'{"face": true}', 422), (b'{"face": NaN}', 422),
        (b'{"face": [0]}', 422), (b'{"face": {}}', 422), (b'{"face": ' + b"9" * 4000 + b"}", 422),
        (b'{"faces": "both"}', 422), (b'{"det_threshold": NaN}', 422), (b'{"det_threshold": 1e999}', 422),
        (b'{"det_threshold": 0}', 422), (b'{"det_threshold": "x"}', 422),
    ],
    ids=lambda case: case[:32].decode("latin-1") if isinstance(case, bytes) else None,
)  # fmt: skip
def test_json_that_is_none_or_wrong_names_the_field(client: TestClient, body: bytes, status: int) -> None:
    for route in ("verify-face", "extract-embedding", "batch-extract"):
        if route == "batch-extract" and (b"image_base64" in body or b"faces" in body):
            continue
        answer = client.post(f"{API}/{route}", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status, answer.text
        assert answer.json()["errors"][0]["loc"][0] == "body"
        if body.startswith(b'{"') and status == 422:
            assert answer.json()["errors"][0]["loc"][1] == body.split(b'"')[1].decode()


def test_json_may_name_its_character_set_and_other_json_is_none(client: TestClient) -> None:
    body = json.dumps({"image_base64": BASE64}).encode()
    for content_type, status in {
        "Application/JSON; charset=utf-8": 200,
        "text/plain": 400,
        "application/xml": 400,
    }.items():
        answer = client.post(f"{API}/verify-face", content=body, headers={"Content-Type": content_type})
        assert answer.status_code == status


# --- answers ----------------------------------------------------------------------------------------------------------


def test_verify_has_the_seeds_keys(client: TestClient) -> None:
    body = post(client, "verify-face", FACE).json()
    assert body["face_detected"] is True
    assert body["message"] == "Face detected successfully"
    assert 0.5 <= body["confidence"] <= 1
    x1, y1, x2, y2 = body["bbox"]
    assert x1 < 320 < x2
    assert y1 < 288 < y2
    assert "embedding" not in body


def test_extract_has_the_seeds_keys_and_a_unit_vector_of_seven_decimals(client: TestClient) -> None:
    body = extract(client, FACE)
    assert {"face_detected", "embedding", "bbox", "confidence"} <= body.keys()
    assert len(body["embedding"]) == EMBEDDING_SIZE
    assert np.linalg.norm(body["embedding"]) == pytest.approx(1, abs=1e-6)
    assert all(number == round(number, 7) for number in body["embedding"])


@pytest.mark.parametrize("route", PICTURE_ROUTES)
def test_every_answer_names_what_it_comes_from(client: TestClient, route: str) -> None:
    body = post(client, route, FACE).json()
    assert (body["model"], body["threshold"], body["det_threshold"]) == ("built", 0.6, 0.5)
    assert len(body["model_sha256"]) == 64
    assert body["threshold_source"] == "FACE_MATCH_THRESHOLD"
    assert (body["faces_found"], body["rotation_applied"], body["image_shape"]) == (1, 0, [480, 640, 3])


def test_no_face_is_an_answer_of_verify_and_an_error_of_the_others(client: TestClient) -> None:
    answer = post(client, "verify-face", FACELESS)
    assert answer.status_code == 200
    assert answer.json().items() >= {"face_detected": False, "error": NO_FACE}.items()
    assert answer.json()["faces_found"] == 0
    for route in ("extract-embedding", "analyze-face-advanced"):
        answer = post(client, route, FACELESS)
        assert answer.status_code == 422
        body = answer.json()
        assert body.items() >= {"face_detected": False, "error": NO_FACE, "code": "NO_FACE_DETECTED"}.items()
        assert body["detail"].startswith(NO_FACE)
        assert body["request_id"] == answer.headers["x-request-id"]


def nulls(value: Any, name: str = "") -> Iterator[str]:
    """The dotted names of all fields that are null."""
    if value is None:
        yield name.removeprefix(".")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from nulls(inner, f"{name}.{key}")


def check_reasons(face: dict[str, Any], *, measured: set[str]) -> None:
    """Exactly what is null has a reason."""
    fields = face_analysis_models.AnalyzedFace.model_fields.keys() - {"unavailable"}
    missing = set(nulls({key: face[key] for key in fields}))
    assert missing == set(face["unavailable"])
    assert all(face["unavailable"].values())
    assert not missing & measured


def test_analysis_measures_a_photo_and_has_a_reason_for_every_null(app_client: TestClient, photo: bytes) -> None:
    body = post(app_client, "analyze-face-advanced", photo).json()
    check_reasons(
        body,
        measured={
            "landmarks_68",
            "landmarks_478",
            "pose",
            "quality.overall",
            "symmetry_score",
            "skin_tone",
            "geometry",
        },
    )
    assert {"embedding", "age", "gender"} <= body["unavailable"].keys()
    x1, y1, x2, y2 = body["bbox"]
    points = np.array(body["landmarks_68"])
    assert points.shape == (68, 2)
    assert (x1 - 20 < points[:, 0]).all()
    assert (points[:, 0] < x2 + 20).all()
    assert (y1 - 40 < points[:, 1]).all()
    assert (points[:, 1] < y2 + 40).all()
    assert abs(body["pose"]["yaw"]) < 15
    assert {"yaw", "pitch", "roll"} <= body["pose"].keys()
    assert {"blur_score", "illumination", "overall"} <= body["quality"].keys()
    assert {"dominant_color_lab", "hex"} <= body["skin_tone"].keys()
    assert {"dominant", "confidence", "emotions"} <= body["expression"].keys()
    assert {"face_width_height_ratio", "eye_spacing_face_width", "jawline_width_face_width",
            "nose_width_face_width"} <= body["geometry"].keys()  # fmt: skip
    assert body["expression"]["dominant"] == "smiling"


def test_analysis_has_what_the_face_pack_gives(client: TestClient) -> None:
    body = post(client, "analyze-face-advanced", FACE).json()
    check_reasons(body, measured={"embedding", "age", "age_range", "gender", "gender_probability"})
    assert (body["age"], body["gender"]) == (31, "M")
    assert body["embedding"] == extract(client, FACE)["embedding"]
    assert body["landmarks_68"] is None  # a white square is no face to the mesh


def test_an_installed_expression_model_names_the_expression(tmp_path: Path, photo: bytes) -> None:
    folder = tmp_path / "models" / PROFILE
    folder.mkdir(parents=True)
    write_expression_model(folder)
    with TestClient(create_app(settings_in(tmp_path))) as own_client:
        health = own_client.get("/health").json()["models"]["facial_expression"]
        body = post(own_client, "analyze-face-advanced", photo).json()
    assert (health["state"], health["engine"], health["reason"]) == ("ready", "columns", None)
    expression = body["expression"]
    assert (expression["method"], expression["model"]) == ("model", "columns")
    assert set(expression["emotions"]) == set(LABELS)
    assert sum(expression["emotions"].values()) == pytest.approx(1, abs=1e-3)
    likeliest = max(expression["emotions"], key=expression["emotions"].__getitem__)
    assert (expression["dominant"], expression["confidence"]) == (likeliest, expression["emotions"][likeliest])
    assert expression["smile"] > 0.5
    assert not any(name.startswith("expression") for name in body["unavailable"])


def test_a_missing_expression_model_says_how_to_get_it(app_client: TestClient, photo: bytes) -> None:
    health = app_client.get("/health").json()["models"]["facial_expression"]
    assert health["state"] == "missing"
    assert "models pull facial_expression" in health["reason"]
    assert post(app_client, "analyze-face-advanced", photo).json()["expression"]["emotions"] is None


def test_analysis_of_a_reduced_jpeg_has_points_in_its_own_pixels(app_client: TestClient, photo: bytes) -> None:
    side = 2 * PHOTO_SIDE_PX
    with Image.open(io.BytesIO(photo)) as original:
        large = encoded(original.resize((side, side)), "JPEG", quality=90)
    small, reduced = (post(app_client, "analyze-face-advanced", picture).json() for picture in (photo, large))
    assert reduced["image_shape"] == [side, side, 3]
    factor = side / small["image_shape"][0]
    assert np.array(reduced["landmarks_68"]) / factor == pytest.approx(np.array(small["landmarks_68"]), abs=3)


def test_the_stages_are_timed(client: TestClient) -> None:
    timing = post(client, "analyze-face-advanced", FACE).headers["server-timing"]
    assert all(f"{stage};dur=" in timing for stage in ("decode", "detect", "embed", "mesh", "analyze"))


# --- which face -------------------------------------------------------------------------------------------------------

TWO_FACES = jpeg((96, 96), (320, 224))  # alike in size: the order is the detector's; the second is in the middle


def test_the_face_that_is_asked_for_answers(client: TestClient) -> None:
    by_number = [extract(client, TWO_FACES, face=str(number)) for number in (0, 1)]
    assert [body["index"] for body in by_number] == [0, 1]
    assert by_number[0]["bbox"] != by_number[1]["bbox"]
    assert extract(client, TWO_FACES, face="largest") == by_number[0] == extract(client, TWO_FACES)
    middle = extract(client, TWO_FACES, face="center")
    assert middle["bbox"][0] < 320 < middle["bbox"][2]
    assert middle["faces_found"] == 2


@pytest.mark.parametrize("face", ["2", "999"])
def test_a_number_that_no_face_has_is_refused(client: TestClient, face: str) -> None:
    for route in PICTURE_ROUTES:
        answer = post(client, route, TWO_FACES, face=face)
        assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")
        assert "2 found" in answer.json()["detail"]


@pytest.mark.parametrize("route", PICTURE_ROUTES)
def test_all_faces_stand_beside_the_chosen_one(client: TestClient, route: str) -> None:
    body = post(client, route, TWO_FACES, faces="all", face="1").json()
    assert [face["index"] for face in body["faces"]] == [0, 1]
    assert body["faces"][1].items() <= body.items()
    assert post(client, route, TWO_FACES).json()["faces"] is None


def test_the_detection_threshold_of_the_request_is_applied(client: TestClient) -> None:
    confidence = post(client, "verify-face", jpeg((320, 288), colour=(200, 200, 200))).json()["confidence"]
    assert 0.5 < confidence < 0.94
    dim = jpeg((320, 288), colour=(200, 200, 200))
    assert post(client, "verify-face", dim, det_threshold=str(confidence + 0.01)).json()["face_detected"] is False
    assert post(client, "verify-face", dim, det_threshold="0.05").json()["det_threshold"] == 0.05


def test_a_picture_that_lies_on_its_side_is_found_and_said_so(client: TestClient) -> None:
    """EXIF turns it upright before; what has no EXIF keeps its own pixels."""
    exif = Image.Exif()
    exif[0x0112] = 6
    body = post(client, "verify-face", jpeg((320, 288), exif=exif)).json()
    assert body["image_shape"] == [640, 480, 3]
    assert body["rotation_applied"] == 0
    x1, y1, x2, y2 = body["bbox"]
    assert x1 < 480 - 288 < x2
    assert y1 < 320 < y2


def test_a_large_jpeg_is_reduced_and_answers_in_its_own_pixels(client: TestClient) -> None:
    factor = 2 * PHOTO_SIDE_PX // 640 + 1
    small = picture_of_squares((320, 288))
    large = small.resize((640 * factor + 1, 480 * factor + 1), Image.Resampling.NEAREST)
    at_once = post(client, "verify-face", encoded(large, "PNG")).json()
    reduced = post(client, "verify-face", encoded(large, "JPEG", quality=95)).json()
    assert reduced["image_shape"] == at_once["image_shape"] == [480 * factor + 1, 640 * factor + 1, 3]
    assert reduced["bbox"] == pytest.approx(at_once["bbox"], abs=2 * factor)
    assert np.array(reduced["kps"]) == pytest.approx(np.array(at_once["kps"]), abs=2 * factor)


def test_a_small_face_of_a_large_jpeg_keeps_all_its_pixels(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its embedding would lose by the reduction; whether there is a face does not."""
    scales: list[float] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        image = decode_image(*args, **kwargs)
        scales.append(image.scale)
        return image

    monkeypatch.setattr(recognition, "decode_image", watched)
    large = picture_of_squares((320, 288)).resize((2 * PHOTO_SIDE_PX, 3 * PHOTO_SIDE_PX // 2))
    for least, route, expected in (
        (10_000, "extract-embedding", [0.5, 1]),
        (10_000, "verify-face", [0.5]),
        (10, "extract-embedding", [0.5]),
    ):
        monkeypatch.setattr(recognition, "LEAST_FACE_PX", least)
        scales.clear()
        assert post(client, route, encoded(large, "JPEG")).status_code == 200
        assert scales == expected


# --- comparing --------------------------------------------------------------------------------------------------------


def compare(client: TestClient, **fields: Any) -> Any:
    return client.post(f"{API}/compare-faces", json=fields)


def axis(*numbers: float) -> list[float]:
    return [*numbers, *[0.0] * (EMBEDDING_SIZE - len(numbers))]


@pytest.mark.parametrize(
    ("a", "b", "similarity", "is_match"),
    [(axis(1), axis(5), 1, True), (axis(1), axis(-2), -1, False), (axis(1), axis(0, 1), 0, False),
     (axis(3, 4), axis(1), 0.6, True), (axis(3, 4.0001), axis(1), 0.5999904, False), (axis(1), axis(7e307), 1, True)],
)  # fmt: skip
def test_similarity_is_the_cosine_and_the_threshold_belongs_to_a_match(
    client: TestClient, a: list[float], b: list[float], similarity: float, is_match: bool
) -> None:
    body = compare(client, embedding_a=a, embedding_b=b).json()
    assert body["similarity"] == pytest.approx(similarity, abs=1e-6)
    assert body["distance"] == pytest.approx(1 - similarity, abs=1e-6)
    assert body["is_match"] is is_match
    assert (body["metric"], body["model"], body["threshold"]) == ("cosine", "built", 0.6)


def test_an_embedding_compared_with_itself_is_one(client: TestClient) -> None:
    embedding = extract(client, FACE)["embedding"]
    body = compare(client, embedding_a=embedding, embedding_b=embedding).json()
    assert (body["similarity"], body["distance"], body["is_match"]) == (1, 0, True)


def test_vectors_of_different_lengths_are_refused(client: TestClient) -> None:
    answer = compare(client, embedding_a=[1, 0], embedding_b=[1, 0, 0])
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")
    assert "embedding_b" in answer.json()["detail"]


def test_embeddings_of_different_models_are_refused(client: TestClient) -> None:
    answer = compare(client, embedding_a=axis(1), embedding_b=axis(1), model_a="built", model_b="buffalo_l")
    assert (answer.status_code, answer.json()["code"]) == (409, "MODEL_MISMATCH")


def test_the_threshold_is_that_of_the_model_that_is_named(client: TestClient) -> None:
    whole = [1.0] * 512
    named = compare(client, embedding_a=whole, embedding_b=whole, model_a="buffalo_l").json()
    assert (named["model"], named["threshold"]) == ("buffalo_l", 0.4)
    unnamed = compare(client, embedding_a=whole, embedding_b=whole).json()
    assert (unnamed["model"], unnamed["threshold"], unnamed["is_match"]) == (None, None, None)
    assert "model_a" in unnamed["threshold_source"]
    unknown = compare(client, embedding_a=whole, embedding_b=whole, model_b="mine").json()
    assert (unknown["model"], unknown["is_match"]) == ("mine", None)
    own = compare(client, embedding_a=whole, embedding_b=whole, model_b="mine", threshold=0.9).json()
    assert (own["threshold"], own["is_match"]) == (0.9, True)


@pytest.mark.parametrize("model", ["built", "buffalo_l"])
def test_a_model_that_gives_other_lengths_is_refused(client: TestClient, model: str) -> None:
    answer = compare(client, embedding_a=[1, 0], embedding_b=[1, 0], model_a=model)
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")


@pytest.mark.parametrize(
    ("vector", "status"),
    [
        (b"[NaN, 1]", 422), (b"[Infinity, 1]", 422), (b"[-Infinity, 1]", 422), (b"[1e999, 1]", 422),
        (b'["1", 2]', 422), (b'"12"', 422), (b"[[1, 2]]", 422), (b"[true, 1]", 422), (b"[null, 1]", 422),
        (b"[{}]", 422), (b"[]", 422), (b"null", 422), (b"{}", 422), (b"7", 422), (b"[0, 0.0, -0.0]", 422),
        (b"[1e-400]", 422), (b"[" + b"1," * 4096 + b"1]", 422), (b"[" + b"NaN," * 50_000 + b"1]", 422),
        (b"[" + b"1" * 4000 + b"]", 422), (b"[" + b"1" * 5000 + b"]", 400), (b"[" * 100_000, 400), (b"[1,]", 400),
        (b"\xff", 400),
    ],
    ids=lambda case: case[:24].decode("latin-1") if isinstance(case, bytes) else None,
)  # fmt: skip
@pytest.mark.parametrize("field", ["embedding_a", "embedding_b"])
def test_what_is_no_embedding_is_refused_and_named(client: TestClient, field: str, vector: bytes, status: int) -> None:
    other = "embedding_b" if field == "embedding_a" else "embedding_a"
    body = b'{"%s": %s, "%s": [1, 2]}' % (field.encode(), vector, other.encode())
    answer = client.post(f"{API}/compare-faces", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status == 422:
        assert {error["loc"][1] for error in answer.json()["errors"]} == {field}
        assert len(answer.json()["errors"]) == 1


@pytest.mark.parametrize("threshold", [b"NaN", b"2", b"1e999", b'"x"'])
def test_a_threshold_that_no_cosine_has_is_refused(client: TestClient, threshold: bytes) -> None:
    body = b'{"embedding_a": [1], "embedding_b": [1], "threshold": %s}' % threshold
    answer = client.post(f"{API}/compare-faces", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "threshold"]


def test_json_without_pictures_may_not_be_long(client: TestClient) -> None:
    answer = compare(client, embedding_a=[1], embedding_b=[1], model_a="x" * (2 * 2**20))
    assert (answer.status_code, answer.json()["code"]) == (413, "FILE_TOO_LARGE")


def test_two_pictures_are_compared_by_their_chosen_faces(client: TestClient) -> None:
    colours: list[tuple[int, int, int]] = [(255, 255, 150), (150, 255, 255)]
    a, b = (jpeg((96, 96), (320, 224), colour=colour) for colour in colours)
    files = {"file_a": ("a", a), "file_b": ("b", b)}
    body = client.post(f"{API}/compare-images", files=files, data={"face_b": "1", "threshold": "0.99"}).json()
    expected = np.dot(extract(client, a)["embedding"], extract(client, b, face="1")["embedding"])
    assert body["similarity"] == pytest.approx(expected, abs=1e-6)
    assert body["is_match"] is bool(expected >= 0.99)
    assert (body["threshold"], body["model"]) == (0.99, "built")
    assert (body["face_a"]["index"], body["face_b"]["index"]) == (0, 1)
    assert (body["face_a"]["faces_found"], body["face_b"]["faces_found"]) == (2, 2)
    assert body["face_b"]["bbox"] == extract(client, b, face="1")["bbox"]


def test_the_picture_without_a_face_is_named(client: TestClient) -> None:
    answer = client.post(f"{API}/compare-images", files={"file_a": ("a", FACE), "file_b": ("b", FACELESS)})
    assert (answer.status_code, answer.json()["code"]) == (422, "NO_FACE_DETECTED")
    assert answer.json()["detail"].startswith("file_b: ")
    answer = client.post(f"{API}/compare-images", files={"file_a": ("a", b"x"), "file_b": ("b", FACE)})
    assert (answer.status_code, answer.json()["code"]) == (415, "UNSUPPORTED_IMAGE")
    assert answer.json()["detail"].startswith("file_a: ")


# --- batches ----------------------------------------------------------------------------------------------------------


def in_base64(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


MIXED = [FACE, b"no picture", FACELESS, jpeg((96, 96), colour=(255, 255, 150))]


def check_mixed(results: list[dict[str, Any]], body: dict[str, Any], client: TestClient) -> None:
    assert [item["index"] for item in results] == [0, 1, 2, 3]
    assert [item["face_detected"] for item in results] == [True, False, False, True]
    assert [item["code"] for item in results] == [None, "UNSUPPORTED_IMAGE", "NO_FACE_DETECTED", None]
    assert results[2]["error"].startswith(NO_FACE)
    for index in (0, 3):
        alone = extract(client, MIXED[index])
        assert all(results[index][key] == alone[key] for key in ("embedding", "confidence", "bbox"))
    assert (body["total"], body["successful"], body["failed"]) == (4, 2, 2)
    assert (body["model"], body["threshold"]) == ("built", 0.6)


@pytest.mark.parametrize("way", ["json", "files", "form"])
def test_a_batch_keeps_its_order_and_each_picture_its_own_error(client: TestClient, way: str) -> None:
    texts = [in_base64(picture) for picture in MIXED]
    ways: dict[str, dict[str, Any]] = {
        "json": {"json": {"images": texts}},
        "files": {"files": [("files", ("x.jpg", picture)) for picture in MIXED]},
        "form": {"data": {"images": texts}},
    }
    answer = client.post(f"{API}/batch-extract", **ways[way])
    assert answer.status_code == 200, answer.text
    check_mixed(answer.json()["results"], answer.json(), client)


def events_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return events


def test_a_batch_is_streamed_on_request(client: TestClient) -> None:
    answer = client.post(
        f"{API}/batch-extract",
        json={"images": [in_base64(picture) for picture in MIXED]},
        headers={"Accept": "text/event-stream"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    *items, (last, summary) = events_of(answer.text)
    assert [name for name, _ in items] == ["item"] * 4
    assert last == "summary"
    assert [item["progress"] for _, item in items] == [{"done": done, "total": 4} for done in (1, 2, 3, 4)]
    check_mixed(sorted((item for _, item in items), key=lambda item: int(item["index"])), summary, client)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"images": []}, 400), ({}, 400), ({"images": None}, 422), ({"images": BASE64}, 422), ({"images": [5]}, 422),
     ({"images": [""] * 51}, 422), ({"images": [BASE64], "face": "left"}, 422)],
)  # fmt: skip
def test_a_batch_of_none_or_too_many_is_refused(client: TestClient, body: dict[str, Any], status: int) -> None:
    assert client.post(f"{API}/batch-extract", json=body).status_code == status


def test_a_batch_of_too_many_files_is_refused(client: TestClient) -> None:
    files = [("files", ("x", b"x"))] * 51
    assert client.post(f"{API}/batch-extract", files=files).status_code == 422
    both = client.post(f"{API}/batch-extract", files=files[:1], data={"images": BASE64})
    assert (both.status_code, both.json()["code"]) == (400, "BAD_REQUEST")


def test_fifty_pictures_are_taken(client: TestClient) -> None:
    body = client.post(f"{API}/batch-extract", json={"images": [BASE64] * 50}).json()
    assert (body["total"], body["successful"]) == (50, 50)


def test_a_batch_has_no_more_in_work_than_there_are_workers(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool: InferencePool = client.app.state.service.pool  # type: ignore[attr-defined]
    seen: list[tuple[int, int]] = []

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append((pool.running, pool.waiting))
        return decode_image(*args, **kwargs)

    monkeypatch.setattr(recognition, "decode_image", watched)
    client.post(f"{API}/batch-extract", json={"images": [BASE64] * 12})
    assert len(seen) == 12
    assert max(running for running, _ in seen) <= pool.max_workers
    assert max(waiting for _, waiting in seen) <= pool.max_workers


@pytest.mark.parametrize("accept", [b"application/json", b"text/event-stream"])
def test_the_work_on_a_batch_ends_when_its_client_leaves(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, accept: bytes
) -> None:
    """The client goes when the third picture is decoded; at most those that were in work then are finished."""
    pool: InferencePool = client.app.state.service.pool  # type: ignore[attr-defined]
    decoded = itertools.count(1)
    body = json.dumps({"images": [BASE64] * 50}).encode()

    async def request() -> list[Message]:
        left, loop, sent = asyncio.Event(), asyncio.get_running_loop(), list[Message]()
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        def watched(*args: Any, **kwargs: Any) -> Any:
            if next(decoded) == 3:
                loop.call_soon_threadsafe(left.set)
            return decode_image(*args, **kwargs)

        async def receive() -> Message:
            for message in messages:
                return message
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        monkeypatch.setattr(recognition, "decode_image", watched)
        path = f"{API}/batch-extract"
        headers = [(b"content-type", b"application/json"), (b"accept", accept)]
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
                 "headers": headers, "asgi": {"spec_version": "2.3"}}  # fmt: skip
        await client.app(scope, receive, send)
        while pool.running or pool.waiting:  # noqa: ASYNC110 - the pool tells nobody
            await asyncio.sleep(0.01)
        return sent

    assert client.portal is not None
    sent = client.portal.call(request)
    assert next(decoded) - 1 <= 3 + 2 * pool.max_workers
    assert b"summary" not in b"".join(message.get("body", b"") for message in sent)
    assert client.get(f"{API}/health").status_code == 200


# --- what is missing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_parts",
    [("extract-embedding", WAYS_IN["file"]), ("batch-extract", {"json": {"images": [BASE64]}}),
     ("compare-images", {"files": {"file_a": ("a", FACE), "file_b": ("b", FACE)}})],
    ids=lambda parts: str(parts[0]),
)  # fmt: skip
def test_without_a_recogniser_the_answer_names_what_is_missing_and_the_command(
    app_client: TestClient, request_parts: tuple[str, dict[str, Any]]
) -> None:
    route, parts = request_parts
    answer = app_client.post(f"{API}/{route}", **parts)
    assert (answer.status_code, answer.json()["code"]) == (503, "MODEL_UNAVAILABLE")
    assert "MODELS_DIR/buffalo_l" in answer.json()["detail"]
    assert "python main.py models pull buffalo_l" in answer.json()["detail"]


def test_verify_works_without_a_recogniser(app_client: TestClient, photo: bytes) -> None:
    body = post(app_client, "verify-face", photo).json()
    assert body["face_detected"] is True
    assert (body["model_sha256"], body["threshold"]) == (None, None)
    assert body["model"].startswith("mediapipe")


def test_embeddings_are_compared_without_a_recogniser(app_client: TestClient) -> None:
    body = compare(app_client, embedding_a=[1, 1], embedding_b=[1, 0], threshold=0.7).json()
    assert (body["similarity"], body["is_match"]) == (pytest.approx(0.7071068), True)


def test_health_has_the_seeds_keys(client: TestClient, app_client: TestClient) -> None:
    body = client.get(f"{API}/health").json()
    assert body.items() >= {"status": "healthy", "model": "insightface", "model_loaded": True}.items()
    assert body["version"]
    without = app_client.get(f"{API}/health").json()
    assert without["model_loaded"] is False
    assert "models pull buffalo_l" in without["reason"]


# --- many at once -----------------------------------------------------------------------------------------------------


def test_64_pictures_at_once_get_each_its_own_answer(client: TestClient) -> None:
    places = [(64 + 32 * (n % 16), 96 + 96 * (n // 16)) for n in range(64)]
    colours = [(255 - 2 * (n % 32), 190 + 2 * (n // 2), 255 - n) for n in range(64)]
    pictures = [jpeg(place, colour=colour) for place, colour in zip(places, colours, strict=True)]
    alone = [extract(client, picture) for picture in pictures]
    assert len({tuple(body["embedding"]) for body in alone}) == 64
    with ThreadPoolExecutor(64) as threads:
        together = list(threads.map(lambda picture: extract(client, picture), pictures))
    assert together == alone


# --- documentation ----------------------------------------------------------------------------------------------------


def is_from(module: ModuleType, member: object) -> bool:
    return isinstance(member, type) and member.__module__ == module.__name__


def test_the_documentation_shows_each_way_in_and_every_field(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for route in (*PICTURE_ROUTES, "batch-extract"):
        content = document["paths"][f"{API}/{route}"]["post"]["requestBody"]["content"]
        assert content.keys() == {"multipart/form-data", "application/x-www-form-urlencoded", "application/json"}
    posts = [operations["post"] for operations in document["paths"].values() if "post" in operations]
    ours = [operation for operation in posts if operation["tags"] == ["face recognition"]]
    assert len(ours) == 6
    for operation in ours:
        assert "not liveness" in operation["description"]
        assert {"401", "422"} <= operation["responses"].keys()
    modules = (face_recognition_models, face_analysis_models, face_recognition_requests)
    written = {cls.__name__ for module in modules for cls in vars(module).values() if is_from(module, cls)}
    shown = written & document["components"]["schemas"].keys()
    assert len(shown) > 15
    for name in shown:
        for field, schema in document["components"]["schemas"][name]["properties"].items():
            assert "description" in schema or "const" in schema, f"{name}.{field}"
