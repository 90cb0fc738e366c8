"""The main job: a page with the child in it. One prepared identity serves all pages of a book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

import face_geometry as geometry
import face_slots
import illustration_styler as styler
from face_detector import Face, FaceDetector
from face_landmarks import FaceLandmarks, FaceMesh, frame_kps
from face_regions import Frame, bare_face, feature_mask, longer_side, skin_core, skin_likelihood
from face_slots import FaceSlot
from service.errors import InvalidValueError, NoFaceDetectedError, NoFaceSlotError
from utils import AnyArray, FloatArray, GrayImage, RGBImage, Stopwatch, smoothstep

_WORK_PX = 256  # small slots are drawn at this face size and shrunk, so that lines and edges come out smooth
_WORK_PX_MAX = 1200
_MEASURE_PX = 96  # skin, light and foreground are smooth fields: this size loses nothing
_IDENTITY_PX = 1024
_FEATHER_CM = 0.9  # of the average face, inside the oval: on the far side of a turned head it gets narrow by itself
_PALETTE_AMOUNT = 0.8
_GAMMA = 2.2
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709


@dataclass(frozen=True, slots=True)
class PersonalizeOptions:
    """What the caller chooses; see `docs` of POST /personalize for each."""

    mode: Literal["face", "head"] = "face"
    style: styler.Style = "storybook"
    strength: float = 0.7
    likeness: float = 0.5
    blend: styler.Blend = "gaussian"
    match_colors: bool = True
    keep_skin_tone: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """A child prepared for any number of pages.

    photo_rgb: the photo around the head, at most 1024 px. mesh: (468, 3) in its pixels. faces_in_photo: how many were
    found. exposure: luminance 0..1 of the photo's bright parts. embedding: (D,) or None without a recogniser.
    """

    photo_rgb: RGBImage
    mesh: FloatArray
    faces_in_photo: int
    exposure: float
    embedding: FloatArray | None
    timings_ms: dict[str, float]


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
    engine: str = field(default="classic")


class Personalizer:
    """Puts a child's face on drawn pages. Thread-safe: all state of a call is its own."""

    def __init__(self, *, detector: FaceDetector, landmarks: FaceLandmarks) -> None:
        self._detector = detector
        self._landmarks = landmarks

    def prepare_identity(self, photo_rgb: RGBImage, *, face_box: FloatArray | None = None) -> Identity:
        """Find the child (the largest frontal face, or the one in `face_box`) and all that pages need of it.

        A photo that shows no face upright is tried on its other sides. Raises NoFaceDetectedError.
        """
        watch = Stopwatch()
        with watch.stage("identity"):
            for turns in range(4 if face_box is None else 1):
                upright = np.ascontiguousarray(np.rot90(photo_rgb, turns))
                faces = self._detector.detect(upright)
                mesh = self._child_mesh(upright, faces, face_box)
                if mesh is not None:
                    break
            else:
                raise NoFaceDetectedError()
            if mesh is None:
                raise NoFaceDetectedError("No face lies in the given face_box.")
            frame = Frame.around(mesh.points, 0.6, upright.shape, 1.0)
            size = max(frame.width, frame.height)
            frame = Frame(frame.x, frame.y, frame.width, frame.height, min(1.0, _IDENTITY_PX / size))
            embedding = self._detector.embed(upright, mesh.kps) if self._detector.embeds else None
            return Identity(
                photo_rgb=frame.cut(upright),
                mesh=frame.place(mesh.points[:468]),
                faces_in_photo=len(faces),
                exposure=_exposure(upright),
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
    ) -> PersonalizedPage:
        """Draw the child into one slot of the page (HxWx3 RGB).

        Raises NoFaceSlotError when `slots` is empty, InvalidValueError when `slot_index` names none of them.
        """
        if not slots:
            raise NoFaceSlotError(
                "No face was found on the page. Give one with `slot`: a box [x1, y1, x2, y2] or points in page pixels."
            )
        if not 0 <= slot_index < len(slots):
            raise InvalidValueError(f"slot {slot_index} does not exist: the page has {len(slots)}, counted from 0.")
        watch, slot = Stopwatch(), slots[slot_index]
        page_mesh = face_slots.slot_mesh(slot)
        drawing = _FaceDrawing(identity, page_rgb, page_mesh, options, watch, self._landmarks.person_mask)
        image, mask = drawing.draw()
        with watch.stage("quality"):
            quality, unavailable = self._quality(identity, page_rgb, image, mask, slot)
        return PersonalizedPage(
            image_rgb=image,
            mask=mask,
            slot=slot,
            slot_index=slot_index,
            quality=quality,
            unavailable=unavailable,
            timings_ms={**identity.timings_ms, **watch.timings_ms},
            faces_in_photo=identity.faces_in_photo,
        )

    def _child_mesh(self, photo_rgb: RGBImage, faces: Sequence[Face], face_box: FloatArray | None) -> FaceMesh | None:
        if face_box is not None:
            centres = [(face.bbox[:2] + face.bbox[2:]) / 2 for face in faces]
            inside = [
                face
                for face, centre in zip(faces, centres, strict=True)
                if (face_box[:2] <= centre).all() and (centre <= face_box[2:]).all()
            ]
            kps = inside[0].kps if inside else frame_kps(face_box)
            return self._landmarks.mesh(photo_rgb, kps)
        # Among faces at least half as large as the largest, the most frontal one.
        sizes = [longer_side(face.bbox.reshape(2, 2)) for face in faces]
        candidates = [face for face, size in zip(faces, sizes, strict=True) if size >= 0.5 * max(sizes)][:5]
        meshes = [mesh for face in candidates if (mesh := self._landmarks.mesh(photo_rgb, face.kps)) is not None]
        return max(meshes, key=_frontal_size, default=None)

    def _quality(
        self, identity: Identity, page_rgb: RGBImage, image: RGBImage, mask: GrayImage, slot: FaceSlot
    ) -> tuple[dict[str, float | None], dict[str, str]]:
        quality: dict[str, float | None] = {
            "slot_score": round(slot.score, 4),
            "seam_energy": _seam_energy(page_rgb, image, mask),
            "identity_similarity": None,
        }
        if identity.embedding is None:
            return quality, {"identity_similarity": "No face recogniser is installed; see GET /models."}
        embedding = self._detector.embed(image, slot.kps)
        quality["identity_similarity"] = round(float(identity.embedding @ embedding), 4)
        return quality, {}


class _FaceDrawing:
    """One face on its way into one slot. Frames: `work` is drawn in, `measure` is where smooth fields are computed."""

    def __init__(
        self,
        identity: Identity,
        page_rgb: RGBImage,
        page_mesh: FloatArray,
        options: PersonalizeOptions,
        watch: Stopwatch,
        person: Callable[[RGBImage], FloatArray],
    ) -> None:
        self._person = person
        self._identity, self._page, self._options, self._watch = identity, page_rgb, options, watch
        face = longer_side(page_mesh)
        # Whole factors keep the shrunk drawing aligned with the page's pixels.
        scale = float(np.clip(np.ceil(_WORK_PX / face), 1, 8)) if face < _WORK_PX else min(1.0, _WORK_PX_MAX / face)
        self._work = Frame.around(page_mesh, 0.04, page_rgb.shape, scale)
        self._measure = Frame.around(page_mesh, 0.3, page_rgb.shape, _MEASURE_PX / face)
        self._face_px = face * scale
        self._page_mesh = page_mesh
        self._toned = np.zeros(page_rgb.shape[:2], np.uint8)
        self._target = geometry.blend_shapes(identity.mesh, page_mesh, options.likeness)

    def draw(self) -> tuple[RGBImage, GrayImage]:
        """The whole page with the face in it, and the mask of what may have changed."""
        if self._options.keep_skin_tone:
            with self._watch.stage("skin_tone"):
                self._page, self._toned = _with_skin_tone(
                    self._identity, self._page, self._page_mesh, self._person
                )
        with self._watch.stage("warp"):
            warped, detail, zone, inside_cm = self._warp()
        with self._watch.stage("measure"):
            page_light, front, look = self._measure_page()
            photo_light, clean = self._measure_photo(warped, zone)
        with self._watch.stage("relight"):
            face = self._relit(warped, photo_light, page_light, detail * clean)
            face_lab = _to_lab(face)
            if self._options.match_colors:
                face_lab = styler.match_palette(face_lab, _to_lab(page_light), look, _PALETTE_AMOUNT)
        with self._watch.stage("stylize"):
            face_lab = styler.stylize(
                face_lab,
                style=self._options.style,
                strength=self._options.strength,
                face_px=self._face_px,
                look=look,
                seed=self._options.seed,
            )
            face = np.clip(_to_rgb(face_lab) + 0.5, 0, 255).astype(np.uint8)
        with self._watch.stage("blend"):
            return self._put_back(face, inside_cm, front)

    def _warp(self) -> tuple[RGBImage, FloatArray, FloatArray, FloatArray]:
        """The child bent into the slot, and per pixel: how much detail may show, where strands of hair may hang, and
        how far inside the oval it lies (cm).
        """
        photo, mesh = self._identity.photo_rgb, self._identity.mesh
        if _should_mirror(mesh, self._page_mesh):
            photo, mesh = np.ascontiguousarray(photo[:, ::-1]), geometry.mirror_mesh(mesh, photo.shape[1])
        shrink = 1.2 * self._face_px / longer_side(mesh)
        if shrink < 0.8:  # remap samples single pixels: shrink first or fine texture turns into noise
            size = (max(1, round(photo.shape[1] * shrink)), max(1, round(photo.shape[0] * shrink)))
            mesh = mesh * np.float32([size[0] / photo.shape[1], size[1] / photo.shape[0], shrink])
            photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        raster = geometry.MeshRaster(geometry.with_outer_ring(self._work.place(self._target)), self._work.shape)
        weights = np.stack([geometry.detail_weight(), geometry.strand_zone(), geometry.inside_cm()], axis=1)
        values = np.concatenate([geometry.with_outer_ring(mesh)[:, :2], geometry.ringed(weights, -1)], axis=1)
        fields = raster.interpolate(values)
        maps = np.ascontiguousarray(fields[..., 0]), np.ascontiguousarray(fields[..., 1])
        warped = cv2.remap(photo, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        detail, zone = np.clip(fields[..., 2], 0, 1), np.clip(fields[..., 3], 0, 1)
        return warped, detail, zone, np.ascontiguousarray(fields[..., 4])

    def _measure_page(self) -> tuple[FloatArray, FloatArray, styler.PageLook]:
        """The page's light on bare skin (work frame), what is in front of the face (work frame), and its look."""
        frame, mesh = self._measure, self._measure.place(self._page_mesh)
        crop = frame.cut(self._page)
        lab = _to_lab(crop)
        features = feature_mask(mesh, frame.shape)
        bridge = geometry.grow(geometry.fill((geometry.NOSE_BRIDGE,), mesh, frame.shape), 0.03 * _MEASURE_PX)
        skin = skin_likelihood(lab, skin_core(mesh, frame.shape))
        oval = geometry.fill((geometry.FACE_OVAL,), mesh, frame.shape)
        front = ((oval > 128) & ~bare_face(crop, mesh, skin)).astype(np.float32)
        bare = skin * ((oval > 128) & (features < 10) & (bridge < 10) & (front < 0.5))
        light = styler.skin_light(crop, bare, _MEASURE_PX)
        look = styler.measure_look(lab, bare, (features > 128) & (oval > 128), _MEASURE_PX)
        return frame.onto(self._work, light), frame.onto(self._work, front), look

    def _measure_photo(self, warped: RGBImage, zone: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The photo's light on bare skin, and where its detail is clean of hair (both in the work frame)."""
        scale = min(1.0, _MEASURE_PX / self._face_px)
        shape = self._work.shape
        small = (max(2, round(shape[1] * scale)), max(2, round(shape[0] * scale)))
        crop = cv2.resize(warped, small, interpolation=cv2.INTER_AREA)
        mesh = self._work.place(self._target)
        mesh = mesh * np.float32([small[0] / shape[1], small[1] / shape[0], scale])
        size = crop.shape[:2]
        lab = _to_lab(crop)
        features = feature_mask(mesh, size)
        inner = geometry.grow(geometry.fill((geometry.FACE_OVAL,), mesh, size), -0.03 * _MEASURE_PX)
        skin = skin_likelihood(lab, skin_core(mesh, size))
        light = styler.skin_light(crop, skin * ((features < 10) & (inner > 128)), _MEASURE_PX)
        clean = _clean_of_hair(lab, skin, features, cv2.resize(zone, small, interpolation=cv2.INTER_AREA))
        up = shape[::-1]
        return (
            cv2.resize(light, up, interpolation=cv2.INTER_LINEAR),
            cv2.resize(clean, up, interpolation=cv2.INTER_LINEAR),
        )

    def _relit(
        self, warped: RGBImage, photo_light: FloatArray, page_light: FloatArray, keep: FloatArray
    ) -> FloatArray:
        if not self._options.match_colors:
            return styler.relight(warped, photo_light, photo_light, keep)
        whites = (geometry.LEFT_EYE, geometry.RIGHT_EYE, geometry.MOUTH_OPENING)
        opening = geometry.fill(whites, self._work.place(self._target), self._work.shape)
        soft = cv2.GaussianBlur(opening, (0, 0), 0.01 * self._face_px) / np.float32(255)
        return styler.relight(warped, photo_light, styler.light_on_whites(page_light, photo_light, soft), keep)

    def _put_back(self, face: RGBImage, inside_cm: FloatArray, front: FloatArray) -> tuple[RGBImage, GrayImage]:
        alpha = smoothstep(cv2.blur(inside_cm, (3, 3)) / _FEATHER_CM)
        free = 1 - smoothstep((cv2.GaussianBlur(front, (0, 0), 0.008 * self._face_px) - 0.3) / 0.4)
        region = self._work.region
        size = (self._work.width, self._work.height)
        small_alpha = cv2.resize(np.minimum(alpha, free), size, interpolation=cv2.INTER_AREA)
        small_alpha[small_alpha < 1 / 255] = 0
        small_face = cv2.resize(face, size, interpolation=cv2.INTER_AREA)
        image = self._page.copy()
        image[region] = styler.blend(self._page[region], small_face, small_alpha, self._options.blend)
        mask = self._toned.copy()
        mask[region] = np.maximum(mask[region], np.ceil(small_alpha * 255).astype(np.uint8))
        return image, mask


def _should_mirror(child: FloatArray, page: FloatArray) -> bool:
    """Whether the mirrored photo is much nearer to the page's pose: a face turned away hides the half that is needed."""
    child_yaw, page_yaw = geometry.head_pose(child).yaw, geometry.head_pose(page).yaw
    return abs(child_yaw - page_yaw) - abs(-child_yaw - page_yaw) > 20


def _clean_of_hair(lab: FloatArray, skin: FloatArray, features: GrayImage, zone: FloatArray) -> FloatArray:
    """HxW 0..1: 0 on strands and other things that cross the forehead and temples (`zone`), 1 on skin and features.

    Strands betray themselves by colour, or, on fair hair, by roughness. Only there: a beard or glasses are the person.
    """
    face = _MEASURE_PX
    lightness = np.ascontiguousarray(lab[..., 0])
    residual = lightness - cv2.GaussianBlur(lightness, (0, 0), 0.02 * face)
    roughness = np.sqrt(cv2.GaussianBlur(residual * residual, (0, 0), 0.02 * face))
    smooth_skin = np.clip((skin - 0.15) / 0.5, 0, 1) * (1 - smoothstep((roughness - 2.0) / 4.0))
    smooth_skin = cv2.GaussianBlur(smooth_skin, (0, 0), 0.012 * face)
    feature = cv2.GaussianBlur(features, (0, 0), 0.01 * face) / np.float32(255)
    cleaned: FloatArray = (1 - zone * (1 - smooth_skin) * (1 - feature)).astype(np.float32)
    return cleaned


def _with_skin_tone(
    identity: Identity, page_rgb: RGBImage, page_mesh: FloatArray, person: Callable[[RGBImage], FloatArray]
) -> tuple[RGBImage, GrayImage]:
    """The page with the drawn child's face, ears and neck in the child's skin tone, and the mask of what changed.

    Only where the two differ as fair and dark skin do: smaller differences are as likely the photo's light. `person`
    segments people in a picture (HxW 0..1).
    """
    mask = np.zeros(page_rgb.shape[:2], np.uint8)
    child = _skin_reflectance(identity.photo_rgb, identity.mesh, identity.exposure)
    page = _skin_reflectance(page_rgb, page_mesh, _exposure(page_rgb))
    depth_child, depth_page = (float(smoothstep((0.28 - skin @ _LUMINANCE) / 0.16)) for skin in (child, page))
    weight = abs(depth_child - depth_page)
    if weight < 0.05:
        return page_rgb, mask
    frame = Frame.around(page_mesh, 0.8, page_rgb.shape, _MEASURE_PX / longer_side(page_mesh))
    crop, placed = frame.cut(page_rgb), frame.place(page_mesh)
    skin = skin_likelihood(_to_lab(crop), skin_core(placed, frame.shape)) * (person(crop) > 0.5)
    matte = bare_face(crop, placed, skin).astype(np.float32)
    region = page_rgb[frame.region]
    matte = cv2.resize(matte, region.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    # Sharp along the page's own lines, whatever the size at which the face was cut out.
    matte = cv2.ximgproc.guidedFilter(region, matte, radius=max(2, round(2 / frame.scale)), eps=40.0)
    matte = smoothstep((matte - 0.1) / 0.7)
    brightness = float((child @ _LUMINANCE) / (page @ _LUMINANCE)) ** weight
    child_chroma, page_chroma = (_chroma(reflectance) for reflectance in (child, page))
    lab = _to_lab(region)
    # CIE L* is the cube root of luminance, 116 Y^(1/3) - 16: a factor on Y is its cube root on L* + 16.
    lab[..., 0] = (lab[..., 0] + 16) * brightness ** (1 / 3) - 16
    lab[..., 1:] *= float(np.clip(child_chroma / max(page_chroma, 1.0), 0.5, 2.0)) ** weight
    toned = page_rgb.copy()
    toned[frame.region] = np.clip(region + matte[..., None] * (_to_rgb(lab) - region) + 0.5, 0, 255).astype(np.uint8)
    mask[frame.region] = np.ceil(matte * 255).astype(np.uint8)
    return toned, mask


def _chroma(reflectance: FloatArray) -> float:
    """CIE Lab chroma of a linear RGB colour (3,)."""
    return float(np.hypot(*_to_lab(255 * np.clip(reflectance, 0, 1)[None, None] ** (1 / _GAMMA))[0, 0, 1:]))


def _skin_reflectance(image_rgb: RGBImage, mesh: FloatArray, exposure: float) -> FloatArray:
    """(3,) linear RGB of the cheeks and the nose, 1 = as bright as the picture's brightest parts."""
    frame = Frame.around(mesh, 0.02, image_rgb.shape, _MEASURE_PX / longer_side(mesh))
    pixels = frame.cut(image_rgb)[skin_core(frame.place(mesh), frame.shape) > 128]
    if not len(pixels):
        return np.ones(3, np.float32)
    colour = (np.median(pixels, axis=0) / 255) ** _GAMMA
    return np.maximum(colour / max(exposure, 0.25), 0.01).astype(np.float32)


def _frontal_size(mesh: FaceMesh) -> float:
    return longer_side(mesh.points) * max(0.05, float(np.cos(np.radians(geometry.head_pose(mesh.points).yaw))) ** 3)


def _exposure(image_rgb: RGBImage) -> float:
    """99th percentile of the relative luminance (0..1, linear) of an image."""
    small = cv2.resize(image_rgb, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return float(np.percentile(small**_GAMMA @ _LUMINANCE, 99))


def _seam_energy(page_rgb: RGBImage, image: RGBImage, mask: GrayImage) -> float | None:
    """Mean gradient along the mask's border in the result over the page's own there: about 1 where no seam shows."""
    if not mask.any():
        return None
    x, y, width, height = cv2.boundingRect(mask)
    box = slice(max(0, y - 4), y + height + 4), slice(max(0, x - 4), x + width + 4)
    inside = (mask[box] > 0).astype(np.uint8)
    border = cv2.dilate(inside, np.ones((5, 5), np.uint8)) != cv2.erode(inside, np.ones((5, 5), np.uint8))

    def mean_gradient(rgb: RGBImage) -> float:
        gray = cv2.cvtColor(np.ascontiguousarray(rgb[box]), cv2.COLOR_RGB2GRAY)
        dx, dy = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
        return float(cv2.magnitude(dx, dy)[border].mean())

    return round((mean_gradient(image) + 1) / (mean_gradient(page_rgb) + 1), 4)


def _to_lab(rgb: AnyArray) -> FloatArray:
    lab: FloatArray = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab


def _to_rgb(lab: FloatArray) -> FloatArray:
    rgb: FloatArray = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255
    return rgb
