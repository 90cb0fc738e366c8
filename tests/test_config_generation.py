"""The settings of image generation: what they take, and what stops the start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.conftest import settings_in


def test_sizes_are_read_from_text(tmp_path: Path) -> None:
    assert settings_in(tmp_path, image_sizes="1024x768, 512X512").image_sizes == ((1024, 768), (512, 512))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image_sizes": "1024"}, "such as 1024x1024"),
        ({"image_sizes": "1001x1000"}, "multiples of 8"),
        ({"image_sizes": "8192x1024"}, "at most 4096"),
        ({"image_sizes": ","}, "such as 1024x1024"),
        ({"preview_lora": "few", "enable_lora": False}, "PREVIEW_LORA needs ENABLE_LORA"),
        ({"preview_lora": "../few"}, "pattern"),
        ({"s3_lora_prefix": "loras"}, "pattern"),
        ({"ip_adapter_weights": "adapter.pkl"}, "pattern"),
        ({"generation_guidance": float("nan")}, "finite"),
        ({"generation_steps": 0}, "greater than"),
        ({"service_url": "example.com"}, "URL"),
    ],
)
def test_what_cannot_be_meant_stops_the_start(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        settings_in(tmp_path, **changes)
