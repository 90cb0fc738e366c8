"""The import rules of the design, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
ASSEMBLY = {"main", "config", "config_generation"}
ENGINES = sorted(path for path in PROJECT.glob("*.py") if path.stem not in ASSEMBLY)
ROUTES = sorted((PROJECT / "routes").glob("*.py"))
SERVICE = sorted((PROJECT / "service").glob("*.py"))
ALL = [*sorted(PROJECT.glob("*.py")), *ROUTES, *SERVICE]

ENGINE_MAY_USE = {"service.errors", "service.model_store"}
HEAVY = {"onnxruntime", "mediapipe", "cv2", "torch", "insightface"}
ONE_DOOR = {
    "mediapipe": {"mediapipe_graphs"}, "PIL": {"image_io"}, "pillow_heif": {"image_io"}, "dbos": {"jobs"},
    "boto3": {"s3_storage"}, "botocore": {"s3_storage"},
}  # fmt: skip
MAIN_MAX_LINES = 150
MODULE_MAX_LINES = 520
"""About 500: beyond it a module is two things."""


def imports(path: Path) -> Iterator[str]:
    """Every module that is imported anywhere in the file, functions included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in imports(path)}


@pytest.mark.parametrize("path", ENGINES, ids=lambda path: path.stem)
def test_engines_know_neither_http_nor_storage(path: Path) -> None:
    assert not packages(path) & {"fastapi", "starlette", "routes", "sqlalchemy"}
    assert {name for name in imports(path) if name.startswith("service")} <= ENGINE_MAY_USE


@pytest.mark.parametrize("path", ROUTES, ids=lambda path: path.stem)
def test_routes_leave_pixels_and_models_to_engines(path: Path) -> None:
    assert not packages(path) & HEAVY


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_nothing_imports_main_and_services_do_not_import_routes(path: Path) -> None:
    assert "main" not in packages(path)
    assert path.stem == "main" or path.parent.name == "routes" or "routes" not in packages(path)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_each_outside_thing_has_one_door(path: Path) -> None:
    for package, doors in ONE_DOOR.items():
        assert package not in packages(path) or path.stem in doors


def test_main_only_assembles() -> None:
    assert len((PROJECT / "main.py").read_text(encoding="utf-8").splitlines()) <= MAIN_MAX_LINES


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_MAX_LINES
