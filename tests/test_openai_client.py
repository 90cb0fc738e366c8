"""OpenAI's own Python client against a served process: generate, edit, stream, and how it reads failures."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.conftest import encoded
from tests.servers import free_port, wait_for
from tests.test_generation import picture

PROJECT = Path(__file__).resolve().parents[1]
KEY = "Zq3vT8xLr2WcYb7NfKd9Hs4M"


class Served:
    """`python main.py` with a tiny model, and what it wrote."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / "log"
        environment = {
            **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "OMP_NUM_THREADS")},
            "API_HOST": "127.0.0.1", "API_PORT": str(self.port), "API_KEY": KEY, "HF_HUB_OFFLINE": "1",
            "UPLOAD_DIR": str(folder / "uploads"), "OUTPUT_DIR": str(folder / "outputs"),
            "MODELS_DIR": str(folder / "models"), "DATABASE_URL": f"sqlite:///{folder}/data/service.db",
            "IMAGE_SIZES": "64x64,96x64", "GENERATION_STEPS": "3", "LOG_FORMAT": "json", **settings,
        }  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROJECT / "main.py")], cwd=folder, env=environment, stdout=log, stderr=log
            )
        wait_for(self._is_ready, seconds=60)

    def client(self, key: str = KEY) -> openai.OpenAI:
        """OpenAI's client, with nothing but another base URL."""
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=key, max_retries=0)

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        body: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.port}/health").json()
        return body

    def modules(self) -> str:
        """The files that it has mapped into its memory."""
        return Path(f"/proc/{self.process.pid}/maps").read_text(encoding="utf-8")

    def stop(self) -> None:
        """As a service manager would."""
        self.process.terminate()
        self.process.wait(30)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(encoding="utf-8")
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/health/ready").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, sdxl: Path, loras: Path) -> Iterator[Served]:
    service = Served(tmp_path_factory.mktemp("served"), MODEL_PATH=str(sdxl), LORA_DIR=str(loras))
    if sys.platform == "linux":
        assert "libtorch" not in service.modules(), "PyTorch was loaded before anything was generated"
    yield service
    service.stop()


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[openai.OpenAI]:
    with served.client() as client:
        yield client


def opened(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_generate_gives_links(client: openai.OpenAI) -> None:
    answer = client.images.generate(prompt="a fox", n=2, size="auto")
    assert answer.data is not None
    assert len(answer.data) == 2
    assert answer.created > 1_700_000_000
    for image in answer.data:
        assert image.url is not None
        served = httpx.get(image.url, headers={"Authorization": f"Bearer {KEY}"})
        assert Image.open(io.BytesIO(served.content)).size == (64, 64)


def test_generate_gives_bytes_and_takes_fields_of_ours(client: openai.OpenAI) -> None:
    fields = {"seed": 3, "negative_prompt": "blue", "lora_id": "ink", "num_inference_steps": 2, "size": "96x64"}
    answer = client.images.generate(
        prompt="a fox", model="dall-e-3", quality="standard", response_format="b64_json", user="somebody",
        extra_body=fields,
    )  # fmt: skip
    assert answer.data is not None
    assert opened(answer.data[0].b64_json).size == (96, 64)
    assert answer.data[0].model_extra is not None
    assert answer.data[0].model_extra["seed"] == 3
    assert answer.data[0].revised_prompt == "a fox"


def test_edit_takes_a_picture_and_a_mask(client: openai.OpenAI) -> None:
    photo = picture(1)
    masked = Image.fromarray(photo).convert("RGBA")
    masked.paste((0, 0, 0, 0), (16, 16, 48, 48))
    answer = client.images.edit(
        image=("photo.png", encoded(Image.fromarray(photo))), mask=("mask.png", encoded(masked)), prompt="a moon",
        n=1, size="auto", response_format="b64_json", extra_body={"strength": 1.0, "seed": 1},
    )  # fmt: skip
    assert answer.data is not None
    result = opened(answer.data[0].b64_json)
    assert result.crop((0, 0, 64, 10)).tobytes() == Image.fromarray(photo).crop((0, 0, 64, 10)).tobytes()


def test_edit_takes_a_list_of_one_picture(client: openai.OpenAI) -> None:
    file = ("photo.png", encoded(Image.fromarray(picture(1))))
    answer = client.images.edit(image=[file], prompt="a moon")
    assert answer.data is not None
    assert answer.data[0].url is not None


def test_a_stream_has_openais_events(client: openai.OpenAI) -> None:
    stream = client.images.generate(prompt="a fox", stream=True, partial_images=2, extra_body={"seed": 9})
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds.count("image_generation.partial_image") == 2
    assert kinds[-1] == "image_generation.completed"
    assert opened(events[-1].b64_json).size == (64, 64)
    edits = client.images.edit(
        image=("photo.png", encoded(Image.fromarray(picture(1)))), prompt="a moon", stream=True, partial_images=1
    )
    edit_kinds = [event.type for event in edits]
    assert edit_kinds.count("image_edit.partial_image") == 1
    assert edit_kinds[-1] == "image_edit.completed"


def test_failures_are_read_with_code_and_message(client: openai.OpenAI, served: Served) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as refused:
        client.images.generate(prompt="x", n=100)
    assert (refused.value.code, refused.value.param) == ("VALIDATION_ERROR", "n")
    assert "less than or equal to 10" in refused.value.message
    with pytest.raises(openai.UnprocessableEntityError) as wrong_size:
        client.images.generate(prompt="x", size="512x512")
    assert wrong_size.value.code == "INVALID_VALUE"
    assert "64x64" in wrong_size.value.message
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="x", extra_body={"lora_id": "nobody"})
    with pytest.raises(openai.BadRequestError):
        client.images.edit(image=[], prompt="x")
    with served.client("wrong") as wrong, pytest.raises(openai.AuthenticationError) as stranger:
        wrong.images.generate(prompt="x")
    assert stranger.value.type == "authentication_error"
    assert stranger.value.request_id


LONG: dict[str, Any] = {"prompt": "a fox", "num_inference_steps": 100, "size": "96x64", "n": 10}
GIVEN_UP = "Nobody waits for the batch"


def test_a_stream_that_is_left_ends_its_work(client: openai.OpenAI, served: Served) -> None:
    with client.images.generate(prompt="a fox", stream=True, n=10, extra_body=LONG) as stream:
        next(iter(stream))
    wait_for(lambda: served.log.read_text(encoding="utf-8").count(GIVEN_UP) == 1)


def test_a_client_that_goes_ends_its_work(client: openai.OpenAI, served: Served) -> None:
    given_up = served.log.read_text(encoding="utf-8").count(GIVEN_UP)
    with pytest.raises(openai.APITimeoutError):
        client.with_options(timeout=0.5).images.generate(prompt="a fox", n=10, extra_body=LONG)
    wait_for(lambda: served.log.read_text(encoding="utf-8").count(GIVEN_UP) == given_up + 1)
    assert client.images.generate(prompt="the next").data
