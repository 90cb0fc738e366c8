"""Models that are being installed while the service runs, and how far each is.

An installation belongs to nobody: whoever asks for one that is under way watches it, and it goes on when they leave.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

import structlog

from service.errors import BusyError, ModelDownloadError, NotFoundError
from service.hub_models import PROFILES
from service.model_store import ModelStatus, ModelStore

logger = structlog.get_logger(__name__)

AT_ONCE = 2
"""More downloads share one line, and their unpacking one disk."""


@dataclass(slots=True)
class Pull:
    """How an installation stands. `done` and `total` are bytes; a total of None is not known (yet).

    error: why it failed, and what to do; None where it didn't.
    """

    name: str
    state: Literal["downloading", "installed", "failed"] = "downloading"
    done: int = 0
    total: int | None = None
    error: str | None = None


class ModelPulls:
    """Installs models of the manifest and of the Hub, each by one thread. Safe from any thread."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._pulls: dict[str, Pull] = {}

    def find(self, name: str) -> Pull | None:
        """The model's installation under way, or the last one; None where nobody asked for it."""
        return self._pulls.get(name)

    def name_for(self, status: ModelStatus) -> str | None:
        """What `start` calls a model; None where it can't install it."""
        if status.name in self._store.profiles:
            return status.name
        return PROFILES.get(status.how_to_get or "") if self._store.hub else None

    @property
    def _names(self) -> list[str]:
        return [*self._store.profiles, *(PROFILES.values() if self._store.hub else ())]

    def start(self, name: str) -> Pull:
        """Install a model, or join whoever does. One that is installed and sound is done at once.

        Raises:
            NotFoundError: it is none of those.
            BusyError: as many as may be are being installed.
        """
        with self._lock:
            running = [pull for pull in self._pulls.values() if pull.state == "downloading"]
            for pull in running:
                if pull.name == name:
                    return pull
            if name not in self._names:
                known = ", ".join(self._names)
                raise NotFoundError(f"There is no model of this name to download: choose one of {known}.")
            if len(running) >= AT_ONCE:
                names = " and ".join(pull.name for pull in running)
                raise BusyError(f"{names} are being installed. Wait until one is done.", retry_after_s=30)
            pull = self._pulls[name] = Pull(name)
        threading.Thread(target=self._run, args=(pull,), name=f"pull-{name}", daemon=True).start()
        return pull

    def _run(self, pull: Pull) -> None:
        def report(done: int, total: int | None) -> None:
            pull.done, pull.total = done, total

        try:
            if pull.name in PROFILES.values() and self._store.hub is not None:
                self._store.hub.fetch(pull.name)
            else:
                self._store.pull(pull.name, report)
        except (ModelDownloadError, NotFoundError) as error:
            logger.warning("a model could not be installed", model=pull.name, why=error.message)
            pull.error, pull.state = error.message, "failed"
        except Exception:
            logger.exception("a model could not be installed", model=pull.name)
            pull.error, pull.state = f"{pull.name} could not be installed. The log says why.", "failed"
        else:
            pull.state = "installed"
