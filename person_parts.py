"""What a photo of a person shows: silhouette, head, skin, hair, and the clothes that are worn.

Left and right are as seen in the picture. Lengths come in units of the body: the distance between the shoulder joints.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

import cv2
import numpy as np

from body_pose import BodyPose, Joint
from service.errors import (
    NoPersonError,
    PersonTooSmallError,
    PoseFailedError,
    SeatedPersonError,
    SegmentationFailedError,
    SeveralPeopleError,
    TurnedPersonError,
)
from utils import FloatArray, RGBImage, Window, as_float, blur, placed, shrink, smoothstep

Side: TypeAlias = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")

_PARSE_SIDE = 384  # pixels of the longer side in which labels are found
_GRABCUT_SIDE = 256
_LEAST_FACE = 0.08  # of the squared shoulder distance: less of a face is not enough to know the skin by
_SEEN = 0.5  # visibility from which a point counts
_SMALLEST_SHOULDERS = 40  # pixels
_TURNED = 0.35  # shoulder width over trunk length
_ALIKE = 0.55  # overlap of two garments' colours (Bhattacharyya) from which only an edge tells them apart
_HAND = 0.42  # of the forearm: how far the hand reaches beyond the wrist

# The person's own left is seen on the right.
_ARMS: dict[Side, tuple[Joint, Joint, Joint]] = {
    "left": (Joint.RIGHT_SHOULDER, Joint.RIGHT_ELBOW, Joint.RIGHT_WRIST),
    "right": (Joint.LEFT_SHOULDER, Joint.LEFT_ELBOW, Joint.LEFT_WRIST),
}
_LEGS: dict[Side, tuple[Joint, Joint, Joint]] = {
    "left": (Joint.RIGHT_HIP, Joint.RIGHT_KNEE, Joint.RIGHT_ANKLE),
    "right": (Joint.LEFT_HIP, Joint.LEFT_KNEE, Joint.LEFT_ANKLE),
}
_FINGERS: dict[Side, tuple[Joint, Joint, Joint]] = {
    "left": (Joint.RIGHT_PINKY, Joint.RIGHT_INDEX, Joint.RIGHT_THUMB),
    "right": (Joint.LEFT_PINKY, Joint.LEFT_INDEX, Joint.LEFT_THUMB),
}


class PersonMasks(Protocol):
    """Whatever finds people's pixels: `FaceLandmarks.person_mask`, or rembg."""

    def __call__(self, image_rgb: RGBImage, /) -> FloatArray:
        """HxW float32 0..1."""
        ...


@dataclass(frozen=True, slots=True)
class Body:
    """The pose in the units of clothes. All points (2,) float32 in pixels.

    unit: distance of the shoulder joints; trunk: from their middle to the hips' middle.
    across: unit vector from the left to the right shoulder as seen; down: from the shoulders to the hips.
    """

    pose: BodyPose
    shoulders: FloatArray
    hips: FloatArray
    unit: float
    trunk: float

    @classmethod
    def of(cls, pose: BodyPose) -> Body:
        """Measure a pose.

        Raises:
            PoseFailedError: shoulders or hips are not seen. TurnedPersonError, SeatedPersonError, PersonTooSmallError.
        """
        shoulders = np.stack([pose.at(Joint.RIGHT_SHOULDER), pose.at(Joint.LEFT_SHOULDER)])
        hips = np.stack([pose.at(Joint.RIGHT_HIP), pose.at(Joint.LEFT_HIP)])
        unit = float(np.linalg.norm(shoulders[1] - shoulders[0]))
        trunk = float(np.linalg.norm(hips.mean(axis=0) - shoulders.mean(axis=0)))
        body = cls(pose, shoulders, hips, unit, trunk)
        body._refuse_unfit()
        return body

    @property
    def across(self) -> FloatArray:
        return as_float((self.shoulders[1] - self.shoulders[0]) / self.unit)

    @property
    def down(self) -> FloatArray:
        return as_float((self.hips.mean(axis=0) - self.shoulders.mean(axis=0)) / self.trunk)

    def arm(self, side: Side) -> FloatArray:
        """(3, 2) shoulder, elbow, wrist."""
        return np.stack([self.pose.at(joint) for joint in _ARMS[side]])

    def hand(self, side: Side) -> FloatArray:
        """(2, 2) wrist and the end of the hand."""
        _, elbow, wrist = self.arm(side)
        knuckles = np.mean([self.pose.at(joint) for joint in _FINGERS[side][:2]], axis=0)
        reach = _HAND * max(float(np.linalg.norm(wrist - elbow)), 0.3 * self.unit)
        direction = knuckles - wrist + 0.3 * (wrist - elbow) / max(float(np.linalg.norm(wrist - elbow)), 1e-6)
        return as_float(np.stack([wrist, wrist + reach * direction / max(float(np.linalg.norm(direction)), 1e-6)]))

    def leg(self, side: Side) -> FloatArray:
        """(3, 2) hip, knee, ankle."""
        return np.stack([self.pose.at(joint) for joint in _LEGS[side]])

    def head(self) -> tuple[FloatArray, float]:
        """The head's middle and radius (to the crown and beyond the ears)."""
        points = self.pose.points[:11, :2]
        ears = float(np.linalg.norm(self.pose.at(Joint.LEFT_EAR) - self.pose.at(Joint.RIGHT_EAR)))
        return as_float(points[[7, 8]].mean(axis=0)), max(ears, 0.36 * self.unit)

    def chin(self) -> FloatArray:
        """Below the mouth by half the distance between nose and mouth, and a little more."""
        mouth = (self.pose.at(Joint.MOUTH_LEFT) + self.pose.at(Joint.MOUTH_RIGHT)) / 2
        return as_float(mouth + 1.0 * (mouth - self.pose.at(Joint.NOSE)))

    def cut(self, window: Window) -> Body:
        """The same body in a window of its photo."""
        corner = np.array([window[1].start, window[0].start], np.float32)
        return replace(self, pose=self.pose.cut(window), shoulders=self.shoulders - corner, hips=self.hips - corner)

    def _refuse_unfit(self) -> None:
        visibility = self.pose.visibility
        if visibility[[Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER, Joint.LEFT_HIP, Joint.RIGHT_HIP]].min() < _SEEN:
            raise PoseFailedError(
                "The person's shoulders and hips can't both be seen. Use a photo that shows the body at least from the "
                "shoulders to the hips."
            )
        across = self.pose.at(Joint.LEFT_SHOULDER) - self.pose.at(Joint.RIGHT_SHOULDER)
        down = self.hips.mean(axis=0) - self.shoulders.mean(axis=0)
        if across[0] < _TURNED * self.trunk:
            raise TurnedPersonError("The person is turned away. Use a photo from the front.")
        if self.unit < _SMALLEST_SHOULDERS:
            raise PersonTooSmallError(
                f"The person is too small: the shoulders are {self.unit:.0f} pixels apart. Use a photo in which they "
                f"are at least {_SMALLEST_SHOULDERS} apart."
            )
        if down[1] < 0.75 * self.trunk or self._sits():
            raise SeatedPersonError("The person sits or lies. Use a photo of the person standing upright.")

    def _sits(self) -> bool:
        """A seen thigh that is foreshortened or points aside."""
        for side in SIDES:
            hip, knee, _ = _LEGS[side]
            thigh = self.pose.at(knee) - self.pose.at(hip)
            length = float(np.linalg.norm(thigh))
            seen = self.pose.visibility[knee] > 0.8
            if seen and (length < 0.5 * self.trunk or thigh[1] < 0.6 * length):
                return True
        return False


@dataclass(frozen=True, slots=True)
class PersonParts:
    """Soft masks of a photo, HxW float32 0..1.

    person: the silhouette. skin: bare skin below the chin. head: face, hair, hat and what else lies above the chin, and
    hair that hangs below it. arms: bare arms and hands. upper, lower: what is worn on the trunk and below it.
    skin_tone: (3,) median Lab of the skin; None where none is seen.
    """

    person: FloatArray
    head: FloatArray
    skin: FloatArray
    arms: FloatArray
    upper: FloatArray
    lower: FloatArray
    skin_tone: FloatArray | None

    def cut(self, window: Window) -> PersonParts:
        """The same masks in a window of their photo."""
        person, head, skin = self.person[window], self.head[window], self.skin[window]
        return PersonParts(
            person, head, skin, self.arms[window], self.upper[window], self.lower[window], self.skin_tone
        )


def silhouette(
    image_rgb: RGBImage, pose: BodyPose | None, masks: PersonMasks, *, fine: PersonMasks | None = None
) -> tuple[BodyPose, FloatArray]:
    """The one person's pose and soft mask: the mean of the pose's and of `masks`, refined by colour; or `fine` alone,
    where there is such a network.

    Raises:
        NoPersonError, SeveralPeopleError, SegmentationFailedError.
    """
    if pose is None:
        raise NoPersonError("Nobody was found in the photo. Use a photo of one person, standing, seen from the front.")
    everyone = masks(image_rgb) if fine is None else fine(image_rgb)
    own = everyone if pose.mask is None or fine is not None else as_float((pose.mask + everyone) / 2)
    if pose.mask is not None:
        others = float(((everyone > 0.6) & (pose.mask < 0.2)).sum())
        if others > 0.25 * float((own > 0.5).sum()) or _far_apart(pose.boxes):
            raise SeveralPeopleError("The photo shows several people. Use a photo of one person.")
    if (own > 0.5).mean() < 0.01:
        raise SegmentationFailedError(
            "The person can't be told from the background. Use a photo before a calmer background."
        )
    return pose, own if fine is not None else _refined(image_rgb, own)


def _refined(image_rgb: RGBImage, mask: FloatArray) -> FloatArray:
    """A soft mask whose unsure pixels were decided by their colours and neighbours: Rother, Kolmogorov, Blake,
    "GrabCut", 2004."""
    scale = _GRABCUT_SIDE / max(mask.shape)
    size = (max(8, round(mask.shape[1] * scale)), max(8, round(mask.shape[0] * scale)))
    small = shrink(mask, size)
    labels = np.select([small > 0.9, small > 0.5, small > 0.08], [cv2.GC_FGD, cv2.GC_PR_FGD, cv2.GC_PR_BGD], cv2.GC_BGD)
    labels = labels.astype(np.uint8)
    if not (labels & 1).any() or (labels & 1).all():  # foreground's labels are odd: colours of both are needed
        return mask
    cv2.setRNGSeed(0)  # its clusters start at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(shrink(image_rgb, size), labels, None, *models, 1, cv2.GC_INIT_WITH_MASK)
    decided = blur(as_float(labels & 1), 0.6)
    return as_float(cv2.resize(as_float(0.5 * decided + 0.5 * small), mask.shape[1::-1]))


def _far_apart(boxes: FloatArray | None) -> bool:
    """Whether a second person was detected who is at least half as large as the first."""
    if boxes is None or len(boxes) < 2:
        return False
    sizes = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
    apart = np.linalg.norm((boxes[1:, :2] + boxes[1:, 2:] - boxes[0, :2] - boxes[0, 2:]) / 2, axis=1)
    return bool(((sizes[1:] > 0.5 * sizes[0]) & (apart > 0.5 * sizes[0])).any())


def parse(image_rgb: RGBImage, body: Body, person: FloatArray) -> PersonParts:
    """Label the person's pixels by place and colour: each class learns its colours where the pose is sure of it."""
    scale, shape = min(1.0, _PARSE_SIDE / max(person.shape)), person.shape
    window = _around(body, person, step=1 / scale)
    image_rgb, person, body = image_rgb[window], person[window], body.cut(window)
    size = (max(1, round(person.shape[1] * scale)), max(1, round(person.shape[0] * scale)))
    small = shrink(image_rgb, size)
    mask = shrink(person, size)
    zones = _Zones(body, scale, mask.shape)
    labels = _label(small, mask, zones)
    guide = as_float(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY) / 255)
    lab = cv2.cvtColor(as_float(small) / 255, cv2.COLOR_RGB2LAB)
    bare = (labels["skin"] > 0.6) & (mask > 0.8)
    tone = as_float(np.median(lab[bare], axis=0)) if bare.sum() > 20 else None
    if tone is not None:
        labels["arms"] = as_float(labels["arms"] * _of_tone(lab, tone))
    own = (mask, labels["head"], labels["skin"], labels["arms"], labels["upper"], labels["lower"])
    whole, head, skin, arms, upper, lower = (placed(each, window, shape) for each in _to_edges(own, guide))
    return PersonParts(whole, head, skin, arms, upper, lower, tone)


def _around(body: Body, person: FloatArray, *, step: float) -> Window:
    """Where a person is, by mask and pose, with some of the photo around; in whole steps of that many pixels."""
    x, y, width, height = cv2.boundingRect((person > 0.05).view(np.uint8))
    corners = np.concatenate([body.pose.points[:, :2], [[x, y], [x + width, y + height]]])
    margin = 0.15 * body.unit
    low, high = np.floor((corners.min(axis=0) - margin) / step), np.ceil((corners.max(axis=0) + margin) / step)
    left, top = np.maximum(np.round(low * step), 0).astype(int)
    right, bottom = np.minimum(np.round(high * step), person.shape[::-1]).astype(int)
    return np.s_[int(top) : int(bottom), int(left) : int(right)]


def _of_tone(lab: FloatArray, tone: FloatArray) -> FloatArray:
    """How well colours (H, W, 3) agree with a skin tone in brighter or dimmer light: 1 or 0, softly."""
    lightness, a, b = cv2.split(lab)
    share = np.clip(lightness / max(float(tone[0]), 10.0), 0.3, 1.3)
    saturation = np.maximum(share * float(np.hypot(tone[1], tone[2])), 4.0)
    off = cv2.magnitude(a - share * tone[1], b - share * tone[2])
    return smoothstep((0.85 - off / saturation) / 0.25)


class _Zones:
    """Where the pose expects what, in a reduced copy: float32 0..1 maps."""

    def __init__(self, body: Body, scale: float, shape: tuple[int, ...]) -> None:
        self.shape = (shape[0], shape[1])
        self.body, self.scale, self.unit = body, scale, body.unit * scale
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32) / scale
        relative = np.dstack([x, y]) - body.shoulders.mean(axis=0)
        self.along = as_float(relative @ body.down) / body.trunk
        """0 at the shoulder joints, 1 at the hips."""
        sideways = np.array([body.down[1], -body.down[0]], np.float32)
        self.beside = as_float(relative @ sideways) / body.unit
        """-0.5 at the left shoulder joint, 0.5 at the right one."""
        centre, radius = body.head()
        self.from_head = np.hypot(x - centre[0], y - centre[1]) / radius
        up = body.chin() - body.shoulders.mean(axis=0)
        self.above_chin = -(relative @ body.down) - float(-(up @ body.down))
        self.above_chin = as_float(self.above_chin / body.unit)

    def capsule(self, points: FloatArray, radius: float) -> FloatArray:
        """1 within `radius` shoulder widths of a polyline, falling to 0 at one and a half times that."""
        empty = np.full(self.shape, 255, np.uint8)
        line = np.round(points * self.scale).astype(np.int32)
        cv2.polylines(empty, [line], False, 0, 1)
        distance = cv2.distanceTransform(empty, cv2.DIST_L2, 3) / self.unit
        return smoothstep((1.5 * radius - distance) / (0.5 * radius))

    def arms(self, radius: float) -> FloatArray:
        """Both arms with their hands."""
        lines = [np.concatenate([self.body.arm(side), self.body.hand(side)[1:]]) for side in SIDES]
        return np.maximum(*(self.capsule(line, radius) for line in lines))

    def legs(self, radius: float) -> FloatArray:
        return np.maximum(*(self.capsule(self.body.leg(side), radius) for side in SIDES))


def _label(rgb: RGBImage, person: FloatArray, zones: _Zones) -> dict[str, FloatArray]:
    """Probabilities (H, W) of the classes in a reduced copy."""
    along, beside = zones.along, zones.beside
    inside = smoothstep((person - 0.3) / 0.4)
    forearms = np.maximum(
        *(zones.capsule(np.concatenate([zones.body.arm(side)[1:], zones.body.hand(side)[1:]]), 0.15) for side in SIDES)
    )
    arms, legs = zones.arms(0.2), zones.legs(0.28)
    trunk = smoothstep((0.75 - np.abs(beside)) / 0.2) * smoothstep((along + 0.3) / 0.1)
    neck = smoothstep((0.45 - np.abs(beside)) / 0.1) * smoothstep((0.2 - along) / 0.1)
    head_zone = smoothstep((1.75 - zones.from_head) / 0.3) * smoothstep(zones.above_chin / 0.06)
    below = np.maximum(trunk, legs)
    feet = zones.capsule(zones.body.pose.points[[27, 29, 31], :2], 0.13)
    feet = np.maximum(feet, zones.capsule(zones.body.pose.points[[28, 30, 32], :2], 0.13))
    prior = {
        "upper": np.maximum(trunk, np.maximum(arms, 0.02)) * smoothstep((1.3 - along) / 0.4) * (1 - head_zone),
        "lower": np.maximum(below, 0.02) * smoothstep((along - 0.68) / 0.4) * (1 - feet),
        "skin": np.maximum.reduce([arms, legs * smoothstep((along - 0.9) / 0.2), neck, 0.04 * trunk]) * (1 - head_zone),
        "hair": np.maximum(
            head_zone, smoothstep((2.6 - zones.from_head) / 1.2) * smoothstep((0.5 - along) / 0.5) * 0.5
        ),
        "shoes": np.maximum(feet, smoothstep((along - 2.3) / 0.3) * 0.3),
    }
    core = inside > 0.95
    face = (zones.from_head < 0.62) & core
    if face.sum() < _LEAST_FACE * zones.unit**2:  # the photo is cut: lips and chin alone don't show the skin
        hands = np.maximum(*(zones.capsule(zones.body.hand(side), 0.05) for side in SIDES))
        face |= core & ((hands > 0.9) | ((np.abs(beside) < 0.12) & (along < -0.1)))
    sure = {
        "upper": core & (along > 0.12) & (along < 0.7) & (np.abs(beside) < 0.33) & (forearms < 0.1),
        "lower": core & (along > 1.15) & (along < 1.7) & (legs > 0.6) & (forearms < 0.1),
        "skin": face & ((zones.above_chin > 0.02) | (zones.from_head > 0.62)),
        "hair": core & (zones.from_head > 0.95) & (zones.from_head < 1.5) & (zones.above_chin > 0.45),
        "shoes": core & (feet > 0.9),
    }
    codes = _colour_codes(rgb)
    # Clothes may have prints and stripes of any colour.
    floor = {"upper": 1.5e-4, "lower": 1e-4}
    likelihood = {name: _learn(codes, seeds) + floor.get(name, 0) for name, seeds in sure.items()}
    unseen = sure["lower"].sum() < 0.03 * zones.unit**2
    for pass_ in range(2):
        alike = _overlap(likelihood["upper"], likelihood["lower"]) > _ALIKE
        if pass_ == 1 and (alike or unseen):
            waist = _waist_edge(rgb, zones)
            prior["upper"] = prior["upper"] * smoothstep((waist - along) / 0.03 + 0.5)
            prior["lower"] = np.maximum(below, 0.02) * smoothstep((along - waist) / 0.03 + 0.5) * (1 - feet)
        scores = {name: prior[name] * likelihood[name][codes] for name in prior}
        total = sum(scores.values()) + 1e-5
        posterior = {name: blur(as_float(score / total), 1.0) for name, score in scores.items()}
        for name, seeds in sure.items():
            grown = core & (posterior[name] > 0.9) & (prior[name] > 0.5)
            likelihood[name] = (
                _learn(codes, grown | seeds) + floor.get(name, 0) if grown.sum() > 50 else likelihood[name]
            )
    total = np.maximum(np.sum(list(posterior.values()), axis=0), 1e-3)
    shares = {name: as_float(each / total) * inside for name, each in posterior.items()}
    head = np.maximum(head_zone * inside, shares["hair"])
    skin = shares["skin"] * (1 - head)
    return {
        "head": as_float(head),
        "skin": as_float(skin),
        "arms": as_float(skin * smoothstep(zones.arms(0.15) * 2) * (1 - neck * (np.abs(beside) < 0.3))),
        "upper": as_float(shares["upper"] * (1 - head)),
        "lower": as_float(shares["lower"]),
    }


def _overlap(first: FloatArray, second: FloatArray) -> float:
    """How alike two colour distributions are, 0..1 (Bhattacharyya), whatever lies at their floors."""
    own = [each - each.min() for each in (first, second)]
    return float(np.sqrt(own[0] * own[1]).sum())


def _waist_edge(rgb: RGBImage, zones: _Zones) -> float:
    """Where a top ends above trousers of its own colour, in trunk lengths: the clearest edge across the hips; the hips
    where there is none."""
    gray = as_float(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    rows = np.linspace(0.85, 1.35, 60, dtype=np.float32)
    body, scale = zones.body, zones.scale
    sideways = np.array([body.down[1], -body.down[0]], np.float32)
    beside = np.linspace(-0.22, 0.22, 24, dtype=np.float32) * body.unit
    points = body.shoulders.mean(axis=0) + rows[:, None, None] * body.trunk * body.down + beside[:, None] * sideways
    points = as_float(points * scale)
    lines = cv2.remap(gray, points[..., 0], points[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    # Across most of the width: a belt's buckle or a fold is not it.
    change = np.median(np.abs(np.diff(lines, axis=0)), axis=1)
    best = int(np.argmax(change))
    return float(rows[best]) if change[best] > 3 * float(np.median(change)) + 1 else 1.05


def _colour_codes(rgb: RGBImage) -> FloatArray:
    """(H, W) int32: which of 16 x 32 x 32 bins of Lab each pixel has; colours differ more finely than lightness."""
    lab = cv2.cvtColor(cv2.GaussianBlur(rgb, (0, 0), 0.8), cv2.COLOR_RGB2LAB).astype(np.int32)
    chroma = np.clip((lab[..., 1:] - 128) // 3 + 16, 0, 31)
    return ((lab[..., 0] >> 4) * 32 + chroma[..., 0]) * 32 + chroma[..., 1]  # type: ignore[no-any-return]


def _learn(codes: FloatArray, seeds: FloatArray) -> FloatArray:
    """(16384,) how likely each colour is in a class, from its sure pixels; even where there are few."""
    if seeds.sum() < 12:
        return np.full(16384, 1 / 16384, np.float32)
    counts = as_float(np.bincount(codes[seeds], minlength=16384)).reshape(16, 32, 32)
    for axis, sigma in ((0, 1.0), (1, 1.2), (2, 1.2)):
        counts = _smooth_axis(counts, axis, sigma)
    return as_float(counts.ravel() / counts.sum() + 1e-5)


def _smooth_axis(values: FloatArray, axis: int, sigma: float) -> FloatArray:
    moved = np.moveaxis(values, axis, 0)
    flat = np.ascontiguousarray(moved.reshape(moved.shape[0], -1))
    smoothed = cv2.GaussianBlur(flat, (1, 7), sigmaX=1, sigmaY=sigma, borderType=cv2.BORDER_REPLICATE)
    return np.moveaxis(smoothed.reshape(moved.shape), 0, axis)


def _to_edges(masks: Iterable[FloatArray], guide: FloatArray) -> Iterator[FloatArray]:
    """Bring masks (h, w) to the size of a picture (H, W) and to its edges: He, Sun, "Fast Guided Filter", 2015.

    One mask at a time, in place: at full size each copy counts.
    """
    full, box = guide.shape[::-1], (9, 9)
    for mask in masks:
        small = shrink(guide, mask.shape[::-1])
        mean_guide, mean_mask = cv2.blur(small, box), cv2.blur(mask, box)
        covariance = cv2.blur(mask * small, box) - mean_mask * mean_guide
        slope = covariance / (cv2.blur(small * small, box) - mean_guide**2 + 1e-4)
        offset = mean_mask - slope * mean_guide
        edged = as_float(cv2.resize(cv2.blur(slope, (5, 5)), full))
        edged *= guide
        edged += cv2.resize(cv2.blur(offset, (5, 5)), full)
        yield np.clip(edged, 0, 1, out=edged)
