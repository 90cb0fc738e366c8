"""What analyze-face-advanced answers. What could not be measured is null, and `unavailable` says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from face_analysis import FaceAnalysis
from face_detector import Face
from routes.face_recognition_models import Detected, LocatedFace, ModelFacts, Numbers, PictureFacts, Point, rounded

Share = Annotated[float, AfterValidator(lambda value: round(value, 4))]
Degrees = Annotated[float, AfterValidator(lambda value: round(value, 2))]


class Measured(BaseModel):
    """Read from what `face_analysis` measured."""

    model_config = ConfigDict(from_attributes=True)


class PoseOut(Measured):
    """Where the head points, in degrees, as seen in the picture."""

    yaw: Degrees = Field(description="Above 0 the face looks to the right.", examples=[4.1])
    pitch: Degrees = Field(description="Above 0 it looks down.", examples=[-2.5])
    roll: Degrees = Field(description="Above 0 it leans clockwise.", examples=[0.8])
    method: str = Field(description="`mesh`: the rotation that carries the average face onto the 478 points.")


class QualityOut(Measured):
    """How well the face can be used, each 0 to 1; the formulas are in docs/face-analysis.md."""

    blur_score: Share | None = Field(description="Sharpness: 1 is sharp, 0 blurred beyond use.", examples=[0.92])
    illumination: Share | None = Field(description="How alike both cheeks are lit.", examples=[0.81])
    exposure: Share | None = Field(description="Share of the skin that is neither black nor burnt out.", examples=[1])
    contrast: Share | None = Field(description="Between the skin and the face's dark features.", examples=[0.9])
    resolution: Share | None = Field(description="From the pixels between the eyes.", examples=[0.75])
    pose: Share | None = Field(description="How far the face looks into the camera.", examples=[0.98])
    overall: Share | None = Field(description="The smallest of the six.", examples=[0.75])


class SkinToneOut(Measured):
    """The skin's colour as the picture shows it: under another light the same skin has another one."""

    dominant_color_lab: tuple[Degrees, Degrees, Degrees] = Field(
        description="L* 0 to 100, a*, b* (CIE Lab, D65): the median of cheeks and forehead.",
        examples=[[68.2, 13.1, 17]],
    )
    hex: str = Field(description="The same in sRGB.", examples=["#c79e86"])
    ita: Degrees = Field(
        description="Individual typology angle in degrees, from about 60 (very light) to -50 (dark).", examples=[46.9]
    )
    monk_tone: int = Field(description="The nearest of the Monk scale, 1 (lightest) to 10.", examples=[4])
    monk_distance: Degrees = Field(description="CIEDE2000 to it.", examples=[5.1])
    monk_range: tuple[int, int] = Field(
        description="The nearest tones of the skin's lighter and darker thirds.", examples=[[4, 5]]
    )
    confidence: Share | None = Field(description="From the light, 0 to 1; it is no probability.", examples=[0.7])


class ExpressionOut(Measured):
    """What the face does; nothing is said about what is felt."""

    dominant: str | None = Field(
        description="The likeliest label of the expression model; without one `smiling` or `neutral`.",
        examples=["smiling"],
    )
    confidence: Share | None = Field(description="The model's probability of `dominant`.", examples=[0.9])
    emotions: Mapping[str, Share] | None = Field(description="The model's probability of each label; they sum to 1.")
    method: Literal["model", "mesh"] | None = Field(description="What `dominant` comes from.", examples=["mesh"])
    model: str | None = Field(description="The expression model, where one is installed.")
    smile: Share | None = Field(description="0 the mouth at rest, 1 a broad smile.", examples=[0.8])
    mouth_open: Share | None = Field(
        description="0 closed, 1 the gap is 0.6 of the distance between the eyes.", examples=[0.1]
    )
    brow_raise: Share | None = Field(
        description="-1 lowered, 0 where most people's brows rest, 1 raised.", examples=[0.05]
    )
    eye_closure: Share | None = Field(description="0 open, 1 shut: the mean of both eyes.", examples=[0.1])
    eye_closure_left: Share | None = Field(description="Of the eye on the left of the picture.", examples=[0.1])
    eye_closure_right: Share | None = Field(description="Of the eye on the right of the picture.", examples=[0.1])


class GeometryOut(Measured):
    """Ratios of lengths in the face, its turn undone; the definitions are in docs/face-analysis.md."""

    face_width_height_ratio: Share = Field(description="Between the cheekbones / top to chin.", examples=[0.78])
    eye_spacing_face_width: Share = Field(description="Between the pupils / face width.", examples=[0.46])
    jawline_width_face_width: Share = Field(description="Between the jaw's corners / face width.", examples=[0.83])
    nose_width_face_width: Share = Field(description="Between the nostrils' outer sides / face width.", examples=[0.27])
    mouth_width_face_width: Share = Field(description="Between the mouth's corners / face width.", examples=[0.37])
    inner_eye_distance_face_width: Share = Field(
        description="Between the eyes' inner corners / face width.", examples=[0.25]
    )
    nose_length_face_height: Share = Field(description="Nose / face height.", examples=[0.28])
    midface_face_height: Share = Field(description="Brows to the nose's base / face height.", examples=[0.36])
    lower_face_face_height: Share = Field(description="The nose's base to the chin / face height.", examples=[0.37])


class AnalyzedFace(LocatedFace):
    """One face and all that is known of it."""

    embedding: Numbers | None = Field(description="As extract-embedding gives it; null without a recogniser.")
    age: int | None = Field(description="Years, as they appear to the model. Not to be relied on.", examples=[31])
    age_range: tuple[int, int] | None = Field(
        description="The model's lowest and highest answer for slightly other crops of the same face.",
        examples=[[28, 34]],
    )
    gender: Literal["M", "F"] | None = Field(description="As it appears to the model. Not to be relied on.")
    gender_probability: Share | None = Field(description="The model's own, 0.5 to 1.", examples=[0.98])
    landmarks_68: list[Point] | None = Field(
        description="x, y in pixels of the upright picture, in the order of iBUG's 68 points.", examples=[[[120, 190]]]
    )
    landmarks_478: list[Point] | None = Field(
        description="x, y in pixels of the upright picture: MediaPipe's face mesh in its order, the irises last.",
        examples=[[[120, 190]]],
    )
    pose: PoseOut | None = Field(description="Where the head points.")
    quality: QualityOut = Field(description="How well the face can be used.")
    symmetry_score: Share | None = Field(
        description="1 minus the mean asymmetry in distances between the eyes; most faces lie between 0.96 and 0.99. "
        "Null where the face is turned.",
        examples=[0.975],
    )
    skin_tone: SkinToneOut | None = Field(description="The skin's colour as the picture shows it.")
    expression: ExpressionOut = Field(description="What the face does.")
    geometry: GeometryOut | None = Field(description="Ratios of lengths in the face; null where it is turned.")
    unavailable: dict[str, str] = Field(
        description="For each field that is null, by its dotted name, the reason.",
        examples=[{"symmetry_score": "The face is turned sideways by 24 degrees; up to 10 it can be measured."}],
    )

    @classmethod
    def of_analysis(cls, face: Face, index: int, analysis: FaceAnalysis, **more: Any) -> Self:
        """As JSON takes it."""
        missing = dict(face.unavailable)
        for field, of in (("gender_probability", "gender"), ("age_range", "age")):
            if of in missing:
                missing[field] = missing[of]
        points, mesh = analysis.landmarks_68, analysis.landmarks_478
        return cls.of(
            face,
            index,
            embedding=None if face.embedding is None else rounded(face.embedding, 7),
            age=face.age,
            age_range=face.age_range,
            gender=face.gender,
            gender_probability=face.gender_probability,
            landmarks_68=None if points is None else rounded(points, 2),
            landmarks_478=None if mesh is None else rounded(mesh, 2),
            pose=analysis.pose,
            quality=analysis.quality,
            symmetry_score=analysis.symmetry_score,
            skin_tone=analysis.skin_tone,
            expression=analysis.expression,
            geometry=analysis.geometry,
            unavailable={**missing, **analysis.unavailable},
            **more,
        )


class FaceAnalyzed(ModelFacts, PictureFacts, AnalyzedFace, Detected):
    """All that is known of the chosen face."""

    faces: list[AnalyzedFace] | None = Field(None, description="With `faces=all`: every face, largest first.")
