"""Mesh measures on heads that are made to smile, speak and blink, and the model on a small real ONNX file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

import face_geometry as geometry
from face_points import ARCFACE_POINTS
from facial_expression import (
    LABELS,
    PROFILE,
    ExpressionModel,
    MeshExpression,
    load_expression_model,
    mesh_expression,
)
from service.errors import ModelUnavailableError
from tests.face_packs import write_expression_model
from tests.heads import posed
from utils import FloatArray, RGBImage

LIPS = [*geometry.LIPS, *geometry.MOUTH_OPENING]
LEFT_LIDS, RIGHT_LIDS = ([160, 159, 158], [144, 145, 153]), ([385, 386, 387], [380, 374, 373])  # upper, lower


def resting_face() -> FloatArray:
    """The average face smiles a little: its mouth is closed, narrowed and its corners are let down."""
    shape = geometry.mean_shape().copy()
    middle = shape[[13, 14], 1].mean()
    shape[LIPS, 0] *= 0.85
    shape[13, 1] = shape[14, 1] = middle
    shape[[61, 291], 1] = middle
    return shape


def smiling(share: float) -> FloatArray:
    shape = resting_face()
    shape[LIPS, 0] *= 1 + 0.25 * share
    shape[[61, 291], 1] -= 0.7 * share
    return shape


def speaking(gap_cm: float) -> FloatArray:
    shape = resting_face()
    shape[14, 1] += gap_cm
    shape[[61, 291], 1] += gap_cm / 2  # the jaw takes the corners along
    return shape


def blinking(left: float, right: float) -> FloatArray:
    """Lids closed by a share of their opening."""
    shape = resting_face()
    for share, upper, lower in ((left, *LEFT_LIDS), (right, *RIGHT_LIDS)):
        shape[upper] += share * (shape[lower] - shape[upper])
    return shape


def raised_brows(cm: float) -> FloatArray:
    shape = resting_face()
    shape[list(geometry.LEFT_BROW + geometry.RIGHT_BROW), 1] -= cm
    return shape


def seen(shape: FloatArray, yaw: float = 0, pitch: float = 0, roll: float = 0) -> MeshExpression:
    return mesh_expression(geometry.frontal(posed(yaw, pitch, roll, shape=shape)))


def test_a_face_at_rest() -> None:
    rest = seen(resting_face())
    assert rest.name == "neutral"
    assert rest.smile < 0.2
    assert rest.mouth_open < 0.05
    assert rest.eye_closure < 0.1
    assert abs(rest.brow_raise) < 0.5


@pytest.mark.parametrize(
    ("field", "shapes"),
    [
        ("smile", [smiling(share) for share in (0.2, 0.5, 1.0)]),
        ("mouth_open", [speaking(gap) for gap in (0.2, 1.0, 2.5)]),
        ("brow_raise", [raised_brows(cm) for cm in (-0.3, 0, 0.3)]),
        ("eye_closure", [blinking(share, share) for share in (0.2, 0.6, 1.0)]),
    ],
)
def test_a_measure_follows_its_own_movement_and_no_other_does(field: str, shapes: list[FloatArray]) -> None:
    rest = asdict(seen(resting_face()))
    found = [asdict(seen(shape)) for shape in shapes]
    values = [each[field] for each in found]
    assert values == sorted(values)
    assert values[-1] - values[0] > 0.5
    for other in {"smile", "mouth_open", "brow_raise", "eye_closure"} - {field}:
        # The jaw that opens a mouth takes its corners along.
        assert abs(found[-1][other] - rest[other]) < 0.15, other


def test_each_eye_is_measured_on_its_own_side_of_the_image() -> None:
    wink = seen(blinking(1, 0))
    assert wink.eye_closure_left > 0.9
    assert wink.eye_closure_right < 0.1
    assert wink.eye_closure == pytest.approx((wink.eye_closure_left + wink.eye_closure_right) / 2)


@pytest.mark.parametrize("shape", [smiling(1.0), speaking(1.0), blinking(1, 1)])
@pytest.mark.parametrize(("yaw", "pitch", "roll"), [(30, 0, 0), (-20, 15, 0), (0, -20, 100)])
def test_measures_do_not_follow_the_pose(shape: FloatArray, yaw: float, pitch: float, roll: float) -> None:
    assert asdict(seen(shape, yaw, pitch, roll)) == pytest.approx(asdict(seen(shape)), abs=0.08)


def test_words_are_used_for_a_smile_and_for_rest_only() -> None:
    assert seen(smiling(1.0)).name == "smiling"
    for shape in (speaking(1.5), blinking(1, 1), raised_brows(1.0)):
        assert seen(shape).name is None


# ---- the model


def striped(label: int, *, degrees: float = 0, zoom: float = 1) -> tuple[RGBImage, FloatArray]:
    """A picture whose aligned crop is red in one column of seven; and its face's five points."""
    crop = np.zeros((112, 112, 3), np.uint8)
    crop[:, 16 * label : 16 * label + 16, 0] = 255
    to_picture = cv2.getRotationMatrix2D((56, 56), degrees, zoom)
    to_picture[:, 2] += [250, 200]
    return cv2.warpAffine(crop, to_picture, (700, 600)), cv2.transform(ARCFACE_POINTS[None], to_picture)[0]


@pytest.mark.parametrize("label", range(len(LABELS)))
@pytest.mark.parametrize(("degrees", "zoom"), [(0, 1), (40, 1), (-90, 2.5), (180, 3)])
def test_the_model_sees_the_aligned_face(tmp_path: Path, label: int, degrees: float, zoom: float) -> None:
    emotions = ExpressionModel(write_expression_model(tmp_path)).emotions(*striped(label, degrees=degrees, zoom=zoom))
    assert list(emotions) == list(LABELS)
    assert max(emotions, key=emotions.__getitem__) == LABELS[label]
    assert sum(emotions.values()) == pytest.approx(1)
    # Scores of 1 and -1, as the input goes from -1 to 1, become probabilities by a softmax.
    assert emotions[LABELS[label]] == pytest.approx(np.e / (np.e + 6 / np.e), abs=0.05)


def test_probabilities_stay_as_they_are_where_the_model_gives_them(tmp_path: Path) -> None:
    emotions = ExpressionModel(write_expression_model(tmp_path, softmax=True)).emotions(*striped(3))
    assert emotions["happy"] == pytest.approx(np.e / (np.e + 6 / np.e), abs=0.03)


def test_the_model_serves_many_threads(tmp_path: Path) -> None:
    model = ExpressionModel(write_expression_model(tmp_path))
    labels = [i % len(LABELS) for i in range(64)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda label: model.emotions(*striped(label)), labels))
    assert [max(each, key=each.__getitem__) for each in answers] == [LABELS[label] for label in labels]


def test_a_file_that_is_no_expression_model_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(ModelUnavailableError, match=r"broken\.onnx"):
        ExpressionModel(broken)
    with pytest.raises(ModelUnavailableError, match="3 scores"):
        ExpressionModel(write_expression_model(tmp_path, labels=3))
    with pytest.raises(ModelUnavailableError):
        ExpressionModel(tmp_path / "missing.onnx")


def test_the_installed_model_is_found_in_its_folder(tmp_path: Path) -> None:
    assert load_expression_model(tmp_path) is None
    folder = tmp_path / PROFILE
    folder.mkdir()
    write_expression_model(folder)
    model = load_expression_model(tmp_path)
    assert model is not None
    assert model.name == "columns"
    (folder / "columns.onnx").write_bytes(b"half a download")
    with pytest.raises(ModelUnavailableError, match=f"models pull {PROFILE}"):
        load_expression_model(tmp_path)
