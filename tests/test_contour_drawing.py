"""Drawings of lines: the cells between them, what lies on each side of an arc, and lines joined where nothing meets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import shapely
from shapely.affinity import rotate

import contour_regions
from contour_drawing import Drawing, draw
from contour_svg import ContourOptions, facial_contours
from tests.contour_faces import PHOTO, label_map, mesh


def square(x: float, y: float, side: float) -> shapely.Geometry:
    return shapely.box(x, y, x + side, y + side).exterior


def areas_beside(drawing: Drawing) -> list[tuple[float, float]]:
    """The areas to both sides of each arc; 0 is the outside."""
    areas = np.append(shapely.area(drawing.cells), 0).round(6)
    return [(float(areas[left]), float(areas[right])) for left, right in drawing.beside.T]


def test_squares_that_overlap_make_three_cells_that_know_their_neighbours() -> None:
    drawing = draw([square(0, 0, 4), square(3, 3, 4)])
    assert sorted(shapely.area(drawing.cells).round(6)) == [1, 15, 15]
    assert sorted(tuple(sorted(pair)) for pair in areas_beside(drawing) if 0 not in pair) == [(1, 15), (1, 15)]
    for (left, right), start in zip(drawing.beside.T, drawing.first, strict=False):
        step = drawing.points[start + 1] - drawing.points[start]
        beside = drawing.points[start] + step / 2 + 1e-6 * np.array([-step[1], step[0]])
        assert left == len(drawing.cells) or shapely.contains_xy(drawing.cells[left], *beside)
        assert right == len(drawing.cells) or not shapely.contains_xy(drawing.cells[right], *beside)


def test_islands_lie_in_the_smallest_cell_around_them() -> None:
    drawing = draw([square(0, 0, 20), square(2, 2, 16), square(4, 4, 5), square(5, 5, 1), square(30, 0, 3)])
    assert shapely.is_valid(drawing.cells).all()
    assert sorted(shapely.area(drawing.cells)) == [1, 9, 24, 144, 231]
    pairs = {tuple(sorted(pair)) for pair in areas_beside(drawing)}
    assert pairs == {(0, 144), (144, 231), (24, 231), (1, 24), (0, 9)}


def test_the_cells_of_random_lines_are_those_that_geos_finds() -> None:
    rng = np.random.default_rng(4)
    lines = [rotate(square(*rng.uniform(5, 60, 3)), rng.uniform(0, 90)) for _ in range(25)]
    lines += [shapely.LineString(rng.uniform(0, 90, (2, 2))) for _ in range(10)]  # their ends bound nothing
    expected = shapely.get_parts(shapely.polygonize([shapely.unary_union(lines)]))
    drawing = draw(lines)
    assert len(drawing.cells) == len(expected)
    places = shapely.get_coordinates(shapely.point_on_surface(drawing.cells))
    found = shapely.contains_xy(expected[:, None], *places.T)
    assert (found.sum(axis=0) == 1).all()
    np.testing.assert_allclose(shapely.area(drawing.cells), shapely.area(expected)[found.argmax(axis=0)], rtol=1e-9)


@pytest.mark.parametrize("seed", [76, 198, *range(10)])
def test_the_cells_of_a_rough_face_are_those_that_geos_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rings through the same points of a mesh run side by side within rounding errors, with steps as short as these."""
    rng = np.random.default_rng(seed)
    points = mesh(roll=rng.uniform(-180, 180), yaw=rng.uniform(-60, 60), mouth=0)
    points += rng.normal(0, 4, points.shape)
    labels = label_map(points)
    specks = rng.random(labels.shape) < 0.005
    labels[specks] = rng.integers(0, 11, specks.sum())
    drawn: list[tuple[Sequence[shapely.Geometry], Drawing]] = []

    def record(lines: Sequence[shapely.Geometry]) -> Drawing:
        drawn.append((lines, draw(lines)))
        return drawn[-1][1]

    monkeypatch.setattr(contour_regions, "draw", record)
    for options in (ContourOptions(autorotate=False, crop=False), ContourOptions()):
        facial_contours(points, PHOTO, labels, options)
    for lines, drawing in drawn:
        expected = shapely.get_parts(shapely.polygonize([shapely.unary_union(lines)]))
        areas = [np.sort(shapely.area(cells)) for cells in (drawing.cells, expected)]
        one, other = (each[each > 1e-4] for each in areas)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_borders_are_joined_where_no_third_one_meets_them_and_where_marks_agree() -> None:
    drawing = draw([square(0, 0, 4), shapely.LineString([(-1, 2), (5, 2)])])
    left, right = drawing.beside
    around = left != right
    around &= (left == len(drawing.cells)) | (right == len(drawing.cells))
    nowhere = np.zeros(len(around), bool)
    (ring,) = drawing.borders(around, nowhere)
    assert (ring.line[0] == ring.line[-1]).all()
    assert shapely.LineString(ring.line).length == 16
    arcs = zip(drawing.first[: len(around)], drawing.last, strict=False)
    upper = np.array([drawing.points[first : last + 1, 1].mean() > 2 for first, last in arcs])
    halves = drawing.borders(around, upper)
    assert sorted(shapely.LineString(border.line).length for border in halves) == [8, 8]
    assert sorted(border.is_marked for border in halves) == [False, True]
    one, other = halves
    assert {one.start, one.stop} == {other.start, other.stop}
    assert drawing.borders(nowhere, nowhere) == []
