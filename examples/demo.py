"""Puts the public-domain astronaut photo into a bundled page, through the API: `make demo`.

Talks to the service at API_URL (default http://localhost:8000); where none answers it starts one for the occasion.
Writes examples/output/before_after.png: photo, page and result side by side. The README's picture is made by
`python -m examples.demo --output docs/before_after.jpg`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import skimage.data
from PIL import Image, ImageOps

from examples.local_service import credentials, local_service

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "output" / "before_after.png"
PANEL = 640  # pixels
MARGIN = 16


def main() -> int:
    pages = sorted(path.name for path in (HERE / "pages").glob("*.png"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--page", choices=pages, default="kite_hill.png")
    parser.add_argument("--photo", type=Path, help="a photo of your own instead of the astronaut")
    parser.add_argument("--style", choices=["storybook", "watercolor", "pencil", "comic", "none"], default="storybook")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where to write the picture")
    arguments = parser.parse_args()

    photo = arguments.photo.read_bytes() if arguments.photo else astronaut_png()
    page = (HERE / "pages" / arguments.page).read_bytes()
    options: dict[str, Any] = {"headers": credentials(), "timeout": 60, "trust_env": False}
    with service_url() as url, httpx.Client(base_url=url, **options) as client:
        answer = client.post(
            "/personalize",
            files={"child_photo": ("photo.png", photo), "illustration": (arguments.page, page)},
            data={"style": arguments.style},
        )
        if answer.is_error:
            print(f"The service answered {answer.status_code}: {answer.text}", file=sys.stderr)
            return 1
        facts = answer.json()
        picture = client.get(facts["download_url"]).raise_for_status().content
        client.delete(facts["download_url"]).raise_for_status()

    arguments.output.parent.mkdir(exist_ok=True)
    side_by_side(photo, page, picture).save(arguments.output, optimize=True, quality=88)
    print(json.dumps({key: facts[key] for key in ("engine", "quality", "timings_ms")}, indent=2))
    print(f"Photo, page and result: {arguments.output}")
    return 0


def astronaut_png() -> bytes:
    """Eileen Collins, photographed by NASA (public domain), as scikit-image ships her: 512x512 PNG."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, "png")
    return buffer.getvalue()


@contextmanager
def service_url() -> Iterator[str]:
    """The service that runs already, or one started for the block."""
    url = os.environ.get("API_URL", "http://localhost:8000")
    try:
        running = httpx.get(f"{url}/health/ready", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        running = False
    if running:
        yield url
        return
    print(f"No service at {url}: starting one.")
    with local_service() as service:
        yield service.url


def side_by_side(*pictures: bytes) -> Image.Image:
    """The encoded pictures as equal squares in one row on white."""
    panels = [
        ImageOps.pad(Image.open(io.BytesIO(data)).convert("RGB"), (PANEL, PANEL), color="white") for data in pictures
    ]
    gap = np.full((PANEL, MARGIN, 3), 255, np.uint8)
    row = [part for panel in panels for part in (np.asarray(panel), gap)][:-1]
    return Image.fromarray(np.hstack(row))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, httpx.HTTPError) as failure:  # the service didn't start, or went away
        sys.exit(str(failure))
