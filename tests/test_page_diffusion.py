"""engine=diffusion over HTTP with tiny real models: pages, books, what it needs, and who gives up."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from main import create_app
from service.hub_models import HubModels
from service.illustrations import PageChoice
from service.inference_pool import ClientGoneError
from service.model_store import ModelStore
from service.models_command import run as models_command
from service.page_diffusion import PageDiffusion
from tests.conftest import settings_in
from tests.diffusion_folders import make_face_adapter, make_plus_face
from tests.face_packs import write_pack
from tests.servers import wait_for

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SMALL: dict[str, Any] = {
    "diffusion_size": 128, "diffusion_steps": 3, "diffusion_candidates": 2, "face_engine": "mediapipe",
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(diffusion_models: Path, sdxl: Path) -> Path:
    return make_face_adapter(diffusion_models / "page-instantid", sdxl)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    write_pack(folder / "models" / "antelopev2", dimension=512)
    return folder


@pytest.fixture(scope="module")
def client(folder: Path, sdxl: Path, weights: Path) -> Iterator[TestClient]:
    settings = settings_in(folder, model_path=str(sdxl), diffusion_path=str(weights), **SMALL)
    with TestClient(create_app(settings)) as client:
        yield client


def personalize(client: TestClient, photo: bytes, page: bytes, **fields: Any) -> Any:
    files = {"child_photo": ("photo.jpg", photo), "illustration": ("page.png", page)}
    return client.post("/personalize", files=files, data={"engine": "diffusion", **fields})


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_a_page_is_drawn_by_diffusion(client: TestClient, photo: bytes, page: bytes) -> None:
    answer = personalize(client, photo, page, seed=7)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["engine"] == "diffusion"
    assert body["diffusion"] == {
        "identity": "instantid", "prompt": body["diffusion"]["prompt"], "candidates": 2, "steps": 2,
        "seed": body["diffusion"]["seed"], "similarity": body["diffusion"]["similarity"],
        "negative_prompt": body["diffusion"]["negative_prompt"],
    }  # fmt: skip
    assert body["diffusion"]["seed"] in (7, 8)
    assert -1 <= body["diffusion"]["similarity"] <= 1
    assert body["diffusion"]["prompt"].startswith("portrait of a young man, ")
    assert body["timings_ms"]["diffusion"] > 0
    drawn = pixels(client.get(body["download_url"]).content)
    classic = personalize(client, photo, page, engine="classic").json()
    assert (classic["engine"], classic["diffusion"]) == ("classic", None)
    plain = pixels(client.get(classic["download_url"]).content)
    assert np.abs(drawn - plain).max() > 10
    assert (drawn != plain).any(axis=2).mean() < 0.2
    again = personalize(client, photo, page, seed=7).json()
    assert (pixels(client.get(again["download_url"]).content) == drawn).all()


@pytest.mark.parametrize("fields", [{"seed": 1}, {"strength": 1.0}, {"likeness": 0.1}, {"mode": "head"}])
def test_the_fields_of_a_page_have_an_effect(
    client: TestClient, photo: bytes, page: bytes, fields: dict[str, Any]
) -> None:
    base, changed = (
        pixels(client.get(personalize(client, photo, page, **each).json()["download_url"]).content)
        for each in ({}, fields)
    )
    assert np.abs(base - changed).max() > 3


def test_auto_is_classic_without_a_gpu(client: TestClient, photo: bytes, page: bytes) -> None:
    assert personalize(client, photo, page, engine="auto").json()["engine"] == "classic"


def test_a_book_is_drawn_by_diffusion_page_by_page(client: TestClient, photo: bytes, page: bytes) -> None:
    template = client.post("/upload-illustration-template", files={"file": ("p.png", page)}).json()["template_id"]
    form = {"template_ids": [template, template], "engine": "diffusion", "seed": 7}
    job = client.post("/personalize/book", files={"child_photo": ("c", photo)}, data=form).json()
    wait_for(lambda: client.get(job["status_url"]).json()["status"] in ("completed", "failed"))
    done = client.get(job["status_url"]).json()
    assert done["status"] == "completed", done
    with zipfile.ZipFile(io.BytesIO(client.get(done["result_url"]).content)) as book:
        first, second = (pixels(book.read(name)) for name in book.namelist())
    assert (first == second).all()
    single = client.post(
        "/personalize", files={"child_photo": ("c", photo)},
        data={"template_id": template, "engine": "diffusion", "seed": 7},
    ).json()  # fmt: skip
    assert np.abs(pixels(client.get(single["download_url"]).content) - first).max() <= 1


def test_a_book_that_is_cancelled_stops_at_its_next_step(
    folder: Path, sdxl: Path, weights: Path, photo: bytes, page: bytes
) -> None:
    changes = SMALL | {"diffusion_steps": 100, "diffusion_size": 512}
    settings = settings_in(folder, model_path=str(sdxl), diffusion_path=str(weights), **changes)
    with TestClient(create_app(settings)) as slow:
        template = slow.post("/upload-illustration-template", files={"file": ("p.png", page)}).json()["template_id"]
        form = {"template_ids": [template] * 5, "engine": "diffusion", "strength": 1}
        job = slow.post("/personalize/book", files={"child_photo": ("c", photo)}, data=form).json()
        wait_for(lambda: slow.get(job["status_url"]).json()["progress"] > 0)
        assert slow.get(job["status_url"]).json()["progress"] < 0.2  # a step of the first page
        slow.delete(f"/api/v1/jobs/{job['job_id']}")
        wait_for(lambda: slow.get(job["status_url"]).json()["status"] == "cancelled")
        worker = slow.app.state.service.diffusion.worker  # type: ignore[attr-defined]
        wait_for(lambda: worker.waiting == 0)


def test_ip_adapter_needs_no_face_recogniser(
    tmp_path: Path, sdxl: Path, diffusion_models: Path, photo: bytes, page: bytes
) -> None:
    weights = make_plus_face(diffusion_models / "page-face", sdxl)
    settings = settings_in(
        tmp_path, model_path=str(sdxl), diffusion_identity="ip-adapter", diffusion_path=str(weights), **SMALL
    )
    with TestClient(create_app(settings)) as client:
        body = personalize(client, photo, page).json()
        assert (body["engine"], body["diffusion"]["identity"]) == ("diffusion", "ip-adapter")
        assert body["quality"]["identity_similarity"] is None
        health = client.get("/health").json()["models"]["page_diffusion"]
        assert health == {"state": "ready", "engine": "ip-adapter", "provider": "cpu float32", "reason": None}


# ---- what is missing is said, with the command


@pytest.mark.parametrize(
    ("changes", "pack", "said"),
    [
        ({"model_path": "no/where"}, True, "python main.py models pull diffusion"),
        ({"model_path": "./nowhere"}, True, "MODEL_PATH names no folder"),
        ({"model_file": "gone.safetensors"}, True, "MODEL_FILE"),
        ({"diffusion_path": None}, True, "InstantX/InstantID (DIFFUSION_PATH) isn't installed"),
        ({"diffusion_path": "./nowhere"}, True, "DIFFUSION_PATH names no folder"),
        ({"diffusion_identity": "ip-adapter"}, True, "DIFFUSION_PATH names no folder"),
        ({}, False, "python main.py models pull antelopev2"),
    ],
)
def test_what_is_missing_is_503_at_once_with_what_to_do(
    tmp_path: Path, sdxl: Path, weights: Path, photo: bytes, page: bytes, monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any], pack: bool, said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    if pack:
        write_pack(tmp_path / "models" / "antelopev2", dimension=512)
    paths = {"model_path": str(sdxl), "diffusion_path": str(weights)}
    with TestClient(create_app(settings_in(tmp_path, **(SMALL | paths | changes)))) as client:
        answer = personalize(client, photo, page)
        assert (answer.status_code, answer.json()["code"]) == (503, "MODEL_UNAVAILABLE")
        assert said in answer.json()["detail"]
        refused = client.post(
            "/personalize/book", files={"child_photo": ("c", photo)},
            data={"template_ids": ["00000000-0000-0000-0000-000000000000"], "engine": "diffusion"},
        )  # fmt: skip
        assert refused.status_code == 503
        assert personalize(client, photo, page, engine="auto").json()["engine"] == "classic"
        health = client.get("/health").json()["models"]["page_diffusion"]
        assert health["state"] == "missing"
        assert said in health["reason"]


def test_damaged_weights_are_503_and_health_says_so(tmp_path: Path, sdxl: Path, photo: bytes, page: bytes) -> None:
    write_pack(tmp_path / "models" / "antelopev2", dimension=512)
    broken = make_face_adapter(tmp_path / "broken", sdxl)
    (broken / "ip-adapter.bin").write_bytes(b"no tensors")
    settings = settings_in(tmp_path, model_path=str(sdxl), diffusion_path=str(broken), **SMALL)
    with TestClient(create_app(settings)) as client:
        answer = personalize(client, photo, page)
        assert (answer.status_code, answer.json()["code"]) == (503, "MODEL_UNAVAILABLE")
        assert "damaged" in answer.json()["detail"]
        assert client.get("/health").json()["models"]["page_diffusion"]["state"] == "failing"


def test_models_tells_identity_weights_and_their_licence(client: TestClient, tmp_path: Path) -> None:
    [installed] = [model for model in client.get("/models").json()["models"] if model["kind"] == "identity adapter"]
    assert (installed["name"], installed["installed"], installed["how_to_get"]) == ("page-instantid", True, None)
    assert installed["bytes"] > 1000
    with TestClient(create_app(settings_in(tmp_path))) as other:
        [missing] = [model for model in other.get("/models").json()["models"] if model["kind"] == "identity adapter"]
    assert (missing["name"], missing["commercial_use"]) == ("InstantX/InstantID", "no")
    assert missing["how_to_get"] == "python main.py models pull diffusion"
    assert missing["sha256"] is None


def test_the_command_fetches_what_is_named_by_id_only(
    tmp_path: Path, sdxl: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fetched: list[tuple[str, list[str]]] = []
    monkeypatch.setattr("service.hub_models._fetch_files", lambda model, files: fetched.append((model, files)))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    settings = settings_in(tmp_path, model_path=str(sdxl))
    store = ModelStore(settings.models_dir, hub=HubModels(settings))
    assert models_command(["pull", "diffusion"], store, default_model="buffalo_l") == 1
    assert "InstantX/InstantID" in capsys.readouterr().out
    assert fetched == [
        (
            "InstantX/InstantID",
            ["ip-adapter.bin", "ControlNetModel/config.json", "ControlNetModel/diffusion_pytorch_model.safetensors"],
        )
    ]
    settings = settings_in(tmp_path, model_path=str(sdxl), diffusion_path=str(weights))
    store = ModelStore(settings.models_dir, hub=HubModels(settings))
    assert models_command(["pull", "diffusion"], store, default_model="buffalo_l") == 0
    assert len(fetched) == 1


# ---- who decides, and who gives up


@pytest.fixture
def diffusion(client: TestClient) -> PageDiffusion:
    service: PageDiffusion = client.app.state.service.diffusion  # type: ignore[attr-defined]
    return service


def test_auto_takes_diffusion_where_there_are_a_gpu_and_weights(
    diffusion: PageDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    auto = PageChoice(engine="auto")
    assert diffusion.settled(auto).engine == "classic"
    monkeypatch.setattr("service.page_diffusion.torch_device", lambda device: "cuda")  # noqa: ARG005
    monkeypatch.setattr(diffusion, "_settings", diffusion._settings.model_copy(update={"device": "auto"}))
    diffusion.start()
    wait_for(lambda: diffusion.settled(auto).engine == "diffusion")
    assert diffusion.settled(replace(auto, engine="classic")).engine == "classic"
    monkeypatch.setattr(diffusion, "_has_gpu", False)


def test_auto_looks_for_no_gpu_where_the_device_is_the_cpu(
    diffusion: PageDiffusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("service.page_diffusion.torch_device", asked.append)
    diffusion.start()
    assert asked == []


def test_work_is_given_up_when_the_client_goes(diffusion: PageDiffusion) -> None:
    begun = threading.Event()

    def work(progress: Any) -> None:
        begun.set()
        while True:
            progress(0.5)

    async def leave() -> None:
        await asyncio.to_thread(begun.wait, 20)

    async def drawn() -> None:
        settings = diffusion._settings
        parts = {"models": diffusion._models, "hub": diffusion._hub, "landmarks": diffusion._landmarks}
        own = PageDiffusion(settings, detector=diffusion._detector, **parts)  # type: ignore[arg-type]
        try:
            with pytest.raises(ClientGoneError):
                await own.run(work, leave)
            assert await own.run(lambda _: 7, leave) == 7
        finally:
            own.close()

    asyncio.run(drawn())
