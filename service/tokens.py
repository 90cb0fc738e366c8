"""Tokens: what an access token says and who may read it, and secrets that are kept as hashes only."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from uuid import UUID

import jwt
from fastapi.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection

from config import Settings
from service.auth import Principal
from service.tables import utc_now

ALGORITHM = "HS256"
"""The only one that is taken: a token must not choose how it is checked."""
ISSUER = "illustration-personalizer"
AUDIENCE = "illustration-personalizer/api"
REQUIRED_CLAIMS = ("sub", "iat", "exp", "jti", "iss", "aud")
SECRET_BYTES = 32
API_KEY_START = "ipk_"
"""Tells a user's key from an access token, and lets scanners find one that was published."""
REFRESH_START = "ipr_"


class AccessTokens:
    """Issues access tokens, and knows the user of one that is shown."""

    def __init__(self, secret: str, *, lifetime: timedelta) -> None:
        self._secret = secret
        self.lifetime = lifetime

    def issue(self, user_id: UUID) -> str:
        """A signed token for this user."""
        now = utc_now()
        claims = {
            "sub": str(user_id), "iat": now, "exp": now + self.lifetime, "jti": secrets.token_hex(8),
            "iss": ISSUER, "aud": AUDIENCE,
        }  # fmt: skip
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def user_of(self, token: str) -> UUID | None:
        """Whose token it is; None where it is expired, altered, or none of ours."""
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=[ALGORITHM], issuer=ISSUER, audience=AUDIENCE,
                options={"require": list(REQUIRED_CLAIMS)},
            )  # fmt: skip
            return UUID(claims["sub"])
        except (jwt.InvalidTokenError, ValueError):
            return None

    async def __call__(self, token: str, connection: HTTPConnection) -> Principal | None:  # noqa: ARG002 - a Verifier
        user_id = self.user_of(token)
        return None if user_id is None else Principal("user", str(user_id))


def access_tokens(settings: Settings) -> AccessTokens:
    """Signed with AUTH_SECRET_KEY, or with a secret of this start where there is none."""
    key = settings.auth_secret_key
    secret = secrets.token_urlsafe(SECRET_BYTES) if key is None else key.get_secret_value()
    return AccessTokens(secret, lifetime=timedelta(minutes=settings.auth_access_token_expire_minutes))


async def user_of_key(token: str, connection: HTTPConnection) -> Principal | None:
    """The user whose key for programs this is: a Verifier."""
    if not token.startswith(API_KEY_START):
        return None
    user_id = await run_in_threadpool(connection.app.state.service.accounts.user_of_key, token)
    return None if user_id is None else Principal("user", str(user_id))


def new_secret(start: str) -> str:
    """A random token of 256 bits."""
    return start + secrets.token_urlsafe(SECRET_BYTES)


def hash_of(token: str) -> str:
    """What is kept of a random token. It needs no salt and no slow hash: nobody guesses 256 bits."""
    return hashlib.sha256(token.encode()).hexdigest()
