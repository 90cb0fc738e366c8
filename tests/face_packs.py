"""Tiny but real ONNX models in InsightFace's pack format, built in the test: the real loading code runs on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from face_detector import FaceDetector, load_face_detector
from face_landmarks import FaceLandmarks

SQUARE = 96
"""The detector finds white squares of about this many pixels, at 640 px, on black, whose centre is a multiple of 32."""
BOX = 140
"""Side of the box it gives them: large enough that neighbouring cells' boxes are suppressed."""
EMBEDDING_SIZE = 8
SFACE_SIZE = 128
_KPS = ((-20, -20), (20, -20), (0, 0), (-15, 20), (15, 20))


def load(model: Path | str, landmarks: FaceLandmarks, **changes: Any) -> FaceDetector:
    """The detector for a pack, on the CPU's two cores; `changes` are options of `load_face_detector`."""
    options: dict[str, Any] = {
        "engine": "auto",
        "det_threshold": 0.5,
        "device": "cpu",
        "models_dir": Path("nowhere"),
        "threads": 2,
    }
    return load_face_detector(model=str(model), landmarks=landmarks, **(options | changes))


def write_pack(
    folder: Path,
    *,
    detector: bool = True,
    recogniser: bool = True,
    genderage: bool = True,
    dimension: int = EMBEDDING_SIZE,
) -> Path:
    """A pack whose file names say nothing about what the files are; embeddings have `dimension` numbers."""
    folder.mkdir(parents=True)
    if detector:
        onnx.save(square_detector(), folder / "a.onnx")
    if recogniser:
        onnx.save(colour_recogniser(dimension=dimension), folder / "b.onnx")
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


def colour_recogniser(*, batch: int | str = "batch", dimension: int = EMBEDDING_SIZE) -> onnx.ModelProto:
    """The embedding is a fixed linear function of the crop's mean colour."""
    weights = np.random.default_rng(0).normal(size=(3, dimension))
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("Constant", [], ["weights"], value=_tensor(weights)),
        helper.make_node("MatMul", ["colour", "weights"], ["embedding"]),
    ]
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dimension])
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


def write_opencv_pack(folder: Path, *, detector: bool = True, recogniser: bool = True) -> Path:
    """YuNet and SFace under names that say nothing."""
    folder.mkdir(parents=True)
    if detector:
        onnx.save(square_yunet(), folder / "a.onnx")
    if recogniser:
        onnx.save(colour_sface(), folder / "b.onnx")
    return folder


def square_yunet() -> onnx.ModelProto:
    """YuNet's input and twelve outputs; the score at stride 32 is the brightness of the 96x96 px around a cell."""
    nodes: list[Any] = [
        helper.make_node("Constant", [], ["thirds"], value=_tensor(np.full((1, 3, 1, 1), 1 / 765))),
        helper.make_node("Conv", ["input", "thirds"], ["brightness"]),
    ]
    for stride in (8, 16, 32):
        before, after = 3 * stride // 2, stride // 2  # so that cell i looks at the pixels around i * stride
        nodes.append(
            helper.make_node(
                "AveragePool", ["brightness"], [f"cells{stride}"], kernel_shape=[3 * stride] * 2, strides=[stride] * 2,
                pads=[before, before, after, after], count_include_pad=1,
            )
        )  # fmt: skip
        answers = {
            # Only the coarsest stride speaks, so that one square is one face.
            "cls": ([1.0 if stride == 32 else 0.0], [0.0]),
            "obj": ([1.0 if stride == 32 else 0.0], [0.0]),
            "bbox": ([0.0] * 4, [0.0, 0.0, *np.log([BOX / stride] * 2)]),
            "kps": ([0.0] * 10, np.ravel(_KPS) / stride),
        }
        for kind, (weight, bias) in answers.items():
            name, width = f"{kind}_{stride}", len(weight)
            nodes += [
                helper.make_node("Constant", [], [f"w_{name}"], value=_tensor(np.reshape(weight, (width, 1, 1, 1)))),
                helper.make_node("Constant", [], [f"b_{name}"], value=_tensor(bias)),
                helper.make_node("Conv", [f"cells{stride}", f"w_{name}", f"b_{name}"], [f"map_{name}"]),
                helper.make_node("Transpose", [f"map_{name}"], [f"rows_{name}"], perm=[0, 2, 3, 1]),
                helper.make_node(
                    "Constant", [], [f"shape_{name}"], value=numpy_helper.from_array(np.array([1, -1, width], np.int64))
                ),
                helper.make_node("Reshape", [f"rows_{name}", f"shape_{name}"], [name]),
            ]
    outputs = [
        helper.make_tensor_value_info(f"{kind}_{stride}", TensorProto.FLOAT, [1, (640 // stride) ** 2, width])
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10))
        for stride in (8, 16, 32)
    ]
    return _model(nodes, [1, 3, 640, 640], outputs, name="input")


def colour_sface() -> onnx.ModelProto:
    """SFace's input and 128 outputs: a fixed linear function of the crop's mean colour, RGB 0..255."""
    weights = np.random.default_rng(0).normal(size=(3, SFACE_SIZE))
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        helper.make_node("Constant", [], ["weights"], value=_tensor(weights)),
        helper.make_node("MatMul", ["colour", "weights"], ["fc1"]),
    ]
    output = helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, SFACE_SIZE])
    return _model(nodes, [1, 3, 112, 112], [output], name="data")


def brightness_genderage() -> onnx.ModelProto:
    """Everyone is female, by a logit of 3, and as many years old as the crop is bright in per cent."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["colour"]),
        # -1..1 in three channels to 0..1 in the last answer.
        helper.make_node("Constant", [], ["weights"], value=_tensor([[0, 0, 1 / 6]] * 3)),
        helper.make_node("Constant", [], ["bias"], value=_tensor([1.5, -1.5, 0.5])),
        helper.make_node("Gemm", ["colour", "weights", "bias"], ["attributes"]),
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


def _model(nodes: list[Any], shape: list[Any], outputs: list[Any], *, name: str = "image") -> onnx.ModelProto:
    image = helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "tiny", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def _tensor(values: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32))


def write_expression_model(folder: Path, *, softmax: bool = False, labels: int = 7) -> Path:
    """The real model's signature; the score of label i is the mean red of the crop's column i of seven."""
    width = 112 // 7
    nodes = [
        helper.make_node("Slice", ["data", "first", "second", "axis"], ["red"]),
        helper.make_node("AveragePool", ["red"], ["columns"], kernel_shape=[112, width], strides=[112, width]),
        helper.make_node("Reshape", ["columns", "row"], ["means"]),
        helper.make_node("Slice", ["means", "first", "count", "axis"], ["some"]),
        helper.make_node("Softmax" if softmax else "Identity", ["some"], ["label"]),
    ]
    constants = {"first": [0], "second": [1], "axis": [1], "row": [1, 7], "count": [labels]}
    graph = helper.make_graph(
        nodes,
        "expressions",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("label", TensorProto.FLOAT, [1, labels])],
        [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    file = folder / "columns.onnx"
    onnx.save(model, file)
    return file
