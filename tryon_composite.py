"""The picture of a try-on: the old garment taken away, the new one laid in, and what lies before it put back."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from body_fit import Fit
from body_pose import Joint
from garment_anchors import Garment, Part
from garment_warp import Layer
from limb_fit import seen_edges
from person_parts import SIDES, Body, PersonParts, Side
from utils import AnyArray, FloatArray, GrayImage, RGBImage, Window, as_float, as_mask, blur, placed, shrink, smoothstep

_FILL_STEP = 4  # photo pixels per pixel of the filled copies
_MARGIN = 0.25  # of the shoulder distance, around what a try-on touches: what it looks at there
_SHADING = (0.72, 1.12)  # the least and the largest factor that the photo's light may have
_SHADING_STRENGTH = 0.7
_FOLD_STRENGTH = 0.5
_RISE = 0.08  # of the shoulder distance: how much higher than expected bare shoulders may be
_BRIGHTEST = 250  # cloth keeps its texture in strong light
_IN_THE_SHADE = 0.5  # how bright cloth is that lies deep between sleeve and trunk
_SHADOW = 0.42  # how dark the shadow of an arm or sleeve is on what lies behind it


@dataclass(frozen=True, slots=True)
class Composite:
    """A draft and the masks that quality is measured by, all of its photo's size.

    garment: alpha of the visible new garment. changed: 255 where a pixel may differ from the photo.
    removed: what of the old garment was painted over beside the new one. front: what lies before the garment.
    """

    rgb: RGBImage
    garment: FloatArray
    changed: GrayImage
    removed: FloatArray
    front: FloatArray

    def within(self, photo: RGBImage, window: Window) -> Composite:
        """What was made of a window of a photo, in the photo; nothing of it beside the window."""
        rgb, shape = photo.copy(), photo.shape
        rgb[window] = self.rgb
        garment, removed, front = (placed(mask, window, shape) for mask in (self.garment, self.removed, self.front))
        return Composite(rgb, garment, placed(self.changed, window, shape), removed, front)


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


def affected(body: Body, parts: PersonParts, garment: Garment, fit: Fit, layers: dict[Part, Layer]) -> Window:
    """Where a try-on looks and paints: around the old garment, the new one, and the limbs that they hide or bare."""
    worn = {"top": [parts.upper], "dress": [parts.upper, parts.lower]}.get(garment.kind, [parts.lower])
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in (layer.window for layer in layers.values())]
    for x, y, width, height in (cv2.boundingRect((mask > 0.1).view(np.uint8)) for mask in worn):
        if width > 0:
            boxes.append((x, y, x + width, y + height))
    corners = np.concatenate([np.reshape(boxes, (-1, 2)), *fit.bare.values(), *fit.covered.values()])
    margin = _MARGIN * body.unit
    # Whole steps of the filled copies: exact halves shrink fastest.
    low = np.floor((corners.min(axis=0) - margin) / _FILL_STEP).astype(int) * _FILL_STEP
    high = np.ceil((corners.max(axis=0) + margin) / _FILL_STEP).astype(int) * _FILL_STEP
    (left, top), (right, bottom) = np.maximum(low, 0), np.minimum(high, parts.person.shape[::-1])
    return np.s_[int(top) : int(bottom), int(left) : int(right)]


def compose(
    photo: RGBImage, body: Body, parts: PersonParts, garment: Garment, fit: Fit, layers: dict[Part, Layer], look: Look
) -> Composite:
    """Lay warped parts into a photo. Bit for bit the photo wherever `changed` is 0."""
    scene = _Scene(photo, body, parts, garment, fit)
    front = scene.front(below_chin=look.preserve_face)
    # The inner back of a collar lies behind the neck. A hood's shows beside it.
    neck = np.maximum(scene.neck, parts.skin) if garment.garment_type == "hoodie" else np.ones_like(scene.neck)
    alphas = {
        part: as_float(layer.alpha * (1 - front[part][layer.window]) * (1 - layer.inside * neck[layer.window]))
        for part, layer in layers.items()
    }
    bare = np.ones(photo.shape[:2], np.float32)
    for part, alpha in alphas.items():
        bare[layers[part].window] *= 1 - alpha
    covered = 1 - bare

    picture, removed = as_float(photo), np.zeros(photo.shape[:2], np.float32)
    if look.repair:
        soft = not look.preserve_background
        picture, removed = scene.without_old_garment(covered, front["body"], soft=soft, seed=look.seed)
        picture = scene.with_closed_armpits(picture, covered, layers, front["body"])
    light = scene.light(folds=look.folds) if look.shading else np.ones_like(bare)
    for part in sorted(layers):  # the trunk first, then what hangs from it
        factor = light
        if look.shadows and part == "body":
            factor = light * (1 - _SHADOW * _cast(scene.over_trunk(alphas, layers), body.unit))
        _lay(picture, layers[part], alphas[part], factor)
    if look.shadows:
        skin_and_trousers = np.maximum(parts.skin, parts.lower) * (1 - parts.head) * bare
        picture = _times(picture, 1 - _SHADOW * _cast(covered, body.unit) * skin_and_trousers)
    changed = (covered > 1 / 255) | (removed > 1 / 255)
    painted = cv2.convertScaleAbs(picture)
    if look.shadows:
        differs = (painted != photo).view(np.uint8)
        changed |= (differs[..., 0] | differs[..., 1] | differs[..., 2]) > 0
    if look.preserve_face:
        changed &= scene.face() == 0
    mask = as_mask(changed)
    return Composite(cv2.copyTo(painted, mask, photo.copy()), covered, mask, removed, front["body"])


def _lay(picture: FloatArray, layer: Layer, alpha: FloatArray, light: FloatArray) -> None:
    """Blend a part into a picture, in place."""
    colours = _times(as_float(layer.rgb), light[layer.window])
    np.minimum(colours, _BRIGHTEST, out=colours)
    picture[layer.window] = _mixed(picture[layer.window], colours, alpha)


def _mixed(below: FloatArray, above: FloatArray, share: FloatArray) -> FloatArray:
    """HxWx3: `share` (HxW) of one picture over another."""
    return as_float(cv2.blendLinear(above, below, share, 1 - share))


def _times(picture: FloatArray, factor: FloatArray) -> FloatArray:
    """HxWx3: a picture with each pixel's channels times its factor (HxW)."""
    return as_float(cv2.multiply(picture, cv2.merge([factor] * 3)))


class _Scene:
    """One photo with what is known about it."""

    def __init__(self, photo: RGBImage, body: Body, parts: PersonParts, garment: Garment, fit: Fit) -> None:
        self.photo, self.body, self.parts, self.garment, self.fit = photo, body, parts, garment, fit
        unit, origin, down = body.unit, body.shoulders.mean(axis=0), body.down / body.unit
        x = np.arange(photo.shape[1], dtype=np.float32) - origin[0]
        y = np.arange(photo.shape[0], dtype=np.float32)[:, None] - origin[1]
        self.row = x * down[0] + y * down[1]
        """Shoulder widths below the shoulder joints."""
        self.beside = x * down[1] - y * down[0]

        self.top = garment.kind in ("top", "dress")
        self.neck = self._neck() if self.top else np.zeros_like(self.row)
        """Neck and upper chest up to the shoulders' outline, which stand before the back of a collar."""
        arms = _firm(parts.arms)
        self.bare_arms = {
            side: _without_specks(arms * self.along(line, 0.17), (0.1 * unit) ** 2)
            for side, line in self.free_arms().items()
        }

    def front(self, *, below_chin: bool) -> dict[Part, FloatArray]:
        """What lies before each part of the garment: head, bare arms and hands, and a top over trousers or skirt."""
        head = smoothstep((self.parts.head - 0.2) / 0.6)
        head = head if below_chin else as_float(head * (1 - self.below_mouth()))
        bare = {side: np.maximum(head, arm) for side, arm in self.bare_arms.items()}
        both = np.maximum(bare["left"], bare["right"])
        if self.top:
            # A sleeve lies over its own arm, and behind the other one's hand.
            return {"body": both, "left": bare["right"], "right": bare["left"]}
        size = 2 * max(1, round(0.008 * self.body.unit)) + 1
        worn = cv2.erode(_firm(blur(self.parts.upper, 0.01 * self.body.unit)), np.ones((size, size), np.uint8))
        both = np.maximum(both, worn)
        return {"body": both, "left": both, "right": both}

    def over_trunk(self, alphas: dict[Part, FloatArray], layers: dict[Part, Layer]) -> FloatArray:
        """Bare arms and sleeves, which cast shadows on the trunk."""
        over = np.maximum(self.bare_arms["left"], self.bare_arms["right"])
        for part, alpha in alphas.items():
            if part != "body":
                over[layers[part].window] = np.maximum(over[layers[part].window], alpha)
        return as_float(over)

    def free_arms(self) -> dict[Side, FloatArray]:
        """The lines along what is bare of both arms."""
        if self.top and self.garment.limbs:
            return self.fit.bare
        arms = {side: np.concatenate([self.body.arm(side), self.body.hand(side)[1:]]) for side in SIDES}
        # A strap lies over the shoulder.
        return {side: np.concatenate([arm[:1] * 0.6 + arm[1:2] * 0.4, arm[1:]]) for side, arm in arms.items()}

    def arm_width(self) -> float:
        """Half the width of the bare arms that are seen, in shoulder widths; the usual one where none are."""
        seen, length = 0.0, 0.0
        for side in SIDES:
            shoulder, elbow, wrist = self.body.arm(side)
            line = np.stack([0.5 * (shoulder + elbow), elbow, 0.4 * elbow + 0.6 * wrist])
            near = self.along(line, 0.22)
            skin = near * self.parts.arms
            length += float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum()) * float(skin.sum() > 0)
            seen += float(skin.sum())
        width = seen / max(2 * length, 1.0) / self.body.unit
        return float(np.clip(1.1 * width, 0.1, 0.17)) if width > 0.07 else 0.14

    def along(self, line: FloatArray, radius: float) -> FloatArray:
        """1 within `radius` shoulder widths of a line, with a soft edge."""
        step = 2 if radius * self.body.unit > 12 else 1
        canvas = np.zeros((-(-self.photo.shape[0] // step), -(-self.photo.shape[1] // step)), np.uint8)
        width = max(1, round(2 * radius * self.body.unit / step))
        cv2.polylines(canvas, [np.round(np.clip(line, -9999, 9999) / step).astype(np.int32)], False, 255, width)
        soft = cv2.GaussianBlur(canvas, (0, 0), max(1.0, 0.007 * self.body.unit / step))
        full = cv2.resize(soft, (canvas.shape[1] * step, canvas.shape[0] * step))
        return as_float(full[: self.photo.shape[0], : self.photo.shape[1]] / np.float32(255))

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
            skin = self.parts.skin if self.top else self.parts.skin * (1 - self.parts.arms)
            old = np.maximum(old, skin * self.along(line, 0.26) * clear)
        old = _spread(old, (0.045 if soft else 0.022) * unit)
        step = _FILL_STEP
        size = (max(1, self.photo.shape[1] // step), max(1, self.photo.shape[0] // step))
        as_skin, hems = self._bare(size)
        # At the end of an old sleeve, the edge of its hem isn't skin.
        rim = 2 * max(1, round(0.012 * unit)) + 1
        own = cv2.erode(front, np.ones((rim, rim), np.uint8))
        front = as_float(front + self._enlarged(hems) * (own - front))
        removed = as_float(old * (1 - front) * (1 - covered))
        removed[removed < 0.04] = 0
        if not removed.any():
            return as_float(self.photo), removed
        small = as_float(shrink(self.photo, size))
        person = shrink(self.parts.person, size)
        outside = _eroded(1 - person, 2.0)
        skin = _eroded(shrink(self.parts.skin, size), 1.2)
        lower = _eroded(shrink(self.parts.lower, size), 1.5)
        upper = _eroded(shrink(self.parts.upper, size), 1.5)
        other = lower if self.top else upper
        filled = _fill(small, outside)
        if other.max() > 0.5:
            filled = _mixed(filled, _fill(small, other), self._other_zone(person))
        # Only where something is replaced: of a whole figure it is a small part.
        x, y, width, height = cv2.boundingRect((removed > 0).view(np.uint8))
        window = np.s_[y : y + height, x : x + width]
        full = self._enlarged(filled)[window]
        if skin.max() > 0.5:
            # Limbs are round: darker towards their edges.
            limb = np.maximum(as_skin, shrink(self.parts.skin, size))
            round_off = 0.78 + 0.22 * smoothstep((blur(limb, 0.06 * unit / step) - 0.35) * 2.5)
            edge = smoothstep((self._enlarged(as_skin)[window] - 0.3) / 0.4)
            limbs = self._enlarged(_times(_fill(small, skin), round_off))[window]
            full = _mixed(full, limbs, edge)
        full += cv2.merge([self._grain(seed, (height, width))] * 3)
        repaired = as_float(self.photo)
        repaired[window] = _mixed(repaired[window], full, removed[window])
        return repaired, removed

    def _enlarged(self, values: FloatArray) -> FloatArray:
        """A reduced copy in the photo's size."""
        size = (self.photo.shape[1], self.photo.shape[0])
        return as_float(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR))

    def with_closed_armpits(
        self, base: FloatArray, covered: FloatArray, layers: dict[Part, Layer], front: FloatArray
    ) -> FloatArray:
        """Narrow gaps between sleeve and trunk inside the silhouette, filled with the cloth's colour in the shade."""
        if not self.top or len(layers) < 2:
            return base
        step = _FILL_STEP
        size = (max(1, covered.shape[1] // step), max(1, covered.shape[0] // step))
        cloth = shrink(covered, size)
        reach = 2 * max(1, round(0.1 * self.body.unit / step)) + 1
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
        gap = np.clip(cv2.morphologyEx(cloth, cv2.MORPH_CLOSE, disc) - cloth, 0, 1)
        gap = cv2.resize(cv2.GaussianBlur(gap, (0, 0), 1), covered.shape[::-1])
        gap = as_float(gap * smoothstep(self.parts.person * 4 - 2) * (1 - front) * smoothstep(self.row / 0.1))
        rows = np.flatnonzero((gap > 0.05).any(axis=1))
        if len(rows) == 0:
            return base
        strip = slice(int(rows[0]), int(rows[-1]) + 1)
        shade = _sideways(layers["body"], covered.shape, strip, step) * _IN_THE_SHADE
        base[strip] = _mixed(base[strip], shade, gap[strip])
        return base

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
            hem = np.mean([self.fit.handles[f"hem_{side}"] for side in SIDES], axis=0) - self.body.shoulders.mean(
                axis=0
            )
            above = smoothstep((float(hem @ self.body.down) / self.body.unit - self.row) / 0.04)
            return as_float(np.maximum(self.parts.upper, self.parts.lower * above))
        return self.parts.lower

    def _neck(self, *, rise: float = 0.0) -> FloatArray:
        """Neck, shoulders and chest inside the new neckline; `rise` shoulder distances higher than expected."""
        beside, above = self.fit.shoulder_line
        row, aside = self.row[::2, ::2], np.abs(self.beside[::2, ::2])
        # The neck rises steeply from the shoulders' inner end.
        line = np.interp(aside, [0, *beside], [above[0] + 1.5 * beside[0], *above])
        ends = 0.5
        if self.garment.limbs:  # sleeves cover the rest
            wide = np.linalg.norm(self.fit.handles["neck_right"] - self.fit.handles["neck_left"]) / self.body.unit
            ends = float(wide) / 2 + 0.03
        neck = smoothstep(as_float(row + line + rise) / 0.02 + 0.2) * smoothstep((ends - aside) / 0.03 + 0.5)
        return as_float(cv2.resize(neck, self.row.shape[::-1]))

    def _bare(self, size: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
        """Where skin would show without the old garment, in a copy of `size`: neck and chest, and arms or legs that it
        hid. And the ends of what was hidden."""
        skin, usual = (self.parts.arms, self.arm_width()) if self.top else (self.parts.skin, 0.2)
        scale = size[0] / self.photo.shape[1]
        bare, hems = np.zeros(size[::-1], np.uint8), np.zeros(size[::-1], np.uint8)
        for side in SIDES:
            edges, hidden = seen_edges(self.fit.bare[side], skin, usual, self.body.unit)
            corners = np.round(edges * scale * 16).astype(np.int32)
            for start in np.flatnonzero(hidden).tolist():
                end = start + 2
                cv2.fillConvexPoly(bare, _ring(corners, start, end), 255, cv2.LINE_AA, shift=4)
                if end <= len(hidden) and not hidden[start + 1 : end].all():
                    # A hem may lie aslant: one side of the limb is hidden longer.
                    for mask in (bare, hems):
                        cv2.fillPoly(mask, [_ring(corners, start, end + 2)], 255, cv2.LINE_AA, shift=4)
            if hidden[0]:  # a shoulder is round
                radius = max(16, round(float(np.linalg.norm(edges[1, 0] - edges[0, 0])) / 2 * scale * 16))
                centre = _pixel(as_float(edges[:, 0].mean(axis=0) * scale * 16))
                cv2.circle(bare, centre, radius, 255, -1, cv2.LINE_AA, shift=4)
        found = as_float(cv2.GaussianBlur(bare, (0, 0), 1.0) / np.float32(255))
        person = smoothstep((shrink(self.parts.person, size) - 0.4) * 5)
        found *= person
        if self.top:
            # Old clothes show how high the shoulders are, or a little more, and have seams that shoulders have not.
            outline = smoothstep((blur(person, 0.05 * self.body.unit * scale) - 0.5) * 3)
            neck = np.maximum(shrink(self.neck, size), shrink(self._neck(rise=_RISE), size) * outline)
            found = np.maximum(found, neck * smoothstep((0.75 - shrink(self.row, size)) / 0.1))
        return as_float(found), as_float(cv2.GaussianBlur(hems, (0, 0), 1.0) / np.float32(255))

    def _other_zone(self, person: FloatArray) -> FloatArray:
        """Where the other garment would go on under the old one, in a copy of `person`'s size."""
        if self.garment.kind == "dress":
            return np.zeros_like(person)
        row, beside = (shrink(each, person.shape[::-1]) for each in (self.row, self.beside))
        trunk = self.body.trunk / self.body.unit
        hips = 0.5 * float(np.linalg.norm(self.body.hips[1] - self.body.hips[0])) / self.body.unit + 0.13
        within = smoothstep((hips - np.abs(beside)) / 0.06 + 0.5) * smoothstep((person - 0.4) * 5)
        return within * smoothstep((row - trunk + 0.2) / 0.05 if self.top else (trunk - row) / 0.05)

    def _grain(self, seed: int, shape: tuple[int, int]) -> FloatArray:
        """Noise of a shape, as strong as the photo's own, so that filled places don't look airbrushed."""
        gray = as_float(cv2.cvtColor(self.photo, cv2.COLOR_RGB2GRAY))
        fine = gray - cv2.GaussianBlur(gray, (0, 0), 1.5)
        strength = float(np.median(np.abs(fine[::3, ::3])) / 0.6745)
        noise = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
        return as_float(cv2.GaussianBlur(noise, (0, 0), 0.7) * min(strength * 2, 6))


def _sideways(layer: Layer, shape: tuple[int, ...], rows: slice, step: int) -> FloatArray:
    """(rows, W, 3): a layer's colours carried on beyond its sides, row by row, so that stripes stay stripes."""
    alpha, colours = np.zeros(shape[:2], np.float32), np.zeros((*shape[:2], 3), np.float32)
    alpha[layer.window], colours[layer.window] = layer.alpha, layer.rgb
    known = alpha[rows, ::step] > 0.97
    known[:, 1:-1] &= known[:, 2:] & known[:, :-2]
    columns = np.arange(known.shape[1])
    before = np.maximum.accumulate(np.where(known, columns, -9999), axis=1)
    after = np.minimum.accumulate(np.where(known, columns, 9999)[:, ::-1], axis=1)[:, ::-1]
    nearest = np.clip(np.where(columns - before <= after - columns, before, after), 0, len(columns) - 1)
    filled = np.take_along_axis(colours[rows, ::step], nearest[..., None], axis=1)
    return as_float(cv2.resize(filled, (shape[1], filled.shape[0])))


def _fill(colours: FloatArray, weight: FloatArray) -> FloatArray:
    """HxWx3: known pixels carried into unknown ones, smoothly and from near by: the pull-push of Gortler et al., "The
    Lumigraph", 1996."""
    levels = [np.dstack([colours * weight[..., None], weight])]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    # A pixel with a little weight in a coarse level knows its colour: let it count in full.
    result = levels[-1][..., :3] / np.maximum(levels[-1][..., 3:], 1e-6)
    for level in reversed(levels[:-1]):
        coarse = cv2.pyrUp(as_float(result), dstsize=level.shape[1::-1])
        known = np.clip(level[..., 3:] * 2, 0, 1)
        result = coarse + known * (level[..., :3] / np.maximum(level[..., 3:], 1e-6) - coarse)
    return as_float(result)


def _firm(mask: FloatArray) -> FloatArray:
    """A soft mask with a narrower edge: nothing half seen inside."""
    return smoothstep((mask - 0.35) / 0.35)


def _without_specks(mask: FloatArray, least: float) -> FloatArray:
    """A soft mask without its pieces of fewer than `least` pixels."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask[::2, ::2] > 0.2).astype(np.uint8))
    large = stats[:, cv2.CC_STAT_AREA] * 4 >= least
    if large.all() or count < 2:
        return mask
    return as_float(mask * cv2.resize(large[labels].astype(np.float32), mask.shape[::-1]))


def _eroded(mask: FloatArray, radius: float) -> FloatArray:
    """1 well inside a soft mask, 0 near its edge and outside."""
    size = 2 * round(radius) + 1
    return cv2.erode(as_float(mask > 0.85), np.ones((size, size), np.uint8))  # type: ignore[no-any-return]


def _spread(mask: FloatArray, radius: float) -> FloatArray:
    """A soft mask grown by `radius` pixels, its edge still soft."""
    step = max(1, round(radius / 4))
    small = smoothstep(shrink(mask, (-(-mask.shape[1] // step), -(-mask.shape[0] // step))) * 1.6 - 0.3)
    size = 2 * max(1, round(radius / step)) + 1
    grown = cv2.dilate(small, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
    soft = cv2.GaussianBlur(grown, (0, 0), max(radius / 3 / step, 0.5))
    return as_float(cv2.resize(soft, mask.shape[1::-1]))


def _cast(caster: FloatArray, unit: float) -> FloatArray:
    """The soft shadow around what lies in front, a little below it."""
    shift = np.array([[1, 0, 0], [0, 1, 0.02 * unit]], np.float32)
    moved = cv2.warpAffine(caster, shift, caster.shape[1::-1])
    return blur(moved, 0.025 * unit)


def _ring(edges: AnyArray, start: int, end: int) -> AnyArray:
    """The outline of a stretch between two edges (2, N, 2)."""
    return np.concatenate([edges[0, start:end], edges[1, start:end][::-1]])


def _pixel(point: FloatArray) -> tuple[int, int]:
    x, y = np.clip(np.round(point), -(2**14), 2**14).astype(int)
    return int(x), int(y)
