"""The service that the Studio's tests visit: `python -m tests.studio_process`.

It is the real one, but for its manifest: MODEL_SERVER has one model, and lacks another.
"""

from __future__ import annotations

import os

import uvicorn

from config import load_settings
from main import create_app
from service.deps import get_models, get_pulls
from service.model_pulls import ModelPulls
from service.model_store import Download, ModelStore, Profile


def profile(name: str) -> Profile:
    """A model of one file, whose checksum nobody published."""
    part = Download(f"{name}.onnx", (f"{os.environ['MODEL_SERVER']}/{name}.onnx",))
    return Profile(name, "face pack", "a model for tests", (part,), "MIT", "yes", {})


def main() -> None:
    """Serve until told to stop."""
    settings = load_settings()
    app = create_app(settings)
    store = ModelStore(settings.models_dir, profiles={name: profile(name) for name in ("small-model", "lost-model")})
    pulls = ModelPulls(store)
    app.dependency_overrides |= {get_models: lambda: store, get_pulls: lambda: pulls}
    uvicorn.run(app, host=settings.api_host, port=settings.api_port, log_config=None, access_log=False)


if __name__ == "__main__":
    main()
