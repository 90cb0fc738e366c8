"""One child's face on its way into one slot of a page: warp, light, style, blend."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal

import cv2
import numpy as np

import face_geometry as geometry
import illustration_styler as styler
from face_regions import Frame, bare_face, feature_mask, longer_side, skin_core, skin_likelihood
from head_transplant import with_head
from skin_tone import with_skin_tone
from utils import (
    AnyArray,
    FloatArray,
    GrayImage,
    RGBImage,
    Stopwatch,
    as_float,
    blur,
    lab_from_rgb,
    rgb8_from_lab,
    shrink,
    smoothstep,
)

_WORK_PX = 256  # small slots are drawn at this face size and shrunk, so that lines and edges come out smooth
_WORK_PX_MAX = 1200
_MEASURE_PX = 96  # skin, light and foreground are smooth fields: this size loses nothing
_FEATHER_CM = 0.9  # of the average face, inside the oval: on the far side of a turned head it gets narrow by itself
_PALETTE_AMOUNT = 0.8
_MIRROR_GAIN_DEG = 20  # mirrored moles and partings are worth it only for a pose that is much nearer


@dataclass(frozen=True, slots=True)
class PersonalizeOptions:
    """What the caller of a personalisation chooses.

    style, strength (0..1), seed: see `illustration_styler.stylize`. likeness (0..1): the drawing's proportions or the
    child's. match_colors: take over the page's light and palette. keep_skin_tone: recolour the drawn child's face,
    ears and neck where the child's skin is clearly darker or fairer.
    """

    mode: Literal["face", "head"] = "face"
    style: styler.Style = "storybook"
    strength: float = 0.7
    likeness: float = 0.65
    blend: styler.Blend = "gaussian"
    match_colors: bool = True
    keep_skin_tone: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """A child prepared for any number of pages.

    photo_rgb: the photo around the head. mesh: (468, 3) in its pixels. exposure: luminance 0..1 of the whole photo's
    bright parts. embedding: (D,) L2-normalised, or None without a recogniser. faces_in_photo: how many were found.
    """

    photo_rgb: RGBImage
    mesh: FloatArray
    exposure: float
    embedding: FloatArray | None
    faces_in_photo: int
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class DrawnPage:
    """A finished page: image_rgb, and mask (HxW uint8), 0 wherever the page's pixels are untouched.

    page_rgb is what the face was drawn on (after skin tone and head), face_mask (HxW uint8) where it was drawn.
    """

    image_rgb: RGBImage
    mask: GrayImage
    page_rgb: RGBImage
    face_mask: GrayImage

    def seam_energy(self) -> float | None:
        """Mean gradient along the face's border over the page's own there: about 1 where no seam shows.

        None where there is no border: hair or a hat covers the whole face, or the face covers the whole page.
        """
        if not self.face_mask.any():
            return None
        x, y, width, height = cv2.boundingRect(self.face_mask)
        box = slice(max(0, y - 4), y + height + 4), slice(max(0, x - 4), x + width + 4)
        inside = (self.face_mask[box] > 0).astype(np.uint8)
        ring = np.ones((5, 5), np.uint8)
        border = cv2.dilate(inside, ring) != cv2.erode(inside, ring)
        if not border.any():
            return None
        drawn, own = (_mean_gradient(np.ascontiguousarray(rgb[box]), border) for rgb in (self.image_rgb, self.page_rgb))
        return round((drawn + 1) / (own + 1), 4)  # one grey level on both keeps flat pages from dividing by nothing


@dataclass(frozen=True, slots=True)
class _Place:
    """What any picture of the child meets in the slot, as fields (HxW) over the work frame.

    detail (0..1): how much of the picture's detail may show. zone (0..1): where strands of hair may hang. inside_cm:
    how far inside the oval. page_light (HxWx3): the page's light on bare skin. free (0..1): where the face is free of
    hair, hats and hands. look: how the page draws skin.
    """

    detail: FloatArray
    zone: FloatArray
    inside_cm: FloatArray
    page_light: FloatArray
    free: FloatArray
    look: styler.PageLook


class FaceDrawing:
    """Draws one face. Two frames: in `work` it is drawn, in `measure` smooth fields are computed."""

    def __init__(
        self,
        identity: Identity,
        page_rgb: RGBImage,
        page_mesh: FloatArray,
        options: PersonalizeOptions,
        *,
        person: Callable[[RGBImage], FloatArray],
        hands: Callable[[RGBImage, FloatArray, Frame], FloatArray | None],
        beside: Executor,
        watch: Stopwatch,
    ) -> None:
        """`page_mesh`: (468, 3) in page pixels. `person`: segments people in a picture (HxWx3 RGB to HxW 0..1).

        `hands`: see `HandsInFront.matte`. `beside` lends threads for what can be done at the same time.
        """
        self._options, self._watch, self._beside, self._page_mesh = options, watch, beside, page_mesh
        self.page_rgb = page_rgb
        """The page as it was given."""
        self._photo, self._mesh = identity.photo_rgb, identity.mesh
        if _should_mirror(identity.mesh, page_mesh):
            width = identity.photo_rgb.shape[1]
            self._photo = np.ascontiguousarray(identity.photo_rgb[:, ::-1])
            self._mesh = geometry.mirror_mesh(identity.mesh, width)
        with watch.stage("skin_tone"):
            toned = None
            if options.keep_skin_tone:
                toned = with_skin_tone(self._photo, self._mesh, identity.exposure, page_rgb, page_mesh, person=person)
            self._page, self._changed = toned or (page_rgb, np.zeros(page_rgb.shape[:2], np.uint8))
        self._measured = self._page
        self._hands = partial(hands, page_rgb, page_mesh)
        self.outline = geometry.blend_shapes(self._mesh, page_mesh, options.likeness)
        """(468, 3) in page pixels: the mesh that the child's face has on the page."""
        self._head = np.zeros(page_rgb.shape[:2], np.uint8)
        if options.mode == "head":
            with watch.stage("head"):
                self._page, self._head = with_head(
                    self._photo, self._mesh, self._page, page_mesh, self.outline, person=person, stylize=self._stylize
                )
                self._changed = np.maximum(self._changed, self._head)
                self._lay_hands_over()
        face = longer_side(page_mesh)
        # Whole factors keep the shrunk drawing aligned with the page's pixels.
        scale = float(np.clip(np.ceil(_WORK_PX / face), 1, 8)) if face < _WORK_PX else min(1.0, _WORK_PX_MAX / face)
        self._work = Frame.around(page_mesh, 0.04, page_rgb.shape, scale)
        self._measure = Frame.around(page_mesh, 0.3, page_rgb.shape, _MEASURE_PX / face)
        self._face_px = face * scale
        self._target = self._work.place(self.outline)

    def draw(self) -> DrawnPage:
        """The whole page with the face in it."""
        page_measures = self._beside.submit(self._measure_page)
        with self._watch.stage("warp"):
            warped, detail, zone, inside_cm = self._warp()
        with self._watch.stage("measure"):
            photo_measures = self._measure_photo(warped, zone)
            page_light, free, hands, look = page_measures.result()
            if self._options.mode == "head":
                free = np.ones_like(free)  # the drawn hair and hat are gone
        self._place = _Place(detail, zone, inside_cm, page_light, np.minimum(free, 1 - hands), look)
        face_lab = self._match(warped, *photo_measures, palette=_PALETTE_AMOUNT)
        with self._watch.stage("stylize"):
            face = rgb8_from_lab(self._stylize(face_lab, self._face_px, look))
        with self._watch.stage("blend"):
            return self._put_back(face, self._page)

    def draw_picture(self, picture: RGBImage, frame: Frame) -> DrawnPage:
        """The whole page with another picture of the child, after `draw`: lit and blended as the photo was.

        `picture`: HxWx3 in the pixels of `frame`, which holds what `redrawn` marks; its face has the mesh `outline`. It
        is drawn in the page's style and shades already: only its light is matched.
        """
        with self._watch.stage("measure"):
            crop = np.clip(frame.onto(self._work, as_float(picture)) + 0.5, 0, 255).astype(np.uint8)
            measures = self._measure_photo(crop, self._place.zone)
        face_lab = self._match(crop, *measures, palette=0)
        with self._watch.stage("blend"):
            page = self._with_picture_of_head(picture, frame) if self._options.mode == "head" else self._page
            return self._put_back(rgb8_from_lab(face_lab), page)

    def redrawn(self, drawn: DrawnPage) -> GrayImage:
        """HxW uint8, above 0 where the page shows the child: the face, and with `mode=head` the whole head."""
        return np.maximum(self._head, drawn.face_mask)

    def _match(self, picture: RGBImage, light: FloatArray, clean: FloatArray, *, palette: float) -> FloatArray:
        """The picture (work frame) in the page's light, as Lab, and so far (0..1) in its palette.

        `light` and `clean`: the picture's own, by `_measure_photo`.
        """
        place = self._place
        keep = np.maximum(place.detail * clean, self._features(place.inside_cm))
        if self._options.mode == "head":  # the child's own hair hangs into the face and goes on outside it
            keep = np.ones_like(keep)
        with self._watch.stage("relight"):
            return self._relit(picture, light, keep, palette)

    def _with_picture_of_head(self, picture: RGBImage, frame: Frame) -> RGBImage:
        """The page with the picture's head in it, soft inside the head's border alone."""
        region = frame.region
        inside = cv2.distanceTransform((self._head[region] > 0).astype(np.uint8), cv2.DIST_L2, 3)
        alpha = smoothstep(inside / max(1.0, 0.03 * longer_side(self._page_mesh)))
        native = Frame(frame.x, frame.y, frame.width, frame.height, 1.0)
        pixels = np.clip(frame.onto(native, as_float(picture)) + 0.5, 0, 255).astype(np.uint8)
        page = self._page.copy()
        page[region] = styler.blend(self._page[region], pixels, alpha, "gaussian")
        return page

    def _lay_hands_over(self) -> None:
        """Put hands in front of the face back, as the page had them, where its head made way for the child's."""
        frame = Frame.around(self._page_mesh, 0.3, self._page.shape, 1.0)
        hands = self._hands(frame)
        if hands is not None:
            region = self._page[frame.region]
            mixed = region + hands[..., None] * (as_float(self._measured[frame.region]) - region)
            self._page[frame.region] = (mixed + 0.5).astype(np.uint8)

    def _stylize(self, lab: FloatArray, face_px: float, look: styler.PageLook) -> FloatArray:
        style, strength, seed = self._options.style, self._options.strength, self._options.seed
        return styler.stylize(lab, style=style, strength=strength, face_px=face_px, look=look, seed=seed)

    def _warp(self) -> tuple[RGBImage, FloatArray, FloatArray, FloatArray]:
        """The child bent into the slot, and per pixel: how much detail may show, where strands of hair may hang, and
        how far inside the oval it lies (cm).
        """
        photo, mesh = self._photo, self._mesh
        scale = 1.2 * self._face_px / longer_side(mesh)
        if scale < 0.8:  # remap samples single pixels: shrink first or fine texture turns into noise
            frame = Frame(0, 0, photo.shape[1], photo.shape[0], scale)
            photo, mesh = frame.cut(photo), frame.place(mesh)
        weights = np.stack([geometry.detail_weight(), geometry.strand_zone(), geometry.inside_cm()], axis=1)
        values = np.concatenate([geometry.with_outer_ring(mesh)[:, :2], geometry.ringed(weights, -1)], axis=1)
        map_x, map_y, detail, zone, inside_cm = self._over_pixels(values)
        warped = cv2.remap(photo, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return warped, np.clip(detail, 0, 1), np.clip(zone, 0, 1), inside_cm

    def _over_pixels(self, values: FloatArray) -> list[FloatArray]:
        """Values of the ringed mesh's points (504, C) as C fields over the work frame.

        Rasterised at half size: the fields are smooth, and the resampling rounds the creases between triangles.
        """
        height, width = self._work.shape
        half = Frame(0, 0, width, height, 0.5)
        raster = geometry.MeshRaster(half.place(geometry.with_outer_ring(self._target)), half.shape)
        return [cv2.resize(field, (width, height)) for field in raster.interpolate(values)]

    def _measure_page(self) -> tuple[FloatArray, FloatArray, FloatArray, styler.PageLook]:
        """The page's light on bare skin, where the face is free of hair and hats, and where hands lie over it (all in
        the work frame); its look.
        """
        frame, mesh = self._measure, self._measure.place(self._page_mesh)
        crop = frame.cut(self._measured)
        lab = lab_from_rgb(crop)
        features = feature_mask(mesh, frame.shape)
        bridge = geometry.grow(geometry.fill((geometry.NOSE_BRIDGE,), mesh, frame.shape), 0.03 * _MEASURE_PX)
        skin = skin_likelihood(lab, skin_core(mesh, frame.shape))
        oval = geometry.fill((geometry.FACE_OVAL,), mesh, frame.shape) > 128
        face = bare_face(crop, mesh, skin)
        free = 1 - smoothstep((blur((oval & ~face).astype(np.float32), 0.8) - 0.3) / 0.4)
        found = self._hands(frame)
        hands = np.zeros(frame.shape, np.float32) if found is None else found
        bare = skin * (oval & face & (hands < 0.1) & (features < 10) & (bridge < 10))
        light = styler.skin_light(crop, bare, _MEASURE_PX)
        look = styler.measure_look(lab, bare, (features > 128) & oval, _MEASURE_PX)
        light, free, hands = (frame.onto(self._work, field) for field in (light, free, hands))
        return light, free, hands, look

    def _measure_photo(self, warped: RGBImage, zone: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The photo's light on bare skin, and where its detail is clean of hair (both in the work frame)."""
        height, width = self._work.shape
        frame = Frame(0, 0, width, height, min(1.0, _MEASURE_PX / self._face_px))
        mesh, crop = frame.place(self._target), frame.cut(warped)
        lab = lab_from_rgb(crop)
        features = feature_mask(mesh, frame.shape)
        oval = geometry.fill((geometry.FACE_OVAL,), mesh, frame.shape)
        inner = geometry.grow(oval, -0.03 * _MEASURE_PX) > 128
        skin = skin_likelihood(lab, skin_core(mesh, frame.shape))
        light = styler.skin_light(crop, skin * ((features < 10) & inner), _MEASURE_PX)
        clean = _clean_of_hair(lab, skin, features, shrink(zone, frame.shape[::-1]))
        return cv2.resize(light, (width, height)), cv2.resize(clean, (width, height))

    def _features(self, inside_cm: FloatArray) -> FloatArray:
        """HxW 0..1: brows and eyes, whose detail always shows, even where hair may hang; not on the very rim."""
        rings = (geometry.LEFT_EYE, geometry.RIGHT_EYE, geometry.LEFT_BROW, geometry.RIGHT_BROW)
        mask = geometry.grow(geometry.fill(rings, self._target, self._work.shape), 0.015 * self._face_px)
        soft = blur(mask, 0.012 * self._face_px) / np.float32(255)
        return as_float(soft * smoothstep((inside_cm - 0.6) / 1.2))

    def _relit(self, picture: RGBImage, own_light: FloatArray, keep: FloatArray, palette: float) -> FloatArray:
        """The child in the page's light and palette (Lab), or in the picture's own."""
        if not self._options.match_colors:
            return lab_from_rgb(styler.relight(picture, own_light, own_light, keep))
        page_light = self._place.page_light
        whites = geometry.fill(
            (geometry.LEFT_EYE, geometry.RIGHT_EYE, geometry.MOUTH_OPENING), self._target, self._work.shape
        )
        soft = as_float(blur(whites, 0.01 * self._face_px) / 255)
        light = styler.light_on_whites(page_light, own_light, soft)
        relit = lab_from_rgb(styler.relight(picture, own_light, light, keep))
        return styler.match_palette(relit, lab_from_rgb(page_light), self._place.look, palette)

    def _put_back(self, face: RGBImage, page_rgb: RGBImage) -> DrawnPage:
        alpha = smoothstep(cv2.blur(self._place.inside_cm, (3, 3)) / _FEATHER_CM)
        region, size = self._work.region, (self._work.width, self._work.height)
        small_alpha = shrink(as_float(np.minimum(alpha, self._place.free)), size)
        small_alpha[small_alpha < 1 / 255] = 0
        image, face_mask = page_rgb.copy(), np.zeros_like(self._changed)
        image[region] = styler.blend(page_rgb[region], shrink(face, size), small_alpha, self._options.blend)
        face_mask[region] = np.ceil(small_alpha * 255).astype(np.uint8)
        return DrawnPage(image, np.maximum(self._changed, face_mask), page_rgb, face_mask)


def _mean_gradient(rgb: RGBImage, where: AnyArray) -> float:
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    dx, dy = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    return float(cv2.magnitude(dx, dy)[where].mean())


def _should_mirror(child: FloatArray, page: FloatArray) -> bool:
    """Whether the mirrored photo is much nearer to the page's pose: a face turned away hides what is needed."""
    child_yaw, page_yaw = geometry.head_pose(child).yaw, geometry.head_pose(page).yaw
    return abs(child_yaw - page_yaw) - abs(-child_yaw - page_yaw) > _MIRROR_GAIN_DEG


def _clean_of_hair(lab: FloatArray, skin: FloatArray, features: GrayImage, zone: FloatArray) -> FloatArray:
    """HxW 0..1: 0 on strands and other things that cross the forehead and temples (`zone`), 1 on skin and features.

    Strands betray themselves by colour, or, on fair hair, by roughness. Only there: a beard or glasses are the person.
    """
    face = _MEASURE_PX
    lightness = np.ascontiguousarray(lab[..., 0])
    residual = lightness - blur(lightness, 0.02 * face)
    roughness = np.sqrt(np.maximum(blur(residual * residual, 0.02 * face), 0))
    smooth_skin = np.clip((skin - 0.15) / 0.5, 0, 1) * (1 - smoothstep((roughness - 2.0) / 4.0))
    smooth_skin = blur(smooth_skin, 0.012 * face)
    feature = blur(features, 0.01 * face) / np.float32(255)
    cleaned: FloatArray = (1 - zone * (1 - smooth_skin) * (1 - feature)).astype(np.float32)
    return cleaned
