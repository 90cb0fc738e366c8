"""A garment cut from its product photo: against a plain background, or by the photo's own transparency."""

from __future__ import annotations

import cv2
import numpy as np

from service.errors import GarmentSegmentationError
from utils import FloatArray, GrayImage, RGBImage, as_float, as_mask, shrink

_ANALYSIS_SIDE = 768  # pixels of the longer side at which backgrounds are told apart
_BORDER = 0.02  # of the longer side: the ring that should show only background
_EVERY = 7  # pixels of the ring from one that is looked at to the next
_UNIFORM = 10.0  # Lab: the largest spread of a background that still counts as one
CONTRAST = 3.5
"""Lab: the least distance between garment and background."""
_SLIT = 0.022  # of the longer side: the widest stripe that may be taken for background
_SMALLEST, _LARGEST = 0.03, 0.93  # share of the picture
_LEAST_SIDE = 96  # pixels of the cut-out garment's longer side


def cut_out(
    image_rgb: RGBImage, alpha: GrayImage | None = None, *, contrast: float = CONTRAST
) -> tuple[RGBImage, GrayImage]:
    """The garment without its background, cropped: RGB and a mask (0 or 255).

    `alpha` is the picture's own transparency, which is trusted where it shows anything. `contrast` is the least
    distance in Lab that tells a garment from its background.

    Raises:
        GarmentSegmentationError: the background is not plain, or too much or too little stands out from it.
    """
    if alpha is not None and is_transparent(alpha):
        mask = as_mask(alpha >= 128)
    else:
        mask = _against_background(image_rgb, contrast)
    mask = _largest(mask)
    share = float((mask > 0).mean())
    if not _SMALLEST < share < _LARGEST:
        raise GarmentSegmentationError(
            "The garment can't be told from its background. Use a photo of the garment alone, whole, laid flat "
            "or on an invisible mannequin, before a plain background of another colour, or a PNG with transparency."
        )
    x, y, width, height = cv2.boundingRect(mask)
    if max(width, height) < _LEAST_SIDE:
        raise GarmentSegmentationError(
            f"The garment is only {width}x{height} pixels large. Use a photo in which it has at least {_LEAST_SIDE}."
        )
    margin = round(0.06 * max(width, height))
    image_rgb = np.pad(image_rgb, ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    mask = np.pad(mask, margin)
    window = (slice(y, y + height + 2 * margin), slice(x, x + width + 2 * margin))
    mask = np.ascontiguousarray(mask[window])
    return _without_rim(np.ascontiguousarray(image_rgb[window]), mask), mask


def is_transparent(alpha: GrayImage | None) -> bool:
    """Whether a picture's transparency says anything: many have an alpha channel that is opaque throughout."""
    return alpha is not None and bool((alpha < 128).mean() > 0.02)


def _against_background(image_rgb: RGBImage, contrast: float) -> GrayImage:
    """255 where a picture differs from what its border shows, holes of the same colour filled."""
    height, width = image_rgb.shape[:2]
    scale = min(1.0, _ANALYSIS_SIDE / max(height, width))
    small = shrink(image_rgb, (max(1, round(width * scale)), max(1, round(height * scale))))
    lab = cv2.cvtColor(as_float(small) / 255, cv2.COLOR_RGB2LAB)
    across, down, spread = _background(lab)
    if spread > _UNIFORM:
        raise GarmentSegmentationError(
            "The garment's background is not plain. Use a photo before one plain colour, or a PNG with transparency."
        )
    squares = np.zeros(lab.shape[:2], np.float32)
    for channel, off in enumerate(cv2.split(lab)):
        off -= across[:, channel]
        off -= down[:, channel, None]
        cv2.accumulateSquare(off, squares)
    distance = cv2.GaussianBlur(cv2.sqrt(squares), (0, 0), 0.8)
    # Beside strong cloth, the background's blurred rim is far from the background too: less than a third as far.
    least = np.maximum(max(contrast, spread + 1.5), cv2.dilate(distance, np.ones((3, 3), np.uint8)) / 3)
    mask = as_mask(distance > least)
    side = max(mask.shape)
    closed = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    # A stripe of the background's colour cuts slits into the outline. They lie across; gaps beside sleeves hang down.
    slit = cv2.getStructuringElement(cv2.MORPH_RECT, (1, 2 * round(_SLIT * side / 2) + 1))
    edge = len(slit)
    padded = cv2.copyMakeBorder(closed, edge, edge, 0, 0, cv2.BORDER_CONSTANT, value=0)
    filled = _without_holes(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, slit)[edge:-edge], gap=round(0.2 * side))
    opened = cv2.morphologyEx(filled, cv2.MORPH_OPEN, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5)))
    resized = cv2.resize(opened, (width, height), interpolation=cv2.INTER_LINEAR)
    return as_mask(resized >= 128)


def _background(lab: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """The border's colour as a plane over the picture, the sum of a part for each column (W, 3) and one for each row
    (H, 3), and how far the border strays from it (Lab)."""
    height, width = lab.shape[:2]
    ring = max(2, round(_BORDER * max(height, width)))
    border = np.ones((height, width), bool)
    border[ring:-ring, ring:-ring] = False
    rows, columns = (index[::_EVERY] for index in np.nonzero(border))
    y, x = np.arange(height) / height - 0.5, np.arange(width) / width - 0.5
    samples, colours = np.stack([np.ones(len(rows)), x[columns], y[rows]], axis=1), lab[rows, columns]
    weights = np.ones(len(samples), bool)
    for _ in range(3):  # the garment may touch the border: leave out what strays
        plane = np.linalg.lstsq(samples[weights], colours[weights], rcond=None)[0]
        error = np.linalg.norm(samples @ plane - colours, axis=1)
        weights = error <= max(float(np.percentile(error, 80)), 1.0)
    across, down = as_float(x[:, None] * plane[1]), as_float(y[:, None] * plane[2] + plane[0])
    return across, down, float(np.percentile(error, 75) * 1.5)


def _without_holes(mask: GrayImage, gap: int) -> GrayImage:
    """Fill what is enclosed: a print of the background's colour. A tall gap beside the middle stays open: it lies
    between a sleeve and the trunk."""
    count, labels, stats, centres = cv2.connectedComponentsWithStats(cv2.bitwise_not(mask), connectivity=4)
    x, _, width, _ = cv2.boundingRect(mask)
    filled = mask.copy()
    for label in range(1, count):
        left, top, w, h = stats[label, :4]
        outside = left == 0 or top == 0 or left + w == mask.shape[1] or top + h == mask.shape[0]
        beside = abs(centres[label][0] - (x + width / 2)) > 0.18 * width
        if not outside and not (beside and h > gap and h > 2 * w):
            filled[labels == label] = 255
    return filled


def _largest(mask: GrayImage) -> GrayImage:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count < 2:
        return mask
    return as_mask(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def _without_rim(rgb: RGBImage, alpha: GrayImage) -> RGBImage:
    """The garment's colours carried a few pixels outward, over the rim that is mixed with the background."""
    core = cv2.erode(alpha, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7)))
    size = (-(-alpha.shape[1] // 3), -(-alpha.shape[0] // 3))
    weight = as_float(shrink(core, size)) / 255
    blurred = cv2.GaussianBlur(as_float(shrink(rgb, size)) * weight[..., None], (0, 0), 1.2)
    spread = cv2.GaussianBlur(weight, (0, 0), 1.2)
    carried = np.clip(blurred / np.maximum(spread, 1e-3)[..., None], 0, 255).astype(np.uint8)
    rim = (core == 0) & (cv2.dilate(core, np.ones((21, 21), np.uint8)) > 0)
    return np.asarray(cv2.copyTo(cv2.resize(carried, alpha.shape[1::-1]), as_mask(rim), rgb.copy()), np.uint8)
