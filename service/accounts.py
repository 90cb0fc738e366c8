"""Accounts: users, their logins, the refresh tokens of a login, and their keys for programs.

Passwords are hashed with Argon2id by pwdlib; a bcrypt hash from elsewhere is checked too, and replaced at a login.
A login answers the same, and takes as long, whether or not there is such a user.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import sqlalchemy as sa
from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher
from pwdlib.hashers.bcrypt import BcryptHasher
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.database import Database
from service.errors import ConflictError, InvalidValueError, NotFoundError, UnauthorizedError
from service.tables import ApiKey, RefreshToken, User, utc_now
from service.tokens import API_KEY_START, REFRESH_START, AccessTokens, hash_of, new_secret

MAX_API_KEYS = 50
"""A user's keys that are in force; more are a program that makes one for each request."""
LAST_USED_EVERY = timedelta(minutes=1)
"""How exactly the last use of a key is kept: a write for each request would cost more than the request."""
SHOWN_CHARACTERS = 10
BCRYPT_MAX_BYTES = 72
"""bcrypt reads no more of a password, and refuses a longer one."""

WRONG_LOGIN = "The username or the password is wrong."
WRONG_REFRESH = "The refresh token is not valid, or no longer. Log in again."

_PASSWORDS = PasswordHash((Argon2Hasher(), BcryptHasher()))
_NOBODYS_HASH = _PASSWORDS.hash("the password of nobody")


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives. `expires_in` is the access token's lifetime in seconds."""

    access_token: str
    refresh_token: str
    expires_in: int


class Accounts:
    """Thread-safe; blocking: a password takes some 50 ms of a core. All methods may raise DatabaseUnavailableError."""

    def __init__(
        self,
        database: Database,
        tokens: AccessTokens,
        *,
        refresh_lifetime: timedelta,
        on_event: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`on_event` is told what happened: registered, login, login_refused, refreshed, refresh_reused, logout."""
        self._database = database
        self._tokens = tokens
        self._refresh_lifetime = refresh_lifetime
        self._on_event = on_event

    def register(self, username: str, password: str, full_name: str | None) -> User:
        """A new user.

        Raises:
            ConflictError: the name is taken.
        """
        # Hashed before the name is looked up: a taken one takes as long.
        user = User(
            id=uuid4(), username=normal(username), full_name=full_name,
            password_hash=_PASSWORDS.hash(password), created_at=utc_now(),
        )  # fmt: skip
        try:
            with self._database.session() as session:
                session.add(user)
        except IntegrityError as error:
            raise ConflictError("This username is taken. Choose another, or log in.") from error
        self._on_event("registered")
        return user

    def login(self, username: str, password: str) -> Tokens:
        """Tokens for a user who knows the password.

        Raises:
            UnauthorizedError: there is no such user, or the password is wrong; which of the two is not said.
        """
        with self._database.session() as session:
            user = session.scalar(sa.select(User).where(User.username == normal(username)))
        matches, better_hash = _verify(password, _NOBODYS_HASH if user is None else user.password_hash)
        if user is None or not matches:
            self._on_event("login_refused")
            raise UnauthorizedError(WRONG_LOGIN)
        with self._database.session() as session:
            if better_hash is not None:
                session.execute(sa.update(User).where(User.id == user.id).values(password_hash=better_hash))
            tokens = self._new_tokens(session, user.id, family=uuid4())
        self._on_event("login")
        return tokens

    def refresh(self, refresh_token: str) -> Tokens:
        """New tokens for a refresh token, which is then used up. One that was used before ends its whole family.

        Raises:
            UnauthorizedError: it is unknown, expired, used or revoked.
        """
        now = utc_now()
        with self._database.session() as session:
            known = session.scalar(sa.select(RefreshToken).where(RefreshToken.token_hash == hash_of(refresh_token)))
            if known is not None:
                unused = (
                    RefreshToken.id == known.id,
                    RefreshToken.used_at.is_(None),
                    RefreshToken.revoked_at.is_(None),
                )
                spend = sa.update(RefreshToken).where(*unused, RefreshToken.expires_at > now).values(used_at=now)
                if session.scalar(spend.returning(RefreshToken.id)) is not None:
                    tokens = self._new_tokens(session, known.user_id, family=known.family)
                    self._on_event("refreshed")
                    return tokens
                if known.used_at is not None:
                    self._on_event("refresh_reused")
                    _revoke(session, RefreshToken.family == known.family)
        raise UnauthorizedError(WRONG_REFRESH)

    def logout(self, refresh_token: str) -> None:
        """End the login that this refresh token came from; one that is unknown is none any more."""
        with self._database.session() as session:
            family = sa.select(RefreshToken.family).where(RefreshToken.token_hash == hash_of(refresh_token))
            _revoke(session, RefreshToken.family == family.scalar_subquery())
        self._on_event("logout")

    def user(self, user_id: UUID) -> User:
        """The user with this id.

        Raises:
            UnauthorizedError: the account was deleted.
        """
        with self._database.session() as session:
            user = session.get(User, user_id)
        if user is None:
            raise UnauthorizedError("This account was deleted.")
        return user

    def change_password(self, user_id: UUID, old: str, new: str) -> None:
        """Set another password, and end all logins: whoever knew the old one is out.

        Raises:
            UnauthorizedError: the old one is wrong.
        """
        user = self.user(user_id)
        if not _verify(old, user.password_hash)[0]:
            raise UnauthorizedError("The old password is wrong.")
        new_hash = _PASSWORDS.hash(new)
        with self._database.session() as session:
            session.execute(sa.update(User).where(User.id == user_id).values(password_hash=new_hash))
            _revoke(session, RefreshToken.user_id == user_id)

    def delete(self, user_id: UUID) -> None:
        """Remove an account with its logins and keys."""
        with self._database.session() as session:
            session.execute(sa.delete(User).where(User.id == user_id))

    def create_key(self, user_id: UUID, name: str, *, lifetime: timedelta | None) -> tuple[ApiKey, str]:
        """A new key, and its text, which nobody can read again later.

        Raises:
            InvalidValueError: the user has `MAX_API_KEYS` already.
        """
        text, now = new_secret(API_KEY_START), utc_now()
        key = ApiKey(
            id=uuid4(), user_id=user_id, name=name, start=text[:SHOWN_CHARACTERS], key_hash=hash_of(text),
            created_at=now, expires_at=None if lifetime is None else now + lifetime, last_used_at=None,
        )  # fmt: skip
        with self._database.session() as session:
            keys = session.scalar(sa.select(sa.func.count()).select_from(ApiKey).where(ApiKey.user_id == user_id)) or 0
            if keys >= MAX_API_KEYS:
                raise InvalidValueError(f"{MAX_API_KEYS} keys are the most for one user. Revoke one first.")
            session.add(key)
        return key, text

    def keys(self, user_id: UUID) -> Sequence[ApiKey]:
        """The user's keys, newest first."""
        with self._database.session() as session:
            mine = sa.select(ApiKey).where(ApiKey.user_id == user_id)
            return session.scalars(mine.order_by(ApiKey.created_at.desc(), ApiKey.id)).all()

    def revoke_key(self, user_id: UUID, key_id: UUID) -> None:
        """Remove a key.

        Raises:
            NotFoundError: it is none of the user's.
        """
        with self._database.session() as session:
            mine = sa.delete(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)
            if session.scalar(mine.returning(ApiKey.id)) is None:
                raise NotFoundError(f"You have no key {key_id}.")

    def user_of_key(self, text: str) -> UUID | None:
        """Whose key it is; None where it is unknown, expired or revoked."""
        now = utc_now()
        with self._database.session() as session:
            key = session.scalar(sa.select(ApiKey).where(ApiKey.key_hash == hash_of(text)))
            if key is None or (key.expires_at is not None and key.expires_at <= now):
                return None
            if key.last_used_at is None or now - key.last_used_at >= LAST_USED_EVERY:
                session.execute(sa.update(ApiKey).where(ApiKey.id == key.id).values(last_used_at=now))
            return key.user_id

    def sweep(self) -> int:
        """Forget refresh tokens and keys that have expired; how many."""
        now: datetime = utc_now()
        with self._database.session() as session:
            tokens = session.scalars(
                sa.delete(RefreshToken).where(RefreshToken.expires_at <= now).returning(RefreshToken.id)
            ).all()
            keys = session.scalars(sa.delete(ApiKey).where(ApiKey.expires_at <= now).returning(ApiKey.id)).all()
        return len(tokens) + len(keys)

    def _new_tokens(self, session: Session, user_id: UUID, *, family: UUID) -> Tokens:
        refresh_token = new_secret(REFRESH_START)
        session.add(
            RefreshToken(
                id=uuid4(),
                user_id=user_id,
                family=family,
                token_hash=hash_of(refresh_token),
                expires_at=utc_now() + self._refresh_lifetime,
                used_at=None,
                revoked_at=None,
            )
        )
        lifetime = int(self._tokens.lifetime.total_seconds())
        return Tokens(self._tokens.issue(user_id), refresh_token, lifetime)


def normal(username: str) -> str:
    """The form in which a username is kept and looked up."""
    return username.strip().lower()


def _verify(password: str, known_hash: str) -> tuple[bool, str | None]:
    """Whether it matches, and a better hash where the known one is of an old kind."""
    if known_hash.startswith("$2") and len(password.encode()) > BCRYPT_MAX_BYTES:
        return False, None
    return _PASSWORDS.verify_and_update(password, known_hash)


def _revoke(session: Session, which: sa.ColumnElement[bool]) -> None:
    session.execute(
        sa.update(RefreshToken).where(which, RefreshToken.revoked_at.is_(None)).values(revoked_at=utc_now())
    )
