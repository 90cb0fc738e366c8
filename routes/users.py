"""A user's avatar and subject: the pictures that memories and portraits are made from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, File, Header, Path, Response, UploadFile
from pydantic import BaseModel, Field

from routes.error_docs import documented
from routes.illustration_models import Deleted
from service.deps import AccountsDep, CurrentPrincipal, Pool, SettingsDep, StorageDep
from service.errors import (
    BusyError,
    DatabaseUnavailableError,
    ForbiddenError,
    ImageTooLargeError,
    ImageUnreadableError,
    InvalidValueError,
    NotFoundError,
    PayloadTooLargeError,
    StorageFullError,
    StorageUnavailableError,
    UnsupportedImageError,
)
from service.negotiation import is_known_by_client
from service.storage import USER_ID_PATTERN, UserPicture
from service.user_pictures import check_user, keep_picture, picture_to_show

router = APIRouter(prefix="/v1/users/{user_id}", tags=["users"])

Which = Annotated[
    UserPicture,
    Path(description="avatar: for memories, POST /v1/images/memory. subject: for portraits, POST /v1/images/subject."),
]
PICTURE: dict[str, Any] = {"image/jpeg": {}, "image/png": {}, "image/webp": {}}
KEPT_ERRORS = documented(
    ForbiddenError, PayloadTooLargeError, UnsupportedImageError, ImageTooLargeError, ImageUnreadableError,
    BusyError, DatabaseUnavailableError, StorageUnavailableError, StorageFullError,
)  # fmt: skip
SHOWN_ERRORS = documented(
    ForbiddenError, NotFoundError, UnsupportedImageError, InvalidValueError, DatabaseUnavailableError,
    StorageUnavailableError,
)  # fmt: skip
REMOVED_ERRORS = documented(ForbiddenError, NotFoundError, DatabaseUnavailableError, StorageUnavailableError)


class UserPictureKept(BaseModel):
    """The picture as it is stored: upright, and without its metadata."""

    success: Literal[True] = True
    user_id: str
    picture: UserPicture
    width: int = Field(description="In pixels.")
    height: int = Field(description="In pixels.")
    media_type: str = Field(description="JPEG, or PNG where it is transparent somewhere.", examples=["image/jpeg"])
    url: str = Field(description="Of the picture.", examples=["/v1/users/user123/avatar"])


def own_user_id(
    user_id: Annotated[
        str,
        Path(pattern=USER_ID_PATTERN, description="Your name for the user, or the id of an account.", examples=["u1"]),
    ],
    principal: CurrentPrincipal,
    accounts: AccountsDep,
) -> str:
    """A user whose pictures the caller may reach."""
    check_user(user_id, principal, accounts)
    return user_id


OwnUserId = Annotated[str, Depends(own_user_id)]


@router.put("/{which}", responses=KEPT_ERRORS)
async def keep_user_picture(
    user_id: OwnUserId,
    which: Which,
    file: Annotated[UploadFile, File(description="The picture. It replaces the one before, and stays until deleted.")],
    storage: StorageDep,
    settings: SettingsDep,
    pool: Pool,
) -> UserPictureKept:
    """Store a user's avatar or subject, as `{prefix}{user_id}` in the bucket or in the local folder of uploads."""
    kept = await pool.run(keep_picture, storage, which, user_id, file.file, max_pixels=settings.max_pixels)
    return UserPictureKept(
        user_id=user_id, picture=which, width=kept.width, height=kept.height, media_type=kept.media_type,
        url=f"/v1/users/{user_id}/{which}",
    )  # fmt: skip


@router.head("/{which}", include_in_schema=False)
@router.get("/{which}", response_class=Response, responses={200: {"content": PICTURE}, 304: {}, **SHOWN_ERRORS})
def get_user_picture(
    user_id: OwnUserId, which: Which, storage: StorageDep, if_none_match: Annotated[str | None, Header()] = None
) -> Response:
    """A user's avatar or subject; takes If-None-Match."""
    data, media_type, etag = picture_to_show(storage, which, user_id)
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if is_known_by_client(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type=media_type, headers=headers)


@router.delete("/{which}", responses=REMOVED_ERRORS)
def delete_user_picture(user_id: OwnUserId, which: Which, storage: StorageDep) -> Deleted:
    """Remove a user's avatar or subject at once."""
    storage.delete_user_picture(which, user_id)
    return Deleted()
