"""Every setting of the service: name, unit, default, and what is refused.

Values come from the environment, then from `.env`. An empty value is an unset one. The environment's names are the
attributes' in upper case (`UPLOAD_DIR`, `MAX_PIXELS`); some have a second name that is read as well.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, NoReturn, Self

from pydantic import AliasChoices, AnyHttpUrl, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from config_generation import GenerationSettings
from service.version import NAME, VERSION

LogLevel = Literal["debug", "info", "warning", "error"]

MIN_KEY_LENGTH = 20
"""Characters of an API key: 20 random ones of base64 are 120 bits, which nobody guesses."""
MIN_KEY_LETTERS = 8
"""Different characters of an API key: fewer are a key held down."""
EXAMPLE_KEY = re.compile(r"your[-_]|change[-_]?(me|this)|example|placeholder|password|api[-_]?key", re.IGNORECASE)
"""What documents write where a key belongs."""
MAKE_KEY = "openssl rand -base64 32"
MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""Of an image model: it becomes a part of a URL."""
PREFIX = r"^([A-Za-z0-9_-][A-Za-z0-9._-]*/)+$"
"""Of keys: folders that end in a slash, none hidden, none above."""
MIN_SECRET_LENGTH = 32
"""Characters of a signing secret: as many as the hash that it is used with has bytes (RFC 7518, 3.2)."""


def available_cores() -> int:
    """CPU cores that this process may use: fewer than the machine's where an affinity is set."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


MAKE_WEBHOOK_SECRET = "python -c 'import base64, os; print(f\"whsec_{base64.b64encode(os.urandom(32)).decode()}\")'"


def webhook_key(secret: SecretStr) -> bytes:
    """The bytes that sign; empty where the secret is not whsec_ and base64."""
    prefix, _, encoded = secret.get_secret_value().partition("whsec_")
    try:
        return b"" if prefix else base64.b64decode(encoded, validate=True)
    except ValueError:
        return b""


def _is_weak(secret: SecretStr | None) -> bool:
    text = "" if secret is None else secret.get_secret_value()
    return len(text) < MIN_SECRET_LENGTH or len(set(text)) < MIN_KEY_LETTERS or bool(EXAMPLE_KEY.search(text))


def _fits_header(key: str) -> bool:
    return key.isascii() and key.isprintable() and " " not in key


def _is_own_network(host: str) -> bool:
    """Loopback and private addresses, and names without a dot: containers, and machines of one network."""
    try:
        return ip_address(host.strip("[]")).is_private
    except ValueError:
        return "." not in host


class ServiceSettings(BaseSettings):
    """The settings that are not image generation's."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        populate_by_name=True,
        frozen=True,
    )

    # Server
    app_name: str = Field(
        NAME, min_length=1, max_length=100, description="What the service calls itself at /, /health and /docs."
    )
    app_version: str = Field(
        VERSION, min_length=1, max_length=40, description="The version that /, /health and /docs show."
    )
    api_host: str = Field("0.0.0.0", description="Address that the service listens on.")
    api_port: int = Field(
        8000,
        ge=1,
        le=65535,
        validation_alias=AliasChoices("API_PORT", "PORT"),
        description="TCP port. PORT is read too.",
    )
    api_workers: int = Field(
        1, ge=1, le=64, description="Processes. Each loads its own engines; the CPU cores are divided among them."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Web origins that may call the API from a browser, separated by commas; * is any. Default: none.",
    )
    api_key: Annotated[tuple[SecretStr, ...], NoDecode] = Field(
        (),
        description="Keys that callers send as `Authorization: Bearer <key>`, separated by commas; empty: open to all.",
    )
    prometheus_enabled: bool = Field(True, description="Answer Prometheus at GET /metrics.")
    environment: Literal["development", "production"] = Field(
        "development", description="production refuses to start without AUTH_SECRET_KEY, or with one that is weak."
    )
    auth_secret_key: SecretStr | None = Field(
        None,
        description="Signs access tokens: at least 32 random characters. Default, in development: new each start.",
    )
    auth_required: bool = Field(
        False, description="Ask everyone for credentials, even without API_KEY: then only accounts get in."
    )
    auth_registration: Literal["auto", "open", "closed"] = Field(
        "auto",
        description="Who may make an account: open, closed, or auto: anyone, or with API_KEY who sends it.",
    )
    auth_access_token_expire_minutes: int = Field(30, ge=1, le=1440, description="Minutes that an access token works.")
    auth_refresh_token_expire_days: int = Field(
        7, ge=1, le=365, description="Days after which someone who did not come back has to log in again."
    )
    log_level: LogLevel = Field("info", description="debug, info, warning or error.")
    debug: bool = Field(
        False,
        validation_alias=AliasChoices("DEBUG", "APP_DEBUG"),
        description="Log at level debug, whatever LOG_LEVEL says, and keep what SAVE_DEBUG_ARTIFACTS names. "
        "APP_DEBUG is read too.",
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="console, json (one object a line), or auto: console at a terminal, json otherwise."
    )

    # What a request may cost
    max_upload_size: int = Field(
        50, ge=1, le=1024, description="Largest request body in MB, all its files together. It is held in memory."
    )
    max_pixels: int = Field(
        50_000_000, ge=10_000, le=500_000_000, description="Largest picture in pixels, read before it is decoded."
    )
    max_workers: int = Field(
        default_factory=available_cores, ge=1, le=256, description="Pictures worked on at once. Default: the CPU cores."
    )
    max_queue: int = Field(
        32, ge=0, le=10_000, description="Requests that may wait for a worker; one more is answered 503 BUSY at once."
    )

    rate_limit: str = Field(
        "1200/minute",
        pattern=r"^(off|[1-9]\d{0,8}/(second|minute|hour|day))$",
        description="Requests per key or account, or per address without one: N/second, minute, hour or day; or off.",
    )
    rate_limit_login: str = Field(
        "10/minute",
        pattern=r"^(off|[1-9]\d{0,8}/(second|minute|hour|day))$",
        description="Tries to log in, register or refresh, per address and per username; or off.",
    )
    redis_url: str | None = Field(
        None,
        pattern=r"^rediss?://\S+$",
        repr=False,
        description="redis://HOST:PORT/DB counts RATE_LIMIT for all processes together. Default: each in its memory.",
    )

    fetch_timeout: float = Field(
        20, ge=1, le=300, allow_inf_nan=False, description="Seconds in which a picture's URL must have been read."
    )
    fetch_allow_private: bool = Field(
        False, description="Let pictures' URLs lead to loopback, private and link-local addresses, and to any port."
    )

    # Files
    upload_dir: Path = Field(Path("uploads"), description="Folder of uploads and templates.")
    output_dir: Path = Field(Path("outputs"), description="Folder of results.")
    models_dir: Path = Field(Path("models"), description="Folder of downloaded models.")
    retention_hours: float = Field(
        24, gt=0, le=87_600, allow_inf_nan=False, description="Hours after which uploads and results are removed."
    )

    # Data and jobs
    db_use_database: bool = Field(
        True, description="false keeps jobs in memory: they are lost when the service stops, finished or not."
    )
    database_url: str = Field(
        "sqlite:///data/service.db",
        repr=False,
        description="sqlite:///FILE for one process, or postgresql://USER:PASSWORD@HOST:PORT/NAME for many.",
    )
    cache_max_mb: int = Field(
        256,
        ge=0,
        le=100_000,
        description="Contours kept in the database for the same request again, in MB; 0: none.",
    )
    role: Literal["all", "api", "worker"] = Field(
        "all", description="api leaves jobs to other processes; worker runs jobs and answers health checks only."
    )
    job_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="Jobs worked on at once by this process. Default: half of MAX_WORKERS."
    )
    max_jobs: int = Field(
        200, ge=1, le=100_000, description="Jobs that may be unfinished; one more is answered 503 BUSY at once."
    )
    worker_timeout: float = Field(
        15, ge=1, le=3600, allow_inf_nan=False,
        description="Seconds of silence after which a process's jobs go to another one on the same PostgreSQL.",
    )  # fmt: skip
    webhook_secret: SecretStr | None = Field(
        None, description="Signs webhooks: whsec_ and 24 to 64 random bytes in base64. Without it there are none."
    )
    webhook_allow_private: bool = Field(
        False, description="Let webhooks go to loopback, private and link-local addresses, for networks of your own."
    )

    # Engines
    device: Literal["auto", "cpu", "cuda"] = Field(
        "cpu", description="cpu, cuda (an error at start unless it really runs), or auto: cuda where it runs."
    )
    face_engine: Literal["auto", "insightface", "opencv", "mediapipe"] = Field(
        "auto",
        description="insightface and opencv run the pack FACE_MODEL; auto takes the one it is for, else mediapipe.",
    )
    face_model: str = Field("buffalo_l", min_length=1, description="A profile of `models list`, or a pack's folder.")
    face_det_thresh: float = Field(
        0.5, ge=0.05, le=0.95, allow_inf_nan=False, description="Least confidence of a detected face, 0.05 to 0.95."
    )
    face_match_threshold: float | None = Field(
        None,
        ge=-1,
        le=1,
        allow_inf_nan=False,
        description="Least cosine of two faces of one person, -1 to 1. Default: the one known for FACE_MODEL.",
    )
    auto_download_models: bool = Field(
        False, description="Fetch FACE_MODEL in the background when it is missing; it is used from the next start on."
    )

    # Virtual try-on
    work_image_size: int = Field(
        1536, ge=512, le=3072, description="Pixels of the longer side in which a try-on's draft is made."
    )
    quality_threshold: float = Field(
        0.7, ge=0, le=1, allow_inf_nan=False,
        description="Least score of a draft; below it another attempt is made, and the answer says that none passed.",
    )  # fmt: skip
    tryon_timeout: float = Field(
        300, ge=5, le=3600, allow_inf_nan=False,
        description="Seconds until a try-on is given up, its wait for a worker and for the image model included.",
    )  # fmt: skip
    save_debug_artifacts: bool | None = Field(
        None,
        description="Keep masks, keypoints and draft of each try-on job as a ZIP to look at. Default: as DEBUG says.",
    )

    # Image model
    nano_banana_api_key: SecretStr | None = Field(
        None, description="Key of the image model, to whose provider final try-ons then send the person's photo."
    )
    nano_banana_api_url: AnyHttpUrl = Field(
        AnyHttpUrl("https://generativelanguage.googleapis.com/v1"),
        description="Base URL, with the version, of the Gemini API or of a gateway that speaks as it does.",
    )
    nano_banana_models: Annotated[tuple[str, ...], NoDecode] = Field(
        ("gemini-nano-banana-2.1", "gemini-3.1-flash-image", "gemini-3-pro-image"),
        description="Image models in the order they are tried, separated by commas; the next where one does not exist.",
    )
    nano_banana_timeout: float = Field(
        120,
        ge=5,
        le=900,
        allow_inf_nan=False,
        description="Seconds until an image model's picture is given up, retries included.",
    )
    nano_banana_concurrency: int = Field(
        2, ge=1, le=64, description="Requests to the image model that each process has open at once."
    )
    nano_banana_proxy: AnyHttpUrl | None = Field(
        None,
        repr=False,
        description="HTTP proxy on the way to the image model. Those of the environment are not used.",
    )
    allow_external_image_api: bool = Field(
        True, description="false forbids sending any picture to the image model, whatever else is set."
    )

    # Files in S3
    aws_access_key_id: SecretStr | None = Field(
        None, description="S3: who asks. Default, with a bucket: the role or profile that boto3 finds."
    )
    aws_secret_access_key: SecretStr | None = Field(None, description="S3: the secret of AWS_ACCESS_KEY_ID.")
    aws_session_token: SecretStr | None = Field(None, description="S3: belongs to keys that expire.")
    aws_s3_bucket: str | None = Field(
        None,
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        validation_alias=AliasChoices("AWS_S3_BUCKET", "S3_BUCKET_NAME"),
        description="Bucket for all files instead of UPLOAD_DIR and OUTPUT_DIR. S3_BUCKET_NAME is read too.",
    )
    aws_region: str = Field("us-east-1", pattern=r"^[a-z0-9-]+$", description="S3's region. Read with a bucket only.")
    s3_endpoint_url: AnyHttpUrl | None = Field(
        None,
        validation_alias=AliasChoices("S3_ENDPOINT_URL", "AWS_ENDPOINT_URL"),
        description="Another S3 than AWS's, such as http://minio:9000. AWS_ENDPOINT_URL is read too.",
    )
    s3_public_endpoint_url: AnyHttpUrl | None = Field(
        None, description="S3_ENDPOINT_URL as clients reach it, for presigned URLs. Default: the same."
    )
    s3_addressing_style: Literal["auto", "path", "virtual"] = Field(
        "auto", description="Bucket in the path or in the host's name; auto: path with S3_ENDPOINT_URL, else the host."
    )
    s3_presign_expire_s: int = Field(
        3600, ge=1, le=604_800, description="Seconds that a presigned URL works; S3 takes at most 7 days."
    )
    s3_avatar_prefix: str = Field(
        "avatars/", pattern=PREFIX, description="Avatars: `{prefix}{user_id}`; below UPLOAD_DIR without a bucket."
    )
    s3_subject_prefix: str = Field(
        "subjects/", pattern=PREFIX, description="Subjects: `{prefix}{user_id}`; below UPLOAD_DIR without a bucket."
    )
    s3_generated_prefix: str = Field(
        "generated/",
        pattern=PREFIX,
        description="Generated: `{prefix}{user_id}/`; below OUTPUT_DIR without a bucket.",
    )

    @field_validator(
        "environment", "auth_registration", "log_level", "log_format", "rate_limit", "rate_limit_login", "role",
        "device", "face_engine", "s3_addressing_style",
        mode="before",
    )  # fmt: skip
    @classmethod
    def _lower_case(cls, value: object) -> object:
        return value.strip().lower() if isinstance(value, str) else value

    @field_validator("cors_origins", "api_key", "nano_banana_models", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            scheme, _, rest = origin.rstrip("/").partition("://")
            if origin != "*" and (scheme not in {"http", "https"} or not rest or "/" in rest):
                raise ValueError("an origin is a scheme and a host, such as https://shop.example, or *")
        return tuple(origin.rstrip("/") for origin in origins)

    @field_validator("api_key")
    @classmethod
    def _check_keys(cls, keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in (secret.get_secret_value() for secret in keys):
            if len(key) < MIN_KEY_LENGTH or len(set(key)) < MIN_KEY_LETTERS or EXAMPLE_KEY.search(key):
                raise ValueError(f"a key is too short or an example. Make one: {MAKE_KEY}")
            if not _fits_header(key):
                raise ValueError(f"a key has spaces or letters that no HTTP header can carry. Make one: {MAKE_KEY}")
        return keys

    @field_validator("database_url")
    @classmethod
    def _check_database_url(cls, url: str) -> str:
        scheme, _, rest = url.partition("://")
        if scheme in {"postgres", "postgresql", "postgresql+psycopg"} and rest:
            return f"postgresql+psycopg://{rest}"
        if scheme == "sqlite" and rest.startswith("/") and rest.strip("/") and ":memory:" not in rest:
            return url
        raise ValueError(
            "give sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/NAME, or DB_USE_DATABASE=false for none"
        )

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, secret: SecretStr | None) -> SecretStr | None:
        if secret is not None and not 24 <= len(webhook_key(secret)) <= 64:
            raise ValueError(f"give whsec_ and 24 to 64 random bytes in base64. Make one: {MAKE_WEBHOOK_SECRET}")
        return secret

    @field_validator("nano_banana_api_key")
    @classmethod
    def _check_image_model_key(cls, secret: SecretStr | None) -> SecretStr | None:
        key = "" if secret is None else secret.get_secret_value()
        if EXAMPLE_KEY.search(key) or not _fits_header(key):
            raise ValueError("it is an example, or has spaces or letters that no HTTP header can carry")
        return secret

    @field_validator("nano_banana_api_url")
    @classmethod
    def _check_image_model_url(cls, url: AnyHttpUrl) -> AnyHttpUrl:
        if url.username or url.password or url.query or url.fragment:
            raise ValueError("give the URL without user name, ? and #; the key has its own setting")
        if url.scheme == "http" and not _is_own_network(url.host or ""):
            raise ValueError("the key and photos of people go there: use https (http to a private address is taken)")
        return AnyHttpUrl(f"{str(url).rstrip('/')}/v1") if url.path in (None, "/") else url

    @field_validator("s3_endpoint_url", "s3_public_endpoint_url")
    @classmethod
    def _check_s3_url(cls, url: AnyHttpUrl | None) -> AnyHttpUrl | None:
        if url is not None and (url.username or url.password or url.query or url.fragment):
            raise ValueError("give the URL without user name, ? and #; the keys have their own settings")
        if url is not None and url.scheme == "http" and not _is_own_network(url.host or ""):
            raise ValueError("photos of people go there: use https (http to a private address is taken)")
        return url

    @field_validator("nano_banana_models")
    @classmethod
    def _check_image_models(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        names = tuple(name.removeprefix("models/") for name in names)
        if not names or not all(MODEL_NAME.fullmatch(name) for name in names):
            raise ValueError("give names of models, separated by commas, such as gemini-3.1-flash-image")
        return names

    @model_validator(mode="after")
    def _check_contradictions(self) -> Self:
        if self.device == "cuda" and self.face_engine in ("mediapipe", "opencv"):
            raise ValueError(f"DEVICE=cuda contradicts FACE_ENGINE={self.face_engine}, which runs on the CPU only")
        if self.upload_dir.resolve() == self.output_dir.resolve():
            raise ValueError("UPLOAD_DIR and OUTPUT_DIR must be two folders")
        self._check_s3()
        if self.environment == "production" and self.auth_secret_key is None:
            raise ValueError(f"ENVIRONMENT=production needs AUTH_SECRET_KEY. Make one: {MAKE_KEY}")
        if self.environment == "production" and _is_weak(self.auth_secret_key):
            raise ValueError(f"AUTH_SECRET_KEY is too short or an example. Make one: {MAKE_KEY}")
        alone = not self.db_use_database or self.database_url.startswith("sqlite")
        if alone and (self.api_workers > 1 or self.role != "all"):
            raise ValueError(
                "API_WORKERS above 1 and ROLE=api or worker need a database that processes can share: "
                "set DATABASE_URL to postgresql://..."
            )
        if self.api_workers > 1 and self.auth_secret_key is None:
            raise ValueError(f"API_WORKERS above 1 needs AUTH_SECRET_KEY, which they share. Make one: {MAKE_KEY}")
        return self

    def _check_s3(self) -> None:
        prefixes = {self.s3_avatar_prefix, self.s3_subject_prefix, self.s3_generated_prefix, "uploads/", "outputs/"}
        if len(prefixes) < 5 or any(a.startswith(b) for a in prefixes for b in prefixes - {a}):
            raise ValueError("S3_AVATAR_PREFIX, S3_SUBJECT_PREFIX, S3_GENERATED_PREFIX, uploads/ and outputs/ overlap")
        if (self.aws_access_key_id is None) != (self.aws_secret_access_key is None):
            raise ValueError("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together; set both or none")
        if self.aws_session_token is not None and self.aws_access_key_id is None:
            raise ValueError("AWS_SESSION_TOKEN belongs to an AWS_ACCESS_KEY_ID, which is not set")
        wanted = self.aws_access_key_id or self.s3_endpoint_url or self.s3_public_endpoint_url
        if wanted is not None and self.aws_s3_bucket is None:
            raise ValueError("AWS_ACCESS_KEY_ID or S3_ENDPOINT_URL asks for S3 storage; set AWS_S3_BUCKET as well")

    @property
    def max_upload_bytes(self) -> int:
        """`max_upload_size` in bytes; a MB is 2**20, as in the first version."""
        return self.max_upload_size * 1024 * 1024

    @property
    def needs_credentials(self) -> bool:
        """Whether a stranger is turned away."""
        return self.auth_required or bool(self.api_key)

    @property
    def lowest_log_level(self) -> LogLevel:
        """`log_level`, or "debug" where DEBUG asks for it."""
        return "debug" if self.debug else self.log_level

    @property
    def keeps_artifacts(self) -> bool:
        """Whether jobs keep what is only there to be looked at."""
        return self.debug if self.save_debug_artifacts is None else self.save_debug_artifacts

    @property
    def concurrent_jobs(self) -> int:
        """Jobs worked on at once: by default half of the workers, so that requests find the other half free."""
        return self.job_workers or max(1, self.max_workers // 2)

    @property
    def cores(self) -> int:
        """CPU cores for this one of `api_workers` processes."""
        return max(1, available_cores() // self.api_workers)


class Settings(GenerationSettings, ServiceSettings):
    """The service's settings. Constructing it validates; `load_settings` does so for a process that is starting."""


def load_settings() -> Settings:
    """The settings of this process. One that can't be used ends the process with one line that names it."""
    try:
        return Settings()
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    faults = [
        f"{'_'.join(map(str, fault['loc'])).upper() or 'settings'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_url=False, include_input=False)
    ]
    sys.exit("Not started. " + "; ".join(faults))
