"""Helpers shared by the engines: smooth steps, shrinking, colour and time."""

from __future__ import annotations

import numpy as np
import pytest

from utils import Stopwatch, as_float, lab_from_rgb, rgb_from_lab, shrink, smoothstep


def test_smoothstep_is_flat_at_both_ends_and_rises_between() -> None:
    values = smoothstep(np.linspace(-2, 3, 501))
    assert values.dtype == np.float32
    assert (values[:201] == 0).all()
    assert (values[300:] == 1).all()
    assert (np.diff(values[201:300]) > 0).all()
    assert smoothstep(np.array([0.5]))[0] == 0.5
    assert smoothstep(np.array([0.01]))[0] < 0.001


@pytest.mark.parametrize("size", [(64, 64), (50, 30), (37, 91), (7, 5)])
def test_shrinking_keeps_the_mean(size: tuple[int, int]) -> None:
    y, x = np.mgrid[0:200, 0:160]
    image = as_float(np.dstack([x, y, 127 + 100 * np.sin(x / 20)]))
    small = shrink(image, size)
    assert small.shape == (size[1], size[0], 3)
    assert small.dtype == np.float32
    np.testing.assert_allclose(small.mean(axis=(0, 1)), image.mean(axis=(0, 1)), atol=4.0)


def test_shrinking_averages_instead_of_picking_pixels() -> None:
    checkers = np.where(np.indices((256, 256)).sum(axis=0) % 2, 255, 0).astype(np.uint8)
    for size in ((128, 128), (64, 32), (100, 100)):
        assert np.ptp(shrink(checkers, size)) <= 2


def test_shrinking_to_its_own_size_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    np.testing.assert_array_equal(shrink(image, (17, 31)), image)


def test_shrinking_does_not_move_the_picture() -> None:
    """A blob stays where it is to half a pixel of the small picture, at halves and at any other ratio."""
    for length in (240, 255):
        y, x = np.mgrid[0:length, 0:length].astype(np.float32)
        blob = np.exp(-((x - 159.5) ** 2 + (y - 79.5) ** 2) / (2 * 20**2)).astype(np.float32)
        for side in (120, 90, 60, 45):
            small = shrink(blob, (side, side))
            rows, columns = np.mgrid[0:side, 0:side]
            centre = np.array([(columns * small).sum(), (rows * small).sum()]) / small.sum()
            np.testing.assert_allclose(centre + 0.5, np.array([160, 80]) * side / length, atol=0.5)


def test_lab_and_back_is_the_same_picture() -> None:
    levels = np.arange(0, 256, 15, dtype=np.uint8)
    rgb = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 18, 3)
    np.testing.assert_allclose(rgb_from_lab(lab_from_rgb(rgb)), rgb, atol=1.0)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((255, 255, 255), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_values_are_those_of_the_standard(rgb: tuple[int, ...], lab: tuple[float, ...]) -> None:
    """CIE Lab of sRGB's corners under D65."""
    np.testing.assert_allclose(lab_from_rgb(np.array([[rgb]], np.uint8))[0, 0], lab, atol=0.5)


def test_a_stopwatch_adds_up_stages_and_counts_one_that_fails() -> None:
    watch = Stopwatch()
    with watch.stage("a"):
        pass
    first = watch.timings_ms["a"]
    with pytest.raises(KeyError), watch.stage("a"):
        raise KeyError
    with watch.stage("b"):
        pass
    assert watch.timings_ms.keys() == {"a", "b"}
    assert watch.timings_ms["a"] > first >= 0
