"""The models of image generation: where they lie on this machine, and how they are fetched from Hugging Face.

A model is a folder, or an id of the Hub that was fetched into its cache. Requests never fetch anything: what is missing
is told at once, with the command that gets it. Looking into the cache needs none of the Hub's libraries.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from config import Settings
from diffusion_models import INDEX, IPAdapterFiles, PipelineFiles, PipelineOptions, missing_libraries
from identity_diffusion import FILES, IdentityFiles
from service.errors import ModelDownloadError, ModelUnavailableError
from service.model_store import CommercialUse, ModelStatus

PROFILE = "generation"
"""Name of these models on the command line."""
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
PULL = f"python main.py models pull {PROFILE}"
IDENTITY_PROFILE = "diffusion"
"""Name of what engine=diffusion needs on the command line."""
IDENTITY_PULL = f"python main.py models pull {IDENTITY_PROFILE}"
PROFILES = {PULL: PROFILE, IDENTITY_PULL: IDENTITY_PROFILE}
"""What each command installs."""
WEIGHTS = {".safetensors", ".bin"}
IDENTITIES = {"instantid": "InstantX/InstantID", "ip-adapter": "h94/IP-Adapter"}

NO_MODEL_FILE = "The file that MODEL_FILE names isn't there. Put the checkpoint there, or leave MODEL_FILE empty."

LICENCES: Mapping[str, tuple[str, CommercialUse]] = {
    "stabilityai/stable-diffusion-xl-base-1.0": ("CreativeML Open RAIL++-M, with use restrictions", "yes"),
    "h94/IP-Adapter": ("Apache-2.0", "yes"),
    "InstantX/InstantID": ("weights for non-commercial research only, as their authors state", "no"),
}
"""As the models' cards state them."""


class HubModels:
    """The models that the settings name. Looking is cheap, and safe from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def model_name(self) -> str:
        """The image model as the settings name it, without a path of this machine."""
        file = self._settings.model_file
        return _name(self._settings.model_path) if file is None else file.stem

    def files(self) -> PipelineFiles:
        """The pipeline's files.

        Raises:
            ModelUnavailableError: something isn't installed; the sentence says what, and how to get it.
        """
        if reason := self.missing():
            raise ModelUnavailableError(reason)
        settings = self._settings
        folder, adapter = self._base_folder(), None
        if settings.enable_ip_adapter:
            adapter_folder = self._adapter_folder()
            assert adapter_folder is not None
            adapter = IPAdapterFiles(adapter_folder, settings.ip_adapter_weights, settings.ip_adapter_image_encoder)
        assert folder is not None
        return PipelineFiles(folder, settings.model_file, adapter)

    def missing(self) -> str | None:
        """What isn't installed and how to get it; None where nothing is missing."""
        settings = self._settings
        if reason := missing_libraries():
            return reason
        if self._base_folder() is None:
            return _how_to_get("MODEL_PATH", settings.model_path)
        if settings.model_file is not None and not settings.model_file.is_file():
            return NO_MODEL_FILE
        if settings.enable_ip_adapter and self._adapter_folder() is None:
            return _how_to_get("IP_ADAPTER_PATH", settings.ip_adapter_path)
        return None

    def options(self) -> PipelineOptions:
        """How pipelines run."""
        settings = self._settings
        return PipelineOptions(
            device=settings.device,
            dtype=settings.generation_dtype,
            compile=settings.generation_compile,
            offload=settings.generation_offload,
        )

    @property
    def identity_path(self) -> str:
        """Where DIFFUSION_IDENTITY's weights are: a Hugging Face id or a folder."""
        return self._settings.diffusion_path or IDENTITIES[self._settings.diffusion_identity]

    def identity_files(self) -> IdentityFiles:
        """The files of engine=diffusion.

        Raises:
            ModelUnavailableError: something isn't installed; the sentence says what, and how to get it.
        """
        if reason := self.missing_identity():
            raise ModelUnavailableError(reason)
        settings = self._settings
        base, folder = self._base_folder(), self._identity_folder()
        assert base is not None
        assert folder is not None
        return IdentityFiles(settings.diffusion_identity, PipelineFiles(base, settings.model_file), folder)

    def missing_identity(self) -> str | None:
        """What of it isn't installed and how to get it; None where nothing is missing."""
        settings = self._settings
        if reason := missing_libraries():
            return reason
        if self._base_folder() is None:
            return _how_to_get("MODEL_PATH", settings.model_path, IDENTITY_PULL)
        if settings.model_file is not None and not settings.model_file.is_file():
            return NO_MODEL_FILE
        if self._identity_folder() is None:
            return _how_to_get("DIFFUSION_PATH", self.identity_path, IDENTITY_PULL)
        return None

    def _base_folder(self) -> Path | None:
        """The folder of MODEL_PATH, with all that its index names: a fetch that was interrupted leaves less."""
        folder = find_folder(self._settings.model_path, INDEX)
        if folder is None or self._settings.model_file is not None or _is_complete(folder):
            return folder
        return None

    def _adapter_folder(self) -> Path | None:
        """The folder of IP_ADAPTER_PATH, with the adapter and its image encoder."""
        settings = self._settings
        encoder = f"{settings.ip_adapter_image_encoder}/config.json"
        return find_folder(settings.ip_adapter_path, settings.ip_adapter_weights, encoder)

    def _identity_folder(self) -> Path | None:
        """The folder that holds all that DIFFUSION_IDENTITY needs."""
        return find_folder(self.identity_path, *FILES[self._settings.diffusion_identity])

    def status(self) -> list[ModelStatus]:
        """For GET /models."""
        settings = self._settings
        about = "makes pictures from text: MODEL_PATH"
        found = [_status(settings.model_path, self._base_folder(), "image model", about)]
        if settings.enable_ip_adapter:
            about = "prompts the image model with a picture: IP_ADAPTER_PATH"
            found.append(_status(settings.ip_adapter_path, self._adapter_folder(), "image adapter", about))
        return [*found, self._identity_status()]

    def _identity_status(self) -> ModelStatus:
        kind = self._settings.diffusion_identity
        name = {"instantid": "InstantID", "ip-adapter": "IP-Adapter plus-face"}[kind]
        about = f"{name}: shows engine=diffusion the child on its pages: DIFFUSION_IDENTITY={kind}"
        folder = self._identity_folder()
        status = _status(self.identity_path, folder, "identity adapter", about)
        size = None if folder is None else sum((folder / file).stat().st_size for file in FILES[kind])
        fetched = _is_hub_id(self.identity_path) and folder is None
        return replace(
            status,
            name=f"{status.name} plus-face" if kind == "ip-adapter" else status.name,
            bytes=size,
            how_to_get=IDENTITY_PULL if fetched else None,
        )

    def pull(self) -> list[str]:
        """Fetch what the settings name and isn't a folder; the names of what was fetched.

        Raises:
            ModelDownloadError: it can't be had.
        """
        if reason := missing_libraries():
            raise ModelDownloadError(reason)
        settings = self._settings
        fetched = []
        if _is_hub_id(settings.model_path):
            _fetch_pipeline(settings.model_path, configuration_only=settings.model_file is not None)
            fetched.append(settings.model_path)
        if settings.enable_ip_adapter and _is_hub_id(settings.ip_adapter_path):
            encoder = f"{settings.ip_adapter_image_encoder}/*"
            _fetch_files(settings.ip_adapter_path, [settings.ip_adapter_weights, encoder])
            fetched.append(settings.ip_adapter_path)
        return fetched

    def fetch(self, profile: str) -> list[str]:
        """`pull` or `pull_identity`, by the name of what is wanted, and a look at whether all of it is there now."""
        fetched = self.pull() if profile == PROFILE else self.pull_identity()
        if reason := self.missing() if profile == PROFILE else self.missing_identity():
            raise ModelDownloadError(reason)
        return fetched

    def pull_identity(self) -> list[str]:
        """As `pull`, for engine=diffusion: the image model and DIFFUSION_IDENTITY's weights."""
        if reason := missing_libraries():
            raise ModelDownloadError(reason)
        settings = self._settings
        fetched = []
        if _is_hub_id(settings.model_path):
            _fetch_pipeline(settings.model_path, configuration_only=settings.model_file is not None)
            fetched.append(settings.model_path)
        if _is_hub_id(self.identity_path):
            _fetch_files(self.identity_path, list(FILES[settings.diffusion_identity]))
            fetched.append(self.identity_path)
        return fetched


def find_folder(model: str, *files: str) -> Path | None:
    """The folder of a model, itself or fetched from the Hub, that holds these files; None where there is none."""
    folder = _folder(model)
    return folder if folder is not None and all((folder / file).is_file() for file in files) else None


def _folder(model: str) -> Path | None:
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    if not _is_hub_id(model):
        return None
    repository = _cache() / f"models--{model.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return repository / "snapshots" / revision


def _is_complete(folder: Path) -> bool:
    """Whether each part of a pipeline has its folder, and each network in it its weights."""
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8")).items()
    except (ValueError, AttributeError):
        return False
    parts = [folder / name for name, made_by in index if isinstance(made_by, list) and any(made_by)]
    networks = [part for part in parts if (part / "config.json").is_file()]
    return all(part.is_dir() for part in parts) and all(
        any(path.suffix in WEIGHTS for path in network.iterdir()) for network in networks
    )


def _cache() -> Path:
    """Where huggingface_hub keeps what it fetches."""
    if cache := os.environ.get("HF_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _is_hub_id(model: str) -> bool:
    return HUB_ID.fullmatch(model) is not None and not Path(model).expanduser().is_dir()


def _name(model: str) -> str:
    return model if _is_hub_id(model) else Path(model).name


def _how_to_get(setting: str, model: str, command: str = PULL) -> str:
    if _is_hub_id(model):
        return f"The model {model} ({setting}) isn't installed. Get it with `{command}`."
    return f"{setting} names no folder with such a model. Correct it, or give a Hugging Face id."


def _status(model: str, folder: Path | None, kind: str, about: str) -> ModelStatus:
    licence, use = LICENCES.get(model, ("not known here: read the model's card", "unclear"))
    is_hub_id = _is_hub_id(model)
    return ModelStatus(
        name=_name(model),
        kind=kind,
        about=about,
        installed=folder is not None,
        files=(),
        sha256=None,
        bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder else None,
        licence=licence,
        commercial_use=use,
        urls=(f"https://huggingface.co/{model}",) if is_hub_id else (),
        how_to_get=PULL if folder is None and is_hub_id else None,
    )


def _fetch_pipeline(model: str, *, configuration_only: bool) -> None:
    """In half precision where that is published: half the bytes, and what a GPU computes in anyway."""
    if configuration_only:
        _fetch_files(model, ["*.json", "*.txt"])
        return
    import diffusers

    try:
        try:
            diffusers.DiffusionPipeline.download(model, variant="fp16")
        except ValueError:  # no such variant
            diffusers.DiffusionPipeline.download(model)
    except (OSError, ValueError) as error:
        raise ModelDownloadError(f"{model} can't be fetched: {_first_line(error)}") from error


def _fetch_files(model: str, patterns: list[str]) -> None:
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(model, allow_patterns=patterns)
    except (OSError, ValueError) as error:
        raise ModelDownloadError(f"{model} can't be fetched: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
