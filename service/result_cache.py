"""Results that are served again for exactly the same request of the same owner, and for nothing else.

The key is a hash over everything that the result depends on. A perceptual hash is no key: it does not see a shift of a
few pixels, which moves every coordinate of a contour, and different people's pictures can share one. It is kept beside
the result, as a hint to near duplicates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.database import Database
from service.tables import CacheEntry, utc_now
from service.version import VERSION
from utils import RGBImage


def cache_key(
    kind: str, owner: str, *, pixels: RGBImage, arrays: Mapping[str, bytes], options: Mapping[str, Any]
) -> str:
    """SHA-256, in hex, over all that a result depends on.

    Args:
        kind: which result.
        owner: whose: nobody is served another one's.
        pixels: HxWx3 uint8, upright; the file they came in does not matter.
        arrays: further inputs as bytes, by name.
        options: plain values, by name; floats as they are.
    """
    digest = hashlib.sha256()
    head = {"kind": kind, "owner": owner, "version": VERSION, "shape": list(pixels.shape), "options": dict(options)}
    for part in (json.dumps(head, sort_keys=True).encode(), pixels.tobytes(), *_named(arrays)):
        digest.update(len(part).to_bytes(8, "big"))  # so that no two lists of parts make the same bytes
        digest.update(part)
    return digest.hexdigest()


class ResultCache:
    """Thread-safe; blocking. All methods may raise DatabaseUnavailableError."""

    def __init__(
        self,
        database: Database,
        *,
        lifetime: timedelta,
        max_bytes: int,
        on_lookup: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`max_bytes`: of all results together; 0 keeps none. `on_lookup` is told "hit" or "miss"."""
        self._on_lookup = on_lookup
        self._database = database
        self._lifetime = lifetime
        self._max_bytes = max_bytes

    @property
    def enabled(self) -> bool:
        """Whether anything is kept."""
        return self._max_bytes > 0

    def get(self, key: str) -> bytes | None:
        """The result kept under this key."""
        with self._database.session() as session:
            fresh = (CacheEntry.key == key, CacheEntry.expires_at > utc_now())
            content = session.scalar(sa.select(CacheEntry.content).where(*fresh))
        self._on_lookup("miss" if content is None else "hit")
        return content

    def put(self, key: str, content: bytes, *, owner: str, kind: str, perceptual_hash: str | None) -> None:
        """Keep a result, unless it alone is more than all may be. The first that was kept stays."""
        if len(content) > self._max_bytes:
            return
        now = utc_now()
        insert = postgresql.insert if self._database.kind == "postgresql" else sqlite.insert
        with self._database.session() as session:
            session.execute(
                insert(CacheEntry)
                .values(
                    key=key, owner=owner, kind=kind, content=content, size=len(content),
                    perceptual_hash=perceptual_hash, created_at=now, expires_at=now + self._lifetime,
                )
                .on_conflict_do_update(index_elements=["key"], set_={"expires_at": now + self._lifetime})
            )  # fmt: skip

    def forget(self, owner: str) -> int:
        """Remove all results of an owner; how many."""
        with self._database.session() as session:
            gone = session.scalars(sa.delete(CacheEntry).where(CacheEntry.owner == owner).returning(CacheEntry.key))
            return len(gone.all())

    def sweep(self) -> int:
        """Remove what has expired, and the oldest of what is too much; how many."""
        newer = sa.func.sum(CacheEntry.size).over(order_by=(CacheEntry.created_at.desc(), CacheEntry.key))
        with_sum = sa.select(CacheEntry.key, newer.label("so_far")).subquery()
        too_much = sa.select(with_sum.c.key).where(with_sum.c.so_far > self._max_bytes)
        with self._database.session() as session:
            gone = sa.or_(CacheEntry.expires_at <= utc_now(), CacheEntry.key.in_(too_much))
            return len(session.scalars(sa.delete(CacheEntry).where(gone).returning(CacheEntry.key)).all())


def _named(arrays: Mapping[str, bytes]) -> list[bytes]:
    return [part for name in sorted(arrays) for part in (name.encode(), arrays[name])]
