"""The only place where untrusted bytes become pixels, and pixels become a file.

The content decides what a picture is, never its name or its declared type. Only the decoders of `FORMATS` may see the
bytes, and the size in the header is checked before anything is decoded.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Literal, TypeAlias

import imagehash
import numpy as np
import pillow_heif
from isal import isal_zlib
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from service.errors import ImageTooLargeError, ImageUnreadableError, InvalidValueError, UnsupportedImageError
from utils import GrayImage, RGBImage

pillow_heif.register_heif_opener()

ImageFormat: TypeAlias = Literal["png", "jpeg", "webp"]
SUFFIXES: dict[ImageFormat, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "TIFF", "GIF")
"""Pillow's names of the decoders that untrusted bytes may reach."""
TAKEN = "JPEG, PNG, WebP, AVIF, HEIC, BMP, TIFF or GIF"
LABEL_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
LABEL_TAKEN = (
    "a label map that is taken: PNG, BMP, TIFF or GIF, whose pixels are class numbers. "
    "JPEG, WebP, AVIF and HEIC blur them"
)
MAX_CLASS = 255
MAX_SIDE = 30_000
"""Pixels of the longer side: OpenCV's warps index with 16 bits (32,767)."""
WEBP_MAX_SIDE = 16_383
"""WebP's own limit, in pixels."""
SIXTEEN_TO_EIGHT_BIT = 257
"""65535 / 255: maps white to white."""
INCHES_PER_METRE = 39.3701
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_RGB, PNG_RGBA = 2, 6
PNG_FILTER_SUB = 1
"""Each byte less the one a pixel to its left."""
JPEG_QUALITY = 92
PDF_DPI = 150
WEBP_QUALITY = 90
SRGB = ImageCms.createProfile("sRGB")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An upright picture.

    Attributes:
        rgb: HxWx3 uint8.
        alpha: HxW uint8 (255 is opaque), or None where the picture has none.
        dpi: horizontal and vertical dots per inch, where the file says so.
        icc_profile: the profile that `rgb` is in, where it isn't plain sRGB.
        format: Pillow's name of the format.
        scale: pixels here per pixel of the file; below 1 only where `decode_image` was allowed to reduce.
        full_size: width and height of the file's picture, upright.
    """

    rgb: RGBImage
    alpha: GrayImage | None
    dpi: tuple[float, float] | None
    icc_profile: bytes | None
    format: str
    scale: float
    full_size: tuple[int, int]


def decode_image(
    data: BinaryIO | bytes, *, max_pixels: int, to_srgb: bool, reduce_to: int | None = None
) -> DecodedImage:
    """Decode the first frame of a picture, turned upright by its EXIF orientation.

    Args:
        data: the file. A stream is read from where it stands.
        max_pixels: refuse more pixels than this.
        to_srgb: convert by the embedded profile (a photo); otherwise RGB values and profile are kept (a page).
        reduce_to: a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as its longer side keeps this many pixels: a phone's
            photo has many times the pixels that its faces need.

    Raises:
        UnsupportedImageError: no picture of a format that is taken.
        ImageTooLargeError: too many pixels; nothing was decoded.
        ImageUnreadableError: broken or cut short.
    """
    stream = io.BytesIO(data) if isinstance(data, bytes) else data
    image = _open(stream, max_pixels)
    name, (width, height) = image.format or "", image.size
    try:
        if reduce_to is not None and max(image.size) > reduce_to:
            share = reduce_to / max(image.size)
            image.draft(None, (int(image.width * share), int(image.height * share)))
        scale = image.width / width
        image.load()
        stored_size = image.size
        ImageOps.exif_transpose(image, in_place=True)
        turned = image.size != stored_size
        dpi = _dpi(image, turned=turned)
        colour, alpha = _split_alpha(_to_eight_bit(image))
        rgb, profile = _to_rgb(colour, image.info.get("icc_profile"), to_srgb=to_srgb)
        pixels, opacity = np.array(rgb), None if alpha is None else np.array(alpha)
        return DecodedImage(pixels, opacity, dpi, profile, name, scale, (height, width) if turned else (width, height))
    except (ImageUnreadableError, UnsupportedImageError):
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise ImageUnreadableError("The image is damaged or cut short. Send the complete file.") from error


def read_size(data: BinaryIO) -> tuple[int, int]:
    """Width and height of a stored picture, from its header.

    Raises:
        UnsupportedImageError, ImageUnreadableError: it is no picture, or its header is broken.
    """
    with _open(data, MAX_SIDE * MAX_SIDE) as image:
        return image.size


def media_type_of(data: bytes) -> str | None:
    """JPEG, PNG or WebP by its first bytes; None where it is none of what the service writes and browsers show."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(PNG_SIGNATURE):
        return "image/png"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def encode_image(
    rgb: RGBImage,
    *,
    format: ImageFormat,  # noqa: A002 - the word that the API uses
    alpha: GrayImage | None = None,
    dpi: tuple[float, float] | None = None,
    icc_profile: bytes | None = None,
    texts: Mapping[str, str] | None = None,
) -> bytes:
    """The picture as a file: PNG is lossless; a JPEG, which holds no alpha, stands on white. The same in, the same out.

    Args:
        rgb: HxWx3 uint8.
        alpha: HxW uint8, or None.
        dpi: horizontal and vertical dots per inch to note in the file.
        icc_profile: the profile that `rgb` is in.
        texts: what a PNG says of itself, by keyword (Latin letters, at most 79); no other format takes them.

    Raises:
        InvalidValueError: the picture is too large for the format.
    """
    if format == "png":
        return _encode_png(rgb, alpha, dpi, icc_profile, texts or {})
    if format == "webp" and max(rgb.shape[:2]) > WEBP_MAX_SIDE:
        raise InvalidValueError(f"A WebP is at most {WEBP_MAX_SIDE} pixels wide and high. Ask for png or jpeg.")
    extra = {} if icc_profile is None else {"icc_profile": icc_profile}
    out = io.BytesIO()
    if format == "jpeg":
        image = Image.fromarray(rgb if alpha is None else on_white(rgb, alpha))
        image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0, dpi=dpi or (72, 72), **extra)
    else:
        image = Image.fromarray(rgb if alpha is None else np.dstack([rgb, alpha]))
        image.save(out, "WEBP", quality=WEBP_QUALITY, method=2, exact=True, **extra)
    return out.getvalue()


def append_pdf_page(file: BinaryIO, image: DecodedImage, *, first: bool) -> None:
    """Write a picture as the next page of a PDF, at its own size; the same in, the same out.

    Args:
        file: the PDF, open for reading and writing.
        image: its alpha stands on white; without a density it is taken to have PDF_DPI.
        first: begin a new PDF.
    """
    picture = Image.fromarray(image.rgb if image.alpha is None else on_white(image.rgb, image.alpha))
    extra = {} if image.icc_profile is None else {"icc_profile": image.icc_profile}
    no_dates = {"title": None, "creationDate": None, "modDate": None}
    picture.save(
        file, "PDF", append=not first, dpi=image.dpi or (PDF_DPI, PDF_DPI),
        quality=JPEG_QUALITY, subsampling=0, **no_dates, **extra,
    )  # fmt: skip


def decode_label_map(data: bytes, *, max_pixels: int, size: tuple[int, int]) -> GrayImage:
    """The class numbers of a label map: HxW uint8, untouched by palettes, colour profiles and orientations.

    Args:
        data: a PNG, BMP, TIFF or GIF of palette indices or grey values, or the bare numbers: a byte per pixel, row by
            row, of a map that has the photo's size.
        max_pixels: refuse more pixels than this.
        size: width and height of the photo.

    Raises:
        UnsupportedImageError: another format. Lossy ones blend the numbers of neighbours.
        ImageTooLargeError: too many pixels; nothing was decoded.
        ImageUnreadableError: broken or cut short.
        InvalidValueError: a picture in colours, or numbers above 255.
    """
    width, height = size
    if len(data) == width * height and not _is_image(data):
        return np.frombuffer(data, np.uint8).reshape(height, width).copy()
    image = _open(io.BytesIO(data), max_pixels, formats=LABEL_FORMATS, taken=LABEL_TAKEN)
    try:
        image.load()
        return _class_numbers(image)
    except InvalidValueError:
        raise
    except Exception as error:  # decoders raise whatever they stumble over
        raise ImageUnreadableError("The label map is damaged or cut short. Send the complete file.") from error


def encode_label_map(labels: GrayImage, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """Class numbers as a PNG of palette indices; 0 is transparent.

    Args:
        labels: HxW uint8, below the palette's length.
        palette: the colour of each number, red, green and blue.
    """
    image = Image.fromarray(labels, "P")
    image.putpalette([value for colour in palette for value in colour])
    out = io.BytesIO()
    image.save(out, "PNG", transparency=0, compress_level=6)
    return out.getvalue()


def _is_image(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS):
            return True
    except Exception:  # noqa: BLE001 - whatever a decoder raises, it did not know the bytes
        return False


def _class_numbers(image: Image.Image) -> GrayImage:
    if image.mode in ("RGB", "RGBA"):
        channels = np.asarray(image)
        if (channels[..., :1] != channels[..., 1:3]).any():
            raise InvalidValueError(
                "segmentation_map: it is a picture in colours. Each pixel must hold the number of its class, as a grey "
                "value or a palette index: send the parser's raw output as a PNG."
            )
        return np.ascontiguousarray(channels[..., 0])
    values = np.asarray(image.getchannel(0) if len(image.getbands()) > 1 else image)
    if values.dtype.kind not in "bui" or values.min() < 0 or values.max() > MAX_CLASS:
        raise InvalidValueError(f"segmentation_map: class numbers are whole numbers from 0 to {MAX_CLASS}.")
    return np.ascontiguousarray(values, np.uint8)


def _open(
    stream: BinaryIO,
    max_pixels: int,
    *,
    formats: tuple[str, ...] = FORMATS,
    taken: str = f"an image that is taken: {TAKEN}",
) -> Image.Image:
    try:
        image = Image.open(stream, formats=formats)
    except UnidentifiedImageError as error:
        raise UnsupportedImageError(f"The file is not {taken}.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(max_pixels) from error
    except Exception as error:  # a known format, but its header is broken
        raise ImageUnreadableError("The image's header is damaged. Send the complete file.") from error
    if image.width * image.height > max_pixels or max(image.size) > MAX_SIDE:
        raise _too_large(max_pixels)
    return image


def _too_large(max_pixels: int) -> ImageTooLargeError:
    return ImageTooLargeError(
        f"The image has too many pixels. At most {max_pixels / 1e6:g} megapixels, and {MAX_SIDE} a side, are taken."
    )


def _dpi(image: Image.Image, *, turned: bool) -> tuple[float, float] | None:
    dpi = image.info.get("dpi")
    if not dpi or not all(np.isfinite(float(value)) and 1 <= float(value) <= 100_000 for value in dpi):
        return None
    horizontal, vertical = float(dpi[0]), float(dpi[1])
    return (vertical, horizontal) if turned else (horizontal, vertical)


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey, which Pillow's own conversion would clip at 255."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65_535:
            raise UnsupportedImageError("Images of more than 16 bits per channel are not taken.")
        return Image.fromarray(((values + SIXTEEN_TO_EIGHT_BIT // 2) // SIXTEEN_TO_EIGHT_BIT).astype(np.uint8))
    if image.mode == "F":
        raise UnsupportedImageError("Floating-point images are not taken. Send 8 or 16 bits per channel.")
    return image


def _split_alpha(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    if not image.has_transparency_data:
        return image, None
    rgba = image.convert("RGBA")
    return rgba.convert("RGB"), rgba.getchannel("A")


def _to_rgb(image: Image.Image, profile: bytes | None, *, to_srgb: bool) -> tuple[Image.Image, bytes | None]:
    """RGB pixels and the profile they are in; a CMYK or grey profile can't outlive the conversion."""
    if image.mode == "LAB":
        profile = None
    if profile and (to_srgb or image.mode == "CMYK"):
        converted = _by_profile(image, profile)
        if converted is not None:
            return converted, None
    fits_rgb = profile is not None and profile[16:20] == b"RGB " and image.mode != "CMYK"
    return image if image.mode == "RGB" else image.convert("RGB"), profile if fits_rgb and not to_srgb else None


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture in sRGB. None where its profile is broken or for other pixels: its values are taken as sRGB then."""
    source = image if image.mode in {"RGB", "L", "CMYK"} else image.convert("RGB")
    try:
        return ImageCms.profileToProfile(source, ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None


def _encode_png(
    rgb: RGBImage,
    alpha: GrayImage | None,
    dpi: tuple[float, float] | None,
    icc_profile: bytes | None,
    texts: Mapping[str, str],
) -> bytes:
    """PNG by ISA-L's deflate: a page of one megapixel in 8 ms, where OpenCV's fastest settings take 30, Pillow 60."""
    pixels = rgb if alpha is None else np.dstack([rgb, alpha])
    height, width, channels = pixels.shape
    flat = pixels.reshape(height, width * channels)
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = PNG_FILTER_SUB
    rows[:, 1 : 1 + channels] = flat[:, :channels]
    np.subtract(flat[:, channels:], flat[:, :-channels], out=rows[:, 1 + channels :])
    colour_type = PNG_RGB if alpha is None else PNG_RGBA
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colour_type, 0, 0, 0])
    png = PNG_SIGNATURE + _chunk(b"IHDR", header)
    if icc_profile is not None:
        png += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc_profile))
    if dpi is not None:
        per_metre = [round(value * INCHES_PER_METRE) for value in dpi]
        png += _chunk(b"pHYs", per_metre[0].to_bytes(4, "big") + per_metre[1].to_bytes(4, "big") + b"\x01")
    for keyword, text in texts.items():  # iTXt: not compressed, no language, UTF-8
        png += _chunk(b"iTXt", keyword.encode("latin-1") + b"\0\0\0\0\0" + text.encode())
    return png + _chunk(b"IDAT", isal_zlib.compress(rows, 1)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def on_white(rgb: RGBImage, alpha: GrayImage) -> RGBImage:
    """The picture (HxWx3 uint8) as it looks before white; alpha: HxW uint8."""
    share = alpha[..., None].astype(np.uint16)
    return ((rgb * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def perceptual_hash(image_rgb: RGBImage) -> str:
    """The picture's pHash, 256 bits in hex: near duplicates differ in a few of them.

    The usual 64 bits put different people at 10 to 12 bits from each other, these at 78 or more.
    """
    return str(imagehash.phash(Image.fromarray(image_rgb), hash_size=16))
