"""A garment bent onto a body: one elastic net over all its parts, solved once, painted part by part.

Each part has a map of its own (`body_fit`). The net keeps every part's stretch and turn as its map wants it, and joins
the parts where they are sewn together: the discrete Poisson equation of Yu et al., "Mesh Editing with Poisson-Based
Gradient Field Manipulation", 2004, on a square grid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from body_fit import Fit
from face_geometry import grow
from garment_anchors import Garment, Part
from service.errors import WarpFailedError
from utils import AnyArray, FloatArray, GrayImage, RGBImage, Window, as_float

_CELLS = 34  # along the garment's longer side
_GRID_PX = 10  # pixels of a cell in which a mask is measured; more would only cost time
_SEAM = 6.0  # how firmly two parts hold together where they are sewn
_HANDLE = 4.0  # how firmly anchors are held
_STEP = 2  # photo pixels per pixel of the painted map


@dataclass(frozen=True, slots=True)
class Net:
    """One part's grid: vertices on the garment and on the photo (V, 2), and triangles (T, 3) of them.

    weight: (T,) how much of the garment's mask each triangle covers, 0..1.
    """

    source: FloatArray
    target: FloatArray
    triangles: AnyArray
    weight: FloatArray

    def folded(self) -> tuple[float, float]:
        """Covered area that is turned over, and all of it, in garment pixels."""
        a, b, c = (self.target[self.triangles[:, corner]] for corner in range(3))
        area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
        return float(self.weight[area <= 0].sum()), float(self.weight.sum())


@dataclass(frozen=True, slots=True)
class Layer:
    """A warped part in its window of a photo: HxWx3 colours, alpha and inner back (HxW, 0..1)."""

    window: Window
    rgb: RGBImage
    alpha: FloatArray
    inside: FloatArray

    def cut(self, window: Window) -> Layer:
        """The same part in a window of the photo that holds all of its own."""
        rows, columns = (
            slice(own.start - outer.start, own.stop - outer.start)
            for own, outer in zip(self.window, window, strict=True)
        )
        return replace(self, window=(rows, columns))


def united(layers: Iterable[Layer], shape: tuple[int, ...]) -> FloatArray:
    """HxW: the largest alpha of all layers at each pixel of a photo."""
    alpha = np.zeros(shape[:2], np.float32)
    for layer in layers:
        alpha[layer.window] = np.maximum(alpha[layer.window], layer.alpha)
    return alpha


def solve(garment: Garment, fit: Fit, *, stiffness: float = 0.02) -> dict[Part, Net]:
    """Bend the garment's net. `stiffness` holds each point at its own part's map; less lets the seams pull farther.

    Raises:
        WarpFailedError: the net has no solution.
    """
    height, width = garment.alpha.shape
    cell = max(height, width) / _CELLS
    columns, rows = int(np.ceil(width / cell)) + 1, int(np.ceil(height / cell)) + 1
    grids = {part: _Grid(garment.parts[part], cell, (rows, columns)) for part in fit.maps if garment.parts[part].any()}
    wanted = {part: fit.maps[part](grid.points) for part, grid in grids.items()}
    offsets = np.cumsum([0, *(len(grid.points) for grid in grids.values())])
    start = dict(zip(grids, offsets[:-1].tolist(), strict=True))
    equations = _Equations(int(offsets[-1]))
    scale = fit.scale
    for part, grid in grids.items():
        first, second = grid.edges.T + start[part]
        equations.differences(
            second, first, (wanted[part][grid.edges[:, 1]] - wanted[part][grid.edges[:, 0]]) / scale, 1.0
        )
        equations.positions(np.arange(len(grid.points)) + start[part], wanted[part] / scale, stiffness)
    for part, grid in grids.items():
        if part != "body":
            own, other = _sewn(grids["body"], grid, garment, part, cell)
            equations.differences(other + start[part], own + start["body"], np.zeros((len(own), 2)), _SEAM)
    for name, place in fit.handles.items():
        if name in garment.anchors:
            corners, shares = grids["body"].around(garment.at(name))
            if len(corners):
                equations.combination(corners + start["body"], shares, place / scale, _HANDLE)
    solution = equations.solve() * scale
    if not np.isfinite(solution).all():
        raise WarpFailedError("The garment can't be brought onto the person. Use another photo of the garment.")
    return {
        part: Net(grid.points, as_float(solution[start[part] : start[part] + len(grid.points)]), *grid.faces())
        for part, grid in grids.items()
    }


def paint(garment: Garment, part: Part, net: Net, shape: tuple[int, int]) -> Layer:
    """Carry one part's pixels to a photo of `shape` (height, width)."""
    left, top = np.clip(np.floor(net.target.min(axis=0)), 0, (shape[1] - 1, shape[0] - 1)).astype(int)
    right, bottom = np.clip(np.ceil(net.target.max(axis=0)) + 1, (left + 1, top + 1), shape[::-1]).astype(int)
    height, width = int(bottom - top), int(right - left)
    small = (-(-height // _STEP), -(-width // _STEP))
    place = _inverse_map(net, (left, top), small)
    covered = cv2.erode((place[..., 0] > -1e3).astype(np.uint8), np.ones((3, 3), np.uint8))
    size = (small[1] * _STEP, small[0] * _STEP)
    full = cv2.resize(place, size, interpolation=cv2.INTER_LINEAR)[:height, :width]
    inside_net = cv2.resize(covered, size, interpolation=cv2.INTER_NEAREST)[:height, :width]
    x, y = cv2.split(full)
    rgb = cv2.remap(garment.rgb, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    masks, corner = _soft(garment, part)
    x -= corner[0]
    y -= corner[1]
    carried = as_float(cv2.remap(masks, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0) / 255)
    window = (slice(int(top), int(bottom)), slice(int(left), int(right)))
    return Layer(window, rgb, as_float(carried[..., 0] * inside_net), np.ascontiguousarray(carried[..., 1]))


def _soft(garment: Garment, part: Part) -> tuple[GrayImage, tuple[int, int]]:
    """A part's mask with a soft outer edge, without the background's rim, overlapping its neighbour a little, and
    beside it the inner back: HxWx2 around the part, and the garment's pixel (x, y) at its upper left corner."""
    reach = 2.0 if part == "body" else 0.012 * max(garment.alpha.shape)
    margin = round(reach) + 4
    left, top, width, height = cv2.boundingRect(garment.parts[part])
    left, right, top, bottom = max(0, left - margin), left + width + margin, max(0, top - margin), top + height + margin
    around = np.s_[top:bottom, left:right]
    own = cv2.GaussianBlur(grow(garment.parts[part][around], reach), (0, 0), 1.0)
    inner = cv2.GaussianBlur(cv2.erode(garment.alpha[around], np.ones((3, 3), np.uint8)), (0, 0), 1.0)
    return np.dstack([np.minimum(own, inner), garment.inside[around]]), (left, top)


class _Grid:
    """The cells of a square grid that a mask touches, and one more ring of them."""

    def __init__(self, mask: GrayImage, cell: float, shape: tuple[int, int]) -> None:
        rows, columns = shape
        step = max(1, int(cell / _GRID_PX))
        scale = np.array([mask.shape[1] / (columns - 1), mask.shape[0] / (rows - 1)], np.float32)
        mask = np.ascontiguousarray(mask[::step, ::step])
        small = cv2.resize(mask, (columns - 1, rows - 1), interpolation=cv2.INTER_AREA)
        touched = cv2.resize(grow(mask, cell / step / 3), (columns - 1, rows - 1), interpolation=cv2.INTER_AREA) > 0
        used = cv2.dilate(touched.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        self._scale = scale
        corner = np.zeros(shape, bool)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            corner[dy : rows - 1 + dy, dx : columns - 1 + dx] |= used
        self.index = np.full(shape, -1, np.int64)
        self.index[corner] = np.arange(int(corner.sum()))
        y, x = np.nonzero(corner)
        self.points = as_float(np.stack([x, y], axis=1) * scale)
        self._cells = np.argwhere(used)
        self._weights = as_float(small[used]) / 255
        i, j = self._cells.T
        corners = self.index[i, j], self.index[i, j + 1], self.index[i + 1, j], self.index[i + 1, j + 1]
        self._corners = np.stack(corners, axis=1)
        a, b, c, d = corners
        pairs = np.concatenate([np.stack(pair, axis=1) for pair in ((a, b), (c, d), (a, c), (b, d), (a, d), (b, c))])
        codes = np.unique(np.minimum(*pairs.T) * len(self.points) + np.maximum(*pairs.T))
        self.edges = np.stack(np.divmod(codes, len(self.points)), axis=1)

    def around(self, point: FloatArray) -> tuple[AnyArray, AnyArray]:
        """The four vertices around a point and their bilinear shares; nothing outside the grid."""
        column, row = point / self._scale
        j, i = int(np.clip(column, 0, self.index.shape[1] - 2)), int(np.clip(row, 0, self.index.shape[0] - 2))
        u, v = float(column - j), float(row - i)
        corners = np.array([self.index[i, j], self.index[i, j + 1], self.index[i + 1, j], self.index[i + 1, j + 1]])
        if (corners < 0).any():
            return corners[:0], np.zeros(0)
        return corners, np.array([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v])

    def faces(self) -> tuple[AnyArray, FloatArray]:
        """Triangles (T, 3) and the share of the mask in each."""
        a, b, c, d = self._corners.T
        triangles = np.concatenate([np.stack([a, b, c], axis=1), np.stack([b, d, c], axis=1)])
        return triangles, np.concatenate([self._weights, self._weights])


def _sewn(body: _Grid, limb: _Grid, garment: Garment, part: Part, cell: float) -> tuple[AnyArray, AnyArray]:
    """Vertices that both parts have near their seam: indices in the body and in the limb."""
    both = (body.index >= 0) & (limb.index >= 0)
    own, other = body.index[both], limb.index[both]
    if garment.kind == "legs":
        root, crotch = garment.limbs[part].axis[0], garment.at("crotch")
        ends = np.stack([crotch, 2 * root - crotch])
    else:
        ends = np.stack([garment.at(f"shoulder_{part}"), garment.at(f"armpit_{part}")])
    direction = ends[1] - ends[0]
    share = np.clip(((body.points[own] - ends[0]) @ direction) / max(float(direction @ direction), 1e-6), 0, 1)
    distance = np.linalg.norm(body.points[own] - ends[0] - share[:, None] * direction, axis=1)
    near = distance < 1.3 * cell
    return own[near], other[near]


class _Equations:
    """Weighted least squares in x and y at once."""

    def __init__(self, unknowns: int) -> None:
        self.unknowns = unknowns
        self._rows: list[tuple[AnyArray, AnyArray, AnyArray]] = []
        self._right: list[AnyArray] = []
        self._count = 0

    def differences(self, plus: AnyArray, minus: AnyArray, wanted: AnyArray, weight: float) -> None:
        """weight * (x[plus] - x[minus]) = weight * wanted (N, 2)."""
        rows = np.arange(len(plus)) + self._count
        values = np.full(len(plus), weight)
        self._rows += [(rows, plus, values), (rows, minus, -values)]
        self._right.append(weight * wanted)
        self._count += len(plus)

    def positions(self, index: AnyArray, wanted: AnyArray, weight: float) -> None:
        """weight * x[index] = weight * wanted (N, 2)."""
        rows = np.arange(len(index)) + self._count
        self._rows.append((rows, index, np.full(len(index), weight)))
        self._right.append(weight * wanted)
        self._count += len(index)

    def combination(self, index: AnyArray, shares: AnyArray, wanted: AnyArray, weight: float) -> None:
        """weight * sum(shares * x[index]) = weight * wanted (2,)."""
        self._rows.append((np.full(len(index), self._count), index, weight * shares))
        self._right.append(weight * wanted[None])
        self._count += 1

    def solve(self) -> FloatArray:
        """(unknowns, 2)."""
        rows, columns, values = (np.concatenate(each) for each in zip(*self._rows, strict=True))
        matrix = sparse.csr_matrix((values, (rows, columns)), shape=(self._count, self.unknowns))
        right = np.concatenate(self._right).astype(np.float64)
        normal = sparse.csc_matrix(matrix.T @ matrix)
        return as_float(splu(normal).solve(matrix.T @ right))


def _inverse_map(net: Net, origin: tuple[int, int], shape: tuple[int, int]) -> FloatArray:
    """HxWx2: the garment pixel that belongs to each pixel of a reduced window; -1e4 where none does."""
    target = as_float((net.target - origin) / _STEP - (_STEP - 1) / (2 * _STEP))
    label = np.full(shape, -1, np.int32)
    corners = np.round(target[net.triangles] * 16).astype(np.int32)
    low, high = target[net.triangles].min(axis=1), target[net.triangles].max(axis=1)
    seen = np.flatnonzero((high > 0).all(axis=1) & (low < (shape[1], shape[0])).all(axis=1))
    order = seen[np.argsort(net.weight[seen], kind="stable")]
    for index in order:
        cv2.fillConvexPoly(label, corners[index], int(index), shift=4)
    affines = _affines(target[net.triangles], net.source[net.triangles])
    place = np.full((*shape, 2), -1e4, np.float32)
    inside = label >= 0
    y, x = np.nonzero(inside)
    matrix = affines[label[inside]]
    place[inside] = matrix[:, :, 0] * x[:, None] + matrix[:, :, 1] * y[:, None] + matrix[:, :, 2]
    return place


def _affines(target: FloatArray, source: FloatArray) -> FloatArray:
    """(T, 2, 3): from photo pixels to garment pixels in each triangle (T, 3, 2)."""
    homogeneous = np.concatenate([target, np.ones((*target.shape[:2], 1))], axis=2).astype(np.float64)
    homogeneous[np.abs(np.linalg.det(homogeneous)) < 1e-6] += np.eye(3) * 1e-3  # edge-on: covers no pixel anyway
    return as_float(np.swapaxes(np.linalg.solve(homogeneous, source.astype(np.float64)), 1, 2))
