"""One face measured: pose, quality, symmetry, skin tone, expression, proportions and the 68 points.

Nothing is invented: what can't be known from a picture is None, and `unavailable` says why. Definitions, formulas,
units, sources and limits are in docs/face-analysis.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Literal

import numpy as np

import face_geometry as geometry
from face_landmarks import FaceMesh
from face_proportions import Proportions, landmarks_68, proportions, symmetry
from face_quality import Quality, measure_quality, sharpness
from face_regions import longer_side
from face_sample import FaceSample, Findings, Unmeasurable
from facial_expression import ExpressionModel, MeshExpression, mesh_expression
from skin_measurement import SkinTone, measure_skin_tone
from utils import FloatArray, RGBImage, as_float

_LEAST_PRESENCE = 0.5
_LEAST_FACE_PX = 40  # of length; at 28 the shape's errors are twice those at 36, and grow fast
_MOST_OUTSIDE = 0.03  # of the length, which the mesh may reach beyond the picture
_MOST_YAW, _MOST_PITCH = 10.0, 20.0
_MOST_EXPRESSION_TURN = 35.0
_NO_MESH = "No mesh fits this face: it is covered, cut off, or turned too far away."
_ANY_TURN = 90.0
_MEASURE_FIELDS = tuple(f"expression.{field.name}" for field in fields(MeshExpression))
_NO_WORD = "The mesh measures show neither a smile nor a face at rest, and they can tell nothing else apart."
_NO_MODEL = "Only an expression model can say this, and none is installed."


@dataclass(frozen=True, slots=True)
class Pose:
    """Degrees. As seen in the image: yaw > 0 looks right, pitch > 0 down, roll > 0 leans clockwise.

    method: "mesh", the rotation that best carries the average face onto the mesh.
    """

    yaw: float
    pitch: float
    roll: float
    method: Literal["mesh"] = "mesh"


@dataclass(frozen=True, slots=True)
class Expression:
    """What the face does.

    method: "model" where `dominant` is the likeliest of a model's labels, "mesh" where it is "smiling" or "neutral".
    model: the model's name. confidence: its probability of `dominant`. emotions: its probability of each label.
    The other fields are those of `MeshExpression`, measured on the mesh in both cases.
    """

    dominant: str | None = None
    confidence: float | None = None
    emotions: Mapping[str, float] | None = None
    method: Literal["model", "mesh"] | None = None
    model: str | None = None
    smile: float | None = None
    mouth_open: float | None = None
    brow_raise: float | None = None
    eye_closure: float | None = None
    eye_closure_left: float | None = None
    eye_closure_right: float | None = None


@dataclass(frozen=True, slots=True)
class FaceAnalysis:
    """All that could be measured of one face.

    landmarks_68: (68, 2) float32 pixels in iBUG's order; those of hidden parts are the mesh's guess.
    landmarks_478: (478, 2) float32 pixels: the mesh itself, in MediaPipe's order, the irises last.
    symmetry_score: 1 minus the mean asymmetry in distances between the eyes; faces lie between 0.96 and 0.99.
    unavailable: for each field that is None, by its dotted name, the reason.
    """

    landmarks_68: FloatArray | None
    landmarks_478: FloatArray | None
    pose: Pose | None
    quality: Quality
    symmetry_score: float | None
    skin_tone: SkinTone | None
    expression: Expression
    geometry: Proportions | None
    unavailable: Mapping[str, str]


def analyze_face(
    image_rgb: RGBImage,
    mesh: FaceMesh | None,
    bbox: FloatArray,
    *,
    scale: float = 1.0,
    expression_model: ExpressionModel | None = None,
) -> FaceAnalysis:
    """Measure one face.

    Args:
        image_rgb: HxWx3 uint8 RGB, upright.
        mesh: the face's mesh in pixels of the picture; without it only the sharpness can be measured.
        bbox: (4,) x1, y1, x2, y2 in pixels.
        scale: pixels of `image_rgb` per pixel of the picture that it was reduced from; `landmarks_68` and the
            resolution are in pixels of that one.
        expression_model: gives probabilities of expressions.
    """
    if mesh is None or mesh.presence < _LEAST_PRESENCE or not longer_side(mesh.points) > 1:
        return _analyze_box(image_rgb, bbox)
    points, pose = mesh.points, geometry.head_pose(mesh.points)
    full_size, frontal = as_float(points / scale), geometry.frontal(points)

    def shape(most_yaw: float, most_pitch: float) -> FloatArray:
        _check_visible(points, image_rgb.shape)
        _check_turn(pose, most_yaw, most_pitch)
        return frontal

    findings = Findings()
    sample = FaceSample.of(image_rgb, points)
    quality = measure_quality(sample, full_size, pose, findings)
    skin_tone = findings.take(lambda: measure_skin_tone(sample, quality.illumination), "skin_tone")
    if skin_tone is not None and skin_tone.confidence is None:
        findings.unavailable["skin_tone.confidence"] = findings.unavailable["quality.illumination"]
    measures = findings.take(
        lambda: mesh_expression(shape(_MOST_EXPRESSION_TURN, _MOST_EXPRESSION_TURN)), *_MEASURE_FIELDS
    )
    emotions = expression_model.emotions(image_rgb, mesh.kps) if expression_model else None
    return FaceAnalysis(
        landmarks_68=landmarks_68(full_size),
        landmarks_478=as_float(full_size[:, :2]),
        pose=Pose(pose.yaw, pose.pitch, pose.roll),
        quality=quality,
        symmetry_score=findings.take(lambda: symmetry(shape(_MOST_YAW, _ANY_TURN)), "symmetry_score"),
        skin_tone=skin_tone,
        expression=_expression(measures, emotions, expression_model, findings),
        geometry=findings.take(lambda: proportions(shape(_MOST_YAW, _MOST_PITCH)), "geometry"),
        unavailable=findings.unavailable,
    )


def _analyze_box(image_rgb: RGBImage, bbox: FloatArray) -> FaceAnalysis:
    """All that is known of a face without a mesh is how sharp it is."""
    findings = Findings()
    blur_score = findings.take(lambda: sharpness(FaceSample.of_box(image_rgb, bbox)), "quality.blur_score")
    scores = {field.name: None for field in fields(Quality)} | {"blur_score": blur_score}
    no_mesh = ["landmarks_68", "landmarks_478", "pose", "symmetry_score", "skin_tone", "geometry"]
    no_mesh += [f"quality.{name}" for name in scores if name != "blur_score"]
    no_mesh += [f"expression.{field.name}" for field in fields(Expression)]
    return FaceAnalysis(
        landmarks_68=None,
        landmarks_478=None,
        pose=None,
        quality=Quality(**scores),
        symmetry_score=None,
        skin_tone=None,
        expression=Expression(),
        geometry=None,
        unavailable=findings.unavailable | dict.fromkeys(no_mesh, _NO_MESH),
    )


def _expression(
    measures: MeshExpression | None,
    emotions: Mapping[str, float] | None,
    model: ExpressionModel | None,
    findings: Findings,
) -> Expression:
    """The model's word where there is one, else the mesh's."""
    measured = asdict(measures) if measures else {}
    if model is not None and emotions is not None:
        dominant = max(emotions, key=emotions.__getitem__)
        return Expression(dominant, emotions[dominant], emotions, "model", model.name, **measured)
    findings.unavailable |= dict.fromkeys(
        ("expression.confidence", "expression.emotions", "expression.model"), _NO_MODEL
    )
    if measures is None:
        reason = findings.unavailable["expression.smile"]
        findings.unavailable |= dict.fromkeys(("expression.dominant", "expression.method"), reason)
        return Expression()
    if measures.name is None:
        findings.unavailable["expression.dominant"] = _NO_WORD
    return Expression(measures.name, method="mesh", **measured)


def _check_visible(points: FloatArray, image_shape: tuple[int, ...]) -> None:
    """Raises `Unmeasurable` where the mesh (N, 3) is too small, or reaches beyond the picture: there it is a guess."""
    length = geometry.upright_length(points)
    if length < _LEAST_FACE_PX:
        raise Unmeasurable(f"The face is {length:.0f} pixels long: its shape can be measured from {_LEAST_FACE_PX} on.")
    beyond = np.maximum(-points[:, :2], points[:, :2] - (np.array(image_shape[1::-1]) - 1))
    if beyond.max() > _MOST_OUTSIDE * length:
        raise Unmeasurable("The face is cut off by the edge of the picture.")


def _check_turn(pose: geometry.HeadPose, most_yaw: float, most_pitch: float) -> None:
    for name, angle, most in (("sideways", pose.yaw, most_yaw), ("up or down", pose.pitch, most_pitch)):
        if abs(angle) > most:
            raise Unmeasurable(
                f"The face is turned {name} by {abs(angle):.0f} degrees; up to {most:.0f} it can be measured."
            )
