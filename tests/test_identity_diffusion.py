"""InstantID and IP-Adapter plus-face on tiny random models: the real loading, and our loop beside diffusers'."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, StableDiffusionXLControlNetInpaintPipeline, StableDiffusionXLInpaintPipeline
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from diffusion_models import PipelineFiles, PipelineOptions
from head_canvas import draw_keypoints
from identity_diffusion import PLUS_FACE, PLUS_FACE_ENCODER, IdentityFiles, IdentityPipeline, IdentityRequest
from service.errors import BusyError, ModelUnavailableError
from tests.diffusion_folders import make_face_adapter, make_plus_face, make_sdxl
from utils import FloatArray, RGBImage

pytestmark = pytest.mark.usefixtures("one_torch_thread")

SIZE = 64
CPU = PipelineOptions(device="cpu")
KPS = np.array([[22, 24], [42, 26], [33, 34], [25, 44], [40, 45]], np.float32)


def embedding(seed: int) -> FloatArray:
    """Of the length that antelopev2's have, about."""
    vector = np.random.default_rng(seed).normal(size=512)
    return (20 * vector / np.linalg.norm(vector)).astype(np.float32)


def picture(seed: int, size: int = SIZE) -> RGBImage:
    return np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)


def mask() -> Any:
    drawn = np.zeros((SIZE, SIZE), np.uint8)
    drawn[16:48, 16:56] = 255
    return drawn


REQUEST = IdentityRequest(
    picture=picture(0),
    mask=mask(),
    keypoints=draw_keypoints(KPS, SIZE),
    person=embedding(1),
    prompt="a child, a drawing",
    negative_prompt="a photograph",
    steps=4,
    strength=0.8,
)


def made(pipeline: IdentityPipeline, *requests: IdentityRequest) -> list[RGBImage]:
    return [image for images in pipeline.run(requests, lambda *_: None) for image in images if image is not None]


def difference(first: RGBImage, second: RGBImage) -> int:
    return int(np.abs(first.astype(int) - second).max())


@pytest.fixture(scope="module")
def instantid(diffusion_models: Path, sdxl: Path) -> Path:
    return make_face_adapter(diffusion_models / "instantid", sdxl)


@pytest.fixture(scope="module")
def plus_face(diffusion_models: Path, sdxl: Path) -> Path:
    return make_plus_face(diffusion_models / "plus-face", sdxl)


@pytest.fixture(scope="module")
def pipeline(sdxl: Path, instantid: Path) -> IdentityPipeline:
    return IdentityPipeline.load(IdentityFiles("instantid", PipelineFiles(sdxl), instantid), CPU)


@pytest.fixture(scope="module")
def face_pipeline(sdxl: Path, plus_face: Path) -> IdentityPipeline:
    return IdentityPipeline.load(IdentityFiles("ip-adapter", PipelineFiles(sdxl), plus_face), CPU)


@pytest.fixture(autouse=True)
def certain_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers draws a picture's latents at random; ours are the middle of that distribution."""
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, *_, **__: self.mode())


# ---- our loop and networks beside diffusers' own


class IdentityNet(ControlNetModel):  # type: ignore[misc]
    """A ControlNet that looks at the identity instead of the prompt: what InstantID is, in diffusers' own pipeline."""

    tokens: Any = None

    def forward(self, sample: Any, timestep: Any, encoder_hidden_states: Any, *args: Any, **kwargs: Any) -> Any:
        return super().forward(sample, timestep, self.tokens.to(encoder_hidden_states), *args, **kwargs)


def by_diffusers(base: Path, folder: Path, request: IdentityRequest) -> RGBImage:
    """One picture, by the library's loop for inpainting, attention and projection."""
    arguments: dict[str, Any] = {}
    if request.keypoints is not None:
        net = IdentityNet.from_pretrained(folder / "ControlNetModel")
        pipe = StableDiffusionXLControlNetInpaintPipeline.from_pretrained(base, controlnet=net)
        pipe.load_ip_adapter(str(folder), subfolder="", weight_name="ip-adapter.bin", image_encoder_folder=None)
        person = torch.from_numpy(request.person)
        pair = torch.stack([torch.zeros_like(person), person])[:, None, None]
        net.tokens = pipe.unet.encoder_hid_proj.image_projection_layers[0](pair[:, 0])
        if request.guidance_scale <= 1:
            pair, net.tokens = pair[1:], net.tokens[1:]
        arguments = {
            "control_image": torch.from_numpy(request.keypoints).permute(2, 0, 1)[None] / 255,
            "controlnet_conditioning_scale": request.pose_scale,
            "ip_adapter_image_embeds": [pair],
        }
    else:
        pipe = StableDiffusionXLInpaintPipeline.from_pretrained(base)
        subfolder, _, name = PLUS_FACE.rpartition("/")
        pipe.load_ip_adapter(str(folder), subfolder=subfolder, weight_name=name, image_encoder_folder=PLUS_FACE_ENCODER)
        arguments = {"ip_adapter_image": request.person}
    pipe.set_progress_bar_config(disable=True)
    pipe.set_ip_adapter_scale(request.identity_scale)
    result = pipe(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        image=torch.from_numpy(request.picture).permute(2, 0, 1)[None] / 255,
        mask_image=torch.from_numpy(request.mask)[None, None] / 255,
        height=SIZE,
        width=SIZE,
        num_inference_steps=request.steps,
        strength=request.strength,
        guidance_scale=request.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(request.seed)],
        output_type="np",
        **arguments,
    )
    pixels: RGBImage = (result.images[0] * 255).round().astype(np.uint8)
    return pixels


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strength": 1.0},
        {"guidance_scale": 1.0, "negative_prompt": ""},
        {"identity_scale": 0.3, "pose_scale": 0.5, "seed": 7},
    ],
)
def test_the_picture_is_the_one_of_diffusers_loop(
    pipeline: IdentityPipeline, sdxl: Path, instantid: Path, changes: dict[str, Any]
) -> None:
    request = replace(REQUEST, **changes)
    assert difference(made(pipeline, request)[0], by_diffusers(sdxl, instantid, request)) <= 1


@pytest.mark.filterwarnings("ignore")
def test_the_picture_is_the_one_of_diffusers_loop_with_an_inpainting_unet(diffusion_models: Path) -> None:
    base = make_sdxl(diffusion_models / "inpainting", in_channels=9)
    folder = make_plus_face(diffusion_models / "plus-face-9", base)
    files = IdentityFiles("ip-adapter", PipelineFiles(base), folder)
    request = replace(REQUEST, keypoints=None, person=picture(3, 40))
    assert difference(made(IdentityPipeline.load(files, CPU), request)[0], by_diffusers(base, folder, request)) <= 1


@pytest.mark.filterwarnings("ignore")
def test_the_picture_is_the_one_of_diffusers_loop_with_a_photo(
    face_pipeline: IdentityPipeline, sdxl: Path, plus_face: Path
) -> None:
    request = replace(REQUEST, keypoints=None, person=picture(3, 40))
    assert difference(made(face_pipeline, request)[0], by_diffusers(sdxl, plus_face, request)) <= 1


def resampled(weights: dict[str, Any], inputs: Any) -> Any:
    """The resampler of IP-Adapter as its authors describe it: queries look at the inputs and at themselves."""
    linear, norm = torch.nn.functional.linear, torch.nn.functional.layer_norm

    def normed(values: Any, name: str) -> Any:
        return norm(values, values.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    seen = linear(inputs, weights["proj_in.weight"], weights["proj_in.bias"])
    queries = weights["latents"].expand(len(inputs), -1, -1)
    for layer in range(4):
        own = f"layers.{layer}"
        looked_at = torch.cat([normed(seen, f"{own}.0.norm1"), normed(queries, f"{own}.0.norm2")], dim=1)
        query = linear(normed(queries, f"{own}.0.norm2"), weights[f"{own}.0.to_q.weight"])
        key, value = linear(looked_at, weights[f"{own}.0.to_kv.weight"]).chunk(2, dim=-1)
        heads = query.shape[-1] // 64
        attended = []
        for q, k, v in zip(*(part.chunk(heads, dim=-1) for part in (query, key, value)), strict=True):
            attended.append(torch.softmax(q @ k.transpose(1, 2) / math.sqrt(64), dim=-1) @ v)
        queries = queries + linear(torch.cat(attended, dim=-1), weights[f"{own}.0.to_out.weight"])
        hidden = torch.nn.functional.gelu(linear(normed(queries, f"{own}.1.0"), weights[f"{own}.1.1.weight"]))
        queries = queries + linear(hidden, weights[f"{own}.1.3.weight"])
    return normed(linear(queries, weights["proj_out.weight"], weights["proj_out.bias"]), "norm_out")


def test_an_identitys_tokens_are_those_of_the_published_resampler(pipeline: IdentityPipeline, instantid: Path) -> None:
    weights = torch.load(instantid / "ip-adapter.bin", weights_only=True)["image_proj"]
    vector = torch.from_numpy(embedding(1))
    with torch.inference_mode():
        expected = resampled(weights, torch.stack([torch.zeros(512), vector])[:, None])
        torch.testing.assert_close(pipeline._tokens(embedding(1)), expected, atol=1e-5, rtol=1e-4)


def test_attention_to_the_identity_is_a_second_one_beside_the_prompts(
    pipeline: IdentityPipeline, instantid: Path
) -> None:
    weights = torch.load(instantid / "ip-adapter.bin", weights_only=True)["ip_adapter"]
    unet = pipeline.pipeline.unet
    names = [name for name in unet.attn_processors if "attn2" in name]
    numbers = sorted({int(key.partition(".")[0]) for key in weights})
    layer = unet.get_submodule(names[0].removesuffix(".processor"))
    width, cross = layer.to_q.in_features, unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(0)
    pixels, text, tokens = (torch.randn(2, n, w, generator=generator) for n, w in ((9, width), (7, cross), (16, cross)))

    def attended(query: Any, key: Any, value: Any) -> Any:
        parts = (part.chunk(layer.heads, dim=-1) for part in (query, key, value))
        size = query.shape[-1] // layer.heads
        return torch.cat(
            [
                torch.softmax(q @ k.transpose(1, 2) / math.sqrt(size), dim=-1) @ v
                for q, k, v in zip(*parts, strict=True)
            ],
            dim=-1,
        )

    key, value = layer.to_kv(text).chunk(2, dim=-1)
    own_key, own_value = (tokens @ weights[f"{numbers[0]}.{part}.weight"].T for part in ("to_k_ip", "to_v_ip"))
    scales = torch.tensor([0.3, 0.9])[:, None, None]
    query = layer.to_q(pixels)
    expected = layer.to_out[0](attended(query, key, value) + scales * attended(query, own_key, own_value))
    layer.processor.scale = scales
    torch.testing.assert_close(layer(pixels, (text, tokens)), expected, atol=1e-5, rtol=1e-4)


# ---- what makes it fast changes no picture


def test_a_batch_gives_the_pictures_of_single_requests(pipeline: IdentityPipeline) -> None:
    other = replace(
        REQUEST, person=embedding(2), picture=picture(5), prompt="another", identity_scale=0.2, seed=9,
        keypoints=draw_keypoints(KPS + 5, SIZE),
    )  # fmt: skip
    together = made(pipeline, replace(REQUEST, n=2), other)
    alone = [made(pipeline, replace(REQUEST, seed=seed))[0] for seed in (0, 1)] + made(pipeline, other)
    assert [difference(*pair) <= 1 for pair in zip(together, alone, strict=True)] == [True] * 3
    assert min(difference(together[0], together[1]), difference(together[0], together[2])) > 3


def test_channels_last_changes_no_picture(sdxl: Path, instantid: Path, pipeline: IdentityPipeline) -> None:
    last = IdentityPipeline.load(IdentityFiles("instantid", PipelineFiles(sdxl), instantid), CPU)
    for network in (last.pipeline.unet, last.pipeline.controlnet, last.pipeline.vae):
        network.to(memory_format=torch.channels_last)
    assert difference(made(last, REQUEST)[0], made(pipeline, REQUEST)[0]) <= 1


@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_change_no_picture_and_take_any_scale(
    sdxl: Path, instantid: Path, pipeline: IdentityPipeline
) -> None:
    torch._dynamo.reset()
    compiled = IdentityPipeline.load(
        IdentityFiles("instantid", PipelineFiles(sdxl), instantid), replace(CPU, compile=True)
    )
    assert difference(made(compiled, REQUEST)[0], made(pipeline, REQUEST)[0]) <= 1
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    weaker = replace(REQUEST, identity_scale=0.37)
    assert difference(made(compiled, weaker)[0], made(pipeline, weaker)[0]) <= 1
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs > 0


# ---- every parameter has its effect


@pytest.fixture(scope="module")
def base(pipeline: IdentityPipeline) -> RGBImage:
    return made(pipeline, REQUEST)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"person": embedding(2)},
        {"keypoints": draw_keypoints(KPS[::-1].copy(), SIZE)},
        {"pose_scale": 0.2},
        {"identity_scale": 0.1},
        {"prompt": "something else entirely"},
        {"negative_prompt": "something else entirely"},
        {"guidance_scale": 9.0},
        {"strength": 0.5},
        {"steps": 6},
        {"seed": 1},
        {"picture": picture(1)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_parameter_has_an_effect_and_the_same_request_gives_the_same_picture(
    pipeline: IdentityPipeline, base: RGBImage, changes: dict[str, Any]
) -> None:
    changed = made(pipeline, replace(REQUEST, **changes))[0]
    assert difference(changed, base) > 3
    assert difference(made(pipeline, REQUEST)[0], base) == 0


def test_with_both_scales_at_0_the_person_has_no_effect(pipeline: IdentityPipeline) -> None:
    nobody = replace(REQUEST, identity_scale=0, pose_scale=0)
    drawn = made(pipeline, nobody)[0]
    assert difference(drawn, made(pipeline, replace(nobody, person=embedding(2)))[0]) == 0
    assert difference(drawn, made(pipeline, replace(nobody, keypoints=draw_keypoints(KPS + 9, SIZE)))[0]) == 0


def test_scale_0_is_sdxl_without_the_adapter(face_pipeline: IdentityPipeline, sdxl: Path) -> None:
    pipe = StableDiffusionXLInpaintPipeline.from_pretrained(sdxl)
    pipe.set_progress_bar_config(disable=True)
    request = replace(REQUEST, keypoints=None, person=picture(3, 40), identity_scale=0)
    result = pipe(
        prompt=request.prompt, negative_prompt=request.negative_prompt, height=SIZE, width=SIZE,
        image=torch.from_numpy(request.picture).permute(2, 0, 1)[None] / 255,
        mask_image=torch.from_numpy(request.mask)[None, None] / 255,
        num_inference_steps=request.steps, strength=request.strength, guidance_scale=request.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(request.seed)], output_type="np",
    )  # fmt: skip
    assert difference(made(face_pipeline, request)[0], (result.images[0] * 255).round().astype(np.uint8)) <= 1


def test_a_photo_of_another_face_has_an_effect(face_pipeline: IdentityPipeline) -> None:
    request = replace(REQUEST, keypoints=None, person=picture(3, 40))
    drawn = made(face_pipeline, request)[0]
    assert difference(drawn, made(face_pipeline, replace(request, person=picture(4, 40)))[0]) > 3


def test_without_strength_nothing_is_drawn(pipeline: IdentityPipeline) -> None:
    assert difference(made(pipeline, replace(REQUEST, strength=0.0))[0], REQUEST.picture) == 0


def test_steps_are_counted_and_can_be_ended(pipeline: IdentityPipeline) -> None:
    steps: list[tuple[int, int]] = []
    pipeline.run([REQUEST], lambda done, of, *_: steps.append((done, of)))
    assert steps == [(1, 3), (2, 3), (3, 3)]

    def stop(done: int, *_: object) -> None:
        raise KeyboardInterrupt(done)

    with pytest.raises(KeyboardInterrupt, match="1"):
        pipeline.run([REQUEST], stop)
    assert difference(made(pipeline, REQUEST)[0], made(pipeline, REQUEST)[0]) == 0


# ---- files


@pytest.mark.parametrize("name", ["ip-adapter.bin", "ControlNetModel/config.json"])
def test_damaged_files_are_said_to_be(sdxl: Path, instantid: Path, tmp_path: Path, name: str) -> None:
    for file in instantid.rglob("*.*"):
        copy = tmp_path / file.relative_to(instantid)
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(file.read_bytes()[:100] if file.match(name) else file.read_bytes())
    with pytest.raises(ModelUnavailableError, match="damaged"):
        IdentityPipeline.load(IdentityFiles("instantid", PipelineFiles(sdxl), tmp_path), CPU)


# ---- memory


@pytest.mark.parametrize("fits", [2, 0])
def test_where_memory_is_short_a_batch_is_halved_and_at_last_refused(
    sdxl: Path, instantid: Path, pipeline: IdentityPipeline, fits: int
) -> None:
    small = IdentityPipeline.load(IdentityFiles("instantid", PipelineFiles(sdxl), instantid), CPU)
    seen: list[int] = []

    def refuse(_: Any, arguments: Any) -> None:
        seen.append(len(arguments[0]) // 2)  # with and without the prompt
        if seen[-1] > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    small.pipeline.unet.register_forward_pre_hook(refuse)
    if not fits:
        with pytest.raises(BusyError):
            made(small, REQUEST)
        return
    whole, halved = (made(each, replace(REQUEST, n=4)) for each in (pipeline, small))
    assert [difference(*pair) <= 1 for pair in zip(whole, halved, strict=True)] == [True] * 4
    assert seen[0] == 4
    assert set(seen[1:]) == {2}


@pytest.mark.parametrize("kind", ["instantid", "ip-adapter"])
def test_where_one_picture_does_not_fit_the_networks_are_offloaded_first(
    sdxl: Path, instantid: Path, plus_face: Path, kind: Any
) -> None:
    """The CPU under another name is a GPU to the library: its networks are moved to it, one at a time."""
    folder = instantid if kind == "instantid" else plus_face
    person = embedding(1) if kind == "instantid" else picture(1)
    request = replace(REQUEST, person=person, keypoints=REQUEST.keypoints if kind == "instantid" else None)
    pipeline = IdentityPipeline.load(IdentityFiles(kind, PipelineFiles(sdxl), folder), CPU)
    [whole] = made(pipeline, request)
    unet = pipeline.pipeline.unet
    pipeline.device, pipeline.offloaded = "cpu:0", False

    def refuse(*_: Any) -> None:
        if not hasattr(unet, "_hf_hook"):
            raise torch.OutOfMemoryError("CUDA out of memory")

    unet.register_forward_pre_hook(refuse)
    for _ in range(2):
        [offloaded] = made(pipeline, request)
        assert difference(whole, offloaded) <= 1
    assert hasattr(pipeline.pipeline.vae, "_hf_hook")
