"""The elastic net against maps that are known."""

from __future__ import annotations

import numpy as np
import pytest

from body_fit import Fit
from garment_anchors import Garment, measure
from garment_cutout import cut_out
from garment_warp import Net, paint, solve
from tests import drawn_garments as drawn
from utils import FloatArray, as_float


@pytest.fixture(scope="module")
def shirt() -> Garment:
    return measure(*cut_out(drawn.top("tshirt")), "tshirt")


def turned(points: FloatArray) -> FloatArray:
    """A known similarity: half the size, 20 degrees, shifted."""
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return as_float(points @ turn.T * 0.5 + (260, 40))


def same_map(garment: Garment) -> Fit:
    handles = {name: turned(garment.at(name)[None])[0] for name in ("neck_left", "neck_right", "hem_left", "hem_right")}
    return Fit(dict.fromkeys(garment.parts, turned), handles, 0.5, {}, {})


def test_parts_that_agree_are_moved_exactly(shirt: Garment) -> None:
    nets = solve(shirt, same_map(shirt))
    assert set(nets) == {"body", "left", "right"}
    for net in nets.values():
        assert np.abs(net.target - turned(net.source)).max() < 0.01
        assert net.folded()[0] == 0


def test_painted_pixels_are_the_true_warp(shirt: Garment) -> None:
    net = solve(shirt, same_map(shirt))["body"]
    layer = paint(shirt, "body", net, (640, 620))
    y, x = np.nonzero(layer.alpha > 0.99)
    angle = np.radians(-20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    origin = (layer.window[1].start - 260, layer.window[0].start - 40)
    source = (np.stack([x, y], axis=1) + origin) @ turn.T / 0.5
    column, row = np.clip(np.round(source).astype(int), 0, np.array(shirt.alpha.shape[::-1]) - 1).T
    assert (shirt.alpha[row, column] > 0).mean() > 0.995
    inner = (layer.inside[y, x] < 0.01) & (
        np.abs(np.diff(shirt.rgb.astype(int), axis=0, prepend=0)).max(axis=2)[row, column] < 3
    )
    assert np.abs(layer.rgb[y, x].astype(int) - shirt.rgb[row, column])[inner].mean() < 6
    moved = np.abs(shirt.parts["body"]).sum() / 255 * 0.25
    assert abs(layer.alpha.sum() - moved) < 0.04 * moved


def test_seams_hold_where_parts_disagree(shirt: Garment) -> None:
    fit = same_map(shirt)
    fit.maps["left"] = lambda points: as_float(turned(points) + np.array([-30, 20]))
    nets = solve(shirt, fit)
    middle = (shirt.at("shoulder_left") + shirt.at("armpit_left")) / 2
    places = [net.target[((net.source - middle) ** 2).sum(axis=1).argmin()] for net in (nets["body"], nets["left"])]
    assert np.linalg.norm(places[0] - places[1]) < 8, "thirty-six pixels apart without the seam"
    assert sum(net.folded()[0] for net in nets.values()) == 0


def test_a_folded_net_is_measured() -> None:
    source = as_float(np.array([[0, 0], [10, 0], [0, 10], [10, 10]]))
    triangles, weight = np.array([[0, 1, 2], [1, 3, 2]]), np.ones(2, np.float32)
    assert Net(source, source, triangles, weight).folded() == (0.0, 2.0)
    assert Net(source, as_float(source * (-1, 1)), triangles, weight).folded() == (2.0, 2.0)


def test_nothing_is_painted_outside_the_picture(shirt: Garment) -> None:
    fit = same_map(shirt)
    net = solve(shirt, fit)["body"]
    away = Net(net.source, net.target + 5000, net.triangles, net.weight)
    assert paint(shirt, "body", away, (200, 200)).alpha.max() == 0
