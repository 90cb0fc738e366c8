"""What the pixels around a face are: skin, features, and whatever lies in front of the face."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

import face_geometry as geometry
from utils import FloatArray, GrayImage, RGBImage, as_float, shrink

_SKIN_SPREAD_MIN = np.array([9.0, 4.5, 5.5], np.float32)  # Lab units: shading and JPEG noise of one even skin
_SKIN_SPREAD_MAX = np.array([13.0, 6.0, 8.0], np.float32)  # beyond this, cheeks hold something else (beard, strands)
_SKIN_TOLERANCE = 1.6


@dataclass(frozen=True, slots=True)
class Frame:
    """A rectangle of an image, resampled: what is computed there does not depend on the face's size in the image.

    x, y, width, height: the rectangle in whole pixels of the image. scale: frame pixels per image pixel.
    """

    x: int
    y: int
    width: int
    height: int
    scale: float

    @classmethod
    def around(cls, points: FloatArray, margin: float, image_shape: tuple[int, ...], scale: float) -> Frame:
        """The box of `points` grown by `margin` times its longer side, clipped to the image."""
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        grown = margin * float((high - low).max())
        x1, y1 = np.floor(np.maximum(low - grown, 0)).astype(int)
        x2, y2 = np.ceil(np.minimum(high + grown + 1, [image_shape[1], image_shape[0]])).astype(int)
        x1, y1 = min(x1, image_shape[1] - 1), min(y1, image_shape[0] - 1)
        return cls(int(x1), int(y1), max(1, int(x2 - x1)), max(1, int(y2 - y1)), scale)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the frame's own pixels."""
        return max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale))

    @property
    def region(self) -> tuple[slice, slice]:
        """The rectangle as an index into the image."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def cut(self, image: RGBImage) -> RGBImage:
        """The image's pixels inside, resampled (areas averaged when shrinking)."""
        pixels = image[self.region]
        if self.shape == pixels.shape[:2]:
            return pixels.copy()
        size = self.shape[::-1]
        if self.scale < 1:
            return shrink(pixels, size)
        enlarged: RGBImage = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
        return enlarged

    def place(self, points: FloatArray) -> FloatArray:
        """Points (N, 3) of the image in the frame's pixels."""
        placed = points.astype(np.float32).copy()
        placed[:, :2] = (placed[:, :2] - [self.x, self.y] + 0.5) * self.scale - 0.5
        placed[:, 2] *= self.scale
        return placed

    def part_around(self, mask: NDArray[np.bool_], margin: int) -> Frame:
        """The part of the image, at its own scale, that holds a mask (HxW) of this frame and `margin` pixels around."""
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        corners = np.array([[x - margin, y - margin], [x + width + margin, y + height + margin]]) / self.scale
        (x1, y1), (x2, y2) = np.clip(np.round(corners).astype(int), 0, [self.width, self.height])
        return Frame(self.x + int(x1), self.y + int(y1), int(x2 - x1), int(y2 - y1), 1.0)

    def onto(self, other: Frame, values: FloatArray) -> FloatArray:
        """Values of this frame (HxW or HxWxC) resampled smoothly onto the pixels of another frame of the same image."""
        ratio = self.scale / other.scale
        shift_x = (other.x - self.x + 0.5 / other.scale) * self.scale - 0.5
        shift_y = (other.y - self.y + 0.5 / other.scale) * self.scale - 0.5
        matrix = np.array([[ratio, 0, shift_x], [0, ratio, shift_y]], np.float32)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        moved: FloatArray = cv2.warpAffine(
            values, matrix, other.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
        return moved


def longer_side(points: FloatArray) -> float:
    """The longer side of the points' box, in pixels: the face's size."""
    return float(np.ptp(points[:, :2], axis=0).max())


def feature_mask(points: FloatArray, shape: tuple[int, int]) -> GrayImage:
    """HxW uint8, 255 over eyes, brows, lips and nostrils with a rim: where skin must not be sampled."""
    face = longer_side(points)
    rims = (
        ((geometry.LEFT_EYE, geometry.RIGHT_EYE), 0.045),
        ((geometry.LEFT_BROW, geometry.RIGHT_BROW), 0.025),
        ((geometry.LIPS,), 0.035),
        ((geometry.NOSTRILS,), 0.03),
    )
    masks = [geometry.grow(geometry.fill(rings, points, shape), rim * face) for rings, rim in rims]
    combined: GrayImage = np.maximum.reduce(masks)
    return combined


def skin_core(points: FloatArray, shape: tuple[int, int]) -> GrayImage:
    """HxW uint8, 255 over both cheeks and the nose's bridge: skin on every face."""
    core = (geometry.LEFT_CHEEK, geometry.RIGHT_CHEEK, geometry.NOSE_BRIDGE)
    return geometry.fill(core, points, shape)


def skin_likelihood(lab: FloatArray, core: GrayImage) -> FloatArray:
    """HxW float32 0..1: how well each Lab pixel fits the skin inside `core` (median, median absolute deviation)."""
    samples = lab[core > 128]
    if len(samples) < 8:
        return np.zeros(lab.shape[:2], np.float32)
    median = np.median(samples, axis=0)
    deviation = 1.4826 * np.median(np.abs(samples - median), axis=0)  # of a normal distribution, from its MAD
    spread = _SKIN_TOLERANCE * np.clip(2 * deviation, _SKIN_SPREAD_MIN, _SKIN_SPREAD_MAX)
    distance = (((lab - median) / spread) ** 2).sum(axis=2)
    likelihood: FloatArray = np.exp(-0.5 * distance).astype(np.float32)
    return likelihood


def bare_skin(lab: FloatArray, points: FloatArray) -> FloatArray:
    """HxW float32 0..1: the face's skin without features, their rims and the oval's border; from a Lab picture."""
    shape = lab.shape[:2]
    inner = geometry.grow(geometry.fill((geometry.FACE_OVAL,), points, shape), -0.03 * longer_side(points)) > 128
    skin = skin_likelihood(lab, skin_core(points, shape))
    return as_float(skin * (inner & (feature_mask(points, shape) < 10)))


def bare_face(image_rgb: RGBImage, points: FloatArray, skin: FloatArray) -> NDArray[np.bool_]:
    """HxW bool: the face's skin and features and the skin joined to them (ears, neck), without hair, hats or hands.

    GrabCut separates the face from its surroundings by their colours: what is surely face (features, and skin from the
    brows down) and what surely isn't (everything beside the oval that has no skin colour) train the two models, and the
    rest is decided by them. It runs at half size, and a guided filter brings its answer back to the picture's edges.
    `skin` is the likelihood (HxW) of `skin_likelihood`.
    """
    size = (max(2, image_rgb.shape[1] // 2), max(2, image_rgb.shape[0] // 2))
    small, small_skin = shrink(image_rgb, size), shrink(skin, size)
    labels, sure_face = _grabcut_seeds(points * np.float32(0.5), small_skin)
    if not (labels == cv2.GC_BGD).any() or not sure_face.any():
        return geometry.fill((geometry.FACE_OVAL,), points, image_rgb.shape[:2]) > 128
    cv2.setRNGSeed(0)  # GrabCut seeds its colour models at random; the same page must give the same bytes
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, None, *models, 1, cv2.GC_INIT_WITH_MASK)
    face = ((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)).astype(np.uint8)
    # Closed first, so that an inked jaw line does not part the neck from the face.
    _, parts = cv2.connectedComponents(cv2.morphologyEx(face, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)))
    face[parts != np.bincount(parts[sure_face]).argmax()] = 0
    matte = cv2.resize(face.astype(np.float32), image_rgb.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    sharp: NDArray[np.bool_] = cv2.ximgproc.guidedFilter(image_rgb, matte, radius=4, eps=30.0) > 0.5
    return sharp


def _grabcut_seeds(points: FloatArray, skin: FloatArray) -> tuple[GrayImage, NDArray[np.bool_]]:
    """GrabCut's labels for a face, and which pixels are surely its own."""
    shape = skin.shape
    oval = geometry.fill((geometry.FACE_OVAL,), points, shape) > 128
    lower = geometry.fill((geometry.LOWER_FACE,), points, shape) > 128
    eyes = geometry.fill(
        (geometry.LEFT_EYE, geometry.RIGHT_EYE, geometry.LEFT_BROW, geometry.RIGHT_BROW), points, shape
    )
    sure_face = oval & ((geometry.grow(eyes, 0.025 * longer_side(points)) > 128) | (lower & (skin > 0.05)))
    labels = np.full(shape, cv2.GC_PR_FGD, np.uint8)
    labels[~oval & (skin < 0.1)] = cv2.GC_BGD
    labels[sure_face] = cv2.GC_FGD
    return labels, sure_face
