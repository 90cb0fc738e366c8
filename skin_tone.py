"""Skin tone of a photo and of a drawing, and a page whose drawn child has the photo's."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from face_regions import Frame, bare_face, longer_side, skin_core, skin_likelihood
from skin_measurement import typology_angle
from utils import FloatArray, GrayImage, RGBImage, as_float, lab_from_rgb, rgb_from_lab, shrink, smoothstep

_MEASURE_PX = 96
_GAMMA = 2.2
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)  # ITU-R BT.709
_LIGHT_ITA, _BROWN_ITA = 41.0, 0.0
"""Individual typology angle in degrees (Chardon, 1991): above 41 skin is called light, 28 to 10 tan, below 10 brown."""
_LEAST_DIFFERENCE = 0.05
_SHADE, _EDGE, _GLOSS = 25.0, 6.0, 10.0  # L*: how far skin's shadows lie below it, a soft limit, its highlights above


def exposure(image_rgb: RGBImage) -> float:
    """99th percentile of the relative luminance (0..1, linear) of an image."""
    small = shrink(image_rgb, (64, 64)).astype(np.float32) / 255
    return float(np.percentile(small**_GAMMA @ _LUMINANCE, 99))


def with_skin_tone(
    photo_rgb: RGBImage,
    photo_mesh: FloatArray,
    photo_exposure: float,
    page_rgb: RGBImage,
    page_mesh: FloatArray,
    *,
    person: Callable[[RGBImage], FloatArray],
) -> tuple[RGBImage, GrayImage] | None:
    """The page with the drawn child's face, ears and neck in the photo's skin tone, and the mask of what changed.

    None where the two differ less than fair and dark skin do: that much may be the photo's light. `person` segments
    people in a picture (HxWx3 RGB to HxW 0..1).
    """
    child = skin_reflectance(photo_rgb, photo_mesh, photo_exposure)
    drawn = skin_reflectance(page_rgb, page_mesh, exposure(page_rgb))
    weight = abs(_depth(child) - _depth(drawn))
    if weight < _LEAST_DIFFERENCE:
        return None
    skin, matte = _skin_matte(page_rgb, page_mesh, person)
    region = page_rgb[skin]
    darker = child @ _LUMINANCE < drawn @ _LUMINANCE
    recoloured = _stained(region, child, drawn, weight) if darker else _bleached(region, child, drawn, weight)
    toned, mask = page_rgb.copy(), np.zeros(page_rgb.shape[:2], np.uint8)
    mixed = region + matte[..., None] * (recoloured - region)
    toned[skin] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    mask[skin] = np.ceil(matte * 255).astype(np.uint8)
    return toned, mask


def skin_reflectance(image_rgb: RGBImage, mesh: FloatArray, image_exposure: float) -> FloatArray:
    """(3,) linear RGB of the cheeks and the nose; 1 is as bright as the picture's bright parts."""
    frame = Frame.around(mesh, 0.02, image_rgb.shape, _MEASURE_PX / longer_side(mesh))
    pixels = frame.cut(image_rgb)[skin_core(frame.place(mesh), frame.shape) > 128]
    if not len(pixels):
        return np.ones(3, np.float32)
    colour = (np.median(pixels, axis=0).astype(np.float32) / 255) ** _GAMMA
    return as_float(np.maximum(colour / max(image_exposure, 0.25), 0.01))


def _skin_matte(
    page_rgb: RGBImage, page_mesh: FloatArray, person: Callable[[RGBImage], FloatArray]
) -> tuple[tuple[slice, slice], FloatArray]:
    """The drawn child's bare skin, sharp along the page's own lines: a part of the page, and HxW 0..1 over it."""
    frame = Frame.around(page_mesh, 0.8, page_rgb.shape, _MEASURE_PX / longer_side(page_mesh))
    crop, placed = frame.cut(page_rgb), frame.place(page_mesh)
    skin = skin_likelihood(lab_from_rgb(crop), skin_core(placed, frame.shape)) * (person(crop) > 0.5)
    face = bare_face(crop, placed, skin)
    part = frame.part_around(face, margin=4)
    region = page_rgb[part.region]
    matte = frame.onto(part, face.astype(np.float32))
    radius = max(2, round(2 / frame.scale))
    # Smooth coefficients: computed at half size where the radius leaves them room, they are the same to the eye.
    matte = cv2.ximgproc.guidedFilter(region, matte, radius=radius, eps=40.0, scale=0.5 if radius >= 4 else 1.0)
    return part.region, smoothstep((matte - 0.1) / 0.7)


def _stained(region: RGBImage, child: FloatArray, drawn: FloatArray, weight: float) -> FloatArray:
    """Darker skin: melanin takes a share of each colour of the light, so the page's light keeps its own tint."""
    return as_float(region * (child / drawn) ** (weight / _GAMMA))


def _bleached(region: RGBImage, child: FloatArray, drawn: FloatArray, weight: float) -> FloatArray:
    """Fairer skin, by lightness and chroma: the inverse of staining would blow small tints of dark skin up.

    Only what is about as light as the drawn skin: curls and ink stay dark. So do the mixed pixels beside something
    bright, which would outshine both sides.
    """
    lab = lab_from_rgb(region)
    own = lab[..., 0].copy()
    brightness = float((child @ _LUMINANCE) / (drawn @ _LUMINANCE)) ** weight
    # CIE L* is 116 Y^(1/3) - 16: a factor on luminance is its cube root on L* + 16.
    lighter = (own + 16) * brightness ** (1 / 3) - 16
    drawn_l = float(_lab(drawn)[0])
    not_ink = smoothstep((own - (drawn_l - _SHADE)) / _EDGE)
    not_bright = cv2.erode(smoothstep((drawn_l + _GLOSS + _EDGE - own) / _EDGE), np.ones((3, 3), np.uint8))
    is_skin = not_ink * not_bright
    lab[..., 0] = own + is_skin * (lighter - own)
    chroma = float(np.clip(_chroma(child) / max(_chroma(drawn), 1.0), 0.5, 2.0)) ** weight
    lab[..., 1:] *= (1 + is_skin * (chroma - 1))[..., None]
    return rgb_from_lab(lab)


def _depth(reflectance: FloatArray) -> float:
    """0 for fair to 1 for brown and dark skin, by its typology angle, which weighs lightness against yellow."""
    angle = typology_angle(_lab(reflectance))
    return float(smoothstep(np.array((_LIGHT_ITA - angle) / (_LIGHT_ITA - _BROWN_ITA))))


def _chroma(reflectance: FloatArray) -> float:
    return float(np.hypot(*_lab(reflectance)[1:]))


def _lab(reflectance: FloatArray) -> FloatArray:
    """(3,) CIE Lab of a linear RGB colour (3,)."""
    encoded = as_float(255 * np.clip(reflectance, 0, 1) ** (1 / _GAMMA))
    return as_float(lab_from_rgb(encoded[None, None])[0, 0])
