"""Settings: both names of a variable, units, and refusals that an operator understands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from config import Settings, available_cores

PROJECT = Path(__file__).resolve().parents[1]


def from_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


def test_the_seeds_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment(monkeypatch, DEVICE="cpu", API_PORT="8001", MAX_UPLOAD_SIZE="5", AWS_REGION="eu-west-1")
    assert (settings.api_port, settings.max_upload_bytes, settings.aws_region) == (8001, 5 * 2**20, "eu-west-1")


def test_port_is_the_second_name_of_api_port(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, PORT="9000").api_port == 9000


def test_an_empty_value_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, AWS_S3_BUCKET="", MAX_WORKERS="").max_workers == available_cores()


def test_dotenv_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RETENTION_HOURS=2.5\nSOMETHING_ELSE=1\n")
    assert Settings(_env_file=tmp_path / ".env").retention_hours == 2.5


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment(monkeypatch, CORS_ORIGINS="https://a.example/, http://localhost:3000")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEVICE", "tpu"),
        ("API_PORT", "0"),
        ("API_PORT", "70000"),
        ("MAX_UPLOAD_SIZE", "0"),
        ("MAX_PIXELS", "many"),
        ("MAX_WORKERS", "0"),
        ("MAX_QUEUE", "-1"),
        ("RETENTION_HOURS", "nan"),
        ("RETENTION_HOURS", "-1"),
        ("FACE_DET_THRESH", "1.5"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "https://shop.example/path"),
        ("LOG_FORMAT", "xml"),
        ("S3_BUCKET_NAME", "pictures"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
    ],
)
def test_what_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        from_environment(monkeypatch, **{name: value})


def test_contradictions_are_refused() -> None:
    with pytest.raises(ValidationError, match="contradicts"):
        Settings(_env_file=None, device="cuda", face_engine="mediapipe")
    with pytest.raises(ValidationError, match="two folders"):
        Settings(_env_file=None, upload_dir=Path("x"), output_dir=Path("x"))


@pytest.mark.parametrize("command", [["main.py"], ["-m", "uvicorn", "main:app", "--port", "0"]])
def test_a_refused_setting_stops_the_start_with_one_line(command: list[str], tmp_path: Path) -> None:
    run = start(command, tmp_path, MAX_QUEUE="-3")
    assert run.returncode != 0
    assert run.stderr.strip().splitlines() == ["Not started. MAX_QUEUE: Input should be greater than or equal to 0"]


def test_a_missing_engine_stops_the_start_with_a_sentence_and_no_traceback(tmp_path: Path) -> None:
    run = start(["main.py"], tmp_path, FACE_ENGINE="insightface", API_PORT="18999")
    assert run.returncode != 0
    assert "Not started. FACE_ENGINE=insightface" in run.stderr
    assert "Traceback" not in run.stderr


def start(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    folders = {f"{name}_DIR": str(folder / name) for name in ("UPLOAD", "OUTPUT", "MODELS")}
    return subprocess.run(
        [sys.executable, *command], cwd=PROJECT, env={"PATH": "", **folders, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
