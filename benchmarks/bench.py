"""Times the service beside its baselines, all in one run on this machine, and prints one table: `make bench`.

Every figure is the median of several runs; ours and the baseline's runs alternate, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import contours, inputs, recognition, seed_recipe, tryon
from benchmarks.table import WARM_UP_RUNS, Row, alternate, print_table
from examples.local_service import LocalService, credentials, local_service
from face_landmarks import FaceLandmarks
from utils import FloatArray, RGBImage

STYLE_STAGES = ("stylize", "blend")
"""The stages of `timings_ms` that do what the baseline's stylize and blend do."""
IMPORTS = "import cv2, fastapi, mediapipe, onnxruntime"
"""What any service on these engines loads before it can answer."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Time the service beside its baselines.")
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each figure (default 15)")
    parser.add_argument(
        "--soak", type=int, default=1000, help="mixed requests of the memory test (default 1000, 0: skip)"
    )
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 118)

    portrait, page = inputs.portrait(), inputs.page()
    landmarks = FaceLandmarks(pool_size=1)
    face_box = landmarks.detect(portrait)[0].bbox
    rows = []
    with console.status("starting the service"):
        rows.append(start_row(options.runs))
    http: dict[str, Any] = {"headers": credentials(), "timeout": 60, "trust_env": False}
    with local_service(FACE_ENGINE="mediapipe") as service, httpx.Client(base_url=service.url, **http) as client:
        idle_mb = resident_mb(service)
        rows.append(Row("resident memory, idle", f"{idle_mb:.0f} MB", "<= 500 MB"))
        with console.status("personalising"):
            rows += personalize_rows(client, portrait, page, face_box, options.runs)
            rows.append(style_row(client, portrait, inputs.close_up(page), face_box, options.runs))
    with local_service(**recognition.SETTINGS) as service, httpx.Client(base_url=service.url, **http) as client:
        with console.status("recognising"):
            rows += recognition.rows(client, options.runs)
        if options.soak:
            rows.append(soak_row(service, client, portrait, page, options.soak))
    with console.status("detecting"):
        rows.append(detection_row(landmarks, "photo", portrait, options.runs))
        rows.append(detection_row(landmarks, "drawn page", page.rgb, options.runs))
    with console.status("drawing contours"):
        rows.append(contour_row(landmarks, portrait, options.runs))
    with console.status("dressing"):
        rows += tryon.rows(landmarks, options.runs)
    landmarks.close()
    print_table(console, rows, options.runs)
    return 0


def start_row(runs: int) -> Row:
    """From starting `python main.py` to the first ready answer, beside only importing the libraries."""
    ready, imports = [], []
    for _ in range(max(3, runs // 3)):
        with local_service() as service:
            ready.append(service.ready_s)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", IMPORTS], check=True, stderr=subprocess.DEVNULL)
        imports.append(time.perf_counter() - start)
    ours, floor = statistics.median(ready), statistics.median(imports)
    return Row("start to ready", f"{ours:.2f} s", "<= 4 s", f"imports alone {floor:.2f} s", floor / ours)


def personalize_rows(
    client: httpx.Client, portrait: RGBImage, page: inputs.Page, face_box: FloatArray, runs: int
) -> list[Row]:
    """POST /personalize with JPEG photo and PNG page, picture in the answer; the recipe without HTTP or detection."""
    photo = inputs.encode(portrait, "jpeg")

    def recipe() -> bytes:
        face = seed_recipe.stylize(seed_recipe.crop_face(portrait, face_box))
        return inputs.encode(seed_recipe.blend(page.rgb, face, page.face_box), "png")

    ours, baseline = alternate(lambda: personalize(client, photo, page.png), recipe, runs=runs)
    return [
        Row(
            "personalise over HTTP, 1024x1024 page, one face",
            f"{ours:.0f} ms",
            "<= 150 ms, >= 4x",
            f"seed recipe {baseline:.0f} ms",
            baseline / ours,
        )
    ]


def style_row(client: httpx.Client, portrait: RGBImage, page: inputs.Page, face_box: FloatArray, runs: int) -> Row:
    """The stages that make the drawing out of the photo and set it into the page, for a face 512 px tall."""
    photo = inputs.encode(portrait, "jpeg")
    face = seed_recipe.crop_face(portrait, face_box)
    crop = np.asarray(cv2.resize(face, (512, 512), interpolation=cv2.INTER_CUBIC), np.uint8)
    stages = []

    def ours() -> None:
        timings = personalize(client, photo, page.png)["timings_ms"]
        stages.append(sum(float(timings[stage]) for stage in STYLE_STAGES))

    def recipe() -> RGBImage:
        return seed_recipe.blend(page.rgb, seed_recipe.stylize(crop), page.face_box)

    _, baseline = alternate(ours, recipe, runs=runs)
    measured = statistics.median(stages[WARM_UP_RUNS:])
    return Row(
        "stylise and blend, 512 px face",
        f"{measured:.1f} ms",
        ">= 25x",
        f"seed recipe {baseline:.0f} ms",
        baseline / measured,
    )


def soak_row(service: LocalService, client: httpx.Client, portrait: RGBImage, page: inputs.Page, requests: int) -> Row:
    """Resident memory after mixed requests, beside the same after their first tenth."""
    photo = inputs.encode(portrait, "jpeg")
    kinds: list[Callable[[], Any]] = [
        lambda: personalize(client, photo, page.png),
        lambda: client.post("/detect-face", files={"file": photo}).raise_for_status(),
        lambda: client.get("/health").raise_for_status(),
        lambda: client.post("/detect-face", files={"file": b"not a picture"}),
        lambda: client.get("/models").raise_for_status(),
        *recognition.requests(client, photo),
    ]
    settled_mb = 0.0
    for number in track(range(requests), "mixed requests", transient=True):
        kinds[number % len(kinds)]()
        if number == requests // 10:
            settled_mb = resident_mb(service)
    after_mb = resident_mb(service)
    return Row(
        f"resident memory after {requests} mixed requests",
        f"{after_mb:.0f} MB",
        "within 5 %",
        f"after a tenth of them {settled_mb:.0f} MB",
        settled_mb / after_mb,
    )


def detection_row(landmarks: FaceLandmarks, name: str, image_rgb: RGBImage, runs: int) -> Row:
    """All faces of a 1024x1024 picture with the embedded engine, in this process."""
    (measured,) = alternate(lambda: landmarks.detect(image_rgb), runs=runs)
    return Row(f"face detection, embedded engine, 1024 px {name}", f"{measured:.1f} ms", "<= 15 ms")


def contour_row(landmarks: FaceLandmarks, image_rgb: RGBImage, runs: int) -> Row:
    """All regions of one face from landmarks and label map, in this process; the baseline is every pixel traced."""
    found = contours.compare(landmarks, image_rgb, runs)
    return Row(
        "all contour regions of one face, 1024x1024 label map",
        f"{found.milliseconds:.1f} ms, {found.nodes} nodes, IoU >= {found.iou:.3f}",
        "<= 10 ms, >= 5x fewer nodes",
        f"findContours {found.traced_nodes} nodes, IoU >= {found.traced_iou:.3f}",
        found.traced_nodes / found.nodes,
    )


def personalize(client: httpx.Client, photo: bytes, page: bytes) -> dict[str, Any]:
    """One personalised page; the answer's JSON."""
    files = {"child_photo": ("photo.jpg", photo), "illustration": ("page.png", page)}
    answer: dict[str, Any] = client.post("/personalize", files=files).raise_for_status().json()
    return answer


def resident_mb(service: LocalService) -> float:
    """The service's resident memory in MB (10^6 bytes)."""
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(service.pid)], check=True, capture_output=True, text=True)
    return int(answer.stdout) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
