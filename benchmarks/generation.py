"""Times SDXL and InstantID beside diffusers' plain loop: `python -m benchmarks.generation`.

On a GPU at SDXL's true shapes with random weights, which take as long as trained ones; on a CPU with tiny ones, to see
that everything runs. A figure is the median of several pictures; memory is the highest that PyTorch had at once.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetInpaintPipeline
from rich.console import Console
from rich.table import Table

from benchmarks.random_sdxl import TINY, TRUE, Shapes, instantid, teraflops, text_to_image
from diffusion_models import place
from generation_batch import BatchPipeline, ImageRequest
from head_canvas import draw_keypoints
from identity_diffusion import FACE_DIMENSION, IdentityPipeline, IdentityRequest

PROMPT = "portrait of a young girl, picture book illustration, ink outlines"
NEGATIVE = "photograph, blurry"
GUIDANCE, STRENGTH, SCALE = 5.0, 1.0, 0.8
BATCH = 4
SINGLE_TARGET_S, BATCH_TARGET_S, RATIO_TARGET = 1.2, 0.75, 1.8
"""On an H200, at 30 steps and 1024x1024."""
MATRIX = 8192


class IdentityNet(ControlNetModel):  # type: ignore[misc]
    """InstantID in diffusers' own pipeline: a ControlNet that looks at an identity's tokens instead of the prompt."""

    tokens: Any = None

    def forward(self, sample: Any, timestep: Any, encoder_hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        seen = encoder_hidden_states if self.tokens is None else self.tokens
        return super().forward(sample, timestep, seen, *args, **kwargs)


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it runs, how precisely, and how fast it multiplies matrices (10^12 operations a second)."""

    device: str
    dtype: torch.dtype
    name: str
    matmul_tflops: float

    @classmethod
    def here(cls, device: str) -> Machine:
        """This one."""
        if device == "cpu":
            return cls(device, torch.float32, "CPU", _matmul_tflops(device, torch.float32, 1024))
        name = torch.cuda.get_device_name()
        return cls(device, torch.bfloat16, name, _matmul_tflops(device, torch.bfloat16, MATRIX))


@dataclass(frozen=True, slots=True)
class Figure:
    """Seconds and memory (GiB; None on a CPU) of one picture, and the 10^12 operations that it takes."""

    what: str
    seconds: float
    teraflop: float
    memory_gib: float | None
    plain_s: float | None = None
    target: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time image generation beside diffusers' plain loop.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--runs", type=int, default=3, help="timed pictures of each figure (default 3)")
    parser.add_argument("--steps", type=int, help="of denoising (default 30, on a CPU 3)")
    parser.add_argument("--tiny", action="store_true", help="tiny networks on a GPU as well")
    parser.add_argument("--no-compile", action="store_true", help="leave the networks as they are")
    options = parser.parse_args(arguments)
    on_cpu = options.device == "cpu"
    shapes = TINY if on_cpu or options.tiny else TRUE
    steps = options.steps or (3 if on_cpu else 30)
    compiled = not (on_cpu or options.no_compile)
    console = Console(width=None if sys.stdout.isatty() else 118)
    if on_cpu:
        torch.set_num_threads(1)  # networks this small only lose by more
    with torch.no_grad():
        machine, cost = Machine.here(options.device), teraflops(shapes)
        bench = _Bench(machine, shapes, steps, options.runs, cost, compiled=compiled)
        with console.status("drawing from text"):
            figures = bench.text_to_image()
        with console.status("drawing a certain person"):
            figures += bench.instantid()
    _print(console, figures, bench)
    return 0


class _Bench:
    """The figures of one machine."""

    def __init__(
        self, machine: Machine, shapes: Shapes, steps: int, runs: int, cost: dict[str, float], *, compiled: bool
    ) -> None:
        self.machine, self.shapes, self.steps, self.runs = machine, shapes, steps, runs
        self.cost, self.compiled = cost, compiled
        self.vae_s = 0.0

    def text_to_image(self) -> list[Figure]:
        """diffusers' plain loop, then the service's own on the same networks, alone and as a batch."""
        side = self.shapes.side
        pipeline = text_to_image(self.shapes, self.machine.device, self.machine.dtype)
        teraflop = 2 * self.steps * self.cost["unet"] + self.cost["vae_decode"]  # with and without the prompt
        plain_s, memory = self._timed(
            lambda: pipeline(
                PROMPT, negative_prompt=NEGATIVE, height=side, width=side, num_inference_steps=self.steps,
                guidance_scale=GUIDANCE, output_type="np",
            )
        )  # fmt: skip
        figures = [Figure("text to image, diffusers' plain loop", plain_s, teraflop, memory)]
        self.vae_s, _ = self._timed(lambda: self._decode(pipeline))
        place(pipeline, self.machine.device, "none")  # channels last
        if self.compiled:
            pipeline.unet.compile_repeated_blocks(fullgraph=True)
        ours = BatchPipeline(pipeline)
        for n, target_s in ((1, SINGLE_TARGET_S), (BATCH, BATCH_TARGET_S)):
            request = ImageRequest(PROMPT, side, side, NEGATIVE, steps=self.steps, guidance_scale=GUIDANCE, n=n)
            seconds, memory = self._timed(partial(ours.run, [request], _nothing))
            target = f"<= {target_s} s" + (f", >= {RATIO_TARGET}x" if n == 1 else "")
            figures.append(Figure(_name("text to image", n), seconds / n, teraflop, memory, plain_s, target))
        return figures

    def instantid(self) -> list[Figure]:
        """The same for a person drawn into a page: IdentityNet and the adapter beside the UNet."""
        side = self.shapes.side
        pipeline = instantid(self.shapes, self.machine.device, self.machine.dtype, net=IdentityNet)
        step = self.cost["unet"] + self.cost["controlnet"]
        teraflop = 2 * self.steps * step + self.cost["vae_decode"] + self.cost["vae_encode"]
        request = _identity_request(side, self.steps)
        plain_s, memory = self._timed(lambda: _by_diffusers(pipeline, request))
        figures = [Figure("InstantID, diffusers' plain loop", plain_s, teraflop, memory)]
        pipeline.controlnet.tokens = None
        place(pipeline, self.machine.device, "none")
        if self.compiled:
            pipeline.unet.compile_repeated_blocks(fullgraph=True)
        ours = IdentityPipeline(pipeline, "instantid", compiled=self.compiled)
        for n in (1, BATCH):
            wanted = _identity_request(side, self.steps, n=n)
            seconds, memory = self._timed(partial(ours.run, [wanted], _nothing))
            figures.append(Figure(_name("InstantID", n), seconds / n, teraflop, memory, plain_s))
        return figures

    def _decode(self, pipeline: Any) -> None:
        side = self.shapes.side // 8
        pipeline.vae.decode(torch.zeros(1, 4, side, side, device=self.machine.device, dtype=self.machine.dtype))

    def _timed(self, call: Callable[[], Any]) -> tuple[float, float | None]:
        """Median seconds after one untimed call, which also compiles; and peak memory in GiB."""
        on_gpu = self.machine.device == "cuda"
        call()
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(self.runs):
            start = time.perf_counter()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds), torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None


def _identity_request(side: int, steps: int, *, n: int = 1) -> IdentityRequest:
    rng = np.random.default_rng(0)
    kps = np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.43, 0.6], [0.57, 0.6]], np.float32) * side
    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    return IdentityRequest(
        picture=rng.integers(0, 255, (side, side, 3), np.uint8),
        mask=mask,
        keypoints=draw_keypoints(kps, side),
        person=rng.normal(size=FACE_DIMENSION).astype(np.float32),
        prompt=PROMPT,
        negative_prompt=NEGATIVE,
        strength=STRENGTH,
        identity_scale=SCALE,
        pose_scale=SCALE,
        guidance_scale=GUIDANCE,
        steps=steps,
        n=n,
    )


def _by_diffusers(pipeline: StableDiffusionXLControlNetInpaintPipeline, request: IdentityRequest) -> Any:
    weight = pipeline.unet.conv_in.weight
    person = torch.from_numpy(request.person).to(weight)
    pair = torch.stack([torch.zeros_like(person), person])[:, None, None]
    pipeline.controlnet.tokens = pipeline.unet.encoder_hid_proj.image_projection_layers[0](pair[:, 0])
    pipeline.set_ip_adapter_scale(request.identity_scale)
    assert request.keypoints is not None
    return pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=torch.from_numpy(request.picture).permute(2, 0, 1)[None] / 255,
        mask_image=torch.from_numpy(request.mask)[None, None] / 255,
        control_image=torch.from_numpy(request.keypoints).permute(2, 0, 1)[None] / 255,
        ip_adapter_image_embeds=[pair],
        controlnet_conditioning_scale=request.pose_scale,
        height=request.side,
        width=request.side,
        num_inference_steps=request.steps,
        strength=request.strength,
        guidance_scale=request.guidance_scale,
        output_type="np",
    )


def _matmul_tflops(device: str, dtype: torch.dtype, size: int) -> float:
    """What one large product reaches: the floor that no network gets below on this machine."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        product = a @ b
        float(product[0, 0])  # waits for it
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12


def _name(what: str, n: int) -> str:
    return f"{what}, ours" if n == 1 else f"{what}, ours, {n} at once"


def _nothing(*_: object) -> None:
    """No progress is wanted."""


def _print(console: Console, figures: list[Figure], bench: _Bench) -> None:
    machine = bench.machine
    table = Table(
        title=f"Seconds for one {bench.shapes.side}x{bench.shapes.side} picture, {bench.steps} steps with guidance, "
        f"median of {bench.runs}; {machine.name}, {str(machine.dtype).removeprefix('torch.')}, "
        f"{'compiled' if bench.compiled else 'not compiled'}, PyTorch {torch.__version__}"
    )
    for heading in ("what", "s a picture", "against plain", "TFLOP", "floor s", "of the floor", "peak GiB", "target"):
        table.add_column(heading, overflow="fold")
    for figure in figures:
        floor_s = figure.teraflop / machine.matmul_tflops
        table.add_row(
            figure.what,
            f"{figure.seconds:.3f}",
            "" if figure.plain_s is None else f"{figure.plain_s / figure.seconds:.2f}x",
            f"{figure.teraflop:.4g}",
            f"{floor_s:.3g}",
            f"{figure.seconds / floor_s:.1f}x",
            "" if figure.memory_gib is None else f"{figure.memory_gib:.1f}",
            figure.target if bench.shapes is TRUE else "",
        )
    console.print(table)
    single = next(figure for figure in figures if figure.what.endswith("ours"))
    console.print(
        f"The floor is what the operations take at {machine.matmul_tflops:.3g} TFLOPS, this machine's own rate for one "
        f"large product. Decoding takes {bench.vae_s:.4f} s, {bench.vae_s / single.seconds:.0%} of a picture."
    )


if __name__ == "__main__":
    sys.exit(main())
