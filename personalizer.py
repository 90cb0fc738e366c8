"""The main job: a page with the child in it. One prepared identity serves all pages of a book."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

import face_geometry as geometry
import face_slots
from face_detector import Face, FaceDetector
from face_drawing import DrawnPage, FaceDrawing, Identity, PersonalizeOptions
from face_landmarks import FaceLandmarks, FaceMesh
from face_regions import Frame, longer_side
from face_slots import FaceSlot
from hands_in_front import HandsInFront
from instant_id_styler import Diffusion, InstantIdStyler, Progress, no_progress
from service.errors import InvalidValueError, ModelUnavailableError, NoFaceDetectedError, NoFaceSlotError
from skin_tone import exposure
from utils import FloatArray, GrayImage, RGBImage, Stopwatch

__all__ = ["FaceSlot", "Identity", "PersonalizeOptions", "PersonalizedPage", "Personalizer"]

_IDENTITY_PX = 1024
_HEAD_MARGIN = 0.8  # of the face's size around it: room for hair


Engine: TypeAlias = Literal["classic", "diffusion"]


@dataclass(frozen=True, slots=True)
class PersonalizedPage:
    """The finished page: image_rgb, and mask (HxW uint8), zero wherever the page's pixels are untouched."""

    image_rgb: RGBImage
    mask: GrayImage
    slot: FaceSlot
    slot_index: int
    quality: dict[str, float | None]
    unavailable: dict[str, str]
    timings_ms: dict[str, float]
    faces_in_photo: int
    engine: Engine = "classic"
    diffusion: Diffusion | None = None


class Personalizer:
    """Puts a child's face on drawn pages. Thread-safe: all state of a call is its own."""

    def __init__(
        self,
        *,
        detector: FaceDetector,
        landmarks: FaceLandmarks,
        threads: int = 2,
        diffusion: InstantIdStyler | None = None,
    ) -> None:
        """`threads` help the callers' own: photo and page have nothing to do with each other until they meet.

        `diffusion` draws what is asked for with engine="diffusion".
        """
        self._detector = detector
        self._landmarks = landmarks
        self._hands = HandsInFront()
        self._diffusion = diffusion
        self.beside = ThreadPoolExecutor(threads, thread_name_prefix="beside")
        """For work beside the caller's. What runs there must not wait for more of it."""

    def close(self) -> None:
        """End the helping threads."""
        self.beside.shutdown()

    def prepare_identity(self, photo_rgb: RGBImage, *, face_box: FloatArray | None = None) -> Identity:
        """Find the child (the largest frontal face, or the one in `face_box`) and all that pages need of it.

        Raises NoFaceDetectedError.
        """
        watch = Stopwatch()
        with watch.stage("identity"):
            faces = self._detector.detect(photo_rgb)
            mesh = self._most_frontal(photo_rgb, faces) if face_box is None else self._inside(photo_rgb, face_box)
            if mesh is None:
                raise NoFaceDetectedError() if face_box is None else NoFaceDetectedError("None lies in face_box.")
            frame = Frame.around(mesh.points, _HEAD_MARGIN, photo_rgb.shape, 1.0)
            size = max(frame.width, frame.height)
            frame = Frame(frame.x, frame.y, frame.width, frame.height, min(1.0, _IDENTITY_PX / size))
            embedding = self._detector.embed(photo_rgb, mesh.kps) if self._detector.embeds else None
            return Identity(
                photo_rgb=frame.cut(photo_rgb),
                mesh=frame.place(mesh.points[:468]),
                faces_in_photo=len(faces),
                exposure=exposure(photo_rgb),
                embedding=embedding,
                timings_ms=watch.timings_ms,
            )

    def find_slots(self, page_rgb: RGBImage, *, thorough: bool = False) -> list[FaceSlot]:
        """Faces drawn on the page, the best first; [] if there are none."""
        return face_slots.find_slots(self._landmarks, page_rgb, thorough=thorough)

    def slot_from_box(self, page_rgb: RGBImage, box: FloatArray) -> FaceSlot:
        """The face inside a box (4,) x1, y1, x2, y2 of the page. Raises InvalidValueError."""
        return face_slots.slot_from_box(self._landmarks, page_rgb, box)

    def slot_from_points(self, page_rgb: RGBImage, points: FloatArray) -> FaceSlot:
        """A slot of 5, 468 or 478 points (N, 2). Raises InvalidValueError."""
        return face_slots.slot_from_points(page_rgb, points)

    def personalize(
        self,
        identity: Identity,
        page_rgb: RGBImage,
        slots: Sequence[FaceSlot],
        *,
        slot_index: int = 0,
        options: PersonalizeOptions,
        engine: Engine = "classic",
        progress: Progress = no_progress,
    ) -> PersonalizedPage:
        """Draw the child into one slot of the page (HxWx3 RGB). `progress` is told of what takes seconds: diffusion.

        Raises NoFaceSlotError when `slots` is empty, InvalidValueError when `slot_index` names none of them, and what
        `InstantIdStyler.redraw` raises.
        """
        if not slots:
            raise NoFaceSlotError(
                "No face was found on the page. Give one with `slot`: a box [x1, y1, x2, y2] or points in page pixels."
            )
        if not 0 <= slot_index < len(slots):
            raise InvalidValueError(f"slot {slot_index} does not exist: the page has {len(slots)}, counted from 0.")
        if engine == "diffusion" and self._diffusion is None:
            raise ModelUnavailableError("No diffusion styler is set up.")
        watch, slot = Stopwatch(), slots[slot_index]
        page_mesh = face_slots.slot_mesh(slot)
        drawing = FaceDrawing(
            identity,
            page_rgb,
            page_mesh,
            options,
            person=self._landmarks.person_mask,
            hands=self._hands.matte,
            beside=self.beside,
            watch=watch,
        )
        drawn, diffusion = drawing.draw(), None
        if engine == "diffusion" and self._diffusion is not None:
            with watch.stage("diffusion"):
                drawn, diffusion = self._diffusion.redraw(identity, drawing, drawn, options, progress)
        with watch.stage("quality"):
            quality, unavailable = self._quality(identity, drawn, slot)
        return PersonalizedPage(
            image_rgb=drawn.image_rgb,
            mask=drawn.mask,
            slot=slot,
            slot_index=slot_index,
            quality=quality,
            unavailable=unavailable,
            timings_ms={**identity.timings_ms, **watch.timings_ms},
            faces_in_photo=identity.faces_in_photo,
            engine=engine,
            diffusion=diffusion,
        )

    def _most_frontal(self, photo_rgb: RGBImage, faces: Sequence[Face]) -> FaceMesh | None:
        """Among the faces at least half as large as the largest, the most frontal one."""
        sizes = [longer_side(face.bbox.reshape(2, 2)) for face in faces]
        candidates = [face for face, size in zip(faces, sizes, strict=True) if size >= 0.5 * max(sizes)][:5]
        meshes = [face.mesh or self._landmarks.mesh(photo_rgb, face.kps) for face in candidates]
        return max(filter(None, meshes), key=_frontal_size, default=None)

    def _inside(self, photo_rgb: RGBImage, box: FloatArray) -> FaceMesh | None:
        """The face whose middle lies in the box, looked for at the box's own size: in a large photo it may be small."""
        frame = Frame.around(box.reshape(2, 2), 0.5, photo_rgb.shape, 1.0)
        corner = np.array([frame.x, frame.y], np.float32)
        for face in self._detector.detect(frame.cut(photo_rgb)):
            middle = (face.bbox[:2] + face.bbox[2:]) / 2 + corner
            if (box[:2] <= middle).all() and (middle <= box[2:]).all():
                return self._landmarks.mesh(photo_rgb, face.kps + corner)
        return None

    def _quality(
        self, identity: Identity, drawn: DrawnPage, slot: FaceSlot
    ) -> tuple[dict[str, float | None], dict[str, str]]:
        quality: dict[str, float | None] = {
            "slot_score": round(slot.score, 4),
            "seam_energy": drawn.seam_energy(),
            "identity_similarity": None,
        }
        if identity.embedding is None:
            return quality, {"identity_similarity": "No face recogniser is installed; see GET /models."}
        embedding = self._detector.embed(drawn.image_rgb, slot.kps)
        quality["identity_similarity"] = round(float(identity.embedding @ embedding), 4)
        return quality, {}


def _frontal_size(mesh: FaceMesh) -> float:
    return longer_side(mesh.points) * max(0.05, float(np.cos(np.radians(geometry.head_pose(mesh.points).yaw))) ** 3)
