"""A batch of pictures from one diffusion pipeline: adapters, seeds, edits, and what happens when memory runs out.

Each picture has a random generator of its own, so that it is the same picture whatever shares its batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np

from diffusion_models import Pipeline, SchedulerName, denoiser, make_scheduler
from fitting_batches import NO_MEMORY, OUT_OF_MEMORY_RETRY_S, FittingPipeline, Images, OnStep, Sample
from lora_adapters import Lora, LoraAdapters
from service.errors import BusyError, InvalidValueError
from utils import GrayImage, RGBImage

Task: TypeAlias = Literal["text", "image", "inpaint"]
SEEDS = 2**32
"""Seeds are below it."""
FEATHER = 4
"""Pixels inside the mask over which an edit fades into the picture it was made in."""


@dataclass(frozen=True, slots=True, eq=False)
class ImageRequest:
    """Pictures that are wanted.

    Attributes:
        width, height: pixels.
        steps: of denoising.
        guidance_scale: how closely the prompt is followed; at 1 and below the negative prompt has no effect.
        seed: of the first picture; each further one has the next.
        n: pictures.
        reference_rgb: what the IP-Adapter looks at, HxWx3 uint8, and `ip_adapter_scale` how much.
        image_rgb: the picture to start from, and `strength`, 0 to 1, how much of it may change.
        mask: the part to draw anew: HxW uint8 of `image_rgb`'s size, 255 is drawn.
    """

    prompt: str
    width: int
    height: int
    negative_prompt: str = ""
    steps: int = 30
    guidance_scale: float = 5.0
    seed: int = 0
    n: int = 1
    scheduler: SchedulerName = "default"
    loras: tuple[Lora, ...] = ()
    reference_rgb: RGBImage | None = None
    ip_adapter_scale: float = 0.6
    image_rgb: RGBImage | None = None
    mask: GrayImage | None = None
    strength: float = 0.8

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height

    @property
    def task(self) -> Task:
        """What kind of pipeline makes it."""
        if self.image_rgb is None:
            return "text"
        return "image" if self.mask is None else "inpaint"

    @property
    def shared(self) -> tuple[object, ...]:
        """What all requests of one batch have in common."""
        scale = None if self.reference_rgb is None else self.ip_adapter_scale
        strength = None if self.image_rgb is None else self.strength
        return (
            self.task, self.width, self.height, self.steps, self.guidance_scale, self.scheduler, self.loras,
            scale, strength,
        )  # fmt: skip

    @property
    def seeds(self) -> list[int]:
        """Of each picture: with it alone, the same picture is made again."""
        return [(self.seed + index) % SEEDS for index in range(self.n)]


class BatchPipeline(FittingPipeline):
    """A pipeline that makes batches. For one thread, since a pipeline keeps its state in itself."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__(pipeline)
        self._own_scheduler = pipeline.scheduler
        self._loras = LoraAdapters(pipeline)
        self._editors: dict[Task, Pipeline] = {}

    @property
    def has_ip_adapter(self) -> bool:
        """Whether pictures can be prompted with a picture."""
        return (
            getattr(getattr(denoiser(self.pipeline), "config", None), "encoder_hid_dim_type", None) == "ip_image_proj"
        )

    def check(self, request: ImageRequest) -> list[str]:
        """Refuse what this pipeline can't do, before anything waits for it; say what its text encoders can't read.

        Raises:
            InvalidValueError: the field, and what is wrong with it.
        """
        if request.reference_rgb is not None and not self.has_ip_adapter:
            raise InvalidValueError("reference image: the image model has no IP-Adapter. Set ENABLE_IP_ADAPTER=true.")
        takes = self._parameters("text")
        # Where there is a true_cfg_scale, the model was made to do without: guidance_scale is something else there.
        if request.negative_prompt and ("negative_prompt" not in takes or "true_cfg_scale" in takes):
            raise InvalidValueError(f"negative_prompt: {self.name} takes none.")
        try:
            scheduler = make_scheduler(self._own_scheduler, request.scheduler)
        except ValueError as error:
            raise InvalidValueError(f"scheduler: {request.scheduler} does not fit the image model: {error}.") from error
        most = scheduler.config.get("original_inference_steps")  # what LCM was distilled from
        if most and request.steps > most:
            raise InvalidValueError(f"num_inference_steps: this scheduler takes at most {most}.")
        if request.task != "text":
            self._pipeline_for(request.task)
            if int(request.steps * request.strength) < 1:
                raise InvalidValueError("strength: with so few steps nothing would change. Raise one of the two.")
        unread = {name: self._unread(getattr(request, name)) for name in ("prompt", "negative_prompt")}
        return [
            f"{name}: too long for the image model, which does not read: {rest}"
            for name, rest in unread.items()
            if rest
        ]

    def _unread(self, text: str) -> str:
        """The end of a text that none of the text encoders reads."""
        tokenizers = [getattr(self.pipeline, name, None) for name in ("tokenizer", "tokenizer_2", "tokenizer_3")]
        return min((_beyond(tokenizer, text) for tokenizer in tokenizers if tokenizer is not None), key=len, default="")

    def run(self, requests: Sequence[ImageRequest], on_step: OnStep) -> list[Images]:
        """The pictures of each request, HxWx3 uint8; None where the model's own safety checker blocked one.

        Raises:
            InvalidValueError: a LoRA does not fit.
            BusyError: the GPU's memory does not hold even one picture, with all networks offloaded.
        """
        import torch

        try:
            self._loras.use(requests[0].loras)
        except torch.OutOfMemoryError as error:
            raise BusyError(NO_MEMORY, retry_after_s=OUT_OF_MEMORY_RETRY_S) from error
        return super().run(requests, on_step)

    def draw(self, samples: list[Sample], on_step: OnStep) -> Images:
        """See the base class."""
        request = samples[0].request
        pipeline = self._pipeline_for(request.task)
        pipeline.scheduler = make_scheduler(self._own_scheduler, request.scheduler)
        wanted = self._arguments(samples, on_step)
        takes = self._parameters(request.task)
        with self._looking_at(pipeline, samples) as pictures:
            result = pipeline(**{name: value for name, value in (wanted | pictures).items() if name in takes})
        blocked = getattr(result, "nsfw_content_detected", None) or [False] * len(samples)
        images = (np.asarray(result.images) * 255).round().astype(np.uint8)
        return [
            None if hidden else _inside_mask(image, sample.request)
            for image, hidden, sample in zip(images, blocked, samples, strict=True)
        ]

    def _arguments(self, samples: list[Sample], on_step: OnStep) -> dict[str, Any]:
        import torch

        request = samples[0].request

        def step_ended(pipeline: Pipeline, step: int, _: object, tensors: dict[str, Any]) -> dict[str, Any]:
            def preview() -> list[tuple[Sample, RGBImage]]:
                return list(zip(samples, _decoded(pipeline, tensors["latents"]), strict=False))

            on_step(step + 1, getattr(pipeline, "num_timesteps", request.steps), preview)
            return tensors

        arguments: dict[str, Any] = {
            "prompt": [sample.request.prompt for sample in samples],
            "negative_prompt": [sample.request.negative_prompt for sample in samples],
            "width": request.width,
            "height": request.height,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
            "generator": [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples],
            "callback_on_step_end": step_ended,
            "output_type": "np",
        }
        if request.guidance_scale <= 1:
            del arguments["negative_prompt"]
        if request.task != "text":
            arguments["image"] = torch.stack([_tensor(sample.request.image_rgb) for sample in samples])
            arguments["strength"] = request.strength
        if request.task == "inpaint":
            arguments["mask_image"] = torch.stack([_tensor(sample.request.mask) for sample in samples])
        return arguments

    @contextmanager
    def _looking_at(self, pipeline: Pipeline, samples: list[Sample]) -> Iterator[dict[str, Any]]:
        """Arguments that give each sample its own picture to look at.

        A pipeline would repeat one picture for all: what it prepares is replaced by what was prepared for each. With
        an adapter and no picture it looks at nothing with scale 0, which is the same as without the adapter.
        """
        if not self.has_ip_adapter:
            yield {}
            return
        import torch

        request = samples[0].request
        pipeline.set_ip_adapter_scale(0.0 if request.reference_rgb is None else request.ip_adapter_scale)
        guided = request.guidance_scale > 1 and denoiser(pipeline).config.time_cond_proj_dim is None
        size = pipeline.image_encoder.config.image_size
        nothing: RGBImage = np.zeros((size, size, 3), np.uint8)
        seen: dict[int, Any] = {}
        with torch.no_grad():
            for each in {id(sample.request): sample.request for sample in samples}.values():
                picture = nothing if each.reference_rgb is None else each.reference_rgb
                [seen[id(each)]] = pipeline.prepare_ip_adapter_image_embeds(
                    [picture], None, pipeline._execution_device, 1, guided
                )
        embeds = torch.stack([seen[id(sample.request)] for sample in samples], dim=1).flatten(0, 1)
        pipeline.prepare_ip_adapter_image_embeds = lambda *_, **__: [embeds]
        try:
            yield {"ip_adapter_image_embeds": [embeds]}
        finally:
            del pipeline.prepare_ip_adapter_image_embeds

    def _pipeline_for(self, task: Task) -> Pipeline:
        """The pipeline of a task, of the same networks.

        Raises:
            InvalidValueError: there is none for this model.
        """
        if task == "text":
            return self.pipeline
        pipeline = self._editors.get(task)
        if pipeline is None:
            import diffusers

            auto = diffusers.AutoPipelineForImage2Image if task == "image" else diffusers.AutoPipelineForInpainting
            try:
                pipeline = auto.from_pipe(self.pipeline)
            except ValueError as error:
                raise InvalidValueError(f"image: {self.name} can't edit pictures.") from error
            pipeline.set_progress_bar_config(disable=True)
            self._editors[task] = pipeline
        return pipeline

    def _parameters(self, task: Task) -> frozenset[str]:
        return frozenset(inspect.signature(type(self._pipeline_for(task)).__call__).parameters)


def _beyond(tokenizer: Any, text: str) -> str:
    """What of a text lies beyond the tokens that its encoder takes."""
    tokens = tokenizer(text, add_special_tokens=False).input_ids
    most: int = tokenizer.model_max_length - tokenizer.num_special_tokens_to_add()
    return str(tokenizer.decode(tokens[most:]))


def _decoded(pipeline: Pipeline, latents: Any) -> list[RGBImage]:
    """Latents as pictures; none where a model packs them in a way of its own."""
    import torch

    vae = getattr(pipeline, "vae", None)
    if latents.ndim != 4 or vae is None:
        return []
    overflows = vae.dtype == torch.float16 and vae.config.force_upcast
    if overflows:  # SDXL's VAE in fp16 gives black, so its pipelines do the same
        vae.to(torch.float32)
    with torch.no_grad():
        images = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
    if overflows:
        vae.to(torch.float16)
    pixels = pipeline.image_processor.postprocess(images, output_type="np")
    return list((pixels * 255).round().astype(np.uint8))


def _tensor(values: RGBImage | GrayImage | None) -> Any:
    """CxHxW float32, 0 to 1: what the pipelines scale themselves."""
    import torch

    assert values is not None
    pixels = values[..., None] if values.ndim == 2 else values
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).float() / 255


def _inside_mask(image: RGBImage, request: ImageRequest) -> RGBImage:
    """What was drawn anew, in the picture it was drawn in: outside the mask every pixel is the picture's own."""
    if request.mask is None or request.image_rgb is None:
        return image
    drawn = (request.mask > 127).astype(np.uint8)
    inside = cv2.distanceTransform(cv2.copyMakeBorder(drawn, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_L2, 3)
    share = np.minimum(inside[1:-1, 1:-1, None] / FEATHER, 1)
    faded: RGBImage = (
        (request.image_rgb + share * (image.astype(np.float32) - request.image_rgb)).round().astype(np.uint8)
    )
    return faded
