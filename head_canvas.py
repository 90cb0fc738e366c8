"""What a diffusion model is shown of a page: a square around the head, what to draw anew, the pose, and the style.

Nothing here needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from face_landmarks import five_points
from face_regions import Frame, longer_side
from illustration_styler import Style
from utils import FloatArray, GrayImage, RGBImage, as_float, blur, lab_from_rgb, shrink

_FACE_SHARE = 0.5  # of the canvas: InstantID was trained on portraits, and keypoints need room around them
_MASK_SHARE = 0.9  # of the canvas: what is drawn anew has to see some of the page around it
_LATENT_PX = 8  # pixels to a latent: a mask that touches one has all of it

_KEYPOINT_COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
_LIMBS = (0, 1, 3, 4)  # each joined to the nose
_NOSE = 2
_DRAWN_FOR_PX = 1024
_LIMB_PX, _POINT_PX, _LIMB_BRIGHTNESS = 4, 10, 0.6

_STYLE_PX = 192  # a page's style is measured on a copy of this size: lines stay visible, paper grain too
_PALETTE_COLOURS = 5


@dataclass(frozen=True, slots=True)
class HeadCanvas:
    """A square picture of a page around one head.

    Attributes:
        frame: the part of the page in it, at the canvas' scale.
        left, top: where the frame begins in the canvas; what lies beside it is the page's edge, repeated.
        size: its side in pixels.
    """

    frame: Frame
    left: int
    top: int
    size: int

    @classmethod
    def around(cls, mesh: FloatArray, mask: GrayImage, *, size: int) -> HeadCanvas:
        """The canvas for a face (468, 3) and for what is to be drawn (`mask`, HxW of the page), both in page pixels."""
        x, y, width, height = cv2.boundingRect(mask)
        side = max(longer_side(mesh) / _FACE_SHARE, max(width, height) / _MASK_SHARE)
        low, high = mesh[:, :2].min(axis=0), mesh[:, :2].max(axis=0)
        centre = (low + high) / 2
        if width and height:
            # As near to the face's middle as the mask allows.
            middle, room = np.array([x + width / 2, y + height / 2]), (side - np.array([width, height])) / 2
            centre = np.clip(centre, middle - room, middle + room)
        corner = np.round(centre - side / 2).astype(int)
        x1, y1 = np.maximum(corner, 0)
        x2, y2 = np.minimum(corner + int(np.ceil(side)), mask.shape[::-1])
        scale = size / float(np.ceil(side))
        frame = Frame(int(x1), int(y1), int(x2 - x1), int(y2 - y1), scale)
        left, top = (int(v) for v in np.round((np.array([x1, y1]) - corner) * scale))
        return cls(frame, min(left, size - frame.shape[1]), min(top, size - frame.shape[0]), size)

    def show(self, page: RGBImage) -> RGBImage:
        """The page's pixels (HxWx3) on the canvas (size x size x 3)."""
        return self._padded(self.frame.cut(page), cv2.BORDER_REPLICATE)

    def mask(self, page_mask: GrayImage) -> GrayImage:
        """255 where `page_mask` (HxW of the page) is above 0, grown to whole latents; size x size uint8."""
        inside = (self.frame.cut(page_mask) > 0).astype(np.uint8) * 255
        cells = self._padded(inside, cv2.BORDER_CONSTANT).reshape(self.size // _LATENT_PX, _LATENT_PX, -1, _LATENT_PX)
        grown: GrayImage = cells.max(axis=(1, 3)).repeat(_LATENT_PX, axis=0).repeat(_LATENT_PX, axis=1)
        return grown

    def keypoints(self, mesh: FloatArray) -> RGBImage:
        """The pose of a face (468, 3, page pixels) as IdentityNet was taught to read it."""
        placed = self.frame.place(mesh)
        return draw_keypoints(five_points(placed) + np.array([self.left, self.top], np.float32), self.size)

    def on_page(self, picture: RGBImage) -> RGBImage:
        """A picture of the canvas in the pixels of `frame`."""
        height, width = self.frame.shape
        return np.ascontiguousarray(picture[self.top : self.top + height, self.left : self.left + width])

    def _padded(self, pixels: RGBImage, border: int) -> RGBImage:
        height, width = pixels.shape[:2]
        right, bottom = self.size - width - self.left, self.size - height - self.top
        padded: RGBImage = cv2.copyMakeBorder(pixels, self.top, bottom, self.left, right, border)
        return padded


def draw_keypoints(kps: FloatArray, size: int) -> RGBImage:
    """Five points (5, 2) as InstantID's picture of a pose, size x size x 3 RGB.

    Its format: a line from the nose to each other point in that point's colour at 60 % brightness, 8 px wide, with a
    disc of 20 px over each point, on black, at 1024 px.
    """
    factor = size / _DRAWN_FOR_PX
    picture = np.zeros((size, size, 3), np.uint8)
    for index in _LIMBS:
        ends = kps[[index, _NOSE]].astype(np.float64)
        middle, (dx, dy) = ends.mean(axis=0), ends[0] - ends[1]
        axes = (max(1, int(np.hypot(dx, dy) / 2)), max(1, round(_LIMB_PX * factor)))
        outline = cv2.ellipse2Poly(
            (int(middle[0]), int(middle[1])), axes, int(np.degrees(np.arctan2(dy, dx))), 0, 360, 1
        )
        cv2.fillConvexPoly(picture, outline, _KEYPOINT_COLOURS[index])
    picture = (picture * _LIMB_BRIGHTNESS).astype(np.uint8)
    for (x, y), colour in zip(kps, _KEYPOINT_COLOURS, strict=True):
        cv2.circle(picture, (int(x), int(y)), max(1, round(_POINT_PX * factor)), colour, -1)
    return picture


# ---- words -------------------------------------------------------------------------------------------------------

NEGATIVE_PROMPT = (
    "photograph, photorealistic, 3d render, deformed face, asymmetric eyes, extra face, wrinkles, text, watermark, "
    "frame, blurry, low quality"
)

_MEDIA: dict[Style, str] = {
    "storybook": "children's picture book illustration",
    "watercolor": "watercolor painting, pale washes on grained paper",
    "pencil": "colored pencil drawing with hatching",
    "comic": "comic book drawing, bold ink lines, flat colors",
    "none": "illustration",
}

# sRGB of the colours that people name first.
_COLOUR_NAMES: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 248), "light gray": (200, 200, 200), "gray": (128, 128, 128), "dark gray": (70, 70, 74),
    "black": (15, 15, 18), "cream": (250, 240, 215), "beige": (225, 205, 170), "tan": (205, 165, 120),
    "brown": (130, 85, 50), "dark brown": (75, 48, 32), "peach": (250, 205, 175), "pink": (240, 160, 180),
    "red": (205, 45, 45), "dark red": (120, 25, 30), "orange": (240, 145, 50), "yellow": (245, 215, 70),
    "olive green": (125, 125, 55), "light green": (165, 215, 130), "green": (70, 150, 70), "dark green": (30, 80, 45),
    "teal": (40, 140, 140), "turquoise": (90, 205, 205), "sky blue": (140, 195, 235), "blue": (50, 100, 200),
    "navy blue": (28, 40, 90), "lavender": (190, 175, 225), "purple": (120, 65, 160),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of the person, each None where it isn't: years, and "M" or "F" as they appear to a model."""

    age: int | None = None
    gender: Literal["M", "F"] | None = None


def describe(page_rgb: RGBImage, *, style: Style, person: Person) -> str:
    """A prompt for a face in the page's style: who, the medium, its lines and surface, its light and its palette.

    Short enough for CLIP's 77 tokens.
    """
    return ", ".join((f"portrait of {_who(person)}", _MEDIA[style], *page_words(page_rgb)))


def page_words(page_rgb: RGBImage) -> list[str]:
    """How a page (HxWx3) is drawn, as it was measured: its lines and surface, light, and colours."""
    height, width = page_rgb.shape[:2]
    scale = min(1.0, _STYLE_PX / max(height, width))
    small = shrink(page_rgb, (max(8, round(width * scale)), max(8, round(height * scale))))
    lab = lab_from_rgb(small)
    lightness = np.ascontiguousarray(lab[..., 0])
    ink = np.maximum(blur(lightness, 2.5) - blur(lightness, 0.8), 0)
    grain = float(np.median(np.abs(lightness - blur(lightness, 1.0))))
    inked = float((ink > 6).mean())  # the share of pixels that are clearly darker than what lies around them
    words = ["ink outlines" if inked > 0.03 else "soft painted shapes"]
    words.append("textured paper" if grain > 1.2 else "smooth flat colors" if grain < 0.25 else "soft shading")
    middle = float(np.median(lightness))
    words.append("bright daylight" if middle > 65 else "dark scene" if middle < 35 else "gentle light")
    chroma = float(np.hypot(lab[..., 1], lab[..., 2]).mean())
    words.append("vivid palette" if chroma > 32 else "muted palette" if chroma < 14 else "soft palette")
    return [*words[:3], f"{words[3]} of {_list(_palette_names(lab))}"]


def _who(person: Person) -> str:
    child = person.age is None or person.age < 13
    noun = {"M": "boy" if child else "man", "F": "girl" if child else "woman", None: "child" if child else "person"}
    if person.age is None:
        return {"M": "a young boy", "F": "a young girl", None: "a child"}[person.gender]
    ages = ((4, "toddler"), (13, "young"), (20, "teenage"), (40, "young"), (65, "middle-aged"))
    word = next((word for limit, word in ages if person.age < limit), "elderly")
    if 13 <= person.age < 20:
        noun = {"M": "boy", "F": "girl", None: "child"}
    article = "an" if word[0] in "aeiou" else "a"
    return f"{article} {word} {noun[person.gender]}"


def _palette_names(lab: FloatArray) -> list[str]:
    """The page's main colours by name, the most frequent first, each once."""
    pixels = lab.reshape(-1, 3)
    cv2.setRNGSeed(0)  # the same page must give the same words
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 10, 1.0)
    _, labels, centres = cv2.kmeans(pixels, _PALETTE_COLOURS, None, criteria, 1, cv2.KMEANS_PP_CENTERS)
    order = np.argsort(-np.bincount(labels.ravel(), minlength=_PALETTE_COLOURS))
    known = lab_from_rgb(np.array([list(_COLOUR_NAMES.values())], np.uint8))[0]
    nearest = [int(np.linalg.norm(known - as_float(centres[i]), axis=1).argmin()) for i in order]
    names = list(_COLOUR_NAMES)
    return list(dict.fromkeys(names[i] for i in nearest))


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
