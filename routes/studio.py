"""The Studio: the service in a browser. Plain files under studio/, and the examples that they show."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from face_landmarks import mesh_edges
from service.auth import STUDIO_PATH

PROJECT = Path(__file__).resolve().parents[1]
PAGE = PROJECT / "studio" / "index.html"
EXAMPLES = PROJECT / "examples"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""No script or style but our own files, and no request to anybody else. `blob:` and `data:` are the visitor's own
pictures and what the service answered."""
REVALIDATE = {"Cache-Control": "no-cache"}
"""A browser asks whether a file has changed: a new version is there at once, and costs a 304 otherwise."""

router = APIRouter(include_in_schema=False)


class StudioFiles(StaticFiles):
    """Files that are asked for again each time, by their ETag."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        """As ever, and revalidated."""
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers.update(REVALIDATE)
        return response


def studio_page() -> Response:
    """The Studio's page."""
    headers = {**REVALIDATE, "Content-Security-Policy": POLICY, "Vary": "Accept"}
    return FileResponse(PAGE, media_type="text/html; charset=utf-8", headers=headers)


@router.get(STUDIO_PATH)
@router.get(f"{STUDIO_PATH}/")
async def studio() -> Response:
    """The Studio."""
    return studio_page()


@router.get(f"{STUDIO_PATH}/examples/astronaut.png")
async def astronaut() -> Response:
    """Eileen Collins, photographed by NASA (public domain), as scikit-image ships her."""
    package = find_spec("skimage")
    assert package is not None
    assert package.origin is not None
    return FileResponse(Path(package.origin).parent / "data" / "astronaut.png", headers=REVALIDATE)


@router.get(f"{STUDIO_PATH}/mesh-edges.json")
async def edges_of_the_mesh() -> Response:
    """The lines between the points of a face mesh: pairs of indices."""
    return JSONResponse(sorted(mesh_edges()), headers=REVALIDATE)


for folder in ("pages", "try-on"):
    router.mount(f"{STUDIO_PATH}/examples/{folder}", StudioFiles(directory=EXAMPLES / folder))
router.mount(STUDIO_PATH, StudioFiles(directory=PROJECT / "studio"))
