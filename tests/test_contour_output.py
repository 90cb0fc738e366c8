"""The files: SVG that parsers and browsers read, JSON and PNG that agree with it."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import shapely
from PIL import Image

from contour_output import (
    SVG_NAMESPACE,
    ContourStyle,
    canvas_photo,
    coverage,
    json_document,
    mask_indices,
    mask_palette,
    overlay,
    svg_document,
)
from contour_regions import MAP_ONLY, REGIONS
from contour_svg import ContourOptions, FaceContours, facial_contours
from service.errors import InvalidValueError
from service.image_io import encode_label_map
from tests.contour_faces import PHOTO, label_map, mesh

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
STYLE = ContourStyle()
FACTS = {"generator": "test & <co>", "source_sha256": "0" * 64}
SIZE = 512


@pytest.fixture(scope="module")
def contours() -> FaceContours:
    points = mesh(roll=20)
    return facial_contours(points, PHOTO, label_map(points), ContourOptions(size=SIZE))


@pytest.fixture(scope="module")
def svg(contours: FaceContours) -> bytes:
    return svg_document(contours, STYLE, FACTS)


def tag(name: str) -> str:
    return f"{{{SVG_NAMESPACE}}}{name}"


def test_the_svg_has_one_path_with_a_stable_id_for_each_region(contours: FaceContours, svg: bytes) -> None:
    root = ET.fromstring(svg)
    assert root.tag == tag("svg")
    assert root.attrib["viewBox"] == f"0 0 {SIZE} {SIZE}"
    assert {"title", "desc", "metadata", "g"} == {child.tag.split("}")[1] for child in root}
    group = root.find(tag("g"))
    assert group is not None
    assert group.attrib["fill-rule"] == "evenodd"
    paths = list(group)
    assert [path.attrib["id"] for path in paths] == [region.id for region in contours.regions if region.rings]
    for path in paths:
        assert path.tag == tag("path")
        assert re.fullmatch(r"(M[\d.]+ [\d.]+([LC][\d. ]+)+Z?)+", path.attrib["d"])
        assert path.attrib["data-label"] == REGIONS[path.attrib["id"]]
        assert all(len(number.partition(".")[2]) <= 2 for number in re.findall(r"[\d.]+", path.attrib["d"]))


def test_the_svg_names_itself_and_tells_how_it_was_made(svg: bytes) -> None:
    root = ET.fromstring(svg)
    labels = root.attrib["aria-labelledby"].split()
    assert [root.find(tag(name)).attrib["id"] for name in ("title", "desc")] == labels  # type: ignore[union-attr]
    metadata = json.loads(root.findtext(tag("metadata")) or "")
    assert metadata["generator"] == FACTS["generator"]
    assert metadata["transform"]["roll_deg"] == pytest.approx(20, abs=0.5)
    assert np.shape(metadata["transform"]["canvas_to_source"]) == (2, 3)


def test_the_svg_runs_nothing_and_loads_nothing(svg: bytes) -> None:
    text = svg.decode().lower()
    assert not re.search(r"<script|<style|<image|<use|<foreignobject|href|\bon[a-z]+=|url\(|<!", text)
    assert re.findall(r"https?://[^\"]+", text) == [SVG_NAMESPACE]


def test_the_same_contours_give_the_same_bytes(contours: FaceContours, svg: bytes) -> None:
    points = mesh(roll=20)
    again = facial_contours(points, PHOTO, label_map(points), ContourOptions(size=SIZE))
    assert svg_document(again, STYLE, FACTS) == svg
    assert json.dumps(json_document(again, FACTS)) == json.dumps(json_document(contours, FACTS))
    assert (mask_indices(again) == mask_indices(contours)).all()


def test_json_has_the_svgs_regions_as_polygons(contours: FaceContours, svg: bytes) -> None:
    document = json.loads(json.dumps(json_document(contours, FACTS)))
    paths = {path.attrib["id"]: path.attrib["d"] for path in ET.fromstring(svg).iter(tag("path"))}
    assert [region["id"] for region in document["regions"]] == list(REGIONS)
    for region in document["regions"]:
        assert region["path"] == paths.get(region["id"])
        if not region["available"]:
            assert region["id"] in MAP_ONLY
            assert region["reason"]
        elif region["id"] == "jawline":
            assert region["length"] > 0
            assert region["lines"]
        else:
            area = shapely.MultiPolygon([(each["exterior"], each["holes"]) for each in region["polygons"]])
            assert area.is_valid
            assert area.area == pytest.approx(region["area"], rel=0.01)
            assert region["holes"] == sum(len(each["holes"]) for each in region["polygons"])
            x1, y1, x2, y2 = region["bbox"]
            assert x1 <= region["centroid"][0] <= x2
            assert y1 <= region["centroid"][1] <= y2
    brief = json_document(contours, FACTS, polygons=False)["regions"][0]
    assert "polygons" not in brief
    assert brief["area"] == document["regions"][0]["area"]


def test_coverage_is_the_share_of_each_pixel(contours: FaceContours) -> None:
    for region in contours.regions:
        if region.rings and not region.is_line:
            shares = [share for _, share in coverage(region, (SIZE, SIZE))]
            assert sum(share.sum() for share in shares) == pytest.approx(region.area, rel=0.01), region.id
            assert all(0 <= share.min() <= share.max() <= 1 for share in shares)


def test_the_mask_holds_each_regions_number(contours: FaceContours) -> None:
    mask = mask_indices(contours)
    numbers = {name: number for number, name in enumerate(REGIONS, start=1)}
    for name in ("eye_left", "nose", "hair", "lip_upper", "under_eye_right"):
        region = next(each for each in contours.regions if each.id == name)
        point = region.geometry.representative_point()
        assert mask[int(point.y), int(point.x)] == numbers[name], name
        assert (mask == numbers[name]).sum() == pytest.approx(region.area, rel=0.1, abs=40), name
    with Image.open(io.BytesIO(encode_label_map(mask, mask_palette()))) as image:
        assert image.mode == "P"
        assert image.info["transparency"] == 0
        assert (np.asarray(image) == mask).all()


def test_a_whole_is_left_out_of_the_mask_only_where_its_parts_are_in() -> None:
    points = mesh()
    number = list(REGIONS).index("lips") + 1
    for regions, shown in ((("lips", "lip_upper", "lip_lower"), False), (("lips", "nose"), True)):
        found = facial_contours(points, PHOTO, None, ContourOptions(regions=regions, size=SIZE))
        assert (mask_indices(found) == number).any() == shown


def test_the_photo_lies_under_its_contours() -> None:
    points = mesh(roll=-25)
    photo = np.full((PHOTO[1], PHOTO[0], 3), 200, np.uint8)
    x, y = points[1]  # the nose's tip
    photo[int(y) - 4 : int(y) + 4, int(x) - 4 : int(x) + 4] = (255, 0, 0)
    found = facial_contours(points, PHOTO, None, ContourOptions(size=SIZE))
    placed, alpha = canvas_photo(photo, found.alignment)
    red = np.argwhere((placed[..., 0] > 230) & (placed[..., 1] < 60)).mean(axis=0)[::-1] + 0.5
    tip = found.alignment.matrix[:, :2] @ np.array([int(x), int(y)]) + found.alignment.matrix[:, 2]
    assert red == pytest.approx(tip, abs=0.6)
    assert set(np.unique(alpha[[0, -1]])) & {0, 255}
    painted = overlay(placed, found, STYLE)
    nose = next(region for region in found.regions if region.id == "nose").geometry
    changed = (painted != placed).any(axis=2)
    middle = nose.representative_point()
    assert changed[int(middle.y), int(middle.x)]
    assert not changed[:4].any()


@pytest.mark.parametrize(
    "style",
    [ContourStyle(fill="red"), ContourStyle(stroke="#12345"), ContourStyle(fill="#12345g"),
     ContourStyle(fill='"><script>'), ContourStyle(fill_opacity=2), ContourStyle(stroke_width=float("nan"))],
)  # fmt: skip
def test_styles_that_could_break_out_are_refused(contours: FaceContours, style: ContourStyle) -> None:
    with pytest.raises(InvalidValueError):
        svg_document(contours, style, FACTS)
    with pytest.raises(InvalidValueError):
        overlay(np.zeros((SIZE, SIZE, 3), np.uint8), contours, style)


@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: apt-get install chromium to see the SVG rendered by a browser"
)
def test_a_browser_draws_what_the_mask_shows(contours: FaceContours, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    style = ContourStyle(fill="#000000", fill_opacity=1, stroke="none")
    for name in ("face_mask", "hair", "lips"):
        region = next(each for each in contours.regions if each.id == name)
        one = FaceContours(
            (region,), contours.alignment, contours.pose, contours.face_px, contours.scheme, contours.warnings
        )
        (tmp_path / "contour.svg").write_bytes(svg_document(one, style, FACTS))
        subprocess.run(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
             "--disable-dev-shm-usage", "--force-device-scale-factor=1",
             f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={SIZE},{SIZE}",
             f"--screenshot={tmp_path / 'shot.png'}", f"file://{tmp_path / 'contour.svg'}"],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        with Image.open(tmp_path / "shot.png") as shot:
            drawn = np.asarray(shot.convert("L"))[:SIZE, :SIZE] < 128
        ours = np.zeros(drawn.shape, bool)
        for window, share in coverage(region, drawn.shape):
            ours[window] = share >= 0.5
        assert (drawn & ours).sum() / (drawn | ours).sum() > 0.99, name
