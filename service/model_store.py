"""The weights on this machine: what is known (models.toml), what is installed in MODELS_DIR, how to get the rest.

A pack is a folder of .onnx files named after its profile. It appears by one rename, complete and verified, so that a
folder that is there can be used. `pack.lock.json` inside it records what was installed and is the reference for files
whose checksum nobody published.
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import threading
import tomllib
from base64 import urlsafe_b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from service.errors import ModelDownloadError, NotFoundError
from service.model_download import Progress, download, file_sha256, unpack_onnx

if TYPE_CHECKING:
    from service.hub_models import HubModels

logger = logging.getLogger(__name__)

CommercialUse = Literal["yes", "no", "unclear"]
LOCK_NAME = "pack.lock.json"
WORK_FOLDER = ".downloads"
MANIFEST = Path(__file__).with_name("models.toml")

EMBEDDED_MODELS = {
    "face_detection_short_range.tflite": "faces up to about 2 m from the camera",
    "face_detection_full_range_sparse.tflite": "smaller faces",
    "face_landmark_with_attention.tflite": "478-point face mesh with irises",
    "selfie_segmentation.tflite": "person mask",
    "pose_detection.tflite": "people, for the pose of try-ons",
    "pose_landmark_full.tflite": "33 points of a body, and its mask",
}
"""The models of MediaPipe's wheel that the embedded engine runs, by file name."""


@dataclass(frozen=True, slots=True)
class Download:
    """One file to fetch, from the first of `urls` that gives it: a .zip of models, or one .onnx."""

    file: str
    urls: tuple[str, ...]
    sha256: str | None = None
    bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Profile:
    """A downloadable model as models.toml states it.

    Attributes:
        files: the names of its .onnx files and their SHA-256 (hex), as far as they are published.
        dimension: numbers in one of its embeddings.
        threshold: least cosine of one person, inclusive.
        threshold_source: who says so, and what is known of it.
    """

    name: str
    kind: str
    about: str
    downloads: tuple[Download, ...]
    licence: str
    commercial_use: CommercialUse
    files: Mapping[str, str]
    dimension: int | None = None
    threshold: float | None = None
    threshold_source: str | None = None


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model; hash and size are None where they are not known without reading the file."""

    name: str
    sha256: str | None
    bytes: int | None


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """What a client may know of a model: no path of this machine.

    Attributes:
        sha256: of the archive it is downloaded as; None where there is none.
        bytes: of the installed files; of the download where it isn't installed.
        dimension, threshold, threshold_source: as in `Profile`; None where they are not known.
        how_to_get: a command, or None where it is installed.
    """

    name: str
    kind: str
    about: str
    installed: bool
    files: tuple[ModelFile, ...]
    sha256: str | None
    bytes: int | None
    licence: str
    commercial_use: CommercialUse
    urls: tuple[str, ...]
    how_to_get: str | None
    dimension: int | None = None
    threshold: float | None = None
    threshold_source: str | None = None


@dataclass(frozen=True, slots=True)
class FileCheck:
    """The outcome of verifying one file.

    Attributes:
        state: "unknown" is a file that nothing is recorded of.
        reference: who vouches for the hash: its publisher, or the first download on this machine.
    """

    name: str
    state: Literal["ok", "changed", "missing", "unknown"]
    reference: Literal["published", "first download"] | None


def locate_pack(model: str, models_dir: Path) -> Path | None:
    """The folder of a face pack: `model` is a name in `models_dir` or a path. None where there is no .onnx in it."""
    folder = (models_dir / model) if Path(model).name == model else Path(model).expanduser()
    return folder if folder.is_dir() and any(folder.glob("*.onnx")) else None


@cache
def load_manifest(path: Path = MANIFEST) -> Mapping[str, Profile]:
    """The profiles of models.toml by name."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: _profile(name, entry) for name, entry in entries.items()}


def _profile(name: str, entry: dict[str, Any]) -> Profile:
    """One entry. The checksum of an .onnx that is fetched as it is stands in `downloads` only."""
    downloads = tuple(Download(**{**part, "urls": tuple(part["urls"])}) for part in entry.pop("downloads"))
    single = {part.file: part.sha256 for part in downloads if part.sha256 and part.file.endswith(".onnx")}
    return Profile(**entry | {"name": name, "downloads": downloads, "files": single | entry.get("files", {})})


def identify(weights: Path) -> tuple[str, Profile | None]:
    """The SHA-256 (hex) of a file of weights, and the first profile that it is published in."""
    sha256 = file_sha256(weights)
    known = (profile for profile in load_manifest().values() if sha256 in profile.files.values())
    return sha256, next(known, None)


class ModelStore:
    """MODELS_DIR and the manifest. Reading is safe from any thread; one process at a time installs a model."""

    def __init__(
        self, models_dir: Path, *, profiles: Mapping[str, Profile] | None = None, hub: HubModels | None = None
    ) -> None:
        """`hub` are the models that Hugging Face's libraries keep; they are listed beside the others."""
        self.models_dir = models_dir
        self.hub = hub
        self.profiles = load_manifest() if profiles is None else profiles

    def find(self, profile: str) -> Path | None:
        """The folder of an installed pack, by name or path."""
        return locate_pack(profile, self.models_dir)

    def status(self) -> list[ModelStatus]:
        """Every model that is known or found; reads no weights, so it costs nothing to ask."""
        found = [self._pack_status(profile.name, profile) for profile in self.profiles.values()]
        found += [self._pack_status(name, None) for name in self._other_packs()]
        return [*found, *(self.hub.status() if self.hub else ()), *_embedded_status()]

    def how_to_get(self, model: str) -> str:
        """The command that installs `model`."""
        if model in self.profiles:
            return f"python main.py models pull {model}"
        return f"python main.py models pull {model} --from FOLDER_OR_ZIP"

    def pull(self, profile: str, progress: Progress | None = None) -> Path:
        """Download, verify and install a profile. One that is installed and sound stays as it is.

        Raises:
            NotFoundError: there is no such profile.
            ModelDownloadError: it can't be had; what was installed before is untouched.
        """
        wanted = self._profile(profile)
        with self._installing(profile) as work:
            if self._is_sound(profile):
                return self.models_dir / profile
            with _staging(work, profile) as staging:
                staging.mkdir()
                for part, report in zip(wanted.downloads, _reports(wanted.downloads, progress), strict=True):
                    fetched = work / f"{profile}-{part.file}"
                    digest = download(part.urls, fetched, sha256=part.sha256, size=part.bytes, progress=report)
                    try:
                        _unpack(fetched, staging, part.file)
                    finally:
                        fetched.unlink(missing_ok=True)
                archive_sha256 = None if len(wanted.downloads) > 1 else digest
                source = wanted.downloads[0].urls[0]
                return self._install_staged(profile, staging, source=source, archive_sha256=archive_sha256)

    def pull_in_background(self, profile: str) -> threading.Thread:
        """Try `pull` once in a daemon thread. It delays neither start nor stop: what it got is continued next time."""
        thread = threading.Thread(target=self._pull_and_log, args=(profile,), name=f"pull-{profile}", daemon=True)
        thread.start()
        return thread

    def install_from(self, profile: str, source: Path) -> Path:
        """Install a pack from a folder of .onnx files or a zip, for machines without network.

        Files with a published checksum must match it.

        Raises:
            ModelDownloadError: `source` is no pack, or not the one it is said to be.
        """
        if not profile or Path(profile).name != profile or profile.startswith("."):
            raise ModelDownloadError(f"{profile!r} can't be the name of a folder.")
        with self._installing(profile) as work, _staging(work, profile) as staging:
            staging.mkdir()
            if source.is_file():
                unpack_onnx(source, staging)
                digest = file_sha256(source)
                return self._install_staged(profile, staging, source=source.name, archive_sha256=digest)
            onnx_files = sorted(source.glob("*.onnx")) if source.is_dir() else []
            if not onnx_files:
                raise ModelDownloadError(f"{source} is neither a zip nor a folder with .onnx files.")
            for file in onnx_files:
                shutil.copyfile(file, staging / file.name)
            return self._install_staged(profile, staging, source=source.name, archive_sha256=None)

    def verify(self, profile: str) -> list[FileCheck]:
        """Hash the installed files of a pack against the published checksums, or those of the first download.

        Raises:
            NotFoundError: it isn't installed.
        """
        folder = self.find(profile)
        if folder is None:
            raise NotFoundError(f"{profile} is not installed. Get it with `{self.how_to_get(profile)}`.")
        return _check_files(folder, self._published(profile), _recorded(folder))

    def _profile(self, name: str) -> Profile:
        if name not in self.profiles:
            raise NotFoundError(f"There is no model {name!r} to download: choose one of {', '.join(self.profiles)}.")
        return self.profiles[name]

    def _published(self, name: str) -> Mapping[str, str]:
        profile = self.profiles.get(name)
        return profile.files if profile else {}

    def _is_sound(self, profile: str) -> bool:
        return self.find(profile) is not None and all(check.state == "ok" for check in self.verify(profile))

    def _pull_and_log(self, profile: str) -> None:
        try:
            licence = self._profile(profile).licence
            self.pull(profile)
            logger.info("The face pack %s is installed (%s). Restart the service to use it.", profile, licence)
        except (ModelDownloadError, NotFoundError) as error:
            logger.warning("%s Get it later with `%s`.", error.message, self.how_to_get(profile))

    def _install_staged(self, profile: str, staging: Path, *, source: str, archive_sha256: str | None) -> Path:
        """Check the files, record them, and let the folder appear by one rename."""
        hashes = {file.name: file_sha256(file) for file in sorted(staging.glob("*.onnx"))}
        for name, published in self._published(profile).items():
            if hashes.get(name) != published:
                raise ModelDownloadError(
                    f"{name} is missing." if name not in hashes else f"{name} is not the published file of {profile}."
                )
        lock = {
            "source": source,
            "installed_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "archive_sha256": archive_sha256,
            "files": {
                name: {"sha256": sha256, "bytes": (staging / name).stat().st_size} for name, sha256 in hashes.items()
            },
        }
        (staging / LOCK_NAME).write_text(json.dumps(lock, indent=2) + "\n", encoding="utf-8")
        folder = self.models_dir / profile
        replaced = staging.with_suffix(".old")
        shutil.rmtree(replaced, ignore_errors=True)
        if folder.exists():
            folder.rename(replaced)
        staging.rename(folder)
        shutil.rmtree(replaced, ignore_errors=True)
        return folder

    @contextmanager
    def _installing(self, profile: str) -> Iterator[Path]:
        """The work folder, held by this process alone: a lock that the system drops when the process dies."""
        work = self.models_dir / WORK_FOLDER
        try:
            work.mkdir(parents=True, exist_ok=True)
            with (work / f"{profile}.lock").open("w") as lock_file:
                fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield work
        except BlockingIOError as error:
            raise ModelDownloadError(f"Another process is installing {profile} just now.") from error
        except OSError as error:
            raise ModelDownloadError(f"Can't write to {self.models_dir}: {error.strerror}.") from error

    def _other_packs(self) -> list[str]:
        if not self.models_dir.is_dir():
            return []
        names = (entry.name for entry in self.models_dir.iterdir() if not entry.name.startswith("."))
        return sorted(name for name in names if name not in self.profiles and self.find(name))

    def _pack_status(self, name: str, profile: Profile | None) -> ModelStatus:
        folder = self.find(name)
        downloads = profile.downloads if profile else ()
        model_files = _installed_files(folder) if folder else _published_files(profile)
        sizes = [file.bytes for file in model_files if file.bytes is not None]
        return ModelStatus(
            name=name,
            kind=profile.kind if profile else "face pack",
            about=profile.about if profile else "a pack of your own",
            installed=folder is not None,
            files=model_files,
            sha256=downloads[0].sha256 if len(downloads) == 1 else None,
            bytes=sum(sizes) if folder else _total_bytes(downloads),
            licence=profile.licence if profile else "not known: this pack is not in the manifest",
            commercial_use=profile.commercial_use if profile else "unclear",
            urls=tuple(url for part in downloads for url in part.urls),
            how_to_get=None if folder else self.how_to_get(name),
            dimension=profile.dimension if profile else None,
            threshold=profile.threshold if profile else None,
            threshold_source=profile.threshold_source if profile else "not known: set FACE_MATCH_THRESHOLD",
        )


@contextmanager
def _staging(work: Path, profile: str) -> Iterator[Path]:
    """Where a pack is put together: not there at the beginning, and gone at the end whatever happens."""
    folder = work / f"{profile}.new"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(fetched: Path, staging: Path, name: str) -> None:
    """Put what was fetched as `name` among the staged files."""
    if name.endswith(".onnx"):
        fetched.replace(staging / name)
    else:
        unpack_onnx(fetched, staging)


def _total_bytes(downloads: Sequence[Download]) -> int | None:
    sizes = [part.bytes for part in downloads if part.bytes is not None]
    return sum(sizes) if sizes and len(sizes) == len(downloads) else None


def _reports(downloads: Sequence[Download], progress: Progress | None) -> list[Progress | None]:
    """For each download what tells the bytes of it and of those before, and the total of all."""
    if progress is None or len(downloads) == 1:
        return [progress] * len(downloads)
    total = _total_bytes(downloads)
    before = accumulate((part.bytes or 0 for part in downloads[:-1]), initial=0)
    return [_shifted(progress, so_far, total) for so_far in before]


def _shifted(progress: Progress, so_far: int, total: int | None) -> Progress:
    return lambda done, _: progress(so_far + done, total)


def _recorded(folder: Path) -> Mapping[str, Mapping[str, Any]]:
    """What the lock file says of each file; nothing where a pack was put there by hand."""
    try:
        lock: dict[str, Mapping[str, Mapping[str, Any]]] = json.loads((folder / LOCK_NAME).read_text(encoding="utf-8"))
        return lock["files"]
    except (OSError, ValueError, KeyError):
        return {}


def _check_files(
    folder: Path, published: Mapping[str, str], recorded: Mapping[str, Mapping[str, Any]]
) -> list[FileCheck]:
    names = sorted({*published, *recorded, *(file.name for file in folder.glob("*.onnx"))})
    checks = []
    for name in names:
        reference: Literal["published", "first download"] | None = None
        expected = published.get(name)
        if expected is not None:
            reference = "published"
        elif name in recorded:
            expected, reference = str(recorded[name]["sha256"]), "first download"
        state: Literal["ok", "changed", "missing", "unknown"]
        if not (folder / name).is_file():
            state = "missing"
        elif expected is None:
            state = "unknown"
        else:
            state = "ok" if file_sha256(folder / name) == expected else "changed"
        checks.append(FileCheck(name, state, reference))
    return checks


def _installed_files(folder: Path) -> tuple[ModelFile, ...]:
    recorded = _recorded(folder)
    return tuple(
        ModelFile(file.name, recorded.get(file.name, {}).get("sha256"), file.stat().st_size)
        for file in sorted(folder.glob("*.onnx"))
    )


def _published_files(profile: Profile | None) -> tuple[ModelFile, ...]:
    published = profile.files if profile else {}
    return tuple(ModelFile(name, sha256, None) for name, sha256 in published.items())


@cache
def _embedded_status() -> tuple[ModelStatus, ...]:
    """The embedded models, from the wheel's own record of its files: mediapipe is not imported."""
    try:
        in_wheel = {file.name: file for file in files("mediapipe") or () if file.name in EMBEDDED_MODELS}
    except PackageNotFoundError:
        in_wheel = {}
    statuses = []
    for name, about in EMBEDDED_MODELS.items():
        file = in_wheel.get(name)
        sha256 = None
        if file is not None and file.hash is not None:
            sha256 = urlsafe_b64decode(file.hash.value + "=").hex()
        size = file.size if file else None
        statuses.append(
            ModelStatus(
                name=name.removesuffix(".tflite"),
                kind="embedded",
                about=about,
                installed=file is not None,
                files=(ModelFile(name, sha256, size),),
                sha256=None,
                bytes=size,
                licence="Apache-2.0 (carried in MediaPipe's wheel)",
                commercial_use="yes",
                urls=(),
                how_to_get=None if file else "pip install -r requirements.txt",
            )
        )
    return tuple(statuses)


def run_models_command(argv: Sequence[str], settings: Any) -> int:
    """`python main.py models ...`: the exit code of the command line in `service.models_command`."""
    # rich is needed by the command line only, not by the service.
    from service.hub_models import HubModels
    from service.models_command import run

    store = ModelStore(settings.models_dir, hub=HubModels(settings))
    return run(argv, store, default_model=settings.face_model)
