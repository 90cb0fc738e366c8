"""The borders of a label map as lines: each border between two parts once, so that neighbours share it."""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csgraph, csr_array

from contour_geometry import Points
from service.errors import InvalidValueError
from utils import AnyArray, GrayImage

Complex: TypeAlias = NDArray[np.complex128]

MOST_EDGES = 60_000
"""Pixel edges between parts: a face of 900 pixels has 7,000. More is noise, and would take seconds."""
MOST_OF_A_SPECK = 16
"""Edges around a handful of pixels, which are no part of anything."""
_PASSES = 4  # of a (1, 2, 1) / 4 filter along a border: a Gaussian of 1.4 edges evens out the pixels' stairs
_STRIDE = 4  # every so many points are kept


def shared_borders(parts: GrayImage) -> tuple[Points, AnyArray]:
    """Lines between unlike values of `parts` (HxW uint8): points (N, 2) in its pixels, and the number of each's line.

    A border is one line for both its sides; a closed one ends where it begins. Lines end only where three values meet
    or at the picture's border, outside of which all is 0. They follow the edges between pixels, smoothed along the line
    by about one pixel. Specks have no line: they become what is around them, in `parts` as well.

    Raises:
        InvalidValueError: more edges than a face can have.
    """
    padded = cv2.copyMakeBorder(parts, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    corners, is_node, middles = _edges(padded)
    if len(middles) > MOST_EDGES:
        raise InvalidValueError(
            "segmentation_map: its classes are scattered over single pixels, as in noise or a JPEG. Send the parser's "
            "own map as a PNG."
        )
    if len(middles) == 0:
        return np.empty((0, 2)), np.empty(0, int)
    edges, sizes, lines = _chains(corners, is_node)
    first = np.cumsum(sizes) - sizes
    is_speck = (sizes <= MOST_OF_A_SPECK) & (np.arange(len(sizes)) >= lines)
    for begin, size in zip(first[is_speck].tolist(), sizes[is_speck].tolist(), strict=True):
        _fill_speck(parts, _places(corners[0, edges[begin : begin + size]], padded))
    ends = corners[[[0], [1]], edges[[first[:lines], first[:lines] + sizes[:lines] - 1]]]
    return _smoothed(middles[edges[np.repeat(~is_speck, sizes)]], sizes[~is_speck], _places(ends, padded))


def _edges(padded: GrayImage) -> tuple[AnyArray, NDArray[np.bool_], Complex]:
    """Edges between unlike pixels: the corners (2, N) where each begins and ends, which of them are nodes, and middles.

    The greater value lies on their left, so that the edges of a border follow one another. At a node more than two
    edges meet. `padded` has a border of one pixel. The corner at a pixel's upper left has that pixel's index. Where two
    values meet as on a chessboard, one of them is taken as connected: the edges above and to the left end in a corner
    of their own, with a number beyond the pixels'.
    """
    flat, width = padded.ravel(), padded.shape[1]
    down = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    right = np.flatnonzero(flat[width:] != flat[:-width]) + width
    size = len(down)
    corners = np.stack([np.append(down, right), np.append(down + width, right + 1)])
    middles = _places(corners[0], padded)
    middles[:size] += 0.5j
    middles[size:] += 0.5
    north_west, north, west, here = (flat[corners - offset] for offset in (width + 1, width, 1, 0))
    chessboard = (north_west == here) & (north == west)
    alike = (north_west == north).view(np.uint8) + (north == here) + (here == west) + (west == north_west)
    is_node = (alike < 2) & ~chessboard
    corners[1, chessboard[1]] += padded.size
    backwards = np.append(here[0, :size] < west[0, :size], here[0, size:] > north[0, size:])
    return np.where(backwards, corners[::-1], corners), np.where(backwards, is_node[::-1], is_node), middles


def _places(corners: AnyArray, padded: GrayImage) -> Complex:
    """Where corners lie, as x + iy in pixels of the map without its border."""
    pixels = corners - padded.size * (corners >= padded.size)
    rows = pixels // padded.shape[1]
    places = np.empty(corners.shape, complex)
    places.real, places.imag = pixels - rows * padded.shape[1] - 1, rows - 1
    return places


def _chains(corners: AnyArray, is_node: NDArray[np.bool_]) -> tuple[AnyArray, AnyArray, int]:
    """The edges in the order of chains: their numbers, the length of each chain, and how many chains are lines.

    Lines, which end in nodes, come first; the others are rings. corners, is_node: (2, N) of each edge's begin and end.
    """
    n = corners.shape[1]
    first, last = corners
    leaving = np.empty(corners.max() + 1, np.int32)
    leaving[first] = np.arange(n)
    following = np.where(is_node[1], -1, leaving[last])
    # A depth-first walk in compiled code. A ladder of nodes beside the edges leads it to where lines start, and then to
    # every edge: those that it has not passed yet begin a ring.
    lines = np.flatnonzero(is_node[0])
    starts = np.append(lines, np.arange(n))
    rungs = np.stack([starts, n + 1 + np.arange(len(starts))], axis=1).ravel()[:-1]
    steps = np.append(following[following >= 0], rungs).astype(np.int32)
    bounds = np.cumsum(np.concatenate([[0], following >= 0, np.full(len(starts), 2)]), dtype=np.int32)
    bounds[-1] -= 1
    graph = csr_array((np.ones(len(steps)), steps, bounds), (len(bounds) - 1, len(bounds) - 1))
    order, before = csgraph.depth_first_order(graph, n)
    edges = order[order < n]
    begins = np.flatnonzero(before[edges] >= n)
    return edges, np.diff(begins, append=n), len(lines)


def _fill_speck(parts: GrayImage, corners: Complex) -> None:
    """Gives the few pixels inside a ring of corners the value around them."""
    columns, rows = corners.real.astype(int), corners.imag.astype(int)
    top = int(np.lexsort((columns, rows))[0])
    inner = parts[rows[top], columns[top]]
    around = parts[rows[top] - 1, columns[top]] if rows[top] else np.uint8(0)
    box = parts[rows.min() : rows.max(), columns.min() : columns.max()]
    box[box == inner] = around


def _smoothed(middles: Complex, sizes: AnyArray, ends: Complex) -> tuple[Points, AnyArray]:
    """Chains as thinned lines through the middles of their edges, without the pixels' stairs; and each point's chain.

    middles: (N,) chain after chain. sizes: of the chains. ends: (2, L) of the first L chains; the others are rings.
    """
    # Each chain has a point more at both ends. Those of lines stay, those of rings continue them.
    lines = ends.shape[1]
    last = np.cumsum(sizes + 2) - 1
    first = last - sizes - 1
    chain = np.repeat(np.arange(len(sizes)), sizes + 2)
    at = np.arange(len(chain))
    points = np.empty(len(chain), complex)
    is_outer = np.zeros(len(chain), bool)
    is_outer[first] = is_outer[last] = True
    points[~is_outer] = middles
    # Sums of both coordinates at once: complex numbers are multiplied more slowly.
    plane = points.view(np.float64)

    def extend() -> None:
        points[first], points[last] = points[last - 1], points[first + 1]
        points[first[:lines]], points[last[:lines]] = ends

    extend()
    for _ in range(_PASSES):
        plane[2:-2] = (plane[:-4] + plane[4:]) / 4 + plane[2:-2] / 2
        extend()
    begin = first + (np.arange(len(sizes)) >= lines)
    kept = (at - begin[chain]) % _STRIDE == 0
    kept[last] = True
    return plane.reshape(-1, 2)[kept], chain[kept]
