"""Where the face models look: windows of a picture for the detectors, and upright crops around one face."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from utils import FloatArray, RGBImage, shrink

_DETECT_LONG_SIDE = 256  # the detectors' own inputs are 128 and 192 pixels square
_LEAST_HALF, _LEAST_TILE, _TILES_ALONG = 96, 400, 5
_TILE_STEP = 0.65  # of a tile: what is larger than the overlap is seen in the stage before
_FRAME_TOLERANCE = 0.15  # of the face's size; the mesh fits alike well within it


@dataclass(frozen=True, slots=True)
class View:
    """What the detectors look at: a window x1, y1, x2, y2 of the image, turned counter-clockwise by quarters.

    small_faces: only faces too small for the short range are of interest.
    """

    window: tuple[int, int, int, int]
    turns: int = 0
    small_faces: bool = False


def views(width: int, height: int) -> Iterator[list[View]]:
    """The stages of a search, from the cheapest to the most thorough."""
    margin = max(width, height) // 2
    whole, padded = (0, 0, width, height), (-margin, -margin, width + margin, height + margin)
    yield [View(whole)]
    yield [View(padded)]
    yield [View(window, turns) for turns in (1, 2, 3) for window in (whole, padded)]
    half = max(width, height) // 2
    tile = max(_LEAST_TILE, max(width, height) // _TILES_ALONG)
    for side in (half, tile) if half > tile else (half,):
        if side >= _LEAST_HALF:
            yield [
                View((x, y, min(x + side, width), min(y + side, height)), small_faces=True)
                for y in _starts(height, side)
                for x in _starts(width, side)
            ]


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin: evenly, so that a face on a border of one lies inside another."""
    if length <= side:
        return [0]
    steps = int(np.ceil((length - side) / (_TILE_STEP * side)))
    return [round(i * (length - side) / steps) for i in range(steps + 1)]


def unturned(points: FloatArray, shape: tuple[int, ...], turns: int) -> FloatArray:
    """Points (N, 2) of a crop turned by `np.rot90(crop, turns)` in the crop itself, whose shape is given."""
    height, width = shape[:2]
    x, y = points.T
    return np.stack([(x, y), (width - y, x), (width - x, height - y), (y, height - x)][turns], axis=1)


class Halved:
    """An image and its halves, made when first asked for."""

    def __init__(self, image_rgb: RGBImage) -> None:
        self._levels = [image_rgb]

    def at_least(self, scale: float) -> tuple[RGBImage, float]:
        """The smallest of them that is not smaller than `scale` times the image, and its own scale."""
        level = max(0, int(np.floor(-np.log2(scale) + 1e-6)))
        while len(self._levels) <= level:
            last = self._levels[-1]
            self._levels.append(shrink(last, (max(1, last.shape[1] // 2), max(1, last.shape[0] // 2))))
        return self._levels[level], 0.5**level


def window(halved: Halved, window: tuple[int, int, int, int]) -> tuple[RGBImage, float]:
    """Cut a window (black outside the image) and shrink it for the detectors; returns it with its scale."""
    x1, y1, x2, y2 = window
    scale = min(1.0, _DETECT_LONG_SIDE / max(x2 - x1, y2 - y1))
    image, level = halved.at_least(scale)
    size = max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale))
    zoom = scale / level
    matrix = np.array([[zoom, 0, -x1 * scale], [0, zoom, -y1 * scale]], np.float32)
    matrix[:, 2] += 0.5 * zoom - 0.5  # pixels are squares: their centres lie half a pixel inside
    crop: RGBImage = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR)
    return crop, scale


def warp_area(image_rgb: RGBImage, to_crop: FloatArray, side: int) -> RGBImage:
    """Warp into a side x side crop without aliasing: halve the source first where it is much larger."""
    matrix = to_crop.copy()
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    if scale < 0.5:
        to_image = cv2.invertAffineTransform(matrix)
        square = np.array([[0, 0], [side, 0], [0, side], [side, side]], np.float32)
        corners = square @ to_image[:, :2].T + to_image[:, 2]
        height, width = image_rgb.shape[:2]
        reach = 2 / scale  # two pixels of the crop: what halving and interpolation read beyond its edge
        grid = 2 ** int(np.log2(1 / scale))  # so that the window is halved as the whole image would be
        low, high = np.floor((corners.min(axis=0) - reach) / grid), np.ceil((corners.max(axis=0) + reach) / grid)
        x1, y1 = np.clip(low * grid, 0, [width - 1, height - 1]).astype(int)
        x2, y2 = np.clip(high * grid, [x1 + 1, y1 + 1], [width, height]).astype(int)
        image_rgb, level = Halved(image_rgb[y1:y2, x1:x2]).at_least(scale)
        matrix[:, 2] += matrix[:, :2] @ (np.array([x1, y1], np.float32) + (1 / level - 1) / 2)
        matrix[:, :2] /= level
    crop: RGBImage = cv2.warpAffine(image_rgb, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return crop


def similarity_2d(source: FloatArray, target: FloatArray) -> FloatArray:
    """(2, 3) rotation, scale and shift that takes points (N, 2) nearest to others in least squares; never a reflection.

    In complex numbers it is w = a z + b, whose solution is closed.
    """
    z, w = (points[:, 0].astype(np.float64) + 1j * points[:, 1] for points in (source, target))
    centred = z - z.mean()
    a = np.vdot(centred, w - w.mean()) / max(float(np.vdot(centred, centred).real), 1e-9)
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]], np.float32)


@dataclass(frozen=True, slots=True)
class FaceFrame:
    """Where a face lies: its centre (2,), the longer side of its box in pixels, and its own x axis (2,)."""

    center: FloatArray
    side: float
    axis: FloatArray

    def to_crop(self, scale: float, size: int) -> FloatArray:
        """2x3 similarity that maps the upright square of `scale` times the face to size x size pixels."""
        zoom = size / max(scale * self.side, 1e-3)
        cos, sin = self.axis / max(float(np.hypot(*self.axis)), 1e-6)
        rotation = np.array([[cos, sin], [-sin, cos]], np.float32) * zoom
        shift = np.full(2, size / 2, np.float32) - rotation @ self.center
        return np.concatenate([rotation, shift[:, None]], axis=1).astype(np.float32)

    def turned(self, quarters: int) -> FaceFrame:
        """The same place, for a face turned clockwise by that many quarters."""
        x, y = self.axis
        axis = np.array([(x, y), (-y, x), (-x, -y), (y, -x)][quarters], np.float32)
        return FaceFrame(self.center, self.side, axis)

    def is_far_from(self, other: FaceFrame) -> bool:
        """Whether a crop around one shows the face too far off the middle, or too large or small, for the other."""
        shift = float(np.hypot(*(self.center - other.center))) / max(other.side, 1e-3)
        zoom = abs(float(np.log(max(self.side, 1e-3) / max(other.side, 1e-3))))
        return max(shift, zoom) > _FRAME_TOLERANCE


def frame_from_kps(kps: FloatArray) -> FaceFrame:
    """The frame of five points.

    On the canonical face the face is 2.3 times as long as the way from the eyes' to the mouth's centre, and its middle
    lies a fifth of that way below the eyes; a turned head shortens the eyes' distance, never both.
    """
    eyes, mouth = kps[:2].mean(axis=0), kps[3:].mean(axis=0)
    length = max(2.3 * float(np.hypot(*(mouth - eyes))), 2.2 * float(np.hypot(*(kps[1] - kps[0]))))
    return FaceFrame(eyes + 0.35 * (mouth - eyes), length, kps[1] - kps[0])


def frame_from_detection(points: FloatArray) -> FaceFrame:
    """The frame of MediaPipe's six points: eyes, nose tip, mouth centre, ears."""
    return frame_from_kps(points[[0, 1, 2, 3, 3]])


def frame_from_mesh(points: FloatArray, axis: FloatArray) -> FaceFrame:
    """The frame of a mesh's points (N, 2), along the axis (2,) from eye to eye."""
    unit = axis / max(float(np.hypot(*axis)), 1e-6)
    upright = np.array([[unit[0], -unit[1]], [unit[1], unit[0]]], np.float32)
    rotated = points @ upright
    low, high = rotated.min(axis=0), rotated.max(axis=0)
    center = ((low + high) / 2 @ upright.T).astype(np.float32)
    return FaceFrame(center, float((high - low).max()), axis.astype(np.float32))
