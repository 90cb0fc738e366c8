"""SDXL inpainting that draws a certain person at a certain place: InstantID, or IP-Adapter plus-face.

Loading, prompts and pictures are diffusers'. The loop over the steps is ours, because InstantID is in no pipeline of
the library, and because its loop for inpainting waits for the GPU at every step (it reads the noise's time back). Here
the identity's tokens are made once and not at each step, noise levels stay on the CPU, and nothing is read back before
the last picture is done. `tests/test_identity_diffusion.py` holds both loops to the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from diffusion_models import (
    IPAdapterFiles,
    Pipeline,
    PipelineFiles,
    PipelineOptions,
    load_controlnet,
    load_pipeline,
    make_scheduler,
)
from fitting_batches import FittingPipeline, Images, OnStep, Sample
from generation_batch import SEEDS
from utils import FloatArray, GrayImage, RGBImage

Kind: TypeAlias = Literal["instantid", "ip-adapter"]
Tensor: TypeAlias = Any
"""A torch.Tensor. PyTorch is imported when a pipeline is loaded, and typed in part only."""

FACE_DIMENSION = 512
"""Numbers of the face embedding that InstantID reads: the one of antelopev2's recogniser."""


@dataclass(frozen=True, slots=True)
class IdentityFiles:
    """Where the weights lie.

    Attributes:
        base: SDXL, as a diffusers folder or a single checkpoint.
        folder: InstantID's files, or IP-Adapter's.
    """

    kind: Kind
    base: PipelineFiles
    folder: Path


CONTROLNET = "ControlNetModel"
INSTANTID_FILES = ("ip-adapter.bin", f"{CONTROLNET}/config.json", f"{CONTROLNET}/diffusion_pytorch_model.safetensors")
PLUS_FACE = "sdxl_models/ip-adapter-plus-face_sdxl_vit-h.safetensors"
PLUS_FACE_ENCODER = "models/image_encoder"
PLUS_FACE_FILES = (PLUS_FACE, f"{PLUS_FACE_ENCODER}/config.json", f"{PLUS_FACE_ENCODER}/model.safetensors")
FILES: dict[Kind, tuple[str, ...]] = {"instantid": INSTANTID_FILES, "ip-adapter": PLUS_FACE_FILES}
"""What each kind needs in its folder, laid out as it is published."""


@dataclass(frozen=True, slots=True, eq=False)
class IdentityRequest:
    """A head to be drawn anew on a square canvas, in `n` variants.

    Attributes:
        picture: side x side x 3 uint8 RGB: the page, with the person drawn in already.
        mask: side x side uint8: above 127 is drawn anew.
        keypoints: side x side x 3 uint8 RGB: the pose, see `head_canvas.draw_keypoints`. InstantID only.
        person: (512,) the recogniser's own vector, not normalised (InstantID); or a photo of the face, HxWx3 uint8 RGB.
        strength: 0..1, how much of what is masked may change.
        identity_scale, pose_scale: weight of the adapter and of IdentityNet.
        guidance_scale: how closely the prompt is followed; at 1 and below the negative prompt has no effect.
        seed: of the first variant; each further one has the next.
    """

    picture: RGBImage
    mask: GrayImage
    keypoints: RGBImage | None
    person: FloatArray | RGBImage
    prompt: str
    negative_prompt: str = ""
    strength: float = 0.7
    identity_scale: float = 0.8
    pose_scale: float = 0.8
    guidance_scale: float = 5.0
    steps: int = 30
    seed: int = 0
    n: int = 1

    @property
    def side(self) -> int:
        """Pixels of the canvas' side: a multiple of 64."""
        return len(self.picture)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.side, self.side

    @property
    def shared(self) -> tuple[object, ...]:
        """What all requests of one batch have in common."""
        return self.side, self.steps, self.strength, self.guidance_scale, self.pose_scale

    @property
    def steps_run(self) -> int:
        """Of `steps`, those that `strength` leaves."""
        return min(int(self.steps * self.strength), self.steps)

    @property
    def seeds(self) -> list[int]:
        """Of each variant: with it alone, the same picture is made again."""
        return [(self.seed + index) % SEEDS for index in range(self.n)]


@dataclass(frozen=True, slots=True)
class _Conditions:
    """What one request means to the networks. Those of guidance come in pairs: without and with, (2, ...)."""

    text: Tensor
    pooled: Tensor
    tokens: Tensor
    control: Tensor | None
    latents: Tensor
    mask: Tensor
    masked_latents: Tensor | None


class IdentityPipeline(FittingPipeline):
    """One loaded pipeline. For one thread, since it keeps its state in itself."""

    def __init__(self, pipeline: Pipeline, kind: Kind, *, compiled: bool = False) -> None:
        """`pipeline`: an SDXL inpainting pipeline with the adapter loaded, and a ControlNet for InstantID.

        Its networks are changed: diffusers' own pipelines can't use them any more.
        """
        from identity_networks import prepare_networks

        super().__init__(pipeline)
        self.kind = kind
        if pipeline.vae.config.force_upcast and self.dtype == "float16":
            pipeline.vae.float()  # SDXL's own overflows in half precision
        pipeline.vae.enable_slicing()
        self._runs_on = str(pipeline._execution_device)
        self._dtype = pipeline.unet.dtype  # looked up once: it is searched for among all layers
        # What makes tokens of a person. The UNet would run it at each step.
        self._resampler = pipeline.unet.encoder_hid_proj.image_projection_layers[0].to(self._runs_on)
        pipeline.unet.encoder_hid_proj = None
        self._adapters = prepare_networks(pipeline, compiled=compiled)

    @classmethod
    def load(cls, files: IdentityFiles, options: PipelineOptions) -> Self:
        """From disk.

        Raises:
            ModelUnavailableError: PyTorch, a file or the GPU is missing, or a file is damaged.
        """
        adapter = IPAdapterFiles(files.folder, "ip-adapter.bin", None)
        components: dict[str, Any] = {}
        pipeline_class = "StableDiffusionXLControlNetInpaintPipeline"
        if files.kind == "ip-adapter":
            adapter = IPAdapterFiles(files.folder, PLUS_FACE, PLUS_FACE_ENCODER)
            pipeline_class = "StableDiffusionXLInpaintPipeline"
        else:
            components["controlnet"] = load_controlnet(files.folder / CONTROLNET, options)
        base = replace(files.base, ip_adapter=adapter)
        pipeline = load_pipeline(base, options, pipeline_class=pipeline_class, **components)
        return cls(pipeline, files.kind, compiled=options.compile)

    def check(self, request: IdentityRequest) -> list[str]:  # noqa: ARG002
        """See the base class; a request is made by `instant_id_styler`, from what was checked."""
        return []

    def draw(self, samples: list[Sample], on_step: OnStep) -> Images:
        """See the base class: one picture (side x side x 3) for each sample."""
        import torch

        shared: IdentityRequest = samples[0].request
        if shared.steps_run == 0:
            return [sample.request.picture.copy() for sample in samples]
        with torch.inference_mode():
            known: dict[int, _Conditions] = {}
            for sample in samples:
                if id(sample.request) not in known:
                    known[id(sample.request)] = self._conditions(sample.request)
            noise = torch.stack([self._noise(sample.request, sample.seed) for sample in samples])
            scales = torch.tensor([sample.request.identity_scale for sample in samples], dtype=self._dtype)
            latents = self._denoise(shared, [known[id(sample.request)] for sample in samples], noise, scales, on_step)
            return self._pictures(latents)

    def _conditions(self, request: IdentityRequest) -> _Conditions:
        import torch

        pipeline = self.pipeline
        text, no_text, pooled, no_pooled = pipeline.encode_prompt(
            request.prompt, negative_prompt=request.negative_prompt, device=self._runs_on, num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )  # fmt: skip
        pixels = _scaled(request.picture, self._runs_on) * 2 - 1
        mask = (_scaled(request.mask[..., None], self._runs_on) > 0.5).float()
        own_input = pipeline.unet.config.in_channels == 4
        return _Conditions(
            text=torch.cat([no_text, text]).to(self._dtype),
            pooled=torch.cat([no_pooled, pooled]).to(self._dtype),
            tokens=self._tokens(request.person),
            control=None if request.keypoints is None else _scaled(request.keypoints, self._runs_on).to(self._dtype),
            latents=self._encode(pixels),
            mask=torch.nn.functional.interpolate(mask, scale_factor=1 / pipeline.vae_scale_factor),
            masked_latents=None if own_input else self._encode(pixels * (mask < 0.5)),
        )

    def _tokens(self, person: FloatArray | RGBImage) -> Tensor:
        """(2, tokens, width): of nobody and of the person."""
        import torch

        if self.kind == "instantid":
            vector = torch.from_numpy(person.astype(np.float32)).to(self._runs_on, self._dtype)
            pair = torch.stack([torch.zeros_like(vector), vector])[:, None]
        else:
            features, nothing = self.pipeline.encode_image(person, self._runs_on, 1, output_hidden_states=True)
            pair = torch.cat([nothing, features]).to(self._dtype)
        return self._resampler(pair)

    def _encode(self, pixels: Tensor) -> Tensor:
        """Latents of pixels -1..1, float32; the distribution's middle, so that only the seed is random."""
        vae = self.pipeline.vae
        return vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float() * vae.config.scaling_factor

    def _noise(self, request: IdentityRequest, seed: int) -> Tensor:
        """From the CPU, where it is the same on every machine and in every batch."""
        import torch

        side = request.side // self.pipeline.vae_scale_factor
        shape = (self.pipeline.vae.config.latent_channels, side, side)
        return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed)).to(self._runs_on)

    def _denoise(
        self, shared: IdentityRequest, conditions: Sequence[_Conditions], noise: Tensor, scales: Tensor, on_step: OnStep
    ) -> Tensor:
        """Latents (batch, 4, side, side) float32. Samples without guidance come first, then the same with it."""
        import torch

        unet, control_net = self.pipeline.unet, getattr(self.pipeline, "controlnet", None)
        guided = shared.guidance_scale > 1

        def paired(values: Sequence[Tensor]) -> Tensor:
            """From (2, ...) each to (2 * batch, ...), or to (batch, ...) where nothing is guided."""
            stacked = torch.stack(list(values), dim=1)
            return (stacked if guided else stacked[1:]).flatten(0, 1)

        def for_both(values: Tensor) -> Tensor:
            return torch.cat([values, values]) if guided else values

        text, tokens = paired([c.text for c in conditions]), paired([c.tokens for c in conditions])
        own = [shared.side, shared.side, 0, 0, shared.side, shared.side]  # SDXL's: original size, crop, target size
        times = torch.tensor([own] * len(text), dtype=self._dtype, device=self._runs_on)
        added = {"text_embeds": paired([c.pooled for c in conditions]), "time_ids": times}
        for adapter in self._adapters:
            adapter.scale = for_both(scales).to(self._runs_on)[:, None, None]
        known, mask = (torch.cat([getattr(c, name) for c in conditions]) for name in ("latents", "mask"))
        inpainting: list[Tensor] = []
        if conditions[0].masked_latents is not None:
            inpainting = [for_both(mask), for_both(torch.cat([c.masked_latents for c in conditions]))]
        control: dict[str, Any] = {}
        if control_net is not None:
            control = {
                "encoder_hidden_states": tokens,
                "controlnet_cond": for_both(torch.cat([c.control for c in conditions])),
                "conditioning_scale": shared.pose_scale,
            }
        scheduler = make_scheduler(self.pipeline.scheduler, "euler")
        scheduler.set_timesteps(shared.steps, device=self._runs_on)
        first = shared.steps - shared.steps_run
        scheduler.set_begin_index(first)
        begun = known + noise * scheduler.sigmas[first]
        latents = begun if shared.strength < 1 else noise * scheduler.init_noise_sigma
        for index, time in enumerate(scheduler.timesteps[first:], start=first):
            scaled = for_both(scheduler.scale_model_input(latents, time)).to(self._dtype)
            residuals: dict[str, Any] = {}
            if control_net is not None:
                down, middle = control_net(scaled, time, added_cond_kwargs=added, return_dict=False, **control)
                residuals = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
            seen = torch.cat([scaled, *(part.to(self._dtype) for part in inpainting)], dim=1) if inpainting else scaled
            [predicted] = unet(
                seen, time, encoder_hidden_states=(text, tokens), added_cond_kwargs=added, return_dict=False,
                **residuals,
            )  # fmt: skip
            predicted = predicted.float()
            if guided:
                without, with_prompt = predicted.chunk(2)
                predicted = without + shared.guidance_scale * (with_prompt - without)
            [latents, *_] = scheduler.step(predicted, time, latents, return_dict=False)
            if not inpainting:  # a UNet of its own leaves what is not masked as it is
                latents = torch.lerp(known + noise * scheduler.sigmas[index + 1], latents, mask)
            on_step(index + 1 - first, shared.steps_run)
        return latents

    def _pictures(self, latents: Tensor) -> Images:
        vae = self.pipeline.vae
        decoded = vae.decode((latents / vae.config.scaling_factor).to(vae.dtype), return_dict=False)[0]
        pixels = (decoded.float() / 2 + 0.5).clamp(0, 1).mul(255).round().byte()
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def _scaled(pixels: RGBImage, device: str) -> Tensor:
    """1xCxHxW float32, 0 to 1."""
    import torch

    values = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]
    return values.to(device).float() / 255
