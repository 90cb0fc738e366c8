"""From files to files: decodes what was sent or stored, lets the personaliser work, encodes and stores the result.

Everything here blocks: handlers run it in the inference pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal
from uuid import UUID

import numpy as np

from face_slots import FaceSlot
from instant_id_styler import Progress, no_progress
from personalizer import Identity, PersonalizedPage, PersonalizeOptions, Personalizer
from service.errors import ImageUnreadableError, InvalidValueError, NoFaceSlotError, naming
from service.image_io import SUFFIXES, DecodedImage, ImageFormat, decode_image, encode_image
from service.slots import SlotChoice, SlotSpec, build_slot, build_slots, check_box
from service.storage import Storage, StoredFile
from service.tables import Template
from service.templates import TemplateStore
from utils import FloatArray, Stopwatch

MIN_SIDE_PX = 32
"""A smaller picture holds no face that could be found."""
PHOTO_SIDE_PX = 1800
"""Enough of a photo's longer side to find faces in it and to draw the largest slot from the one that is chosen."""
NO_SLOT = (
    "No face was found in the illustration. Say where it is with `slot`: a box [x1, y1, x2, y2] in pixels of the page."
)


@dataclass(frozen=True, slots=True)
class PageChoice:
    """How a page is to be personalised: which slot, in what manner, by which engine, and as what file.

    `PageDiffusion.settled` makes one of the two engines of "auto"; here it stands for the classical one.
    """

    slot: SlotChoice = 0
    options: PersonalizeOptions = field(default_factory=PersonalizeOptions)
    format: ImageFormat = "png"
    engine: Literal["auto", "classic", "diffusion"] = "auto"


@dataclass(frozen=True, slots=True)
class Result:
    """A personalised page, stored. `timings_ms` has every stage from decoding to storing."""

    file: StoredFile
    data: bytes
    page: PersonalizedPage
    slots_in_page: int
    timings_ms: dict[str, float]


class Illustrator:
    """The main job on files. Thread-safe."""

    def __init__(
        self, *, personalizer: Personalizer, storage: Storage, templates: TemplateStore, max_pixels: int
    ) -> None:
        self.personalizer = personalizer
        self.storage = storage
        self.templates = templates
        self.max_pixels = max_pixels

    def personalize(
        self,
        photo: BinaryIO,
        illustration: BinaryIO | UUID,
        *,
        owner: str,
        choice: PageChoice,
        face_box: FloatArray | None,
        progress: Progress = no_progress,
    ) -> Result:
        """Put the child of `photo` into a page: a file, or the id of a template that `owner` may use.

        `progress` is told of what takes seconds: diffusion.

        Raises:
            ServiceError: one of the image, face, slot or storage errors.
        """
        clock = Stopwatch()
        child = self.personalizer.beside.submit(self.child, photo, face_box=face_box)
        try:
            with clock.stage("decode"):
                page, stored_slots = self._page(illustration, owner)
            with clock.stage("slots"):
                slots, index = self._choose_slot(page, stored_slots, choice.slot)
        finally:
            wait([child])  # an error here must not close the upload under the other thread's hands
        drawn = self._personalized(child.result(), page, slots, index, choice, progress)
        clock.timings_ms.update(drawn.timings_ms)
        with clock.stage("encode"):
            data = encode_image(
                drawn.image_rgb, format=choice.format, alpha=page.alpha, dpi=page.dpi, icc_profile=page.icc_profile
            )
        with clock.stage("store"):
            file = self.storage.save_result(data, suffix=SUFFIXES[choice.format])
        return Result(file, data, drawn, len(slots), clock.timings_ms)

    def child(self, photo: BinaryIO, *, face_box: FloatArray | None) -> Identity:
        """The child of a photo, prepared for any number of pages.

        Raises:
            ServiceError: one of the image and face errors.
        """
        image = self._decode(photo, "child_photo", to_srgb=True, reduce_to=PHOTO_SIDE_PX)
        if face_box is not None:
            face_box = check_box(face_box * np.float32(image.scale), image.rgb, name="face_box")
        return self.personalizer.prepare_identity(image.rgb, face_box=face_box)

    def check_book(
        self, photo: BinaryIO, template_ids: Sequence[UUID], *, owner: str, face_box: FloatArray | None
    ) -> None:
        """Find out now what would make every page of a book fail.

        Raises:
            ServiceError: there is no such template, or the photo shows no child that could be drawn.
        """
        for template_id in template_ids:
            self.templates.get(template_id, owner)
        self.child(photo, face_box=face_box)

    def book_page(
        self, child: Identity, template_id: UUID, *, owner: str, choice: PageChoice, progress: Progress = no_progress
    ) -> DecodedImage:
        """A template with the child on it, otherwise as the page was.

        Raises:
            ServiceError: as `personalize`.
        """
        page, stored_slots = self._page(template_id, owner)
        slots, index = self._choose_slot(page, stored_slots, choice.slot)
        drawn = self._personalized(child, page, slots, index, choice, progress)
        return replace(page, rgb=drawn.image_rgb)

    def add_template(
        self, file: BinaryIO, *, owner: str, name: str | None, specs: Sequence[SlotSpec] | None
    ) -> Template:
        """Store a page with the slots that are given, or found where none are.

        Raises:
            ServiceError: one of the image, slot or storage errors.
        """
        page = self._decode(file, "file", to_srgb=False)
        if specs is None:
            slots = self.personalizer.find_slots(page.rgb, thorough=True)
        else:
            slots = build_slots(specs, page.rgb, self.personalizer)
        png = encode_image(page.rgb, format="png", alpha=page.alpha, dpi=page.dpi, icc_profile=page.icc_profile)
        height, width = page.rgb.shape[:2]
        as_json = [slot.to_json() for slot in slots]
        return self.templates.add(png, owner=owner, name=name, size=(width, height), slots=as_json)

    def correct_slots(self, template_id: UUID, specs: Sequence[SlotSpec], *, owner: str) -> Template:
        """Replace the slots of one of the owner's templates.

        Raises:
            ServiceError: no such template, or a slot that isn't on its page.
        """
        page, _ = self._page(template_id, owner)
        slots = build_slots(specs, page.rgb, self.personalizer)
        return self.templates.replace_slots(template_id, [slot.to_json() for slot in slots], owner=owner)

    def _page(self, illustration: BinaryIO | UUID, owner: str) -> tuple[DecodedImage, list[FaceSlot] | None]:
        """The page, and its slots where it is a template."""
        if isinstance(illustration, UUID):
            template = self.templates.get(illustration, owner)
            data = self.storage.read(self.storage.find_template_image(illustration))
            image = decode_image(data, max_pixels=self.max_pixels, to_srgb=False)
            return image, [FaceSlot.from_json(slot) for slot in template.slots]
        return self._decode(illustration, "illustration", to_srgb=False), None

    def _decode(self, file: BinaryIO, part: str, *, to_srgb: bool, reduce_to: int | None = None) -> DecodedImage:
        with naming(part):
            image = decode_image(file, max_pixels=self.max_pixels, to_srgb=to_srgb, reduce_to=reduce_to)
            height, width = image.rgb.shape[:2]
            if min(height, width) < MIN_SIDE_PX:
                raise ImageUnreadableError(
                    f"{width}x{height} pixels are too few to hold a face. Use at least {MIN_SIDE_PX}x{MIN_SIDE_PX}."
                )
            return image

    def _personalized(
        self,
        identity: Identity,
        page: DecodedImage,
        slots: Sequence[FaceSlot],
        index: int,
        choice: PageChoice,
        progress: Progress,
    ) -> PersonalizedPage:
        return self.personalizer.personalize(
            identity, page.rgb, slots, slot_index=index, options=choice.options,
            engine="diffusion" if choice.engine == "diffusion" else "classic", progress=progress,
        )  # fmt: skip

    def _choose_slot(
        self, page: DecodedImage, stored: list[FaceSlot] | None, choice: SlotChoice
    ) -> tuple[list[FaceSlot], int]:
        if not isinstance(choice, int):
            return [build_slot(choice, page.rgb, self.personalizer)], 0
        slots = stored or self.personalizer.find_slots(page.rgb)
        if not slots:
            raise NoFaceSlotError(NO_SLOT)
        if choice >= len(slots):
            raise InvalidValueError(f"slot: the page has {len(slots)}, counted from 0; {choice} is none of them.")
        return slots, choice
