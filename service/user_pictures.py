"""Avatars and subjects: the pictures of a user that illustrations are made from."""

from __future__ import annotations

from uuid import UUID

from service.accounts import Accounts
from service.auth import Principal
from service.errors import ForbiddenError, UnauthorizedError

NOT_YOURS = "This user is somebody else. Accounts reach their own pictures only; a key of API_KEY reaches all."


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
