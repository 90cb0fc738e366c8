"""Faces without downloads: detection, dense mesh and person mask by the models inside MediaPipe's wheel.

The only import of mediapipe in the project. MediaPipe is driven by its calculator graphs rather than by its
`solutions` classes, since those hide the face-presence score and run a detector before every mesh.
A graph is not thread-safe: each kind has a small pool of them.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import mediapipe
import numpy as np
from mediapipe.framework import calculator_pb2
from mediapipe.framework.formats import detection_pb2, rect_pb2
from mediapipe.python import packet_creator, packet_getter
from mediapipe.python._framework_bindings import calculator_graph, image_frame, resource_util, validated_graph_config
from mediapipe.python.solutions import face_mesh_connections

from utils import FloatArray, RGBImage, shrink

MODEL_NAME = f"mediapipe-{mediapipe.__version__}"
MESH_POINTS = 478

_FIVE_POINTS = ((33, 133), (362, 263), (1,), (61,), (291,))  # eye corners, nose tip, mouth corners

_MESH_INPUT = 192
_MESH_CROP_SCALE = 1.5  # crop side over the face's longer side; MediaPipe's own front-face graph uses the same
_DETECT_LONG_SIDE = 384
_PRESENCE_THRESHOLD = 0.5
_NMS_OVERLAP = 0.5
_SRGB = image_frame.ImageFormat.SRGB
_WHOLE_IMAGE = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1)


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face: bbox (4,) x1, y1, x2, y2 and kps (5, 2), float32 pixels; score 0..1."""

    bbox: FloatArray
    kps: FloatArray
    score: float


@dataclass(frozen=True, slots=True)
class FaceMesh:
    """478 points (468 of the face, 10 of the irises).

    points: (478, 3) float32; x and y in pixels, z in the same unit, negative towards the viewer.
    presence: 0..1, how sure the mesh model is that its crop shows a face.
    """

    points: FloatArray
    presence: float

    @property
    def kps(self) -> FloatArray:
        """(5, 2): left eye, right eye, nose tip, left and right mouth corner as seen in the image."""
        return five_points(self.points)

    @property
    def bbox(self) -> FloatArray:
        """(4,) x1, y1, x2, y2 around the points."""
        xy = self.points[:, :2]
        return np.concatenate([xy.min(axis=0), xy.max(axis=0)]).astype(np.float32)


def five_points(points: FloatArray) -> FloatArray:
    """(5, 2): left eye, right eye, nose tip, left and right mouth corner of a mesh (468 or 478 points, 2 or 3)."""
    return np.stack([points[list(ring), :2].mean(axis=0) for ring in _FIVE_POINTS]).astype(np.float32)


class FaceLandmarks:
    """MediaPipe's face detectors, face mesh and person segmentation. Thread-safe."""

    def __init__(self, *, pool_size: int) -> None:
        """`pool_size`: how many callers may use one kind of graph at the same time; graphs are built on demand."""
        self._short_range = _GraphPool(lambda: _Graph(_detection_graph("FaceDetectionShortRangeCpu")), pool_size)
        self._full_range = _GraphPool(lambda: _Graph(_detection_graph("FaceDetectionFullRangeCpu")), pool_size)
        self._mesh = _GraphPool(lambda: _Graph(_mesh_graph(), side_packets={"with_attention": True}), pool_size)
        self._person = _GraphPool(lambda: _Graph(_person_graph()), pool_size)

    def warm_up(self) -> None:
        """Build one graph of each kind and run it once, so that the first request does not pay for it."""
        blank = np.zeros((256, 256, 3), np.uint8)
        self.detect(blank)
        self.mesh(blank, np.array([[100, 110], [156, 110], [128, 140], [106, 170], [150, 170]], np.float32))
        self.person_mask(blank)

    def close(self) -> None:
        """Free the graphs' native memory."""
        for pool in (self._short_range, self._full_range, self._mesh, self._person):
            pool.close()

    def detect(self, image_rgb: RGBImage, *, threshold: float = 0.5, thorough: bool = False) -> list[FaceBox]:
        """Find upright and tilted faces, the largest first.

        Both detection ranges look at the whole picture. Where that finds nothing (or `thorough` asks for small faces
        beside large ones) they look at a padded copy, for close-ups that fill the frame, and at overlapping tiles.
        Every candidate is confirmed, and its points made exact, by the mesh.
        """
        height, width = image_rgb.shape[:2]
        found = self._confirm(image_rgb, self._detect_in(image_rgb, (0, 0, width, height), threshold))
        if thorough or not found:
            margin = max(width, height) // 2
            windows = [(-margin, -margin, width + margin, height + margin), *_tiles(width, height)]
            candidates = [box for window in windows for box in self._detect_in(image_rgb, window, threshold)]
            found = _suppress_overlaps(found + self._confirm(image_rgb, candidates))
        return sorted(found, key=lambda face: -_area(face.bbox))

    def mesh(self, image_rgb: RGBImage, kps: FloatArray) -> FaceMesh | None:
        """Fit the mesh to the face around `kps` (5, 2), at any size and tilt; None where there is no face."""
        return self._fit_mesh(image_rgb, _crop_transform(*_frame_from_kps(kps)))

    def person_mask(self, image_rgb: RGBImage) -> FloatArray:
        """HxW float32 0..1: how much each pixel belongs to a person (selfie segmentation, 256x256 inside)."""
        height, width = image_rgb.shape[:2]
        small = shrink(image_rgb, (256, 256))
        with self._person.borrow() as graph:
            packet = graph.run(small)["mask"]
        mask = packet_getter.get_image_frame(packet).numpy_view()
        resized: FloatArray = cv2.resize(np.array(mask, np.float32).squeeze(), (width, height))
        return resized

    def _detect_in(
        self, image_rgb: RGBImage, window: tuple[int, int, int, int], threshold: float
    ) -> list[tuple[FloatArray, float]]:
        """Detections of both ranges inside one window, as ((6, 2) MediaPipe key points in pixels, score)."""
        crop, scale = _window(image_rgb, window)
        found = []
        for pool in (self._short_range, self._full_range):
            with pool.borrow() as graph:
                packet = graph.run(crop).get("detections")
            for detection in packet_getter.get_proto_list(packet) if packet is not None else ():
                score = float(detection.score[0])
                if score >= threshold:
                    found.append((_key_points(detection, crop.shape) / scale + np.array(window[:2], np.float32), score))
        return found

    def _confirm(self, image_rgb: RGBImage, candidates: list[tuple[FloatArray, float]]) -> list[FaceBox]:
        """Mesh every candidate that no better one covers; drop those in which the mesh sees no face."""
        rough = _suppress_overlaps([FaceBox(_box_around(points), points, score) for points, score in candidates])
        faces = []
        for candidate in rough:
            mesh = self._fit_mesh(image_rgb, _crop_transform(*_frame_from_detection(candidate.kps)))
            if mesh is not None and mesh.presence >= _PRESENCE_THRESHOLD:
                faces.append(FaceBox(mesh.bbox, mesh.kps, candidate.score))
        return _suppress_overlaps(faces)

    def _fit_mesh(self, image_rgb: RGBImage, to_crop: FloatArray) -> FaceMesh | None:
        crop = _warp_area(image_rgb, to_crop, _MESH_INPUT)
        with self._mesh.borrow() as graph:
            packets = graph.run(crop)
        if "landmarks" not in packets:
            return None
        landmarks = packet_getter.get_proto(packets["landmarks"]).landmark
        points = np.array([(p.x, p.y, p.z) for p in landmarks], np.float32) * _MESH_INPUT
        to_image = cv2.invertAffineTransform(to_crop)
        xy = points[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        z = points[:, 2:] * np.hypot(to_image[0, 0], to_image[1, 0])
        presence = packet_getter.get_float(packets["presence"])
        return FaceMesh(np.concatenate([xy, z], axis=1).astype(np.float32), float(presence))


@cache
def mesh_edges() -> frozenset[tuple[int, int]]:
    """The edges of MediaPipe's triangulation of the first 468 points, each once as (smaller, larger)."""
    return frozenset((min(edge), max(edge)) for edge in face_mesh_connections.FACEMESH_TESSELATION)


# ---- crops -------------------------------------------------------------------------------------------------------


def _tiles(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Half-size windows at quarter steps (3x3), so that a face on a border of one lies inside another."""
    side = max(width, height) // 2
    if side < _MESH_INPUT // 2:
        return
    for y in _starts(height, side):
        for x in _starts(width, side):
            yield x, y, min(x + side, width), min(y + side, height)


def _starts(length: int, side: int) -> list[int]:
    if length <= side:
        return [0]
    steps = int(np.ceil((length - side) / (side / 2)))
    return [round(i * (length - side) / steps) for i in range(steps + 1)]


def _window(image_rgb: RGBImage, window: tuple[int, int, int, int]) -> tuple[RGBImage, float]:
    """Cut a window (black outside the image) and shrink it for the detectors; returns it with its scale."""
    height, width = image_rgb.shape[:2]
    x1, y1, x2, y2 = window
    scale = min(1.0, _DETECT_LONG_SIDE / max(x2 - x1, y2 - y1))
    inside = image_rgb[max(y1, 0) : min(y2, height), max(x1, 0) : min(x2, width)]
    if scale < 1.0:
        size = (max(1, round(inside.shape[1] * scale)), max(1, round(inside.shape[0] * scale)))
        inside = shrink(inside, size)
    top, bottom, left, right = (round(max(0, p) * scale) for p in (-y1, y2 - height, -x1, x2 - width))
    if top or bottom or left or right:
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT)
    return np.ascontiguousarray(inside), scale


def _warp_area(image_rgb: RGBImage, to_crop: FloatArray, side: int) -> RGBImage:
    """Warp into a side x side crop without aliasing: halve the source first where it is much larger."""
    matrix = to_crop.copy()
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        to_image = cv2.invertAffineTransform(matrix)
        square = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float32)
        corners = square @ to_image[:, :2].T + to_image[:, 2]
        height, width = image_rgb.shape[:2]
        x1, y1 = np.clip(np.floor(corners.min(axis=0)), 0, [width - 1, height - 1]).astype(int)
        x2, y2 = np.clip(np.ceil(corners.max(axis=0)), [x1 + 1, y1 + 1], [width, height]).astype(int)
        region = image_rgb[y1:y2, x1:x2]
        size = (max(1, round(region.shape[1] * scale * 2)), max(1, round(region.shape[0] * scale * 2)))
        step = np.array([region.shape[1] / size[0], region.shape[0] / size[1]], np.float32)
        image_rgb = shrink(region, size)
        offset = np.array([x1, y1], np.float32) + (step - 1) / 2
        matrix[:, 2] += matrix[:, :2] @ offset
        matrix[:, :2] *= step
    crop: RGBImage = cv2.warpAffine(image_rgb, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return crop


def _crop_transform(center: FloatArray, side: float, axis: FloatArray) -> FloatArray:
    """2x3 similarity that maps the square of `side` pixels around `center`, its x along `axis`, to the mesh's input."""
    scale = _MESH_INPUT / max(side, 1e-3)
    cos, sin = axis / max(float(np.hypot(*axis)), 1e-6)
    rotation = np.array([[cos, sin], [-sin, cos]], np.float32) * scale
    shift = np.full(2, _MESH_INPUT / 2, np.float32) - rotation @ center
    return np.concatenate([rotation, shift[:, None]], axis=1).astype(np.float32)


def _frame_from_kps(kps: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """Centre, side and x axis of the mesh crop for five points.

    On the canonical face the face is 2.3 times as long as the way from the eyes' to the mouth's centre, and its middle
    lies a fifth of that way below the eyes; a turned head shortens the eyes' distance, never both.
    """
    eyes, mouth = kps[:2].mean(axis=0), kps[3:].mean(axis=0)
    length = max(2.3 * float(np.hypot(*(mouth - eyes))), 2.2 * float(np.hypot(*(kps[1] - kps[0]))))
    return eyes + 0.35 * (mouth - eyes), _MESH_CROP_SCALE * length, kps[1] - kps[0]


def frame_kps(box: FloatArray) -> FloatArray:
    """Five points (5, 2) of an upright face that fills a box (4,): where the average face has them."""
    relative = np.array([[0.31, 0.37], [0.69, 0.37], [0.5, 0.55], [0.34, 0.74], [0.66, 0.74]], np.float32)
    return (relative * (box[2:] - box[:2]) + box[:2]).astype(np.float32)


def _frame_from_detection(points: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """The same for MediaPipe's six points: eyes, nose tip, mouth centre, ears."""
    return _frame_from_kps(points[[0, 1, 2, 3, 3]])


def _frame_from_points(points: FloatArray) -> tuple[FloatArray, float, FloatArray]:
    """The same for a fitted mesh, along its own eye axis."""
    xy = points[:, :2]
    left_eye, right_eye = five_points(points)[:2]
    axis = right_eye - left_eye
    unit = axis / max(float(np.hypot(*axis)), 1e-6)
    upright = np.array([[unit[0], -unit[1]], [unit[1], unit[0]]], np.float32)
    rotated = xy @ upright
    low, high = rotated.min(axis=0), rotated.max(axis=0)
    center = ((low + high) / 2 @ upright.T).astype(np.float32)
    return center, _MESH_CROP_SCALE * float((high - low).max()), axis.astype(np.float32)


def _key_points(detection: detection_pb2.Detection, shape: tuple[int, ...]) -> FloatArray:
    keypoints = detection.location_data.relative_keypoints
    return np.array([(p.x * shape[1], p.y * shape[0]) for p in keypoints], np.float32)


def _box_around(points: FloatArray) -> FloatArray:
    center, side, _ = _frame_from_detection(points)
    half = side / _MESH_CROP_SCALE / 2
    return np.concatenate([center - half, center + half]).astype(np.float32)


def _area(bbox: FloatArray) -> float:
    return float(np.prod(np.maximum(bbox[2:] - bbox[:2], 0)))


def _suppress_overlaps(faces: list[FaceBox]) -> list[FaceBox]:
    """Greedy non-maximum suppression by score, against the smaller box: a mouth is no face inside a face."""
    kept: list[FaceBox] = []
    for face in sorted(faces, key=lambda f: -f.score):
        if all(_overlap(face.bbox, other.bbox) < _NMS_OVERLAP for other in kept):
            kept.append(face)
    return kept


def _overlap(a: FloatArray, b: FloatArray) -> float:
    common = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    return common / max(min(_area(a), _area(b)), 1e-6)


# ---- MediaPipe graphs ----------------------------------------------------------------------------------------------


class _Graph:
    """One running calculator graph: image in, packets of every output stream out."""

    def __init__(
        self, config: calculator_pb2.CalculatorGraphConfig, side_packets: Mapping[str, bool] | None = None
    ) -> None:
        self._packets: dict[str, Any] = {}
        self._timestamp = 0
        self._takes_roi = "roi" in config.input_stream
        self._graph = calculator_graph.CalculatorGraph(graph_config=config)
        for stream in config.output_stream:
            name = stream.split(":")[-1]
            self._graph.observe_output_stream(name, self._packets.__setitem__, False)
        self._graph.start_run({key: packet_creator.create_bool(value) for key, value in (side_packets or {}).items()})

    def run(self, image_rgb: RGBImage) -> dict[str, Any]:
        """Process one HxWx3 uint8 RGB image; a stream that stayed silent is missing from the answer."""
        self._packets.clear()
        self._timestamp += 1
        inputs = {"image": packet_creator.create_image_frame(image_format=_SRGB, data=image_rgb)}
        if self._takes_roi:
            inputs["roi"] = packet_creator.create_proto(_WHOLE_IMAGE)
        for stream, packet in inputs.items():
            self._graph.add_packet_to_input_stream(stream, packet.at(self._timestamp))
        self._graph.wait_until_idle()
        return dict(self._packets)

    def close(self) -> None:
        self._graph.close()


class _GraphPool:
    """Lends each graph to one caller at a time; builds up to `size` of them when asked."""

    def __init__(self, build: Callable[[], _Graph], size: int) -> None:
        self._build = build
        self._slots: queue.LifoQueue[_Graph | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    @contextmanager
    def borrow(self) -> Iterator[_Graph]:
        slot = self._slots.get()
        graph = None
        try:
            graph = slot or self._build()
            yield graph
        except BaseException:
            # A graph that failed once is in an error state for good: the next caller builds a fresh one.
            graph = None
            raise
        finally:
            self._slots.put(graph)

    def close(self) -> None:
        for _ in range(self._slots.qsize()):
            if (graph := self._slots.get()) is not None:
                graph.close()


def _detection_graph(subgraph: str) -> calculator_pb2.CalculatorGraphConfig:
    # The threshold inside the graph stays low; callers filter by their own.
    return _expand(f"""
        input_stream: "image"
        output_stream: "detections"
        node {{
          calculator: "{subgraph}"
          input_stream: "IMAGE:image"
          output_stream: "DETECTIONS:detections"
          options {{ [mediapipe.FaceDetectionOptions.ext] {{ min_score_thresh: 0.2 }} }}
        }}""")


def _mesh_graph() -> calculator_pb2.CalculatorGraphConfig:
    """The face-landmark subgraph with its presence score led out and its gate opened."""
    config = _expand("""
        input_stream: "image"
        input_stream: "roi"
        input_side_packet: "with_attention"
        output_stream: "landmarks"
        node {
          calculator: "FaceLandmarkCpu"
          input_stream: "IMAGE:image"
          input_stream: "ROI:roi"
          input_side_packet: "WITH_ATTENTION:with_attention"
          output_stream: "LANDMARKS:landmarks"
        }""")
    for node in config.node:
        if node.calculator == "TensorsToFloatsCalculator":
            node.output_stream[0] = "FLOAT:presence"
        elif node.calculator == "ThresholdingCalculator":
            node.input_stream[0] = "FLOAT:presence"
    config.output_stream.append("presence")
    return config


def _person_graph() -> calculator_pb2.CalculatorGraphConfig:
    return _expand("""
        input_stream: "image"
        output_stream: "mask"
        node {
          calculator: "SelfieSegmentationCpu"
          input_stream: "IMAGE:image"
          output_stream: "SEGMENTATION_MASK:mask"
        }""")


def _expand(text: str) -> calculator_pb2.CalculatorGraphConfig:
    resource_util.set_resource_dir(str(Path(mediapipe.__file__).parent.parent))
    validated = validated_graph_config.ValidatedGraphConfig()
    validated.initialize(graph_config=text)
    config = calculator_pb2.CalculatorGraphConfig()
    config.ParseFromString(validated.binary_config)
    return config
