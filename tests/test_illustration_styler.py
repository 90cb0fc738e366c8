"""Light, palette, styles and blends of the classical stylist, on pictures whose answer is known."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

import illustration_styler as styler
from illustration_styler import Blend, PageLook, Style
from utils import FloatArray, RGBImage, as_float, lab_from_rgb, rgb_from_lab

STYLES: tuple[Style, ...] = get_args(Style)
BLENDS: tuple[Blend, ...] = get_args(Blend)
LOOK = PageLook(
    ramp_l=np.array([40, 60, 80], np.float32),
    ramp_ab=np.array([[22, 26], [18, 22], [10, 16]], np.float32),
    grain=0.4,
    ink=7.0,
)


def noise(shape: tuple[int, ...] = (96, 80, 3), seed: int = 0) -> RGBImage:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def disc(shape: tuple[int, int], radius: float, feather: float = 1.0) -> FloatArray:
    """1 inside a centred circle, falling to 0 over `feather` pixels."""
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    distance = np.hypot(x - (shape[1] - 1) / 2, y - (shape[0] - 1) / 2)
    return as_float(np.clip((radius - distance) / feather, 0, 1))


def face_like(size: int = 128) -> FloatArray:
    """Lab: a shaded skin disc with two dark eyes and a mouth on light blue."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    rgb = np.dstack([120 + 100 * (1 - y), 90 + 80 * (1 - y), 70 + 60 * (1 - y)])
    rgb[np.hypot(x - 0.5, y - 0.5) > 0.45] = [170, 200, 230]
    for eye in (0.35, 0.65):
        rgb[np.hypot(x - eye, y - 0.42) < 0.05] = [30, 20, 20]
    rgb[(np.abs(x - 0.5) < 0.15) & (np.abs(y - 0.7) < 0.02)] = [120, 40, 40]
    return lab_from_rgb(rgb)


def drawn(
    lab: FloatArray, style: Style, *, strength: float = 1.0, seed: int = 0, look: PageLook | None = LOOK
) -> FloatArray:
    return styler.stylize(lab, style=style, strength=strength, face_px=lab.shape[0], look=look, seed=seed)


# ---- light and palette


def test_light_comes_from_skin_alone() -> None:
    """A red and a black patch that are no skin leave no trace in the light, not even below themselves."""
    image = np.full((120, 120, 3), (200, 160, 130), np.uint8)
    skin = np.ones((120, 120), np.float32)
    image[30:50, 30:50], image[70:95, 60:90] = (255, 0, 0), 0
    skin[29:51, 29:51] = skin[69:96, 59:91] = 0
    light = styler.skin_light(image, skin, face_px=100)
    np.testing.assert_allclose(light, np.broadcast_to([200, 160, 130], light.shape), atol=1.0)


def test_light_follows_a_slow_change_and_ignores_a_fast_one() -> None:
    x = np.arange(160, dtype=np.float32)
    stripes = 120 + 0.5 * x + 15 * np.where(np.arange(160) % 4 < 2, 1, -1)
    image = np.repeat(np.tile(stripes, (160, 1))[..., None], 3, axis=2).astype(np.uint8)
    light = styler.skin_light(image, np.ones((160, 160), np.float32), face_px=100)[80, 40:120, 0]
    np.testing.assert_allclose(light, 120 + 0.5 * x[40:120], atol=3)
    assert np.abs(np.diff(light)).max() < 1.5


def test_light_without_any_skin_is_the_pictures_mean() -> None:
    image = noise()
    light = styler.skin_light(image, np.zeros(image.shape[:2], np.float32), face_px=60)
    assert np.isfinite(light).all()
    np.testing.assert_allclose(light.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=2)


def test_equal_lights_change_nothing_below_the_highlights() -> None:
    face = noise() // 2 + 40
    light = as_float(np.full(face.shape, 140))
    relit = styler.relight(face, light, light, np.ones(face.shape[:2], np.float32))
    np.testing.assert_allclose(relit, face, atol=0.05)


def test_no_detail_kept_leaves_the_pages_bare_light() -> None:
    page_light = as_float(noise(seed=1) // 2)
    relit = styler.relight(noise(), as_float(np.full(page_light.shape, 90)), page_light, np.zeros((96, 80), np.float32))
    np.testing.assert_allclose(relit, page_light, atol=0.05)


def test_twice_the_light_is_a_face_twice_as_bright() -> None:
    face = np.full((40, 40, 3), 60, np.uint8)
    light = as_float(np.full(face.shape, 80))
    relit = styler.relight(face, light, 2 * light, np.ones((40, 40), np.float32))
    assert relit.mean() == pytest.approx(120, rel=0.08)


def test_highlights_bend_into_the_range_and_stay_in_order() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    face = np.dstack([ramp] * 3)
    relit = styler.relight(
        face, as_float(np.full(face.shape, 100)), as_float(np.full(face.shape, 220)), np.ones(ramp.shape, np.float32)
    )
    assert relit.min() >= 0
    assert relit.max() <= 255.001
    assert (np.diff(relit[0, :, 0]) >= 0).all()
    assert relit[0, 200, 0] > relit[0, 120, 0] + 1  # not clipped flat


def test_eyes_stay_white_on_dark_skin() -> None:
    page_light, face_light = (as_float(np.full((20, 20, 3), value)) for value in (60, 200))
    whites = np.zeros((20, 20), np.float32)
    whites[5:15, 5:15] = 1
    lit = styler.light_on_whites(page_light, face_light, whites)
    np.testing.assert_allclose(lit[whites == 0], 60, atol=1e-3)
    np.testing.assert_allclose(lit[whites == 1], 180, atol=1)


def test_a_look_holds_the_pages_ramp_grain_and_lines() -> None:
    size = 160
    y = np.mgrid[0:size, 0:size][0] / size
    lab = as_float(np.dstack([40 + 50 * y, 20 - 10 * y, 30 - 20 * y]))
    skin, features = np.ones((size, size), np.float32), np.ones((size, size), bool)
    smooth = styler.measure_look(lab, skin, features, size)
    assert (np.diff(smooth.ramp_l) > 0).all()
    np.testing.assert_allclose(smooth.ramp_ab[:, 0], 20 - 10 * (smooth.ramp_l - 40) / 50, atol=0.3)
    grainy, lined = lab.copy(), lab.copy()
    grainy[..., 0] += np.random.default_rng(0).normal(0, 2, (size, size)).astype(np.float32)
    lined[::20, :, 0] = lined[1::20, :, 0] = 5
    assert styler.measure_look(grainy, skin, features, size).grain > smooth.grain + 0.8
    assert styler.measure_look(lined, skin, features, size).ink > smooth.ink + 5


def test_a_look_of_a_page_without_skin_or_features_is_finite() -> None:
    nothing = np.zeros((30, 30))
    look = styler.measure_look(np.zeros((30, 30, 3), np.float32), as_float(nothing), nothing > 0, 30)
    assert np.isfinite(look.ramp_ab).all()
    assert (look.grain, look.ink) == (0, 0)


def test_matching_the_palette_by_nothing_changes_nothing_and_never_changes_lightness() -> None:
    face, light = lab_from_rgb(noise()), lab_from_rgb(noise(seed=1))
    np.testing.assert_array_equal(styler.match_palette(face, light, LOOK, 0.0), face)
    matched = styler.match_palette(face, light, LOOK, 1.0)
    np.testing.assert_array_equal(matched[..., 0], face[..., 0])
    assert np.abs(matched[..., 1:] - face[..., 1:]).mean() > 1


def test_a_shadow_takes_the_hue_that_the_page_shades_with() -> None:
    """Light at L 80 on the page's ramp; a shadow at L 40 must arrive at the ramp's own hue there."""
    light = as_float(np.broadcast_to([80, 10, 16], (10, 10, 3)))
    shadow = light.copy()
    shadow[..., 0] = 40
    shadow[..., 1:] *= (40 + 16) / (80 + 16)  # what a ratio of RGB does, nearly
    matched = styler.match_palette(shadow, light, LOOK, 1.0)
    np.testing.assert_allclose(matched[0, 0, 1:], [22, 26], atol=0.7)


# ---- styles


@pytest.mark.parametrize("style", STYLES)
def test_strength_nought_and_no_style_leave_the_picture(style: Style) -> None:
    lab = face_like()
    np.testing.assert_array_equal(drawn(lab, style, strength=0.0), lab)
    np.testing.assert_array_equal(drawn(lab, "none", strength=1.0), lab)


@pytest.mark.parametrize("style", [style for style in STYLES if style != "none"])
def test_a_style_grows_with_its_strength_and_leaves_its_input_alone(style: Style) -> None:
    lab = face_like()
    before = lab.copy()
    changes = [np.abs(drawn(lab, style, strength=s) - lab).mean() for s in (0.25, 0.5, 1.0)]
    assert 0 < changes[0] < changes[1] < changes[2]
    np.testing.assert_array_equal(lab, before)


def test_each_style_is_its_own() -> None:
    lab = face_like()
    pictures = {style: rgb_from_lab(drawn(lab, style)) for style in STYLES}
    for first in STYLES:
        for second in STYLES:
            if first != second:
                assert np.abs(pictures[first] - pictures[second]).mean() > 1, (first, second)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("look", [LOOK, None])
@pytest.mark.parametrize("picture", ["black", "white", "noise", "two pixels"])
def test_every_style_keeps_its_numbers_in_bounds(style: Style, look: PageLook | None, picture: str) -> None:
    pictures = {
        "black": np.zeros((40, 30, 3), np.uint8),
        "white": np.full((40, 30, 3), 255, np.uint8),
        "noise": noise((40, 30, 3)),
        "two pixels": noise((1, 2, 3)),
    }
    lab = drawn(lab_from_rgb(pictures[picture]), style, look=look)
    assert lab.dtype == np.float32
    assert lab.shape[:2] == pictures[picture].shape[:2]
    assert np.isfinite(rgb_from_lab(lab)).all()
    assert lab[..., 0].min() > -1
    assert lab[..., 0].max() < 101


@pytest.mark.parametrize(
    ("style", "random"), [("watercolor", True), ("pencil", True), ("storybook", False), ("comic", False)]
)
def test_only_paper_and_hatching_depend_on_the_seed(style: Style, random: bool) -> None:
    lab = face_like()
    first, again, other = (drawn(lab, style, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert bool((first != other).any()) is random


@pytest.mark.parametrize("style", ["storybook", "comic", "pencil"])
def test_lines_stay_dark(style: Style) -> None:
    """Pupils are not smoothed away by any style."""
    lab = face_like()
    eye = np.s_[round(0.42 * 127), round(0.35 * 127), 0]
    assert drawn(lab, style)[eye] < 35


def test_a_comic_has_fewer_tones_than_the_picture() -> None:
    def share_of_four_tones(lab: FloatArray) -> float:
        histogram = np.histogram(lab[80:180, 60:200, 0], bins=100, range=(0, 100))[0]
        return float(np.sort(histogram)[-4:].sum() / histogram.sum())

    lab = face_like(256)
    assert share_of_four_tones(lab) < 0.45
    assert share_of_four_tones(drawn(lab, "comic")) > 0.6


def test_a_page_with_lines_gets_a_face_with_darker_lines() -> None:
    faint, bold = (PageLook(LOOK.ramp_l, LOOK.ramp_ab, LOOK.grain, ink) for ink in (2.0, 20.0))
    lab = face_like()
    assert drawn(lab, "storybook", look=bold)[..., 0].mean() < drawn(lab, "storybook", look=faint)[..., 0].mean() - 0.1


def test_a_smooth_page_gets_a_smoother_face_than_a_textured_one() -> None:
    smooth, textured = (PageLook(LOOK.ramp_l, LOOK.ramp_ab, grain, LOOK.ink) for grain in (0.1, 2.0))
    lab = face_like()
    lab[..., 0] += np.random.default_rng(0).normal(0, 4, lab.shape[:2]).astype(np.float32)
    cheek = np.s_[64:84, 50:78, 0]
    assert drawn(lab, "storybook", look=smooth)[cheek].std() < drawn(lab, "storybook", look=textured)[cheek].std()


@pytest.mark.parametrize("softness", [0.0, 0.35, 0.6, 1.0])
def test_quantising_keeps_the_order_and_pulls_towards_steps(softness: float) -> None:
    lightness = np.linspace(0, 100, 2001, dtype=np.float32)
    stepped = styler._soft_quantise(lightness, levels=8, softness=softness)
    assert (np.diff(stepped) >= -0.1).all()
    step = 12.5
    nearest = np.round(lightness / step) * step
    inside = np.abs(lightness - nearest) < step / 2 - 0.05  # on the edge itself either step is right
    assert (np.abs(stepped - nearest) <= np.abs(lightness - nearest) + 0.1)[inside].all()
    if softness == 1.0:
        np.testing.assert_allclose(stepped, lightness, atol=0.1)


# ---- blends


@pytest.mark.parametrize("method", BLENDS)
def test_where_alpha_is_nought_the_page_stays_bit_for_bit(method: Blend) -> None:
    page, face = noise(seed=1), noise(seed=2)
    alpha = disc((96, 80), 30, feather=10)
    mixed = styler.blend(page, face, alpha, method)
    np.testing.assert_array_equal(mixed[alpha == 0], page[alpha == 0])
    assert (mixed != page).any()


@pytest.mark.parametrize("method", BLENDS)
def test_an_empty_mask_gives_the_page_and_a_copy_of_it(method: Blend) -> None:
    page = noise()
    mixed = styler.blend(page, noise(seed=1), np.zeros((96, 80), np.float32), method)
    np.testing.assert_array_equal(mixed, page)
    assert not np.shares_memory(mixed, page)


@pytest.mark.parametrize("method", BLENDS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (5, 40), (97, 33)])
def test_every_blend_takes_any_size_and_a_mask_that_fills_it(method: Blend, shape: tuple[int, int]) -> None:
    page, face = noise((*shape, 3)), noise((*shape, 3), seed=1)
    mixed = styler.blend(page, face, np.ones(shape, np.float32), method)
    assert (mixed.shape, mixed.dtype.name) == (page.shape, "uint8")


def test_gaussian_shows_the_face_itself_where_alpha_is_one_and_the_mean_at_a_half() -> None:
    page, face = noise(seed=1), noise(seed=2)
    alpha = disc((96, 80), 30, feather=10)
    mixed = styler.blend(page, face, alpha, "gaussian")
    np.testing.assert_array_equal(mixed[alpha == 1], face[alpha == 1])
    half = styler.blend(page, face, np.full(alpha.shape, 0.5, np.float32), "gaussian")
    np.testing.assert_allclose(half, (page.astype(int) + face) / 2, atol=0.51)


@pytest.mark.parametrize("method", BLENDS)
@pytest.mark.parametrize("centre", [(48, 40), (30, 52)])
def test_no_blend_shifts_the_face(method: Blend, centre: tuple[int, int]) -> None:
    """A marker's centroid stays where it is, also under a mask that isn't centred in the crop."""
    page = np.full((96, 80, 3), 180, np.uint8)
    face = page.copy()
    row, column = centre
    face[row - 3 : row + 4, column - 3 : column + 4] = 40
    alpha = np.roll(disc((96, 80), 18, feather=4), (row - 48, column - 40), axis=(0, 1))
    change = 180 - styler.blend(page, face, alpha, method)[..., 0].astype(float)
    y, x = np.mgrid[0:96, 0:80]
    found = (y * change).sum() / change.sum(), (x * change).sum() / change.sum()
    np.testing.assert_allclose(found, centre, atol=0.3)


def test_multiband_spreads_a_step_of_light_wider_than_the_mask_does() -> None:
    """Two flat tones under a narrow feather: inside, where a plain mix is flat at once, light changes slowly."""
    page, face = np.full((128, 128, 3), 90, np.uint8), np.full((128, 128, 3), 190, np.uint8)
    alpha = disc((128, 128), 40, feather=4)
    row = styler.blend(page, face, alpha, "multiband")[64, :64, 0].astype(int)
    inside = row[alpha[64, :64] == 1]
    assert 120 < inside[0] < 160
    assert (np.diff(inside) >= 0).all()
    assert np.diff(inside).max() < 8
    assert inside[-1] > 180


def test_multiband_keeps_the_faces_own_lines() -> None:
    page = np.full((128, 128, 3), 150, np.uint8)
    face = page.copy()
    face[:, ::8] = 60
    mixed = styler.blend(page, face, disc((128, 128), 50, feather=10), "multiband")
    np.testing.assert_allclose(mixed[50:78, 50:78].astype(int), face[50:78, 50:78], atol=4)


def test_poisson_takes_the_faces_gradients_and_the_pages_colour() -> None:
    """A face 60 levels too dark, with a line across it: the level is the page's, the line is the face's."""
    page = np.full((100, 100, 3), 200, np.uint8)
    face = np.full((100, 100, 3), 140, np.uint8)
    face[48:52, 35:65] = 60
    mixed = styler.blend(page, face, disc((100, 100), 35, feather=1), "poisson")
    assert abs(int(mixed[30, 50, 0]) - 200) < 12
    assert mixed[40, 50, 0] - int(mixed[50, 50, 0]) > 50
