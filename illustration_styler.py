"""Photo into drawing, on the CPU in milliseconds: the page's light and palette, its line and surface, and the blend.

The colour step follows one idea: a photo of a face is its skin's light, a smooth field, times the detail that makes
the person. The page's face has a light of its own, so the child's detail is multiplied onto that: seams vanish, since
at the border both pictures are the same smooth field, and so do strands of hair or ears where the detail is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from utils import AnyArray, FloatArray, GrayImage, RGBImage, as_float, blur, shrink, smoothstep

Style = Literal["storybook", "watercolor", "pencil", "comic", "none"]
Blend = Literal["gaussian", "multiband", "poisson"]

_LIGHT_SIGMA = 0.14  # of the face's size: wide enough to leave cheeks and folds in the detail
_BLACK_LEVEL = 6.0  # keeps ratios of near-black pixels finite; 8-bit units
_HIGHLIGHT_KNEE = 225.0
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)  # ITU-R BT.601
_RAMP_BINS = 8
_LARGE_FACE_PX = 400
_DARKEST_INK = 40.0  # L* below its surroundings; more is drawn no darker
_TONES = 4096  # steps of a lightness table: finer than any picture shows


@dataclass(frozen=True, slots=True)
class PageLook:
    """How the page draws skin, measured around one slot.

    ramp_l (K,), ramp_ab (K, 2): the skin's hue and chroma at each lightness, Lab: illustrators shade towards another
    hue, not towards grey. grain: fine lightness variation on skin, Lab units. ink: how dark its lines are, Lab units.
    """

    ramp_l: FloatArray
    ramp_ab: FloatArray
    grain: float
    ink: float


# ---- light and palette -------------------------------------------------------------------------------------------


def skin_light(image_rgb: RGBImage, skin: FloatArray, face_px: float) -> FloatArray:
    """HxWx3 float32, 0..255 RGB: the light on the skin, as if features, hair and beard were not there.

    A normalised convolution (Knutsson and Westin, 1993): a Gaussian over the skin pixels alone, weighted by `skin`
    (HxW, 0..1); where none is near, a wider one, and at last the mean, take over.
    """
    height, width = skin.shape
    sigma = _LIGHT_SIGMA * face_px
    factor = max(1, int(sigma / 4))
    small = (max(2, width // factor), max(2, height // factor))
    weight = skin + np.float32(1e-6)
    colour = shrink(image_rgb.astype(np.float32) * weight[..., None], small)
    weight = shrink(weight, small)
    mean = colour.sum(axis=(0, 1)) / weight.sum()
    total_colour, total_weight = mean * 1e-4, np.full(weight.shape, 1e-4, np.float32)
    for widening, share in ((1.0, 1.0), (2.5, 0.02)):
        reach = widening * sigma / factor
        total_colour = total_colour + share * blur(colour, reach)
        total_weight = total_weight + share * blur(weight, reach)
    light: FloatArray = cv2.resize(
        (total_colour / total_weight[..., None]).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(light, 0, 255)


def relight(face_rgb: RGBImage, face_light: FloatArray, page_light: FloatArray, keep: FloatArray) -> FloatArray:
    """The face's detail on the page's light: HxWx3 float32, 0..255 RGB.

    `keep` (HxW, 0..1) says how much of the detail shows; where it is 0 the page's bare light remains.
    """
    ratio = cv2.divide(as_float(face_rgb) + _BLACK_LEVEL, face_light + _BLACK_LEVEL)
    detail = cv2.exp(cv2.multiply(cv2.log(ratio), cv2.merge([keep] * 3)))
    relit = cv2.multiply(page_light + _BLACK_LEVEL, detail) - _BLACK_LEVEL
    # A photo's highlights on a bright page leave the range: bend them into it instead of clipping teeth to paper.
    over = np.maximum(relit - _HIGHLIGHT_KNEE, 0)
    room = 255 - _HIGHLIGHT_KNEE
    rolled = np.minimum(relit, _HIGHLIGHT_KNEE) + room * (1 - cv2.exp(over / -room))
    return as_float(np.maximum(rolled, 0))


def light_on_whites(page_light: FloatArray, face_light: FloatArray, whites: FloatArray) -> FloatArray:
    """The page's light, held near the photo's brightness where `whites` (HxW, 0..1: eyes and open mouth) is 1.

    The page's light is measured on its skin; eyes and teeth of a person are as white on dark skin as on fair skin.
    """
    page_gray, face_gray = (cv2.transform(light, _LUMA) for light in (page_light, face_light))
    held = np.clip(page_gray, 0.9 * face_gray, 1.15 * face_gray)
    gain = as_float(1 + whites * (held / np.maximum(page_gray, 1) - 1))
    lit: FloatArray = cv2.multiply(page_light, cv2.merge([gain] * 3))
    return lit


def measure_look(page_lab: FloatArray, skin: FloatArray, features: AnyArray, face_px: float) -> PageLook:
    """Measure the page's face: `page_lab` HxWx3 Lab, `skin` HxW 0..1, `features` HxW bool where the lines are."""
    lightness = np.ascontiguousarray(page_lab[..., 0])
    sure = skin > 0.2
    samples = page_lab[sure] if sure.sum() >= 50 else page_lab.reshape(-1, 3)
    edges = np.quantile(samples[:, 0], np.linspace(0.02, 0.98, _RAMP_BINS + 1))
    index = np.clip(np.searchsorted(edges, samples[:, 0]) - 1, 0, _RAMP_BINS - 1)
    bins = [samples[index == i] for i in range(_RAMP_BINS)]
    medians = np.array([np.median(b, axis=0) for b in bins if len(b) >= 5] or [np.median(samples, axis=0)], np.float32)
    medians = medians[np.argsort(medians[:, 0])]
    fine = np.abs(lightness - blur(lightness, max(0.02 * face_px, 0.8)))
    lines = _ink_response(lightness, face_px)[features]
    return PageLook(
        ramp_l=medians[:, 0],
        ramp_ab=medians[:, 1:],
        grain=float(np.median(fine[sure])) if sure.any() else 0.0,
        ink=float(np.percentile(lines, 95)) if lines.size else 0.0,
    )


def match_palette(face_lab: FloatArray, light_lab: FloatArray, look: PageLook, amount: float) -> FloatArray:
    """Shade as the page does: move hue and chroma along the page's own ramp from the light's lightness to the face's.

    A ratio darkens towards the same hue; the difference between that and the page's ramp is what is added.
    """
    lightness, base = face_lab[..., 0], light_lab[..., 0]
    darkening = (lightness + 16) / (base + 16) - 1
    matched = face_lab.copy()
    for channel, ramp in enumerate(_ramp_tables(look), start=1):
        at_face, at_light = (cv2.LUT(_table_index(values), ramp) for values in (lightness, base))
        matched[..., channel] += amount * (at_face - at_light - light_lab[..., channel] * darkening)
    return matched


def _ramp_tables(look: PageLook) -> list[FloatArray]:
    """The page's skin colour, a and b, at lightness 0..100 in 256 steps, fading to neutral below its darkest."""
    steps = np.linspace(0, 100, 256, dtype=np.float32)
    fade = np.minimum(1, steps / max(float(look.ramp_l[0]), 1.0))
    return [as_float(np.interp(steps, look.ramp_l, look.ramp_ab[:, i]) * fade) for i in range(2)]


def _table_index(lightness: FloatArray) -> GrayImage:
    index: GrayImage = cv2.convertScaleAbs(lightness, alpha=2.55)
    return index


# ---- styles ------------------------------------------------------------------------------------------------------


def stylize(
    face_lab: FloatArray, *, style: Style, strength: float, face_px: float, look: PageLook | None, seed: int
) -> FloatArray:
    """Draw a face: Lab in, Lab out (HxWx3 float32).

    `strength` 0 leaves the picture as it is, 1 is the style in full. `face_px` is the face's size in these pixels: all
    filters scale with it. `look` pulls smoothness and line weight to the page's own. `seed` chooses paper grain and
    hatching (watercolor, pencil); nothing else is random.
    """
    if style == "none" or strength <= 0:
        return face_lab
    draw = {"storybook": _storybook, "watercolor": _watercolor, "pencil": _pencil, "comic": _comic}[style]
    drawn = draw(face_lab, _Brush(face_px, look, np.random.default_rng(seed)))
    share = min(strength, 1.0)
    mixed: FloatArray = cv2.addWeighted(drawn, share, face_lab, 1 - share, 0)
    return mixed


@dataclass(frozen=True, slots=True)
class _Brush:
    """What every style draws with: the face's size, the page's look, and chance."""

    face_px: float
    look: PageLook | None
    rng: np.random.Generator


def _storybook(lab: FloatArray, brush: _Brush) -> FloatArray:
    """Smooth painted planes, coloured ink along the features, slightly richer colour."""
    smooth = _edge_preserving(lab, brush, amount=1.0)
    drawn = _inked(smooth, lab, brush, weight=0.55)
    drawn[..., 0] = _soft_quantise(drawn[..., 0], levels=9, softness=0.5)
    return _with_chroma(drawn, 1.08)


def _watercolor(lab: FloatArray, brush: _Brush) -> FloatArray:
    """Pale washes that pool at their edges, on grained paper."""
    drawn = _inked(_edge_preserving(lab, brush, amount=1.2), lab, brush, weight=0.35)
    washes = _soft_quantise(drawn[..., 0], levels=8, softness=0.6)
    # Pigment gathers where a wash ends: darken along the borders between washes.
    border = cv2.morphologyEx(washes, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    pooled = blur(border, max(0.005 * brush.face_px, 0.6))
    drawn[..., 0] = 0.95 * washes + 5 - 0.35 * np.minimum(pooled, 10)
    drawn[..., 0] += _paper(lab.shape[:2], brush) * (0.5 + 0.8 * smoothstep((95 - washes) / 60))
    return _in_gamut(drawn)


def _pencil(lab: FloatArray, brush: _Brush) -> FloatArray:
    """Coloured pencil: pale tints, hatching in the shadows, dark strokes along the features."""
    smooth = _edge_preserving(lab, brush, amount=1.0)
    drawn = _inked(smooth, lab, brush, weight=0.9)
    shade = smoothstep((78 - smooth[..., 0]) / 50)
    drawn[..., 0] += 6 * (1 - shade) + _hatching(lab.shape[:2], brush) * (1.2 + 5.5 * shade)
    return _in_gamut(_with_chroma(drawn, 0.8))


def _comic(lab: FloatArray, brush: _Brush) -> FloatArray:
    """Few flat tones, heavy lines, strong colour."""
    smooth = _edge_preserving(_edge_preserving(lab, brush, amount=1.5), brush, amount=1.5)
    smooth[..., 0] = _soft_quantise(smooth[..., 0], levels=7, softness=0.35)
    drawn = _inked(smooth, lab, brush, weight=1.2)
    return _with_chroma(drawn, 1.2)


def _with_chroma(lab: FloatArray, factor: float) -> FloatArray:
    scaled: FloatArray = cv2.multiply(lab, (1.0, factor, factor, 1.0))
    return scaled


def _in_gamut(lab: FloatArray) -> FloatArray:
    return as_float(np.clip(lab, [0, -127, -127], [100, 127, 127]))


def _edge_preserving(lab: FloatArray, brush: _Brush, amount: float) -> FloatArray:
    """Domain-transform filter (Gastal and Oliveira, 2011) in Lab, stronger for smooth pages than for textured ones.

    Large faces at half size: planes have no finer edges, and the lines are inked in full size afterwards.
    """
    if brush.face_px > _LARGE_FACE_PX:
        height, width = lab.shape[:2]
        half = _Brush(brush.face_px / 2, brush.look, brush.rng)
        planes: FloatArray = _edge_preserving(shrink(lab, (width // 2, height // 2)), half, amount)
        return as_float(cv2.resize(planes, (width, height)))
    grain = 0.4 if brush.look is None else brush.look.grain
    smooth: FloatArray = cv2.ximgproc.dtFilter(
        lab,
        lab,
        sigmaSpatial=max(0.035 * brush.face_px, 2.0),
        sigmaColor=amount * float(np.interp(grain, [0.1, 0.6, 2.0], [26, 18, 7])),
        mode=cv2.ximgproc.DTF_RF,
        numIters=2,
    )
    return smooth


def _ink_response(lightness: FloatArray, face_px: float) -> FloatArray:
    """How much darker each pixel is than its surroundings at line width (difference of Gaussians), >= 0, Lab units."""
    inner = blur(lightness, max(0.006 * face_px, 0.5))
    outer = blur(lightness, max(0.018 * face_px, 1.5))
    return as_float(np.maximum(outer - inner, 0))


def _inked(smooth: FloatArray, source: FloatArray, brush: _Brush, weight: float) -> FloatArray:
    """Darken `smooth` along the lines of `source`, more on pages drawn with lines; chroma stays: coloured ink."""
    response = _ink_response(cv2.extractChannel(source, 0), brush.face_px)
    page_ink = 1.0 if brush.look is None else float(np.clip(brush.look.ink / 7.0, 0.6, 1.6))
    levels = np.linspace(0, _DARKEST_INK, 256, dtype=np.float32)
    darkening = as_float(2.2 * weight * page_ink * smoothstep((levels - 0.8) / 5.0) * levels)
    ink = cv2.LUT(cv2.convertScaleAbs(response, alpha=255 / _DARKEST_INK), darkening)
    lightness = cv2.extractChannel(smooth, 0)
    inked = smooth.copy()
    cv2.insertChannel(cv2.max(lightness - ink, cv2.min(lightness, 6.0)), inked, 0)
    return inked


def _soft_quantise(lightness: FloatArray, levels: int, softness: float) -> FloatArray:
    """Pull lightness 0..100 towards `levels` steps; softness 0 gives hard steps, 1 leaves it as it is."""
    step, values = 100.0 / levels, np.arange(_TONES, dtype=np.float32) * (100 / (_TONES - 1))
    nearest = np.round(values / step) * step
    offset = (values - nearest) / step  # -0.5..0.5
    table = as_float(nearest + 0.5 * step * np.sign(offset) * np.abs(2 * offset) ** (1 / max(softness, 0.05)))
    return as_float(table[np.clip(lightness * ((_TONES - 1) / 100) + 0.5, 0, _TONES - 1).astype(np.int32)])


def _paper(shape: tuple[int, ...], brush: _Brush) -> FloatArray:
    """Paper grain: band-limited noise of unit deviation."""
    noise = brush.rng.standard_normal(shape, np.float32)
    fine = blur(noise, max(0.006 * brush.face_px, 0.7))
    grain = fine - blur(noise, max(0.02 * brush.face_px, 2.0))
    return as_float(grain / max(float(grain.std()), 1e-6))


def _hatching(shape: tuple[int, ...], brush: _Brush) -> FloatArray:
    """Diagonal pencil strokes: noise smeared along 45 degrees, unit deviation."""
    length = max(3, int(0.06 * brush.face_px)) | 1
    kernel = np.fliplr(np.eye(length, dtype=np.float32)) / length
    strokes = cv2.filter2D(brush.rng.standard_normal(shape, np.float32), -1, kernel)
    return as_float(strokes / max(float(strokes.std()), 1e-6))


# ---- blending ----------------------------------------------------------------------------------------------------


def blend(page_rgb: RGBImage, face_rgb: RGBImage, alpha: FloatArray, method: Blend) -> RGBImage:
    """Put the face (HxWx3) into the page's crop of the same size; where `alpha` (HxW, 0..1) is 0 the page stays."""
    if not (alpha > 0).any():
        return page_rgb.copy()
    if method == "multiband":
        mixed = _multiband(page_rgb, face_rgb, alpha)
    elif method == "poisson":
        mixed = _poisson(page_rgb, face_rgb, alpha)
    else:
        mixed = cv2.blendLinear(face_rgb, page_rgb, alpha, 1 - alpha)
    outside = (alpha <= 0).astype(np.uint8)
    blended: RGBImage = cv2.copyTo(page_rgb, outside, np.ascontiguousarray(mixed))
    return blended


def _multiband(page_rgb: RGBImage, face_rgb: RGBImage, alpha: FloatArray, bands: int = 4) -> RGBImage:
    """Laplacian-pyramid blend (Burt and Adelson, 1983): wide transitions for light, narrow ones for lines."""
    bands = min(bands, int(np.log2(max(2, min(alpha.shape) // 8))))
    page, face, weight = page_rgb.astype(np.float32), face_rgb.astype(np.float32), alpha.astype(np.float32)
    layers = []
    for _ in range(bands):
        small_page, small_face, small_weight = cv2.pyrDown(page), cv2.pyrDown(face), cv2.pyrDown(weight)
        size = (page.shape[1], page.shape[0])
        detail_page, detail_face = (
            page - cv2.pyrUp(small_page, dstsize=size),
            face - cv2.pyrUp(small_face, dstsize=size),
        )
        layers.append(detail_page + weight[..., None] * (detail_face - detail_page))
        page, face, weight = small_page, small_face, small_weight
    mixed = page + weight[..., None] * (face - page)
    for layer in reversed(layers):
        mixed = cv2.pyrUp(mixed, dstsize=(layer.shape[1], layer.shape[0])) + layer
    # The wide bands reach beyond the mask; fade them out with it so that the page's own pixels stay.
    faded = page_rgb + smoothstep(alpha / 0.25)[..., None] * (mixed - page_rgb)
    clipped: RGBImage = np.clip(faded + 0.5, 0, 255).astype(np.uint8)
    return clipped


def _poisson(page_rgb: RGBImage, face_rgb: RGBImage, alpha: FloatArray) -> RGBImage:
    """Gradient-domain clone (Perez, Gangnet and Blake, 2003): the face's gradients, the page's colours at the border.

    The _WIDE flag keeps source and page aligned; without it OpenCV centres the mask's own box and the face shifts.
    """
    mask = np.where(alpha > 0.1, 255, 0).astype(np.uint8)
    mask[[0, -1]], mask[:, [0, -1]] = 0, 0
    if not mask.any():
        return page_rgb
    centre = (mask.shape[1] // 2, mask.shape[0] // 2)
    cloned: RGBImage = cv2.seamlessClone(face_rgb, page_rgb, mask, centre, cv2.NORMAL_CLONE_WIDE)
    return cloned
