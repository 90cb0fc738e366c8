"""The picture of a try-on: the old garment taken away, the new one laid in, and what lies before it put back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from body_fit import Fit
from body_pose import Joint
from garment_anchors import Garment, Part
from garment_warp import Layer
from person_parts import SIDES, Body, PersonParts, Side
from utils import FloatArray, GrayImage, RGBImage, as_float, blur, shrink, smoothstep

_FILL_STEP = 4  # photo pixels per pixel of the filled copies
_SHADING = (0.72, 1.12)  # the least and the largest factor that the photo's light may have
_SHADING_STRENGTH = 0.55
_FOLD_STRENGTH = 0.35
_SHADOW = 0.28  # how dark the shadow of an arm or sleeve is on what lies behind it


@dataclass(frozen=True, slots=True)
class Composite:
    """A draft and the masks that quality is measured by, all of the photo's working size.

    garment: alpha of the visible new garment. changed: 255 where a pixel may differ from the photo.
    removed: what of the old garment was painted over beside the new one. front: what lies before the garment.
    """

    rgb: RGBImage
    garment: FloatArray
    changed: GrayImage
    removed: FloatArray
    front: FloatArray


@dataclass(frozen=True, slots=True)
class Look:
    """Which steps are taken; see `tryon_pipeline.TryOnOptions.realism_level`."""

    repair: bool
    shading: bool
    shadows: bool
    folds: bool
    preserve_face: bool
    preserve_background: bool
    seed: int


def compose(
    photo: RGBImage, body: Body, parts: PersonParts, garment: Garment, fit: Fit, layers: dict[Part, Layer], look: Look
) -> Composite:
    """Lay warped parts into a photo. Bit for bit the photo wherever `changed` is 0."""
    scene = _Scene(photo, body, parts, garment, fit)
    head = parts.head if look.preserve_face else as_float(parts.head * (1 - scene.below_mouth()))
    top = garment.kind in ("top", "dress")
    bare = {side: _firm(parts.arms) * scene.along(line, 0.17) for side, line in scene.free_arms().items()}
    arms = as_float(np.maximum(bare["left"], bare["right"]))
    before: dict[Part, FloatArray] = {"body": as_float(np.maximum(head, arms))}
    if top:
        # A sleeve lies over its own arm, and behind the other one's hand.
        before |= {"left": np.maximum(head, bare["right"]), "right": np.maximum(head, bare["left"])}
    else:
        before = dict.fromkeys(layers, as_float(np.maximum(before["body"], _firm(parts.upper))))
    neck = scene.neck()
    alphas: dict[Part, FloatArray] = {}
    for part, layer in layers.items():
        seen_through = layer.inside * np.maximum(neck, parts.skin)
        alphas[part] = as_float(layer.alpha * (1 - before[part]) * (1 - seen_through))
    garment_alpha = as_float(1 - np.prod([1 - alpha for alpha in alphas.values()], axis=0))

    base = as_float(photo)
    removed = np.zeros(photo.shape[:2], np.float32)
    if look.repair:
        base, removed = scene.without_old_garment(
            garment_alpha, before["body"], soft=not look.preserve_background, seed=look.seed
        )
    base = scene.with_closed_armpits(base, garment_alpha, layers, before["body"]) if look.repair else base
    light = scene.light(folds=look.folds) if look.shading else None
    out = base
    order: list[Part] = [part for part in ("body", "left", "right") if part in alphas]
    for index, part in enumerate(order):
        colours = as_float(layers[part].rgb)
        if light is not None:
            colours = np.minimum(colours * light[..., None], 250)
        if look.shadows and part == "body":
            later = np.maximum.reduce([alphas[p] for p in order[index + 1 :]] + [arms])
            colours = colours * (1 - _SHADOW * _cast(later, body.unit))[..., None]
        alpha = alphas[part][..., None]
        out = out * (1 - alpha) + colours * alpha
    if look.shadows:
        out = _shaded_below(
            out, garment_alpha, as_float(np.maximum(parts.skin, parts.lower) * (1 - parts.head)), body.unit
        )
    changed = (garment_alpha > 1 / 255) | (removed > 1 / 255)
    if look.shadows:
        changed |= np.abs(out - photo).max(axis=2) >= 0.5
    if look.preserve_face:
        changed &= scene.face() == 0
    rgb = np.where(changed[..., None], np.clip(out + 0.5, 0, 255).astype(np.uint8), photo)
    return Composite(rgb, garment_alpha, np.where(changed, 255, 0).astype(np.uint8), removed, before["body"])


class _Scene:
    """One photo with what is known about it."""

    def __init__(self, photo: RGBImage, body: Body, parts: PersonParts, garment: Garment, fit: Fit) -> None:
        self.photo, self.body, self.parts, self.garment, self.fit = photo, body, parts, garment, fit
        height, width = photo.shape[:2]
        y, x = np.mgrid[:height, :width].astype(np.float32)
        origin, down, unit = body.shoulders.mean(axis=0), body.down, body.unit
        self.row = as_float(((x - origin[0]) * down[0] + (y - origin[1]) * down[1]) / unit)
        """Shoulder widths below the shoulder joints."""
        self.beside = as_float(((x - origin[0]) * down[1] - (y - origin[1]) * down[0]) / unit)

    def neck(self) -> FloatArray:
        """Neck and upper chest, which stand before the back of a collar."""
        aside = np.abs(self.beside) - 0.24
        slope = 0.27 - 0.4 * np.maximum(aside, 0) - 1.5 * np.minimum(aside, 0)
        return smoothstep((self.row + slope) / 0.04 + 0.5) * smoothstep((0.5 - np.abs(self.beside)) / 0.06)

    def free_arms(self) -> dict[Side, FloatArray]:
        """The lines along what is bare of both arms."""
        if self.garment.kind in ("top", "dress") and self.garment.limbs:
            return self.fit.bare
        arms = {side: np.concatenate([self.body.arm(side), self.body.hand(side)[1:]]) for side in SIDES}
        # A strap lies over the shoulder.
        return {side: np.concatenate([arm[:1] * 0.6 + arm[1:2] * 0.4, arm[1:]]) for side, arm in arms.items()}

    def along(self, line: FloatArray, radius: float) -> FloatArray:
        """1 within `radius` shoulder widths of a line, with a soft edge."""
        canvas = np.zeros(self.photo.shape[:2], np.uint8)
        width = max(1, round(2 * radius * self.body.unit))
        cv2.polylines(canvas, [np.round(np.clip(line, -9999, 9999)).astype(np.int32)], False, 255, width)
        return as_float(cv2.GaussianBlur(canvas, (0, 0), max(1.0, 0.007 * self.body.unit)) / 255)

    def face(self) -> GrayImage:
        """255 in the ellipse of eyes, nose and mouth with chin and cheeks, where it lies in the head's mask."""
        mask = np.zeros(self.photo.shape[:2], np.uint8)
        points = self.body.pose.points[:11, :2]
        eyes = (self.body.pose.at(Joint.LEFT_EYE) + self.body.pose.at(Joint.RIGHT_EYE)) / 2
        down = self.body.chin() - eyes
        centre = eyes + 0.4 * down
        half_width = 0.5 * float(np.linalg.norm(points[7] - points[8]))
        half_height = 0.75 * float(np.linalg.norm(down))
        angle = float(np.degrees(np.arctan2(down[0], down[1])))
        axes = (max(1, round(half_width)), max(1, round(half_height)))
        cv2.ellipse(mask, _pixel(as_float(centre)), axes, -angle, 0, 360, 255, -1)
        mask[self.parts.head < 0.5] = 0
        return mask

    def below_mouth(self) -> FloatArray:
        """1 below the mouth."""
        mouth = (self.body.pose.at(Joint.MOUTH_LEFT) + self.body.pose.at(Joint.MOUTH_RIGHT)) / 2
        row = float((mouth - self.body.shoulders.mean(axis=0)) @ self.body.down) / self.body.unit
        return smoothstep((self.row - row) / 0.04)

    def without_old_garment(
        self, covered: FloatArray, front: FloatArray, *, soft: bool, seed: int
    ) -> tuple[FloatArray, FloatArray]:
        """The photo with skin, background or the other garment where the old one looks out, and how much each pixel was
        replaced. `soft` also blends a rim of background around it."""
        unit = self.body.unit
        old = self._worn()
        for side, line in self.fit.covered.items():
            # A limb that is wider than its new sleeve looks out of it.
            clear = 1 - self.along(self.fit.bare[side], 0.17)
            old = np.maximum(old, self.parts.skin * self.along(line, 0.26) * clear)
        old = _spread(old, (0.04 if soft else 0.02) * unit)
        old = as_float(old * (1 - front))
        removed = as_float(old * (1 - covered))
        removed[removed < 0.04] = 0
        if not removed.any():
            return as_float(self.photo), removed
        step = _FILL_STEP
        size = (max(1, self.photo.shape[1] // step), max(1, self.photo.shape[0] // step))
        small = as_float(shrink(self.photo, size))
        person = shrink(self.parts.person, size)
        outside = _eroded(1 - person, 2.0)
        skin = _eroded(shrink(self.parts.skin, size), 1.2)
        lower = _eroded(shrink(self.parts.lower, size), 1.5)
        upper = _eroded(shrink(self.parts.upper, size), 1.5)
        as_skin, as_other = shrink(self._bare(), size), shrink(self._other_zone(), size)
        other = lower if self.garment.kind in ("top", "dress") else upper
        filled = _fill(small, outside)
        filled = filled + as_other[..., None] * (_fill(small, other) - filled) if other.max() > 0.5 else filled
        if skin.max() > 0.5:
            filled = filled + as_skin[..., None] * (_fill(small, skin) - filled)
        full = cv2.resize(filled, (self.photo.shape[1], self.photo.shape[0]), interpolation=cv2.INTER_CUBIC)
        full = full + self._grain(seed)[..., None]
        return as_float(self.photo + removed[..., None] * (full - self.photo)), removed

    def with_closed_armpits(
        self, base: FloatArray, covered: FloatArray, layers: dict[Part, Layer], front: FloatArray
    ) -> FloatArray:
        """Narrow gaps between sleeve and trunk inside the silhouette, filled with the cloth's colour in the shade."""
        if self.garment.kind not in ("top", "dress") or len(layers) < 2:
            return base
        step = _FILL_STEP
        size = (max(1, covered.shape[1] // step), max(1, covered.shape[0] // step))
        cloth = shrink(covered, size)
        reach = 2 * max(1, round(0.06 * self.body.unit / step)) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        gap = np.clip(cv2.morphologyEx(cloth, cv2.MORPH_CLOSE, disc) - cloth, 0, 1)
        gap = cv2.resize(cv2.GaussianBlur(gap, (0, 0), 1), covered.shape[::-1])
        gap = as_float(gap * smoothstep(self.parts.person * 4 - 2) * (1 - front) * smoothstep((self.row - 0.15) / 0.1))
        body = layers["body"]
        colours = _fill(as_float(shrink(body.rgb, size)), _eroded(shrink(body.alpha, size), 1))
        shade = cv2.resize(colours, covered.shape[::-1]) * 0.55
        return as_float(base + gap[..., None] * (shade - base))

    def light(self, *, folds: bool) -> FloatArray:
        """HxW factor: how the photo's light and the old garment's broad folds shade the new one."""
        gray = as_float(cv2.cvtColor(self.photo, cv2.COLOR_RGB2GRAY)) + 1
        # One garment's shades: below a top lie trousers of another colour, and so does a dress's lower half.
        worn = np.clip(
            (self.parts.lower if self.garment.kind in ("legs", "skirt") else self.parts.upper) * 1.5 - 0.5, 0, 1
        )
        inside = worn > 0.9
        if inside.sum() < 100:
            return np.ones_like(gray)
        weight = as_float(worn)

        def smooth(sigma: float) -> FloatArray:
            return as_float(blur(as_float(gray * weight), sigma) / np.maximum(blur(weight, sigma), 1e-3))

        low = smooth(0.07 * self.body.unit)
        median = float(np.median(low[inside]))
        ratio = np.clip(low / median, *_SHADING)
        # Dark cloth says little about the light.
        factor = 1 + _SHADING_STRENGTH * min(1.0, median / 90) * (ratio - 1) * blur(weight, 0.04 * self.body.unit)
        if folds:
            # Folds are finer than the light and coarser than a print's edges; a printed garment has too much of both.
            fine = smooth(0.02 * self.body.unit) / np.maximum(low, 1)
            calm = float(np.clip(1 - 6 * max(0.0, float(np.std(fine[inside])) - 0.08), 0, 1))
            factor = factor * (1 + _FOLD_STRENGTH * calm * (np.clip(fine, 0.8, 1.15) - 1) * weight)
        edge = np.clip(np.abs(self.beside) / 0.62, 0, 1) ** 4
        return as_float(factor * (1 - 0.06 * edge))

    def _worn(self) -> FloatArray:
        """The garments that the new one replaces."""
        if self.garment.kind == "top":
            return self.parts.upper
        if self.garment.kind == "dress":
            return np.maximum(self.parts.upper, self.parts.lower * (self.row < 1.9))
        return self.parts.lower

    def _bare(self) -> FloatArray:
        """Where skin would show without the old garment: arms, neck and chest, or legs."""
        top = self.garment.kind in ("top", "dress")
        limbs = np.maximum(*(self.along(self.fit.bare[side], 0.15 if top else 0.2) for side in SIDES))
        inside = smoothstep((self.parts.person - 0.4) * 5)
        if not top:
            return as_float(limbs * inside)
        chest = self.neck() * smoothstep((0.75 - self.row) / 0.1)
        return as_float(np.maximum(limbs, chest) * inside)

    def _other_zone(self) -> FloatArray:
        """Where the other garment would go on under the old one."""
        trunk = self.body.trunk / self.body.unit
        within = smoothstep((0.6 - np.abs(self.beside)) / 0.06) * smoothstep((self.parts.person - 0.4) * 5)
        if self.garment.kind in ("top", "dress"):
            return as_float(within * smoothstep((self.row - 0.8 * trunk) / 0.05))
        return as_float(within * smoothstep((trunk - self.row) / 0.05))

    def _grain(self, seed: int) -> FloatArray:
        """Noise as strong as the photo's own, so that filled places don't look airbrushed."""
        gray = as_float(cv2.cvtColor(self.photo, cv2.COLOR_RGB2GRAY))
        fine = gray - cv2.GaussianBlur(gray, (0, 0), 1.5)
        strength = float(np.median(np.abs(fine)) / 0.6745)
        noise = np.random.default_rng(seed).standard_normal(gray.shape, dtype=np.float32)
        return as_float(cv2.GaussianBlur(noise, (0, 0), 0.7) * min(strength * 2, 6))


def _fill(colours: FloatArray, weight: FloatArray) -> FloatArray:
    """HxWx3: known pixels carried into unknown ones, from near by where there are any: normalised convolution at
    doubling widths (Knutsson and Westin, 1993)."""
    out, known = colours * weight[..., None], weight
    result, done = np.zeros_like(colours), np.zeros_like(weight)
    sigma = 1.0
    while sigma < 2 * max(weight.shape) and float(done.min()) < 0.98:
        soft, spread = blur(as_float(out), sigma), blur(known, sigma)
        share = np.clip(spread * 4, 0, 1) * (1 - done)
        result += (share / np.maximum(spread, 1e-4))[..., None] * soft
        done = as_float(done + share)
        sigma *= 2
    return as_float(result / np.maximum(done, 1e-3)[..., None])


def _firm(mask: FloatArray) -> FloatArray:
    """A soft mask with a narrower edge: nothing half seen inside."""
    return smoothstep((mask - 0.35) / 0.35)


def _eroded(mask: FloatArray, radius: float) -> FloatArray:
    """1 well inside a soft mask, 0 near its edge and outside."""
    size = 2 * round(radius) + 1
    return cv2.erode(as_float(mask > 0.85), np.ones((size, size), np.uint8))  # type: ignore[no-any-return]


def _spread(mask: FloatArray, radius: float) -> FloatArray:
    """A soft mask grown by `radius` pixels, its edge still soft."""
    size = 2 * round(radius) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    return as_float(cv2.GaussianBlur(cv2.dilate(smoothstep(mask * 1.6 - 0.3), kernel), (0, 0), max(radius / 3, 0.5)))


def _cast(caster: FloatArray, unit: float) -> FloatArray:
    """The soft shadow around what lies in front, a little below it."""
    shift = np.array([[1, 0, 0], [0, 1, 0.02 * unit]], np.float32)
    moved = cv2.warpAffine(caster, shift, caster.shape[1::-1])
    return blur(moved, 0.025 * unit)


def _shaded_below(image: FloatArray, garment: FloatArray, receiver: FloatArray, unit: float) -> FloatArray:
    """Skin and trousers a little darker where a hem, cuff or collar lies close above them."""
    shadow = _cast(garment, unit) * (1 - garment) * receiver
    return as_float(image * (1 - _SHADOW * shadow)[..., None])


def _pixel(point: FloatArray) -> tuple[int, int]:
    x, y = np.clip(np.round(point), -(2**14), 2**14).astype(int)
    return int(x), int(y)
