"""How well a draft fits, in terms that can be measured without knowing the right answer.

Each term is a number with a good and a bad value; its score runs linearly from 1 to 0 between them. The terms, bounds
and weights follow the measurements in docs/tryon.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from body_fit import Fit
from face_geometry import grow
from garment_anchors import Garment, Kind, Part
from garment_warp import Layer, Net, united
from person_parts import SIDES, Body, PersonParts
from tryon_composite import Composite
from utils import FloatArray, GrayImage, RGBImage, as_float, as_mask, lab_from_rgb, shrink

_RESIDUE_STEP = 3
_CAP = 0.49
"""The most that a draft with a failed gate can score."""


@dataclass(frozen=True, slots=True)
class Term:
    """One measure: its value where a draft is good and where it is bad, its weight, and whether it can fail a draft."""

    good: float
    bad: float
    weight: float
    gate: bool = False

    def score(self, value: float) -> float:
        """1 at the good value and beyond, 0 at the bad one and beyond."""
        return float(np.clip((self.bad - value) / (self.bad - self.good), 0, 1))


TERMS: dict[str, Term] = {
    "cover": Term(0.03, 0.20, 0.15),
    "spill": Term(0.08, 0.35, 0.10),
    "sim": Term(0.08, 0.30, 0.15, gate=True),
    "redet": Term(0.03, 0.15, 0.15, gate=True),
    "fold": Term(0.01, 0.10, 0.15, gate=True),
    "rough": Term(1.06, 1.30, 0.05),
    "residue": Term(0.02, 0.15, 0.10),
    "invented": Term(0.10, 1.00, 0.10, gate=True),
    "aspect": Term(0.12, 0.50, 0.05),
    "lopsided": Term(0.10, 0.35, 0.05, gate=True),
    "square": Term(0.00, 0.04, 0.05, gate=True),
    "mistaken": Term(0.00, 1.00, 0.00, gate=True),
}
"""cover: share of the trunk (or seat) that the garment should cover and does not.
spill: share of the warped garment that lies outside the person's silhouette; of a skirt, above the hips.
sim: RMS distance, in shoulder widths, of the anchors from the best similarity transform: how bent the garment is.
redet: mean distance, in shoulder widths, of the anchors' targets from the outline of the warped garment.
fold: share of the garment that is turned over (Jacobian <= 0).
rough: length of the warped outline over the length of its polygon (2 pixels tolerance at 512), over the garment's own.
residue: share, of the trunk, of pixels that still look like the old garment beside the new one.
invented: area that had to be painted (skin, background) over the old garment, over the trunk's.
aspect: absolute logarithm of the stretch across over the stretch down.
lopsided: 1 - IoU of the product photo's outline with its mirror image: turned, cut off, or with one sleeve hidden.
square: by how much a top's shoulders fall less than 0.06 of their width from the neck: no neckline is there, as in a
garment that is upside down or is none for the trunk.
mistaken: 1 where the outline looks like trousers, a skirt or a top and garment_type says another of these. No weight of
its own: it only fails a draft."""

_SHOULDER_FALL = 0.06


@dataclass(frozen=True, slots=True)
class Quality:
    """score: 0..1. terms: every value measured. scores: 0..1 of each. failed: gates that a draft did not pass."""

    score: float
    terms: dict[str, float]
    scores: dict[str, float]
    failed: tuple[str, ...]


def assess(
    photo: RGBImage,
    body: Body,
    parts: PersonParts,
    garment: Garment,
    fit: Fit,
    nets: dict[Part, Net],
    layers: dict[Part, Layer],
    result: Composite,
) -> Quality:
    """Measure one attempt."""
    warped, whole = united(layers.values(), photo.shape), as_float(garment.alpha / np.float32(255))
    trunk = _trunk(garment, fit, body, warped.shape)
    area = max(float((trunk > 0).sum()), 1.0)
    anchors = {name: _carried(nets["body"], garment.at(name)) for name in fit.handles if name in garment.anchors}
    folded = np.sum([net.folded() for net in nets.values()], axis=0)
    terms = {
        "cover": float(((trunk > 0) & (np.maximum(result.garment, result.front) < 0.5)).sum()) / area,
        "spill": _spill(warped, parts.person, body, garment.kind),
        "sim": _similarity_residual(garment, anchors, body.unit),
        "redet": _outline_distance(warped, fit, body.unit),
        "fold": float(folded[0] / max(folded[1], 1e-6)),
        "rough": _roughness(warped, fit.scale, garment) / _roughness(whole, 1.0, garment),
        "residue": _residue(photo, parts, garment, result, area),
        "invented": float(result.removed.sum()) / area,
        "aspect": _aspect(nets["body"]),
        "lopsided": _lopsided(garment),
        "square": _square(garment),
        "mistaken": float(_family(garment.kind) != _family(garment.looks_like)),
    }
    return grade(terms)


def grade(terms: dict[str, float]) -> Quality:
    """Half the weighted mean of all terms' scores, and half that mean times the worst of them: one fault can't be made
    up for by everything else."""
    scores = {name: TERMS[name].score(value) for name, value in terms.items()}
    failed = tuple(name for name in terms if TERMS[name].gate and scores[name] == 0)
    mean = sum(TERMS[name].weight * scores[name] for name in terms) / sum(TERMS[name].weight for name in terms)
    total = mean * (0.5 + 0.5 * min(scores.values()))
    rounded = {name: round(value, 4) for name, value in terms.items()}
    return Quality(
        round(min(total, _CAP) if failed else total, 4), rounded, {k: round(v, 4) for k, v in scores.items()}, failed
    )


def _trunk(garment: Garment, fit: Fit, body: Body, shape: tuple[int, ...]) -> GrayImage:
    """255 in what the garment's trunk must cover: between shoulders (or waist) and hem, a tenth within its sides."""
    names: tuple[str, ...]
    if garment.kind in ("top", "dress"):
        names = ("shoulder_left", "armpit_left", "hem_left", "hem_right", "armpit_right", "shoulder_right")
    elif garment.kind == "skirt":
        names = ("waist_left", "hem_left", "hem_right", "waist_right")
    else:
        names = ("waist_left", "crotch", "waist_right")
    ring = np.stack([fit.handles[name] for name in names])
    if garment.kind in ("top", "dress"):
        ring[[0, 5]] += body.down * 0.25 * body.unit  # below the neck opening
    centre = ring.mean(axis=0)
    mask = np.zeros(shape, np.uint8)
    cv2.fillPoly(mask, [np.round(centre + 0.88 * (ring - centre)).astype(np.int32)], 255)
    return mask


def _spill(warped: FloatArray, person: FloatArray, body: Body, kind: Kind) -> float:
    near = grow(as_mask(person > 0.4), 0.03 * body.unit)
    if kind in ("dress", "skirt"):  # which may flare below the hips
        near[round(float(body.hips[:, 1].mean())) :] = 255
    return float(warped[near == 0].sum() / max(float(warped.sum()), 1.0))


def _carried(net: Net, point: FloatArray) -> FloatArray:
    """Where the net brings a garment point: by the three nearest vertices' mean shift, scaled locally."""
    distance = ((net.source - point) ** 2).sum(axis=1)
    near = np.argsort(distance, kind="stable")[:6]
    homogeneous = np.concatenate([net.source[near], np.ones((len(near), 1))], axis=1)
    affine = np.linalg.lstsq(homogeneous, net.target[near], rcond=None)[0]
    return as_float(np.array([*point, 1.0]) @ affine)


def _similarity_residual(garment: Garment, anchors: dict[str, FloatArray], unit: float) -> float:
    """RMS of what the best scale, turn and shift leave over."""
    names = [name for name in anchors if not name.startswith("outline")]
    source = np.stack([garment.at(name) for name in names]).astype(np.float64) @ (1, 1j)
    target = np.stack([anchors[name] for name in names]).astype(np.float64) @ (1, 1j)
    matrix = np.stack([source, np.ones_like(source)], axis=1)
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return float(np.sqrt(np.mean(np.abs(matrix @ solution - target) ** 2)) / unit)


def _outline_distance(warped: FloatArray, fit: Fit, unit: float) -> float:
    """Mean distance of the targets from the warped outline, where they lie in the picture; the crotch lies inside."""
    edge = cv2.findNonZero(cv2.morphologyEx(as_mask(warped > 0.5), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)))
    height, width = warped.shape
    if edge is None:  # nothing is seen of the garment
        return float(np.hypot(height, width)) / unit
    found = [
        float(np.linalg.norm(edge[:, 0] - point, axis=1).min())
        for name, point in fit.handles.items()
        if not name.startswith("armpit") and (np.round(point) >= 0).all() and (np.round(point) < (width, height)).all()
    ]
    return float(np.mean(found)) / unit if found else 0.0


def _roughness(mask: FloatArray, scale: float, garment: Garment) -> float:
    """Length of the outline over that of its simplification, at the same resolution for garment and warp."""
    factor = 512 / (max(garment.alpha.shape) * scale)
    size = (max(8, round(mask.shape[1] * factor)), max(8, round(mask.shape[0] * factor)))
    small = (cv2.resize(mask, size, interpolation=cv2.INTER_AREA) > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return 1.0
    contour = max(contours, key=cv2.contourArea)
    polygon = cv2.approxPolyDP(contour, 2.0, True)
    return float(cv2.arcLength(contour, True) / max(cv2.arcLength(polygon, True), 1.0))


def _residue(photo: RGBImage, parts: PersonParts, garment: Garment, result: Composite, area: float) -> float:
    """Pixels beside the new garment that were the old one's and still have its colour."""
    size = (max(1, photo.shape[1] // _RESIDUE_STEP), max(1, photo.shape[0] // _RESIDUE_STEP))
    old = shrink(parts.upper if garment.kind in ("top", "dress") else parts.lower, size)
    core = old > 0.8
    if core.sum() < 20:
        return 0.0
    beside = (shrink(result.garment, size) < 0.2) & (shrink(result.front, size) < 0.5)
    before, after = (lab_from_rgb(shrink(each, size)[core][None])[0] for each in (photo, result.rgb))
    alike = np.linalg.norm(after - np.median(before, axis=0), axis=1) < 15
    same = np.linalg.norm(after - before, axis=1) < 6
    return float((beside[core] & alike & same).sum() * _RESIDUE_STEP**2 / area)


def _lopsided(garment: Garment) -> float:
    """1 - the best IoU of a garment's outline with its mirror image, about axes near its anchors' middle."""
    scale = 256 / max(garment.alpha.shape)
    mask = shrink(garment.alpha, (round(garment.alpha.shape[1] * scale), round(garment.alpha.shape[0] * scale))) > 127
    ends = ("armpit", "neck") if garment.kind in ("top", "dress") else ("waist",)
    middle = scale * float(np.mean([garment.at(f"{end}_{side}")[0] for end in ends for side in SIDES]))
    columns = np.arange(mask.shape[1])
    best = 0.0
    for axis in middle + np.linspace(-0.03, 0.03, 7) * mask.shape[1]:
        mirrored = np.round(2 * axis - columns).astype(int)
        inside = (mirrored >= 0) & (mirrored < mask.shape[1])
        other = mask[:, np.clip(mirrored, 0, mask.shape[1] - 1)] & inside
        best = max(best, float((mask & other).sum() / max((mask | other).sum(), 1)))
    return 1 - best


def _family(kind: Kind) -> str:
    """Long tops and short dresses look alike."""
    return "top" if kind == "dress" else kind


def _square(garment: Garment) -> float:
    if garment.kind not in ("top", "dress"):
        return 0.0
    width = float(np.linalg.norm(garment.at("shoulder_right") - garment.at("shoulder_left")))
    fall = np.mean([garment.at(f"shoulder_{side}")[1] - garment.at(f"neck_{side}")[1] for side in SIDES])
    return max(0.0, _SHOULDER_FALL - float(fall) / max(width, 1.0))


def _aspect(net: Net) -> float:
    """How much more the trunk is stretched across than down, by its best affine map."""
    source = net.source - net.source.mean(axis=0)
    affine = np.linalg.lstsq(
        source.astype(np.float64), (net.target - net.target.mean(axis=0)).astype(np.float64), rcond=None
    )[0]
    across, down = (max(float(np.linalg.norm(row)), 1e-6) for row in affine)
    return float(abs(np.log(across / down)))
