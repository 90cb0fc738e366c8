"""The InsightFace engine of `face_detector`: a pack's SCRFD detector, ArcFace-style recogniser and gender/age model.

The models are insightface's own classes (`insightface.model_zoo`); what drives them is here, because
`insightface.app.FaceAnalysis` builds a detector session per input size, keeps thresholds as shared attributes and
loads landmark models that nothing here uses. insightface is imported by no other module.
"""

from __future__ import annotations

import ctypes
import logging
import math
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import onnxruntime
from insightface.model_zoo.model_zoo import ModelRouter

from face_detector import Device, Face, recogniser_of
from face_models import Role, broken
from face_points import MOST_ROLL_DEG, arcface_crop, arcface_points, roll_degrees, square_crop
from face_search import FINE_SIDE, Candidates, SearchingDetector
from service.errors import ModelUnavailableError
from utils import AnyArray, FloatArray, RGBImage

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

GENDERAGE_MARGIN = 1.5
"""The gender/age model was trained on a square of 1.5 times the box's longer side."""
AGE_ZOOMS = (1.0, 0.9, 1.1)
"""The age is estimated on the model's own crop, a wider and a tighter one, each also mirrored, for its range."""
GPU_BATCH = 8
"""Crops in one run on a GPU, where launches cost more than the work."""


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """How onnxruntime shares the CPU's cores. Measured with a small pack on two of them:

    Faces one after the other on all cores, or one on each core, take the same CPU time within 5 %, so that a single
    face may have them all. A batch of 8 takes a fifth more than 8 runs. A run waits at the end of each layer for the
    slowest of its threads: where another picture's decoding has taken that one's core, both cores soon have nothing to
    do. So one run more is let in than fills them. As no thread spins, this costs no CPU time; eight threads of one run
    on two cores were five times slower.

    Attributes:
        threads_per_run: of one session run. Convolutions of these sizes gain little beyond four.
        runs_at_once: over all sessions.
    """

    threads_per_run: int
    runs_at_once: int

    @classmethod
    def of(cls, cores: int) -> RunPolicy:
        """The policy for so many CPU cores."""
        threads = max(1, min(cores, 4))
        return cls(threads, max(1, min(cores, cores // threads + 1)))


class _Gated:
    """An onnxruntime session of which no more than a fixed number of runs, over all sessions, happen at once."""

    def __init__(self, session: Any, gate: threading.Semaphore) -> None:
        self._session = session
        self._gate = gate

    def run(self, *args: Any) -> Any:
        with self._gate:
            return self._session.run(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


class InsightFaceDetector(SearchingDetector):
    """Any folder in InsightFace's pack format: SCRFD with five points, ArcFace-style recogniser, gender/age."""

    engine = "insightface"
    coarse_side = 128
    """insightface's own; at 640 px a face that fills the frame outgrows SCRFD's largest anchors."""

    def __init__(
        self,
        pack: Path,
        files: Mapping[Role, Path],
        *,
        det_threshold: float,
        device: Device,
        threads: int,
        match_threshold: float | None = None,
    ) -> None:
        """Load the models that are needed, one session each, and run each once.

        Args:
            pack: the folder.
            files: its models, as `face_models.pack_models` tells them apart.
            det_threshold: least detection confidence, 0..1.
            device: "cuda" must really run; "auto" takes it where it does.
            threads: CPU cores of this process; see `RunPolicy` for how runs share them.
            match_threshold: see `load_face_detector`.

        Raises:
            ModelUnavailableError: a file is broken, there is no detector, or CUDA was demanded and doesn't run.
        """
        if "scrfd" not in files:
            raise ModelUnavailableError(
                f"The face pack {pack} has no SCRFD detection model (an .onnx with five points)."
            )
        policy = RunPolicy.of(threads)
        self._gate = threading.BoundedSemaphore(policy.runs_at_once)
        # One more than can run: it cuts the next crop meanwhile.
        self._workers = ThreadPoolExecutor(policy.runs_at_once + 1, thread_name_prefix="faces")
        self.model = pack.name
        self._detector = self._load(files["scrfd"], device, policy)
        self._arcface: Any = self._load(files["recognition"], device, policy) if "recognition" in files else None
        self._genderage: Any = self._load(files["genderage"], device, policy) if "genderage" in files else None
        self.provider = self._detector.session.get_providers()[0]
        self.batch = 1 if self.provider == "CPUExecutionProvider" else GPU_BATCH
        fixed = self._detector.static_input_size
        self.fixed_side = None if fixed is None else int(fixed[0])
        self.det_threshold = det_threshold
        self.missing = _missing(self.model, files)
        dimension = self._warm_up()
        self.recogniser = None
        if "recognition" in files:
            self.recogniser = recogniser_of(
                files["recognition"], model=self.model, dimension=dimension, match_threshold=match_threshold
            )

    def _factors(self, picture: tuple[int, int], scaled: tuple[int, int]) -> AnyArray:
        """insightface takes the height's factor for both, though the rounded sizes differ a little.

        As the boxes are its own then, so are the embeddings. On a panorama they would lie beside the faces.
        """
        factors = super()._factors(picture, scaled)
        return factors[[1, 1]] if max(picture) <= 2 * min(picture) else factors

    def _run_detector(self, scaled_rgb: AnyArray, side: int, threshold: float) -> Candidates:
        """See the base class.

        On the CPU the main pass's canvas is only as large as the detector's coarsest stride asks for: a square one
        spends 44 % of the work on the black bars of a 16:9 picture. CUDA gets one fixed shape, since cuDNN plans each
        shape anew.
        """
        height, width = scaled_rgb.shape[:2]
        stride = 32 if self._detector.fmc == 3 else 128
        rows, columns = (-(-height // stride) * stride, -(-width // stride) * stride)
        if self.fixed_side is not None:
            rows = columns = side
        elif self.provider != "CPUExecutionProvider" or side < FINE_SIDE:
            rows = columns = -(-side // stride) * stride
        canvas_bgr = np.zeros((rows, columns, 3), np.uint8)
        canvas_bgr[:height, :width] = scaled_rgb[:, :, ::-1]
        scores, boxes, points = self._detector.forward(canvas_bgr, threshold)
        boxes = np.hstack((np.vstack(boxes), np.vstack(scores))).astype(np.float32)
        return Candidates(boxes, np.vstack(points).reshape(-1, 5, 2).astype(np.float32))

    def _embeddings(self, faces: Sequence[tuple[RGBImage, FloatArray]]) -> list[FloatArray]:
        size = int(self._arcface.input_size[0])

        def embed(start: int) -> FloatArray:
            crops = [arcface_crop(image_rgb, kps, size) for image_rgb, kps in faces[start : start + self.batch]]
            return _run(self._arcface, crops, batch=self.batch)

        return [vector for rows in self._each(embed, range(0, len(faces), self.batch)) for vector in rows]

    def _attributes(self, faces: Sequence[tuple[RGBImage, Face]]) -> list[dict[str, Any]]:
        return self._each(self._gender_and_age, faces) if self._genderage else [{} for _ in faces]

    def _gender_and_age(self, seen: tuple[RGBImage, Face]) -> dict[str, Any]:
        """As fields of a `Face`. The model gives the logits of female and male, and age / 100."""
        image_rgb, face = seen
        size = int(self._genderage.input_size[0])
        roll = roll_degrees(face.kps)
        # insightface leaves the head as it lies; the model saw upright ones.
        roll = roll if abs(roll) > MOST_ROLL_DEG else 0.0
        crops = [square_crop(image_rgb, face.bbox, size, margin=GENDERAGE_MARGIN / z, roll_deg=roll) for z in AGE_ZOOMS]
        answers = _run(self._genderage, [*crops, *(crop[:, ::-1] for crop in crops)])
        female, male, age = (float(value) for value in answers[0])
        ages = answers[:, 2]
        return {
            "gender": "M" if male > female else "F",
            "gender_probability": 1 / (1 + math.exp(-abs(male - female))),
            "age": round(age * 100),
            "age_range": (round(float(ages.min()) * 100), round(float(ages.max()) * 100)),
        }

    def _each(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`work` on every item; on several at once where there are several."""
        return list(self._workers.map(work, items)) if len(items) > 1 else [work(item) for item in items]

    def _load(self, file: Path, device: Device, policy: RunPolicy) -> Any:
        model = _load_model(file, _providers(device), policy.threads_per_run)
        running = model.session.get_providers()[0]
        if device == "cuda" and running != "CUDAExecutionProvider":
            raise ModelUnavailableError(
                f"DEVICE=cuda, but {file.name} runs on {running}. Check the NVIDIA driver (nvidia-smi) and install the "
                "CUDA runtime with `pip install -r requirements-gpu.txt`, or set DEVICE=auto or DEVICE=cpu."
            )
        model.session = _Gated(model.session, self._gate)
        return model

    def _warm_up(self) -> int:
        """Run every session once: the first run allocates and, on CUDA, proves that the kernels fit the device.

        Returns the length of an embedding, 0 without a recogniser.
        """
        blank = np.zeros((FINE_SIDE, FINE_SIDE, 3), np.uint8)
        points = arcface_points(224)
        self.detect(blank)
        self._attributes([(blank, Face(np.array([0, 0, 224, 224], np.float32), points, 1.0))])
        return len(self._embeddings([(blank, points)])[0]) if self._arcface else 0


def _missing(model: str, files: Mapping[Role, Path]) -> dict[str, str]:
    why: dict[str, str] = {}
    if "recognition" not in files:
        why["embedding"] = f"The face pack {model} has no recognition model."
    if "genderage" not in files:
        why |= dict.fromkeys(("gender", "age"), f"The face pack {model} has no gender and age model.")
    return why


def _run(model: Any, crops_rgb: Sequence[AnyArray], *, batch: int = 1) -> FloatArray:
    """One row for each crop: several in runs of `batch`'s multiple, the last ones repeated to fill it; one as it is.

    A graph whose batch was fixed at its export gets one crop a run.
    """
    blob = cv2.dnn.blobFromImages(crops_rgb, 1 / model.input_std, model.input_size, (model.input_mean,) * 3)
    if isinstance(model.input_shape[0], int):
        parts = np.split(blob, len(blob))
    else:
        fill = -len(blob) % batch if len(blob) > 1 else 0
        parts = [np.concatenate((blob, np.repeat(blob[-1:], fill, axis=0)))]
    rows = [model.session.run(model.output_names, {model.input_name: part})[0] for part in parts]
    return np.asarray(np.vstack(rows)[: len(crops_rgb)], np.float32)


def _load_model(file: Path, providers: list[str], intra_op_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    # A session's threads would spin between two pieces of work, on cores that other requests want. Measured on two
    # cores with other work beside: one picture 103 ms instead of 280, eight at once 1.1 s instead of 2.5 s.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        model = ModelRouter(str(file)).get_model(
            providers=providers,
            provider_options=[_PROVIDER_OPTIONS[name] for name in providers],
            sess_options=options,
            # False: every input size runs in the one session, instead of one more session for each size.
            static_shape_sessions=False,
        )
    except Exception as error:  # onnxruntime's own exceptions share no base below Exception
        raise broken(file) from error
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
