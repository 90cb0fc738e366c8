from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from main import create_app
from tests.conftest import encoded, settings_in
from tests.face_packs import EMBEDDING_SIZE, write_pack
from tests.face_packs import picture_of_squares as squares

SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("service")
    write_pack(folder / "models" / "built")
    return folder


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings_in(folder, face_model="built"))) as client:
        yield client


@pytest.fixture(scope="module")
def embedded_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with TestClient(create_app(settings_in(tmp_path_factory.mktemp("embedded")))) as client:
        yield client


def picture_of_squares(*centres: tuple[int, int], **save_options: Any) -> bytes:
    return encoded(squares(*centres), "JPEG", quality=95, **save_options)


def detect(client: TestClient, picture: bytes, name: str = "photo.jpg") -> Any:
    return client.post("/detect-face", files={"file": (name, picture, "image/jpeg")})


def test_the_answer_has_the_documented_shape(client: TestClient) -> None:
    answer = detect(client, picture_of_squares((320, 288)))
    assert answer.status_code == 200
    body = answer.json()
    assert body["success"] is True
    assert body["file_path"] == f"uploads/{UUID(body['file_id'])}.jpg"
    results = body["detection_results"]
    assert results["detected"] is True
    assert results["image_shape"] == [480, 640, 3]
    (face,) = results["faces"]
    assert set(face) == {"bbox", "kps", "embedding", "gender", "age", "det_score", "unavailable"}
    assert [len(point) for point in face["kps"]] == [2] * 5
    assert len(face["embedding"]) == EMBEDDING_SIZE
    assert np.linalg.norm(face["embedding"]) == pytest.approx(1, abs=1e-5)
    assert (face["gender"], face["age"], face["unavailable"]) == ("M", 31, {})
    assert face["bbox"][0] < 320 < face["bbox"][2]


def test_no_face_is_an_answer_and_not_an_error(client: TestClient) -> None:
    answer = detect(client, picture_of_squares())
    assert answer.status_code == 200
    assert answer.json()["detection_results"] == {"detected": False, "faces": [], "image_shape": [480, 640, 3]}


def test_several_faces_are_all_listed(client: TestClient) -> None:
    answer = detect(client, picture_of_squares((96, 96), (320, 288), (544, 96)))
    assert len(answer.json()["detection_results"]["faces"]) == 3


def test_the_picture_is_stored_upright_and_without_its_metadata(client: TestClient, folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    exif[0x010E] = "taken at home"
    body = detect(client, picture_of_squares((320, 288), exif=exif)).json()
    assert body["detection_results"]["image_shape"] == [640, 480, 3]
    stored = folder / "uploads" / f"{body['file_id']}.jpg"
    assert b"taken at home" not in stored.read_bytes()
    with Image.open(stored) as image:
        assert image.size == (480, 640)
        assert not image.getexif()
    assert client.get(f"/download/{body['file_id']}").content == stored.read_bytes()


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"this is text", 415, "UNSUPPORTED_IMAGE"),
        (b"", 415, "UNSUPPORTED_IMAGE"),
        (picture_of_squares((320, 288))[:-4000], 422, "IMAGE_UNREADABLE"),
    ],
)
def test_what_is_no_picture_is_refused_and_nothing_is_stored(
    client: TestClient, folder: Path, content: bytes, status: int, code: str
) -> None:
    before = sorted((folder / "uploads").iterdir())
    answer = detect(client, content, name="photo.png")
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert sorted((folder / "uploads").iterdir()) == before


def test_a_request_without_a_file_says_what_is_missing(client: TestClient) -> None:
    answer = client.post("/detect-face")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "file"]


def test_the_stages_are_timed(client: TestClient) -> None:
    timing = detect(client, picture_of_squares((320, 288))).headers["server-timing"]
    assert all(f"{stage};dur=" in timing for stage in ("decode", "faces", "store"))


def test_the_embedded_engine_gives_reasons_instead_of_numbers(embedded_client: TestClient) -> None:
    data = pytest.importorskip("skimage.data")
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()).save(buffer, "JPEG")
    (face,) = detect(embedded_client, buffer.getvalue()).json()["detection_results"]["faces"]
    assert (face["embedding"], face["gender"], face["age"]) == (None, None, None)
    assert all("models pull buffalo_l" in face["unavailable"][name] for name in ("embedding", "gender", "age"))


@pytest.mark.skipif(not (SHARED / "faces").is_dir(), reason=f"no faces in {SHARED}")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_face_is_found_upright_under_every_exif_orientation(embedded_client: TestClient, orientation: int) -> None:
    """The camera's pixels lie as the orientation says; the answer is about the picture as it is seen."""
    with Image.open(SHARED / "faces" / "img11.jpg") as upright:
        seen = upright.convert("RGB")
    undo: dict[int, list[Image.Transpose]] = {
        1: [],
        2: [Image.Transpose.FLIP_LEFT_RIGHT],
        3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM],
        5: [Image.Transpose.TRANSPOSE],
        6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE],
        8: [Image.Transpose.ROTATE_270],
    }
    camera = seen
    for operation in undo[orientation]:
        camera = camera.transpose(operation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    camera.save(buffer, "JPEG", quality=95, exif=exif)
    results = detect(embedded_client, buffer.getvalue()).json()["detection_results"]
    assert results["image_shape"] == [800, 600, 3]
    (face,) = results["faces"]
    assert face["bbox"] == pytest.approx([165, 120, 430, 440], abs=60)
    left_eye, right_eye, nose = face["kps"][:3]
    assert left_eye[0] < nose[0] < right_eye[0]
    assert max(left_eye[1], right_eye[1]) < nose[1]
