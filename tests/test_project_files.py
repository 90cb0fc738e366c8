"""What a newcomer relies on: pinned requirements, documented settings, commands that exist, slots that fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config import Settings
from face_landmarks import FaceLandmarks

PROJECT = Path(__file__).resolve().parent.parent
PAGES = PROJECT / "examples" / "pages"
SLOTS: dict[str, list[dict[str, list[float]]]] = json.loads((PAGES / "slots.json").read_text(encoding="utf-8"))
PINNED = re.compile(r"[a-z0-9.-]+==[^ ;]+( ; .+)?")
SETTING = re.compile(r"^([A-Z][A-Z0-9_]+)=", re.MULTILINE)


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def pins(name: str) -> list[str]:
    return [line for line in read(name).splitlines() if line and not line.lstrip().startswith("#")]


COMPILED = ["requirements", "requirements-dev", "requirements-gpu", "requirements-generation"]


@pytest.mark.parametrize("name", [f"{name}.txt" for name in COMPILED])
def test_requirements_are_pinned_and_name_no_index(name: str) -> None:
    assert [line for line in pins(name) if not PINNED.fullmatch(line)] == []
    assert "://" not in read(name)


@pytest.mark.parametrize("name", COMPILED)
def test_every_requirement_asked_for_is_compiled(name: str) -> None:
    asked = {
        re.split(r"[\s<>=~;\[]", line)[0].lower()
        for line in read(f"{name}.in").splitlines()
        if line and not line.startswith(("#", "-c "))
    }
    compiled = {line.split("==")[0] for line in pins(f"{name}.txt")}
    assert asked <= compiled


def test_the_job_engine_stays_within_the_line_it_was_measured_at() -> None:
    assert re.search(r"^dbos~=3\.4 ", read("requirements.in"), re.MULTILINE)


def test_one_opencv_and_one_onnxruntime_are_installed_on_each_system() -> None:
    compiled = pins("requirements.txt")
    assert [line.split("==")[0] for line in compiled if "opencv" in line] == ["opencv-contrib-python-headless"]
    runtimes = {line.split("==")[0]: line.split(" ; ")[1] for line in compiled if line.startswith("onnxruntime")}
    assert runtimes == {"onnxruntime": "sys_platform == 'darwin'", "onnxruntime-gpu": "sys_platform != 'darwin'"}


@pytest.mark.parametrize("name", ["requirements-dev.txt", "requirements-generation.txt"])
def test_what_is_added_fits_the_runtime_pins(name: str) -> None:
    runtime = dict(line.split("==", 1) for line in pins("requirements.txt") if ";" not in line)
    tools = dict(line.split(" ;")[0].split("==", 1) for line in pins(name))
    assert {name: tools[name] for name in tools.keys() & runtime.keys()} == {
        name: runtime[name] for name in tools.keys() & runtime.keys()
    }


def test_a_cpu_build_of_torch_brings_none_of_nvidias_libraries() -> None:
    assert [line for line in pins("requirements-generation.txt") if line.startswith(("nvidia", "cuda", "triton"))] == []


def test_env_example_lists_every_setting_in_order() -> None:
    assert SETTING.findall(read(".env.example")) == [name.upper() for name in Settings.model_fields]


def test_env_example_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    assert Settings(_env_file=PROJECT / ".env.example") == Settings(_env_file=None)


def test_env_example_explains_every_setting() -> None:
    explained = re.findall(r"^# (.+)\n([A-Z][A-Z0-9_]+)=", read(".env.example"), re.MULTILINE)
    assert explained == [(field.description, name.upper()) for name, field in Settings.model_fields.items()]


def test_readme_explains_every_setting() -> None:
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| [^|]*\| ([^|]+) \|$", read("README.md"), re.MULTILINE)
    assert rows == [(name.upper(), field.description) for name, field in Settings.model_fields.items()]


def test_the_nextjs_example_is_pinned_and_its_lock_file_names_no_registry() -> None:
    manifest, lock = (json.loads(read(f"examples/nextjs/{name}")) for name in ("package.json", "package-lock.json"))
    assert lock["packages"][""]["dependencies"] == manifest["dependencies"]
    for name, version in (manifest["dependencies"] | manifest["devDependencies"]).items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert [name for name, package in lock["packages"].items() if "resolved" in package] == []
    assert [name for name, package in lock["packages"].items() if name and "integrity" not in package] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documented_commands_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", read("Makefile"), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", read(document), re.MULTILINE))
    assert named
    assert named <= targets


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_documented_files_exist(document: str) -> None:
    links = re.findall(r"\]\(((?!https?:|#)[^)]+)\)", read(document))
    assert [link for link in links if not (PROJECT / link.split("#")[0]).exists()] == []


def test_map_shows_every_module_and_folder_of_code() -> None:
    shown = set(re.findall(r"^([a-z_]+(?:\.py|/)) ", read("CONTRIBUTING.md"), re.MULTILINE))
    modules = {path.name for path in PROJECT.glob("*.py")}
    folders = {f"{path.parent.name}/" for path in PROJECT.glob("[a-z]*/*.py")}
    assert modules | folders <= shown
    assert [name for name in shown if not (PROJECT / name).exists()] == []


def test_every_page_has_slots_and_every_slot_a_page() -> None:
    assert set(SLOTS) == {path.name for path in PAGES.glob("*.png")}
    assert len(SLOTS) >= 3


@pytest.mark.parametrize("name", sorted(SLOTS))
def test_stored_slot_is_the_drawn_face(name: str) -> None:
    page = np.asarray(Image.open(PAGES / name).convert("RGB"))
    slot = SLOTS[name][0]
    x1, y1, x2, y2 = slot["bbox"]
    kps = np.array(slot["kps"])
    assert 0 <= x1 < x2 <= page.shape[1]
    assert 0 <= y1 < y2 <= page.shape[0]
    assert ((kps >= (x1, y1)) & (kps <= (x2, y2))).all()

    landmarks = FaceLandmarks(pool_size=1)
    try:
        found = landmarks.detect(page)[0]
    finally:
        landmarks.close()
    eye_distance = np.linalg.norm(kps[1] - kps[0])
    assert np.abs(found.kps - kps).max() < 0.15 * eye_distance


def test_the_image_build_gets_every_file_that_it_copies() -> None:
    copied = re.findall(r"^COPY (\S+) ", read("Dockerfile"), re.MULTILINE)
    kept = read(".dockerignore").splitlines()
    assert [name for name in copied if name != "." and not name.startswith("--") and f"!{name}" not in kept] == []
    assert "requirements.txt" in copied


@pytest.mark.parametrize("folder", ["studio", "examples/pages", "examples/try-on"])
def test_the_image_carries_the_studio_and_its_examples(folder: str) -> None:
    assert f"!{folder}" in read(".dockerignore").splitlines()
    assert (PROJECT / folder).is_dir()
