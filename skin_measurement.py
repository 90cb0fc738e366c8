"""The colour of a face's skin in a photo: Lab, typology angle, nearest Monk tone, and how far the light can be trusted.

What is measured is the skin as the photo shows it. Definitions, sources and limits are in docs/face-analysis.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from face_quality import usable_light
from face_regions import skin_likelihood
from face_sample import LEAST_ZONE_PX, FaceSample, Unmeasurable
from utils import FloatArray, as_float, lab_from_rgb, rgb8_from_lab

MONK_TONES = (
    "#f6ede4", "#f3e7db", "#f7ead0", "#eadaba", "#d7bd96", "#a07e56", "#825c43", "#604134", "#3a312a", "#292420",
)  # fmt: skip
"""The Monk Skin Tone scale, 1 to 10 (Ellis Monk; Google, 2022)."""
_LEAST_LIKELIHOOD = 0.5
_LEAST_SHARE = 0.5
_LEAST_LIGHT = 0.1
_LEAST_CHROMA = 2.0
_LEAST_AB, _MOST_AB = np.array([0, 3], np.float32), np.array([25, 35], np.float32)


@dataclass(frozen=True, slots=True)
class SkinTone:
    """The skin's colour as the photo shows it: under another light the same skin has another one.

    dominant_color_lab: L* 0..100, a*, b* (CIE Lab, D65). hex: the same in sRGB.
    ita: individual typology angle in degrees, from about 60 (very light) to -50 (dark).
    monk_tone: 1 (lightest) to 10, the nearest of the Monk scale; monk_distance: CIEDE2000 to it.
    monk_range: the nearest tones of the skin's darker and lighter thirds, lightest first.
    confidence: 0..1, from the light: even, neither too little nor too much, and of a colour that skin can have;
        None where only one cheek can be seen.
    """

    dominant_color_lab: tuple[float, float, float]
    hex: str
    ita: float
    monk_tone: int
    monk_distance: float
    monk_range: tuple[int, int]
    confidence: float | None


def measure_skin_tone(sample: FaceSample, illumination: float | None) -> SkinTone:
    """The skin tone of a face's cheeks and forehead, without hair, glasses, shadows and highlights.

    Args:
        illumination: the face's `Quality.illumination`. Where it isn't known, the confidence isn't either.

    Raises:
        Unmeasurable: too little bare skin in usable light, or a picture without colour.
    """
    # skimage.color brings half of scipy along: 0.3 s and 20 MB that only an analysis shall cost.
    from skimage.color import deltaE_ciede2000

    skin = skin_pixels(sample)
    light = usable_light(sample.luma[skin])
    if light < _LEAST_LIGHT:
        raise Unmeasurable("The skin is nearly black or burnt out: its colour can't be seen.")
    if np.percentile(np.hypot(*sample.lab[sample.inside][:, 1:].T), 99) < _LEAST_CHROMA:
        raise Unmeasurable("The picture has no colour.")
    darker, median, lighter = _shades(sample.lab[skin])
    distances = deltaE_ciede2000(np.stack([median, lighter, darker])[:, None], _monk_lab()[None])
    tone, *shades = (int(index) + 1 for index in distances.argmin(axis=1))
    red, green, blue = rgb8_from_lab(median[None, None])[0, 0].tolist()
    return SkinTone(
        dominant_color_lab=(float(median[0]), float(median[1]), float(median[2])),
        hex=f"#{red:02x}{green:02x}{blue:02x}",
        ita=typology_angle(median),
        monk_tone=tone,
        monk_distance=float(distances[0].min()),
        monk_range=(min(shades), max(shades)),
        confidence=None if illumination is None else illumination * light * _naturalness(median),
    )


def skin_pixels(sample: FaceSample) -> NDArray[np.bool_]:
    """HxW bool: the pixels of cheeks and forehead that have the cheeks' colour: no hair, no gloss, no deep shade.

    Raises:
        Unmeasurable: nearly all of it lies under hair, glasses, a hat or a mask, or outside the picture.
    """
    likely = skin_likelihood(sample.lab, np.where(sample.cheeks[0] | sample.cheeks[1], 255, 0).astype(np.uint8))
    skin = np.zeros(sample.inside.shape, bool)
    for zone in (*sample.cheeks, sample.forehead):
        bare = zone & (likely > _LEAST_LIKELIHOOD)
        # A zone that is mostly something else holds its edges and shadows, too.
        if bare.sum() >= max(LEAST_ZONE_PX, _LEAST_SHARE * zone.sum()):
            skin |= bare
    if not skin.any():
        raise Unmeasurable("Cheeks and forehead are covered, too small, or outside the picture.")
    return skin


def typology_angle(lab: FloatArray) -> float:
    """Individual typology angle in degrees of a Lab colour (3,): atan2(L* - 50, b*) (Chardon et al., 1991)."""
    return float(np.degrees(np.arctan2(lab[0] - 50, lab[2])))


def _shades(lab: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Median Lab (3,) of the darker third of pixels (N, 3), of all, and of the lighter third."""
    ordered, third = lab[lab[:, 0].argsort()], -(-len(lab) // 3)
    darker, median, lighter = (
        as_float(np.median(part, axis=0)) for part in (ordered[:third], ordered, ordered[-third:])
    )
    return darker, median, lighter


def _naturalness(lab: FloatArray) -> float:
    """2 / (1 + exp(d / 10)) of the distance d from a* 0..25, b* 3..35 (natural colour of ISO/IEC 29794-5).

    There the range begins at 5, which is above the lightest and the darkest Monk tones.
    """
    outside = np.maximum(_LEAST_AB - lab[1:], 0) + np.maximum(lab[1:] - _MOST_AB, 0)
    return float(2 / (1 + np.exp(np.hypot(*outside) / 10)))


@cache
def _monk_lab() -> FloatArray:
    """(10, 3) float32 Lab."""
    rgb = [[int(tone[i : i + 2], 16) for i in (1, 3, 5)] for tone in MONK_TONES]
    lab: FloatArray = lab_from_rgb(np.array([rgb], np.uint8))[0]
    return lab
