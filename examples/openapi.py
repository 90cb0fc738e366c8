"""Prints the service's OpenAPI description without serving: `python -m examples.openapi > openapi.json`."""

from __future__ import annotations

import json

from config import Settings
from main import create_app


def main() -> None:
    """What GET /openapi.json answers with default settings."""
    print(json.dumps(create_app(Settings(_env_file=None)).openapi()))


if __name__ == "__main__":
    main()
