"""The borders of a label map as lines: each border between two parts once, so that neighbours share it."""

from __future__ import annotations

import cv2
import numpy as np

from contour_geometry import Points, consecutive
from service.errors import InvalidValueError
from utils import AnyArray, GrayImage

MOST_EDGES = 60_000
"""Pixel edges between parts: a face of 900 pixels has 7,000. More is noise, and would take seconds."""
MOST_OF_A_SPECK = 16
"""Edges around a handful of pixels, which are no part of anything."""
_PASSES = 4  # of a (1, 2, 1) / 4 filter along a border: a Gaussian of 1.4 edges evens out the pixels' stairs
_WRAP = 2 * _PASSES  # points of a closed border that are repeated, so that its ends are evened out as well
_STRIDE = 4  # every so many points are kept


def shared_borders(parts: GrayImage) -> list[Points]:
    """Lines (N, 2) between unlike values of `parts` (HxW uint8), in its pixels; closed ones end where they begin.

    Lines end only where three values meet or at the picture's border, outside of which all is 0. They follow the edges
    between pixels, smoothed along the line by about one pixel.

    Raises:
        InvalidValueError: more edges than a face can have.
    """
    padded = cv2.copyMakeBorder(parts, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    first, last, corners = _edges(padded)
    if len(first) > MOST_EDGES:
        raise InvalidValueError(
            "segmentation_map: its classes are scattered over single pixels, as in noise or a JPEG. Send the parser's "
            "own map as a PNG."
        )
    if len(first) == 0:
        return []
    lines, rings = _chains(first, last)
    kept = []
    for ring in rings:
        if len(ring) > MOST_OF_A_SPECK:
            kept.append(ring)
        else:
            _fill_speck(parts, corners[0][ring % len(first)])
    return _smoothed(lines, kept, corners)


def _edges(padded: GrayImage) -> tuple[AnyArray, AnyArray, Points]:
    """Edges between unlike pixels: the corners (N,) where each begins and ends, and their places (2, N, 2).

    `padded` has a border of one pixel. The corner at a pixel's upper left has that pixel's index. Where two values meet
    as on a chessboard, one of them is taken as connected: the edges from above and from the left end in a corner of
    their own, with a number beyond the pixels'.
    """
    size, width = padded.size, padded.shape[1]
    rows, columns = np.divmod(np.flatnonzero(padded[:, 1:] != padded[:, :-1]), width - 1)
    tops = rows * width + columns + 1
    lefts = np.flatnonzero(padded[1:] != padded[:-1]) + width
    first, last = np.concatenate([tops, lefts]), np.concatenate([tops + width, lefts + 1])
    flat = padded.ravel()
    here = last.clip(width + 1, size - 1)
    north_west, north, west = (flat[here - offset] for offset in (width + 1, width, 1))
    chessboard = (north_west == flat[here]) & (north == west) & (north != flat[here])
    rows, columns = np.divmod(np.stack([first, last]), width)
    last[chessboard] = size + np.unique(last[chessboard], return_inverse=True)[1]
    return first, last, np.stack([columns, rows], axis=-1) - 1.0


def _chains(first: AnyArray, last: AnyArray) -> tuple[list[AnyArray], list[AnyArray]]:
    """The edges joined to lines, which end where more than two meet, and to rings.

    Each is an array of edges in order; n + number is an edge that is passed from its last corner to its first.
    """
    n = len(first)
    corners, edges = np.concatenate([first, last]), np.tile(np.arange(n), 2)
    # Numbers from 0 for the corners that occur: the largest is the number of a pixel.
    number = np.empty(corners.max() + 1, np.intp)
    number[corners] = np.arange(2 * n)
    corners = number[corners]
    degree, pair = np.bincount(corners, minlength=2 * n), np.bincount(corners, edges, minlength=2 * n)
    ends = np.roll(corners, n)  # where each direction of an edge leads
    is_node = degree > 2
    partner = np.where(is_node[ends], 0, pair[ends].astype(np.intp) - edges)
    following = np.where(is_node[ends], -1, partner + n * (corners[partner] != ends))
    step = following.tolist()  # a loop over some thousand edges: a list is several times faster than an array
    pending = np.ones(n, bool)

    def follow(start: int) -> AnyArray:
        chain, edge = [start], step[start]
        while edge >= 0 and edge != start:
            chain.append(edge)
            edge = step[edge]
        found = np.array(chain)
        pending[found % n] = False
        return found

    starts = np.flatnonzero(is_node[corners]).tolist()  # first -> last leaves from a corner's `first`
    lines = [follow(edge) for edge in starts if pending[edge % n]]
    rings = []
    while pending.any():
        rings.append(follow(int(pending.argmax())))
    return lines, rings


def _fill_speck(parts: GrayImage, ring: Points) -> None:
    """Gives the few pixels inside a ring of corners the value around them."""
    columns, rows = ring.astype(int).T
    top = int(np.lexsort((columns, rows))[0])
    inner = parts[rows[top], columns[top]]
    around = parts[rows[top] - 1, columns[top]] if rows[top] else np.uint8(0)
    box = parts[rows.min() : rows.max(), columns.min() : columns.max()]
    box[box == inner] = around


def _smoothed(lines: list[AnyArray], rings: list[AnyArray], corners: Points) -> list[Points]:
    """Chains of edges as thinned lines through their middles, with the pixels' stairs evened out.

    corners: (2, n, 2) where each edge begins and ends.
    """
    middles = np.tile(corners.mean(axis=0), (2, 1))
    froms = np.concatenate(corners)
    tos = np.concatenate(corners[::-1])
    pieces = [np.concatenate([froms[line[:1]], middles[line], tos[line[-1:]]]) for line in lines]
    pieces += [middles[ring.take(np.arange(-_WRAP, len(ring) + _WRAP), mode="wrap")] for ring in rings]
    if not pieces:
        return []
    ends = np.cumsum([len(piece) for piece in pieces])
    smooth = np.concatenate(pieces)
    fixed = np.concatenate([[0], ends[:-1], ends - 1])
    held = smooth[fixed]
    for _ in range(_PASSES):
        smooth[1:-1] = (smooth[:-2] + 2 * smooth[1:-1] + smooth[2:]) / 4
        smooth[fixed] = held
    pieces = consecutive(smooth, [len(piece) for piece in pieces])
    thinned = [np.concatenate([piece[:-1:_STRIDE], piece[-1:]]) for piece in pieces[: len(lines)]]
    for piece in pieces[len(lines) :]:
        ring = piece[_WRAP:-_WRAP:_STRIDE]
        thinned.append(np.concatenate([ring, ring[:1]]))
    return thinned
