"""The benchmark of image generation runs anywhere, and its floor is SDXL's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def as_many_threads_as_before() -> Iterator[None]:
    import torch

    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore")
def test_every_way_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.generation import main

    assert main(["--device", "cpu", "--runs", "1", "--steps", "1"]) == 0
    shown = capsys.readouterr().out
    assert all(what in shown for what in ("text to image", "InstantID", "plain loop", "4 at", "Decoding"))


def test_the_networks_have_sdxls_shapes() -> None:
    from benchmarks.random_sdxl import TRUE, teraflops

    assert teraflops(TRUE) == pytest.approx(
        {"unet": 6.76, "controlnet": 2.99, "vae_decode": 10.5, "vae_encode": 4.88}, rel=0.005
    )
