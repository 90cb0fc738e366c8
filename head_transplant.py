"""`mode=head`: the drawn hair goes, the child's hair, ears and skull come; the face itself is drawn afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

import face_geometry as geometry
import illustration_styler as styler
from face_landmarks import five_points
from face_regions import Frame, bare_face, bare_skin, feature_mask, longer_side, skin_core, skin_likelihood
from service.errors import InvalidValueError
from utils import AnyArray, FloatArray, GrayImage, RGBImage, as_float, lab_from_rgb, rgb_from_lab, shrink, smoothstep

_SEGMENT_PX = 128  # face size at which heads are cut out; people are segmented at 256x256 anyway
_DRAW_PX = 320
_MARGIN = 0.8  # of the face's size, around it: room for hair
_COLOUR_SPREAD = np.array([16.0, 9.0, 10.0], np.float32)  # Lab, around each main colour of hair or clothes
_HAIR_COLOURS = 4  # lights, shadows and what lies between
_HAIR_REACH = 2.0  # of that spread: how far from the hair's main colours hair may be
_LEAST_HAIR = 0.02  # of the face's area
_MOST_GROWTH = 1.22
_MOST_CUT = 0.15  # of the face's size: how wide the head may be where the photo ends; more leaves a flat skull


@dataclass(frozen=True, slots=True)
class _HairCut:
    """Which hair counts below the mouth, in units of the face's size.

    closest: how near to the face's middle. longest: how far below the chin, where it ends within `fade`.
    """

    closest: float
    longest: float
    fade: float


# A photo's hair is cut at the chin: longer strands end in rags over the drawn shoulders, and shadows on the neck pass
# for hair. Drawn hair must go as far down as it is drawn.
_PHOTO_CUT = _HairCut(closest=0.25, longest=0.5, fade=0.3)
_DRAWN_CUT = _HairCut(closest=0.12, longest=0.6, fade=0.01)


def with_head(
    photo_rgb: RGBImage,
    photo_mesh: FloatArray,
    page_rgb: RGBImage,
    page_mesh: FloatArray,
    outline: FloatArray,
    *,
    person: Callable[[RGBImage], FloatArray],
    stylize: Callable[[FloatArray, float, styler.PageLook], FloatArray],
) -> tuple[RGBImage, GrayImage]:
    """The page with the child's head in place of the drawn one, and the mask of what changed.

    Meshes are (468, 3) in pixels of their pictures. `outline` is the mesh on the page into which the photo's face will
    be bent: the head is laid so that it meets that face without a step. `person` segments people (HxWx3 RGB to HxW
    0..1). `stylize` draws a Lab picture of a given face size in the page's look. Hats and hoods go with the drawn hair.

    Raises InvalidValueError when the photo cuts the head off at the top.
    """
    face = longer_side(page_mesh)
    work = Frame.around(page_mesh, _MARGIN, page_rgb.shape, min(8.0, max(1.0, np.ceil(_DRAW_PX / face))))
    segment = Frame.around(page_mesh, _MARGIN, page_rgb.shape, _SEGMENT_PX / face)
    crop, mesh = segment.cut(page_rgb), segment.place(page_mesh)
    drawn_head = _head_matte(crop, mesh, person, _DRAWN_CUT)
    skin = bare_skin(lab_from_rgb(crop), mesh)
    light = styler.skin_light(crop, skin, _SEGMENT_PX)
    look = styler.measure_look(lab_from_rgb(crop), skin, feature_mask(mesh, segment.shape) > 128, _SEGMENT_PX)
    drawn_width = _width_at_brows(drawn_head, mesh)
    head, matte = _child_head(
        photo_rgb, photo_mesh, work, work.place(outline), segment.onto(work, light), person, drawn_width
    )
    head = np.clip(rgb_from_lab(stylize(lab_from_rgb(head), face * work.scale, look)) + 0.5, 0, 255)
    size = (work.width, work.height)
    alpha = shrink(matte, size)
    bare = _without_head(page_rgb, segment, drawn_head, light, mesh, alpha)
    region = bare[work.region]
    mixed = region + alpha[..., None] * (shrink(as_float(head), size) - region)
    page = bare.copy()
    page[work.region] = np.where(alpha[..., None] > 0, np.clip(mixed + 0.5, 0, 255), region).astype(np.uint8)
    mask = np.where((page != page_rgb).any(axis=2), 255, 0).astype(np.uint8)
    return page, mask


def _child_head(
    photo_rgb: RGBImage,
    photo_mesh: FloatArray,
    work: Frame,
    target: FloatArray,
    page_light: FloatArray,
    person: Callable[[RGBImage], FloatArray],
    drawn_width: float,
) -> tuple[FloatArray, FloatArray]:
    """The child's head laid on the slot by one affine map, in the page's light (work frame), and its matte 0..1.

    Drawn children have large heads for their faces: the skull grows towards `drawn_width`, within reason.
    """
    scale = min(1.0, 1.2 * longer_side(target) / longer_side(photo_mesh))
    frame = Frame(0, 0, photo_rgb.shape[1], photo_rgb.shape[0], scale)
    photo, mesh = frame.cut(photo_rgb), frame.place(photo_mesh)
    small = Frame.around(mesh, _MARGIN, photo.shape, _SEGMENT_PX / longer_side(mesh))
    crop, placed = small.cut(photo), small.place(mesh)
    matte = np.zeros(photo.shape[:2], np.float32)
    local = _head_matte(crop, placed, person, _PHOTO_CUT)
    matte[small.region] = cv2.resize(local, (small.width, small.height))
    if (matte[0] > 0.5).sum() > _MOST_CUT * longer_side(mesh):
        raise InvalidValueError(
            "mode=head needs the whole head, and the photo cuts it off at the top. Use another photo, or mode=face."
        )
    matte = np.clip(cv2.ximgproc.guidedFilter(photo, matte, radius=4, eps=60.0), 0, 1)
    near = styler.skin_light(crop, bare_skin(lab_from_rgb(crop), placed), _SEGMENT_PX)
    photo_light = np.full(photo.shape, np.median(near, axis=(0, 1)), np.float32)
    photo_light[small.region] = cv2.resize(near, (small.width, small.height))
    growth = float(np.clip(drawn_width / max(_width_at_brows(local, placed), 0.1), 1.0, _MOST_GROWTH))
    map_x, map_y = _skull_map(target[:, :2], mesh[:, :2], growth, work.shape)
    warped = cv2.remap(photo, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    light = cv2.remap(photo_light, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    laid = cv2.remap(matte, map_x, map_y, cv2.INTER_LINEAR)
    keep = np.ones(work.shape, np.float32)
    return styler.relight(warped, light, page_light, keep), smoothstep((laid - 0.15) / 0.7)


def _width_at_brows(matte: FloatArray, mesh: FloatArray) -> float:
    """How wide a head is at the height of the brows, over the width of its face."""
    across = np.linspace(-1, 1, 201, dtype=np.float32)[:, None]
    left, right = mesh[127, :2], mesh[356, :2]  # the oval beside the brows' tails
    line = (left + right) / 2 + across * (right - left)
    height, width = matte.shape
    x, y = np.clip(np.round(line).astype(int), 0, [width - 1, height - 1]).T
    return float((matte[y, x] > 0.5).mean() * 2)


def _skull_map(
    target: FloatArray, photo: FloatArray, growth: float, shape: tuple[int, int]
) -> tuple[FloatArray, FloatArray]:
    """Maps for `cv2.remap` that lay the photo's head around the face `target`, growing beyond its oval.

    Far out it is the affine map that fits the face; at the oval it goes where the face's own warp goes, so that the two
    meet. Computed at a quarter of the size: it bends smoothly.
    """
    height, width = shape
    rows, columns = -(-height // 4), -(-width // 4)
    y = ((np.arange(rows, dtype=np.float32) + 0.5) * (height / rows) - 0.5)[:, None]
    x = ((np.arange(columns, dtype=np.float32) + 0.5) * (width / columns) - 0.5)[None]
    oval, centre = target[list(geometry.FACE_OVAL)], five_points(target)[:2].mean(axis=0)
    around = np.arctan2(oval[:, 1] - centre[1], oval[:, 0] - centre[0])
    order = np.argsort(around)
    angle, distance = np.arctan2(y - centre[1], x - centre[0]), np.hypot(y - centre[1], x - centre[0])
    radius = np.hypot(*(oval - centre).T)
    rim = np.interp(angle, around[order], radius[order], period=2 * np.pi)
    outside = np.maximum(distance - rim, 0) / longer_side(target)
    grown, bent = smoothstep(outside / 0.35), np.minimum(distance / rim, 1) * (1 - smoothstep(outside / 3.0))
    near, far = _affine(target, photo), _affine(centre + growth * (target - centre), photo)
    maps = []
    for axis, (to_near, to_far) in enumerate(zip(near, far, strict=True)):
        fitted = to_near[0] * x + to_near[1] * y + to_near[2]
        step = photo[list(geometry.FACE_OVAL), axis] - (oval @ to_near[:2] + to_near[2])
        bend = bent * np.interp(angle, around[order], step[order], period=2 * np.pi)
        laid = fitted + grown * (to_far[0] * x + to_far[1] * y + to_far[2] - fitted) + bend
        maps.append(cv2.resize(as_float(laid), (width, height)))
    return maps[0], maps[1]


def _affine(source: FloatArray, target: FloatArray) -> FloatArray:
    """The 2x3 affine map of least squares from points (N, 2) to points (N, 2)."""
    homogeneous = np.concatenate([source, np.ones((len(source), 1), np.float32)], axis=1)
    return as_float(np.linalg.lstsq(homogeneous, target, rcond=None)[0].T)


def _without_head(
    page_rgb: RGBImage,
    segment: Frame,
    drawn_head: FloatArray,
    light: FloatArray,
    mesh: FloatArray,
    alpha: FloatArray,
) -> RGBImage:
    """The page with its drawn hair painted over: by bare skin inside the face, by what surrounds it outside."""
    oval = geometry.fill((geometry.FACE_OVAL,), mesh, segment.shape)
    head = np.maximum(drawn_head, oval / np.float32(255)) > 0.1
    unknown = geometry.grow(head.astype(np.uint8) * 255, 3)
    painted = cv2.inpaint(segment.cut(page_rgb), unknown, 5, cv2.INPAINT_TELEA).astype(np.float32)
    inside = cv2.GaussianBlur(oval, (0, 0), 2.0)[..., None] / np.float32(255)
    painted += inside * (light - painted)
    region = page_rgb[segment.region]
    size = region.shape[1::-1]
    weight = cv2.resize(cv2.GaussianBlur(unknown, (0, 0), 1.0) / np.float32(255), size)
    weight = smoothstep((weight - 0.3) / 0.5) * (alpha < 1)
    fresh = cv2.resize(painted, size, interpolation=cv2.INTER_CUBIC)
    page = page_rgb.copy()
    mixed = np.clip(region + weight[..., None] * (fresh - region) + 0.5, 0, 255)
    page[segment.region] = np.where(weight[..., None] > 0, mixed, region).astype(np.uint8)
    return page


def _head_matte(
    image_rgb: RGBImage, mesh: FloatArray, person: Callable[[RGBImage], FloatArray], cut: _HairCut
) -> FloatArray:
    """HxW 0..1: face, ears, skull and hair of the person whose mesh (468, 3) is given; no neck, no body.

    Down to the mouth all of the person is head. Below, only the face itself, and what has the colours of its hair.
    """
    shape, lab = image_rgb.shape[:2], lab_from_rgb(image_rgb)
    is_person = person(image_rgb) > 0.5
    oval = geometry.fill((geometry.FACE_OVAL,), mesh, shape) > 128
    core = skin_core(mesh, shape)
    skin = skin_likelihood(lab, core)
    bare = bare_face(image_rgb, mesh, skin * is_person)
    below_eyes, side, mouth, chin = _along_face(mesh, shape)
    upper = is_person & (below_eyes < mouth)
    strands = upper & ~bare & ~oval & (skin < 0.1)
    beside = strands & (below_eyes > 0)  # above the eyes there may be a hat
    least = _LEAST_HAIR * oval.sum()
    samples = beside if beside.sum() > least else strands
    head = (upper | oval).astype(np.uint8)
    if samples.sum() > least:
        like_hair = _colour_distance(lab, lab[samples])
        hair = is_person & ~oval & (side > cut.closest) & (below_eyes < chin + cut.longest) & (like_hair < _HAIR_REACH)
        hair &= like_hair < _colour_distance(lab, lab[core > 128])
        clothes = is_person & ~bare & (below_eyes > chin + 0.4)
        if clothes.any():
            hair &= (like_hair < _colour_distance(lab, lab[clothes])) | (below_eyes < chin)
        head |= _without_slivers(hair, beside=head)
    head = cv2.morphologyEx(head, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    _, parts = cv2.connectedComponents(head)
    head[parts != np.bincount(parts[oval]).argmax()] = 0
    ends = smoothstep((chin + cut.longest - below_eyes) / cut.fade)
    return as_float(cv2.GaussianBlur(head * ends, (0, 0), 0.8))


def _along_face(mesh: FloatArray, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray, float, float]:
    """Per pixel (HxW), in units of the face's size: how far below the eyes it lies, and how far beside the face's axis;
    then how far below the eyes mouth and chin lie.
    """
    face, five = longer_side(mesh), five_points(mesh)
    eyes, mouth = five[:2].mean(axis=0), five[3:].mean(axis=0)
    down = (mouth - eyes) / max(float(np.hypot(*(mouth - eyes))), 1e-6)
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    below_eyes = ((x - eyes[0]) * down[0] + (y - eyes[1]) * down[1]) / face
    side = np.abs((x - eyes[0]) * down[1] - (y - eyes[1]) * down[0]) / face
    return below_eyes, side, float((mouth - eyes) @ down) / face, float((mesh[152, :2] - eyes) @ down) / face


def _without_slivers(hair: AnyArray, *, beside: GrayImage) -> GrayImage:
    """HxW 0 or 1: hair with its gaps closed, without what is thinner than a strand once it is joined to the head."""
    closed = cv2.morphologyEx(hair.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    opened = cv2.morphologyEx(closed | beside, cv2.MORPH_OPEN, np.ones((9, 9), np.uint8))
    hair_alone: GrayImage = cv2.bitwise_and(opened, closed)
    return hair_alone


def _colour_distance(lab: FloatArray, samples: FloatArray) -> FloatArray:
    """HxW: distance of each Lab pixel from the nearest of the samples' main colours, 1 at the spread of one of them."""
    cv2.setRNGSeed(0)  # the same page must give the same bytes
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 0.5)
    picked = np.ascontiguousarray(samples[:: max(1, len(samples) // 2000)])
    count = min(_HAIR_COLOURS, len(picked))
    _, _, colours = cv2.kmeans(picked, count, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    return as_float(np.min([np.linalg.norm((lab - colour) / _COLOUR_SPREAD, axis=2) for colour in colours], axis=0))
