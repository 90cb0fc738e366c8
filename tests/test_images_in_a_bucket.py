"""Image generation where files are in a bucket: avatars and LoRAs come from it, pictures go to it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from main import create_app
from tests.conftest import encoded, settings_in
from tests.s3_server import KEY, SECRET, S3Server
from tests.servers import wait_for
from tests.test_generation import picture


@pytest.fixture
def client(tmp_path: Path, s3_server: S3Server, sdxl: Path, ip_adapter: Path, loras: Path) -> Iterator[TestClient]:
    """A service with nothing in its own folders, and a model that is loaded when it starts."""
    bucket = s3_server.new_bucket()
    store = s3_server.storage(bucket=bucket).store
    for key, data in (
        ("avatars/ann", encoded(Image.fromarray(picture(1)))),
        ("loras/ink.safetensors", (loras / "ink.safetensors").read_bytes()),
    ):
        with store.draft(key, media_type="application/octet-stream") as draft:
            draft.file.write(data)
            draft.publish()
    settings = settings_in(
        tmp_path,
        aws_s3_bucket=bucket,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
        s3_endpoint_url=s3_server.url,
        s3_lora_prefix="loras/",
        lora_dir=tmp_path / "loras",
        model_path=str(sdxl),
        enable_ip_adapter=True,
        ip_adapter_path=str(ip_adapter),
        ip_adapter_weights="sdxl_models/ip-adapter.safetensors",
        image_sizes="64x64",
        generation_steps=2,
        generation_preload=True,
    )
    with TestClient(create_app(settings)) as client:
        yield client


def test_a_memory_is_made_from_the_bucket_and_lies_in_it(
    client: TestClient, s3_server: S3Server, tmp_path: Path
) -> None:
    wait_for(lambda: client.get("/health").json()["models"]["image_generation"]["provider"] == "cpu float32")
    body = {"user_id": "ann", "prompt": "a fox", "lora_id": "ink", "seed": 1}
    answer = client.post("/v1/images/memory", json=body)
    assert answer.status_code == 200, answer.text
    [entry] = answer.json()["data"]
    assert entry["s3_uri"].split("/", 3)[3].startswith("generated/ann/memory_")
    anybody = httpx.get(entry["url"], trust_env=False)
    assert anybody.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(anybody.content)).size == (64, 64)
    assert (tmp_path / "loras" / ".bucket" / "ink.safetensors").is_file()
    name = entry["s3_uri"].rpartition("/")[2]
    assert client.get(f"/images/ann/{name}").content == anybody.content
    job = client.post("/v1/images/memory/submit", json=body).json()["job_id"]
    wait_for(lambda: client.get(f"/api/v1/jobs/{job}").json()["status"] == "completed", seconds=60)
    [entry] = client.get(f"/api/v1/jobs/{job}/result").json()["data"]
    assert entry["url"] == f"/images/ann/{entry['s3_uri'].rpartition('/')[2]}"  # and no link that expires
    assert client.get(entry["url"]).content == anybody.content
    s3_server.stop()
    away = client.post("/v1/images/memory", json=body)
    assert (away.status_code, away.json()["code"]) == (503, "STORAGE_UNAVAILABLE")
    assert int(away.headers["Retry-After"]) > 0
