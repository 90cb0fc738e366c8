"""What the .onnx files of a face pack are, told from their graphs: file names say nothing reliable."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import onnx

from service.errors import ModelUnavailableError

logger = logging.getLogger(__name__)

Role = Literal["scrfd", "yunet", "recognition", "genderage"]

_YUNET_OUTPUTS = {f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)}


def pack_models(pack: Path) -> dict[Role, Path]:
    """The pack's models by role; of two that do the same the first by name.

    Raises:
        ModelUnavailableError: a file is no ONNX model.
    """
    files: dict[Role, Path] = {}
    for file in sorted(pack.glob("*.onnx")):
        role = _role(file)
        if role is None:
            logger.info("%s in the face pack %s is not needed and stays unloaded", file.name, pack.name)
        elif role in files:
            logger.warning("%s is ignored: %s in the same pack does the same", file.name, files[role].name)
        else:
            files[role] = file
    return files


def broken(file: Path) -> ModelUnavailableError:
    """The error for a file that can't be loaded."""
    return ModelUnavailableError(
        f"{file} can't be read as an ONNX model: it is damaged or cut short. "
        f"Remove the folder {file.parent} and get it again with `python main.py models pull {file.parent.name}`."
    )


def _role(file: Path) -> Role | None:
    """What a model is, by its inputs and outputs: for InsightFace's the rules of its ModelRouter, without a session.

    SCRFD with five points has 9 outputs (3 strides) or 15 (5 strides), YuNet 12 with names of its own; a recogniser
    takes a square of a multiple of 16 px from 112 and gives one vector; gender/age takes 96x96 and gives three numbers.
    Landmark models take 192x192.
    """
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except Exception as error:  # protobuf raises several unrelated types for broken bytes
        raise broken(file) from error
    if not graph.input:
        raise broken(file)
    # Before IR version 4 an ONNX graph lists its weights among its inputs.
    weights = {tensor.name for tensor in graph.initializer}
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input if i.name not in weights]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    if {output.name for output in graph.output} == _YUNET_OUTPUTS:
        return "yunet"
    if len(graph.output) in (9, 15):
        return "scrfd"
    height, width = shapes[0][2:]
    last = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    if len(graph.output) != 1 or height != width or height == 192:
        return None
    if height == 96:
        return "genderage" if last[-1:] == [3] else None
    return "recognition" if height >= 112 and height % 16 == 0 else None
