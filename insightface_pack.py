"""The InsightFace engine of `face_detector`: a pack folder's detector, recogniser and gender/age model.

The models are insightface's own classes (`insightface.model_zoo`); what drives them is here, because
`insightface.app.FaceAnalysis` builds a detector session per input size, keeps thresholds as shared attributes and
loads landmark models that nothing here uses. insightface and onnxruntime are imported by no other module.
"""

from __future__ import annotations

import ctypes
import logging
import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import onnx
import onnxruntime
from insightface.model_zoo.model_zoo import ModelRouter
from insightface.utils.face_align import arcface_dst

from face_detector import NOT_ASKED_FOR, Device, Face, FaceDetector, recogniser_of
from service.errors import InvalidValueError, ModelUnavailableError
from utils import AnyArray, FloatArray, RGBImage

logger = logging.getLogger(__name__)

FINE_SIDE = 640
"""Side in pixels of the main detection pass: what InsightFace's packs are published and measured at."""
COARSE_SIDE = 128
"""Side of the second pass, which finds faces that fill the frame: at 640 px they outgrow SCRFD's largest anchors."""
CLOSE_LOOK_SIDE = 1280
"""Side of the pass over a large picture in which nothing was found: its faces may be a few pixels wide at 640."""
REFINE_SIDE = 160
"""Side of the upright crop on which a face's points are found again: measured best among 128, 160, 192, 256."""
REFINE_FACE_SHARE = 0.42
"""Share of that crop which ArcFace's own 112 px crop would take."""
REFINE_THRESHOLD = 0.3
"""A face is known to be there: it needs less confidence than one that isn't."""
SURE_SCORE = 0.75
"""Upright faces score more on their crop (measured 0.81 to 0.92 with SCRFD-2.5G): below, other ways up are tried."""
GUESS_FACE_SHARE = 0.9
"""Side of ArcFace's crop as a share of the box's longer side."""
REFINE_TOLERANCE = 0.15
"""How far, as a share of the crop, the five points may move on average and still be the same face."""
MAX_INTRA_OP_THREADS = 4
"""Beyond this a convolution of these sizes gains little; the other cores serve other requests."""
FACE_BATCH = 8
"""Faces per recogniser run: bounds memory on a crowd."""
GENDERAGE_MARGIN = 1.5
"""The gender/age model was trained on a square of 1.5 times the box's longer side."""
AGE_ZOOMS = (0.9, 1.1)
"""How much tighter and wider the age is estimated again, mirrored and not, for its range."""

Role = Literal["detection", "recognition", "genderage"]


@dataclass(frozen=True, slots=True)
class _Candidates:
    """What the detector found, before it becomes `Face`s: unclipped boxes (N, 5) with scores, and points (N, 5, 2)."""

    boxes: FloatArray
    kps: FloatArray


class InsightFaceDetector(FaceDetector):
    """Any folder in InsightFace's pack format: SCRFD with five points, ArcFace-style recogniser, gender/age."""

    engine = "insightface"

    def __init__(
        self, pack: Path, *, det_threshold: float, device: Device, threads: int, match_threshold: float | None = None
    ) -> None:
        """Load the models of `pack` that are needed, one session each, and run each once.

        Args:
            pack: a folder of .onnx files, told apart by their inputs and outputs.
            det_threshold: least detection confidence, 0..1.
            device: "cuda" must really run; "auto" takes it where it does.
            threads: CPU cores that all sessions together may use.
            match_threshold: see `load_face_detector`.

        Raises:
            ModelUnavailableError: a file is broken, there is no detector, or CUDA was demanded and doesn't run.
        """
        intra_op = max(1, min(threads, MAX_INTRA_OP_THREADS))
        # A run uses `intra_op` threads, so this many runs at once fill the cores and no more: with more threads than
        # cores onnxruntime's spinning workers starve one another (measured: five times slower).
        self._runs = threading.BoundedSemaphore(max(1, threads // intra_op))
        self.model = pack.name
        models = _load_models(pack, device=device, intra_op_threads=intra_op)
        self.provider = next(iter(models.values())).session.get_providers()[0]
        self._detector = models["detection"]
        self._arcface: Any = models.get("recognition")
        self._genderage: Any = models.get("genderage")
        self._resizable = self._detector.static_input_size is None
        self._genderage_size = int(self._genderage.input_size[0]) if self._genderage else 0
        self._det_threshold = det_threshold
        dimension = self._warm_up()
        self.recogniser = None
        if self._arcface is not None:
            weights = Path(self._arcface.model_file)
            self.recogniser = recogniser_of(
                weights, model=self.model, dimension=dimension, match_threshold=match_threshold
            )

    def detect(self, image_rgb: RGBImage, *, threshold: float | None = None) -> list[Face]:
        found = self._candidates(image_rgb, threshold)
        return [
            Face(_clipped(box, image_rgb)[:4], kps, float(box[4]), unavailable=NOT_ASKED_FOR)
            for box, kps in zip(found.boxes, found.kps, strict=True)
        ]

    def recognise(self, pictures: Sequence[tuple[RGBImage, Sequence[Face]]], *, attributes: bool) -> list[list[Face]]:
        unavailable = self._missing_models()
        if not attributes:
            unavailable |= dict.fromkeys(("gender", "age"), NOT_ASKED_FOR["age"])
        faces = [(image_rgb, face) for image_rgb, found in pictures for face in found]
        known = [replace(face, unavailable=unavailable) for _, face in faces]
        if self._arcface is not None:
            embeddings = self._embeddings([(image_rgb, face.kps) for image_rgb, face in faces])
            known = [replace(face, embedding=vector) for face, vector in zip(known, embeddings, strict=True)]
        if attributes and self._genderage is not None:
            answers = [self._attributes(image_rgb, face.bbox) for image_rgb, face in faces]
            known = [replace(face, **answer) for face, answer in zip(known, answers, strict=True)]
        rest = iter(known)
        return [list(islice(rest, len(found))) for _, found in pictures]

    def embed(self, image_rgb: RGBImage, kps: FloatArray) -> FloatArray:
        if self._arcface is None:
            raise ModelUnavailableError(self._missing_models()["embedding"])
        return self._embeddings([(image_rgb, np.asarray(kps, np.float32))])[0]

    def _missing_models(self) -> dict[str, str]:
        why: dict[str, str] = {}
        if self._arcface is None:
            why["embedding"] = f"The face pack {self.model} has no recognition model."
        if self._genderage is None:
            why |= dict.fromkeys(("gender", "age"), f"The face pack {self.model} has no gender and age model.")
        return why

    def _candidates(self, image_rgb: RGBImage, threshold: float | None) -> _Candidates:
        """The picture's faces, largest area first. A large picture gets a closer look only if nothing was found."""
        least = self._det_threshold if threshold is None else threshold
        found = self._suppress([self._look(image_rgb, side, least) for side in self._sides()])
        if not len(found.boxes) and max(image_rgb.shape[:2]) > FINE_SIDE and self._resizable:
            found = self._suppress([self._look(image_rgb, CLOSE_LOOK_SIDE, least)])
        boxes = np.array([_clipped(box, image_rgb) for box in found.boxes], np.float32).reshape(-1, 5)
        order = [i for i in np.argsort(-_areas(boxes), kind="stable") if _areas(boxes[i]) > 0]
        kps = [self._refined(image_rgb, boxes[i], found.kps[i]) for i in order]
        return _Candidates(found.boxes[order], np.array(kps, np.float32).reshape(-1, 5, 2))

    def _sides(self) -> tuple[int, ...]:
        return (FINE_SIDE, COARSE_SIDE) if self._resizable else (int(self._detector.static_input_size[0]),)

    def _suppress(self, passes: list[_Candidates]) -> _Candidates:
        """One non-maximum suppression over the candidates of all passes."""
        boxes = np.vstack([found.boxes for found in passes])
        keep = self._detector.nms(boxes)
        return _Candidates(boxes[keep], np.vstack([found.kps for found in passes])[keep])

    def _look(self, image_rgb: RGBImage, side: int, threshold: float) -> _Candidates:
        """One pass over the picture scaled to `side` pixels on its longer edge; pixels of the picture itself."""
        height, width = image_rgb.shape[:2]
        factor = side / max(height, width)
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
        found = self._run_detector(cv2.resize(image_rgb, size, interpolation=interpolation), side, threshold)
        scale = np.array([width / size[0], height / size[1]], np.float32)
        boxes = np.hstack((found.boxes[:, :4] * np.tile(scale, 2), found.boxes[:, 4:]))
        return _Candidates(boxes, found.kps * scale)

    def _refined(self, image_rgb: RGBImage, box: FloatArray, kps: FloatArray) -> FloatArray:
        """The five points found again on an upright crop around the face, or as they were where that fails.

        Points of tilted, small and frame-filling faces are rough at first sight, and those of a face upside down are
        wrong. On eight photos this raised the gap between the closest strangers and the least similar pair of one
        person from 0.48 to 0.55 in cosine, and for the same photos tilted by 45 degrees from -0.09 to 0.59.
        """
        if not self._resizable:
            return kps
        score, points = self._look_closely(image_rgb, kps)
        if score < SURE_SCORE:
            turned = max((self._look_closely(image_rgb, guess) for guess in _turned_guesses(box)), key=lambda g: g[0])
            if turned[0] > score:
                score, points = self._look_closely(image_rgb, turned[1])
        return points if score > 0 else kps

    def _look_closely(self, image_rgb: RGBImage, kps: FloatArray) -> tuple[float, FloatArray]:
        """Score and points of the face on the crop in which `kps` stand upright; 0 and `kps` where there is none."""
        expected = (_arcface_points(112) - 56) * (REFINE_FACE_SHARE * REFINE_SIDE / 112) + REFINE_SIDE / 2
        matrix = _similarity(kps, expected)
        found = self._run_detector(_warp(image_rgb, matrix, REFINE_SIDE), REFINE_SIDE, REFINE_THRESHOLD)
        # The crop may hold a neighbour: only a face where this one was expected counts.
        distances = np.linalg.norm(found.kps - expected, axis=2).mean(axis=1)
        scores = np.where(distances < REFINE_SIDE * REFINE_TOLERANCE, found.boxes[:, 4], 0)
        if not scores.any():
            return 0.0, kps
        back = cv2.invertAffineTransform(matrix)
        points = found.kps[scores.argmax()] @ back[:, :2].T + back[:, 2]
        return float(scores.max()), np.asarray(points, np.float32)

    def _run_detector(self, scaled_rgb: AnyArray, side: int, threshold: float) -> _Candidates:
        """Candidates, overlapping ones included, in pixels of `scaled_rgb`, whose longer edge is at most `side`.

        On the CPU the canvas is only as large as the detector's coarsest stride asks for: a square one spends 44 % of
        the work on the black bars of a 16:9 picture. CUDA gets one fixed shape, since cuDNN plans each shape anew.
        """
        height, width = scaled_rgb.shape[:2]
        stride = 32 if self._detector.fmc == 3 else 128
        rows, columns = (-(-height // stride) * stride, -(-width // stride) * stride)
        if not self._resizable:
            rows = columns = side
        elif self.provider != "CPUExecutionProvider":
            rows = columns = -(-side // stride) * stride
        canvas_bgr = np.zeros((rows, columns, 3), np.uint8)
        canvas_bgr[:height, :width] = scaled_rgb[:, :, ::-1]
        with self._runs:
            scores, boxes, points = self._detector.forward(canvas_bgr, threshold)
        boxes = np.hstack((np.vstack(boxes), np.vstack(scores))).astype(np.float32)
        return _Candidates(boxes, np.vstack(points).reshape(-1, 5, 2).astype(np.float32))

    def _embeddings(self, faces: Sequence[tuple[RGBImage, FloatArray]]) -> list[FloatArray]:
        """One (D,) L2-normalised vector for each picture and five points (5, 2) in it."""
        size = int(self._arcface.input_size[0])
        crops = [_aligned_crop(image_rgb, kps, size) for image_rgb, kps in faces]
        batch = FACE_BATCH if _takes_batches(self._arcface) else 1
        embeddings: list[FloatArray] = []
        for start in range(0, len(crops), batch):
            with self._runs:
                raw = self._arcface.get_feat(crops[start : start + batch])
            embeddings += [_unit(vector) for vector in raw]
        return embeddings

    def _attributes(self, image_rgb: RGBImage, box: FloatArray) -> dict[str, Any]:
        """Gender and age as fields of a `Face`. The model gives the logits of female and male, and age / 100."""
        female, male, age = self._run_genderage(_square_crop(image_rgb, box, self._genderage_size))
        wider = [_square_crop(image_rgb, box, self._genderage_size, zoom) for zoom in AGE_ZOOMS]
        mirrored = [crop[:, ::-1] for crop in (_square_crop(image_rgb, box, self._genderage_size), *wider)]
        ages = [age, *(self._run_genderage(crop)[2] for crop in (*wider, *mirrored))]
        return {
            "gender": "M" if male > female else "F",
            "gender_probability": 1 / (1 + math.exp(-abs(male - female))),
            "age": round(age * 100),
            "age_range": (round(min(ages) * 100), round(max(ages) * 100)),
        }

    def _run_genderage(self, crop_rgb: RGBImage) -> tuple[float, float, float]:
        model = self._genderage
        size = (self._genderage_size,) * 2
        blob = cv2.dnn.blobFromImage(crop_rgb, 1.0 / model.input_std, size, (model.input_mean,) * 3, swapRB=False)
        with self._runs:
            female, male, age = model.session.run(model.output_names, {model.input_name: blob})[0][0]
        return float(female), float(male), float(age)

    def _warm_up(self) -> int:
        """Run every session once: the first run allocates and, on CUDA, proves that the kernels fit the device.

        Returns the length of an embedding, 0 without a recogniser.
        """
        blank = np.zeros((FINE_SIDE, FINE_SIDE, 3), np.uint8)
        self.detect(blank)
        if self._genderage is not None:
            self._run_genderage(blank[: self._genderage_size, : self._genderage_size])
        return 0 if self._arcface is None else len(self._embeddings([(blank, arcface_dst + 200.0)])[0])


def _load_models(pack: Path, *, device: Device, intra_op_threads: int) -> dict[Role, Any]:
    """The pack's models by role, each with one session. Of two that do the same the first by name is taken."""
    files: dict[Role, Path] = {}
    for file in sorted(pack.glob("*.onnx")):
        role = _role(file)
        if role is None:
            logger.info("%s in the face pack %s is not needed and stays unloaded", file.name, pack.name)
        elif role in files:
            logger.warning("%s is ignored: %s in the same pack does the same", file.name, files[role].name)
        else:
            files[role] = file
    if "detection" not in files:
        raise ModelUnavailableError(f"The face pack {pack} has no SCRFD detection model (an .onnx with five points).")
    providers = _providers(device)
    models = {role: _load_model(file, providers, intra_op_threads) for role, file in files.items()}
    if device == "cuda":
        _refuse_silent_cpu({files[role].name: model for role, model in models.items()})
    return models


def _role(file: Path) -> Role | None:
    """What a model is, by the shapes of its graph: the rules of insightface's ModelRouter, without a session.

    SCRFD with five points has 9 outputs (3 strides) or 15 (5 strides); a recogniser takes a square of a multiple of
    16 px from 112 and gives one vector; gender/age takes 96x96 and gives three numbers. Landmark models take 192x192.
    """
    try:
        graph = onnx.load(str(file), load_external_data=False).graph
    except Exception as error:  # protobuf raises several unrelated types for broken bytes
        raise _broken(file) from error
    if not graph.input:
        raise _broken(file)
    # Before IR version 4 an ONNX graph lists its weights among its inputs.
    weights = {tensor.name for tensor in graph.initializer}
    shapes = [[d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input if i.name not in weights]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        return None
    height, width = shapes[0][2:]
    last = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    if len(graph.output) in (9, 15):
        return "detection"
    if len(graph.output) != 1 or height != width or height == 192:
        return None
    if height == 96:
        return "genderage" if last[-1:] == [3] else None
    return "recognition" if height >= 112 and height % 16 == 0 else None


def _broken(file: Path) -> ModelUnavailableError:
    return ModelUnavailableError(
        f"{file} can't be read as an ONNX model: it is damaged or cut short. "
        f"Remove the folder {file.parent} and get it again with `python main.py models pull {file.parent.name}`."
    )


def _load_model(file: Path, providers: list[str], intra_op_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # A session's threads go on spinning after its run, into the next session's: measured 80 ms instead of 42 for one
    # detection and embedding on two cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        model = ModelRouter(str(file)).get_model(
            providers=providers,
            provider_options=[_PROVIDER_OPTIONS[name] for name in providers],
            sess_options=options,
            # False: every input size runs in the one session, instead of one more session for each size.
            static_shape_sessions=False,
        )
    except Exception as error:  # onnxruntime's own exceptions share no base below Exception
        raise _broken(file) from error
    return model


_PROVIDER_OPTIONS: dict[str, dict[str, str]] = {
    # Exact growth instead of doubling: the arena never gives memory back.
    "CPUExecutionProvider": {"arena_extend_strategy": "kSameAsRequested"},
    # The exhaustive search takes seconds for each new batch size and finds nothing better for these networks.
    "CUDAExecutionProvider": {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"},
}


def _providers(device: Device) -> list[str]:
    """Execution providers in order of preference. onnxruntime drops one that doesn't start, which is checked later."""
    wanted = device == "cuda" or (device == "auto" and _has_nvidia_driver())
    cuda = wanted and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]


def _has_nvidia_driver() -> bool:
    """Whether trying CUDA makes sense: without a driver onnxruntime only fills the log with missing libraries."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _refuse_silent_cpu(models: dict[str, Any]) -> None:
    for name, model in models.items():
        running = model.session.get_providers()[0]
        if running != "CUDAExecutionProvider":
            raise ModelUnavailableError(
                f"DEVICE=cuda, but {name} runs on {running}. Check the NVIDIA driver (nvidia-smi) and install the CUDA "
                "runtime with `pip install -r requirements-gpu.txt`, or set DEVICE=auto or DEVICE=cpu."
            )


def _takes_batches(model: Any) -> bool:
    """Whether the model's batch dimension is free: an exported graph may fix it at 1."""
    return not isinstance(model.input_shape[0], int)


def _aligned_crop(image_rgb: RGBImage, kps: FloatArray, size: int) -> RGBImage:
    """The BGR `size` x `size` crop in which the five points lie where ArcFace expects them."""
    crop = _warp(image_rgb, _similarity(kps, _arcface_points(size)), size)
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR), np.uint8)


def _arcface_points(size: int) -> FloatArray:
    """ArcFace's five points (insightface's `face_align.arcface_dst`, for 112 px) at another crop size.

    Sizes that are a multiple of 128 carry the 112 px frame in their middle, 8 px further right.
    """
    if size % 112 == 0:
        return np.asarray(arcface_dst * (size / 112), np.float32)
    return np.asarray((arcface_dst + np.array([8.0, 0.0])) * (size / 128), np.float32)


def _similarity(source: FloatArray, target: FloatArray) -> FloatArray:
    """(2, 3) rotation, scale and shift that takes (N, 2) `source` nearest to `target` in least squares.

    In complex numbers it is w = a z + b, whose solution is closed.

    Raises:
        InvalidValueError: the points are not finite or all in one place.
    """
    z, w = (points[:, 0].astype(np.float64) + 1j * points[:, 1] for points in (source, target))
    z_mean, w_mean = z.mean(), w.mean()
    spread = float(np.sum(np.abs(z - z_mean) ** 2))
    if not np.isfinite(spread) or spread < 1e-6:
        raise InvalidValueError("The five points of the face lie in one place or are not numbers.")
    a = np.sum(np.conj(z - z_mean) * (w - w_mean)) / spread
    b = w_mean - a * z_mean
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], np.float32)


def _square_crop(image_rgb: RGBImage, box: FloatArray, size: int, zoom: float = 1.0) -> RGBImage:
    x1, y1, x2, y2 = (float(v) for v in box[:4])
    scale = zoom * size / (max(x2 - x1, y2 - y1, 1.0) * GENDERAGE_MARGIN)
    shift = (size / 2 - scale * (x1 + x2) / 2, size / 2 - scale * (y1 + y2) / 2)
    return _warp(image_rgb, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32), size)


def _warp(image_rgb: RGBImage, matrix: FloatArray, size: int) -> RGBImage:
    return np.asarray(cv2.warpAffine(image_rgb, matrix, (size, size), borderValue=0.0), np.uint8)


def _unit(vector: AnyArray) -> FloatArray:
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm == 0:
        raise ModelUnavailableError("The recognition model gave no usable embedding: verify it with `models verify`.")
    return np.asarray(vector / norm, np.float32)


def _clipped(box: FloatArray, image: RGBImage) -> FloatArray:
    """The box (x1, y1, x2, y2 and perhaps a score) with its corners inside the image."""
    height, width = image.shape[:2]
    corners = np.clip(box[:4], 0, np.array([width, height, width, height]))
    return np.concatenate((corners, box[4:])).astype(np.float32)


def _areas(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]), np.float32)


def _turned_guesses(box: FloatArray) -> list[FloatArray]:
    """Where the five points (5, 2) of the face in `box` lie if its head points right, down or left."""
    x1, y1, x2, y2 = (float(v) for v in box[:4])
    centred = arcface_dst - arcface_dst.mean(axis=0)
    centred *= GUESS_FACE_SHARE * max(x2 - x1, y2 - y1) / 112
    centre = np.array([x1 + x2, y1 + y2]) / 2
    quarter_turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    turns = (np.linalg.matrix_power(quarter_turn, n) for n in (1, 2, 3))
    return [np.asarray(centred @ turn + centre, np.float32) for turn in turns]
