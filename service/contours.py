"""Facial contours on files: from the bytes of a request to the bytes of its answer.

For a synchronous route and for a job alike:

    request = ContourRequest(image=photo_bytes, landmarks=None, segmentation_map=None)
    result = Contourer(landmarks, max_pixels=...).contours(request)     # blocks: run it in the inference pool
    result.data, result.media_type                                     # the SVG, PNG or JSON file
    result.document                                                    # what JSON answers tell beside it

A request and a result hold bytes, numbers and text only, so both can be pickled, and the same request gives the same
bytes. Every failure is a `ServiceError` that the client should see.
"""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from contour_geometry import Points
from contour_output import (
    ContourStyle,
    canvas_photo,
    json_document,
    mask_indices,
    mask_palette,
    overlay,
    svg_document,
)
from contour_svg import ContourOptions, FaceContours, facial_contours
from face_landmarks import FaceLandmarks
from service.errors import DatabaseUnavailableError, InvalidValueError, NoFaceDetectedError
from service.image_io import (
    DecodedImage,
    decode_image,
    decode_label_map,
    encode_image,
    encode_label_map,
    perceptual_hash,
)
from service.result_cache import ResultCache, cache_key
from service.version import NAME, VERSION
from utils import GrayImage, Stopwatch

Output: TypeAlias = Literal["svg", "png", "json"]
PngKind: TypeAlias = Literal["mask", "overlay", "photo"]

MEDIA_TYPES: Mapping[Output, str] = {"svg": "image/svg+xml", "png": "image/png", "json": "application/json"}
PHOTO_SIDE_PX = 1800
"""A JPEG is decoded at a half, a quarter or an eighth as long as its longer side keeps this many pixels."""
ENGINE_VERSION = "contours-1"
"""Changes whenever the same request may give other bytes than before: part of the cache key."""
CACHE_KIND = "contours"
FRACTIONS = 2
"""Landmarks below are fractions of the photo: no face is that small."""
LANDMARKS_HELP = "Send a list of {x, y} or [x, y], one for each of the 468 or 478 points of MediaPipe's face mesh."


@dataclass(frozen=True, slots=True)
class ContourRequest:
    """One photo and what is wanted of it.

    image: a picture file. landmarks: (x, y) of each point, or None: they are found. segmentation_map: a label map as a
    file or bare bytes, or None. output: the file that is wanted; png: what a PNG shows.
    """

    image: bytes
    landmarks: tuple[tuple[float, float], ...] | None = None
    segmentation_map: bytes | None = None
    output: Output = "svg"
    png: PngKind = "mask"
    options: ContourOptions = field(default_factory=ContourOptions)
    style: ContourStyle = field(default_factory=ContourStyle)


@dataclass(frozen=True, slots=True)
class ContourResult:
    """The file, and everything about it as JSON takes it: with outlines where the file is JSON."""

    data: bytes
    media_type: str
    document: dict[str, Any]
    timings_ms: dict[str, float]


class Contourer:
    """Finds the contours of what clients send. Thread-safe."""

    def __init__(self, landmarks: FaceLandmarks, *, max_pixels: int, cache: ResultCache | None = None) -> None:
        """`cache` keeps results for the owner who asked for them."""
        self.landmarks = landmarks
        self.max_pixels = max_pixels
        self.cache = cache

    def contours(self, request: ContourRequest, *, owner: str = "") -> ContourResult:
        """Answer a request.

        Args:
            request: the photo and what is wanted of it.
            owner: who asks: only a result of their own is served from the cache.

        Raises:
            ServiceError: one of the image errors, NO_FACE_DETECTED, or INVALID_VALUE for landmarks, map or options.
        """
        clock = Stopwatch()
        with clock.stage("decode"):
            photo, labels = self._decode(request)
        kept = _Kept(self.cache, request, photo, owner)
        with clock.stage("cache"):
            result = kept.get()
        if result is None:
            result = self._make(request, photo, labels, clock)
            with clock.stage("cache"):
                kept.put(result)
        return replace(result, timings_ms=clock.timings_ms)

    def check(self, request: ContourRequest) -> None:
        """Find out whether a request can be answered, as far as that shows before a file is written.

        Raises:
            ServiceError: as `contours`.
        """
        self._find_regions(request, *self._decode(request), Stopwatch())

    def _decode(self, request: ContourRequest) -> tuple[DecodedImage, GrayImage | None]:
        # Pixels are drawn at the photo's own resolution; faces are found in less.
        reduce_to = None if request.output == "png" else PHOTO_SIDE_PX
        photo = decode_image(request.image, max_pixels=self.max_pixels, to_srgb=True, reduce_to=reduce_to)
        if request.segmentation_map is None:
            return photo, None
        return photo, decode_label_map(request.segmentation_map, max_pixels=self.max_pixels, size=photo.full_size)

    def _make(
        self, request: ContourRequest, photo: DecodedImage, labels: GrayImage | None, clock: Stopwatch
    ) -> ContourResult:
        found = self._find_regions(request, photo, labels, clock)
        facts = {
            "generator": f"{NAME} {VERSION}",
            "source_sha256": hashlib.sha256(request.image).hexdigest(),
            "landmarks": "found" if request.landmarks is None else "given",
        }
        with clock.stage("encode"):
            document = json_document(found, facts, polygons=request.output == "json")
            data = self._encode(request, photo, found, facts, document)
        return ContourResult(data, MEDIA_TYPES[request.output], document, {})

    def _find_regions(
        self, request: ContourRequest, photo: DecodedImage, labels: GrayImage | None, clock: Stopwatch
    ) -> FaceContours:
        notes: tuple[str, ...] = ()
        if request.landmarks is None:
            with clock.stage("landmarks"):
                points, notes = self._find(photo)
        else:
            points = _rounded(request.landmarks)
        with clock.stage("contours"):
            found = facial_contours(points, photo.full_size, labels, request.options)
            return replace(found, warnings=(*notes, *found.warnings))

    def _find(self, photo: DecodedImage) -> tuple[Points, tuple[str, ...]]:
        """The mesh of the largest face, in pixels of the photo as it was sent, and what to tell about the choice."""
        faces = [face for face in self.landmarks.detect(photo.rgb) if face.mesh is not None]
        if not faces or faces[0].mesh is None:
            raise NoFaceDetectedError("Use a photo in which the face is larger and visible, or send `landmarks`.")
        points = faces[0].mesh.points[:, :2].astype(np.float64) / photo.scale
        many = f"The photo shows {len(faces)} faces: the largest was taken. Send `landmarks` to choose another."
        return points, (many,) if len(faces) > 1 else ()

    def _encode(
        self,
        request: ContourRequest,
        photo: DecodedImage,
        found: FaceContours,
        facts: Mapping[str, Any],
        document: Mapping[str, Any],
    ) -> bytes:
        if request.output == "svg":
            return svg_document(found, request.style, facts)
        if request.output == "json":
            return json.dumps(document, separators=(",", ":")).encode()
        if found.alignment.width * found.alignment.height > self.max_pixels:
            raise InvalidValueError(
                f"The turned photo would have more than {self.max_pixels / 1e6:g} megapixels. Ask for `crop` or svg."
            )
        if request.png == "mask":
            return encode_label_map(mask_indices(found), mask_palette())
        rgb, alpha = canvas_photo(photo.rgb, found.alignment)
        return encode_image(
            rgb if request.png == "photo" else overlay(rgb, found, request.style),
            format="png",
            alpha=None if alpha.min() == 255 else alpha,
        )


def parse_landmarks(value: object) -> tuple[tuple[float, float], ...] | None:
    """Landmarks as clients send them: points as {x, y} or [x, y] (z and more are ignored), or a list of one such face.

    Raises:
        InvalidValueError: they are something else; the sentence names the first point that is wrong.
    """
    if isinstance(value, Mapping) and "landmarks" in value:
        value = value["landmarks"]
    if value is None:
        return None
    if not isinstance(value, list) or not value:
        raise InvalidValueError(f"landmarks: no list of points. {LANDMARKS_HELP}")
    if isinstance(value[0], list) and (not value[0] or not isinstance(value[0][0], int | float)):
        if len(value) > 1:
            raise InvalidValueError(f"landmarks: the points of {len(value)} faces. Send those of one.")
        return parse_landmarks(value[0])
    return tuple(_point(number, each) for number, each in enumerate(value))


def _point(number: int, value: object) -> tuple[float, float]:
    pair = [value.get("x"), value.get("y")] if isinstance(value, Mapping) else value
    if not isinstance(pair, list) or len(pair) < 2 or not all(type(each) in (int, float) for each in pair[:2]):
        raise InvalidValueError(f"landmarks: point {number} has no numbers x and y. {LANDMARKS_HELP}")
    try:
        return float(pair[0]), float(pair[1])
    except OverflowError:  # an integer of hundreds of digits
        return math.inf, math.inf


def _rounded(landmarks: tuple[tuple[float, float], ...]) -> Points:
    """Landmarks (N, 2) to hundredths of a pixel, or millionths where they are fractions of the photo."""
    points = np.array(landmarks, np.float64)
    return np.round(points, 2 if np.abs(points).max() > FRACTIONS else 6) + 0.0  # makes -0.0 a 0.0


class _Kept:
    """The place of one request's result in the cache. A cache that can't be reached is one that is empty."""

    def __init__(self, cache: ResultCache | None, request: ContourRequest, photo: DecodedImage, owner: str) -> None:
        self.cache = cache if cache is not None and cache.enabled else None
        self.photo = photo
        self.owner = owner
        if self.cache is not None:
            points = None if request.landmarks is None else _rounded(request.landmarks)
            arrays = {} if points is None else {"landmarks": points.tobytes()}
            if request.segmentation_map is not None:
                arrays["segmentation_map"] = request.segmentation_map
            # The photo's own bytes count too: their hash is in the answer.
            arrays["image"] = hashlib.sha256(request.image).digest()
            options = {**asdict(request.options), **asdict(request.style), "output": request.output, "png": request.png}
            options["engine"] = ENGINE_VERSION
            self.key = cache_key(CACHE_KIND, owner, pixels=photo.rgb, arrays=arrays, options=options)

    def get(self) -> ContourResult | None:
        """The result, if it was made before."""
        if self.cache is None:
            return None
        with suppress(DatabaseUnavailableError):
            content = self.cache.get(self.key)
            if content is not None:
                kept = json.loads(content)
                return ContourResult(b64decode(kept["data"]), kept["media_type"], kept["document"], {})
        return None

    def put(self, result: ContourResult) -> None:
        """Keep the result for the next time."""
        if self.cache is None:
            return
        kept = {"data": b64encode(result.data).decode(), "media_type": result.media_type, "document": result.document}
        content = json.dumps(kept).encode()
        with suppress(DatabaseUnavailableError):
            self.cache.put(
                self.key, content, owner=self.owner, kind=CACHE_KIND, perceptual_hash=perceptual_hash(self.photo.rgb)
            )
