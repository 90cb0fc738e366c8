"""Fetch a model archive over HTTP and unpack it, so that nothing half-done can be taken for the real thing."""

from __future__ import annotations

import hashlib
import logging
import shutil
import stat
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import httpx

from service.errors import ModelDownloadError

logger = logging.getLogger(__name__)

Progress = Callable[[int, int | None], None]
"""Called with the bytes so far and the total, or None where the server doesn't say."""

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
"""Seconds. Short to connect, so that a host without network knows soon; longer between two chunks."""
ATTEMPTS_PER_URL = 3
PAUSE_S = 1.0
MAX_BYTES = 2 * 1024**3
"""No archive and no unpacked pack of ours comes near 2 GiB: more is a mistake or an attack."""
CHUNK_BYTES = 1024 * 1024


def download(
    urls: Sequence[str], target: Path, *, sha256: str | None, size: int | None, progress: Progress | None = None
) -> str:
    """Fetch the first of `urls` that gives the right bytes into `target`, and return their SHA-256 (hex).

    An interrupted download stays beside `target` as `.part` and is continued by the next call, if the server still
    has the same file.

    Args:
        sha256: what the file must hash to; None takes what comes.
        size: bytes the file must have, where known.

    Raises:
        ModelDownloadError: no URL gave the file; the sentence says what each one answered.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures: list[str] = []
    with httpx.Client(timeout=TIMEOUT, follow_redirects=True) as client:
        for url in urls:
            try:
                _fetch_with_retries(client, url, part, size, progress)
                digest = file_sha256(part)
                if sha256 is not None and digest != sha256:
                    _discard(part)
                    raise ModelDownloadError(
                        f"its SHA-256 is {digest}, not {sha256}: the file is not the published one"
                    )
                part.replace(target)
                _validator_file(part).unlink(missing_ok=True)
                return digest
            except (httpx.HTTPError, ModelDownloadError) as error:
                reason = str(error) or type(error).__name__
                logger.info("%s: %s", url, reason)
                failures.append(f"{url}: {reason}")
            except OSError as error:
                raise ModelDownloadError(f"Can't write to {target.parent}: {error.strerror}.") from error
    raise ModelDownloadError("Download failed. " + "; ".join(failures) + ".")


def _fetch_with_retries(
    client: httpx.Client, url: str, part: Path, size: int | None, progress: Progress | None
) -> None:
    """A dropped connection is picked up where it broke. A host that can't be reached or says no is asked once."""
    for attempt in range(1, ATTEMPTS_PER_URL + 1):
        try:
            _fetch(client, url, part, size, progress)
            return
        except (httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError):
            if attempt == ATTEMPTS_PER_URL:
                raise
            time.sleep(PAUSE_S)


def _fetch(client: httpx.Client, url: str, part: Path, size: int | None, progress: Progress | None) -> None:
    with client.stream("GET", url, headers=_resume_headers(part)) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            _discard(part)
            raise httpx.ReadError("the server has a shorter file than the part kept here", request=response.request)
        if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
            raise ModelDownloadError(f"the server answered {response.status_code}")
        done = part.stat().st_size if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
        if done and not response.headers.get("content-range", "").startswith(f"bytes {done}-"):
            raise ModelDownloadError("the server sent another range than it was asked for")
        total = _total_bytes(response, done)
        if total is not None and size is not None and total != size:
            raise ModelDownloadError(f"the server has {total} bytes, not {size}")
        _remember_validator(part, response)
        with part.open("ab" if done else "wb") as file:
            for chunk in response.iter_raw():
                done += len(chunk)
                if done > (size or MAX_BYTES):
                    raise ModelDownloadError(f"the server sends more than {size or MAX_BYTES} bytes")
                file.write(chunk)
                if progress is not None:
                    progress(done, total)
    if total is not None and done < total:
        raise httpx.ReadError("the connection ended early", request=response.request)


def _resume_headers(part: Path) -> dict[str, str]:
    """Ask for the rest only if the file is still the one that was begun (If-Range); otherwise all of it comes."""
    headers = {"Accept-Encoding": "identity"}
    validator = _validator_file(part)
    if part.exists() and part.stat().st_size and validator.exists():
        headers |= {"Range": f"bytes={part.stat().st_size}-", "If-Range": validator.read_text()}
    return headers


def _remember_validator(part: Path, response: httpx.Response) -> None:
    etag = response.headers.get("etag", "")
    # RFC 9110: a weak ETag may not be used with If-Range.
    validator = etag if etag and not etag.startswith("W/") else response.headers.get("last-modified", "")
    if validator:
        _validator_file(part).write_text(validator)
    else:
        _validator_file(part).unlink(missing_ok=True)


def _total_bytes(response: httpx.Response, done: int) -> int | None:
    length = response.headers.get("content-length", "")
    return done + int(length) if length.isdecimal() else None


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".validator")


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unpack_onnx(archive: Path, folder: Path) -> None:
    """Write the archive's .onnx files into `folder`, without the folders around them.

    Raises:
        ModelDownloadError: not a zip, damaged, a path that leads out of the folder, a link, too many bytes, no model.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = _checked_members(bundle)
            folder.mkdir(parents=True, exist_ok=True)
            for name, info in members.items():
                with bundle.open(info) as source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelDownloadError(f"{archive.name} is not a zip that can be read: {error}.") from error
    except OSError as error:
        raise ModelDownloadError(f"Can't unpack into {folder.parent}: {error.strerror}.") from error


def _checked_members(bundle: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for info in bundle.infolist():
        # Backslashes are separators to some tools that make or open zips.
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or stat.S_ISLNK(info.external_attr >> 16):
            raise ModelDownloadError(f"The archive is refused: its entry {info.filename!r} leads out of the folder.")
        if info.is_dir() or path.suffix != ".onnx":
            continue
        if path.name in members:
            raise ModelDownloadError(f"The archive is refused: it has {path.name!r} twice.")
        members[path.name] = info
    if not members:
        raise ModelDownloadError("The archive is refused: it has no .onnx file.")
    if sum(info.file_size for info in members.values()) > MAX_BYTES:
        raise ModelDownloadError(f"The archive is refused: it unpacks to more than {MAX_BYTES} bytes.")
    return members
