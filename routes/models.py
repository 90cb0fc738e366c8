"""What models there are: installed or not, under which licence, and how to get them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.deps import ModelStoreDep

router = APIRouter(tags=["health"])


class ModelFileOut(BaseModel):
    """One file of a model."""

    name: str
    sha256: str | None = Field(description="Hex; null where neither its publisher nor its installation recorded one.")
    bytes: int | None = Field(description="Size in bytes; null where it isn't installed.")


class ModelOut(BaseModel):
    """One model."""

    name: str = Field(examples=["buffalo_l"])
    kind: str = Field(description="`face pack`, or `embedded` for what MediaPipe's wheel carries.")
    about: str
    installed: bool
    files: list[ModelFileOut]
    sha256: str | None = Field(description="Of the archive that it is downloaded as, where it is one.")
    bytes: int | None = Field(description="Of the installed files, or of the download where it isn't installed.")
    licence: str
    commercial_use: Literal["yes", "no", "unclear"]
    urls: list[str] = Field(description="Where it is downloaded from, tried in this order.")
    dimension: int | None = Field(description="Numbers in an embedding; null where that isn't known.")
    threshold: float | None = Field(description="Least cosine of two faces of one person, inclusive.", examples=[0.4])
    threshold_source: str | None = Field(description="Who says so; or, where there is none, what to set.")
    how_to_get: str | None = Field(
        description="The command that installs it; null where it is installed.",
        examples=["python main.py models pull buffalo_l"],
    )


class ModelsOut(BaseModel):
    """Every model that the service knows."""

    models: list[ModelOut]


@router.get("/models", summary="Installed and available models")
def list_models(store: ModelStoreDep) -> ModelsOut:
    """Every model: installed or not, its licence, its files and hashes, and how to get it."""
    return ModelsOut(models=[ModelOut.model_validate(asdict(status)) for status in store.status()])
