"""A kept result is served for exactly the same request of the same owner, and for nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from skimage import data

from service.database import Database, create_engine, open_database, upgrade
from service.image_io import perceptual_hash
from service.result_cache import ResultCache, cache_key
from tests.servers import Postgres

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
REQUEST: dict[str, Any] = {"pixels": PIXELS, "arrays": {"landmarks": b"123", "map": b""}, "options": {"smooth": 1.0}}


@pytest.fixture(params=["memory", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "memory":
        database = open_database(None)
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        database = Database(create_engine(postgres.new_database()))
        upgrade(database.engine)
    yield database
    database.close()


def cache(database: Database, *, max_bytes: int = 1000, lifetime: timedelta = timedelta(hours=1)) -> ResultCache:
    return ResultCache(database, lifetime=lifetime, max_bytes=max_bytes)


def put(kept: ResultCache, key: str, content: bytes = b"<svg/>", owner: str = "user:1") -> None:
    kept.put(key, content, owner=owner, kind="contours", perceptual_hash=None)


def key(**changes: Any) -> str:
    return cache_key("contours", "user:1", **(REQUEST | changes))


def test_the_same_request_has_the_same_key() -> None:
    assert key() == key(pixels=PIXELS.copy(), options=dict(REQUEST["options"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"pixels": np.roll(PIXELS, 1, axis=1)},
        {"pixels": PIXELS.reshape(30, 40, 3)},
        {"arrays": {"landmarks": b"124", "map": b""}},
        {"arrays": {"landmarks": b"", "map": b"123"}},
        {"arrays": {"landmarks": b"123"}},
        {"options": {"smooth": 1.0000001}},
        {"options": {}},
    ],
    ids=["shifted", "same bytes, other shape", "other landmarks", "bytes of another name", "left out", "option",
         "default"],
)  # fmt: skip
def test_whatever_the_result_depends_on_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


def test_another_owner_or_kind_has_another_key() -> None:
    assert len({cache_key(kind, owner, **REQUEST) for kind in "ab" for owner in ("user:1", "user:2")}) == 4


def test_a_perceptual_hash_sees_what_a_key_must_not_rely_on() -> None:
    """Nearly the same picture has nearly the same hash, and its contours lie elsewhere."""
    photo = data.astronaut()
    shifted = np.roll(photo, 1, axis=1)
    bits = bin(int(perceptual_hash(photo), 16) ^ int(perceptual_hash(shifted), 16)).count("1")
    assert bits < 20
    assert key(pixels=photo) != key(pixels=shifted)


def test_what_was_kept_is_found_until_it_expires(database: Database) -> None:
    kept = cache(database)
    assert kept.get("a") is None
    put(kept, "a")
    put(kept, "a")
    assert kept.get("a") == b"<svg/>"
    put(cache(database, lifetime=timedelta(seconds=-1)), "b")
    assert kept.get("b") is None
    assert kept.sweep() == 1


def test_the_oldest_go_when_there_is_too_much(database: Database) -> None:
    kept = cache(database, max_bytes=25)
    for name in "abc":
        put(kept, name, b"0123456789")
    put(kept, "too large", b"x" * 26)
    assert kept.get("too large") is None
    assert kept.sweep() == 1
    assert [kept.get(name) is None for name in "abc"] == [True, False, False]


def test_hits_and_misses_are_told() -> None:
    seen: list[str] = []
    kept = ResultCache(open_database(None), lifetime=timedelta(hours=1), max_bytes=100, on_lookup=seen.append)
    kept.get("a")
    put(kept, "a")
    kept.get("a")
    assert seen == ["miss", "hit"]


def test_an_owners_results_go_with_the_owner(database: Database) -> None:
    kept = cache(database)
    put(kept, "a")
    put(kept, "b", owner="user:2")
    assert kept.forget("user:1") == 1
    assert [kept.get(name) is None for name in "ab"] == [True, False]
