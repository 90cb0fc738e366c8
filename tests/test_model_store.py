from __future__ import annotations

import hashlib
import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from service import model_download
from service.errors import ModelDownloadError, NotFoundError
from service.model_store import (
    EMBEDDED_MODELS,
    LOCK_NAME,
    Download,
    ModelStore,
    Profile,
    identify,
    load_manifest,
    locate_pack,
)
from service.models_command import run

FILES = {"det.onnx": b"detector" * 20_000, "rec.onnx": bytes(range(256)) * 2_000}
HASHES = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = zipped(FILES)
ARCHIVE_SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


@dataclass
class Release:
    """A server of files at /NAME, which can break a connection and remembers what it was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    etag: str | None = '"v1"'
    break_after: int | None = None  # bytes of the next answer
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    address: str = ""

    def url(self, name: str) -> str:
        return f"{self.address}/{name}"


@pytest.fixture
def release() -> Iterator[Release]:
    release = Release(files={"pack.zip": ARCHIVE})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            release.requests.append((self.path, wanted))
            content = release.files.get(self.path.lstrip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if wanted is not None and self.headers.get("If-Range") == release.etag:
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if release.etag:
                self.send_header("ETag", release.etag)
            self.end_headers()
            end, release.break_after = release.break_after, None
            self.wfile.write(content[start:][:end])

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's own name
            """Keep the test's output quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    release.address = f"http://127.0.0.1:{server.server_port}"
    yield release
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_download, "PAUSE_S", 0.0)


def store_of(folder: Path, *urls: str, **changes: Any) -> ModelStore:
    facts: dict[str, Any] = {"sha256": ARCHIVE_SHA256, "bytes": len(ARCHIVE)} | changes
    hashes = facts.pop("files", HASHES)
    return store_with(folder, Download("pack.zip", urls, **facts), files=hashes)


def store_with(folder: Path, *downloads: Download, files: Mapping[str, str]) -> ModelStore:
    profile = Profile(
        name="pack",
        kind="face pack",
        about="two files",
        downloads=downloads,
        files=files,
        licence="for tests",
        commercial_use="no",
    )
    return ModelStore(folder / "models", profiles={"pack": profile})


def nothing_installed(store: ModelStore) -> bool:
    """No pack is to be seen, and the work folder holds no half of one."""
    work = store.models_dir / ".downloads"
    leftovers = [entry for entry in work.iterdir() if entry.suffix in (".new", ".old", ".zip")] if work.exists() else []
    return store.find("pack") is None and not (store.models_dir / "pack").exists() and not leftovers


def test_a_pulled_pack_is_complete_recorded_and_verified(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    seen: list[tuple[int, int | None]] = []
    folder = store.pull("pack", lambda done, total: seen.append((done, total)))
    assert {file.name: file.read_bytes() for file in folder.glob("*.onnx")} == FILES
    assert seen[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert json.loads((folder / LOCK_NAME).read_text())["archive_sha256"] == ARCHIVE_SHA256
    assert [(check.state, check.reference) for check in store.verify("pack")] == [("ok", "published")] * 2
    assert not list((store.models_dir / ".downloads").glob("*.zip*"))


def test_a_sound_pack_is_not_downloaded_again_and_a_damaged_one_is_replaced(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    folder = store.pull("pack")
    store.pull("pack")
    assert len(release.requests) == 1
    (folder / "det.onnx").write_bytes(b"damaged")
    assert {check.name: check.state for check in store.verify("pack")} == {"det.onnx": "changed", "rec.onnx": "ok"}
    store.pull("pack")
    assert len(release.requests) == 2
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_a_broken_connection_is_continued_where_it_broke(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    release.break_after = 200_000
    store.pull("pack")
    assert [wanted for _, wanted in release.requests] == [None, "bytes=200000-"]
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_a_download_cut_off_with_its_process_is_continued_by_the_next(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    release.break_after = 150_000

    def die(done: int, total: int | None) -> None:  # noqa: ARG001 - the shape of a progress callback
        if done >= 150_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull("pack", die)
    assert nothing_installed(store)
    store_of(tmp_path, release.url("pack.zip")).pull("pack")
    assert release.requests[-1][1] == "bytes=150000-"
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_a_file_that_changed_on_the_server_is_fetched_from_its_beginning(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    release.files["pack.zip"] = b"x" * len(ARCHIVE)
    release.break_after = 100_000
    release_requests = release.requests

    def replace(done: int, total: int | None) -> None:  # noqa: ARG001
        release.files["pack.zip"] = ARCHIVE
        release.etag = '"v2"'

    store.pull("pack", replace)
    assert release_requests[-1][1] == "bytes=100000-"
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_without_a_validator_nothing_is_continued(tmp_path: Path, release: Release) -> None:
    release.etag = None
    release.break_after = 100_000
    store_of(tmp_path, release.url("pack.zip")).pull("pack")
    assert [wanted for _, wanted in release.requests] == [None, None]


def test_other_bytes_than_the_published_ones_are_refused(tmp_path: Path, release: Release) -> None:
    release.files["pack.zip"] = ARCHIVE[:-1] + b"?"
    store = store_of(tmp_path, release.url("pack.zip"))
    with pytest.raises(ModelDownloadError, match="SHA-256"):
        store.pull("pack")
    assert nothing_installed(store)
    assert not list((store.models_dir / ".downloads").glob("*.part*"))


def test_another_size_is_refused_before_the_body_is_fetched(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"), bytes=10)
    with pytest.raises(ModelDownloadError, match=f"{len(ARCHIVE)} bytes, not 10"):
        store.pull("pack")
    assert nothing_installed(store)


def test_the_second_url_serves_when_the_first_does_not(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("gone.zip"), release.url("pack.zip"))
    store.pull("pack")
    assert [path for path, _ in release.requests] == ["/gone.zip", "/pack.zip"]
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_when_no_url_serves_the_sentence_says_what_each_answered(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("gone.zip"), "http://127.0.0.1:1/pack.zip")
    with pytest.raises(ModelDownloadError) as refusal:
        store.pull("pack")
    assert "gone.zip: the server answered 404" in refusal.value.message
    assert "127.0.0.1:1/pack.zip" in refusal.value.message
    assert nothing_installed(store)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"../evil.onnx": b"x"}, "leads out"),
        ({"/etc/evil.onnx": b"x"}, "leads out"),
        ({"..\\evil.onnx": b"x"}, "leads out"),
        ({"c:/evil.onnx": b"x"}, "leads out"),
        ({"a/det.onnx": b"x", "b/det.onnx": b"y"}, "twice"),
        ({"readme.txt": b"x"}, r"no \.onnx"),
    ],
)
def test_an_archive_with_tricks_is_refused(
    tmp_path: Path, release: Release, files: dict[str, bytes], sentence: str
) -> None:
    release.files["pack.zip"] = zipped(files)
    store = store_of(tmp_path, release.url("pack.zip"), sha256=None, bytes=None, files={})
    with pytest.raises(ModelDownloadError, match=sentence):
        store.pull("pack")
    assert nothing_installed(store)
    assert not list(tmp_path.rglob("evil.onnx"))


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_download, "MAX_BYTES", 600_000)
    store = store_of(tmp_path, release.url("bomb.zip"), sha256=None, bytes=None, files={})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("det.onnx", bytes(1_000_000))
    release.files["bomb.zip"] = buffer.getvalue()
    with pytest.raises(ModelDownloadError, match="unpacks to more"):
        store.pull("pack")
    assert nothing_installed(store)


def test_what_is_not_a_zip_is_refused(tmp_path: Path, release: Release) -> None:
    release.files["pack.zip"] = b"<html>moved</html>"
    store = store_of(tmp_path, release.url("pack.zip"), sha256=None, bytes=None, files={})
    with pytest.raises(ModelDownloadError, match="not a zip"):
        store.pull("pack")
    assert nothing_installed(store)


def test_folders_inside_the_archive_are_flattened(tmp_path: Path, release: Release) -> None:
    release.files["pack.zip"] = zipped({f"pack/{name}": content for name, content in FILES.items()})
    folder = store_of(tmp_path, release.url("pack.zip"), sha256=None, bytes=None).pull("pack")
    assert sorted(file.name for file in folder.glob("*.onnx")) == sorted(FILES)


def test_an_unpublished_checksum_is_recorded_at_first_download_and_held_to(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"), sha256=None, files={})
    folder = store.pull("pack")
    assert {(check.state, check.reference) for check in store.verify("pack")} == {("ok", "first download")}
    (folder / "rec.onnx").write_bytes(b"other")
    assert {check.name: check.state for check in store.verify("pack")} == {"det.onnx": "ok", "rec.onnx": "changed"}
    (folder / "rec.onnx").unlink()
    assert {check.name: check.state for check in store.verify("pack")} == {"det.onnx": "ok", "rec.onnx": "missing"}


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_pack_is_installed_without_network(tmp_path: Path, as_zip: bool) -> None:
    source = tmp_path / "stick"
    if as_zip:
        source.write_bytes(ARCHIVE)
    else:
        source.mkdir()
        for name, content in FILES.items():
            (source / name).write_bytes(content)
    store = store_of(tmp_path)
    folder = store.install_from("pack", source)
    assert folder == store.find("pack")
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_an_offline_pack_with_wrong_files_is_refused_and_the_old_one_stays(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    (tmp_path / "good.zip").write_bytes(ARCHIVE)
    (tmp_path / "bad.zip").write_bytes(zipped(FILES | {"rec.onnx": b"other"}))
    store.install_from("pack", tmp_path / "good.zip")
    for bad in ("bad.zip", "missing.zip"):
        with pytest.raises(ModelDownloadError):
            store.install_from("pack", tmp_path / bad)
    assert all(check.state == "ok" for check in store.verify("pack"))


@pytest.mark.parametrize("name", ["../pack", "a/b", ".downloads", ""])
def test_a_pack_name_never_leaves_the_models_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "good.zip").write_bytes(ARCHIVE)
    with pytest.raises(ModelDownloadError):
        store_of(tmp_path).install_from(name, tmp_path / "good.zip")


def test_two_installations_of_one_pack_do_not_meet(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    refused: list[str] = []

    def install_again(done: int, total: int | None) -> None:  # noqa: ARG001
        try:
            store.pull("pack")
        except ModelDownloadError as error:
            refused.append(error.message)

    store.pull("pack", install_again)
    assert refused
    assert all("Another process" in message for message in refused)
    assert all(check.state == "ok" for check in store.verify("pack"))


def test_a_background_download_that_fails_is_one_warning(
    tmp_path: Path, release: Release, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="service.model_store"):
        store_of(tmp_path, release.url("gone.zip")).pull_in_background("pack").join()
    (record,) = (record for record in caplog.records if record.name == "service.model_store")
    assert "python main.py models pull pack" in record.getMessage()


def test_a_background_download_installs(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    store.pull_in_background("pack").join()
    assert store.find("pack") is not None


def test_a_read_only_place_gives_a_sentence(tmp_path: Path, release: Release) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ModelDownloadError, match="Can't write"):
        store_of(tmp_path, release.url("pack.zip")).pull("pack")


def test_status_names_no_path_and_tells_how_to_get_what_is_missing(tmp_path: Path, release: Release) -> None:
    store = store_of(tmp_path, release.url("pack.zip"))
    before = store.status()[0]
    assert (before.installed, before.how_to_get) == (False, "python main.py models pull pack")
    assert before.bytes == len(ARCHIVE)
    own = store.models_dir / "own"
    own.mkdir(parents=True)
    (own / "x.onnx").write_bytes(b"mine")
    store.pull("pack")
    after, mine, *embedded = store.status()
    assert (after.installed, after.how_to_get) == (True, None)
    assert {file.name: file.sha256 for file in after.files} == HASHES
    assert (mine.name, mine.commercial_use, mine.bytes) == ("own", "unclear", 4)
    assert [model.licence.split()[0] for model in embedded] == ["Apache-2.0"] * len(EMBEDDED_MODELS)
    assert all(model.installed and model.files[0].sha256 for model in embedded)
    assert str(tmp_path) not in repr(store.status())


def singles(release: Release) -> list[Download]:
    """The two models as files of their own, the first with a mirror that is gone."""
    release.files |= FILES
    return [
        Download("det.onnx", (release.url("gone.onnx"), release.url("det.onnx")), HASHES["det.onnx"], 160_000),
        Download("rec.onnx", (release.url("rec.onnx"),), HASHES["rec.onnx"], 512_000),
    ]


def test_models_are_fetched_one_by_one_where_there_is_no_archive(tmp_path: Path, release: Release) -> None:
    store = store_with(tmp_path, *singles(release), files=HASHES)
    assert store.status()[0].bytes == 672_000
    seen: list[tuple[int, int | None]] = []
    folder = store.pull("pack", lambda done, total: seen.append((done, total)))
    assert {file.name: file.read_bytes() for file in folder.glob("*.onnx")} == FILES
    assert seen == sorted(seen)
    assert seen[-1] == (672_000, 672_000)
    assert [(check.state, check.reference) for check in store.verify("pack")] == [("ok", "published")] * 2
    assert [file.name for file in (store.models_dir / ".downloads").iterdir()] == ["pack.lock"]


def test_half_of_such_a_pack_is_none(tmp_path: Path, release: Release) -> None:
    store = store_with(tmp_path, *singles(release), files=HASHES)
    release.files["rec.onnx"] = bytes(512_000)
    with pytest.raises(ModelDownloadError, match="SHA-256"):
        store.pull("pack")
    assert nothing_installed(store)


def test_the_shipped_manifest_is_whole() -> None:
    profiles = load_manifest()
    unclear = ("facial_expression", "u2net_human_seg", "isnet-general-use", "content_filter")
    assert list(profiles) == ["buffalo_l", "buffalo_s", "antelopev2", "permissive", *unclear]
    use = {"permissive": "yes"} | dict.fromkeys(unclear, "unclear")
    for profile in profiles.values():
        assert all(url.startswith("https://") for part in profile.downloads for url in part.urls)
        hashes = [*(part.sha256 for part in profile.downloads), *profile.files.values()]
        assert all(sha256 is None or len(bytes.fromhex(sha256)) == 32 for sha256 in hashes)
        assert profile.commercial_use == use.get(profile.name, "no")
        if profile.kind != "face pack":
            continue
        assert profile.dimension == (128 if profile.name == "permissive" else 512)
        assert profile.threshold is not None
        assert profile.threshold_source


def test_weights_are_known_by_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "renamed.onnx"
    file.write_bytes(FILES["rec.onnx"])
    assert identify(file) == (HASHES["rec.onnx"], None)
    store = store_with(tmp_path, files=HASHES)
    monkeypatch.setattr("service.model_store.load_manifest", lambda: store.profiles)
    assert identify(file) == (HASHES["rec.onnx"], store.profiles["pack"])


def test_a_pack_is_found_by_name_or_path_and_only_with_models_in_it(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    assert locate_pack("pack", tmp_path) is None
    (tmp_path / "pack" / "x.onnx").touch()
    assert locate_pack("pack", tmp_path) == tmp_path / "pack"
    assert locate_pack(str(tmp_path / "pack"), Path("elsewhere")) == tmp_path / "pack"
    assert locate_pack("pack", Path("elsewhere")) is None


class TestCommand:
    """`python main.py models ...`"""

    def run(self, store: ModelStore, *argv: str) -> tuple[int, str]:
        console = Console(record=True, width=200, file=io.StringIO())
        code = run(argv, store, default_model="pack", console=console)
        return code, console.export_text()

    def test_list_pull_verify(self, tmp_path: Path, release: Release) -> None:
        store = store_of(tmp_path, release.url("pack.zip"))
        code, text = self.run(store, "list")
        assert code == 0
        assert "python main.py models pull pack" in text
        code, text = self.run(store, "pull")
        assert code == 0
        assert "installed and verified" in text
        code, text = self.run(store, "verify")
        assert code == 0
        assert text.count("ok, as published") == 2

    def test_a_changed_file_fails_verification(self, tmp_path: Path, release: Release) -> None:
        store = store_of(tmp_path, release.url("pack.zip"))
        (store.pull("pack") / "det.onnx").write_bytes(b"damaged")
        code, text = self.run(store, "verify", "pack")
        assert code == 1
        assert "det.onnx: CHANGED" in text

    def test_an_unpublished_checksum_is_said_to_be_so(self, tmp_path: Path, release: Release) -> None:
        store = store_of(tmp_path, release.url("pack.zip"), sha256=None, files={})
        store.pull("pack")
        code, text = self.run(store, "verify")
        assert code == 0
        assert "no published checksum known: hash recorded at first download" in text

    def test_failures_are_sentences_with_exit_code_1(self, tmp_path: Path, release: Release) -> None:
        store = store_of(tmp_path, release.url("gone.zip"))
        assert self.run(store, "pull")[0] == 1
        code, text = self.run(store, "pull", "unheard_of")
        assert code == 1
        assert "choose one of pack" in text
        assert self.run(store, "verify", "pack")[0] == 1

    def test_a_pack_comes_from_a_stick(self, tmp_path: Path) -> None:
        (tmp_path / "pack.zip").write_bytes(ARCHIVE)
        code, text = self.run(store_of(tmp_path), "pull", "pack", "--from", str(tmp_path / "pack.zip"))
        assert code == 0
        assert "installed and verified. Licence: for tests" in text

    def test_usage_errors_exit_with_2(self, tmp_path: Path) -> None:
        with pytest.raises(SystemExit) as leaving:
            self.run(store_of(tmp_path), "fetch")
        assert leaving.value.code == 2


def test_verifying_what_is_not_installed_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="models pull pack"):
        store_of(tmp_path).verify("pack")
