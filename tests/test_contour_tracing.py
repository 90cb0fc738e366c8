"""Borders of label maps: each once, whole, and ending only where three parts meet."""

from __future__ import annotations

import numpy as np
import pytest

from contour_geometry import Points
from contour_tracing import shared_borders
from utils import GrayImage


def traced(parts: GrayImage) -> list[Points]:
    points, line = shared_borders(parts)
    return [points[line == number] for number in range(line.max(initial=-1) + 1)]


def length(line: Points) -> float:
    return float(np.hypot(*np.diff(line, axis=0).T).sum())


def is_closed(line: Points) -> bool:
    return bool((line[0] == line[-1]).all())


def test_a_part_inside_another_is_one_ring_and_parts_side_by_side_share_a_line() -> None:
    parts = np.zeros((60, 80), np.uint8)
    parts[10:50, 10:70] = 1
    parts[10:50, 40:70] = 2
    parts[20:40, 15:30] = 3
    lines = traced(parts)
    rings = [line for line in lines if is_closed(line)]
    assert [length(ring) for ring in rings] == [pytest.approx(2 * (20 + 15), rel=0.08)]
    shared, *around = sorted((line for line in lines if not is_closed(line)), key=length)
    assert sorted(shared[[0, -1]].tolist()) == [[40, 10], [40, 50]]
    assert np.allclose(shared[:, 0], 40)
    assert [length(line) for line in around] == [pytest.approx(40 + 2 * 30, rel=0.05)] * 2


def test_a_border_may_run_through_the_whole_picture() -> None:
    parts = np.ones((30, 40), np.uint8)
    parts[12:] = 2
    ends = {tuple(point) for line in traced(parts) for point in line[[0, -1]].tolist()}
    assert ends == {(0, 12), (40, 12)}


def test_squares_that_touch_at_a_corner_cross_no_line() -> None:
    parts = np.zeros((40, 40), np.uint8)
    parts[5:20, 5:20] = parts[20:35, 20:35] = 1
    for turned, expected in ((parts, [60, 60]), (parts[::-1].copy(), [120])):
        rings = traced(turned)
        assert all(map(is_closed, rings))
        assert [length(ring) for ring in rings] == pytest.approx(expected, rel=0.1)


def test_stairs_are_evened_out() -> None:
    rows, columns = np.mgrid[:80, :80]
    (ring,) = traced((np.hypot(rows + 0.5 - 40, columns + 0.5 - 40) < 30).astype(np.uint8))
    assert is_closed(ring)
    assert np.abs(np.hypot(*(ring - 40).T) - 30).max() < 0.4
    steps = np.diff(ring, axis=0) @ [1, 1j]
    assert np.abs(np.angle(steps[1:] / steps[:-1])).max() < np.radians(25)


def test_specks_become_what_is_around_them() -> None:
    parts = np.ones((30, 30), np.uint8)
    parts[10:12, 10:13] = 2
    parts[20, 0] = 3
    assert len(traced(parts)) == len(traced(np.where(parts == 2, 1, parts).astype(np.uint8)))
    assert (parts[10:12, 10:13] == 1).all()
    assert not traced(np.zeros((9, 9), np.uint8))
