"""The baseline: the classical recipe that the product's first document describes, written plainly.

Canny edges, a bilateral filter, k-means over every pixel of the crop with 10 attempts, then an elliptical Gaussian
mask and alpha blending into the page's face box. Only the parameters are the document's. The service uses none of it.
"""

from __future__ import annotations

import cv2
import numpy as np

from utils import FloatArray, RGBImage

CANNY_THRESHOLDS = (50, 150)
BILATERAL_DIAMETER = 9
BILATERAL_SIGMA = 75  # of colour and of space
COLORS = 8
ATTEMPTS = 10
# Stop k-means after 10 rounds or once the centres move less than 1 grey level.
KMEANS_STOP = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
EDGE_WEIGHT = 0.1
LONGEST_SIDE = 512
MARGIN = 0.1


def stylize(crop_rgb: RGBImage) -> RGBImage:
    """A cartoon of the crop: smoothed, reduced to eight colours, with its edges mixed in."""
    edges = cv2.Canny(cv2.cvtColor(crop_rgb, cv2.COLOR_RGB2GRAY), *CANNY_THRESHOLDS)
    smoothed = cv2.bilateralFilter(crop_rgb, BILATERAL_DIAMETER, BILATERAL_SIGMA, BILATERAL_SIGMA)
    pixels = smoothed.reshape(-1, 3).astype(np.float32)
    _, labels, centers = cv2.kmeans(pixels, COLORS, np.empty(0), KMEANS_STOP, ATTEMPTS, cv2.KMEANS_RANDOM_CENTERS)
    quantized = np.asarray(centers, np.uint8)[labels.ravel()].reshape(crop_rgb.shape)
    inked = cv2.cvtColor(255 - edges, cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(quantized, 1 - EDGE_WEIGHT, inked, EDGE_WEIGHT, 0), np.uint8)


def blend(page_rgb: RGBImage, face_rgb: RGBImage, box: FloatArray) -> RGBImage:
    """The face squeezed into the page's box (x1, y1, x2, y2 in pixels) under a blurred ellipse."""
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    width, height = x2 - x1, y2 - y1
    face = cv2.resize(face_rgb, (width, height), interpolation=cv2.INTER_AREA)
    mask = np.zeros((height, width), np.float32)
    cv2.ellipse(mask, (width // 2, height // 2), (int(width * 0.45), int(height * 0.45)), 0, 0, 360, 1.0, -1)
    alpha = cv2.GaussianBlur(mask, (0, 0), 0.02 * max(width, height))[..., None]
    result = page_rgb.copy()
    window = result[y1:y2, x1:x2]
    window[:] = face * alpha + window * (1 - alpha)
    return result


def crop_face(photo_rgb: RGBImage, box: FloatArray) -> RGBImage:
    """The face box with a margin, at most 512 px on its longer side."""
    x1, y1, x2, y2 = box
    dx, dy = (x2 - x1) * MARGIN, (y2 - y1) * MARGIN
    height, width = photo_rgb.shape[:2]
    crop = photo_rgb[
        max(0, round(float(y1 - dy))) : min(height, round(float(y2 + dy))),
        max(0, round(float(x1 - dx))) : min(width, round(float(x2 + dx))),
    ]
    scale = LONGEST_SIDE / max(crop.shape[:2])
    if scale >= 1:
        return crop
    size = (round(crop.shape[1] * scale), round(crop.shape[0] * scale))
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
