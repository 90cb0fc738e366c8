"""Drawn garments, whose anchors are known: what is cut out, recognised and measured."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from garment_anchors import Garment, GarmentType, measure
from garment_cutout import cut_out
from service.errors import GarmentSegmentationError
from tests import drawn_garments as drawn
from utils import RGBImage

TOPS = ("tshirt", "longsleeve", "tank", "jacket", "dress")


def prepared(image: RGBImage, garment_type: GarmentType = "auto") -> Garment:
    return measure(*cut_out(image), garment_type)


def shift(image: RGBImage) -> tuple[int, int]:
    """Where the crop's origin lies in the drawing."""
    mask = (np.abs(image.astype(int) - image[0, 0].astype(int)).max(axis=2) > 12).astype(np.uint8)
    x, y, width, height = cv2.boundingRect(mask)
    margin = round(0.06 * max(width, height))
    return x - margin, y - margin


@pytest.mark.parametrize("name", TOPS)
def test_anchors_of_tops_are_found(name: str) -> None:
    image = drawn.top(name)
    garment, (dx, dy) = prepared(image), shift(image)
    error = {
        anchor: float(np.hypot(*(garment.at(anchor) - np.subtract(truth, (dx, dy)))))
        for anchor, truth in drawn.top_anchors(name).items()
    }
    assert max(error.values()) < 0.035 * drawn.HEIGHT, error


@pytest.mark.parametrize("name", TOPS)
def test_mask_is_the_drawn_outline(name: str) -> None:
    image = drawn.top(name)
    _, mask = cut_out(image)
    dx, dy = shift(image)
    truth = np.zeros_like(mask)
    inside = drawn.top_mask(name)[max(dy, 0) : dy + mask.shape[0], max(dx, 0) : dx + mask.shape[1]]
    truth[max(-dy, 0) : max(-dy, 0) + inside.shape[0], max(-dx, 0) : max(-dx, 0) + inside.shape[1]] = inside
    union = ((mask > 127) | (truth > 127)).sum()
    assert ((mask > 127) & (truth > 127)).sum() / union > 0.97


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (drawn.top("tshirt"), "tshirt"),
        (drawn.top("longsleeve"), "longsleeve"),
        (drawn.top("tank"), "tshirt"),
        (drawn.top("dress"), "dress"),
        (drawn.trousers("pants"), "pants"),
        (drawn.trousers("shorts"), "shorts"),
        (drawn.skirt(), "skirt"),
    ],
    ids=["tshirt", "longsleeve", "tank", "dress", "pants", "shorts", "skirt"],
)
def test_type_is_recognised(image: RGBImage, expected: str) -> None:
    assert prepared(image).garment_type == expected


@pytest.mark.parametrize(("name", "limbs"), [("tshirt", 2), ("longsleeve", 2), ("tank", 0), ("dress", 0)])
def test_sleeves_are_parts_of_their_own(name: str, limbs: int) -> None:
    garment = prepared(drawn.top(name))
    assert len(garment.limbs) == limbs
    together = np.maximum.reduce(list(garment.parts.values()))
    assert ((together > 0) == (garment.alpha > 0)).mean() > 0.99
    if limbs:
        left, right = garment.limbs["left"], garment.limbs["right"]
        assert abs(left.length - right.length) < 0.06 * left.length


def test_crotch_parts_the_legs() -> None:
    image = drawn.trousers("pants")
    garment, (dx, dy) = prepared(image), shift(image)
    assert np.hypot(*(garment.at("crotch") - np.subtract(drawn.CROTCH, (dx, dy)))) < 0.04 * drawn.HEIGHT
    assert set(garment.parts) == {"body", "left", "right"}


def test_a_print_of_the_backgrounds_colour_stays_in_the_garment() -> None:
    image = drawn.top("tshirt")
    cv2.circle(image, (300, 330), 50, (245, 245, 245), -1)
    _, mask = cut_out(image)
    dx, dy = shift(image)
    assert mask[330 - dy, 300 - dx] == 255


def test_transparency_is_trusted() -> None:
    image, alpha = drawn.top("tshirt", ground=120), drawn.top_mask("tshirt")
    image[alpha == 0] = np.random.default_rng(0).integers(0, 255, (int((alpha == 0).sum()), 3))
    _, mask = cut_out(image, alpha)
    assert abs(int((mask > 0).sum()) - int((alpha > 127).sum())) < 0.02 * (alpha > 127).sum()


def noise() -> RGBImage:
    return np.random.default_rng(0).integers(0, 255, (400, 300, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        noise(),
        np.full((400, 300, 3), 200, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        cv2.resize(drawn.top("tshirt"), (60, 80)),
        drawn.top("tshirt") // 100 + 245,
    ],
    ids=["noise", "empty", "one pixel", "tiny", "white on white"],
)
def test_what_cannot_be_cut_out_is_refused(image: RGBImage) -> None:
    with pytest.raises(GarmentSegmentationError):
        prepared(image.astype(np.uint8))


def test_trousers_without_a_gap_are_refused() -> None:
    with pytest.raises(GarmentSegmentationError, match="legs"):
        prepared(drawn.skirt(), "pants")


def test_one_sleeve_is_refused() -> None:
    image = drawn.top("longsleeve")
    image[:, 416:] = 245
    with pytest.raises(GarmentSegmentationError, match="one sleeve"):
        prepared(image, "longsleeve")


def test_long_sleeves_that_lie_on_the_trunk_are_refused() -> None:
    with pytest.raises(GarmentSegmentationError, match="No sleeves"):
        prepared(drawn.top("tank"), "longsleeve")


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_a_collars_band_stays_before_the_neck(scale: float) -> None:
    """A yellow band around a neck opening through which a darker inner back is seen."""
    image = drawn.top("tshirt")
    dx = np.arange(-50, 51, 2)
    front = np.stack([300 + dx, 90 + 34 * (1 - (dx / 50) ** 2)], axis=1)
    cv2.fillPoly(image, [np.round(front).astype(np.int32)], (245, 245, 245))
    band = np.concatenate([np.add(front, (0, 8)), np.subtract(front[::-1], (0, 2))])
    cv2.fillPoly(image, [np.round(np.concatenate([front, [[350, 88], [250, 88]]])).astype(np.int32)], (40, 60, 90))
    cv2.fillPoly(image, [np.round(band).astype(np.int32)], (230, 190, 60))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    garment, (x, y) = prepared(image), shift(image)
    column = round(300 * scale) - x
    assert garment.inside[round(105 * scale) - y, column] > 200, "the inner back"
    assert garment.inside[round(128 * scale) - y, column] < 60, "the band"
