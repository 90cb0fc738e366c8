"""Face slots: the places of a page where a child's face can go, found, given or stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

import face_geometry as geometry
from face_landmarks import FaceLandmarks, FaceMesh, five_points, frame_kps
from face_regions import Frame, longer_side, skin_core
from service.errors import InvalidValueError
from utils import FloatArray, RGBImage, as_float

_HEX_COLOUR = re.compile("#[0-9a-f]{6}")
_PALETTE_COLOURS = 8
_PALETTE_SAMPLES = 1500
_MIN_FACE_PX = 12.0
_ANIMAL_CERTAINTY, _CHILD_CERTAINTY = 0.70, 0.88
_LARGE_RESIDUAL = 0.1  # of the face's size
_SIZE_WEIGHT = 0.15
_LARGEST_MISFIT = 0.2  # of the face's size; a profile's five points lie 0.12 beside the average face's
_MEASURE_PX = 96  # faces are measured at this size, whatever their size on the page


@dataclass(frozen=True, slots=True)
class FaceSlot:
    """One place for a face on a page, in pixels of the page.

    bbox: (4,) x1, y1, x2, y2. kps: (5, 2) left eye, right eye, nose, left and right mouth corner as seen in the image.
    landmarks: (478, 2 or 3) MediaPipe mesh, or None where only five points are known.
    score: 0..1, how sure it is that a human-like face is drawn there; 1 for slots given by hand.
    palette: hex colours of the face, most frequent first. skin_lab: median CIE Lab of its skin.
    """

    bbox: FloatArray
    kps: FloatArray
    landmarks: FloatArray | None
    score: float
    roll_deg: float
    yaw_deg: float
    palette: tuple[str, ...] = ()
    skin_lab: tuple[float, float, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, rounded to a hundredth of a pixel."""
        return {
            "bbox": _rounded(self.bbox),
            "kps": _rounded(self.kps),
            "landmarks": None if self.landmarks is None else _rounded(self.landmarks),
            "score": round(self.score, 4),
            "roll_deg": round(self.roll_deg, 2),
            "yaw_deg": round(self.yaw_deg, 2),
            "palette": list(self.palette),
            "skin_lab": None if self.skin_lab is None else [round(v, 2) for v in self.skin_lab],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FaceSlot:
        """The slot that `to_json` wrote. Raises InvalidValueError naming the field that is wrong."""
        landmarks = data.get("landmarks")
        return cls(
            bbox=_numbers(data, "bbox", (4,)),
            kps=_numbers(data, "kps", (5, 2)),
            landmarks=None if landmarks is None else _numbers(data, "landmarks", (478, None)),
            score=float(_numbers(data, "score", ())),
            roll_deg=float(_numbers(data, "roll_deg", ())),
            yaw_deg=float(_numbers(data, "yaw_deg", ())),
            palette=_colours(data),
            skin_lab=None if data.get("skin_lab") is None else tuple(_numbers(data, "skin_lab", (3,)).tolist()),
        )


def find_slots(landmarks: FaceLandmarks, page_rgb: RGBImage, *, thorough: bool = False) -> list[FaceSlot]:
    """Faces drawn on the page, the best first; `thorough` also finds small ones beside large ones."""
    faces = landmarks.detect(page_rgb, threshold=0.35, thorough=thorough)
    # Fitted once more: a drawing's jaw and hat line are missed by a few pixels when the first crop was a little off.
    meshes = filter(None, (landmarks.mesh(page_rgb, face.kps) for face in faces))
    slots = [_slot_from_mesh(page_rgb, mesh, slot_score(landmarks.certainty(page_rgb, mesh), mesh)) for mesh in meshes]
    # Among people the largest comes first, but an animal that is twice as large as the child beside it does not.
    return sorted(slots, key=lambda slot: -slot.score * longer_side(slot.bbox.reshape(2, 2)) ** _SIZE_WEIGHT)


def slot_from_box(landmarks: FaceLandmarks, page_rgb: RGBImage, box: FloatArray) -> FaceSlot:
    """The face inside a box (4,) x1, y1, x2, y2; where no mesh fits, an upright face that fills the box.

    Raises InvalidValueError when the box is empty or lies outside the page.
    """
    height, width = page_rgb.shape[:2]
    inside = np.clip(box, 0, [width, height, width, height]).astype(np.float32)
    if not np.isfinite(box).all() or min(inside[2] - inside[0], inside[3] - inside[1]) < _MIN_FACE_PX:
        raise InvalidValueError(
            f"The face box must overlap the {width}x{height} page by at least {_MIN_FACE_PX:.0f} pixels each way."
        )
    mesh = _mesh_in(landmarks, page_rgb, as_float(box))
    return slot_from_points(page_rgb, frame_kps(box)) if mesh is None else _slot_from_mesh(page_rgb, mesh, score=1.0)


def _mesh_in(landmarks: FaceLandmarks, page_rgb: RGBImage, box: FloatArray) -> FaceMesh | None:
    """The mesh of the face whose middle lies in the box, searched in and around the box alone."""
    around = Frame.around(box.reshape(2, 2), 0.5, page_rgb.shape, 1.0)
    faces = landmarks.detect(np.ascontiguousarray(page_rgb[around.region]), threshold=0.3)
    offset = np.array([around.x, around.y], np.float32)
    for kps in (*(face.kps + offset for face in faces), frame_kps(box)):
        mesh = landmarks.mesh(page_rgb, kps)
        if mesh is not None and mesh.presence >= 0.5 and _holds(box, mesh.bbox) and _fills(box, mesh.bbox):
            return mesh
    return None


def slot_from_points(page_rgb: RGBImage, points: FloatArray) -> FaceSlot:
    """A slot drawn by hand: 5 points (left eye, right eye, nose, mouth corners) or MediaPipe's 468 or 478.

    Raises InvalidValueError for another number of points or when they span no face on the page.
    """
    height, width = page_rgb.shape[:2]
    if points.ndim != 2 or len(points) not in (5, 468, 478) or points.shape[1] not in (2, 3):
        raise InvalidValueError(f"A slot takes 5, 468 or 478 points [x, y]; {len(points)} were given.")
    centre = points[:, :2].mean(axis=0)
    if not (0 <= centre[0] < width and 0 <= centre[1] < height) or longer_side(points) < _MIN_FACE_PX / 2:
        raise InvalidValueError(f"The slot's points must span a face inside the {width}x{height} page.")
    kps = as_float(points[:, :2]) if len(points) == 5 else five_points(points)
    average = geometry.mean_mesh_at(kps)
    if np.linalg.norm(five_points(average) - kps, axis=1).mean() > _LARGEST_MISFIT * longer_side(average):
        raise InvalidValueError(
            "The slot's points are not in the order of a face: left eye, right eye, nose tip, left and right mouth "
            "corner as seen in the image, or all of MediaPipe's 468 or 478."
        )
    if len(points) == 5:
        return _describe(page_rgb, average, kps, landmarks=None, score=1.0)
    full = as_float(points if len(points) == 478 else np.concatenate([points, _irises(points)]))
    if full.shape[1] == 2 or np.ptp(full[:, 2]) == 0:
        deep = geometry.with_depth(full[:468, :2])
        full = np.concatenate([np.c_[full[:468, :2], deep[:, 2]], np.c_[full[468:, :2], _irises(deep)[:, 2]]])
    return _slot_from_mesh(page_rgb, FaceMesh(as_float(full), 1.0), score=1.0)


def slot_score(certainty: float, mesh: FaceMesh) -> float:
    """0..1: how sure it is that a person's face is drawn there. `certainty`: of `FaceLandmarks.certainty`.

    The detectors were trained on people: drawn children reach a certainty of 0.86 to 0.93, bears and dogs less; a
    monkey can pass. The mesh fits animals as well as it fits children; its residual to the average human face only
    tells where it fitted no face at all.
    """
    shape, points = geometry.mean_shape(), mesh.points[:468]
    scale, rotation, shift = geometry.similarity_3d(shape, points)
    residual = np.linalg.norm((scale * shape @ rotation.T + shift - points)[:, :2], axis=1).mean() / longer_side(points)
    human = np.clip((certainty - _ANIMAL_CERTAINTY) / (_CHILD_CERTAINTY - _ANIMAL_CERTAINTY), 0.05, 1)
    return float(np.clip(human * mesh.presence * np.exp(-((residual / _LARGE_RESIDUAL) ** 2)), 0, 1))


def slot_mesh(slot: FaceSlot) -> FloatArray:
    """(468, 3) mesh of the slot; the average face laid on its five points where it has no landmarks of its own."""
    if slot.landmarks is None:
        return geometry.mean_mesh_at(slot.kps)
    points = slot.landmarks[:468]
    if points.shape[1] == 3 and np.ptp(points[:, 2]) > 0:
        return points.astype(np.float32)
    return geometry.with_depth(points[:, :2])


def _slot_from_mesh(page_rgb: RGBImage, mesh: FaceMesh, score: float) -> FaceSlot:
    return _describe(page_rgb, mesh.points[:468], mesh.kps, landmarks=mesh.points, score=score)


def _describe(
    page_rgb: RGBImage, mesh: FloatArray, kps: FloatArray, *, landmarks: FloatArray | None, score: float
) -> FaceSlot:
    pose = geometry.head_pose(mesh)
    frame = Frame.around(mesh, 0.02, page_rgb.shape, min(1.0, _MEASURE_PX / longer_side(mesh)))
    face = frame.cut(page_rgb)
    placed = frame.place(mesh)
    skin = face[skin_core(placed, frame.shape) > 128]
    oval = face[geometry.fill((geometry.FACE_OVAL,), placed, frame.shape) > 128]
    return FaceSlot(
        bbox=np.concatenate([mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)]).astype(np.float32),
        kps=kps,
        landmarks=landmarks,
        score=score,
        roll_deg=pose.roll,
        yaw_deg=pose.yaw,
        palette=_palette(oval),
        skin_lab=_median_lab(skin),
    )


def _palette(pixels: RGBImage) -> tuple[str, ...]:
    """The dominant colours (k-means in Lab, fixed seed), the most frequent first, as #rrggbb."""
    if len(pixels) < _PALETTE_COLOURS:
        return ()
    sample = pixels[:: max(1, len(pixels) // _PALETTE_SAMPLES)]
    lab = cv2.cvtColor(sample[None], cv2.COLOR_RGB2LAB)[0].astype(np.float32)
    cv2.setRNGSeed(0)
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    _, labels, centres = cv2.kmeans(lab, _PALETTE_COLOURS, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    order = np.argsort(-np.bincount(labels.ravel(), minlength=_PALETTE_COLOURS))
    colours = cv2.cvtColor(np.clip(centres[order] + 0.5, 0, 255).astype(np.uint8)[None], cv2.COLOR_LAB2RGB)[0]
    return tuple("#{:02x}{:02x}{:02x}".format(*(int(v) for v in colour)) for colour in colours)


def _median_lab(pixels: RGBImage) -> tuple[float, float, float] | None:
    if not len(pixels):
        return None
    lab = cv2.cvtColor(pixels[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]
    lightness, a, b = (float(v) for v in np.median(lab, axis=0))
    return lightness, a, b


def _irises(points: FloatArray) -> FloatArray:
    """Ten iris points for a mesh without them: the eyes' centres."""
    rings = (geometry.LEFT_EYE, geometry.RIGHT_EYE)
    return np.concatenate([np.repeat(points[list(ring)].mean(axis=0)[None], 5, axis=0) for ring in rings])


def _holds(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether the centre of one box lies inside the other."""
    x, y = (inner[:2] + inner[2:]) / 2
    return bool(outer[0] <= x <= outer[2] and outer[1] <= y <= outer[3])


def _fills(outer: FloatArray, inner: FloatArray) -> bool:
    """Whether one box is of another's size, within a factor of two and a half."""
    ratio = longer_side(inner.reshape(2, 2)) / max(longer_side(outer.reshape(2, 2)), 1e-3)
    return 0.4 < ratio < 2.5


def _colours(data: Mapping[str, Any]) -> tuple[str, ...]:
    colours = data.get("palette") or []
    if not isinstance(colours, list) or not all(isinstance(c, str) and _HEX_COLOUR.fullmatch(c) for c in colours):
        raise InvalidValueError("A slot's palette must be a list of colours like #a0b1c2.")
    return tuple(colours)


def _rounded(values: FloatArray) -> Any:
    """Nested lists of numbers with two decimals; rounded as doubles, since a float32 has no short decimal form."""
    return np.round(values.astype(np.float64), 2).tolist()


def _numbers(data: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> FloatArray:
    """A field of a stored slot as float32 of the given shape; None stands for 2 or 3 coordinates."""
    try:
        values = np.array(data[name], np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidValueError(f"A slot's {name} is missing or not a list of numbers.") from error
    fits = values.ndim == len(shape) and all(
        have in ((2, 3) if want is None else (want,)) for want, have in zip(shape, values.shape, strict=True)
    )
    if not fits or not np.isfinite(values).all():
        wanted = "x".join("2 or 3" if n is None else str(n) for n in shape) or "one"
        raise InvalidValueError(f"A slot's {name} must be {wanted} finite numbers.")
    return values
