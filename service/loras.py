"""The LoRAs that requests name: files in LORA_DIR, and, with a bucket, below S3_LORA_PREFIX."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from config_generation import LORA_ID
from service.errors import InvalidValueError, ModelUnavailableError, NotFoundError
from service.object_store import ObjectStore

SUFFIX = ".safetensors"


class LoraFiles:
    """Finds LoRAs by id. Blocking where one comes from a bucket; safe from any thread and from several processes."""

    def __init__(self, folder: Path, *, store: ObjectStore | None = None, prefix: str | None = None) -> None:
        """`store` and `prefix`: where LoRAs that aren't in `folder` are fetched from, into `folder`/.bucket."""
        self._folder = folder
        self._store = store
        self._prefix = prefix

    def find(self, lora_id: str) -> Path:
        """The file of a LoRA.

        Raises:
            InvalidValueError: no id of a LoRA.
            NotFoundError: there is none.
        """
        if not re.fullmatch(LORA_ID, lora_id):
            raise InvalidValueError(
                "lora_id: letters, digits, dots, dashes and underscores, beginning with one of the first two."
            )
        own = self._folder / f"{lora_id}{SUFFIX}"
        if own.is_file():
            return own
        fetched = self._fetched(lora_id)
        if fetched is None:
            raise NotFoundError(f"lora_id: there is no LoRA {lora_id!r}.")
        return fetched

    def _fetched(self, lora_id: str) -> Path | None:
        """The copy of the bucket's file as it is now; a former one is not used again."""
        if self._store is None or self._prefix is None:
            return None
        stored = self._store.first_of(f"{self._prefix}{lora_id}{SUFFIX}")
        if stored is None:
            return None
        copy = self._folder / ".bucket" / f"{lora_id}{SUFFIX}"
        with suppress(FileNotFoundError):
            facts = copy.stat()
            if (facts.st_size, int(facts.st_mtime)) == (stored.size, int(stored.modified)):
                return copy
        partial = copy.with_name(f".{copy.name}.{uuid4().hex[:8]}")
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with self._store.open(stored.key) as source, partial.open("wb") as target:
                shutil.copyfileobj(source, target)
            os.utime(partial, (stored.modified, stored.modified))
            partial.replace(copy)
        except FileNotFoundError:  # removed from the bucket meanwhile
            return None
        except OSError as error:
            raise ModelUnavailableError("The LoRA can't be copied into LORA_DIR: it can't be written to.") from error
        finally:
            partial.unlink(missing_ok=True)
        return copy
