"""Decoding of every kind of picture that is taken, and encoding without loss of what a printer needs."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from service.errors import ImageTooLargeError, ImageUnreadableError, InvalidValueError, UnsupportedImageError
from service.image_io import DecodedImage, decode_image, encode_image
from tests.conftest import encoded

MAX_PIXELS = 1_000_000


def decode(data: bytes, *, to_srgb: bool = False, max_pixels: int = MAX_PIXELS) -> DecodedImage:
    return decode_image(data, max_pixels=max_pixels, to_srgb=to_srgb)


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.dstack([x, y, 255 - x]).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "BMP", "TIFF", "GIF"])
def test_every_listed_format_is_read(kind: str) -> None:
    image = decode(encoded(gradient(), kind))
    assert image.format == kind
    error = image.rgb.astype(int) - np.asarray(gradient()).astype(int)
    assert np.abs(error).mean() < 12


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX", "ICO", "EPS", "PDF"])
def test_other_formats_are_refused(kind: str) -> None:
    with pytest.raises(UnsupportedImageError, match="JPEG, PNG"):
        decode(encoded(gradient(), kind))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_exif_orientations_show_the_same_picture(orientation: int) -> None:
    upright = gradient()
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the transpose that the orientation undoes
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(turn[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode(encoded(stored, "PNG", exif=exif)).rgb, np.asarray(upright))


def test_sixteen_bit_grey_is_scaled_and_not_clipped() -> None:
    values = np.array([[0, 257, 40_000, 65_535]], np.uint16).repeat(2, axis=0)
    image = decode(encoded(Image.fromarray(values), "PNG"))
    assert image.rgb[0, :, 0].tolist() == [0, 1, 156, 255]


def test_cmyk_becomes_rgb_without_its_profile() -> None:
    image = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert image.rgb.shape == (8, 8, 3)
    assert image.rgb[4, 4, 0] > 150 > image.rgb[4, 4, 1]
    assert image.icc_profile is None


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_kept_apart(mode: str) -> None:
    rgba = Image.new("RGBA", (8, 8), (200, 200, 200, 255))
    rgba.paste((200, 200, 200, 0), (0, 0, 4, 8))
    picture = rgba.quantize() if mode == "P" else rgba.convert(mode)
    image = decode(encoded(picture, "PNG"))
    assert image.alpha is not None
    assert image.alpha[0].tolist() == [0] * 4 + [255] * 4
    assert image.rgb[0, 7].tolist() == [200, 200, 200]


def test_one_bit_and_palette_pictures_become_rgb() -> None:
    assert decode(encoded(Image.new("1", (8, 8), 1), "PNG")).rgb.min() == 255
    assert decode(encoded(Image.new("P", (8, 8)), "GIF")).rgb.shape == (8, 8, 3)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    image = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert image.rgb[0, 0].tolist() == [255, 0, 0]


def test_too_many_pixels_are_refused_before_decoding() -> None:
    data = encoded(Image.new("1", (2000, 2000)))
    with pytest.raises(ImageTooLargeError, match="1 megapixels"):
        decode(data)
    with pytest.raises(ImageTooLargeError):  # only the header is there: nothing could have been decoded
        decode(data[:60])


def test_a_side_that_opencv_cannot_index_is_refused() -> None:
    with pytest.raises(ImageTooLargeError, match="30000"):
        decode(encoded(Image.new("1", (30_001, 2))))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_cut_short_is_unreadable(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises((ImageUnreadableError, UnsupportedImageError)):
        decode(data[: int(len(data) * share)])


@pytest.mark.parametrize("data", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"<svg/>"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises((UnsupportedImageError, ImageUnreadableError)):
        decode(data)


def wide_gamut_profile() -> bytes:
    """A profile whose red differs from sRGB's, so that a conversion shows."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_a_page_keeps_its_pixels_profile_and_density() -> None:
    profile = wide_gamut_profile()
    picture = gradient()
    image = decode(encoded(picture, "PNG", icc_profile=profile, dpi=(300, 300)))
    again = decode(encode(image, "png"))
    np.testing.assert_array_equal(again.rgb, np.asarray(picture))
    assert again.icc_profile == profile
    assert again.dpi == pytest.approx((300, 300), abs=0.02)


def test_a_photo_is_brought_to_srgb() -> None:
    image = decode(encoded(gradient(), "PNG", icc_profile=wide_gamut_profile()), to_srgb=True)
    assert image.icc_profile is None
    assert np.abs(image.rgb.astype(int) - np.asarray(gradient())).max() <= 2


def test_a_broken_profile_is_ignored() -> None:
    image = decode(encoded(gradient(), "PNG", icc_profile=b"nonsense"), to_srgb=True)
    np.testing.assert_array_equal(image.rgb, np.asarray(gradient()))


def encode(image: DecodedImage, kind: Any) -> bytes:
    return encode_image(image.rgb, format=kind, alpha=image.alpha, dpi=image.dpi, icc_profile=image.icc_profile)


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_alpha_and_the_pixels_under_it_survive(kind: str) -> None:
    rgb = np.asarray(gradient())
    alpha = np.zeros(rgb.shape[:2], np.uint8)
    alpha[:, 20:] = 255
    with Image.open(io.BytesIO(encode_image(rgb, format=kind, alpha=alpha))) as image:  # type: ignore[arg-type]
        pixels = np.asarray(image)
    np.testing.assert_array_equal(pixels[..., 3], alpha)
    assert np.abs(pixels[..., :3].astype(int) - rgb).mean() < (1 if kind == "png" else 12)


def test_a_jpeg_stands_on_white_where_the_page_is_transparent() -> None:
    data = encode_image(np.zeros((16, 16, 3), np.uint8), format="jpeg", alpha=np.zeros((16, 16), np.uint8))
    assert decode(data).rgb.min() > 250


def test_the_same_picture_gives_the_same_bytes() -> None:
    rgb = np.asarray(gradient())
    for kind in ("png", "jpeg", "webp"):
        assert encode_image(rgb, format=kind) == encode_image(rgb, format=kind)


def test_a_page_too_wide_for_webp_is_refused_with_advice() -> None:
    with pytest.raises(InvalidValueError, match="png or jpeg"):
        encode_image(np.zeros((2, 16_384, 3), np.uint8), format="webp")


def test_large_jpeg_is_reduced_as_far_as_is_allowed_and_turned_upright() -> None:
    sideways = Image.new("RGB", (4000, 3000), (200, 30, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(sideways, "JPEG", exif=exif)
    reduced = decode_image(data, max_pixels=50_000_000, to_srgb=True, reduce_to=1800)
    assert reduced.rgb.shape == (2000, 1500, 3)
    assert reduced.scale == 0.5
    assert decode_image(data, max_pixels=50_000_000, to_srgb=True).scale == 1


def test_other_formats_are_never_reduced() -> None:
    data = encoded(Image.new("RGB", (4000, 100)))
    assert decode_image(data, max_pixels=50_000_000, to_srgb=True, reduce_to=1800).rgb.shape == (100, 4000, 3)
