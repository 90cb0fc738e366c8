"""Which LoRAs a pipeline draws with: swapped into its layers between two batches, never fused into its weights.

A place (`style`, `preview`) holds one LoRA. The next one for the same place takes over its layers, which costs a copy
and lets a compiled network stay compiled; where it can't (other layers, a text encoder's) the old one is removed first.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from diffusion_models import Pipeline
from service.errors import InvalidValueError, NotFoundError

logger = logging.getLogger(__name__)

Place: TypeAlias = Literal["style", "preview"]

NETWORKS = ("unet", "transformer")
"""Where a LoRA can be swapped; in a text encoder it can't (diffusers' docs)."""


@dataclass(frozen=True, slots=True)
class Lora:
    """A LoRA to draw with: its file, a .safetensors, and its weight, where 1 is as it was trained."""

    place: Place
    file: Path
    scale: float = 1.0


class LoraAdapters:
    """The LoRAs of one pipeline. For the thread that the pipeline belongs to."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._loaded: dict[Place, tuple[Path, int]] = {}

    def use(self, loras: Sequence[Lora]) -> None:
        """Draw with these from now on, and with no others.

        Raises:
            InvalidValueError: a file is no LoRA of this model; it is then as if it had never been named.
            NotFoundError: a file is gone.
        """
        for lora in loras:
            self._load(lora)
        if loras:
            self._pipeline.enable_lora()
            self._pipeline.set_adapters([lora.place for lora in loras], [lora.scale for lora in loras])
        elif self._loaded:
            self._pipeline.disable_lora()

    def _load(self, lora: Lora) -> None:
        try:
            version = (lora.file, lora.file.stat().st_mtime_ns)
        except FileNotFoundError as error:
            raise NotFoundError(f"lora_id: {lora.file.stem} was removed.") from error
        if self._loaded.get(lora.place) == version:
            return
        if not hasattr(self._pipeline, "load_lora_weights"):
            raise InvalidValueError(f"lora_id: {type(self._pipeline).__name__} takes no LoRA.")
        swapped = self._can_swap(lora.place) and self._read(lora, hotswap=True)
        if not swapped:
            self._remove(lora.place)
            if not self._read(lora, hotswap=False) or not self._networks_of(lora.place):
                self._remove(lora.place)
                raise InvalidValueError(
                    f"lora_id: {lora.file.stem} is no LoRA that fits this model ({type(self._pipeline).__name__})."
                )
        self._loaded[lora.place] = version

    def _read(self, lora: Lora, *, hotswap: bool) -> bool:
        import torch

        try:
            self._pipeline.load_lora_weights(
                str(lora.file.parent), weight_name=lora.file.name, adapter_name=lora.place,
                hotswap=hotswap, local_files_only=True,
            )  # fmt: skip
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a file from elsewhere: each loader stumbles in its own way
            logger.info("The LoRA %s was not loaded (hotswap=%s).", lora.file.name, hotswap, exc_info=True)
            return False
        return True

    def _can_swap(self, place: Place) -> bool:
        return bool(networks := self._networks_of(place)) and networks <= {*NETWORKS}

    def _networks_of(self, place: Place) -> set[str]:
        """The networks that hold layers of this place's LoRA."""
        return {name for name, adapters in self._pipeline.get_list_adapters().items() if place in adapters}

    def _remove(self, place: Place) -> None:
        self._loaded.pop(place, None)
        if self._networks_of(place):
            self._pipeline.delete_adapters(place)
