"""The running application in folders of its own, and the pictures that tests share."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from skimage import data

from config import Settings
from face_landmarks import FaceLandmarks
from main import create_app

pytest_plugins = ["tests.servers", "tests.diffusion_fixtures"]

PAGES = Path(__file__).resolve().parents[1] / "examples" / "pages"


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Settings with all folders under `folder`, whatever the environment's .env says.

    Data are kept in memory: DBOS is one for a process, and it is the shared application's.
    """
    folders = {f"{name}_dir": folder / f"{name}s" for name in ("upload", "output", "model")}
    folders["models_dir"] = folders.pop("model_dir")
    defaults: dict[str, Any] = {
        "max_workers": 2,
        "db_use_database": False,
        "database_url": f"sqlite:///{folder}/data/service.db",
    }
    return Settings(_env_file=None, **(folders | defaults | changes))


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:  # noqa: A002 - Pillow's word
    """The picture as a file."""
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


@pytest.fixture(scope="session")
def service_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("service")


@pytest.fixture(scope="session")
def app_client(service_folder: Path) -> Iterator[TestClient]:
    """One running application for all tests that leave it as they found it."""
    with TestClient(create_app(settings_in(service_folder, db_use_database=True))) as client:
        yield client


@pytest.fixture(scope="module")
def landmarks() -> Iterator[FaceLandmarks]:
    """The embedded models, one graph of each."""
    landmarks = FaceLandmarks(pool_size=1)
    yield landmarks
    landmarks.close()


@pytest.fixture(scope="session")
def photo() -> bytes:
    """A public-domain photo with one face."""
    return encoded(Image.fromarray(data.astronaut()), "JPEG", quality=92)


@pytest.fixture(scope="session")
def page() -> bytes:
    """A drawn page with one face."""
    return sorted(PAGES.glob("*.png"))[0].read_bytes()
