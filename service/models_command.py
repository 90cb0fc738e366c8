"""`python main.py models list | pull | verify`: the model store on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from service.errors import InvalidValueError, ServiceError
from service.hub_models import IDENTITY_PROFILE, HubModels
from service.hub_models import PROFILE as GENERATION
from service.model_store import FileCheck, ModelStatus, ModelStore

OK, FAILED = 0, 1
INSTALLED = {
    GENERATION: "The models of image generation are installed. Restart the service to use them.",
    IDENTITY_PROFILE: "The models of engine=diffusion are installed. InstantID also reads a face pack: "
    "`python main.py models pull antelopev2`.",
}


def run(argv: Sequence[str], store: ModelStore, *, default_model: str, console: Console | None = None) -> int:
    """Run one command. 0: done and sound; 1: it failed, with a sentence that says why; argparse exits with 2."""
    console = console or Console()
    options = _parser(default_model).parse_args(argv)
    try:
        if options.command == "list":
            return _list(store, console)
        if options.model in INSTALLED and store.hub is not None:
            if options.command == "verify":
                raise InvalidValueError(
                    "Hugging Face's models have no checksums here. `models list` says what is there."
                )
            if options.source is not None:
                raise InvalidValueError("--from: name the folder in MODEL_PATH, IP_ADAPTER_PATH or DIFFUSION_PATH.")
            return _pull_from_hub(options.model, store.hub, console)
        if options.command == "pull":
            return _pull(options.model, options.source, store, console)
        return _verify(options.model, store, console)
    except ServiceError as error:
        console.print(error.message, style="red", markup=False, soft_wrap=True)
        return FAILED


def _parser(default_model: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="main.py models", description="See, get and check the models.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every model: installed or not, size, licence, how to get it")
    pull = commands.add_parser("pull", help="download, verify and install a model; continues a broken download")
    pull.add_argument(
        "model",
        nargs="?",
        default=default_model,
        help="a profile's name (default: %(default)s), generation or diffusion",
    )
    pull.add_argument("--from", dest="source", type=Path, metavar="FOLDER_OR_ZIP", help="install without network")
    verify = commands.add_parser("verify", help="hash the installed files and compare")
    verify.add_argument("model", nargs="?", help="one model (default: all that are installed)")
    return parser


def _list(store: ModelStore, console: Console) -> int:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for status in store.status():
        grid.add_row(f"[bold]{escape(status.name)}[/bold]", _details(status))
    console.print(grid)
    return OK


def _details(status: ModelStatus) -> str:
    state = "[green]installed[/green]" if status.installed else "not installed"
    size = "" if status.bytes is None else f", {status.bytes / 1e6:.1f} MB"
    lines = [
        f"{status.kind}, {state}{size}",
        escape(status.about),
        f"Licence: {escape(status.licence)}. Commercial use: {status.commercial_use}.",
    ]
    if status.dimension:
        one_person = f"one person from cosine {status.threshold} on ({escape(status.threshold_source or '')})"
        lines.append(f"Embeddings: {status.dimension} numbers; {one_person}.")
    if status.how_to_get:
        lines.append(f"Get it: {escape(status.how_to_get)}")
    return "\n".join(lines) + "\n"


def _pull(model: str, source: Path | None, store: ModelStore, console: Console) -> int:
    if source is not None:
        store.install_from(model, source)
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with Progress(*columns, TimeRemainingColumn(), console=console) as bars:
            bar = bars.add_task(model, total=None)
            store.pull(model, lambda done, total: bars.update(bar, completed=done, total=total))
    status = next(status for status in store.status() if status.name == model)
    console.print(f"{model} is installed and verified. Licence: {status.licence}.", markup=False, soft_wrap=True)
    return OK


def _pull_from_hub(profile: str, hub: HubModels, console: Console) -> int:
    """What the settings name; the Hub's library shows its own progress."""
    for model in hub.fetch(profile):
        console.print(f"{model} is fetched.", markup=False, soft_wrap=True)
    console.print(INSTALLED[profile], markup=False, soft_wrap=True)
    return OK


def _verify(model: str | None, store: ModelStore, console: Console) -> int:
    names = [model] if model else [status.name for status in store.status() if _is_installed_pack(status)]
    if not names:
        console.print("No face pack is installed; the embedded models are part of MediaPipe's wheel.", soft_wrap=True)
    sound = True
    for name in names:
        for check in store.verify(name):
            console.print(f"{name}/{check.name}: {_sentence(check)}", markup=False, soft_wrap=True)
            sound = sound and check.state in ("ok", "unknown")
    return OK if sound else FAILED


def _is_installed_pack(status: ModelStatus) -> bool:
    return status.installed and status.kind not in ("embedded", "image model", "image adapter", "identity adapter")


def _sentence(check: FileCheck) -> str:
    if check.state == "missing":
        return "MISSING. Get the model again with `python main.py models pull`."
    if check.state == "changed":
        return "CHANGED: it is not the file that was published or first installed. Get the model again."
    if check.state == "unknown":
        return "no published checksum known, and none recorded: it was not installed by this command"
    if check.reference == "published":
        return "ok, as published"
    return "ok, unchanged (no published checksum known: hash recorded at first download)"
