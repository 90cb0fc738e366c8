"""Tiny but real ONNX models in InsightFace's pack format, built in the test: the real loading code runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SQUARE = 96
"""The detector finds white squares of about this many pixels, at 640 px, on black, whose centre is a multiple of 32."""
BOX = 140
"""Side of the box it gives them: large enough that neighbouring cells' boxes are suppressed."""
EMBEDDING_SIZE = 8
_KPS = ((-20, -20), (20, -20), (0, 0), (-15, 20), (15, 20))


def write_pack(folder: Path, *, detector: bool = True, recogniser: bool = True, genderage: bool = True) -> Path:
    """A pack whose file names say nothing about what the files are."""
    folder.mkdir(parents=True)
    if detector:
        onnx.save(square_detector(), folder / "a.onnx")
    if recogniser:
        onnx.save(colour_recogniser(), folder / "b.onnx")
    if genderage:
        onnx.save(constant_genderage(age=31), folder / "c.onnx")
    return folder


def picture_of_squares(
    *centres: tuple[int, int], colour: tuple[int, int, int] = (255, 255, 255), size: tuple[int, int] = (640, 480)
) -> Image.Image:
    """What the built detector takes for faces, on black. `size` is width and height."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    half = SQUARE // 2
    for x, y in centres:
        pixels[y - half : y + half, x - half : x + half] = colour
    return Image.fromarray(pixels)


def square_detector(*, side: int | None = None) -> onnx.ModelProto:
    """SCRFD's nine outputs; the score at stride 32 is the brightness of the 96x96 px around a cell.

    Args:
        side: fixes the input to `side` x `side`; None leaves it free.
    """
    nodes: list[Any] = [
        helper.make_node("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Constant", [], ["one"], value=_tensor([1.0])),
        helper.make_node("Constant", [], ["half"], value=_tensor([0.5])),
        helper.make_node("Constant", [], ["nothing"], value=_tensor([0.0])),
        helper.make_node("Constant", [], ["column"], value=numpy_helper.from_array(np.array([-1, 1], np.int64))),
        helper.make_node("Add", ["grey", "one"], ["lifted"]),
        helper.make_node("Mul", ["lifted", "half"], ["brightness"]),
    ]
    for stride in (8, 16, 32):
        before, after = 3 * stride // 2, stride // 2  # so that cell i looks at the pixels around i * stride
        cells = helper.make_node(
            "AveragePool", ["brightness"], [f"cells{stride}"], kernel_shape=[3 * stride] * 2, strides=[stride] * 2,
            pads=[before, before, after, after], count_include_pad=1,
        )  # fmt: skip
        nodes += [
            cells,
            helper.make_node("Concat", [f"cells{stride}", f"cells{stride}"], [f"pairs{stride}"], axis=1),
            helper.make_node("Transpose", [f"pairs{stride}"], [f"rows{stride}"], perm=[0, 2, 3, 1]),
            helper.make_node("Reshape", [f"rows{stride}", "column"], [f"raw{stride}"]),
            helper.make_node("Mul", [f"raw{stride}", "nothing"], [f"zero{stride}"]),
            # Only the coarsest stride speaks, so that one square is one face.
            helper.make_node("Mul", [f"raw{stride}", "one" if stride == 32 else "nothing"], [f"score{stride}"]),
            helper.make_node("Constant", [], [f"sides{stride}"], value=_tensor([[BOX / 2 / stride] * 4])),
            helper.make_node("Add", [f"zero{stride}", f"sides{stride}"], [f"box{stride}"]),
            helper.make_node("Constant", [], [f"spots{stride}"], value=_tensor([np.ravel(_KPS) / stride])),
            helper.make_node("Add", [f"zero{stride}", f"spots{stride}"], [f"kps{stride}"]),
        ]
    outputs = [
        helper.make_tensor_value_info(f"{kind}{stride}", TensorProto.FLOAT, [None, width])
        for kind, width in (("score", 1), ("box", 4), ("kps", 10))
        for stride in (8, 16, 32)
    ]
    return _model(nodes, [1, 3, side or "height", side or "width"], outputs)


def colour_recogniser(*, batch: int | str = "batch") -> onnx.ModelProto:
    """The embedding is a fixed linear function of the crop's mean colour."""
    weights = np.random.default_rng(0).normal(size=(3, EMBEDDING_SIZE))
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("Constant", [], ["weights"], value=_tensor(weights)),
        helper.make_node("MatMul", ["colour", "weights"], ["embedding"]),
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, EMBEDDING_SIZE])
    return _model(nodes, [batch, 3, 112, 112], [output])


def constant_genderage(*, age: int) -> onnx.ModelProto:
    """Everyone is male and `age` years old."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("Constant", [], ["nothing"], value=_tensor([0.0])),
        helper.make_node("Mul", ["colour", "nothing"], ["zero"]),
        helper.make_node("Constant", [], ["answer"], value=_tensor([[-1.0, 1.0, age / 100]])),
        helper.make_node("Add", ["zero", "answer"], ["attributes"]),
    ]
    output = helper.make_tensor_value_info("attributes", TensorProto.FLOAT, ["batch", 3])
    return _model(nodes, ["batch", 3, 96, 96], [output])


def landmark_model() -> onnx.ModelProto:
    """The shape of the packs' landmark models, which nothing here needs."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["points"]),
    ]
    output = helper.make_tensor_value_info("points", TensorProto.FLOAT, ["batch", 3])
    return _model(nodes, ["batch", 3, 192, 192], [output])


def _model(nodes: list[Any], shape: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "tiny", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def _tensor(values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32))
