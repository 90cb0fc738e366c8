"""Virtual try-on: a garment's product photo and a person's photo become a picture of the person wearing it.

This is the draft: geometry on a CPU, no image model. `draft` is the whole sequence; each stage is a function of its own
module: `person_parts`, `garment_anchors`, `body_fit`, `garment_warp`, `tryon_composite`, `tryon_quality`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import cv2
import numpy as np

from body_fit import Fit, fit
from body_pose import BodyPose, Joint, PoseFinder, surest_pose
from garment_anchors import Garment, GarmentType, Part, measure
from garment_cutout import cut_out, is_transparent
from garment_warp import Layer, Net, paint, solve
from person_parts import Body, PersonMasks, PersonParts, parse, silhouette
from service.errors import (
    CancelledError,
    GarmentSegmentationError,
    PersonTooSmallError,
    PoseFailedError,
    WarpFailedError,
    WornGarmentError,
)
from tryon_composite import Composite, Look, affected, compose
from tryon_quality import Quality, assess
from utils import AnyArray, FloatArray, GrayImage, RGBImage, Window, as_float, as_mask, shrink

Stage: TypeAlias = Literal["load", "segmentation", "pose", "garment", "alignment", "quality", "finish"]
STAGES: tuple[Stage, ...] = ("load", "segmentation", "pose", "garment", "alignment", "quality", "finish")
_THIGHS = 0.3  # shoulder distances below the hips that a photo must show to be given trousers or a skirt

RealismLevel: TypeAlias = Literal[1, 2, 3, 4, 5]

_LEAST_SIDE = 256  # pixels of the person's photo


@dataclass(frozen=True, slots=True)
class TryOnOptions:
    """What a caller may ask for.

    realism_level: 1 lays the garment in, behind head, hair, hands and bare arms, and leaves the old one where it looks
    out. 2 also paints the old one over, with skin, background or what is worn below it. 3 also gives the new one the
    photo's light. 4 also draws the shadows of arms, sleeves, collar and hem. 5 also presses the worn garment's folds
    through the new one.
    preserve_face: the face's pixels stay bit for bit, and the garment stays below the chin. If false, a high collar or
    a hood's edge may lie over the chin.
    preserve_background: what is neither the new garment nor the old one stays bit for bit. If false, a wider rim around
    the old garment is blended.
    max_retries: how many further attempts there are while the score is below `quality_threshold`.
    seed: of the grain in painted places. The same input, options and seed give the same bytes.
    work_image_size: pixels of the longer side in which the draft is made; larger photos keep their size.
    """

    garment_type: GarmentType = "auto"
    preserve_face: bool = True
    preserve_background: bool = True
    realism_level: RealismLevel = 4
    max_retries: int = 2
    seed: int = 0
    work_image_size: int = 1536
    quality_threshold: float = 0.7


@dataclass(frozen=True, slots=True)
class TryOnEngines:
    """What the draft looks with.

    person_mask gives HxW float32 0..1: `FaceLandmarks.person_mask`; it is refined by GrabCut. fine_person_mask and
    garment_mask are rembg's networks (`mask_networks`), where their weights are installed: the first replaces
    person_mask, the second finds a garment before a background that isn't plain. beside: threads in which a garment is
    prepared while the person is looked at; one after the other where there are none.
    """

    poses: PoseFinder
    person_mask: PersonMasks
    garment_mask: PersonMasks | None = None
    fine_person_mask: PersonMasks | None = None
    beside: Executor | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: what was changed for it, and how it scored."""

    change: str
    quality: Quality


@dataclass(frozen=True, slots=True)
class Debug:
    """What a draft was made of: masks and pictures by name (person_mask, torso_mask, arms_mask, garment_mask,
    warped_garment, draft_composite), and keypoints by name in the person's photo: [x, y, visibility]."""

    images: dict[str, AnyArray]
    keypoints: dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class TryOnDraft:
    """image_rgb has the person's photo's size. quality: of the attempt that was kept. changed: HxW uint8, 0 where the
    photo's pixels were left alone."""

    image_rgb: RGBImage
    quality: Quality
    passed: bool
    garment_type: GarmentType
    attempts: list[Attempt]
    warnings: list[str]
    changed: GrayImage
    debug: Debug | None = None


@dataclass(frozen=True, slots=True)
class _Plan:
    """What an attempt does differently."""

    change: str
    stiffness: float = 0.02
    looseness: float = 1.0
    contrast: float | None = None


_PLANS = (
    _Plan("none"),
    _Plan("a stiffer net and a closer fit", stiffness=0.15, looseness=0.92),
    _Plan("the garment cut out more strictly", contrast=7.0),
    _Plan("a softer net and a looser fit", stiffness=0.005, looseness=1.12),
    _Plan("a stiffer net and a looser fit", stiffness=0.15, looseness=1.12),
)
MOST_RETRIES = 3


@dataclass(frozen=True, slots=True)
class _Person:
    photo: RGBImage
    body: Body
    parts: PersonParts

    def cut(self, window: Window) -> _Person:
        return _Person(self.photo[window], self.body.cut(window), self.parts.cut(window))


@dataclass(frozen=True, slots=True)
class _Dressed:
    """A person in a garment. `window` is what of the photo a garment can change: person, fit, layers and composite are
    of this window alone."""

    window: Window
    person: _Person
    garment: Garment
    fit: Fit
    nets: dict[Part, Net]
    layers: dict[Part, Layer]
    composite: Composite

    def quality(self) -> Quality:
        person = self.person
        return assess(
            person.photo, person.body, person.parts, self.garment, self.fit, self.nets, self.layers, self.composite
        )


def draft(
    person_rgb: RGBImage,
    garment_rgb: RGBImage,
    options: TryOnOptions,
    *,
    engines: TryOnEngines,
    garment_alpha: GrayImage | None = None,
    on_stage: Callable[[Stage], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
    keep_debug: bool = False,
) -> TryOnDraft:
    """Dress a person: HxWx3 RGB photos, the garment's own transparency (HxW) where it has one.

    `on_stage` hears each stage when it begins; `cancelled` is asked between stages. A draft below the threshold is
    still returned, with `passed` false.

    Raises:
        SegmentationFailedError (NoPersonError, SeveralPeopleError, PersonTooSmallError), PoseFailedError
        (SeatedPersonError, TurnedPersonError), GarmentSegmentationError (WornGarmentError), WarpFailedError,
        CancelledError.
    """

    def enter(stage: Stage) -> None:
        if cancelled():
            raise CancelledError("The try-on was cancelled.")
        on_stage(stage)

    enter("load")
    photo = _working_copy(person_rgb, options.work_image_size)
    product, product_alpha = _product(garment_rgb, garment_alpha, max(1024, *photo.shape))
    with _begun(partial(_first_look, product, product_alpha, options, engines), engines.beside) as first_look:
        enter("segmentation")
        pose, person_mask = silhouette(
            photo, surest_pose(engines.poses, photo), engines.person_mask, fine=engines.fine_person_mask
        )
        enter("pose")
        body = Body.of(pose)
        person = _Person(photo, body, parse(photo, body, person_mask))
        enter("garment")
        garment = first_look()
    if garment.kind in ("legs", "skirt") and body.hips[:, 1].max() + _THIGHS * body.unit > photo.shape[0]:
        raise PoseFailedError("The photo ends at the hips. Trousers and skirts need one that shows the thighs too.")
    best: tuple[_Dressed, Quality] | None = None
    attempts: list[Attempt] = []
    # A stricter cut changes nothing where the product photo brings its own transparency.
    plans = [plan for plan in _PLANS if plan.contrast is None or not is_transparent(product_alpha)]
    for plan in plans[: 1 + options.max_retries]:
        enter("alignment")
        try:
            own = garment if plan.contrast is None else _prepare(product, None, options, engines, plan)
            dressed = _align(person, own, plan, options)
        except (GarmentSegmentationError, WarpFailedError):
            if best is None:
                raise
            continue  # a draft is there already; this change makes none
        enter("quality")
        quality = dressed.quality()
        attempts.append(Attempt(plan.change, quality))
        if best is None or quality.score > best[1].score:
            best = dressed, quality
        if best[1].score >= options.quality_threshold:
            break
    assert best is not None
    enter("finish")
    dressed, quality = best
    composite = dressed.composite.within(photo, dressed.window)
    image, changed = _at_full_size(person_rgb, photo, composite)
    return TryOnDraft(
        image_rgb=image,
        quality=quality,
        passed=quality.score >= options.quality_threshold,
        garment_type=dressed.garment.garment_type,
        attempts=attempts,
        warnings=_warnings(body, dressed.garment, quality),
        changed=changed,
        debug=_debug(person, dressed, composite.rgb, person_rgb.shape) if keep_debug else None,
    )


# ---- the stages ----------------------------------------------------------------------------------------------------


def _working_copy(image_rgb: RGBImage, longest: int) -> RGBImage:
    height, width = image_rgb.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        raise PersonTooSmallError(
            f"The photo of the person has only {width}x{height} pixels. Use one of at least {_LEAST_SIDE} a side."
        )
    scale = longest / max(height, width)
    return image_rgb if scale >= 1 else shrink(image_rgb, (round(width * scale), round(height * scale)))


def _product(garment_rgb: RGBImage, alpha: GrayImage | None, longest: int) -> tuple[RGBImage, GrayImage | None]:
    height, width = garment_rgb.shape[:2]
    scale = min(1.0, longest / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return shrink(garment_rgb, size), None if alpha is None else shrink(alpha, size)


@contextmanager
def _begun(work: Callable[[], Garment], beside: Executor | None) -> Iterator[Callable[[], Garment]]:
    """Work begun in a thread beside, where one is free before its result is asked for; else done when it is."""
    if beside is None:
        yield work
        return
    begun = beside.submit(work)
    try:
        yield lambda: work() if begun.cancel() else begun.result()
    finally:
        begun.cancel()


def _first_look(product: RGBImage, alpha: GrayImage | None, options: TryOnOptions, engines: TryOnEngines) -> Garment:
    try:
        return _prepare(product, alpha, options, engines, _PLANS[0])
    finally:  # of all that is wrong with a garment that is worn, this says best what to do
        _refuse_worn(product, engines.poses)


def _prepare(
    product: RGBImage, alpha: GrayImage | None, options: TryOnOptions, engines: TryOnEngines, plan: _Plan
) -> Garment:
    if plan.contrast is not None:
        return measure(*cut_out(product, contrast=plan.contrast), options.garment_type)
    if not is_transparent(alpha) and engines.garment_mask is not None:
        alpha = as_mask(engines.garment_mask(product) > 0.5)
    return measure(*cut_out(product, alpha), options.garment_type)


def _refuse_worn(product: RGBImage, poses: PoseFinder) -> None:
    """A garment on a person can't be cut out by its outline."""
    pose = poses.find(product)
    if pose is None or pose.visibility[[Joint.NOSE, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER]].min() < 0.5:
        return
    if _shows_skin(product, pose):
        raise WornGarmentError(
            "The product photo shows the garment on a person. Use a photo of the garment alone, laid flat or on an "
            "invisible mannequin."
        )


def _shows_skin(image_rgb: RGBImage, pose: BodyPose) -> bool:
    """Whether a face's place has a skin's colours: warm, and neither gray nor of one even tone."""
    points = pose.points[:11, :2]
    low, high = np.floor(points.min(axis=0)).astype(int), np.ceil(points.max(axis=0)).astype(int) + 1
    x1, y1 = np.maximum(low, 0)
    x2, y2 = np.minimum(high, image_rgb.shape[1::-1])
    if x2 - x1 < 4 or y2 - y1 < 4:
        return False
    ycc = cv2.cvtColor(np.ascontiguousarray(image_rgb[y1:y2, x1:x2]), cv2.COLOR_RGB2YCrCb).reshape(-1, 3)
    warm = (ycc[:, 1] > 135) & (ycc[:, 1] < 185) & (ycc[:, 2] > 85) & (ycc[:, 2] < 130)
    return bool(warm.mean() > 0.5 and ycc[:, 0].std() > 8)


def _align(person: _Person, garment: Garment, plan: _Plan, options: TryOnOptions) -> _Dressed:
    target = fit(garment, person.body, person.parts, looseness=plan.looseness)
    nets = solve(garment, target, stiffness=plan.stiffness)
    shape = (person.photo.shape[0], person.photo.shape[1])
    layers = {part: paint(garment, part, net, shape) for part, net in nets.items()}
    window = affected(person.body, person.parts, garment, target, layers)
    person, target = person.cut(window), target.cut(window)
    layers = {part: layer.cut(window) for part, layer in layers.items()}
    level = options.realism_level
    look = Look(
        repair=level >= 2,
        shading=level >= 3,
        shadows=level >= 4,
        folds=level >= 5,
        preserve_face=options.preserve_face,
        preserve_background=options.preserve_background,
        seed=options.seed,
    )
    composite = compose(person.photo, person.body, person.parts, garment, target, layers, look)
    return _Dressed(window, person, garment, target, nets, layers, composite)


def _at_full_size(person_rgb: RGBImage, photo: RGBImage, made: Composite) -> tuple[RGBImage, GrayImage]:
    """The draft in the photo's own size; where nothing changed, its own pixels."""
    if photo.shape == person_rgb.shape:
        return made.rgb, made.changed
    changed = as_mask(cv2.resize(made.changed, person_rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR) > 0)
    x, y, width, height = cv2.boundingRect(changed)
    if width == 0:
        return person_rgb, changed
    window = np.s_[y : y + height, x : x + width]
    step = np.divide(photo.shape[:2], person_rgb.shape[:2])[::-1]
    corner = (np.array([x, y]) + 0.5) * step - 0.5

    def enlarged(values: AnyArray, interpolation: int = cv2.INTER_LINEAR) -> AnyArray:
        """As `cv2.resize`, in the window alone."""
        back = np.column_stack([np.diag(step), corner])
        how = interpolation | cv2.WARP_INVERSE_MAP
        inside: AnyArray = cv2.warpAffine(values, back, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
        return inside

    # Where the photo only got darker, it keeps its own fine detail.
    shaded = as_float(person_rgb[window]) + enlarged(as_float(made.rgb) - as_float(photo))
    new = enlarged(np.maximum(made.garment, made.removed))
    full = cv2.blendLinear(as_float(enlarged(made.rgb, cv2.INTER_CUBIC)), shaded, new, 1 - new)
    image = person_rgb.copy()
    image[window] = cv2.copyTo(cv2.convertScaleAbs(np.maximum(full, 0)), changed[window], image[window])
    return image, changed


def _warnings(body: Body, garment: Garment, quality: Quality) -> list[str]:
    warnings = []
    elbows = body.pose.visibility[[Joint.LEFT_ELBOW, Joint.RIGHT_ELBOW]]
    if garment.limbs and garment.kind != "legs" and elbows.min() < 0.5:
        warnings.append("An elbow is hidden or outside the photo: the sleeve there follows a guess.")
    knees = body.pose.visibility[[Joint.LEFT_KNEE, Joint.RIGHT_KNEE]]
    if garment.kind in ("legs", "skirt") and knees.min() < 0.5:
        warnings.append("The knees are hidden or outside the photo: the garment follows a guess below the hips.")
    warnings += [f"{name} failed: see quality.terms" for name in quality.failed]
    return warnings


def _debug(person: _Person, dressed: _Dressed, picture: RGBImage, shape: tuple[int, ...]) -> Debug:
    def gray(mask: FloatArray) -> GrayImage:
        return np.round(mask * 255).astype(np.uint8)

    parts = person.parts
    warped = np.zeros_like(person.photo)
    near = warped[dressed.window]
    for layer in dressed.layers.values():
        near[layer.window] = np.where(layer.alpha[..., None] > 0.5, layer.rgb, near[layer.window])
    torso = parts.lower if dressed.garment.kind in ("legs", "skirt") else parts.upper
    scale = np.array([shape[1] / person.photo.shape[1], shape[0] / person.photo.shape[0]])
    pose = person.body.pose
    keypoints = {
        joint.name.lower(): [*(float(v) for v in np.round(pose.at(joint) * scale, 1)), float(pose.visibility[joint])]
        for joint in Joint
    }
    images: dict[str, AnyArray] = {
        "person_mask": gray(parts.person),
        "torso_mask": gray(torso),
        "arms_mask": gray(parts.arms),
        "garment_mask": dressed.garment.alpha,
        "warped_garment": warped,
        "draft_composite": picture,
    }
    return Debug(images, keypoints)
