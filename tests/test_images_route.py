"""/v1/images over HTTP with a tiny real SDXL: pictures, edits, users, streams, jobs, and what is refused."""

from __future__ import annotations

import base64
import io
import json
from asyncio import _get_running_loop
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from main import create_app
from service.auth import SERVICE_OWNER
from service.image_generation import ImageGeneration
from tests.conftest import encoded, settings_in
from tests.servers import wait_for
from tests.test_generation import picture
from tests.test_hostile_inputs import HOSTILE, Hostile

GENERATIONS, EDITS, MEMORY, SUBJECT = (f"/v1/images/{name}" for name in ("generations", "edits", "memory", "subject"))
FOX: dict[str, Any] = {"prompt": "a fox reading", "seed": 5, "num_inference_steps": 2, "size": "64x64"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def client(folder: Path, sdxl: Path, ip_adapter: Path, loras: Path) -> Iterator[TestClient]:
    """A service with an IP-Adapter and LoRAs."""
    settings = settings_in(
        folder,
        model_path=str(sdxl),
        enable_ip_adapter=True,
        ip_adapter_path=str(ip_adapter),
        ip_adapter_weights="sdxl_models/ip-adapter.safetensors",
        lora_dir=loras,
        preview_lora="paint",
        preview_steps=2,
        image_sizes="64x64,96x64,64x96",
        generation_steps=3,
        generation_queue=4,
    )
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.fixture(scope="module")
def users(client: TestClient) -> None:
    """ann has an avatar and a photo; text has a text for an avatar."""
    storage = client.app.state.service.storage  # type: ignore[attr-defined]
    storage.save_user_picture("avatar", "ann", encoded(Image.fromarray(picture(1))), media_type="image/png")
    storage.save_user_picture("subject", "ann", encoded(Image.fromarray(picture(2))), media_type="image/png")
    storage.save_user_picture("avatar", "text", b"no picture", media_type="image/png")


def shown(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def made(client: TestClient, body: dict[str, Any], url: str = GENERATIONS) -> np.ndarray[Any, Any]:
    """The first picture of an answer."""
    answer = client.post(url, json={**body, "response_format": "b64_json"})
    assert answer.status_code == 200, answer.text
    return shown(base64.b64decode(answer.json()["data"][0]["b64_json"]))


def test_a_picture_is_stored_and_served_with_its_seed(client: TestClient) -> None:
    answer = client.post(GENERATIONS, json=FOX)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    [entry] = body["data"]
    assert (entry["seed"], body["size"], body["blocked"]) == (5, "64x64", 0)
    assert entry["url"].startswith("http://testserver/images/image_")
    assert set(entry) == {"url", "seed", "revised_prompt"}
    assert "generate;dur" in answer.headers["Server-Timing"]
    served = client.get(entry["url"])
    assert served.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(served.content)).size == (64, 64)
    assert (shown(served.content) == made(client, FOX)).all()
    assert client.delete(entry["url"]).status_code == 200
    assert client.get(entry["url"]).status_code == 404


def test_n_pictures_have_seeds_of_their_own_and_a_random_one_is_told(client: TestClient) -> None:
    answer = client.post(GENERATIONS, json={**FOX, "seed": None, "n": 3, "response_format": "b64_json"}).json()
    seeds = [entry["seed"] for entry in answer["data"]]
    assert seeds == [(seeds[0] + index) % 2**32 for index in range(3)]
    last = shown(base64.b64decode(answer["data"][2]["b64_json"]))
    assert np.abs(last - made(client, {**FOX, "seed": seeds[2]})).max() <= 1


def test_what_the_model_does_not_read_of_a_long_prompt_is_said(client: TestClient) -> None:
    read = "a" * 73 + "bc"  # this model's tokens are letters: 77, with those of begin and end
    assert client.post(GENERATIONS, json={**FOX, "prompt": read}).json()["warnings"] == []
    long = {**FOX, "prompt": f"{read} defgh"}
    [warning] = client.post(GENERATIONS, json=long).json()["warnings"]
    assert warning.startswith("prompt: ")
    assert warning.endswith("does not read: defgh")
    assert (made(client, long) == made(client, {**FOX, "prompt": read})).all()
    negative = {**long, "negative_prompt": f"{read} ijk", "stream": True}
    completed = client.post(GENERATIONS, json=negative).text.split("event: ")[-1].partition("data: ")[2]
    assert [each[-7:] for each in json.loads(completed)["warnings"]] == [": defgh", "ad: ijk"]


def test_a_png_says_how_it_was_made(client: TestClient, folder: Path) -> None:
    body = {**FOX, "negative_prompt": "Nebel über dem Fluß", "style_prompt": "ink", "response_format": "b64_json"}
    data = base64.b64decode(client.post(GENERATIONS, json=body).json()["data"][0]["b64_json"])
    image = Image.open(io.BytesIO(data))
    assert isinstance(image.info["prompt"], str)
    assert image.info["prompt"] == "a fox reading, ink"
    assert image.info["negative_prompt"] == "Nebel über dem Fluß"
    assert (image.info["seed"], image.info["model"]) == ("5", "sdxl")
    assert json.loads(image.info["settings"])["steps"] == 2
    assert set(json.loads(image.info["versions"])) == {"torch", "diffusers", "transformers"}
    assert str(folder).encode() not in data


EFFECTS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "a bear"},
    "negative_prompt": {"negative_prompt": "blue"},
    "style_prompt": {"style_prompt": "oil on canvas"},
    "steps": {"num_inference_steps": 4},
    "guidance_scale": {"guidance_scale": 1.0},
    "scheduler": {"scheduler": "ddim"},
    "lora_id": {"lora_id": "ink"},
    "lora_scale": {"lora_id": "ink", "lora_scale": 0.3},
    "quality": {"quality": "low"},
    "reference": {"reference_image_url": "data:image/png;base64," + base64.b64encode(
        encoded(Image.fromarray(picture(3)))).decode()},
}  # fmt: skip


@pytest.mark.parametrize("change", EFFECTS.values(), ids=EFFECTS.keys())
def test_every_field_has_an_effect(client: TestClient, change: dict[str, Any]) -> None:
    base = {key: value for key, value in change.items() if key == "lora_id" and "lora_scale" in change}
    assert np.abs(made(client, {**FOX, **base}) - made(client, {**FOX, **change})).max() > 3


@pytest.mark.parametrize(("name", "kind"), [("jpeg", "JPEG"), ("webp", "WEBP")])
def test_other_formats_can_be_asked_for(client: TestClient, name: str, kind: str) -> None:
    answer = client.post(GENERATIONS, json={**FOX, "output_format": name}).json()
    assert Image.open(io.BytesIO(client.get(answer["data"][0]["url"]).content)).format == kind


def png(values: Any) -> bytes:
    return encoded(Image.fromarray(values))


def test_an_edit_keeps_what_the_mask_covers(client: TestClient) -> None:
    alpha = np.full((64, 64, 1), 255, np.uint8)
    alpha[16:48, 16:48] = 0
    files = {"image": png(picture(1)), "mask": png(np.dstack([picture(1), alpha]))}
    form = {**{key: str(value) for key, value in FOX.items()}, "strength": "1", "response_format": "b64_json"}
    answer = client.post(EDITS, data=form, files=files)
    assert answer.status_code == 200, answer.text
    image = shown(base64.b64decode(answer.json()["data"][0]["b64_json"]))
    kept = alpha[..., 0] > 0
    assert (image[kept] == picture(1)[kept]).all()
    assert np.abs(image[24:40, 24:40] - picture(1)[24:40, 24:40]).max() > 3
    own = client.post(EDITS, data=form, files={"image": files["mask"]}).json()
    assert (shown(base64.b64decode(own["data"][0]["b64_json"])) == image).all()


def test_an_edit_takes_the_size_whose_proportions_are_nearest(client: TestClient) -> None:
    form = {"prompt": "a fox", "num_inference_steps": "2"}
    tall = client.post(EDITS, data=form, files={"image[]": png(picture(1)[:, :40])})
    assert tall.status_code == 200, tall.text
    assert tall.json()["size"] == "64x96"


def test_memory_and_subject_look_at_the_users_pictures(client: TestClient, users: None) -> None:  # noqa: ARG001
    body = {"user_id": "ann", "num_inference_steps": 2, "seed": 5, "size": "64x64"}
    memory = client.post(MEMORY, json={**body, "prompt": FOX["prompt"]})
    assert memory.status_code == 200, memory.text
    [entry] = memory.json()["data"]
    assert entry["url"].startswith("http://testserver/images/ann/memory_")
    looked = shown(client.get(entry["url"]).content)
    assert np.abs(looked - made(client, FOX)).max() > 3
    assert (looked == made(client, {**FOX, "reference_image_url": data_url(picture(1))})).all()
    subject = client.post(SUBJECT, json=body).json()["data"][0]
    assert "/images/ann/subject_" in subject["url"]
    assert "portrait" in subject["revised_prompt"]
    other = made(client, {**body, "ip_adapter_scale": 0.0}, SUBJECT)
    assert np.abs(shown(client.get(subject["url"]).content) - other).max() > 3


def data_url(values: Any) -> str:
    return "data:image/png;base64," + base64.b64encode(png(values)).decode()


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks if "data" in block]


def test_a_stream_tells_each_step_and_shows_pictures_on_the_way(client: TestClient) -> None:
    body = {**FOX, "num_inference_steps": 4, "n": 2, "stream": True, "partial_images": 1}
    answer = client.post(GENERATIONS, json=body)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    told = events(answer.text)
    names = [name.removeprefix("image_generation.") for name, _ in told]
    assert names == ["in_progress"] * 2 + ["partial_image"] * 2 + ["in_progress"] * 2 + ["completed"] * 2
    assert [data["step"] for name, data in told if name.endswith("in_progress")] == [1, 2, 3, 4]
    done = [data for name, data in told if name.endswith("completed")]
    assert [data["seed"] for data in done] == [5, 6]
    assert (shown(base64.b64decode(done[0]["b64_json"])) == made(client, {**FOX, "num_inference_steps": 4})).all()


def finished(client: TestClient, answer: Any) -> dict[str, Any]:
    assert answer.status_code == 202, answer.text
    url = answer.json()["status_url"]
    wait_for(lambda: client.get(url).json()["status"] in {"completed", "failed", "cancelled"}, seconds=60)
    status: dict[str, Any] = client.get(url).json()
    return status


def test_a_job_makes_the_same_pictures(client: TestClient, users: None) -> None:  # noqa: ARG001
    status = finished(client, client.post(f"{GENERATIONS}/submit", json={**FOX, "n": 2}))
    assert status["status"] == "completed", status
    assert [entry["seed"] for entry in status["result"]["data"]] == [5, 6]
    answer = client.get(status["result_url"]).json()
    assert answer["data"] == status["result"]["data"]
    assert (shown(client.get(answer["data"][0]["url"]).content) == made(client, FOX)).all()
    memory = {"user_id": "ann", "prompt": "a fox", "num_inference_steps": 1}
    assert finished(client, client.post(f"{MEMORY}/submit", json=memory))["status"] == "completed"
    form = {"prompt": "a fox", "num_inference_steps": "2"}
    edit = client.post(f"{EDITS}/submit", data=form, files={"image": png(picture(1))})
    assert finished(client, edit)["status"] == "completed"


def test_a_job_asked_for_twice_is_one_whose_row_keeps_no_photo(client: TestClient) -> None:
    photo = f"data:image/png;base64,{base64.b64encode(png(picture(1))).decode()}"
    body = {"prompt": "a fox", "num_inference_steps": 2, "reference_image_url": photo, "user": "kim"}
    headers = {"Idempotency-Key": "fox-without-a-seed"}
    first, again = (client.post(f"{GENERATIONS}/submit", json=body, headers=headers) for _ in range(2))
    assert (again.status_code, again.json()["job_id"]) == (202, first.json()["job_id"])
    [entry] = finished(client, first)["result"]["data"]
    assert (shown(client.get(entry["url"]).content) == made(client, {**body, "seed": entry["seed"]})).all()
    jobs = client.app.state.service.jobs  # type: ignore[attr-defined]
    inputs = json.dumps(jobs.store.get(UUID(first.json()["job_id"]), SERVICE_OWNER).inputs)
    assert photo[30:90] not in inputs
    assert "kim" not in inputs


def test_a_user_is_not_called_as_a_picture_is(client: TestClient) -> None:
    name = client.post(GENERATIONS, json=FOX).json()["data"][0]["url"].rpartition("/")[2]
    answer = client.put(f"/v1/users/{name}/avatar", files={"file": png(picture(1))})
    assert (answer.status_code, answer.json()["code"]) == (422, "INVALID_VALUE")


def test_a_job_that_is_cancelled_stops(client: TestClient) -> None:
    answer = client.post(f"{GENERATIONS}/submit", json={**FOX, "num_inference_steps": 100, "n": 10})
    job_id = answer.json()["job_id"]
    client.delete(f"/api/v1/jobs/{job_id}")
    wait_for(lambda: client.get(f"/api/v1/jobs/{job_id}").json()["status"] == "cancelled", seconds=60)
    assert client.app.state.service.images.generator.waiting == 0  # type: ignore[attr-defined]


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "empty prompt": ({"prompt": ""}, 422, "VALIDATION_ERROR"),
    "blank prompt": ({"prompt": " \n"}, 422, "VALIDATION_ERROR"),
    "long prompt": ({"prompt": "x" * 10_000}, 422, "VALIDATION_ERROR"),
    "not a multiple of 8": ({"size": "65x65"}, 422, "INVALID_VALUE"),
    "too large": ({"size": "4096x4096"}, 422, "INVALID_VALUE"),
    "no size": ({"size": "big"}, 422, "VALIDATION_ERROR"),
    "n 0": ({"n": 0}, 422, "VALIDATION_ERROR"),
    "n 100": ({"n": 100}, 422, "VALIDATION_ERROR"),
    "steps 0": ({"num_inference_steps": 0}, 422, "VALIDATION_ERROR"),
    "steps 10000": ({"num_inference_steps": 10_000}, 422, "VALIDATION_ERROR"),
    "steps of lcm": ({"scheduler": "lcm", "num_inference_steps": 51}, 422, "INVALID_VALUE"),
    "seed": ({"seed": -1}, 422, "VALIDATION_ERROR"),
    "huge seed": ({"seed": 10**30}, 422, "VALIDATION_ERROR"),
    "unknown field": ({"promt": "x"}, 422, "VALIDATION_ERROR"),
    "lora path": ({"lora_id": "../ink"}, 422, "VALIDATION_ERROR"),
    "lora dots": ({"lora_id": ".."}, 422, "VALIDATION_ERROR"),
    "lora null byte": ({"lora_id": "ink\0"}, 422, "VALIDATION_ERROR"),
    "unknown lora": ({"lora_id": "nobody"}, 404, "NOT_FOUND"),
    "private url": ({"reference_image_url": "http://127.0.0.1:8000/x.png"}, 422, "URL_NOT_ALLOWED"),
    "metadata url": ({"reference_image_url": "http://169.254.169.254/latest"}, 422, "URL_NOT_ALLOWED"),
    "file url": ({"reference_image_url": "file:///etc/passwd"}, 422, "URL_NOT_ALLOWED"),
    "no picture": ({"reference_image_url": "data:image/png;base64,AAAA"}, 415, "UNSUPPORTED_IMAGE"),
    "no base64": ({"reference_image_url": "data:image/png;base64,!!"}, 422, "INVALID_BASE64"),
    "lone surrogate": ({"prompt": "\ud800"}, 422, "VALIDATION_ERROR"),
}


@pytest.mark.parametrize(("change", "status", "code"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_made_is_refused(client: TestClient, change: dict[str, Any], status: int, code: str) -> None:
    content = json.dumps({**FOX, **change})
    answer = client.post(GENERATIONS, content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    assert error["message"] == answer.json()["detail"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-1", "1e9"])
def test_guidance_is_a_number_that_means_something(client: TestClient, number: str) -> None:
    content = f'{{"prompt": "x", "guidance_scale": {number}}}'
    answer = client.post(GENERATIONS, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "guidance_scale"


USERS: dict[str, tuple[str, int, str]] = {
    "unknown": ("nobody", 404, "NOT_FOUND"),
    "path": ("../ann", 422, "VALIDATION_ERROR"),
    "hidden": (".ann", 422, "VALIDATION_ERROR"),
    "no picture": ("text", 415, "UNSUPPORTED_IMAGE"),
}


@pytest.mark.parametrize(("user_id", "status", "code"), USERS.values(), ids=USERS.keys())
@pytest.mark.parametrize("suffix", ["", "/submit"])
def test_a_user_without_a_picture_is_refused(
    client: TestClient, users: None, user_id: str, status: int, code: str, suffix: str  # noqa: ARG001
) -> None:  # fmt: skip
    answer = client.post(f"{MEMORY}{suffix}", json={"user_id": user_id, "prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_edits_that_cannot_be_made_are_refused(client: TestClient) -> None:
    def refused(files: dict[str, bytes], **fields: str) -> tuple[int, str]:
        answer = client.post(EDITS, data={"prompt": "x", **fields}, files=files or None)
        return answer.status_code, answer.json()["code"]

    photo = png(picture(1))
    assert refused({}) == (400, "BAD_REQUEST")
    assert refused({"image": photo, "image[]": photo}) == (400, "BAD_REQUEST")
    assert refused({"image": b"text"}) == (415, "UNSUPPORTED_IMAGE")
    assert refused({"image": photo, "mask": photo}) == (422, "INVALID_VALUE")
    small = png(np.zeros((8, 8, 4), np.uint8))
    assert refused({"image": photo, "mask": small}) == (422, "INVALID_VALUE")
    opaque = png(np.dstack([picture(1), np.full((64, 64), 255, np.uint8)]))
    assert refused({"image": photo, "mask": opaque}) == (422, "INVALID_VALUE")
    assert refused({"image": photo}, strength="0") == (422, "VALIDATION_ERROR")
    assert refused({"image": photo}, n="a") == (422, "VALIDATION_ERROR")
    assert refused({"image": photo}, strength="0.01", num_inference_steps="2") == (422, "INVALID_VALUE")


@pytest.mark.parametrize("part", ["image", "mask"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_pictures_get_their_code(client: TestClient, hostile: Hostile, part: str) -> None:
    files = {"image": png(picture(1)), part: hostile.build()}
    answer = client.post(EDITS, data={"prompt": "x", "num_inference_steps": "2"}, files=files)
    codes = hostile.codes | ({(422, "INVALID_VALUE")} if part == "mask" else set())
    assert (answer.status_code, answer.json().get("code", "")) in codes, answer.text


@pytest.mark.parametrize("name", ["x.png", "..%2Fx", "image_0.png", "ann/..%2f..%2fx"])
def test_a_name_leads_nowhere_else(client: TestClient, name: str) -> None:
    assert client.get(f"/images/{name}").status_code in (404, 422)


def test_one_more_than_may_wait_is_503_with_a_time(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.service.images.generator, "max_queue", 0)  # type: ignore[attr-defined]
    answer = client.post(GENERATIONS, json=FOX)
    assert (answer.status_code, answer.json()["code"]) == (503, "BUSY")
    assert int(answer.headers["Retry-After"]) > 0


def test_whether_the_model_is_there_is_not_asked_on_the_event_loop(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The content filter is loaded there by the first request."""
    on_a_loop: list[bool] = []
    monkeypatch.setattr(ImageGeneration, "require", lambda _: on_a_loop.append(_get_running_loop() is not None))
    for url in (GENERATIONS, f"{GENERATIONS}/submit"):
        client.post(url, json={})
    assert on_a_loop == [False, False]


def test_health_and_models_tell_of_the_model(client: TestClient) -> None:
    made(client, FOX)
    health = client.get("/health").json()["models"]["image_generation"]
    assert health == {
        "state": "ready", "engine": "StableDiffusionXLPipeline sdxl", "provider": "cpu float32", "reason": None,
    }  # fmt: skip
    models = {model["name"]: model for model in client.get("/models").json()["models"]}
    assert models["sdxl"]["installed"]
    assert models["content_filter"]["how_to_get"] == "python main.py models pull content_filter"


@pytest.fixture(scope="module")
def strict(folder: Path, sdxl: Path, loras: Path) -> Iterator[TestClient]:
    """A service where what can be switched off is, behind another address."""
    settings = settings_in(
        folder / "strict",
        model_path=str(sdxl),
        lora_dir=loras,
        enable_lora=False,
        image_metadata=False,
        service_url="https://pictures.example/api",
        image_sizes="64x64",
    )
    with TestClient(create_app(settings)) as client:
        yield client


def test_what_is_switched_off_stays_off(strict: TestClient, users: None) -> None:  # noqa: ARG001
    answer = strict.post(GENERATIONS, json=FOX)
    assert answer.status_code == 200, answer.text
    url = answer.json()["data"][0]["url"]
    assert url.startswith("https://pictures.example/api/images/image_")
    data = strict.get(f"/images/{url.rpartition('/')[2]}").content
    assert not {"prompt", "seed", "model"} & Image.open(io.BytesIO(data)).info.keys()
    refused = strict.post(GENERATIONS, json={**FOX, "lora_id": "ink"})
    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_VALUE")
    for change in ({"quality": "low"}, {"reference_image_url": data_url(picture(1))}):
        missing = strict.post(GENERATIONS, json={**FOX, **change})
        assert (missing.status_code, missing.json()["code"]) == (503, "MODEL_UNAVAILABLE")


def test_an_account_reaches_its_own_pictures_only(client: TestClient, users: None) -> None:  # noqa: ARG001
    credentials = {"username": "painter", "password": "a long enough password"}
    client.post("/api/v1/auth/register", json=credentials)
    token = client.post("/api/v1/auth/login", json=credentials).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    for suffix in ("", "/submit"):
        answer = client.post(f"{MEMORY}{suffix}", json={"user_id": "ann", "prompt": "x"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN"), answer.text
    name = f"memory_{'0' * 32}.png"
    assert client.get(f"/images/ann/{name}", headers=headers).status_code == 403


def test_without_weights_it_is_503_at_once_with_the_command(app_client: TestClient) -> None:
    for url in (GENERATIONS, MEMORY, SUBJECT, f"{GENERATIONS}/submit"):
        answer = app_client.post(url, json={"prompt": "x", "user_id": "ann"})
        assert (answer.status_code, answer.json()["code"]) == (503, "MODEL_UNAVAILABLE"), answer.text
        assert "python main.py models pull generation" in answer.json()["detail"]
    health = app_client.get("/health").json()["models"]["image_generation"]
    assert health["state"] == "missing"


def test_the_content_filter_is_required_where_it_is_on(folder: Path, sdxl: Path) -> None:
    settings = settings_in(folder / "filtered", model_path=str(sdxl), content_filter=True)
    with TestClient(create_app(settings)) as client:
        answer = client.post(GENERATIONS, json=FOX)
        assert answer.status_code == 503
        assert "models pull content_filter" in answer.json()["detail"]
