"""Image generation on what callers send: their wish and pictures in; stored, or encoded, pictures out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from threading import Lock
from typing import TypeAlias
from uuid import UUID, uuid5

import cv2
import numpy as np

from config import Settings
from content_filter import ContentFilter, load_content_filter
from diffusion_models import load_pipeline
from fitting_batches import Images
from generation import Generator
from generation_batch import BatchPipeline, ImageRequest
from lora_adapters import Lora
from service.errors import ContentBlockedError, InvalidValueError, ModelUnavailableError, naming
from service.hub_models import HubModels
from service.image_io import SUFFIXES, decode_image, encode_image
from service.image_wishes import EditWish, GenerationWish, ImageWish, MemoryWish, SubjectWish
from service.loras import LoraFiles
from service.storage import Storage, StoredFile
from service.version import NAME, VERSION
from utils import GrayImage, RGBImage

Wish: TypeAlias = GenerationWish | EditWish | MemoryWish | SubjectWish

REFERENCE, IMAGE, MASK = "reference", "image", "mask"
"""Names of the pictures that come with a wish."""
PREVIEW_GUIDANCE = 1.0
"""What few-step LoRAs are made for: no guidance, and half the work."""
REFERENCE_PX = 1024
"""Longer side of a picture that is looked at, in pixels: the encoders see 224 to 384."""


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One picture that was made. `file` is None where it was not stored; `uri` is its s3:// address."""

    seed: int
    data: bytes
    file: StoredFile | None
    uri: str | None
    presigned_url: str | None


@dataclass(frozen=True, slots=True)
class GeneratedImages:
    """What became of a wish. `blocked` pictures were kept back by the content filter; `warnings` are sentences."""

    created: int
    images: list[GeneratedImage]
    prompt: str
    model: str
    size: tuple[int, int]
    blocked: int
    warnings: Sequence[str]


class ImageGeneration:
    """Pictures by the image model. Methods block; all are safe from any thread."""

    def __init__(self, settings: Settings, storage: Storage) -> None:
        self.settings = settings
        self.storage = storage
        self.models = HubModels(settings)
        self.loras = LoraFiles(settings.lora_dir, store=storage.store, prefix=settings.s3_lora_prefix)
        self.generator = Generator(self._load, batch=settings.generation_batch, max_queue=settings.generation_queue)
        self._filter: ContentFilter | None = None
        self._filter_lock = Lock()

    def start(self) -> None:
        """Load the model in the background, where GENERATION_PRELOAD asks for it and it is there."""
        if self.settings.generation_preload and self.models.missing() is None:
            self.generator.warm_up()

    def close(self) -> None:
        """Stop at the next step."""
        self.generator.close()

    def require(self) -> None:
        """Refuse at once what can't be made.

        Raises:
            ModelUnavailableError: the model, its libraries or the content filter isn't installed, and how to get it.
        """
        if reason := self.models.missing():
            raise ModelUnavailableError(reason)
        if self.settings.content_filter:
            self._content_filter()

    def prepare(self, wish: Wish, pictures: dict[str, bytes]) -> ImageRequest:
        """What the engine is asked for. `pictures` are those that came with the wish, by name.

        Raises:
            ServiceError: a picture, size or LoRA that can't be used; a user without a picture.
        """
        settings, preview = self.settings, wish.quality == "low"
        if wish.partial_images and settings.content_filter:
            raise InvalidValueError("partial_images: pictures on the way would pass the content filter. Ask for none.")
        image, mask = self._edited(pictures)
        width, height = self._size(wish, image)
        if image is not None:
            image, mask = _cover(image, width, height), None if mask is None else _cover(mask, width, height)
        guidance = PREVIEW_GUIDANCE if preview else settings.generation_guidance
        scheduler = "few_step" if preview else settings.generation_scheduler
        assert wish.seed is not None
        return ImageRequest(
            prompt=full_prompt(wish),
            negative_prompt=wish.negative_prompt,
            width=width,
            height=height,
            steps=wish.num_inference_steps or (settings.preview_steps if preview else settings.generation_steps),
            guidance_scale=guidance if wish.guidance_scale is None else wish.guidance_scale,
            seed=wish.seed,
            n=wish.n,
            scheduler=wish.scheduler or scheduler,
            loras=self._loras(wish),
            reference_rgb=self._reference(wish, pictures),
            ip_adapter_scale=wish.ip_adapter_scale,
            image_rgb=image,
            mask=mask,
            strength=wish.strength if isinstance(wish, EditWish) else 1.0,
        )

    def finish(
        self, wish: Wish, request: ImageRequest, images: Images, warnings: Sequence[str], *, job: UUID | None = None
    ) -> GeneratedImages:
        """Filter, encode and store. A job's pictures get ids of its own: done twice, they are stored once.

        Raises:
            ContentBlockedError: the filter keeps all back.
            StorageFullError, StorageUnavailableError: they can't be stored.
        """
        shown = [
            (index, image) for index, image in enumerate(images) if image is not None and not self._is_blocked(image)
        ]
        if not shown:
            raise ContentBlockedError(
                "The content filter keeps back what was generated. Change the prompt or the seed."
            )
        made = [
            self._stored(
                wish, request.seeds[index], self.encode(wish, request, image, request.seeds[index]), index, job
            )
            for index, image in shown
        ]
        return GeneratedImages(
            created=int(time.time()),
            images=made,
            prompt=request.prompt,
            model=self.models.model_name,
            size=(request.width, request.height),
            blocked=len(images) - len(shown),
            warnings=warnings,
        )

    def encode(self, wish: ImageWish, request: ImageRequest, image: RGBImage, seed: int) -> bytes:
        """The picture as a file; a PNG says how it was made, unless IMAGE_METADATA forbids it."""
        texts = self._texts(wish, request, seed) if self.settings.image_metadata else {}
        return encode_image(image, format=wish.output_format, texts=texts)

    def _load(self) -> BatchPipeline:
        pipeline = load_pipeline(self.models.files(), self.models.options())
        if not self.settings.content_filter and getattr(pipeline, "safety_checker", None) is not None:
            pipeline.safety_checker = None  # a model's own: it blackens pictures, and belongs to the filter
        return BatchPipeline(pipeline)

    def _content_filter(self) -> ContentFilter:
        with self._filter_lock:
            if self._filter is None:
                self._filter = load_content_filter(self.settings.models_dir)
            return self._filter

    def _is_blocked(self, image: RGBImage) -> bool:
        if not self.settings.content_filter:
            return False
        return self._content_filter().unsafe_probability(image) >= self.settings.content_filter_threshold

    def _size(self, wish: Wish, image: RGBImage | None) -> tuple[int, int]:
        sizes = self.settings.image_sizes
        if wish.size == "auto":
            if image is None:
                return sizes[0]
            wanted = np.log(image.shape[1] / image.shape[0])
            return min(sizes, key=lambda size: abs(np.log(size[0] / size[1]) - wanted))
        width, height = (int(side) for side in wish.size.split("x"))
        if (width, height) not in sizes:
            known = ", ".join(f"{each[0]}x{each[1]}" for each in sizes)
            raise InvalidValueError(f"size: {wish.size} is not generated. Choose one of {known}, or auto.")
        return width, height

    def _loras(self, wish: ImageWish) -> tuple[Lora, ...]:
        loras = []
        if wish.quality == "low":
            if self.settings.preview_lora is None:
                raise ModelUnavailableError("quality=low needs a few-step LoRA: set PREVIEW_LORA, or ask for another.")
            loras.append(Lora("preview", self.loras.find(self.settings.preview_lora)))
        if wish.lora_id is not None:
            if not self.settings.enable_lora:
                raise InvalidValueError("lora_id: this service draws with none (ENABLE_LORA=false).")
            loras.append(Lora("style", self.loras.find(wish.lora_id), wish.lora_scale))
        return tuple(loras)

    def _reference(self, wish: Wish, pictures: dict[str, bytes]) -> RGBImage | None:
        data = pictures.get(REFERENCE)
        if isinstance(wish, MemoryWish):
            data = self.storage.read_user_picture("avatar", wish.user_id)
        elif isinstance(wish, SubjectWish):
            data = self.storage.read_user_picture("subject", wish.user_id)
        if data is None:
            return None
        if not self.settings.enable_ip_adapter:
            raise ModelUnavailableError(
                "A picture can be looked at with an IP-Adapter only: set ENABLE_IP_ADAPTER=true, get it with "
                "`python main.py models pull generation`, and start the service again."
            )
        with naming("reference picture"):
            return self._decoded(data, reduce_to=REFERENCE_PX)[0]

    def _edited(self, pictures: dict[str, bytes]) -> tuple[RGBImage | None, GrayImage | None]:
        """The picture to edit, and what is to be drawn anew: where the mask, or else the picture, is transparent."""
        if IMAGE not in pictures:
            return None, None
        with naming("image"):
            image, alpha = self._decoded(pictures[IMAGE])
        if MASK in pictures:
            with naming("mask"):
                masked, alpha = self._decoded(pictures[MASK])
                if alpha is None or alpha.min() == 255:
                    raise InvalidValueError("nothing in it is transparent. What is transparent in it is drawn anew.")
                if masked.shape != image.shape:
                    raise InvalidValueError("it must have the size of the image.")
        if alpha is None or alpha.min() == 255:
            return image, None
        return image, (255 - alpha).astype(np.uint8)

    def _decoded(self, data: bytes, *, reduce_to: int | None = None) -> tuple[RGBImage, GrayImage | None]:
        decoded = decode_image(data, max_pixels=self.settings.max_pixels, to_srgb=True, reduce_to=reduce_to)
        return decoded.rgb, decoded.alpha

    def _stored(self, wish: Wish, seed: int, data: bytes, index: int, job: UUID | None) -> GeneratedImage:
        user_id = wish.user_id if isinstance(wish, MemoryWish | SubjectWish) else None
        if wish.response_format == "b64_json" and user_id is None and job is None:
            return GeneratedImage(seed, data, None, None, None)
        file = self.storage.save_generated(
            data,
            kind=kind_of(wish),
            suffix=SUFFIXES[wish.output_format],
            user_id=user_id,
            file_id=None if job is None else uuid5(job, str(index)),
        )
        # A job's answer is read whenever its caller comes: a link that expires might be dead by then.
        presigned = self.storage.presigned_url(file) if job is None else None
        return GeneratedImage(seed, data, file, self.storage.uri(file), presigned.url if presigned else None)

    def _texts(self, wish: ImageWish, request: ImageRequest, seed: int) -> dict[str, str]:
        details = {
            "steps": request.steps, "guidance_scale": request.guidance_scale, "scheduler": request.scheduler,
            "size": f"{request.width}x{request.height}", "lora_id": wish.lora_id, "lora_scale": wish.lora_scale,
            "quality": wish.quality,
        }  # fmt: skip
        libraries = {name: version(name) for name in ("torch", "diffusers", "transformers")}
        return {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "seed": str(seed),
            "model": self.models.model_name,
            "settings": json.dumps(details),
            "versions": json.dumps(libraries),
            "Software": f"{NAME} {VERSION}",
        }


def kind_of(wish: Wish) -> str:
    """What a wish is called in the names of its pictures."""
    for kind, name in ((EditWish, "edit"), (GenerationWish, "image"), (MemoryWish, "memory")):
        if isinstance(wish, kind):
            return name
    return "subject"


def full_prompt(wish: Wish) -> str:
    """The prompt with the style after it."""
    return f"{wish.prompt}, {wish.style_prompt}" if wish.style_prompt else wish.prompt


def _cover(image: RGBImage, width: int, height: int) -> RGBImage:
    """Scaled until it covers the size, and cut to it around the middle."""
    scale = max(width / image.shape[1], height / image.shape[0])
    scaled_width, scaled_height = max(width, round(image.shape[1] * scale)), max(height, round(image.shape[0] * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = cv2.resize(image, (scaled_width, scaled_height), interpolation=method)
    left, top = (scaled_width - width) // 2, (scaled_height - height) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])
