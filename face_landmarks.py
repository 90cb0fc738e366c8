"""Faces without downloads: detection, dense mesh and person mask by the models inside MediaPipe's wheel.

MediaPipe's own classes hide the face-presence score and run a detector before every mesh; these graphs do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from face_crops import (
    FaceFrame,
    Halved,
    View,
    frame_from_detection,
    frame_from_kps,
    frame_from_mesh,
    unturned,
    views,
    warp_area,
    window,
)
from mediapipe_graphs import (
    FACE_MESH_EDGES,
    Graph,
    GraphConfig,
    GraphPool,
    expand,
    float_image,
    number,
    proto,
    proto_list,
)
from utils import FloatArray, RGBImage, shrink

_FIVE_POINTS = ((33, 133), (362, 263), (1,), (61,), (291,))  # eye corners, nose tip, mouth corners

_MESH_INPUT = 192
_MESH_CROP_SCALE = 1.5  # crop side over the face's longer side; MediaPipe's own front-face graph uses the same
_PRESENCE_THRESHOLD = 0.5
_NMS_OVERLAP = 0.5
_SURE_SCORE = 0.87  # no upside-down face and no texture was seen above 0.84, upright faces seldom lie below
_LOOK_SCALE = 2.2  # crop side over the face's longer side at a second look: where both ranges see best
_CERTAINTY_SCALE = 1.6  # the same; drawn animals lose most here
_LEAST_LOOK = 0.65  # mean score of both ranges there: 98 % of faces and drawings are above, 90 % of other things below
_MOST_MISSES = 6  # a texture that looks like faces and never is one: leave it
_TURN_GAIN = 0.05  # a face counts as turned only where it looks clearly better that way up


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


@dataclass(frozen=True, slots=True)
class FaceBox:
    """A face: bbox (4,) x1, y1, x2, y2 and kps (5, 2), float32 pixels; score 0..1; the mesh that confirmed it."""

    bbox: FloatArray
    kps: FloatArray
    score: float
    mesh: FaceMesh | None = None


_NO_FACE = FaceBox(np.zeros(4, np.float32), np.zeros((6, 2), np.float32), 0.0)


def five_points(points: FloatArray) -> FloatArray:
    """(5, 2): left eye, right eye, nose tip, left and right mouth corner of a mesh (468 or 478 points, 2 or 3)."""
    return np.stack([points[list(ring), :2].mean(axis=0) for ring in _FIVE_POINTS]).astype(np.float32)


class FaceLandmarks:
    """MediaPipe's face detectors, face mesh and person segmentation. Thread-safe."""

    def __init__(self, *, pool_size: int) -> None:
        """`pool_size`: how many callers may use one kind of graph at the same time; graphs are built on demand."""
        self._short_range = GraphPool(lambda: Graph(_detection_graph("FaceDetectionShortRangeCpu")), pool_size)
        self._full_range = GraphPool(lambda: Graph(_detection_graph("FaceDetectionFullRangeCpu")), pool_size)
        self._mesh = GraphPool(lambda: Graph(_mesh_graph(), side_packets={"with_attention": True}), pool_size)
        self._person = GraphPool(lambda: Graph(_person_graph()), pool_size)

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
        """Find faces, upright, tilted and upside down, the largest first.

        A face's points are in the order of the person upright: for a turned face, too, the eye and the mouth corner
        come first that are on the left when the face is turned upright. `threshold` is the least score, 0..1.

        The detectors look at the whole picture. As long as nothing is found (or throughout if `thorough` asks for
        small faces beside large ones) they look further: at a padded copy, for close-ups that fill the frame; at
        copies turned by quarters; at overlapping tiles of a half and then a fifth of the longer side. That finds
        upright faces from a seventy-fifth of the longer side (24 pixels below 1920, 40 in 3000) and turned ones from a
        sixteenth. The mesh makes every candidate's points exact, and a second look settles what is doubtful.
        """
        height, width = image_rgb.shape[:2]
        halved, faces = Halved(image_rgb), list[FaceBox]()
        for stage in views(width, height):
            candidates = [found for view in stage for found in self._detect_in(halved, view, threshold)]
            new = [box for box in _suppress_overlaps(faces + candidates) if not any(box is face for face in faces)]
            faces = _suppress_overlaps(faces + self._confirm(image_rgb, new))
            if faces and not thorough:
                break
        return sorted(faces, key=lambda face: -_area(face.bbox))

    def mesh(self, image_rgb: RGBImage, kps: FloatArray) -> FaceMesh | None:
        """Fit the mesh to the face around `kps` (5, 2), at any size and tilt; None where there is no face."""
        return self._fit_mesh(image_rgb, frame_from_kps(kps))

    def refit(self, image_rgb: RGBImage, mesh: FaceMesh) -> FaceMesh:
        """The mesh fitted again in the frame that it gives itself: for those who measure its shape.

        A first frame comes from a few points. A smile, which lifts the mouth towards the eyes, makes it too small, and
        the fitted chin up to 6 % of the face's length too high; from here on it moves by less than 2 %.
        """
        return self._run_mesh(image_rgb, _frame_of(mesh)) or mesh

    def certainty(self, image_rgb: RGBImage, mesh: FaceMesh) -> float:
        """0..1: how sure the short range is of a meshed face, shown to it upright and large.

        Unlike a detection's score it doesn't depend on the size of the picture around the face.
        """
        crop = warp_area(image_rgb, _frame_of(mesh).to_crop(_CERTAINTY_SCALE, _MESH_INPUT), _MESH_INPUT)
        return _central(_run_detector(self._short_range, crop)).score

    def person_mask(self, image_rgb: RGBImage) -> FloatArray:
        """HxW float32 0..1: how much each pixel belongs to a person (selfie segmentation, 256x256 inside)."""
        height, width = image_rgb.shape[:2]
        small = shrink(image_rgb, (256, 256))
        with self._person.borrow() as graph:
            packet = graph.run(small)["mask"]
        resized: FloatArray = cv2.resize(float_image(packet), (width, height))
        return resized

    def _detect_in(self, halved: Halved, view: View, threshold: float) -> list[FaceBox]:
        """Candidates in one view, in image pixels; their kps are MediaPipe's six."""
        crop, scale = window(halved, view.window)
        turned = np.ascontiguousarray(np.rot90(crop, view.turns))
        found = _run_detector(self._full_range, turned)
        # The short range adds faces that fill the view, where there is no room for others, and certainty.
        if not (view.small_faces or (found and all(face.score >= _SURE_SCORE for face in found))):
            found += _run_detector(self._short_range, turned)
        origin = np.array(view.window[:2], np.float32)
        return [
            _candidate(unturned(face.kps, crop.shape, view.turns) / scale + origin, face.score)
            for face in found
            if face.score >= threshold
        ]

    def _confirm(self, image_rgb: RGBImage, candidates: list[FaceBox]) -> list[FaceBox]:
        """Mesh candidates, the surest first; drop those that are no face."""
        faces: list[FaceBox] = []
        for tried, candidate in enumerate(candidates):
            if tried >= _MOST_MISSES and not faces:
                break
            face = self._confirm_one(image_rgb, candidate)
            faces += [] if face is None else [face]
        return faces

    def _confirm_one(self, image_rgb: RGBImage, candidate: FaceBox) -> FaceBox | None:
        """The mesh alone can't tell: it fits itself into textures and into faces upside down with full presence."""
        mesh = self._fit_mesh(image_rgb, frame_from_detection(candidate.kps))
        score = candidate.score
        if mesh is not None and score < _SURE_SCORE:
            frame = _frame_of(mesh)
            looks = [self._look(image_rgb, frame.turned(turns)) for turns in range(4)]
            turns = int(np.argmax([look.score for look in looks]))
            best = looks[turns if looks[turns].score > looks[0].score + _TURN_GAIN else 0]
            if best.score < _LEAST_LOOK:
                return None
            # The look's points are exact where the first ones, of a small face in a large picture, were not.
            mesh, score = self._fit_mesh(image_rgb, frame_from_detection(best.kps)), max(score, best.score)
        if mesh is None or mesh.presence < _PRESENCE_THRESHOLD:
            return None
        return FaceBox(mesh.bbox, mesh.kps, score, mesh)

    def _look(self, image_rgb: RGBImage, frame: FaceFrame) -> FaceBox:
        """What both ranges see of a face that should stand upright in the middle of `frame`: their mean score."""
        to_crop = frame.to_crop(_LOOK_SCALE, _MESH_INPUT)
        crop = warp_area(image_rgb, to_crop, _MESH_INPUT)
        seen = [_central(_run_detector(pool, crop)) for pool in (self._short_range, self._full_range)]
        best = max(seen, key=lambda face: face.score)
        points = cv2.transform(best.kps[None], cv2.invertAffineTransform(to_crop))[0]
        return _candidate(points, float(np.mean([face.score for face in seen])))

    def _fit_mesh(self, image_rgb: RGBImage, frame: FaceFrame) -> FaceMesh | None:
        """Fit the mesh, and once more in its own frame where that shows that the first one was off."""
        mesh = self._run_mesh(image_rgb, frame)
        if mesh is not None and _frame_of(mesh).is_far_from(frame):
            mesh = self._run_mesh(image_rgb, _frame_of(mesh))
        return mesh

    def _run_mesh(self, image_rgb: RGBImage, frame: FaceFrame) -> FaceMesh | None:
        to_crop = frame.to_crop(_MESH_CROP_SCALE, _MESH_INPUT)
        crop = warp_area(image_rgb, to_crop, _MESH_INPUT)
        with self._mesh.borrow() as graph:
            packets = graph.run(crop)
        if "landmarks" not in packets:
            return None
        landmarks = proto(packets["landmarks"]).landmark
        points = np.array([(p.x, p.y, p.z) for p in landmarks], np.float32) * _MESH_INPUT
        to_image = cv2.invertAffineTransform(to_crop)
        xy = points[:, :2] @ to_image[:, :2].T + to_image[:, 2]
        z = points[:, 2:] * np.hypot(to_image[0, 0], to_image[1, 0])
        return FaceMesh(np.concatenate([xy, z], axis=1).astype(np.float32), number(packets["presence"]))


@cache
def mesh_edges() -> frozenset[tuple[int, int]]:
    """The edges of MediaPipe's triangulation of the first 468 points, each once as (smaller, larger)."""
    return frozenset((min(edge), max(edge)) for edge in FACE_MESH_EDGES)


def frame_kps(box: FloatArray) -> FloatArray:
    """Five points (5, 2) of an upright face that fills a box (4,): where the average face has them."""
    relative = np.array([[0.31, 0.37], [0.69, 0.37], [0.5, 0.55], [0.34, 0.74], [0.66, 0.74]], np.float32)
    return (relative * (box[2:] - box[:2]) + box[:2]).astype(np.float32)


def _frame_of(mesh: FaceMesh) -> FaceFrame:
    left_eye, right_eye = mesh.kps[:2]
    return frame_from_mesh(mesh.points[:, :2], right_eye - left_eye)


def _run_detector(pool: GraphPool, crop: RGBImage) -> list[FaceBox]:
    """One range's candidates in the crop's pixels."""
    with pool.borrow() as graph:
        found = proto_list(graph.run(crop).get("detections"))
    return [_candidate(_key_points(each, crop.shape), float(each.score[0])) for each in found]


def _key_points(detection: Any, shape: tuple[int, ...]) -> FloatArray:
    keypoints = detection.location_data.relative_keypoints
    return np.array([(p.x * shape[1], p.y * shape[0]) for p in keypoints], np.float32)


def _candidate(points: FloatArray, score: float) -> FaceBox:
    """A detection with its six points (6, 2), and the box that its face should have."""
    frame = frame_from_detection(points)
    half = np.full(2, frame.side / 2, np.float32)
    return FaceBox(np.concatenate([frame.center - half, frame.center + half]), points.astype(np.float32), score)


def _central(candidates: list[FaceBox]) -> FaceBox:
    """The best candidate in the middle of a crop of the mesh's input size."""
    middle, reach = _MESH_INPUT / 2, _MESH_INPUT / 5
    central = [face for face in candidates if (abs(face.kps[:4].mean(axis=0) - middle) < reach).all()]
    return max(central, key=lambda face: face.score, default=_NO_FACE)


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


def _detection_graph(subgraph: str) -> GraphConfig:
    # The threshold inside the graph stays low; callers filter by their own.
    return expand(f"""
        input_stream: "image"
        output_stream: "detections"
        node {{
          calculator: "{subgraph}"
          input_stream: "IMAGE:image"
          output_stream: "DETECTIONS:detections"
          options {{ [mediapipe.FaceDetectionOptions.ext] {{ min_score_thresh: 0.2 }} }}
        }}""")


def _mesh_graph() -> GraphConfig:
    """The face-landmark subgraph with its presence score led out and its gate opened."""
    config = expand("""
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


def _person_graph() -> GraphConfig:
    return expand("""
        input_stream: "image"
        output_stream: "mask"
        node {
          calculator: "SelfieSegmentationCpu"
          input_stream: "IMAGE:image"
          output_stream: "SEGMENTATION_MASK:mask"
        }""")
