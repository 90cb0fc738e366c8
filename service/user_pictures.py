"""Avatars and subjects: the pictures of a user that illustrations are made from, checked as they come and as they go.

Others may put pictures into a bucket as well, so what lies there is as untrusted as an upload.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from service.accounts import Accounts
from service.auth import Principal
from service.errors import ForbiddenError, ImageUnreadableError, UnauthorizedError, UnsupportedImageError
from service.image_io import decode_image, encode_image, media_type_of
from service.storage import Storage, UserPicture

MIN_SIDE_PX = 32
"""A smaller picture shows nobody."""
NOT_YOURS = "This user is somebody else. Accounts reach their own pictures only; a key of API_KEY reaches all."


@dataclass(frozen=True, slots=True)
class KeptPicture:
    """A picture as it is stored: its size in pixels, and the type of the file."""

    width: int
    height: int
    media_type: str


def keep_picture(storage: Storage, which: UserPicture, user_id: str, file: BinaryIO, *, max_pixels: int) -> KeptPicture:
    """Store a user's avatar or subject instead of the one before: upright, in sRGB, without metadata.

    A JPEG, or a PNG where it is transparent somewhere.

    Raises:
        ServiceError: one of the image or storage errors.
    """
    image = decode_image(file, max_pixels=max_pixels, to_srgb=True)
    height, width = image.rgb.shape[:2]
    if min(height, width) < MIN_SIDE_PX:
        raise ImageUnreadableError(
            f"{width}x{height} pixels are too few to show anybody. Use at least {MIN_SIDE_PX}x{MIN_SIDE_PX}."
        )
    opaque = image.alpha is None or image.alpha.min() == 255
    data = encode_image(image.rgb, format="jpeg" if opaque else "png", alpha=None if opaque else image.alpha)
    media_type = "image/jpeg" if opaque else "image/png"
    storage.save_user_picture(which, user_id, data, media_type=media_type)
    return KeptPicture(width, height, media_type)


def picture_to_show(storage: Storage, which: UserPicture, user_id: str) -> tuple[bytes, str, str]:
    """A user's avatar or subject as it is stored, its media type, and an ETag of its content.

    Raises:
        NotFoundError: the user has none.
        UnsupportedImageError: what was put there is no picture that browsers show.
    """
    data = storage.read_user_picture(which, user_id)
    media_type = media_type_of(data)
    if media_type is None:
        raise UnsupportedImageError(f"What is stored as this user's {which} is no JPEG, PNG or WebP.")
    return data, media_type, f'"{hashlib.sha256(data).hexdigest()[:32]}"'


def check_user(user_id: str, principal: Principal, accounts: Accounts) -> None:
    """Let callers reach only the pictures that are theirs: an account its own, and strangers no account's.

    Where the service is open, strangers may name users of their own: they are the product's, which sends the requests.

    Raises:
        ForbiddenError: the user is somebody else.
        DatabaseUnavailableError: whether it is an account can't be told now.
    """
    match principal.kind:
        case "user":
            allowed = user_id == principal.id
        case "anonymous":
            allowed = not _is_account(user_id, accounts)
        case "api_key":
            allowed = True
    if not allowed:
        raise ForbiddenError(NOT_YOURS)


def _is_account(user_id: str, accounts: Accounts) -> bool:
    try:
        accounts.user(UUID(user_id))
    except (ValueError, UnauthorizedError):
        return False
    return True
