"""How good a picture of a face is: components after ISO/IEC 29794-5, each from 0 (useless) to 1 (nothing to wish for).

Formulas, sources and limits are in docs/face-analysis.md. Each component answers to one fault and hardly moves under
the others; none of them rates how light or dark a skin is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

import face_geometry as geometry
from face_sample import LEAST_ZONE_PX, FaceSample, Findings, Unmeasurable
from utils import FloatArray, as_float, smoothstep

_REBLUR_SIGMA = 2.0  # pixels of the sample: detail of a fiftieth of the face
_SHARP_REMAINDER = 0.6  # what that blur leaves of the gradients: 0.46 to 0.67 in 24 photos, towards 1 in blurred ones
_DARK_LUMA, _USABLE_LUMA, _GLARE_LUMA = 10.0, 50.0, 240.0
_FULL_CONTRAST = 0.5
_FLARE = 0.004  # of white: keeps the ratio of two dark luminances from being that of their noise
_GAMMA = 2.2
_MID_LUMA = 128.0
_LIGHT_TOLERANCE = 8.0  # luma: cheeks that differ by so little count as evenly lit
_UNIFORMITY_POWER = 0.3
_INTER_EYE_MIDDLE, _INTER_EYE_WIDTH = 70.0, 20.0  # pixels


@dataclass(frozen=True, slots=True)
class Quality:
    """Each 0..1, None where it can't be known.

    blur_score: sharpness; 1 is sharp, 0 is blurred beyond use.
    illumination: how alike both cheeks are lit. exposure: share of the skin that is neither black nor burnt out.
    contrast: between the skin and the face's dark features. resolution: pixels between the eyes.
    pose: how far the face looks into the camera.
    overall: the smallest of the six, so no fault is made up for by the rest.
    """

    blur_score: float | None
    illumination: float | None
    exposure: float | None
    contrast: float | None
    resolution: float | None
    pose: float | None
    overall: float | None


def measure_quality(sample: FaceSample, points: FloatArray, pose: geometry.HeadPose, findings: Findings) -> Quality:
    """All components of a face with a mesh (478 or 468, 3) in pixels of the photo; reasons go to `findings`."""
    measures: dict[str, Callable[[], float]] = {
        "blur_score": lambda: sharpness(sample),
        "illumination": lambda: illumination_uniformity(sample),
        "exposure": lambda: exposure(sample),
        "contrast": lambda: contrast(sample),
        "resolution": lambda: resolution(points),
        "pose": lambda: frontality(pose),
    }
    scores = {name: findings.take(measure, f"quality.{name}") for name, measure in measures.items()}
    known = [score for score in scores.values() if score is not None]
    overall = min(known) if len(known) == len(scores) else None
    if overall is None:
        findings.unavailable["quality.overall"] = "It is the smallest component, and not all of them are known."
    return Quality(**scores, overall=overall)


def sharpness(sample: FaceSample) -> float:
    """How much of the gradients inside the face a slight blur takes away: from a blurred face it takes little.

    The idea of Crete et al., "The blur effect", 2007, with the energy of the gradients in place of their sum.
    """
    if not sample.inside.any():
        raise Unmeasurable("The face lies outside the picture.")
    before = sample.gradient_energy(sample.luma)
    if before < 1e-6:
        raise Unmeasurable("The face is one flat colour.")
    after = sample.gradient_energy(cv2.GaussianBlur(sample.luma, (0, 0), _REBLUR_SIGMA))
    return _clip((1 - np.sqrt(after / before)) / (1 - _SHARP_REMAINDER))


def illumination_uniformity(sample: FaceSample) -> float:
    """Intersection of the luma histograms of the left and the right cheek, to the power of 0.3 (ISO/IEC 29794-5).

    Other than there the luma is first scaled to a median of 128, so that the same light is judged alike on dark and on
    light skin, and the histograms are smoothed, so that they do not depend on how many pixels a cheek has.
    """
    left, right = (sample.luma[sample.zone(ring)] for ring in (geometry.LEFT_CHEEK, geometry.RIGHT_CHEEK))
    if min(len(left), len(right)) < LEAST_ZONE_PX:
        raise Unmeasurable("Only one cheek can be seen.")
    gain = _MID_LUMA / max(float(np.median(np.concatenate([left, right]))), 1.0)
    both = np.minimum(_luma_histogram(left * gain), _luma_histogram(right * gain))
    return _clip(float(both.sum()) ** _UNIFORMITY_POWER)


def exposure(sample: FaceSample) -> float:
    """How usable the light on the cheeks and the nose's bridge is."""
    luma = sample.luma[sample.core]
    if len(luma) < LEAST_ZONE_PX:
        raise Unmeasurable("Neither cheeks nor nose can be seen.")
    return usable_light(luma)


def usable_light(luma: FloatArray) -> float:
    """Mean over pixels (N,) of 0 for black and white, rising smoothly to 1 for a luma of 50 to 240.

    Dark skin in good light lies above 50, so this does not rate skin tones.
    """
    lit = smoothstep((luma - _DARK_LUMA) / (_USABLE_LUMA - _DARK_LUMA))
    unburnt = smoothstep((255 - luma) / (255 - _GLARE_LUMA))
    return _clip(float(np.minimum(lit, unburnt).mean()))


def contrast(sample: FaceSample) -> float:
    """Michelson contrast between the skin (75th percentile) and the features (5th) in linear luminance.

    A ratio, since it is the same at any exposure and skin tone.
    """
    luminance = (sample.luma[sample.inside] / 255) ** _GAMMA + _FLARE
    if len(luminance) < LEAST_ZONE_PX:
        raise Unmeasurable("The face lies outside the picture.")
    low, high = np.percentile(luminance, [5, 75])
    return _clip(float((high - low) / (high + low)) / _FULL_CONTRAST)


def resolution(points: FloatArray) -> float:
    """1 / (1 + exp((70 - d) / 20)) of the pixels d between the eyes' centres in space (ISO/IEC 29794-5).

    `points` is the mesh (468 or 478, 3) in pixels of the photo. The distance in space is that which the eyes of the
    same face would have if it looked into the camera.
    """
    return _clip(1 / (1 + float(np.exp((_INTER_EYE_MIDDLE - geometry.eye_distance(points)) / _INTER_EYE_WIDTH))))


def frontality(pose: geometry.HeadPose) -> float:
    """cos(yaw)^2 cos(pitch)^2 (ISO/IEC 29794-5 scores both apart); roll costs nothing, since it can be undone."""
    yaw, pitch = np.radians([pose.yaw, pose.pitch])
    return _clip(float((max(0.0, np.cos(yaw)) * max(0.0, np.cos(pitch))) ** 2))


def _luma_histogram(luma: FloatArray) -> FloatArray:
    counts = np.histogram(luma, bins=256, range=(0, 256))[0].astype(np.float32)
    smooth = cv2.GaussianBlur(counts[None], (0, 0), _LIGHT_TOLERANCE, borderType=cv2.BORDER_REFLECT)
    return as_float(smooth / max(float(smooth.sum()), 1e-6))


def _clip(score: float) -> float:
    return float(np.clip(score, 0, 1))
