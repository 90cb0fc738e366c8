"""Trains the network of `hands_in_front.py` on faces and hands drawn at random, and writes it as ONNX.

`python -m training.train_hands` takes about half an hour on two cores. It needs PyTorch 2, which the service does not.
Nothing but what this folder draws, and photos that scikit-image ships, goes into the weights.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import skimage.data
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional

from examples.child import Head, Look
from examples.painting import Canvas
from face_crops import frame_from_kps
from face_landmarks import FaceLandmarks
from hands_in_front import CROP_SCALE, INPUT_PX, MODEL
from training.faces import MIDDLE, SIZE, UNIT, Random, random_face
from training.hands import add_hands
from utils import FloatArray, GrayImage, RGBImage, as_float, shrink

_HANDS_PER_FACE = 4
_BATCH = 48
_CHANNELS = (16, 24, 40, 56)
_LEARNING_RATE = 3e-3


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture with the five points of its face (5, 2), and where its hands are (HxW 0..255)."""

    picture: RGBImage
    kps: FloatArray
    hands: GrayImage


# ---- pictures


def draw_samples(seed: int) -> list[Sample]:
    """One face drawn at random, without hands and with several."""
    random = np.random.default_rng(seed)
    canvas, head = random_face(random) if seed % 12 else _photographed_face(random)
    kps, none = as_float(head.kps()), np.zeros((SIZE, SIZE), np.uint8)
    with_hands = (add_hands(canvas, head, random) for _ in range(_HANDS_PER_FACE))
    return [Sample(canvas.finish(), kps, none), *(Sample(picture, kps, mask) for picture, mask in with_hands)]


def _photographed_face(random: Random) -> tuple[Canvas, Head]:
    """The astronaut, as a photo or smoothed to a painting, in any light."""
    landmarks = FaceLandmarks(pool_size=1)
    photo = skimage.data.astronaut()
    kps = landmarks.detect(photo)[0].kps
    landmarks.close()
    head = Head(MIDDLE, UNIT, Look("#000000", "#000000", "#000000", "#000000", "#000000", "#000000", "#000000"))
    matrix, _ = cv2.estimateAffinePartial2D(kps, head.kps())
    picture = cv2.warpAffine(photo, matrix, (SIZE, SIZE), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        picture = cv2.bilateralFilter(picture, 7, random.uniform(20, 80), random.uniform(3, 8))
    picture = _recoloured(as_float(picture), random)
    cheeks = np.concatenate([picture[84:92, 50:60].reshape(-1, 3), picture[84:92, 100:110].reshape(-1, 3)])
    skin = np.median(cheeks, axis=0)
    own, shadow, blush = (_hex(skin * factor) for factor in ([1, 1, 1], [0.72, 0.58, 0.5], [1, 0.7, 0.65]))
    look = Look(own, shadow, blush, lips="#b06050", hair="#3a2a1a", iris="#3a2a1a", ink="#2a1510")
    return Canvas.over(picture), Head(MIDDLE, UNIT, look)


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{int(np.clip(value, 0, 255)):02x}" for value in colour)


def seen(sample: Sample, random: Random) -> tuple[RGBImage, GrayImage]:
    """The network's input and its answer: the sample in another place, size, sharpness, light and quality."""
    zoom, turn = random.uniform(0.86, 1.16), np.deg2rad(random.normal(0, 6))
    rotation = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if random.random() < 0.5:
        rotation = rotation @ np.diag([-1, 1])
    middle = INPUT_PX / 2
    shift = middle + random.normal(0, 3, 2) - rotation @ (middle, middle)
    to_crop = frame_from_kps(sample.kps).to_crop(CROP_SCALE, INPUT_PX)
    matrix = np.c_[rotation @ to_crop[:, :2], rotation @ to_crop[:, 2] + shift]
    picture = sample.picture
    if random.random() < 0.35:  # small on its page
        side = round(SIZE * random.uniform(0.3, 0.9))
        method = random.choice([cv2.INTER_CUBIC, cv2.INTER_LINEAR])
        picture = cv2.resize(shrink(picture, (side, side)), (SIZE, SIZE), interpolation=method)
    border = int(random.choice([cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE, cv2.BORDER_CONSTANT]))
    crop = cv2.warpAffine(picture, matrix, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR, borderMode=border)
    hands = cv2.warpAffine(sample.hands, matrix, (INPUT_PX, INPUT_PX), flags=cv2.INTER_LINEAR)
    return _printed(_recoloured(_weathered(as_float(crop), random), random), random), hands


def _weathered(crop: FloatArray, random: Random) -> FloatArray:
    """Blotches and shadows across everything, softness or sharpness."""
    if random.random() < 0.4:
        cells = random.integers(3, 40)
        noise = cv2.resize(random.normal(0, 1, (cells, cells)), (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_CUBIC)
        crop = crop * (1 + random.uniform(0.01, 0.1) * noise[..., None])
    if random.random() < 0.25:
        corners = (random.uniform(0, INPUT_PX, 2) + random.normal(0, 50, (5, 2))).astype(np.int32)
        shadow = cv2.fillConvexPoly(np.zeros((INPUT_PX, INPUT_PX), np.float32), cv2.convexHull(corners), 1)
        soft = cv2.GaussianBlur(shadow, (0, 0), random.choice([0.3, random.uniform(0.4, 6)]))
        crop = crop * (1 - soft[..., None] * random.uniform(-0.25, 0.45) * random.uniform(0.7, 1.2, 3))
    if random.random() < 0.2:
        crop = cv2.GaussianBlur(crop, (0, 0), random.uniform(0.4, 1.2))
    elif random.random() < 0.25:
        crop = crop + random.uniform(0.3, 1.5) * (crop - cv2.GaussianBlur(crop, (0, 0), random.uniform(0.7, 1.5)))
    return as_float(np.clip(crop, 0, 255))


def _recoloured(crop: FloatArray, random: Random) -> RGBImage:
    if random.random() < 0.7:
        crop = as_float(255 * (crop / 255) ** random.uniform(0.65, 1.5))
    if random.random() < 0.7:
        crop = as_float((crop - 128) * random.uniform(0.6, 1.3) + 128 + random.normal(0, 15))
    if random.random() < 0.6:
        crop = crop * as_float(random.uniform(0.8, 1.2, 3))
    if random.random() < 0.12:
        crop = crop.mean(axis=2, keepdims=True) * as_float(random.uniform(0.85, 1.15, 3))
    return np.clip(crop, 0, 255).astype(np.uint8)


def _printed(crop: RGBImage, random: Random) -> RGBImage:
    """Grain and JPEG."""
    if random.random() < 0.4:
        grain = random.normal(0, random.uniform(1, 7), crop.shape)
        crop = np.clip(crop + grain, 0, 255).astype(np.uint8)
    if random.random() < 0.4:
        _, stored = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 95))])
        crop = np.asarray(cv2.imdecode(stored, cv2.IMREAD_COLOR), np.uint8)
    return crop


# ---- the network


class Network(nn.Module):  # type: ignore[misc]  # mypy runs without PyTorch
    """A U-Net of 3x3 convolutions: half the input's size inside, one answer for each pixel of the input."""

    def __init__(self) -> None:
        super().__init__()
        first, second, third, last = _CHANNELS
        self.down = nn.ModuleList(
            [
                nn.Sequential(_layer(3, first, 2), _layer(first, first)),
                nn.Sequential(_layer(first, second, 2), _layer(second, second)),
                nn.Sequential(_layer(second, third, 2), _layer(third, third)),
                nn.Sequential(_layer(third, last, 2), _layer(last, last), _layer(last, last)),
            ]
        )
        self.up = nn.ModuleList(
            [_layer(last + third, third), _layer(third + second, second), _layer(second + first, first)]
        )
        self.answer = nn.Conv2d(first, 4, 3, padding=1)

    def forward(self, image: Any) -> Any:
        """Pixels (N, S, S, 3) uint8 to logits (N, S, S)."""
        values = image.permute(0, 3, 1, 2).float() / 127.5 - 1
        kept = []
        for level in self.down:
            values = level(values)
            kept.append(values)
        for layer, beside in zip(self.up, kept[-2::-1], strict=True):
            values = layer(torch.cat([functional.interpolate(values, scale_factor=2.0, mode="nearest"), beside], 1))
        return functional.pixel_shuffle(self.answer(values), 2)[:, 0]


def _layer(inputs: int, outputs: int, stride: int = 1) -> Any:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class _Probability(nn.Module):  # type: ignore[misc]
    """What is stored: one picture (S, S, 3) uint8 in, 0..1 per pixel (S, S) out."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Any) -> Any:
        return torch.sigmoid(self.network(image[None]))[0]


def train(samples: list[Sample], steps: int) -> Any:
    """Cross-entropy and Dice loss, AdamW, a cosine from the full learning rate to nought."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps, pct_start=0.05)
    average = 0.0
    for step, (pictures, hands) in enumerate(_batches(samples, steps), start=1):
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast
            logits = network(torch.from_numpy(pictures)).float()
        truth = torch.from_numpy(hands) / 255.0
        answer = torch.sigmoid(logits)
        overlap, total = (answer * truth).sum((1, 2)), (answer + truth).sum((1, 2))
        dice = 1 - ((2 * overlap + 50) / (total + 50)).mean()  # 50 px: pictures without hands must not weigh all
        loss = functional.binary_cross_entropy_with_logits(logits, truth) + 0.5 * dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average += (loss.item() - average) / min(step, 50)
        if step % 50 == 0:
            print(f"step {step} of {steps}: loss {average:.4f}", flush=True)
    return network.eval()


_pictures: list[Sample] = []
"""Inherited by the process that prepares batches."""


def _batches(samples: list[Sample], steps: int) -> Iterator[tuple[RGBImage, GrayImage]]:
    _pictures[:] = samples
    with multiprocessing.get_context("fork").Pool(1) as pool:
        waiting = deque(pool.apply_async(_batch, (seed,)) for seed in range(4))
        for seed in range(4, steps + 4):
            yield waiting.popleft().get()
            waiting.append(pool.apply_async(_batch, (seed,)))


def _batch(seed: int) -> tuple[RGBImage, GrayImage]:
    cv2.setNumThreads(1)
    random = np.random.default_rng(seed)
    chosen = [seen(_pictures[index], random) for index in random.integers(0, len(_pictures), _BATCH)]
    return np.stack([picture for picture, _ in chosen]), np.stack([hands for _, hands in chosen])


def store(network: Any, path: Path) -> None:
    """Write ONNX with weights of 16 bits, which onnxruntime widens once, when it loads them."""
    example = torch.zeros((INPUT_PX, INPUT_PX, 3), dtype=torch.uint8)
    torch.onnx.export(
        _Probability(network).eval(), (example,), str(path), input_names=["image"], output_names=["hands"],
        opset_version=17, dynamo=False,
    )  # fmt: skip
    model = onnx.load(path)
    for weights in list(model.graph.initializer):
        values = numpy_helper.to_array(weights)
        if values.dtype == np.float32 and values.size > 1:
            model.graph.initializer.remove(weights)
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{weights.name}_16"))
            widen = helper.make_node("Cast", [f"{weights.name}_16"], [weights.name], to=TensorProto.FLOAT)
            model.graph.node.insert(0, widen)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=1200, help="how many faces to draw, each with several hands")
    parser.add_argument("--steps", type=int, default=2600, help=f"batches of {_BATCH} pictures")
    parser.add_argument("--out", type=Path, default=MODEL)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with multiprocessing.get_context("spawn").Pool() as pool:
        samples = [sample for drawn in pool.imap(draw_samples, range(options.faces), 20) for sample in drawn]
    print(f"{len(samples)} pictures", flush=True)
    store(train(samples, options.steps), options.out)


if __name__ == "__main__":
    main()
