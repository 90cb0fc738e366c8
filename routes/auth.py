"""Accounts: register, log in, stay logged in, keys for programs."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field, SecretStr, StringConstraints

from routes.error_docs import documented
from service.accounts import Tokens, normal
from service.deps import (
    AccountsDep,
    CurrentPrincipal,
    CurrentUser,
    MetricsDep,
    Owner,
    PasswordPool,
    SettingsDep,
    StateDep,
)
from service.errors import (
    BusyError,
    ConflictError,
    DatabaseUnavailableError,
    ForbiddenError,
    InvalidValueError,
    NotFoundError,
    RateLimitedError,
    UnauthorizedError,
)
from service.rate_limit import client_network, parse_limit
from service.tables import ApiKey, User

router = APIRouter(prefix="/api/v1/auth", tags=["accounts"])
open_router = APIRouter(prefix="/api/v1/auth", tags=["accounts"])
"""For those who have no token yet."""

LOGIN_ERRORS = documented(UnauthorizedError, RateLimitedError, BusyError, DatabaseUnavailableError)
USER_ERRORS = documented(UnauthorizedError, DatabaseUnavailableError)

Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=3, max_length=254, pattern=r"^[^\x00-\x20\x7f]+$"),
    Field(description="An e-mail address or a name, without spaces. Upper and lower case are the same.",
          examples=["user@example.com"]),
]  # fmt: skip
NewPassword = Annotated[SecretStr, Field(min_length=8, max_length=256, examples=["correct horse battery staple"])]
Password = Annotated[SecretStr, Field(min_length=1, max_length=256)]
RefreshTokenText = Annotated[str, Field(min_length=1, max_length=200, description="As the last login or refresh gave.")]


class NewUser(BaseModel):
    """Who registers."""

    username: Username
    password: NewPassword
    full_name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] | None = Field(
        None, examples=["John Doe"]
    )


class Login(BaseModel):
    """Username and password."""

    username: Username
    password: Password


class Refresh(BaseModel):
    """A refresh token."""

    refresh_token: RefreshTokenText


class PasswordChange(BaseModel):
    """The old password and the new one."""

    old_password: Password
    new_password: NewPassword


class Profile(BaseModel):
    """An account."""

    id: UUID
    username: str
    full_name: str | None
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> Profile:
        """As JSON takes it."""
        return cls(id=user.id, username=user.username, full_name=user.full_name, created_at=user.created_at)


class TokenAnswer(BaseModel):
    """What a login gives. Each refresh token works once: `POST /api/v1/auth/refresh` answers with the next."""

    access_token: str = Field(description="Send it as `Authorization: Bearer <token>`.")
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds until the access token expires.", examples=[1800])

    @classmethod
    def of(cls, tokens: Tokens) -> TokenAnswer:
        """As JSON takes it."""
        return cls(access_token=tokens.access_token, refresh_token=tokens.refresh_token, expires_in=tokens.expires_in)


class Done(BaseModel):
    """It was done."""

    success: Literal[True] = True


class NewKey(BaseModel):
    """What a key is for, and how long."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)] = Field(
        examples=["web shop"]
    )
    expires_in_days: int | None = Field(None, ge=1, le=3650, description="Null: until it is revoked.")


class KeyInfo(BaseModel):
    """A key, without its text."""

    id: UUID
    name: str
    start: str = Field(description="Its first characters.", examples=["ipk_Yx3f9a"])
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute; null where it was never used.")

    @classmethod
    def of(cls, key: ApiKey) -> KeyInfo:
        """As JSON takes it."""
        return cls.model_validate(key, from_attributes=True)


class CreatedKey(KeyInfo):
    """A new key. Its text is shown this once."""

    key: str = Field(description="Send it as `Authorization: Bearer <key>`. It can't be read again.")


class Keys(BaseModel):
    """The user's keys, newest first."""

    keys: list[KeyInfo]


async def limit_tries(request: Request, state: StateDep, metrics: MetricsDep) -> None:
    """Count a try to get in against its address.

    Raises:
        RateLimitedError: there were too many.
    """
    await _count_try(state, metrics, "address", client_network(request))


async def _count_try(state: StateDep, metrics: MetricsDep, by: str, whose: str) -> None:
    limit = parse_limit(state.settings.rate_limit_login)
    if limit is None:
        return
    verdict = await state.limiter.hit(limit, "login", by, whose)
    if not verdict.allowed:
        metrics.rate_limited(f"login by {by}")
        raise RateLimitedError(
            f"Too many tries: no more than {limit}. Wait {verdict.reset_s} s.", retry_after_s=verdict.reset_s
        )


LimitedTries = Depends(limit_tries)


def may_register(settings: SettingsDep, principal: CurrentPrincipal) -> None:
    """Whether this caller may make an account.

    Raises:
        ForbiddenError: nobody may, or only callers with a key of API_KEY.
    """
    if settings.auth_registration == "closed":
        raise ForbiddenError("Accounts can't be made here (AUTH_REGISTRATION=closed).")
    if settings.auth_registration == "auto" and settings.api_key and principal.kind != "api_key":
        raise ForbiddenError("Making an account needs the service's own API key as `Authorization: Bearer <key>`.")


@open_router.post(
    "/register",
    status_code=201,
    dependencies=[LimitedTries, Depends(may_register)],
    responses=documented(ForbiddenError, ConflictError, RateLimitedError, BusyError, DatabaseUnavailableError),
)
async def register(user: NewUser, accounts: AccountsDep, pool: PasswordPool) -> Profile:
    """Make an account."""
    made = await pool.run(accounts.register, user.username, user.password.get_secret_value(), user.full_name)
    return Profile.of(made)


@open_router.post("/login", dependencies=[LimitedTries], responses=LOGIN_ERRORS)
async def login(
    login: Login, accounts: AccountsDep, pool: PasswordPool, state: StateDep, metrics: MetricsDep
) -> TokenAnswer:
    """Get an access token, and a refresh token for the next one."""
    await _count_try(state, metrics, "name", hashlib.sha256(normal(login.username).encode()).hexdigest())
    return TokenAnswer.of(await pool.run(accounts.login, login.username, login.password.get_secret_value()))


@open_router.post("/refresh", dependencies=[LimitedTries], responses=LOGIN_ERRORS)
async def refresh(refresh: Refresh, accounts: AccountsDep) -> TokenAnswer:
    """Exchange a refresh token for new tokens. One that was used before ends the login, since it was copied."""
    return TokenAnswer.of(await run_in_threadpool(accounts.refresh, refresh.refresh_token))


@open_router.post("/logout", responses=documented(DatabaseUnavailableError))
async def logout(refresh: Refresh, accounts: AccountsDep) -> Done:
    """End the login of a refresh token. Its access token works until it expires, minutes later."""
    await run_in_threadpool(accounts.logout, refresh.refresh_token)
    return Done()


@router.get("/me", responses=USER_ERRORS)
async def me(user_id: CurrentUser, accounts: AccountsDep) -> Profile:
    """The account whose token was sent."""
    return Profile.of(await run_in_threadpool(accounts.user, user_id))


@router.delete("/me", responses=USER_ERRORS)
async def delete_account(user_id: CurrentUser, owner: Owner, accounts: AccountsDep, state: StateDep) -> Done:
    """Remove the account with its logins, keys, jobs, templates and cached results."""
    await run_in_threadpool(state.forget, owner)
    await run_in_threadpool(accounts.delete, user_id)
    return Done()


@router.post("/password", dependencies=[LimitedTries], responses=LOGIN_ERRORS)
async def change_password(
    change: PasswordChange, user_id: CurrentUser, accounts: AccountsDep, pool: PasswordPool
) -> Done:
    """Set another password, and end all logins of the account. Keys stay."""
    old, new = change.old_password.get_secret_value(), change.new_password.get_secret_value()
    await pool.run(accounts.change_password, user_id, old, new)
    return Done()


@router.post(
    "/api-keys",
    status_code=201,
    responses=documented(UnauthorizedError, InvalidValueError, DatabaseUnavailableError),
)
async def create_key(new: NewKey, user_id: CurrentUser, accounts: AccountsDep) -> CreatedKey:
    """Make a key for a program. Its text is shown this once."""
    lifetime = None if new.expires_in_days is None else timedelta(days=new.expires_in_days)
    key, text = await run_in_threadpool(accounts.create_key, user_id, new.name, lifetime=lifetime)
    return CreatedKey(key=text, **KeyInfo.of(key).model_dump())


@router.get("/api-keys", responses=USER_ERRORS)
async def list_keys(user_id: CurrentUser, accounts: AccountsDep) -> Keys:
    """Your keys, newest first."""
    return Keys(keys=[KeyInfo.of(key) for key in await run_in_threadpool(accounts.keys, user_id)])


@router.delete("/api-keys/{key_id}", responses=documented(UnauthorizedError, NotFoundError, DatabaseUnavailableError))
async def revoke_key(key_id: UUID, user_id: CurrentUser, accounts: AccountsDep) -> Done:
    """Revoke a key: it works no more."""
    await run_in_threadpool(accounts.revoke_key, user_id, key_id)
    return Done()
