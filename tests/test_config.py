"""Settings: both names of a variable, units, and refusals that an operator understands."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from config import Settings, available_cores

WHSEC = "whsec_" + base64.b64encode(bytes(32)).decode()
PROJECT = Path(__file__).resolve().parents[1]

SECRET = "9f1c7b2e8d4a6f3051c7e9b2d8f4a6c0e1b3d5f7"


def from_environment(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


def test_the_seeds_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment(monkeypatch, DEVICE="cpu", API_PORT="8001", MAX_UPLOAD_SIZE="5", AWS_REGION="eu-west-1")
    assert (settings.api_port, settings.max_upload_bytes, settings.aws_region) == (8001, 5 * 2**20, "eu-west-1")


def test_second_names_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment(monkeypatch, PORT="9000", APP_DEBUG="true")
    assert (settings.api_port, settings.debug) == (9000, True)


def test_an_empty_value_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert from_environment(monkeypatch, AWS_S3_BUCKET="", MAX_WORKERS="").max_workers == available_cores()


def test_dotenv_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("RETENTION_HOURS=2.5\nSOMETHING_ELSE=1\n")
    assert Settings(_env_file=tmp_path / ".env").retention_hours == 2.5


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment(monkeypatch, CORS_ORIGINS="https://a.example/, http://localhost:3000")
    assert settings.cors_origins == ("https://a.example", "http://localhost:3000")


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("https://gateway.example", "https://gateway.example/v1"),
        ("https://gateway.example/", "https://gateway.example/v1"),
        ("https://gateway.example/v1beta", "https://gateway.example/v1beta"),
        ("http://localhost:4000/gemini/v1", "http://localhost:4000/gemini/v1"),
        ("http://10.0.0.7:4000/v1", "http://10.0.0.7:4000/v1"),
        ("http://[::1]:4000/v1", "http://[::1]:4000/v1"),
        ("http://gateway:4000", "http://gateway:4000/v1"),
    ],
)
def test_the_image_models_url_has_a_version_and_is_encrypted_but_at_home(
    monkeypatch: pytest.MonkeyPatch, given: str, used: str
) -> None:
    assert str(from_environment(monkeypatch, NANO_BANANA_API_URL=given).nano_banana_api_url) == used


def test_image_models_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = from_environment(monkeypatch, NANO_BANANA_MODELS="models/gemini-3-pro-image, other")
    assert settings.nano_banana_models == ("gemini-3-pro-image", "other")


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
        ("FACE_MATCH_THRESHOLD", "1.1"),
        ("FACE_MATCH_THRESHOLD", "nan"),
        ("FACE_ENGINE", "dlib"),
        ("CORS_ORIGINS", "shop.example"),
        ("CORS_ORIGINS", "https://shop.example/path"),
        ("LOG_FORMAT", "xml"),
        ("DATABASE_URL", "mysql://host/name"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("DATABASE_URL", "postgresql://"),
        ("ROLE", "boss"),
        ("JOB_WORKERS", "0"),
        ("MAX_JOBS", "0"),
        ("WORKER_TIMEOUT", "0.5"),
        ("WEBHOOK_SECRET", "secret"),
        ("WEBHOOK_SECRET", "whsec_dG9vIHNob3J0"),
        ("WEBHOOK_SECRET", "whsec_!!"),
        ("S3_BUCKET_NAME", "My_Pictures"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_REGION", "Frankfurt am Main"),
        ("S3_ENDPOINT_URL", "http://minio:9000"),
        ("S3_PRESIGN_EXPIRE_S", "604801"),
        ("S3_ADDRESSING_STYLE", "host"),
        ("S3_AVATAR_PREFIX", "avatars"),
        ("S3_AVATAR_PREFIX", "../avatars/"),
        ("S3_AVATAR_PREFIX", "/"),
        ("S3_AVATAR_PREFIX", "a//b/"),
        ("S3_AVATAR_PREFIX", "subjects/"),
        ("S3_SUBJECT_PREFIX", "avatars/of/"),
        ("S3_GENERATED_PREFIX", "outputs/"),
        ("NANO_BANANA_API_KEY", "your_api_key_here"),
        ("NANO_BANANA_API_KEY", "two words"),
        ("NANO_BANANA_API_URL", "generativelanguage.googleapis.com"),
        ("NANO_BANANA_API_URL", "ftp://generativelanguage.googleapis.com"),
        ("NANO_BANANA_API_URL", "http://generativelanguage.googleapis.com/v1"),
        ("NANO_BANANA_API_URL", "http://8.8.8.8/v1"),
        ("NANO_BANANA_API_URL", "https://user:secret@gateway.example/v1"),
        ("NANO_BANANA_API_URL", "https://gateway.example/v1?key=secret"),
        ("NANO_BANANA_API_URL", "https://gateway.example:99999/v1"),
        ("NANO_BANANA_MODELS", ","),
        ("NANO_BANANA_MODELS", "first/../../second"),
        ("NANO_BANANA_TIMEOUT", "inf"),
        ("NANO_BANANA_CONCURRENCY", "0"),
        ("NANO_BANANA_PROXY", "proxy.example:3128"),
    ],
)
def test_what_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        from_environment(monkeypatch, **{name: value})


def test_contradictions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine in ("mediapipe", "opencv"):
        with pytest.raises(ValidationError, match="contradicts"):
            from_environment(monkeypatch, DEVICE="cuda", FACE_ENGINE=engine)
    monkeypatch.delenv("DEVICE")
    with pytest.raises(ValidationError, match="two folders"):
        Settings(_env_file=None, upload_dir=Path("x"), output_dir=Path("x"))
    alone: list[dict[str, Any]] = [{}, {"database_url": "postgresql://u@host/name", "db_use_database": False}]
    for changes in alone:
        for several in ({"api_workers": 2}, {"role": "api"}, {"role": "worker"}):
            with pytest.raises(ValidationError, match="set DATABASE_URL to postgresql"):
                Settings(_env_file=None, **changes, **several)
    together: dict[str, Any] = {"database_url": "postgres://u@host/name", "api_workers": 2, "role": "api"}
    with pytest.raises(ValidationError, match="needs AUTH_SECRET_KEY"):
        Settings(_env_file=None, **together)
    shared = Settings(_env_file=None, auth_secret_key=SECRET, **together)
    assert shared.database_url == "postgresql+psycopg://u@host/name"


def test_production_needs_a_strong_secret() -> None:
    for secret, complaint in ((None, "needs AUTH_SECRET_KEY"), ("short", "too short"), ("x" * 40, "too short"),
                              ("change-me-change-me-change-me-change-me", "an example")):  # fmt: skip
        with pytest.raises(ValidationError, match=complaint):
            Settings(_env_file=None, environment="production", auth_secret_key=secret)
    assert Settings(_env_file=None, environment="production", auth_secret_key=SECRET).needs_credentials is False
    assert Settings(_env_file=None, auth_secret_key="short").auth_secret_key is not None


def test_half_of_the_workers_do_jobs() -> None:
    assert [Settings(_env_file=None, max_workers=n).concurrent_jobs for n in (1, 2, 5)] == [1, 1, 2]
    assert Settings(_env_file=None, max_workers=8, job_workers=3).concurrent_jobs == 3


def test_secrets_do_not_show() -> None:
    shown = repr(Settings(_env_file=None, database_url="postgresql://u:hidden@host/n", webhook_secret=SecretStr(WHSEC)))
    assert "hidden" not in shown
    assert WHSEC not in shown


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
    folders["DATABASE_URL"] = f"sqlite:///{folder}/data/service.db"
    return subprocess.run(
        [sys.executable, *command], cwd=PROJECT, env={"PATH": "", **folders, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_bucket_by_either_name_is_taken_with_keys_or_with_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "hide-me"}
    named = from_environment(monkeypatch, S3_BUCKET_NAME="pictures", S3_ENDPOINT_URL="http://minio:9000", **keys)
    assert (named.aws_s3_bucket, str(named.s3_endpoint_url)) == ("pictures", "http://minio:9000/")
    assert "hide-me" not in repr(named)
    for name in (*keys, "S3_BUCKET_NAME", "S3_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    assert from_environment(monkeypatch, AWS_S3_BUCKET="pictures").aws_access_key_id is None


@pytest.mark.parametrize("url", ["http://s3.example.com", "https://key:secret@s3.example.com", "ftp://minio"])
def test_pictures_go_to_no_bucket_over_the_open_network_in_clear(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ValidationError):
        from_environment(monkeypatch, AWS_S3_BUCKET="pictures", S3_ENDPOINT_URL=url)
