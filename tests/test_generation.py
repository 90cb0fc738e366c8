"""Pictures from tiny real pipelines: batches, seeds, adapters, edits, and what happens when memory runs out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from diffusion_models import IPAdapterFiles, PipelineFiles, PipelineOptions, load_pipeline
from fitting_batches import Images, OnStep
from generation import Generator, Ticket, Watcher
from generation_batch import BatchPipeline, ImageRequest
from instant_id_styler import InstantIdStyler, StylerOptions, no_progress
from lora_adapters import Lora
from service.errors import BusyError, InvalidValueError, ModelUnavailableError, NotFoundError
from service.image_jobs import _awaited
from utils import RGBImage

CAT = ImageRequest("a cat in a hat", 64, 64, steps=3, seed=7)
CPU = PipelineOptions(device="cpu")


def made(pipeline: BatchPipeline, *requests: ImageRequest) -> list[RGBImage]:
    """Every picture of one batch."""
    images = [image for each in pipeline.run(requests, lambda *_: None) for image in each]
    assert all(image is not None for image in images)
    return [image for image in images if image is not None]


def difference(one: RGBImage, other: RGBImage) -> int:
    """The largest difference of any value: rounding of a batch may make 1."""
    return int(np.abs(one.astype(int) - other).max())


def picture(seed: int, *, size: int = 64) -> RGBImage:
    """Coloured squares."""
    squares = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return squares.repeat(size // 4, 0).repeat(size // 4, 1)


@pytest.fixture(scope="module")
def plain(sdxl: Path) -> BatchPipeline:
    return BatchPipeline(load_pipeline(PipelineFiles(sdxl), CPU))


@pytest.fixture(scope="module", params=["whole", "patches"])
def looking(sdxl: Path, ip_adapter: Path, tmp_path_factory: pytest.TempPathFactory, request: Any) -> BatchPipeline:
    """With an IP-Adapter that sees a picture as a whole, or patch by patch."""
    adapter = IPAdapterFiles(ip_adapter, "sdxl_models/ip-adapter.safetensors", "models/image_encoder")
    if request.param == "patches":
        from tests.diffusion_folders import make_plus_face

        folder = make_plus_face(tmp_path_factory.mktemp("plus") / "face", sdxl)
        weights = "sdxl_models/ip-adapter-plus-face_sdxl_vit-h.safetensors"
        adapter = IPAdapterFiles(folder, weights, "models/image_encoder")
    return BatchPipeline(load_pipeline(PipelineFiles(sdxl, ip_adapter=adapter), CPU))


def test_a_picture_has_the_size_that_was_asked_for_and_is_the_same_again(plain: BatchPipeline) -> None:
    wide = replace(CAT, width=96)
    [one], [again] = made(plain, wide), made(plain, wide)
    assert one.shape == (64, 96, 3)
    assert one.dtype == np.uint8
    assert difference(one, again) == 0


CHANGES: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "a dog on a log"},
    "negative_prompt": {"negative_prompt": "blue"},
    "steps": {"steps": 5},
    "guidance_scale": {"guidance_scale": 9.0},
    "seed": {"seed": 8},
    "scheduler": {"scheduler": "dpmpp_2m"},
    "ancestral": {"scheduler": "euler_ancestral"},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_parameter_changes_the_picture(plain: BatchPipeline, change: dict[str, Any]) -> None:
    assert difference(made(plain, CAT)[0], made(plain, replace(CAT, **change))[0]) > 3


def test_at_guidance_1_the_negative_prompt_has_no_effect(plain: BatchPipeline) -> None:
    free = replace(CAT, guidance_scale=1.0)
    assert difference(made(plain, free)[0], made(plain, replace(free, negative_prompt="blue"))[0]) == 0


@pytest.mark.parametrize("scheduler", ["default", "dpmpp_2m", "euler_ancestral", "lcm"])
def test_each_picture_of_a_batch_is_the_one_that_it_is_alone(plain: BatchPipeline, scheduler: Any) -> None:
    requests = [
        replace(CAT, scheduler=scheduler, n=2),
        replace(CAT, scheduler=scheduler, prompt="a dog", negative_prompt="red", seed=99),
    ]
    together = made(plain, *requests)
    alone = [made(plain, replace(request, seed=seed, n=1))[0] for request in requests for seed in request.seeds]
    assert [difference(*pair) <= 1 for pair in zip(together, alone, strict=True)] == [True] * 3
    assert difference(together[0], together[1]) > 3


def test_a_stable_diffusion_1_model_works_the_same(tmp_path: Path) -> None:
    from tests.diffusion_folders import make_sd

    pipeline = BatchPipeline(load_pipeline(PipelineFiles(make_sd(tmp_path / "sd")), CPU))
    assert pipeline.name == "StableDiffusionPipeline"
    one, other = made(pipeline, replace(CAT, n=2))
    assert difference(one, made(pipeline, CAT)[0]) <= 1
    assert difference(one, other) > 3


def test_a_flow_of_a_transformer_works_too_and_says_what_it_cannot_do(tmp_path: Path) -> None:
    from tests.diffusion_folders import make_flux

    pipeline = BatchPipeline(load_pipeline(PipelineFiles(make_flux(tmp_path / "flux")), CPU))
    one, other = made(pipeline, replace(CAT, n=2))
    assert difference(other, made(pipeline, replace(CAT, seed=8))[0]) <= 1
    assert difference(one, made(pipeline, replace(CAT, prompt="a dog"))[0]) > 3
    edit = replace(CAT, image_rgb=picture(1), steps=4, strength=0.5)
    pipeline.check(edit)
    assert difference(made(pipeline, edit)[0], made(pipeline, replace(edit, image_rgb=picture(2)))[0]) > 3
    for change in ({"negative_prompt": "blue"}, {"scheduler": "ddim"}, {"reference_rgb": picture(1)}):
        with pytest.raises(InvalidValueError):
            pipeline.check(replace(CAT, **change))
    seen: list[int] = []
    pipeline.run([CAT], lambda done, of, preview=list: seen.append(len(preview())))  # noqa: ARG005
    assert seen == [0, 0, 0], "packed latents are no pictures"


def test_with_an_adapter_a_request_without_a_picture_is_drawn_as_without_it(
    plain: BatchPipeline, looking: BatchPipeline
) -> None:
    assert difference(made(plain, CAT)[0], made(looking, CAT)[0]) == 0


def test_scale_0_is_as_without_the_adapter_and_more_changes_more(looking: BatchPipeline) -> None:
    base = made(looking, CAT)[0]
    seen = [
        made(looking, replace(CAT, reference_rgb=picture(1), ip_adapter_scale=scale))[0] for scale in (0.0, 0.2, 0.9)
    ]
    assert difference(base, seen[0]) == 0
    assert 3 < np.abs(base.astype(int) - seen[1]).mean() < np.abs(base.astype(int) - seen[2]).mean()


@pytest.mark.parametrize("guidance_scale", [5.0, 1.0])
def test_each_of_a_batch_looks_at_its_own_picture(looking: BatchPipeline, guidance_scale: float) -> None:
    requests = [replace(CAT, reference_rgb=picture(seed), guidance_scale=guidance_scale, n=2) for seed in (1, 2)]
    together = made(looking, *requests)
    alone = [made(looking, request)[0] for request in requests]
    assert difference(together[0], alone[0]) <= 1
    assert difference(together[2], alone[1]) <= 1
    assert difference(alone[0], alone[1]) > 3


def test_a_picture_to_look_at_needs_the_adapter(plain: BatchPipeline) -> None:
    with pytest.raises(InvalidValueError, match="ENABLE_IP_ADAPTER"):
        plain.check(replace(CAT, reference_rgb=picture(1)))


def test_loras_are_swapped_and_leave_nothing_behind(plain: BatchPipeline, loras: Path) -> None:
    def drawn(*names: str, scale: float = 1.0) -> RGBImage:
        chosen = tuple(Lora("style", loras / f"{name}.safetensors", scale) for name in names)
        return made(plain, replace(CAT, loras=chosen))[0]

    base, ink, paint, text = drawn(), drawn("ink"), drawn("paint"), drawn("text")
    assert min(difference(base, ink), difference(ink, paint), difference(paint, text), difference(base, text)) > 3
    assert difference(ink, drawn("ink")) == 0
    assert difference(base, drawn()) == 0
    assert difference(paint, drawn("paint")) == 0
    assert difference(text, drawn("text")) == 0
    assert 0 < difference(base, drawn("ink", scale=0.2)) < difference(base, ink)


def test_two_loras_of_two_places_work_together(plain: BatchPipeline, loras: Path) -> None:
    style, preview = Lora("style", loras / "ink.safetensors"), Lora("preview", loras / "paint.safetensors")
    alone = made(plain, replace(CAT, loras=(style,)))[0]
    both = made(plain, replace(CAT, loras=(preview, style)))[0]
    assert difference(alone, both) > 3
    assert difference(alone, made(plain, replace(CAT, loras=(style,)))[0]) == 0


def test_what_is_no_lora_is_refused_and_the_next_request_is_unharmed(
    plain: BatchPipeline, loras: Path, tmp_path: Path, sdxl: Path
) -> None:
    base = made(plain, CAT)[0]
    noise, whole = tmp_path / "noise.safetensors", tmp_path / "whole.safetensors"
    noise.write_bytes(b"no tensors at all")
    whole.write_bytes((sdxl / "vae" / "diffusion_pytorch_model.safetensors").read_bytes())
    for file in (noise, whole):
        with pytest.raises(InvalidValueError, match=file.stem):
            made(plain, replace(CAT, loras=(Lora("style", file),)))
        assert difference(base, made(plain, CAT)[0]) == 0
    with pytest.raises(NotFoundError):
        made(plain, replace(CAT, loras=(Lora("style", tmp_path / "gone.safetensors"),)))
    ink = made(plain, replace(CAT, loras=(Lora("style", loras / "ink.safetensors"),)))[0]
    assert difference(base, ink) > 3


def test_an_edit_starts_from_its_picture(plain: BatchPipeline) -> None:
    little = replace(CAT, image_rgb=picture(1), strength=0.4)
    much = replace(little, strength=1.0)
    assert difference(made(plain, little)[0], made(plain, much)[0]) > 3
    other = replace(little, image_rgb=picture(2))
    together = made(plain, little, other)
    assert difference(together[1], made(plain, other)[0]) <= 1
    with pytest.raises(InvalidValueError, match="strength"):
        plain.check(replace(little, strength=0.1))


def test_outside_the_mask_an_edit_changes_nothing(plain: BatchPipeline) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 16:48] = 255
    edit = replace(CAT, image_rgb=picture(1), mask=mask, strength=1.0)
    [image] = made(plain, edit)
    assert (image[mask == 0] == picture(1)[mask == 0]).all()
    assert difference(image[24:40, 24:40], picture(1)[24:40, 24:40]) > 3


def test_progress_counts_the_steps(plain: BatchPipeline) -> None:
    steps: list[tuple[int, int]] = []
    plain.run([CAT], lambda done, of, *_: steps.append((done, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


@contextmanager
def memory_for(pictures: int, pipeline: BatchPipeline) -> Iterator[list[int]]:
    """The UNet refuses more than so many pictures, as CUDA would; gives the batches that it saw."""
    import torch

    seen: list[int] = []

    def refuse(_: Any, arguments: Any) -> None:
        seen.append(len(arguments[0]) // 2)  # with and without the prompt
        if seen[-1] > pictures:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    hook = pipeline.pipeline.unet.register_forward_pre_hook(refuse)
    try:
        yield seen
    finally:
        hook.remove()
        pipeline._most.clear()


def test_where_memory_is_short_a_batch_is_halved_and_the_size_remembered(plain: BatchPipeline) -> None:
    whole = made(plain, replace(CAT, n=4))
    with memory_for(1, plain) as seen:
        parts = made(plain, replace(CAT, n=4))
        assert [difference(*pair) <= 1 for pair in zip(whole, parts, strict=True)] == [True] * 4
        assert seen[:3] == [4, 2, 1]
        seen.clear()
        made(plain, replace(CAT, n=2))
        assert set(seen) == {1}


@pytest.mark.filterwarnings("ignore:.upcast_vae:FutureWarning")  # diffusers calls it itself
def test_where_decoding_takes_too_much_memory_half_precision_is_kept(sdxl: Path) -> None:
    """SDXL's VAE decodes in fp32: interrupted there, it must be given back in fp16."""
    import torch

    pipeline = BatchPipeline(load_pipeline(PipelineFiles(sdxl), replace(CPU, dtype="fp16")))
    vae, seen = pipeline.pipeline.vae, []
    decode = vae.decode

    def refuse(latents: Any, **options: Any) -> Any:
        seen.append((len(latents), vae.dtype))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return decode(latents, **options)

    vae.decode = refuse
    edit = replace(CAT, image_rgb=picture(1))
    assert [len(made(pipeline, request)) for request in (replace(CAT, n=2), CAT, edit)] == [2, 1, 1]
    assert seen == [(count, torch.float32) for count in (2, 1, 1, 1, 1)]
    assert vae.dtype == torch.float16


def is_offloaded(pipeline: BatchPipeline) -> bool:
    """Whether each network waits in main memory for its turn."""
    networks = [getattr(pipeline.pipeline, name) for name in ("text_encoder", "text_encoder_2", "unet", "vae")]
    return all(hasattr(network, "_hf_hook") for network in networks)


def test_where_one_picture_does_not_fit_the_networks_are_offloaded_first(sdxl: Path, loras: Path) -> None:
    """The CPU under another name is a GPU to the library: its networks are moved to it, one at a time."""
    import torch

    pipeline = BatchPipeline(load_pipeline(PipelineFiles(sdxl), CPU))
    styled = replace(CAT, loras=(Lora("style", loras / "ink.safetensors"),))
    edit = replace(CAT, image_rgb=picture(1))
    requests = (CAT, replace(CAT, n=2), styled, edit)
    expected = [made(pipeline, request) for request in requests]
    pipeline.device, pipeline.offloaded = "cpu:0", False

    def refuse(*_: Any) -> None:
        if not is_offloaded(pipeline):
            raise torch.OutOfMemoryError("CUDA out of memory")

    pipeline.pipeline.unet.register_forward_pre_hook(refuse)
    for request, pictures in zip(requests, expected, strict=True):
        assert all(difference(*pair) <= 1 for pair in zip(made(pipeline, request), pictures, strict=True))
        assert is_offloaded(pipeline)
    with memory_for(0, pipeline), pytest.raises(BusyError):
        made(pipeline, CAT)
    assert difference(made(pipeline, CAT)[0], expected[0][0]) == 0


def test_a_model_that_the_gpus_memory_does_not_hold_is_offloaded_when_it_is_loaded(
    sdxl: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers
    import torch

    whole = made(BatchPipeline(load_pipeline(PipelineFiles(sdxl), CPU)), CAT)[0]
    move = diffusers.StableDiffusionXLPipeline.to

    def refuse(pipeline: Any, device: str, **options: Any) -> Any:
        if device == "cpu:0":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return move(pipeline, device, **options)

    monkeypatch.setattr("diffusion_models.torch_device", lambda _: "cpu:0")
    monkeypatch.setattr(diffusers.StableDiffusionXLPipeline, "to", refuse)
    pipeline = BatchPipeline(load_pipeline(PipelineFiles(sdxl), PipelineOptions(dtype="fp32")))
    assert is_offloaded(pipeline)
    assert pipeline.offloaded
    assert difference(made(pipeline, CAT)[0], whole) <= 1


def test_where_one_picture_does_not_fit_it_is_503_and_the_next_is_made(plain: BatchPipeline) -> None:
    generator = Generator(lambda: plain, batch=4, max_queue=4)
    with memory_for(0, plain) as seen, pytest.raises(BusyError) as failure:
        generator.submit(CAT).future.result(20)
    assert (failure.value.status, failure.value.retry_after_s) == (503, 30)
    assert seen == [1]
    assert len(generator.submit(CAT).future.result(20)) == 1
    generator.close()


class Held:
    """A pipeline that makes nothing until it is let go, and remembers its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)

    def check(self, request: ImageRequest) -> list[str]:
        if request.prompt == "bad":
            raise InvalidValueError("prompt: bad")
        return []

    def run(self, requests: list[ImageRequest], on_step: OnStep) -> list[Images]:
        self.batches.append([request.prompt for request in requests])
        self.begun.release()
        assert self.go.acquire(timeout=20)
        on_step(1, 1, list)
        return [[np.zeros((1, 1, 3), np.uint8)] * request.n for request in requests]


@pytest.fixture
def held() -> Iterator[tuple[Held, Generator]]:
    pipeline = Held()
    generator = Generator(lambda: pipeline, batch=4, max_queue=3)  # type: ignore[arg-type, return-value]
    yield pipeline, generator
    pipeline.go.release(100)
    generator.close()


def asked(prompt: str, **changes: Any) -> ImageRequest:
    return ImageRequest(prompt, **({"width": 64, "height": 64} | changes))


def test_requests_that_wait_are_joined_where_they_fit(held: tuple[Held, Generator]) -> None:
    pipeline, generator = held
    tickets = [generator.submit(asked("first"))]
    assert pipeline.begun.acquire(timeout=20)
    tickets += [generator.submit(asked("a", n=2)), generator.submit(asked("wide", width=96))]
    tickets += [generator.submit(asked("b", n=2))]
    pipeline.go.release(3)
    assert [len(ticket.future.result(20)) for ticket in tickets] == [1, 2, 1, 2]
    assert pipeline.batches == [["first"], ["a", "b"], ["wide"]]


def test_one_more_than_may_wait_is_refused(held: tuple[Held, Generator]) -> None:
    pipeline, generator = held
    generator.submit(asked("first"))
    assert pipeline.begun.acquire(timeout=20)
    for index in range(3):
        generator.submit(asked(str(index)))
    with pytest.raises(BusyError) as refusal:
        generator.submit(asked("one more"))
    assert refusal.value.retry_after_s
    assert generator.waiting == 3


def test_what_is_given_up_leaves_the_queue_and_stops_its_batch(held: tuple[Held, Generator]) -> None:
    pipeline, generator = held
    running = generator.submit(asked("running"))
    assert pipeline.begun.acquire(timeout=20)
    waiting = generator.submit(asked("waiting"))
    waiting.cancel()
    assert generator.waiting == 0
    running.cancel()
    pipeline.go.release(2)
    assert len(generator.submit(asked("next")).future.result(20)) == 1
    assert pipeline.batches == [["running"], ["next"]]


def test_a_batch_goes_on_while_anybody_wants_it(held: tuple[Held, Generator]) -> None:
    pipeline, generator = held
    generator.submit(asked("first"))
    assert pipeline.begun.acquire(timeout=20)
    gone, kept = generator.submit(asked("gone")), generator.submit(asked("kept"))
    pipeline.go.release()
    assert pipeline.begun.acquire(timeout=20)
    gone.cancel()
    pipeline.go.release()
    assert len(kept.future.result(20)) == 1


def test_a_bad_request_fails_alone(held: tuple[Held, Generator]) -> None:
    pipeline, generator = held
    generator.submit(asked("first"))
    assert pipeline.begun.acquire(timeout=20)
    bad, good = generator.submit(asked("bad")), generator.submit(asked("good"))
    pipeline.go.release(2)
    with pytest.raises(InvalidValueError):
        bad.future.result(20)
    assert len(good.future.result(20)) == 1


def test_a_real_batch_stops_at_the_next_step_when_it_is_given_up(plain: BatchPipeline) -> None:
    generator = Generator(lambda: plain, batch=4, max_queue=4)
    steps: list[int] = []
    taken = threading.Event()

    def give_up(done: int, _: int) -> None:
        assert taken.wait(20)
        steps.append(done)
        ticket.cancel()

    ticket = generator.submit(replace(CAT, steps=50), Watcher(on_step=give_up))
    taken.set()
    assert len(generator.submit(CAT).future.result(60)) == 1
    assert steps == [1]
    generator.close()


class Late(Future[Images]):
    """Its pictures come just when the wait for them is over."""

    def done(self) -> bool:
        if not super().done():
            self.set_result([picture(1)])
        return super().done()


def test_pictures_that_come_when_the_wait_is_over_are_taken() -> None:
    worker: Any = SimpleNamespace(submit=lambda *_: Ticket(CAT, Watcher(), Late()))
    [redrawn] = InstantIdStyler(worker, StylerOptions(), faces=pytest.fail)._made(CAT, no_progress)  # type: ignore[arg-type]
    run: Any = SimpleNamespace(progress=lambda *_: None)
    generation: Any = SimpleNamespace(generator=worker)
    images, warnings = _awaited(run, generation, CAT)
    assert difference(redrawn, picture(1)) == 0
    assert (len(images), warnings) == (1, [])


def test_pictures_can_be_seen_on_the_way(plain: BatchPipeline) -> None:
    generator = Generator(lambda: plain, batch=4, max_queue=4)
    seen: list[tuple[int, int, RGBImage]] = []
    watcher = Watcher(partial_images=2, on_partial=lambda *partial: seen.append(partial))
    images = generator.submit(replace(CAT, steps=6, n=2), watcher).future.result(60)
    generator.close()
    assert [(time, index) for time, index, _ in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    last = images[1]
    assert last is not None
    assert difference(seen[3][2], last) > 3
    assert seen[3][2].shape == last.shape


def test_a_model_that_cannot_be_loaded_fails_who_waits_and_is_not_tried_by_everyone() -> None:
    tries: list[float] = []

    def load() -> BatchPipeline:
        tries.append(time.monotonic())
        raise ModelUnavailableError("It is damaged.")

    generator = Generator(load, batch=4, max_queue=4)
    assert generator.state[0] == "idle"
    with pytest.raises(ModelUnavailableError):
        generator.submit(CAT).future.result(20)
    with pytest.raises(ModelUnavailableError):
        generator.submit(CAT)
    state, reason = generator.state
    assert (state, reason) == ("failing", "It is damaged.")
    assert len(tries) == 1
    generator.close()


def test_closing_fails_what_waits_and_what_comes_later(held: tuple[Held, Generator]) -> None:
    pipeline, generator = held
    generator.submit(asked("running"))
    assert pipeline.begun.acquire(timeout=20)
    waiting = generator.submit(asked("waiting"))
    threading.Timer(0.1, pipeline.go.release).start()
    generator.close()
    with pytest.raises(BusyError):
        waiting.future.result(20)
    with pytest.raises(BusyError, match="stopping"):
        generator.submit(asked("too late"))
