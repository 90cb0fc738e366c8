"""Storage as the settings want it, and whether it answers just now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, NoReturn

import structlog

from config import Settings
from service.errors import StorageRefusedError, StorageUnavailableError
from service.local_storage import LocalFiles
from service.middleware import StartError
from service.object_store import ObjectStore
from service.storage import OUTPUTS, UPLOADS, Storage, UserPrefixes

logger = structlog.get_logger("storage")

CHECK_INTERVAL_S = 15.0
SILENCE_S = 3.0
"""After which a storage that was asked is told to be unreachable, though it may still answer."""


@dataclass(frozen=True, slots=True)
class StorageHealth:
    """As it was last seen; `reason` says why it is unreachable."""

    state: Literal["ready", "unreachable"] = "ready"
    reason: str | None = None


class StorageMonitor:
    """Asks the storage now and then, so that who asks for its health never waits."""

    def __init__(self, storage: Storage) -> None:
        self.health = StorageHealth()
        self._storage = storage

    def check(self) -> None:
        """Ask now. Blocking.

        Raises:
            StorageRefusedError: it answers, but an operator must mend something.
        """
        try:
            self._storage.store.check()
        except StorageUnavailableError as error:
            self._see(StorageHealth("unreachable", error.message))
            if isinstance(error, StorageRefusedError):
                raise
        else:
            self._see(StorageHealth())

    async def keep_checking(self) -> NoReturn:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            asked = asyncio.create_task(asyncio.to_thread(self.check))
            answered, _ = await asyncio.wait({asked}, timeout=SILENCE_S)
            if not answered:
                self._see(StorageHealth("unreachable", StorageUnavailableError().message))
            try:
                await asked
            except StorageRefusedError:
                pass
            except Exception:
                logger.exception("the storage could not be checked")

    def _see(self, health: StorageHealth) -> None:
        if health != self.health:
            if health.state == "ready":
                logger.info("files can be stored again", storage=self._storage.store.kind)
            else:
                logger.error("files can't be stored", storage=self._storage.store.kind, reason=health.reason)
        self.health = health


def open_storage(settings: Settings) -> Storage:
    """The storage of the settings: a bucket where one is named, else local folders. Asks nobody yet.

    Raises:
        StartError: it can't be made as it is configured.
    """
    if settings.aws_s3_bucket is not None:
        prefixes = UserPrefixes(settings.s3_avatar_prefix, settings.s3_subject_prefix, settings.s3_generated_prefix)
        return Storage(_bucket(settings, settings.aws_s3_bucket), prefixes)
    try:
        files = LocalFiles(upload_dir=settings.upload_dir, output_dir=settings.output_dir)
    except OSError as error:
        raise StartError(f"UPLOAD_DIR or OUTPUT_DIR can't be made: {error}") from error
    prefixes = UserPrefixes(
        avatar=f"{UPLOADS}{settings.s3_avatar_prefix}",
        subject=f"{UPLOADS}{settings.s3_subject_prefix}",
        generated=f"{OUTPUTS}{settings.s3_generated_prefix}",
    )
    return Storage(files, prefixes)


def _bucket(settings: Settings, bucket: str) -> ObjectStore:
    from service.s3_storage import S3Account, S3Objects  # boto3 costs half a second of the start

    key, secret, token = settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token
    account = S3Account(
        bucket=bucket,
        region=settings.aws_region,
        endpoint_url=str(settings.s3_endpoint_url) if settings.s3_endpoint_url else None,
        public_endpoint_url=str(settings.s3_public_endpoint_url) if settings.s3_public_endpoint_url else None,
        addressing_style=settings.s3_addressing_style,
        access_key_id=key.get_secret_value() if key else None,
        secret_access_key=secret.get_secret_value() if secret else None,
        session_token=token.get_secret_value() if token else None,
        presign_expire_s=settings.s3_presign_expire_s,
    )
    try:
        return S3Objects(account)
    except StorageRefusedError as error:
        raise StartError(error.message) from error
