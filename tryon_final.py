"""The photorealistic try-on: what an image model is asked, whether its answer can be trusted, and what of it is taken.

The draft fixes the geometry; the model draws it anew as a photograph. It may not move the person, nor show another face
or place: an answer that does is refused, and what is to be preserved is the photo's own pixels in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np

from body_pose import BodyPose, Joint, surest_pose
from face_landmarks import FaceBox, FaceMesh
from person_parts import silhouette
from service.errors import NoPersonError, SegmentationFailedError, SeveralPeopleError
from tryon_pipeline import RealismLevel, TryOnDraft, TryOnEngines, TryOnOptions
from utils import AnyArray, FloatArray, RGBImage, as_float, shrink

_LOOK_SIDE = 1024
"""Pixels of the longer side in which pictures are compared."""
_JOINTS = [
    Joint[f"{side}_{name}"]
    for side in ("LEFT", "RIGHT")
    for name in ("SHOULDER", "HIP", "ELBOW", "WRIST", "KNEE", "ANKLE")
]
_SEEN = 0.6
"""Visibility of a joint that can be compared."""
_MOST_MOVED = 0.25
"""Mean distance of the joints, in shoulder widths."""
_MOST_FACE_SHIFT = 0.15
"""RMS distance of the face's mesh points, in eye distances: the photo's face is laid over the answer's."""
_LEAST_FACE_LIKENESS = 0.6
"""Correlation of the two faces' brightness: on real photos the same face gave 0.93 and more, others 0.44 and less."""
_FACE_SIZE = 64
_MOST_BACKGROUND_CHANGE = 12.0
"""Mean distance in Lab, blurred and with the exposure corrected: JPEG, grain and a vignette stay far below."""
_LEAST_GARMENT_CHANGE = 8.0
"""Distance in Lab by which old and new clothes must differ for the answer to tell which it shows."""
_FACE_GROWTH = 1.12
"""The mesh ends at the hair, and a little inside the cheeks."""
_KEPT_MARGIN = 0.012
_FEATHER = 0.012
"""Of the longer side: what lies so near to the person is the answer's, and over so much the photo comes back."""
_MOST_GAIN = 1.15
"""An answer's exposure is brought to the photo's, but no further."""

_FREEDOM: dict[RealismLevel, str] = {
    1: "Change as little as possible: only mend visible seams and cut edges of the garment.",
    2: "Mend seams and cut edges, and match the garment's sharpness and noise to the photo.",
    3: "Mend seams and edges, and light the garment as the photo is lit.",
    4: "Light the garment as the photo is lit, and draw the folds and shadows that this pose gives it.",
    5: "Draw the garment as a camera would see it on this body: fabric, folds, thickness, light and contact shadows.",
}


class FaceFinder(Protocol):
    """Whatever finds faces and their meshes: `FaceLandmarks`, or a test's own."""

    def detect(self, image_rgb: RGBImage, /) -> list[FaceBox]:
        """The largest first."""
        ...


@dataclass(frozen=True, slots=True)
class _Seen:
    """A picture at the size in which pictures are compared, and who is in it. mask: HxW float32 0..1."""

    rgb: RGBImage
    pose: BodyPose
    mask: FloatArray
    face: FaceBox | None


class FinalPicture:
    """One final try-on. The image model is sent `images` and `prompt`; an answer has the photo's size."""

    def __init__(
        self,
        person_rgb: RGBImage,
        garment_rgb: RGBImage,
        made: TryOnDraft,
        options: TryOnOptions,
        engines: TryOnEngines,
        faces: FaceFinder,
    ) -> None:
        """Look at the photo, a HxWx3 uint8, and at the draft that was made of it.

        Raises:
            SegmentationFailedError: nobody is found in the photo at this size.
        """
        self.images = (made.image_rgb, garment_rgb, person_rgb)
        self.prompt = _prompt(options, made)
        self._engines = engines
        self._faces = faces
        self._options = options
        self._changed = made.changed
        self._photo = person_rgb
        self._seen = self._look(person_rgb)
        self._draft = _small(made.image_rgb)

    def fault(self, answer_rgb: RGBImage) -> str | None:
        """Why an answer can't be trusted; None if it can."""
        try:
            seen = self._look(answer_rgb)
        except NoPersonError:
            return "it shows nobody"
        except SeveralPeopleError:
            return "it shows several people"
        except SegmentationFailedError:
            return "its person can't be told from the background"
        return self._pose_fault(seen) or self._face_fault(seen) or self._colour_fault(seen)

    def restore(self, answer_rgb: RGBImage) -> RGBImage:
        """The answer in the photo's exposure, with the photo's own pixels where they are to be preserved."""
        keep = self._kept(answer_rgb)
        answer = _exposed_as(answer_rgb, self._photo, keep >= 1)
        if not keep.any():
            return answer
        mixed = as_float(answer) + (as_float(self._photo) - as_float(answer)) * keep[..., None]
        rounded: RGBImage = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        return rounded

    def _look(self, image_rgb: RGBImage) -> _Seen:
        small = _small(image_rgb)
        pose, mask = silhouette(
            small,
            surest_pose(self._engines.poses, small),
            self._engines.person_mask,
            fine=self._engines.fine_person_mask,
        )
        faces = [face for face in self._faces.detect(small) if face.mesh is not None]
        return _Seen(small, pose, mask, faces[0] if faces else None)

    # Whether it is the same picture in other clothes

    def _pose_fault(self, answer: _Seen) -> str | None:
        ours = self._seen.pose
        both = [joint for joint in _JOINTS if min(ours.visibility[joint], answer.pose.visibility[joint]) > _SEEN]
        unit = float(np.linalg.norm(ours.at(Joint.LEFT_SHOULDER) - ours.at(Joint.RIGHT_SHOULDER)))
        moved = np.linalg.norm(ours.points[both, :2] - answer.pose.points[both, :2], axis=1)
        if not both or float(moved.mean()) > _MOST_MOVED * unit:
            return "the person stands otherwise than in the photo"
        return None

    def _face_fault(self, answer: _Seen) -> str | None:
        ours, theirs = self._seen.face, answer.face
        if ours is None or ours.mesh is None:  # many product photos end at the mouth
            return None
        if theirs is None or theirs.mesh is None:
            return "its face can't be found"
        distance = ours.mesh.points[:, :2] - theirs.mesh.points[:, :2]
        shift = float(np.sqrt((distance**2).sum(axis=1).mean())) / _eye_distance(ours)
        if shift > _MOST_FACE_SHIFT:
            return "the face is not where it is in the photo"
        if _likeness(self._seen, ours.mesh, answer, (theirs.mesh, ours.mesh)) < _LEAST_FACE_LIKENESS:
            return "it shows another face"
        return None

    def _colour_fault(self, answer: _Seen) -> str | None:
        height, width = self._seen.rgb.shape[:2]
        changed = shrink(self._changed, (width, height)) > 0
        background = (np.maximum(self._seen.mask, answer.mask) < 0.1) & ~changed
        exposed = _exposed_as(answer.rgb, self._seen.rgb, background)
        photo, draft, seen = (_blurred_lab(image) for image in (self._seen.rgb, self._draft, exposed))
        if background.any() and float(_difference(photo, seen)[background].mean()) > _MOST_BACKGROUND_CHANGE:
            return "its background is not the photo's"
        new = changed & (_difference(photo, draft) > _LEAST_GARMENT_CHANGE)
        if new.any() and float(_difference(seen, draft)[new].mean()) > float(_difference(seen, photo)[new].mean()):
            return "the person wears the clothes of the photo"
        return None

    # What the photo's own pixels are kept of

    def _kept(self, answer_rgb: RGBImage) -> FloatArray:
        """HxW float32 0..1: how much of each pixel is the photo's."""
        height, width = self._photo.shape[:2]
        keep = np.zeros((height, width), np.float32)
        feather = _FEATHER * max(height, width)
        if self._options.preserve_background:
            theirs = self._engines.person_mask(_small(answer_rgb))
            free = cv2.resize(np.maximum(self._seen.mask, theirs), (width, height)) > 0.3
            keep = _outside(free | (self._changed > 0), margin=_KEPT_MARGIN * max(height, width), feather=feather)
        face = self._seen.face
        if self._options.preserve_face and face is not None and face.mesh is not None:
            scale = width / self._seen.rgb.shape[1]
            points = face.mesh.points[:, :2] * scale
            middle = points.mean(axis=0)
            hull = cv2.convexHull(np.round(middle + (points - middle) * _FACE_GROWTH).astype(np.int32))
            oval = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), hull, 1)
            around = _outside(oval == 0, margin=0, feather=_eye_distance(face) * scale * 0.15)
            keep = np.maximum(keep, np.where(self._changed > 0, 0, around))
        return keep


def _prompt(options: TryOnOptions, made: TryOnDraft) -> str:
    kept = ["pose", "body", "hair", "hands"]
    kept += ["face"] if options.preserve_face else []
    kept += ["background"] if options.preserve_background else []
    return (
        f"The first picture is a montage: the {made.garment_type} of the second picture was laid over the person of "
        "the third, which is the original photo. Turn the montage into one believable photograph. "
        f"{_FREEDOM[options.realism_level]} "
        f"Keep {', '.join(kept[:-1])} and {kept[-1]} exactly as in the third picture, and everything in its place: "
        "same framing, same size. Keep the garment's colour, pattern, print, text, neckline, sleeve length and hem "
        "exactly as in the second picture. Nothing of the clothes that it replaces may be left. Hair, hands and "
        "arms that lie in front of the garment stay in front. One person; no text, no frame. Return only the picture."
    )


def _small(image_rgb: RGBImage) -> RGBImage:
    height, width = image_rgb.shape[:2]
    scale = min(1.0, _LOOK_SIDE / max(height, width))
    return shrink(image_rgb, (max(1, round(width * scale)), max(1, round(height * scale))))


def _eye_distance(face: FaceBox) -> float:
    return max(1.0, float(np.linalg.norm(face.kps[1] - face.kps[0])))


def _likeness(ours: _Seen, mesh: FaceMesh, answer: _Seen, meshes: Sequence[FaceMesh]) -> float:
    """Correlation of the brightness inside our face's outline and the answer's, at the best of some places there."""
    first, inside = _face(ours, mesh)
    best = -1.0
    for place in meshes:
        a, b = first[inside], _face(answer, place)[0][inside]
        a, b = a - a.mean(), b - b.mean()
        best = max(best, float((a * b).sum()) / max(float(np.sqrt((a**2).sum() * (b**2).sum())), 1e-6))
    return best


def _face(seen: _Seen, mesh: FaceMesh) -> tuple[FloatArray, AnyArray]:
    """A face's brightness at one size, and where in that it is."""
    points = mesh.points[:, :2]
    low, high = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0)) + 1
    scale = _FACE_SIZE / (high - low)
    gray = cv2.GaussianBlur(cv2.cvtColor(seen.rgb, cv2.COLOR_RGB2GRAY), (0, 0), max(0.5, 0.5 / float(scale.min())))
    to_crop = np.array([[scale[0], 0, -low[0] * scale[0]], [0, scale[1], -low[1] * scale[1]]], np.float32)
    crop = cv2.warpAffine(gray, to_crop, (_FACE_SIZE, _FACE_SIZE), borderMode=cv2.BORDER_REPLICATE)
    hull = cv2.convexHull(np.round((points - low) * scale).astype(np.int32))
    return as_float(crop), cv2.fillConvexPoly(np.zeros((_FACE_SIZE, _FACE_SIZE), np.uint8), hull, 1) > 0


def _blurred_lab(image_rgb: RGBImage) -> FloatArray:
    lab = cv2.cvtColor(as_float(image_rgb) / 255, cv2.COLOR_RGB2LAB)
    return as_float(cv2.GaussianBlur(lab, (0, 0), 3))


def _difference(a: FloatArray, b: FloatArray) -> FloatArray:
    return as_float(np.linalg.norm(a - b, axis=2))


def _outside(inside: AnyArray, *, margin: float, feather: float) -> FloatArray:
    """0 inside and up to the margin, rising to 1 over the feather beyond it."""
    distance = cv2.distanceTransform((~inside.astype(bool)).astype(np.uint8), cv2.DIST_L2, 5)
    return as_float(np.clip((distance - margin) / max(feather, 1.0), 0, 1))


def _exposed_as(answer_rgb: RGBImage, photo_rgb: RGBImage, shared: AnyArray) -> RGBImage:
    """The answer with each channel's gain such that what both show (HxW bool) is as bright in both."""
    if shared.mean() < 0.02:
        return answer_rgb
    ours = photo_rgb[shared].mean(axis=0, dtype=np.float64)
    theirs = answer_rgb[shared].mean(axis=0, dtype=np.float64)
    gain = np.clip(ours / np.maximum(theirs, 1), 1 / _MOST_GAIN, _MOST_GAIN)
    table = np.clip(np.arange(256)[:, None] * gain + 0.5, 0, 255).astype(np.uint8)
    exposed: RGBImage = cv2.LUT(answer_rgb, table[None])
    return exposed
