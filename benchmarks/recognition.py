"""Face recognition over HTTP, beside what onnxruntime alone needs for the same two models.

The models are the small pack of the shared data (SHARED_DATA_DIR): without it these rows are skipped, and say so.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime

from benchmarks import inputs
from benchmarks.table import Row, alternate
from config import available_cores
from utils import FloatArray

PACK = Path(os.environ.get("SHARED_DATA_DIR", inputs.PROJECT.parent / "shared" / "data")) / "models" / "tiny-pack"
SETTINGS = {"FACE_MODEL": str(PACK)} if PACK.is_dir() else {}
"""What the service is started with."""
DETECTOR, RECOGNISER = "scrfd_2.5g_bnkps.onnx", "mobilefacenet.onnx"
DETECTOR_SIDE = 640
"""Pixels: what InsightFace's packs are published and measured at. The service runs fewer."""
CROP_SIDE = 112
BATCH = 50
CLIENTS = 8
PICTURES = 48
"""Pictures of one run with `CLIENTS` clients."""


class Floor:
    """The two models on given input: no picture is decoded, scaled, aligned or answered for."""

    def __init__(self, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = ["CPUExecutionProvider"]
        self._sessions = [
            onnxruntime.InferenceSession(str(PACK / name), options, providers=providers)
            for name in (DETECTOR, RECOGNISER)
        ]
        random = np.random.default_rng(0)
        self._inputs: list[FloatArray] = [
            random.random((1, 3, side, side), np.float32) for side in (DETECTOR_SIDE, CROP_SIDE)
        ]

    def __call__(self, _: int = 0) -> None:
        for session, values in zip(self._sessions, self._inputs, strict=True):
            session.run(None, {session.get_inputs()[0].name: values})


def rows(client: httpx.Client, runs: int) -> list[Row]:
    """Extraction one by one, by several clients at once, and in a batch."""
    if not PACK.is_dir():
        return [Row("extract-embedding and batch-extract", "skipped", "", "there is no tiny-pack in SHARED_DATA_DIR")]
    photo = inputs.encode(inputs.landscape(), "jpeg")
    return [single_row(client, photo, runs), clients_row(client, photo, runs), batch_row(client, photo, runs)]


def single_row(client: httpx.Client, photo: bytes, runs: int) -> Row:
    """POST extract-embedding with a 1280x720 JPEG of one face; the models with all cores each."""
    ours, floor = alternate(lambda: extract(client, photo), Floor(available_cores()), runs=runs)
    return Row(
        "extract-embedding over HTTP, 1280x720, one face",
        f"{ours:.1f} ms",
        "<= 1.15x the floor",
        f"onnxruntime alone, detector at {DETECTOR_SIDE} px, {floor:.1f} ms",
        floor / ours,
    )


def clients_row(client: httpx.Client, photo: bytes, runs: int) -> Row:
    """The same by clients that each send the next picture as soon as the last is answered.

    The floor is the faster of two ways to use the cores: one picture at a time on all of them, or one on each.
    """
    cores = available_cores()
    with ThreadPoolExecutor(CLIENTS) as clients, ThreadPoolExecutor(cores) as threads:
        on_all, on_each = Floor(cores), Floor(1)
        ways: tuple[Callable[[], Any], ...] = (
            lambda: list(clients.map(lambda _: extract(client, photo), range(PICTURES))),
            lambda: list(map(on_all, range(PICTURES))),
            lambda: list(threads.map(on_each, range(PICTURES))),
        )
        ours, *floors = (PICTURES * 1000 / milliseconds for milliseconds in alternate(*ways, runs=max(3, runs // 3)))
    return Row(
        f"extract-embedding, {CLIENTS} clients",
        f"{ours:.1f}/s",
        ">= 0.9x the floor",
        f"onnxruntime alone, detector at {DETECTOR_SIDE} px, {max(floors):.1f}/s",
        ours / max(floors),
    )


def batch_row(client: httpx.Client, photo: bytes, runs: int) -> Row:
    """One batch in base64, and as many single requests one after the other."""
    body = {"images": [base64.b64encode(photo).decode()] * BATCH}

    def batch() -> None:
        answer = client.post("/api/v1/batch-extract", json=body).raise_for_status().json()
        assert answer["successful"] == BATCH, answer

    def one_by_one() -> None:
        for _ in range(BATCH):
            extract(client, photo)

    ours, singles = alternate(batch, one_by_one, runs=max(3, runs // 3))
    return Row(
        f"batch-extract of {BATCH}",
        f"{BATCH * 1000 / ours:.1f}/s",
        ">= 1.1x single requests",
        f"one by one {BATCH * 1000 / singles:.1f}/s",
        singles / ours,
    )


def requests(client: httpx.Client, photo: bytes) -> list[Callable[[], Any]]:
    """One of each kind for the memory test: pictures as files and as text, embeddings, and what is refused."""
    text = base64.b64encode(photo).decode()
    vector = np.ones(512).tolist()
    pair = {"embedding_a": vector, "embedding_b": vector}
    kinds: list[Callable[[], Any]] = [
        lambda: client.post("/api/v1/verify-face", files={"file": photo}).raise_for_status(),
        lambda: client.post("/api/v1/compare-faces", json=pair).raise_for_status(),
        lambda: client.post("/api/v1/verify-face", json={"image_base64": text[:-5]}),
    ]
    if PACK.is_dir():
        kinds += [
            lambda: client.post("/api/v1/extract-embedding", json={"image_base64": text}).raise_for_status(),
            lambda: client.post("/api/v1/batch-extract", json={"images": [text] * 4}).raise_for_status(),
            lambda: client.post("/api/v1/compare-images", files={"file_a": photo, "file_b": photo}).raise_for_status(),
        ]
    return kinds


def extract(client: httpx.Client, photo: bytes) -> dict[str, Any]:
    """One embedding; the answer's JSON."""
    files = {"file": ("photo.jpg", photo)}
    answer: dict[str, Any] = client.post("/api/v1/extract-embedding", files=files).raise_for_status().json()
    return answer
