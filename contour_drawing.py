"""Lines as one drawing: the arcs between the places where lines meet, and the cells into which they divide the plane.

A planar subdivision in the usual form: each of A arcs is two halves, h < A as the arc runs and h + A backwards. The
halves with the same cell to their left, y upwards, follow one another around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import shapely
from numpy.typing import NDArray

from contour_geometry import Points, consecutive
from utils import AnyArray

Flags: TypeAlias = NDArray[np.bool_]
"""One bool each."""
Half = TypeVar("Half", int, AnyArray)

_ROUNDING = 1e-6  # square pixels by which the area of a sliver may come out too small


class Border(NamedTuple):
    """A line of one or more arcs.

    line: (N, 2) its points. start, stop: numbers of its ends. left, right: the cells beside it. is_marked: as its arcs.
    """

    line: Points
    start: int
    stop: int
    left: int
    right: int
    is_marked: bool


@dataclass(frozen=True, slots=True)
class Drawing:
    """Cells and arcs.

    cells: (C,) polygons. points: all arcs' points, one arc after the other. first, last: (2 A,) where each half begins
    and ends among them. start: (2 A,) the number of the place where it begins. left: (2 A,) the cell to its left; C is
    the outside. lengths: (A,).
    """

    cells: NDArray[np.object_]
    points: Points
    first: AnyArray
    last: AnyArray
    start: AnyArray
    left: AnyArray
    lengths: NDArray[np.float64]

    @property
    def beside(self) -> AnyArray:
        """(2, A) the cells to the left and to the right of each arc."""
        return self.left.reshape(2, -1)

    def borders(self, is_drawn: Flags, is_marked: Flags) -> list[Border]:
        """The drawn ones of the arcs (A,), joined where no third one meets two that are both marked, or both not."""
        paths = self._paths(is_drawn, is_marked)
        if not paths:
            return []
        halves, sizes = np.concatenate(paths), [len(path) for path in paths]
        tail = np.cumsum(sizes) - 1
        head = tail - sizes + 1
        is_tail = np.zeros(len(halves), bool)
        is_tail[tail] = True
        index, counts = _trails(self.first[halves], self.last[halves], is_tail)
        lines = consecutive(self.points[index], np.diff(np.cumsum(counts)[tail], prepend=0).tolist())
        begin, back = halves[head], _reversed(halves[tail], len(self.left))
        starts, stops = self.start[begin].tolist(), self.start[back].tolist()
        left, right = self.left[begin].tolist(), self.left[_reversed(begin, len(self.left))].tolist()
        marked = is_marked[begin % len(is_marked)].tolist()
        return list(map(Border, lines, starts, stops, left, right, marked))

    def _paths(self, is_drawn: Flags, is_marked: Flags) -> list[list[int]]:
        """The halves that each of the borders follows."""
        arcs, starts, marked = len(is_drawn), self.start.tolist(), is_marked.tolist()
        pending = dict.fromkeys(np.flatnonzero(is_drawn).tolist())
        leaving: dict[int, list[int]] = {}
        for arc in pending:
            leaving.setdefault(starts[arc], []).append(arc)
            leaving.setdefault(starts[arc + arcs], []).append(arc + arcs)

        def extend(path: list[int]) -> None:
            back = _reversed(path[-1], 2 * arcs)
            while len(meeting := leaving[starts[back]]) == 2:
                following = meeting[meeting[0] == back]
                arc = following % arcs
                if arc not in pending or marked[arc] != marked[back % arcs]:
                    break
                del pending[arc]
                path.append(following)
                back = _reversed(following, 2 * arcs)

        paths = []
        while pending:
            path = [pending.popitem()[0]]
            for _ in range(2):  # onwards from both ends
                extend(path)
                path = [_reversed(half, 2 * arcs) for half in reversed(path)]
            paths.append(path)
        return paths


def draw(lines: Sequence[shapely.Geometry]) -> Drawing:
    """Lays lines into one drawing: where they cross they are cut."""
    arcs = shapely.get_parts(shapely.unary_union(lines))
    points = shapely.get_coordinates(arcs)
    end = np.cumsum(shapely.get_num_coordinates(arcs)) - 1
    begin = np.append(0, end[:-1] + 1)
    first, last = np.append(begin, end), np.append(end, begin)
    at = points.view(complex).ravel()
    start = np.unique(at[first], return_inverse=True)[1]
    # Rings through the same points of a mesh part by less than doubles can tell in an angle.
    x, y = (points[np.append(begin + 1, end - 1)].astype(np.longdouble) - points[first]).T
    halves, cycle = _cycles(_following(start, np.arctan2(y, x)))
    swept = ((at[:-1] - at[0]).conj() * np.diff(at)).imag / 2
    swept[end[:-1]] = 0  # between arcs
    swept = np.add.reduceat(swept, begin)
    area = np.bincount(cycle, np.append(swept, -swept)[halves]).astype(np.float64)
    index, counts = _trails(first[halves], last[halves])
    cells, cell = _cells(points[index], np.repeat(cycle, counts), area)
    left = np.empty(len(halves), int)
    left[halves] = cell[cycle]
    return Drawing(cells, points, first, last, start, left, shapely.length(arcs))


def _cells(points: Points, cycle: AnyArray, area: NDArray[np.float64]) -> tuple[NDArray[np.object_], AnyArray]:
    """The cells that cycles of points bound, and the cell to the left of each cycle.

    points, cycle: (N, 2) and (N,) the points, one cycle after the other, and the cycle of each. area: of the cycles.
    Of all that hangs together the cycle around it has a negative area: it is a hole in a cell, or in the outside.
    """
    is_ring = np.bincount(cycle) > 2  # the others run back and forth on one line
    is_shell = (area > -_ROUNDING)[is_ring]
    kept = is_ring[cycle]
    rings = shapely.linearrings(points[kept], indices=(np.cumsum(is_ring) - 1)[cycle[kept]])
    shells, holes = rings[is_shell], rings[~is_shell]
    cells = shapely.polygons(shells)
    around = _smallest_around(cells, area[is_ring][is_shell], holes)
    for number in np.unique(around[around < len(cells)]):
        cells[number] = shapely.polygons(shells[number], holes[around == number])
    inside = np.empty(len(rings), int)
    inside[is_shell], inside[~is_shell] = np.arange(len(cells)), around
    cell = np.full(len(area), len(cells))
    cell[is_ring] = inside
    return cells, cell


def _smallest_around(cells: NDArray[np.object_], areas: NDArray[np.float64], rings: NDArray[np.object_]) -> AnyArray:
    """The smallest cell in which each ring lies; the outside's number where it lies in none."""
    ring, cell = shapely.STRtree(cells).query(shapely.get_point(rings, 0), predicate="within")
    order = np.argsort(-areas[cell], kind="stable")
    found = np.full(len(rings), len(cells))
    found[ring[order]] = cell[order]  # of several, the last one stays
    return found


def _following(start: AnyArray, direction: NDArray[np.longdouble]) -> AnyArray:
    """For each half the one that leads on around the cell to its left: where it ends, the next to the right."""
    order = np.lexsort((direction, start))
    count = np.bincount(start)
    head = np.cumsum(count) - count
    clockwise = np.empty_like(order)
    clockwise[order] = np.roll(order, 1)
    clockwise[order[head]] = order[head + count - 1]
    return np.roll(clockwise, len(order) // 2)


def _cycles(following: AnyArray) -> tuple[AnyArray, AnyArray]:
    """All halves in the order in which they follow one another, and the number of each one's cycle."""
    onwards = following.tolist()
    number = [-1] * len(onwards)
    order: list[int] = []
    cycles = 0
    for half in range(len(onwards)):
        if number[half] < 0:
            while number[half] < 0:
                number[half] = cycles
                order.append(half)
                half = onwards[half]
            cycles += 1
    return np.array(order), np.array(number)[order]


def _reversed(half: Half, halves: int) -> Half:
    """The other half of the same arc."""
    return (half + halves // 2) % halves


def _trails(first: AnyArray, last: AnyArray, with_last: Flags | Literal[0] = 0) -> tuple[AnyArray, AnyArray]:
    """The points from each first to each last one, which itself counts where asked; and how many that are."""
    way = last - first
    counts = np.abs(way) + with_last
    offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(first, counts) + np.repeat(np.sign(way), counts) * offset, counts
