"""One face measured: what is known, what isn't and why, on heads of known pose and on real photos."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage import data

from face_analysis import Expression, FaceAnalysis, Pose, analyze_face
from face_landmarks import FaceLandmarks, FaceMesh
from face_quality import Quality
from face_regions import longer_side
from facial_expression import LABELS, ExpressionModel
from tests.face_packs import write_expression_model
from tests.heads import SIZE, as_mesh, flattened, lit_sideways, painted, posed, relit, resized
from tests.test_facial_expression import speaking
from utils import FloatArray, RGBImage

SHARED = Path(os.environ.get("SHARED_DATA_DIR", Path(__file__).resolve().parents[2] / "shared" / "data"))
FRONTAL = [SHARED / "faces" / f"img{number}.jpg" for number in (5, 6, 17, 20, 22)]
TURNED = [SHARED / "faces" / f"img{number}.jpg" for number in (11, 16)] + [SHARED / "contour" / "face_1112.jpg"]


def box_of(points: FloatArray) -> FloatArray:
    return np.concatenate([points[:, :2].min(axis=0), points[:, :2].max(axis=0)]).astype(np.float32)


def analysis_of(points: FloatArray, image: RGBImage | None = None, **options: Any) -> FaceAnalysis:
    return analyze_face(painted(points) if image is None else image, as_mesh(points), box_of(points), **options)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every field by its dotted name; what is None is one leaf."""
    if is_dataclass(value):
        for field in fields(value):
            if field.name != "unavailable":
                yield from leaves(getattr(value, field.name), f"{name}.{field.name}".removeprefix("."))
    else:
        yield name, value


def assert_every_gap_has_a_reason(analysis: FaceAnalysis) -> None:
    gaps = {name for name, value in leaves(analysis) if value is None}
    assert gaps == set(analysis.unavailable)
    assert all(len(reason) > 20 and reason.endswith(".") for reason in analysis.unavailable.values())


# ---- pose


@pytest.mark.parametrize("distance_cm", [None, 100.0, 50.0, 30.0])
@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(0, 0, 0), (30, 0, 0), (-45, 10, 0), (15, -20, 25), (-20, 20, -60)])
def test_pose_of_a_turned_head_is_found_from_far_and_near(
    yaw: float, pitch: float, roll: float, distance_cm: float | None
) -> None:
    pose = analysis_of(posed(yaw, pitch, roll, distance_cm=distance_cm)).pose
    assert pose is not None
    # A near camera sees a nose that is larger than it should be, and a mesh has no camera.
    error = 0.1 if distance_cm is None else 60 / distance_cm
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((yaw, pitch, roll), abs=error)


def test_pose_signs_as_seen_in_the_image() -> None:
    straight, right, down, leaning = posed(), posed(yaw=20), posed(pitch=20), posed(roll=20)
    assert right[1, 0] > straight[1, 0]
    assert down[1, 1] > straight[1, 1]
    assert leaning[263, 1] > leaning[33, 1]
    for points, field in ((right, "yaw"), (down, "pitch"), (leaning, "roll")):
        assert getattr(analysis_of(points).pose, field) == pytest.approx(20, abs=0.1)


# ---- what can't be known


def test_a_frontal_face_lacks_only_what_a_model_would_say() -> None:
    found = analysis_of(posed())
    assert_every_gap_has_a_reason(found)
    assert set(found.unavailable) == {"expression.confidence", "expression.emotions", "expression.model"}


CASES: dict[str, tuple[Callable[[], FaceAnalysis], set[str], str]] = {
    "sideways": (lambda: analysis_of(posed(yaw=15)), {"symmetry_score", "geometry"}, "sideways by 15"),
    "up": (lambda: analysis_of(posed(pitch=-25)), {"geometry"}, "up or down by 25"),
    "profile": (
        lambda: analysis_of(posed(yaw=60)),
        {"symmetry_score", "geometry", "expression.smile", "expression.dominant", "expression.method"},
        "sideways by 60",
    ),
    "small": (
        lambda: analysis_of(posed(scale=1.5)),
        {"symmetry_score", "geometry", "expression.smile", "expression.dominant"},
        "pixels long",
    ),
    "cut off": (
        lambda: analysis_of(posed() - np.array([220, 0, 0], np.float32)),
        {"symmetry_score", "geometry", "expression.smile", "expression.dominant"},
        "cut off by the edge",
    ),
    "black": (lambda: analysis_of(posed(), relit(painted(posed()), 0.001)), {"skin_tone"}, "nearly black"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_known_is_none_with_its_reason(case: str) -> None:
    analyze, expected, reason = CASES[case]
    found = analyze()
    assert_every_gap_has_a_reason(found)
    assert expected <= set(found.unavailable)
    assert all(reason in found.unavailable[name] for name in expected)


@pytest.mark.parametrize("mesh", [None, as_mesh(posed(), presence=0.3)])
def test_without_a_mesh_only_the_sharpness_is_known(mesh: FaceMesh | None) -> None:
    found = analyze_face(painted(posed()), mesh, box_of(posed()))
    assert_every_gap_has_a_reason(found)
    assert found.quality.blur_score is not None
    assert {name for name, value in leaves(found) if value is not None} == {"quality.blur_score"}


@pytest.mark.parametrize(
    "image", [np.zeros((1, 1, 3), np.uint8), np.full((3, 900, 3), 255, np.uint8), painted(posed())[:, :260]]
)
@pytest.mark.parametrize(
    "points",
    [
        posed(),
        posed(scale=1e-3),
        posed(scale=300),
        posed() + np.array([5000, -5000, 0], np.float32),
        posed(yaw=120),
        np.zeros((468, 3), np.float32),
        np.random.default_rng(0).uniform(0, 2000, (468, 3)).astype(np.float32),
    ],
    ids=["usual", "tiny", "huge", "elsewhere", "backwards", "one point", "no face"],
)
@pytest.mark.parametrize("meshed", [True, False])
def test_no_mesh_and_no_picture_is_too_strange(image: RGBImage, points: FloatArray, meshed: bool) -> None:
    found = analyze_face(image, as_mesh(points) if meshed else None, box_of(points))
    assert_every_gap_has_a_reason(found)
    for name, value in leaves(found):
        assert not isinstance(value, float) or np.isfinite(value), name


def test_points_and_resolution_are_those_of_the_picture_before_it_was_reduced() -> None:
    full, half = posed(scale=24), posed(scale=12)
    found, reduced = analysis_of(full), analysis_of(half, scale=0.5)
    assert reduced.quality.resolution == pytest.approx(found.quality.resolution, abs=1e-3)
    assert found.landmarks_68 is not None
    assert reduced.landmarks_68 is not None
    middle = np.array([SIZE[1], SIZE[0]]) / 2  # where `posed` has the head's origin at any scale
    np.testing.assert_allclose(reduced.landmarks_68 - 2 * middle, found.landmarks_68 - middle, atol=0.01)


# ---- expression


def test_the_mesh_speaks_only_where_no_model_does(tmp_path: Path) -> None:
    smile = posed()  # the average of photographs smiles
    by_mesh = analysis_of(smile).expression
    assert (by_mesh.dominant, by_mesh.method, by_mesh.model) == ("smiling", "mesh", None)
    assert by_mesh.emotions is None
    assert by_mesh.confidence is None
    model = ExpressionModel(write_expression_model(tmp_path))
    found = analysis_of(smile, expression_model=model)
    assert_every_gap_has_a_reason(found)
    assert not found.unavailable
    expression = found.expression
    assert expression.method == "model"
    assert expression.model == "columns"
    assert expression.emotions is not None
    assert set(expression.emotions) == set(LABELS)
    assert expression.confidence == expression.emotions[str(expression.dominant)] == max(expression.emotions.values())
    assert expression.smile == by_mesh.smile


def test_a_model_speaks_of_a_face_that_the_mesh_cannot_measure(tmp_path: Path) -> None:
    found = analysis_of(posed(yaw=50), expression_model=ExpressionModel(write_expression_model(tmp_path)))
    assert_every_gap_has_a_reason(found)
    assert found.expression.dominant in LABELS
    assert found.expression.smile is None


def test_a_face_that_the_mesh_has_no_word_for() -> None:
    found = analysis_of(posed(shape=speaking(1.5)))
    assert_every_gap_has_a_reason(found)
    assert found.expression.dominant is None
    assert found.expression.mouth_open is not None
    assert "neither a smile nor a face at rest" in found.unavailable["expression.dominant"]


def test_expression_names_all_measures_of_the_mesh() -> None:
    assert {field.name for field in fields(Expression)} == {
        "dominant", "confidence", "emotions", "method", "model", "smile", "mouth_open", "brow_raise",
        "eye_closure", "eye_closure_left", "eye_closure_right",
    }  # fmt: skip


# ---- real photos


def meshed(landmarks: FaceLandmarks, photo: RGBImage) -> FaceMesh:
    mesh = landmarks.detect(photo)[0].mesh
    assert mesh is not None
    return landmarks.refit(photo, mesh)


def measured(landmarks: FaceLandmarks, photo: RGBImage) -> FaceAnalysis:
    mesh = meshed(landmarks, photo)
    return analyze_face(photo, mesh, mesh.bbox)


def load(file: Path) -> RGBImage:
    if not file.is_file():
        pytest.skip(f"no photo {file.name} in {SHARED} (set SHARED_DATA_DIR)")
    with Image.open(file) as image:
        return np.array(image.convert("RGB"))


def pose_of(analysis: FaceAnalysis) -> Pose:
    assert analysis.pose is not None
    return analysis.pose


def test_the_astronaut(landmarks: FaceLandmarks) -> None:
    found = measured(landmarks, data.astronaut())
    assert_every_gap_has_a_reason(found)
    assert found.landmarks_68 is not None
    assert abs(pose_of(found).yaw) < 5
    assert abs(pose_of(found).pitch) < 8
    assert found.expression.dominant == "smiling"
    assert (found.expression.eye_closure or 0) < 0.2
    assert (found.quality.blur_score or 0) > 0.9
    assert (found.quality.resolution or 1) < 0.3  # 43 pixels between the eyes
    assert found.quality.overall == found.quality.resolution
    assert found.symmetry_score is not None
    assert 0.97 < found.symmetry_score < 1


@pytest.mark.parametrize("file", [None, *FRONTAL, *TURNED], ids=lambda file: file.stem if file else "astronaut")
def test_a_mirrored_photo_turns_yaw_and_roll_and_keeps_the_rest(landmarks: FaceLandmarks, file: Path | None) -> None:
    photo: RGBImage = data.astronaut() if file is None else load(file)
    found, mirrored = measured(landmarks, photo), measured(landmarks, np.ascontiguousarray(photo[:, ::-1]))
    pose, other = pose_of(found), pose_of(mirrored)
    # The mesh model itself is not symmetric: these are its differences.
    assert (other.yaw, other.pitch, other.roll) == pytest.approx((-pose.yaw, pose.pitch, -pose.roll), abs=3.5)
    if found.symmetry_score is not None and mirrored.symmetry_score is not None:
        assert mirrored.symmetry_score == pytest.approx(found.symmetry_score, abs=0.01)
    for field in fields(Quality):
        assert getattr(mirrored.quality, field.name) == pytest.approx(getattr(found.quality, field.name), abs=0.08)
    assert mirrored.expression.smile == pytest.approx(found.expression.smile, abs=0.2)
    assert found.skin_tone is not None
    assert mirrored.skin_tone is not None
    np.testing.assert_allclose(mirrored.skin_tone.dominant_color_lab, found.skin_tone.dominant_color_lab, atol=2)


@pytest.mark.parametrize("degrees", [-60, -25, 25, 90])
def test_roll_follows_the_turn_of_the_photo(landmarks: FaceLandmarks, degrees: float) -> None:
    photo: RGBImage = data.astronaut()
    pose = pose_of(measured(landmarks, photo))
    matrix = cv2.getRotationMatrix2D((224, 120), -degrees, 1)  # OpenCV turns counter-clockwise
    turned = measured(landmarks, cv2.warpAffine(photo, matrix, (512, 512), borderValue=(128, 128, 128)))
    assert pose_of(turned).roll - pose.roll == pytest.approx(degrees, abs=2)
    assert (pose_of(turned).yaw, pose_of(turned).pitch) == pytest.approx((pose.yaw, pose.pitch), abs=3)


def lit_further(photo: RGBImage, points: FloatArray) -> RGBImage:
    """More light from the side that the photo's light comes from already."""
    left, right = (photo[tuple(np.round(points[i, 1::-1]).astype(int))].mean() for i in (50, 280))
    return lit_sideways(photo, points, 0.1, from_right=bool(right > left))


SPOILED: dict[str, tuple[str, Callable[[RGBImage, FloatArray], RGBImage]]] = {
    "blurred": ("blur_score", lambda photo, points: cv2.GaussianBlur(photo, (0, 0), 0.03 * longer_side(points))),
    "lit from one side": ("illumination", lambda photo, points: lit_further(photo, points)),
    "dark": ("exposure", lambda photo, _: relit(photo, 0.01)),
    "hazy": ("contrast", lambda photo, _: flattened(photo, 0.8)),
}


@pytest.mark.parametrize("fault", SPOILED)
@pytest.mark.parametrize("file", [None, *FRONTAL], ids=lambda file: file.stem if file else "astronaut")
def test_a_spoiled_photo_loses_in_the_component_of_its_fault(
    landmarks: FaceLandmarks, file: Path | None, fault: str
) -> None:
    photo: RGBImage = data.astronaut() if file is None else load(file)
    mesh = meshed(landmarks, photo)
    component, spoil = SPOILED[fault]
    before, after = (
        asdict(analyze_face(image, mesh, mesh.bbox).quality) for image in (photo, spoil(photo, mesh.points))
    )
    losses = {name: before[name] - after[name] for name in before if name != "overall"}
    assert losses[component] > 0.1
    assert max(losses, key=losses.__getitem__) == component


@pytest.mark.parametrize("file", FRONTAL, ids=lambda file: file.stem)
def test_sharpness_and_skin_of_a_photo_stay_at_half_its_size(landmarks: FaceLandmarks, file: Path) -> None:
    photo = load(file)
    mesh = meshed(landmarks, photo)
    small, points = resized(photo, mesh.points, 0.5)
    found, half = (
        analyze_face(photo, mesh, mesh.bbox),
        analyze_face(small, replace(mesh, points=points), box_of(points)),
    )
    assert half.quality.blur_score == pytest.approx(found.quality.blur_score, abs=0.05)
    assert half.quality.illumination == pytest.approx(found.quality.illumination, abs=0.05)
    assert found.skin_tone is not None
    assert half.skin_tone is not None
    np.testing.assert_allclose(half.skin_tone.dominant_color_lab, found.skin_tone.dominant_color_lab, atol=1)


@pytest.mark.parametrize(("number", "dominant"), [(5, "neutral"), (17, "smiling"), (20, "smiling"), (22, "smiling")])
def test_expressions_of_known_photos(landmarks: FaceLandmarks, number: int, dominant: str) -> None:
    assert measured(landmarks, load(SHARED / "faces" / f"img{number}.jpg")).expression.dominant == dominant


def test_two_photos_of_a_person_agree_in_proportions(landmarks: FaceLandmarks) -> None:
    first, second = (measured(landmarks, load(SHARED / "faces" / f"img{n}.jpg")).geometry for n in (20, 21))
    assert first is not None
    assert second is not None
    smile = {"mouth_width_face_width"}  # broader in the second one
    for name, ratio in asdict(first).items():
        assert name in smile or ratio == pytest.approx(asdict(second)[name], abs=0.03), name


def test_a_face_that_is_stretched_on_one_side_is_less_symmetric(landmarks: FaceLandmarks) -> None:
    photo: RGBImage = data.astronaut()
    mesh = meshed(landmarks, photo)
    middle = float(mesh.points[168, 0])
    rows, columns = np.indices(photo.shape[:2], np.float32)
    source = np.where(columns > middle, middle + (columns - middle) / 1.25, columns).astype(np.float32)
    warped = cv2.remap(photo, source, rows, cv2.INTER_LINEAR)
    before, after = measured(landmarks, photo).symmetry_score, measured(landmarks, warped).symmetry_score
    assert before is not None
    # Meshed anew, much of the stretch is taken for a turn of the head.
    assert after is None or after < before


def test_nothing_is_written_to_the_picture(landmarks: FaceLandmarks) -> None:
    photo: RGBImage = data.astronaut()
    copy = photo.copy()
    measured(landmarks, photo)
    np.testing.assert_array_equal(photo, copy)
