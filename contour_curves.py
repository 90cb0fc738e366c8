"""Lines as cubic Bezier curves: few nodes, smooth where a line is, cornered where it bends or where lines meet.

Schneider, "An algorithm for automatically fitting digitized curves", Graphics Gems, 1990, for all lines at once: every
step is one array operation over all pieces of all lines. Points are complex numbers x + iy inside this module: a
product with a conjugate has the dot product as its real part, and one array holds both coordinates.
"""

from __future__ import annotations

import cmath
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from contour_geometry import Points, bernstein, consecutive
from utils import AnyArray

Curve: TypeAlias = NDArray[np.float64]
"""(S, 4, 2): the control points of S cubic pieces, each of which begins where the one before ends."""
Complex: TypeAlias = NDArray[np.complex128]
Reals: TypeAlias = NDArray[np.float64]

_CORNER = np.radians(50)  # a line that bends by more within two reaches has a corner there
_EXPECTED = np.radians(30)  # the same where a corner is expected
_HINT = 1.5  # reaches around such a place
_THROUGH = np.radians(35)  # lines that meet at a smaller bend pass smoothly into each other
_STEEPEST = 0.3  # cosine of tangent and chord: a piece that bends more is split, whatever its error
# The integral of (x dy - y dx) / 2 along a cubic, by its control points.
_GREEN = np.array([[0, 6, 3, 1], [-6, 0, 3, 3], [-3, -3, 0, 6], [-1, -3, -6, 0]]) / 20
_FLATNESS = 0.1
_FIRST_PIECE = 14  # points: longer stretches would be halved in any case
_ROUNDS = 12


def fit_curves(lines: Sequence[Points], sharp: Points, *, tolerance: float, reach: float) -> list[Curve]:
    """A curve for each line (N, 2), N >= 2, that stays within `tolerance` of its points.

    Lines that end in the same point are one drawing: where two of them pass through it without a bend, so do their
    curves. `reach` is the length over which a line's direction is judged, longer than its noise; both are in the
    points' unit. `sharp` (K, 2) are places near which lines are known to have a corner, however the noise rounds it.
    """
    if not lines:
        return []
    points = np.concatenate(lines).view(complex).ravel()
    first, last = _bounds([len(line) for line in lines])
    starts, stops = points[first].tolist(), points[last].tolist()
    ends = Counter(starts + stops)
    ways = consecutive(points, (last - first + 1).tolist())
    for number, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        if start == stop and ends[start] == 2:  # where others meet it, a ring begins
            ways[number] = _from_sharpest(ways[number], reach)
    track = _Track.along(ways, sharp[:, 0] + 1j * sharp[:, 1], reach)
    corners = track.corners()
    begin, end = np.sort(np.append(track.first, corners)), np.sort(np.append(track.last, corners))
    leaving, arriving = track.end_directions(begin, end)
    _pass_through(track, begin, end, leaving, arriving)
    pieces, begins = _fit(track, begin, end, leaving, arriving, tolerance)
    order = np.argsort(begins, kind="stable")
    bounds = np.searchsorted(begins[order], np.append(track.first, len(track.points)))
    return consecutive(pieces[order].view(float).reshape(-1, 4, 2), np.diff(bounds).tolist())


def signed_areas(rings: Sequence[Curve]) -> Reals:
    """The areas inside closed curves, by Green's theorem: positive where they lie to the left, y upwards."""
    x, y = np.concatenate([np.empty((0, 4, 2)), *rings]).transpose(2, 0, 1)
    ring = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
    return np.bincount(ring, (x @ _GREEN * y).sum(axis=1), len(rings)).astype(np.float64)


def flatten(curve: Curve) -> Points:
    """A curve as a polyline (N, 2) within a tenth of a unit, nodes included."""
    # How far a cubic leaves its chord is bounded by its second differences: Wang, 1984.
    second = np.abs(np.diff(curve, 2, axis=1)).max(axis=(1, 2))
    counts = np.maximum(np.ceil(np.sqrt(0.75 * second / _FLATNESS)), 1).astype(int)
    piece = np.repeat(np.arange(len(curve)), counts)
    t = (np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)) / counts[piece]
    points = np.einsum("kn,nkd->nd", bernstein(t), curve[piece])
    return np.concatenate([points, curve[-1:, 3]])


@dataclass(frozen=True, slots=True)
class _Track:
    """All lines, one after the other.

    at: (N,) the way to each point along them, with a gap between lines. hints: (K,) places where corners are expected.
    """

    points: Complex
    at: Reals
    first: AnyArray
    last: AnyArray
    hints: Complex
    reach: float

    @classmethod
    def along(cls, ways: Sequence[Complex], hints: Complex, reach: float) -> _Track:
        first, last = _bounds([len(way) for way in ways])
        points = np.concatenate(ways)
        steps = np.append(0, np.abs(np.diff(points)))
        steps[first] = 4 * reach
        return cls(points, np.cumsum(steps), first, last, hints, reach)

    def is_sharp(self, index: AnyArray) -> NDArray[np.bool_]:
        """Whether a corner is expected at points."""
        near = np.abs(self.points[index, None] - self.hints) < _HINT * self.reach
        return np.asarray(near.any(axis=1))

    def place(self, at: Reals) -> Complex:
        """The points that far along."""
        return np.interp(at, self.at, self.points)

    def beside(self, begin: AnyArray, end: AnyArray) -> tuple[Reals, Complex, Complex]:
        """How the track runs at each of its points: an arm, the way over it to the point, and the way over it onwards.

        The arm is a reach, or what is left of the span, from one of `begin` to one of `end`, in which the point lies.
        """
        span = np.repeat(np.arange(len(begin)), np.diff(begin, append=len(self.points)))
        arm = np.minimum(np.minimum(self.at - self.at[begin][span], self.at[end][span] - self.at), self.reach)
        return arm, self.points - self.place(self.at - arm), self.place(self.at + arm) - self.points

    def corners(self) -> AnyArray:
        """The points inside lines at which they bend sharply."""
        arm, before, after = self.beside(self.first, self.last)
        bend = _bend(before, after)
        bend[arm < self.reach / 2] = 0
        bent = np.flatnonzero(bend > _EXPECTED)
        bent = bent[(bend[bent] > _CORNER) | self.is_sharp(bent)]
        bent = bent[np.argsort(-bend[bent], kind="stable")]
        found: dict[int, float] = {}
        for index, at in zip(bent.tolist(), self.at[bent].tolist(), strict=True):
            if all(abs(at - other) > self.reach for other in found.values()):
                found[index] = at
        return np.array(sorted(found), int)

    def end_directions(self, begin: AnyArray, end: AnyArray) -> tuple[Complex, Complex]:
        """Unit vectors into each span from its begin and from its end: there the tangents of a parabola."""
        arm = np.minimum(self.at[end] - self.at[begin], self.reach)
        directions = []
        for index, sign in ((begin, 1), (end, -1)):
            at = self.at[index]
            near, far = self.place(at + sign * arm / 2), self.place(at + sign * arm)
            directions.append(_unit(4 * near - far - 3 * self.points[index]))
        return directions[0], directions[1]

    def inner_directions(self, begin: AnyArray, end: AnyArray) -> Complex:
        """Unit vectors along the track at each of its points that lies inside a span."""
        _, before, after = self.beside(begin, end)
        return _unit(before + after)


def _bounds(sizes: Sequence[int]) -> tuple[AnyArray, AnyArray]:
    """Where each of several lines begins and ends among the points of all."""
    after = np.cumsum(sizes)
    return after - sizes, after - 1


def _from_sharpest(ring: Complex, reach: float) -> Complex:
    """The same closed line, begun where it bends most."""
    n = len(ring) - 1
    thrice = _Track.along([np.concatenate([ring[:-1], ring[:-1], ring])], np.empty(0, complex), reach)
    at = thrice.at[n : 2 * n]
    here = ring[:-1]
    start = int(_bend(here - thrice.place(at - reach), thrice.place(at + reach) - here).argmax())
    return np.concatenate([ring[start:-1], ring[: start + 1]])


def _bend(before: Complex, after: Complex) -> Reals:
    """Angles in radians, 0..pi, between directions."""
    return np.abs(np.angle(after * before.conj()))


def _unit(vectors: Complex) -> Complex:
    return vectors / np.maximum(np.abs(vectors), 1e-12)


def _pass_through(track: _Track, begin: AnyArray, end: AnyArray, leaving: Complex, arriving: Complex) -> None:
    """Gives lines that pass through a common end without a bend a common tangent; changes both arrays of directions."""
    ends = np.append(track.first, track.last)
    is_end = np.zeros(len(track.points), bool)
    is_end[ends] = ~track.is_sharp(ends)
    meeting: dict[complex, list[tuple[complex, Complex, int]]] = {}
    for index, directions in ((begin, leaving), (end, arriving)):
        numbers = np.flatnonzero(is_end[index])
        places, ways = track.points[index[numbers]].tolist(), directions[numbers].tolist()
        for number, place, way in zip(numbers.tolist(), places, ways, strict=True):
            meeting.setdefault(place, []).append((way, directions, number))
    for met in meeting.values():
        while len(met) > 1:
            pairs = combinations(range(len(met)), 2)
            # The bend of a line that arrives against the first direction and leaves along the second.
            bend, one, other = min((abs(cmath.phase(-met[j][0] * met[i][0].conjugate())), i, j) for i, j in pairs)
            if bend > _THROUGH:
                break
            (a, into, i), (b, out, j) = met[one], met[other]
            into[i], out[j] = (a - b) / abs(a - b), (b - a) / abs(b - a)
            del met[other], met[one]


def _fit(
    track: _Track, begin: AnyArray, end: AnyArray, leaving: Complex, arriving: Complex, tolerance: float
) -> tuple[Complex, AnyArray]:
    """Pieces (S, 4) in no order, and the point at which each begins. What does not fit is split, and tried again."""
    direction = track.inner_directions(begin, end)
    parts = -(-(end - begin) // _FIRST_PIECE)
    span = np.repeat(np.arange(len(begin)), parts)
    number = np.arange(len(span)) - (np.cumsum(parts) - parts)[span]
    begin = begin[span] + (end - begin)[span] * number // parts[span]
    is_last = number == parts[span] - 1
    end = np.where(is_last, end[span], np.roll(begin, -1))
    leaving = np.where(number == 0, leaving[span], direction[begin])
    arriving = np.where(is_last, arriving[span], -direction[end])
    done, starts = [], []
    for round_number in range(_ROUNDS):
        control, worst, error = _fit_pieces(track, begin, end, leaving, arriving)
        chord = control[:, 3] - control[:, 0]
        along = np.minimum((leaving * chord.conj()).real, -(arriving * chord.conj()).real)
        bent = along < _STEEPEST * np.abs(chord)
        keep = (~bent & (error <= tolerance)) | (end - begin < 3) | (round_number == _ROUNDS - 1)
        done.append(control[keep])
        starts.append(begin[keep])
        again = np.flatnonzero(~keep)
        if not len(again):
            break
        begin, end, leaving, arriving = begin[again], end[again], leaving[again], arriving[again]
        middle = np.searchsorted(track.at, (track.at[begin] + track.at[end]) / 2)
        cut = np.clip(np.where(bent[again], middle, worst[again]), begin + 1, end - 1)
        begin, end = np.append(begin, cut), np.append(cut, end)
        leaving, arriving = np.append(leaving, direction[cut]), np.append(-direction[cut], arriving)
    return np.concatenate(done), np.concatenate(starts)


def _fit_pieces(
    track: _Track, begin: AnyArray, end: AnyArray, leaving: Complex, arriving: Complex
) -> tuple[Complex, AnyArray, Reals]:
    """The nearest cubic piece for each stretch of points: control points (S, 4), the farthest point, and how far."""
    # A column for each stretch, filled up with its last point: that lies on the curve and so changes nothing.
    index = np.minimum(begin + np.arange((end - begin).max() + 1)[:, None], end)
    start, stop = track.points[begin], track.points[end]
    chord = stop - start
    way, length = track.at[index] - track.at[begin], np.maximum(track.at[end] - track.at[begin], 1e-9)
    on, t = track.points[index] - start, way / length
    inner, offset = _least_squares(on, t, chord, leaving, arriving, length)
    t = _nearer(t, offset, inner, chord)
    (out, back), offset = _least_squares(on, t, chord, leaving, arriving, length)
    distance = np.abs(offset)
    control = np.stack([start, start + out, start + back, stop], axis=1)
    return control, begin + distance.argmax(axis=0), distance.max(axis=0)


def _least_squares(
    on: Complex, t: Reals, chord: Complex, leaving: Complex, arriving: Complex, length: Reals
) -> tuple[tuple[Complex, Complex], Complex]:
    """Schneider's two unknowns of each piece: how far its inner control points lie along its end tangents.

    on, t: (N, S) points of pieces from their starts, and parameters. Returns the inner control points, from the starts,
    and the way from each of `on` to the curve at `t`.
    """
    s = 1 - t
    b1, b2 = 3 * t * s * s, 3 * t * t * s
    rest = on - (b2 + t * t * t) * chord
    c11, c22, c12, r1, r2 = (
        (one * two).sum(axis=0) for one, two in ((b1, b1), (b2, b2), (b1, b2), (b1, rest), (b2, rest))
    )
    c12 = c12 * (leaving * arriving.conj()).real
    x1, x2 = (r1 * leaving.conj()).real, (r2 * arriving.conj()).real
    determinant = c11 * c22 - c12 * c12
    singular = np.abs(determinant) < 1e-9
    determinant[singular] = 1
    alpha, beta = (x1 * c22 - x2 * c12) / determinant, (c11 * x2 - c12 * x1) / determinant
    # Beyond these the curve would run back or loop: a third of the way, as on a straight line, serves then.
    wild = singular | (np.minimum(alpha, beta) < 0.05 * length) | (np.maximum(alpha, beta) > length)
    alpha[wild] = beta[wild] = length[wild] / 3
    out, back = alpha * leaving, beta * arriving
    return (out, chord + back), b1 * out + b2 * back - rest


def _nearer(t: Reals, offset: Complex, inner: tuple[Complex, Complex], chord: Complex) -> Reals:
    """One Gauss-Newton step of each parameter to where its curve is nearest to its point, which lies `offset` away."""
    s = 1 - t
    out, back = inner
    velocity = 3 * (out * (s * s) + (back - out) * (2 * s * t) + (chord - back) * (t * t))
    step = (offset * velocity.conj()).real / np.maximum((velocity * velocity.conj()).real, 1e-9)
    return np.clip(t - np.clip(step, -0.1, 0.1), 0, 1)
