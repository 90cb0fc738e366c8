"""Regions of a face: which there are, where they lie, and how they meet."""

from __future__ import annotations

import ast
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import shapely
from PIL import Image

from contour_geometry import Points, apply
from contour_regions import MAP_ONLY, REGIONS, Region
from contour_svg import ContourOptions, FaceContours, facial_contours
from face_geometry import LEFT_EYE, mirrored_index
from service.errors import InvalidValueError
from tests.contour_faces import PHOTO, label_map, mesh
from utils import GrayImage

SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data")) / "contour"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"real inputs are not in {SHARED}")
WHOLE = ContourOptions(autorotate=False, crop=False)
"""Contours in the photo's own pixels."""


def contours(points: Points, labels: GrayImage | None = None, options: ContourOptions = WHOLE) -> FaceContours:
    return facial_contours(points, PHOTO, labels, options)


def regions(found: FaceContours) -> dict[str, Region]:
    return {region.id: region for region in found.regions}


def centre(region: Region) -> Points:
    return np.array(region.geometry.centroid.coords[0])


# ---- which regions there are -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("iris", [True, False], ids=["478 points", "468 points"])
def test_landmarks_alone_give_every_region_but_those_of_a_map(iris: bool) -> None:
    found = regions(contours(mesh(iris=iris)))
    assert list(found) == list(REGIONS)
    for name, region in found.items():
        assert bool(region.rings) == (name not in MAP_ONLY), name
        assert (region.reason is None) == bool(region.rings)
        assert region.source == ("landmarks" if region.rings else None)


def test_a_map_adds_what_it_has_classes_for_and_names_what_it_has_not() -> None:
    points = mesh()
    hair = regions(contours(points, label_map(points, "parsing11")))
    assert hair["hair"].source == "map"
    assert hair["nose"].source == "map"
    assert hair["cheek_left"].source == "both"
    assert "parsing11" in str(hair["neck"].reason)
    assert regions(contours(points, label_map(points)))["neck"].reason == "The label map shows none."


def test_only_asked_regions_are_returned_and_are_the_same_as_among_all() -> None:
    points = mesh()
    every = regions(contours(points, label_map(points)))
    some = regions(contours(points, label_map(points), ContourOptions(("nose", "hair"), autorotate=False, crop=False)))
    assert list(some) == ["nose", "hair"]
    for name, region in some.items():
        assert all((a == b).all() for a, b in zip(region.rings, every[name].rings, strict=True))


def test_a_closed_mouth_has_no_opening_and_lips_that_touch() -> None:
    found = regions(contours(mesh(mouth=0)))
    assert found["mouth_inner"].reason == "The mouth is closed."
    assert found["lip_upper"].geometry.distance(found["lip_lower"].geometry) == 0
    assert found["lips"].area == pytest.approx(found["lip_upper"].area + found["lip_lower"].area, rel=1e-3)


# ---- sides -----------------------------------------------------------------------------------------------------------


def test_sides_are_the_subjects_own_whatever_the_maps_classes_say() -> None:
    points = mesh()
    right = regions(contours(points, label_map(points)))
    swapped = regions(contours(points, label_map(points, swap=True)))
    one_class = label_map(points)
    one_class[np.isin(one_class, [3, 5])] -= 1
    for found in (right, swapped, regions(contours(points, one_class))):
        for pair in ("eye", "brow", "cheek", "under_eye"):
            assert centre(found[f"{pair}_right"])[0] < PHOTO[0] / 2 < centre(found[f"{pair}_left"])[0]
        assert found["eye_right"].area == pytest.approx(right["eye_right"].area, rel=1e-6)


def test_brows_that_meet_are_parted_between_the_eyes() -> None:
    points = mesh()
    labels = label_map(points)
    y = int(points[9, 1])
    labels[y : y + 8, int(points[107, 0]) : int(points[336, 0])] = 2
    found = regions(contours(points, labels))
    areas = [found[f"brow_{side}"].area for side in ("right", "left")]
    assert areas[0] == pytest.approx(areas[1], rel=0.1)
    assert found["brow_right"].geometry.bounds[2] == pytest.approx(PHOTO[0] / 2, abs=3)


# ---- borders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped", [False, True], ids=["landmarks", "map"])
def test_parts_fill_their_whole_without_gap_or_overlap(mapped: bool) -> None:
    points = mesh(roll=17)
    found = regions(contours(points, label_map(points) if mapped else None))
    inner = ("lip_upper", "lip_lower", "mouth_inner")
    assert sum(found[name].area for name in inner) == pytest.approx(found["lips"].area, rel=1e-3)
    features = ("eye_right", "eye_left", "brow_right", "brow_left", "lips")
    parts = sum(found[name].area for name in (*features, "face_mask"))
    assert parts == pytest.approx(found["face_oval"].area, rel=1e-4)
    assert [len(polygon.interiors) for polygon in shapely.get_parts(found["face_mask"].geometry)] == [len(features)]


def nodes_of(region: Region) -> set[tuple[float, ...]]:
    return {tuple(piece.ravel().tolist()) for ring in region.rings for piece in ring}


@pytest.mark.parametrize(
    ("one", "other"),
    [("lip_upper", "lip_lower"), ("under_eye_right", "eye_right"), ("under_eye_left", "cheek_left"),
     ("forehead", "brow_left"), ("forehead", "hair"), ("t_zone", "nose"), ("face_mask", "hair"), ("chin", "face_oval")],
)  # fmt: skip
def test_neighbours_share_the_very_same_curves(one: str, other: str) -> None:
    points = mesh()
    found = regions(contours(points, label_map(points)))
    curves, others = nodes_of(found[one]), nodes_of(found[other])
    backwards = {tuple(np.reshape(curve, (4, 2))[::-1].ravel().tolist()) for curve in others}
    assert curves & (others | backwards)
    overlap = found[one].geometry.intersection(found[other].geometry).area
    allowed = found["nose"].area if one == "t_zone" else found["chin"].area if one == "chin" else 0
    assert overlap == pytest.approx(allowed, abs=0.02 * min(found[one].area, found[other].area) + 1)


def test_the_forehead_ends_at_the_hairline_of_the_map() -> None:
    points = mesh()
    hairline = points[[33, 263], 1].mean() - 8 * 20  # pixels per centimetre
    labels = label_map(points, hairline_cm=8)
    found = regions(contours(points, labels))
    assert found["forehead"].geometry.bounds[1] == pytest.approx(hairline, abs=2)
    assert found["face_oval"].geometry.bounds[1] == pytest.approx(hairline, abs=2)
    assert found["forehead"].geometry.intersection(found["hair"].geometry).area < 5
    without = regions(contours(points))
    assert without["forehead"].geometry.bounds[1] == pytest.approx(points[10, 1], abs=2)


def test_ears_that_a_map_calls_skin_are_no_part_of_the_face() -> None:
    points = mesh()
    labels = label_map(points, "parsing11")
    ear = slice(int(points[234, 1]) - 30, int(points[234, 1]) + 40)
    labels[ear, int(points[234, 0]) - 40 : int(points[234, 0])] = 1
    face = regions(contours(points, labels))["face_oval"].geometry
    assert face.bounds[0] > points[234, 0] - 8


def bends(region: Region) -> list[float]:
    """Degrees by which a closed curve bends at each of its nodes."""
    found = []
    for ring in region.rings:
        for piece, following in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            a, b = piece[3] - piece[2], following[1] - following[0]
            found.append(abs(float(np.degrees(np.arctan2(a[0] * b[1] - a[1] * b[0], a @ b)))))
    return found


@pytest.mark.parametrize("mapped", [False, True], ids=["landmarks", "map"])
def test_lids_and_lips_have_their_corners_and_skin_has_none(mapped: bool) -> None:
    points = mesh()
    found = regions(contours(points, label_map(points) if mapped else None))
    assert sorted(bends(found["lips"]))[-2] > 50
    for name in ("eye_right", "eye_left"):
        # In a map of this size a lid's corner may be two nodes of one pixel.
        assert sorted(bends(found[name]))[-1 if mapped else -2] > 50, name
    for name in ("cheek_right", "cheek_left"):
        corners = [bend for bend in bends(found[name]) if bend > 20]
        assert len(corners) <= 2, name  # where the cheek meets the area under the eye
    if not mapped:  # the painted hair has square corners
        assert max(bends(found["face_oval"])) < 15


@pytest.mark.parametrize("yaw", [-30, -20, -10, 0, 10, 20, 30])
@pytest.mark.parametrize("mapped", [False, True], ids=["landmarks", "map"])
def test_the_jawline_is_one_line_from_ear_to_ear(yaw: float, mapped: bool) -> None:
    points = mesh(yaw=yaw, pitch=10)
    (line,) = regions(contours(points, label_map(points) if mapped else None))["jawline"].rings
    assert line[0, 0, 0] > PHOTO[0] / 2 > line[-1, 3, 0]  # the face lies to its left, y upwards


def test_smoothing_trades_nodes_for_detail() -> None:
    points = mesh()
    labels = label_map(points)
    nodes = [
        sum(region.nodes for region in contours(points, labels, ContourOptions(smoothing=value)).regions)
        for value in (0, 0.5, 1)
    ]
    assert nodes[0] > 1.5 * nodes[1] > 2 * nodes[2]


# ---- maps of another size or resolution ------------------------------------------------------------------------------


def test_a_smaller_map_is_scaled_to_the_photo() -> None:
    points = mesh()
    full, small = (regions(contours(points, label_map(points, size=size))) for size in (PHOTO, (416, 468)))
    for name in ("eye_left", "nose", "lips", "face_oval", "hair"):
        one, other = full[name].geometry, small[name].geometry
        assert one.intersection(other).area / one.union(other).area > 0.9, name


def test_an_enlarged_maps_stairs_are_not_followed() -> None:
    points = mesh()
    labels = label_map(points, size=(320, 360))
    enlarged = np.repeat(np.repeat(labels, 4, axis=0), 4, axis=1)
    plain, stairs = (regions(contours(points, each)) for each in (labels, enlarged))
    for name in ("eye_left", "nose", "face_oval"):
        assert stairs[name].nodes <= 1.2 * plain[name].nodes, name


def test_a_map_of_other_proportions_is_stretched_and_said_to_be() -> None:
    points = mesh()
    labels = label_map(points, size=(640, 600))
    assert any("proportions" in warning for warning in contours(points, labels).warnings)


def test_the_scheme_is_told_from_the_landmarks() -> None:
    points = mesh()
    labels = label_map(points, "parsing11")
    labels[labels == 10] = 0  # now all numbers fit both schemes
    assert contours(points, labels).scheme == "parsing11"
    bare = label_map(points)
    bare[bare > 10] = 1
    assert contours(points, bare).scheme == "celebamask19"


def test_features_that_a_map_hides_come_from_the_landmarks() -> None:
    points = mesh()
    labels = label_map(points)
    labels[np.isin(labels, [4, 5])] = 6  # behind glasses
    found = regions(contours(points, labels))
    assert found["eye_left"].source == "landmarks"
    assert found["glasses"].area > 0
    assert found["nose"].source == "map"


# ---- the canvas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("roll", [-170, -90, -30, 0, 22, 100, 180])
def test_a_tilted_face_stands_upright_in_the_crop(roll: float) -> None:
    points = mesh(roll=roll)
    found = contours(points, label_map(points), ContourOptions(size=512))
    alignment = found.alignment
    assert (alignment.width, alignment.height, alignment.space) == (512, 512, "crop")
    placed = regions(found)
    eyes = [centre(placed[f"eye_{side}"]) for side in ("right", "left")]
    assert eyes[0][0] < eyes[1][0]
    assert eyes[0][1] == pytest.approx(eyes[1][1], abs=1.5)
    assert centre(placed["chin"])[1] > eyes[0][1]
    assert (alignment.roll_deg - roll) % 360 == pytest.approx(0, abs=0.5) or (roll - alignment.roll_deg) % 360 < 0.5


def test_matrix_and_inverse_undo_each_other_and_place_the_landmarks() -> None:
    points = mesh(roll=30)
    found = contours(points, None, ContourOptions(size=512))
    alignment = found.alignment
    assert apply(alignment.inverse, apply(alignment.matrix, points)) == pytest.approx(points)
    upright = regions(contours(points, None, WHOLE))["nose"]
    assert apply(alignment.matrix, centre(upright)) == pytest.approx(centre(regions(found)["nose"]), abs=0.05)


def test_the_same_face_gives_the_same_regions_at_any_tilt() -> None:
    upright, tilted = (regions(contours(mesh(roll=roll), None, ContourOptions())) for roll in (0, 67))
    for name in set(REGIONS) - set(MAP_ONLY):
        one, other = upright[name], tilted[name]
        assert centre(one) == pytest.approx(centre(other), abs=1.5), name
        assert one.area == pytest.approx(other.area, rel=0.01)


def test_without_crop_the_canvas_holds_the_whole_photo() -> None:
    turned = contours(mesh(roll=30), None, ContourOptions(crop=False)).alignment
    corners = apply(turned.matrix, np.array([[0, 0], [PHOTO[0], 0], [0, PHOTO[1]], PHOTO], float))
    assert turned.space == "rotated"
    assert corners.min() >= -0.5
    assert (corners.max(axis=0) <= [turned.width + 0.5, turned.height + 0.5]).all()
    assert turned.scale == pytest.approx(1)


def test_regions_end_at_the_photos_border() -> None:
    points = mesh(centre=np.array([120.0, 400.0]))
    found = regions(contours(points, label_map(points)))
    assert min(region.geometry.bounds[0] for region in found.values() if region.rings) >= 0
    assert found["face_oval"].geometry.bounds[0] == 0


@pytest.mark.parametrize("yaw", [-70, -45, 45, 70])
@pytest.mark.parametrize("mapped", [False, True])
def test_turned_heads_give_valid_regions_and_a_warning(yaw: float, mapped: bool) -> None:
    points = mesh(yaw=yaw)
    found = contours(points, label_map(points) if mapped else None, ContourOptions())
    assert found.pose.yaw == pytest.approx(yaw, abs=5)
    assert not found.is_frontal
    assert any("turned" in warning for warning in found.warnings)
    for region in found.regions:
        if region.rings:
            assert region.geometry.is_valid
            assert not region.geometry.is_empty
    near = "right" if yaw > 0 else "left"
    assert regions(found)[f"cheek_{near}"].area > 0


# ---- what is refused -------------------------------------------------------------------------------------------------


def bad_landmarks() -> dict[str, tuple[Any, str]]:
    points = mesh()
    one_line = np.stack([np.linspace(100, 500, 478), np.linspace(200, 400, 478)], axis=1)
    with_nan, giant = points.copy(), points.copy()
    with_nan[7, 0], giant[7, 0] = np.nan, 1e30
    flipped = points.copy()
    flipped[:, 0] = PHOTO[0] - flipped[:, 0]
    rng = np.random.default_rng(0)
    return {
        "fewer": (points[:400], "400 points"),
        "more": (np.concatenate([points, points]), "956 points"),
        "five": (points[:5], "5 points"),
        "not a number": (with_nan, "finite"),
        "infinite": (points * np.inf, "finite"),
        "giant": (giant, "outside the photo"),
        "collinear": (one_line, "one line"),
        "one point": (np.full((478, 2), 300.0), "smaller than"),
        "outside": (points + 5000, "outside the photo"),
        "negative": (-points, "outside the photo"),
        "half outside": (mesh(centre=np.array([-30.0, 400.0])), "outside the photo"),
        "mirrored": (flipped, "mirrored"),
        "scattered": (rng.uniform(50, 600, (478, 2)), "order"),
        "shuffled": (rng.permutation(points), "order"),
        "tiny": (mesh(px_per_cm=0.3), "smaller than"),
    }


@pytest.mark.parametrize("name", list(bad_landmarks()))
def test_landmarks_that_are_no_face_are_refused_with_the_reason(name: str) -> None:
    points, reason = bad_landmarks()[name]
    with pytest.raises(InvalidValueError, match=reason):
        contours(points)


def test_a_mirrored_mesh_with_swapped_sides_is_a_face() -> None:
    """A photo flipped together with landmarks found in it anew is a normal photo."""
    points = mesh(yaw=20)
    flipped = points.copy()
    flipped[:468] = flipped[:468][mirrored_index()]
    flipped[468:] = flipped[[473, 474, 475, 476, 477, 468, 469, 470, 471, 472]]
    flipped[:, 0] = PHOTO[0] - flipped[:, 0]
    assert contours(flipped).pose.yaw == pytest.approx(-20, abs=5)


def test_fractions_of_the_photo_are_taken_as_such() -> None:
    points = mesh()
    pixels, fractions = regions(contours(points)), regions(contours(points / PHOTO))
    assert centre(fractions["nose"]) == pytest.approx(centre(pixels["nose"]), abs=0.02)


def bad_maps() -> dict[str, tuple[GrayImage, str]]:
    points = mesh()
    painted = label_map(points)
    unknown, elsewhere = painted.copy(), np.roll(painted, 300, axis=1)
    unknown[:40, :40], unknown[:5, :5] = 23, 200
    other_order = painted.copy()
    for old, new in ((10, 2), (2, 6), (3, 7), (12, 11), (11, 10), (13, 12), (17, 13)):
        other_order[painted == old] = new  # CelebAMask-HQ's own
    noise = np.random.default_rng(0).integers(0, 19, (600, 600)).astype(np.uint8)
    return {
        "unknown classes": (unknown, r"23, 200"),
        "all background": (np.zeros((600, 600), np.uint8), "background"),
        "one pixel": (np.ones((1, 1), np.uint8), "too few"),
        "another face": (elsewhere, "does not lie where"),
        "another order": (other_order, "class order"),
        "noise": (noise, "scattered|does not lie|not where"),
        "all skin": (np.ones((600, 600), np.uint8), "does not lie where"),
    }


@pytest.mark.parametrize("name", list(bad_maps()))
def test_maps_that_do_not_fit_are_refused_with_the_reason(name: str) -> None:
    labels, reason = bad_maps()[name]
    with pytest.raises(InvalidValueError, match=reason):
        contours(mesh(), labels)


def test_a_mesh_of_few_places_is_drawn_or_refused_with_a_sentence() -> None:
    cell, rng = 48, np.random.default_rng(48)
    for _ in range(100):
        points = mesh(px_per_cm=rng.uniform(0.4, 4), centre=rng.uniform(100, 500, 2), roll=rng.uniform(-90, 90))
        with suppress(InvalidValueError):
            contours(np.round(points / cell) * cell, None, ContourOptions())


def test_a_map_that_shows_nothing_where_the_crop_looks_is_refused() -> None:
    points = mesh(centre=np.array([450.0, 500.0]), px_per_cm=12)
    elsewhere = np.zeros(PHOTO[::-1], np.uint8)
    elsewhere[:3, :3] = 1
    with pytest.raises(InvalidValueError, match="does not lie where"):
        contours(points, elsewhere, ContourOptions())


def test_a_feature_without_area_is_refused_beside_a_map_and_left_out_without_one() -> None:
    points = mesh()
    labels = label_map(points)
    points[list(LEFT_EYE)] = points[33]
    with pytest.raises(InvalidValueError, match="has no area"):
        contours(points, labels)
    assert regions(contours(points))["eye_right"].reason


def test_eyes_in_one_place_break_nothing() -> None:
    points = mesh()
    points[263] = points[33]
    assert regions(contours(points))["nose"].area > 0


def test_a_scheme_that_is_asked_for_is_not_guessed_around() -> None:
    points = mesh()
    with pytest.raises(InvalidValueError, match=r"parsing11 do not have: 11, 12, 13, 17"):
        contours(points, label_map(points), ContourOptions(label_scheme="parsing11"))


@pytest.mark.parametrize(
    "options",
    [ContourOptions(regions=("nose", "nostril")), ContourOptions(regions=()), ContourOptions(size=5000),
     ContourOptions(smoothing=float("nan"))],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: ContourOptions) -> None:
    with pytest.raises(InvalidValueError):
        contours(mesh(), None, options)


@pytest.mark.parametrize("seed", range(12))
def test_rough_input_never_breaks_the_geometry(seed: int) -> None:
    """Jittered meshes and maps with specks and stripes: refused with a reason, or every region is whole."""
    rng = np.random.default_rng(seed)
    points = mesh(roll=rng.uniform(-180, 180), yaw=rng.uniform(-60, 60), pitch=rng.uniform(-30, 30))
    points += rng.normal(0, rng.choice([0.3, 2]), points.shape)
    labels = label_map(points)
    specks = rng.random(labels.shape) < 0.002
    labels[specks] = rng.integers(0, 19, specks.sum())
    labels[:, 300:310] = rng.integers(0, 19)
    try:
        found = contours(points, labels, ContourOptions(smoothing=float(rng.random())))
    except InvalidValueError:
        return
    for region in found.regions:
        for ring in region.rings:
            assert region.is_line or (ring[0, 0] == ring[-1, 3]).all()
            assert (ring[1:, 0] == ring[:-1, 3]).all()
        assert not region.rings or not region.geometry.is_empty


# ---- real input ------------------------------------------------------------------------------------------------------

KNOWN = {
    "nose": (6,), "lips": (7, 8, 9), "eye_right": (4, 5), "eye_left": (4, 5), "brow_right": (2, 3), "brow_left": (2, 3)
}  # fmt: skip
SIZE = 1024


def real_input() -> tuple[Points, tuple[int, int], GrayImage]:
    landmarks = ast.literal_eval((SHARED / "landmarks.txt").read_text())["landmarks"][0]
    with Image.open(SHARED / "original_image.png") as photo, Image.open(SHARED / "segmentation_map.png") as labels:
        return np.array([(point["x"], point["y"]) for point in landmarks]), photo.size, np.array(labels)


@needs_shared
def test_on_a_real_face_regions_match_the_rotated_map_with_few_nodes() -> None:
    points, size, labels = real_input()
    found = facial_contours(points, size, labels, ContourOptions(size=SIZE))
    # The map rotated into the crop: for the middle of each pixel the class that lies there.
    middles = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).reshape(-1, 2).astype(np.float64) + 0.5
    there = np.floor(apply(found.alignment.inverse, middles) / size * labels.shape[::-1]).astype(int)
    height, width = labels.shape
    inside = ((there >= 0) & (there < [width, height])).all(axis=1)
    rotated = np.zeros(SIZE * SIZE, np.uint8)
    rotated[inside] = labels[there[inside, 1], there[inside, 0]]
    placed = regions(found)
    for name, classes in KNOWN.items():
        region = placed[name]
        x1, y1, x2, y2 = region.geometry.buffer(6).bounds
        near = (middles > [x1, y1]).all(axis=1) & (middles < [x2, y2]).all(axis=1)
        ours = shapely.contains_xy(region.geometry, middles[near])
        theirs = np.isin(rotated[near], classes)
        assert (ours & theirs).sum() / (ours | theirs).sum() >= 0.97, name
        picture = np.zeros((SIZE, SIZE), np.uint8)
        picture.reshape(-1)[np.flatnonzero(near)[theirs]] = 1
        traced, _ = cv2.findContours(picture, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        # Even with the control points of its curves counted as well.
        assert 3 * region.nodes <= sum(map(len, traced)) / 2, name
        assert 5 * region.nodes <= sum(map(len, traced)), name


@needs_shared
def test_on_a_real_face_the_forehead_ends_at_the_hair() -> None:
    points, size, labels = real_input()
    found = facial_contours(points, size, labels, ContourOptions())
    placed = regions(found)
    assert found.scheme == "parsing11"
    assert found.alignment.roll_deg == pytest.approx(22.3, abs=0.5)
    assert placed["forehead"].geometry.intersection(placed["hair"].geometry).area < 10
    backwards = {tuple(np.reshape(curve, (4, 2))[::-1].ravel().tolist()) for curve in nodes_of(placed["hair"])}
    shared = [np.reshape(curve, (4, 2)) for curve in nodes_of(placed["forehead"]) & backwards]
    assert sum(np.linalg.norm(curve[3] - curve[0]) for curve in shared) > 500
