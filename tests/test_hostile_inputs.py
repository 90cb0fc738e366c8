"""What attackers and broken clients send, to every route that takes a picture.

Each gets its status and code, leaves no file behind, and the service goes on.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from main import create_app
from service.tryon_report import seed_code
from tests.conftest import encoded, settings_in
from tests.face_packs import picture_of_squares, write_pack
from tests.servers import wait_for

PROJECT = Path(__file__).resolve().parents[1]
MIB = 2**20


# --- pictures -----------------------------------------------------------------------------------------------------


def grey_png(width: int, height: int, *, rows: int) -> bytes:
    """A black 8-bit PNG of which `rows` rows are really there."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(width + 1)) for _ in range(rows)) + packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def noise(side: int = 256) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8))


def cut(data: bytes) -> bytes:
    return data[: len(data) * 6 // 10]


def bomb_170_megapixels() -> bytes:
    data = grey_png(13_000, 13_100, rows=13_100)
    assert 100_000 < len(data) < 250_000
    return data


def animated_gif() -> bytes:
    frames = [Image.new("L", (64, 64), shade) for shade in range(0, 250, 5)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def sixteen_bit() -> bytes:
    return encoded(Image.fromarray(np.full((64, 64), 40_000, np.uint16)))


@dataclass(frozen=True)
class Hostile:
    """`codes` are the (status, code) that are right. Harmless content gets as far as its missing face."""

    name: str
    build: Callable[[], bytes]
    codes: frozenset[tuple[int, str]]


UNSUPPORTED = (415, "UNSUPPORTED_IMAGE")
UNREADABLE = (422, "IMAGE_UNREADABLE")
TOO_LARGE = (422, "IMAGE_TOO_LARGE")
FACELESS = frozenset({(200, ""), (422, "NO_FACE_DETECTED"), (422, "NO_FACE_SLOT")})

HOSTILE = [
    Hostile("170 megapixels in 160 kB", bomb_170_megapixels, frozenset({TOO_LARGE})),
    Hostile("50,000 x 50,000 pixels", lambda: grey_png(50_000, 50_000, rows=1), frozenset({TOO_LARGE})),
    Hostile("one row of 40,000 pixels", lambda: grey_png(40_000, 1, rows=1), frozenset({TOO_LARGE})),
    Hostile("JPEG cut short", lambda: cut(encoded(noise(), "JPEG")), frozenset({UNREADABLE})),
    Hostile("PNG cut short", lambda: cut(encoded(noise(), "PNG")), FACELESS | {UNREADABLE}),  # Pillow: black
    Hostile("PNG without its rows", lambda: grey_png(64, 64, rows=3), FACELESS | {UNREADABLE}),  # Pillow: black
    Hostile("PNG with a wrong checksum", lambda: encoded(noise())[:-40] + bytes(40), frozenset({UNREADABLE})),
    Hostile("text", lambda: b"this is no picture" * 100, frozenset({UNSUPPORTED})),
    Hostile("GIF that is HTML", lambda: b"GIF89a/*<script>*/=alert(1)//", frozenset({UNSUPPORTED, UNREADABLE})),
    Hostile("SVG", lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', frozenset({UNSUPPORTED})),
    Hostile("PostScript", lambda: encoded(noise(32), "EPS"), frozenset({UNSUPPORTED})),
    Hostile("nothing", lambda: b"", frozenset({UNSUPPORTED})),
    Hostile("1 x 1 pixel", lambda: grey_png(1, 1, rows=1), FACELESS | {UNREADABLE}),
    Hostile("animated GIF", animated_gif, FACELESS),
    Hostile("CMYK", lambda: encoded(Image.new("CMYK", (64, 64), (9, 99, 9, 9)), "JPEG"), FACELESS),
    Hostile("16 bits", sixteen_bit, FACELESS),
    Hostile("one bit", lambda: encoded(Image.new("1", (64, 64))), FACELESS),
    Hostile("1 x 3,000 pixels", lambda: grey_png(1, 3000, rows=3000), FACELESS | {UNREADABLE}),
]


# --- the routes that take them --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Upload:
    """A route and the part in which it takes a picture; the other part, if any, is sound."""

    route: str
    part: str
    method: str = "POST"

    def __str__(self) -> str:
        return f"{self.route} {self.part}"


UPLOADS = [
    Upload("/detect-face", "file"),
    Upload("/personalize", "child_photo"),
    Upload("/personalize", "illustration"),
    Upload("/personalize/book", "child_photo"),
    Upload("/upload-illustration-template", "file"),
    Upload("/v1/users/user123/avatar", "file", "PUT"),
    Upload("/api/v1/verify-face", "file"),
    Upload("/api/v1/extract-embedding", "file"),
    Upload("/api/v1/analyze-face-advanced", "file"),
    Upload("/api/v1/compare-images", "file_a"),
    Upload("/api/v1/compare-images", "file_b"),
    Upload("/api/v1/frontal/crop", "image"),
    Upload("/api/v1/frontal/crop/submit", "image"),
    Upload("/api/tryon", "user_image"),
    Upload("/api/tryon", "product_image"),
    Upload("/api/tryon/submit", "user_image"),
    Upload("/api/tryon/submit", "product_image"),
]
UNDRESSED = frozenset({(202, ""), (422, "SEGMENTATION_FAILED"), (422, "POSE_FAILED"),
                       (422, "GARMENT_SEGMENTATION_FAILED")})  # fmt: skip
"""Harmless pictures of no person or garment: at once, or in the job that takes them."""


def right_codes(upload: Upload, hostile: Hostile) -> set[tuple[int, str]]:
    """What a route may answer; try-ons have words of their own."""
    if not upload.route.startswith("/api/tryon"):
        return set(hostile.codes)
    codes = {(status, seed_code(code)) for status, code in hostile.codes}
    return codes | UNDRESSED if codes & FACELESS else codes


@pytest.fixture(scope="module")
def pack_client(service_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The service with a face pack: the routes that embed refuse everything without one."""
    pack = write_pack(tmp_path_factory.mktemp("models") / "built")
    with TestClient(create_app(settings_in(service_folder, face_model=str(pack)))) as client:
        yield client


@pytest.fixture
def client_of(app_client: TestClient, pack_client: TestClient) -> Callable[[Upload], TestClient]:
    return lambda upload: pack_client if upload.route.startswith("/api/v1/") else app_client


@pytest.fixture(scope="module")
def template_id(app_client: TestClient, page: bytes) -> Iterator[str]:
    template = app_client.post("/upload-illustration-template", files={"file": ("page.png", page)}).json()
    yield template["template_id"]
    app_client.delete(f"/templates/{template['template_id']}")


@pytest.fixture
def form(photo: bytes, page: bytes, template_id: str) -> Callable[[Upload, bytes], dict[str, Any]]:
    """The arguments of a request that is sound but for one part."""

    def build(upload: Upload, data: bytes) -> dict[str, Any]:
        face = encoded(picture_of_squares((320, 288)))
        sound = {
            "/personalize": {"child_photo": photo, "illustration": page},
            "/api/v1/compare-images": {"file_a": face, "file_b": face},
            "/api/tryon": {"user_image": photo, "product_image": page},
            "/api/tryon/submit": {"user_image": photo, "product_image": page},
        }.get(upload.route, {})
        parts = {
            name: (f"../../{name}.png", content, "image/png") for name, content in {**sound, upload.part: data}.items()
        }
        return {"files": parts, "data": {"template_ids": [template_id]} if upload.route.endswith("book") else {}}

    return build


@pytest.fixture(autouse=True)
def unharmed(app_client: TestClient, service_folder: Path, template_id: str) -> Iterator[None]:
    """After each test nothing is left behind and the service is well. The template is no leftover."""
    assert template_id
    before = files_in(service_folder)
    yield
    assert files_in(service_folder) == before
    assert app_client.get("/health").status_code == 200


def files_in(folder: Path) -> list[str]:
    """All but SQLite's journals, which come and go with each transaction of the job engine's."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith("-journal"))
    return sorted(str(path.relative_to(folder)) for path in files)


def remove_what_was_stored(client: TestClient, body: dict[str, Any]) -> None:
    if "template_id" in body:
        client.delete(f"/templates/{body['template_id']}")
    if "picture" in body:
        client.delete(body["url"])
    if file_id := body.get("file_id") or body.get("output_file_id"):
        client.delete(f"/download/{file_id}")
    if job := body.get("job_id"):
        wait_for(lambda: client.get(f"/api/v1/jobs/{job}").json()["finished_at"])
        client.delete(f"/api/v1/jobs/{job}")


# --- tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upload", UPLOADS, ids=str)
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_pictures_get_their_code(
    client_of: Callable[[Upload], TestClient],
    form: Callable[[Upload, bytes], dict[str, Any]],
    hostile: Hostile,
    upload: Upload,
) -> None:
    client = client_of(upload)
    answer = client.request(upload.method, upload.route, **form(upload, hostile.build()))
    body = answer.json()
    assert (answer.status_code, body.get("code", "")) in right_codes(upload, hostile), body
    remove_what_was_stored(client, body)


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_pictures_in_base64_get_their_code(pack_client: TestClient, hostile: Hostile) -> None:
    text = base64.b64encode(hostile.build()).decode()
    answer = pack_client.post("/api/v1/extract-embedding", json={"image_base64": text})
    body = answer.json()
    codes = hostile.codes if text else {(422, "INVALID_BASE64")}
    assert (answer.status_code, body.get("code", "")) in codes, body


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_hostile_label_maps_are_refused(app_client: TestClient, photo: bytes, hostile: Hostile) -> None:
    files = {"image": ("photo.jpg", photo), "segmentation_map": ("../../map.png", hostile.build())}
    answer = app_client.post("/api/v1/frontal/crop", files=files)
    codes = {UNSUPPORTED, UNREADABLE, TOO_LARGE, (422, "INVALID_VALUE")}
    assert (answer.status_code, answer.json()["code"]) in codes, answer.json()


def test_hostile_pictures_stop_no_batch(pack_client: TestClient) -> None:
    sound = encoded(picture_of_squares((320, 288)))
    files = [("files", ("x", data)) for hostile in HOSTILE for data in (hostile.build(), sound)]
    body = pack_client.post("/api/v1/batch-extract", files=files).json()
    assert [item["index"] for item in body["results"]] == list(range(2 * len(HOSTILE)))
    for hostile, wrong, right in zip(HOSTILE, body["results"][::2], body["results"][1::2], strict=True):
        assert (wrong["code"] or "") in {code for _, code in hostile.codes}, hostile.name
        assert right["embedding"]


@pytest.mark.parametrize("upload", UPLOADS, ids=str)
@pytest.mark.parametrize(
    ("request_parts", "status"),
    [
        ({}, 422),
        ({"json": {"file": "x"}}, 422),
        ({"content": b"\xff" * 1000, "headers": {"Content-Type": "image/png"}}, 422),
        ({"content": b"no boundary", "headers": {"Content-Type": "multipart/form-data"}}, 400),
        ({"content": b"--x\r\nbroken", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400),
        ({"content": b"&".join(b"f%d=1" % n for n in range(10_000)),
          "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
        ({"files": [("f", ("f", b"x"))] * 10_000}, 400),
        ({"data": {"slot": "1" * (2 * MIB)}, "files": {"x": ("x", b"x")}}, 400),
        ({"data": dict.fromkeys(("file", "child_photo", "illustration"), "text")}, 422),
    ],
    ids=["nothing", "json", "bare bytes", "no boundary", "broken parts", "fields", "files", "2 MB field", "text"],
)  # fmt: skip
def test_malformed_requests_get_the_envelope(
    client_of: Callable[[Upload], TestClient], upload: Upload, request_parts: dict[str, Any], status: int
) -> None:
    answer = client_of(upload).request(upload.method, upload.route, **request_parts)
    # Malformed (400) or incomplete (422): which of both a parser notices first is its own affair.
    assert answer.status_code in {status, 400, 422}, answer.text
    assert {"detail", "code", "request_id"} <= answer.json().keys()


@pytest.mark.parametrize(
    "identifier",
    ["..%2f..%2fetc%2fpasswd", "%2e%2e", "%00", "a%00b", "x" * 10_000, "-1", "null", "%F0%9F%92%A9", "..\\..\\x", "*"],
)
@pytest.mark.parametrize("route", ["/download/{}", "/templates/{}", "/templates/{}/image"])
def test_tricks_in_ids_reach_no_file(app_client: TestClient, route: str, identifier: str) -> None:
    url = route.format(identifier)
    for method in ("GET", "DELETE", "HEAD"):
        answer = app_client.request(method, url)
        assert answer.status_code in {404, 405, 422}
        assert method == "HEAD" or "request_id" in answer.json()


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "", "0x1"])
@pytest.mark.parametrize("field", ["strength", "likeness", "slot", "face_box", "seed"])
def test_numbers_that_are_none_are_refused(
    app_client: TestClient, photo: bytes, page: bytes, field: str, number: str
) -> None:
    value = f"[{number}, 0, 9, 9]" if field == "face_box" else number
    answer = app_client.post(
        "/personalize", files={"child_photo": ("a", photo), "illustration": ("b", page)}, data={field: value}
    )
    body = answer.json()
    # An empty field is an absent one, in forms.
    assert answer.status_code == 422 or (answer.status_code == 200 and number == ""), body
    remove_what_was_stored(app_client, body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"slots": [[NaN, 0, 9, 9]]}', b'{"slots": [[Infinity, 0, 9, 9]]}', b'{"slots": [[1e999, 0, 9, 9]]}',
        b"[" * 100_000 + b"]" * 100_000, b'{"slots": ' + b"[" * 100_000, b"", b"null", b"\xff\xfe", b'{"slots": null}',
        b'{"slots": [{"bbox": [0, 0, 1e999, 1], "kps": 1}]}', b'{"slots": [[]]}',
        json.dumps({"slots": [[0, 0, 50, 50]] * 65}).encode(),
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)  # fmt: skip
def test_json_that_is_none_is_refused(app_client: TestClient, template_id: str, body: bytes) -> None:
    answer = app_client.put(
        f"/templates/{template_id}/slots", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {400, 422}, answer.text
    assert {"detail", "code", "request_id"} <= answer.json().keys()


def test_json_over_its_limit_is_refused(app_client: TestClient) -> None:
    answer = app_client.put(f"/templates/{uuid4()}/slots", json={"slots": ["x" * (2 * MIB)]})
    assert (answer.status_code, answer.json()["code"]) == (413, "FILE_TOO_LARGE")


def test_a_full_pool_refuses_at_once_on_every_upload_route(
    pack_client: TestClient,
    form: Callable[[Upload, bytes], dict[str, Any]],
    photo: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = pack_client.app.state.service.pool  # type: ignore[attr-defined]
    monkeypatch.setattr(pool, "max_queue", 0)
    release = threading.Event()
    assert pack_client.portal is not None
    occupied = [pack_client.portal.start_task_soon(pool.run, release.wait, 30) for _ in range(pool.max_workers)]
    try:
        while pool.running < pool.max_workers:
            time.sleep(0.01)
        batch = {"files": {"files": ("a.jpg", photo)}, "headers": {"Accept": "text/event-stream"}}
        requests = [(upload.method, upload.route, form(upload, photo)) for upload in UPLOADS]
        for method, route, parts in [*requests, ("POST", "/api/v1/batch-extract", batch)]:
            answer = pack_client.request(method, route, **parts)
            assert (answer.status_code, answer.json()["code"]) == (503, "BUSY")
            assert int(answer.headers["retry-after"]) > 0
        assert pack_client.get("/health/live").status_code == 200
    finally:
        release.set()
        for task in occupied:
            task.result(timeout=30)


# --- a server of its own: memory and a full disk ----------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """uvicorn in a process of its own."""

    port: int
    pid: int
    folder: Path

    def rss(self) -> int:
        """Resident memory in bytes; Linux only."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def request(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, dict[str, Any]]:
        """Status and body. A server may answer and close before it has taken the whole body."""
        chunked = body is not None and not isinstance(body, bytes) and "Content-Length" not in (headers or {})
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, path, body=body, headers=headers or {}, encode_chunked=chunked)
            with connection.getresponse() as answer:
                return answer.status, json.loads(answer.read())


@contextmanager
def serving(folder: Path, *, largest_file: int | None = None, **environment: str) -> Iterator[Server]:
    def limit() -> None:
        if largest_file is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {f"{name}_DIR": str(folder / name.lower()) for name in ("UPLOAD", "OUTPUT", "MODELS")}
    settings = {
        **folders, "API_HOST": "127.0.0.1", "API_PORT": str(port), "MAX_WORKERS": "1", "DB_USE_DATABASE": "false",
        **environment,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "main.py"], cwd=PROJECT, preexec_fn=limit, stderr=subprocess.DEVNULL,
        env={**os.environ, **settings},
    )  # fmt: skip
    server = Server(port, process.pid, folder)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "the server did not start"
            assert time.monotonic() < deadline
            try:
                if server.request("GET", "/health/ready")[0] == 200:
                    break
            except ConnectionError:
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def multipart(parts: dict[str, bytes]) -> tuple[bytes, dict[str, str]]:
    out = io.BytesIO()
    for name, content in parts.items():
        out.write(f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode())
        out.write(content + b"\r\n")
    out.write(b"--x--\r\n")
    return out.getvalue(), {"Content-Type": "multipart/form-data; boundary=x"}


def test_a_connection_is_not_closed_before_its_client_does_so(tmp_path: Path) -> None:
    """Python's clients keep an idle connection for 5 seconds: what they send at its end must not be lost."""
    with serving(tmp_path) as server, closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.auto_open = 0  # a closed connection is an error, and no new one is made
        connection.connect()
        for idle_s in (6, 0):
            connection.request("GET", "/health/ready")
            assert connection.getresponse().read()
            time.sleep(idle_s)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_300_mb_are_refused_in_bounded_memory_with_and_without_content_length(tmp_path: Path) -> None:
    size, limit = 300 * MIB, 20
    head = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="x"\r\n\r\n'
    with serving(tmp_path, MAX_UPLOAD_SIZE=str(limit)) as server:
        before = server.rss()
        for upload in UPLOADS:
            for length in ({}, {"Content-Length": str(size)}):

                def body(part: str = upload.part) -> Iterator[bytes]:
                    yield head % part.encode()
                    for _ in range(size // MIB):
                        yield bytes(MIB)

                headers = {"Content-Type": "multipart/form-data; boundary=x", **length}
                status, answer = server.request(upload.method, upload.route, body(), headers)
                assert (status, answer["code"]) == (413, "FILE_TOO_LARGE")
                assert server.rss() - before < 3 * limit * MIB
        assert server.request("GET", "/health")[0] == 200
        assert files_in(tmp_path) == []


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, photo: bytes, page: bytes) -> None:
    """No file may grow beyond 2 kB in the server's process, which to it is a disk that is full."""
    with serving(tmp_path, largest_file=2048) as server:
        for route, parts in {
            "/detect-face": {"file": photo},
            "/personalize": {"child_photo": photo, "illustration": page},
            "/upload-illustration-template": {"file": page},
        }.items():
            status, answer = server.request("POST", route, *multipart(parts))
            assert (status, answer["code"]) == (507, "STORAGE_FULL"), answer
        assert server.request("GET", "/health")[0] == 200
        assert files_in(tmp_path) == []
