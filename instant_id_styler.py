"""Identity-preserving diffusion in the page's style: the child that was drawn into a slot, drawn anew by a model.

What the classical styler drew is where it starts from: pose, proportions, hair and light are in it already. A diffusion
model redraws the head with the child's face before its eyes, several times; the picture most like the child is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np

from face_detector import Face, FaceDetector
from face_drawing import DrawnPage, FaceDrawing, Identity, PersonalizeOptions
from face_landmarks import five_points
from face_points import square_crop
from generation import Generator, Watcher
from head_canvas import NEGATIVE_PROMPT, HeadCanvas, Person, describe
from identity_diffusion import FACE_DIMENSION, IdentityRequest, Kind
from service.errors import ModelUnavailableError
from utils import FloatArray, GrayImage, RGBImage

Progress = Callable[[float], None]
"""Told how much is done, 0 to 1, a few times a second, in the caller's thread. What it raises gives the work up."""


def no_progress(done: float) -> None:
    """For callers who only want the result."""


POLL_S = 0.2
PORTRAIT_PX, PORTRAIT_MARGIN = 448, 1.5
"""Of the photo that IP-Adapter plus-face sees: the face and a little of the hair around it."""


@dataclass(frozen=True, slots=True)
class StylerOptions:
    """How heads are redrawn.

    Attributes:
        kind: InstantID, or IP-Adapter plus-face.
        size: pixels of the canvas' side, a multiple of 64; SDXL was trained at 1024.
        steps, guidance: of the denoising.
        candidates: pictures of which the one most like the child is kept.
    """

    kind: Kind = "instantid"
    size: int = 1024
    steps: int = 30
    guidance: float = 5.0
    candidates: int = 4


@dataclass(frozen=True, slots=True)
class Diffusion:
    """How a diffusion model drew a page.

    Attributes:
        identity: what showed it the child.
        prompt, negative_prompt: what it was told.
        seed: of the picture that was kept, the one most like the child.
        candidates: pictures that it was chosen from; 1 where no recogniser could choose.
        similarity: cosine of the photo's embedding and the kept picture's, by the recogniser that chose; None without.
        steps: that were run for each.
    """

    identity: Kind
    prompt: str
    negative_prompt: str
    seed: int
    candidates: int
    similarity: float | None
    steps: int


class InstantIdStyler:
    """Redraws heads, from any thread; the pictures are made in the worker's own."""

    def __init__(self, worker: Generator, options: StylerOptions, *, faces: Callable[[], FaceDetector]) -> None:
        """`faces` gives the detector whose recogniser InstantID was trained with; any one for IP-Adapter.

        It is asked in the caller's thread, when a head is to be drawn, and chooses among the candidates.
        """
        self.worker = worker
        self.options = options
        self._faces = faces

    def redraw(
        self,
        identity: Identity,
        drawing: FaceDrawing,
        drawn: DrawnPage,
        options: PersonalizeOptions,
        progress: Progress,
    ) -> tuple[DrawnPage, Diffusion]:
        """The page with the child drawn anew, of several the one most like it: `drawn` is what `drawing.draw` gave.

        `strength` is how much may change. `likeness` is the child's part against the page's: its square root weighs
        the identity, which puts InstantID's own 0.8 at the default of 0.65.

        Raises:
            ModelUnavailableError: the models can't be loaded.
            BusyError: the worker's queue is full, or the GPU's memory does not hold the picture.
        """
        kind, mask, faces = self.options.kind, drawing.redrawn(drawn), self._faces()
        if not mask.any():  # hair or a hat covers all of it
            return drawn, Diffusion(kind, "", "", options.seed, 1, None, 0)
        canvas = HeadCanvas.around(drawing.outline, mask, size=self.options.size)
        request = self._request(identity, drawing, drawn, options, canvas, mask, faces)
        pictures = self._made(request, progress)
        pages = [drawing.draw_picture(canvas.on_page(picture), canvas.frame) for picture in pictures]
        best, similarity = 0, None
        if faces.embeds:
            child = faces.embed(identity.photo_rgb, five_points(identity.mesh))
            kps = five_points(drawing.outline)
            similarities = [float(child @ faces.embed(page.image_rgb, kps)) for page in pages]
            best = int(np.argmax(similarities))
            similarity = round(similarities[best], 4)
        return pages[best], Diffusion(
            identity=kind,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=request.seeds[best],
            candidates=len(pages),
            similarity=similarity,
            steps=request.steps_run,
        )

    def _request(
        self,
        identity: Identity,
        drawing: FaceDrawing,
        drawn: DrawnPage,
        options: PersonalizeOptions,
        canvas: HeadCanvas,
        mask: GrayImage,
        faces: FaceDetector,
    ) -> IdentityRequest:
        kind = self.options.kind
        return IdentityRequest(
            picture=canvas.show(drawn.image_rgb),
            mask=canvas.mask(mask),
            keypoints=canvas.keypoints(drawing.outline) if kind == "instantid" else None,
            person=face_vector(faces, identity) if kind == "instantid" else portrait(identity),
            prompt=describe(drawing.page_rgb, style=options.style, person=_person(faces, identity)),
            negative_prompt=NEGATIVE_PROMPT,
            strength=options.strength,
            identity_scale=sqrt(options.likeness),
            guidance_scale=self.options.guidance,
            steps=self.options.steps,
            seed=options.seed,
            n=self.options.candidates if faces.embeds else 1,
        )

    def _made(self, request: IdentityRequest, progress: Progress) -> list[RGBImage]:
        done = [0.0]

        def on_step(step: int, of: int) -> None:
            done[0] = step / of

        ticket = self.worker.submit(request, Watcher(on_step))
        try:
            while (images := ticket.images(POLL_S)) is None:
                progress(done[0])
        except BaseException:
            ticket.cancel()
            raise
        return [image for image in images if image is not None]


def face_vector(faces: FaceDetector, identity: Identity) -> FloatArray:
    """(512,) the child's face as InstantID reads it: the recogniser's own vector, not normalised.

    Raises:
        ModelUnavailableError: the recogniser isn't one of InstantID's.
    """
    vector = faces.vector(identity.photo_rgb, five_points(identity.mesh))
    if vector.shape != (FACE_DIMENSION,):
        raise ModelUnavailableError(
            f"InstantID reads embeddings of {FACE_DIMENSION} numbers, and {faces.model} gives {len(vector)}. "
            "Set DIFFUSION_FACE_MODEL=antelopev2, which InstantID was trained with."
        )
    return vector


def portrait(identity: Identity) -> RGBImage:
    """The child's face as IP-Adapter plus-face looks at it: a square of the photo."""
    return square_crop(identity.photo_rgb, _box(identity), PORTRAIT_PX, margin=PORTRAIT_MARGIN)


def _person(faces: FaceDetector, identity: Identity) -> Person:
    """Age and gender as the face pack sees them; nothing where it doesn't."""
    face = Face(_box(identity), five_points(identity.mesh), 1.0)
    [[seen]] = faces.recognise([(identity.photo_rgb, [face])], attributes=True)
    return Person(seen.age, seen.gender)


def _box(identity: Identity) -> FloatArray:
    points = identity.mesh[:, :2]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)
