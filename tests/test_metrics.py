"""What Prometheus and the dashboard see is what happened."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from main import create_app
from tests.conftest import settings_in

KEY = "a-key-of-the-tests-4f9a1c7b"
DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
SECRETS = ("API_KEY", "AUTH_SECRET_KEY", "POSTGRES_PASSWORD", "GRAFANA_PASSWORD")
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "service.json"

Sample = dict[tuple[str, ...], float]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings_in(tmp_path, api_key=KEY, rate_limit="20/minute"))) as client:
        yield client


def scrape(client: TestClient) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


def value(client: TestClient, name: str, **labels: str) -> float:
    return scrape(client)[name].get(frozenset(labels.items()), 0.0)


def test_requests_are_counted_by_route_and_not_by_address(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    for _ in range(3):
        client.get("/download/6f9619ff-8b86-4d01-b42d-00cf4fc964ff", headers=headers)
    client.get("/nothing/here", headers=headers)
    requests = scrape(client)["http_requests_total"]
    by_route = {dict(labels)["handler"]: count for labels, count in requests.items()}
    assert by_route == {"/download/{file_id}": 3, "none": 1}


def test_stages_are_timed_by_route(client: TestClient, photo: bytes) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    client.post("/detect-face", files={"file": photo}, headers=headers)
    stages = {dict(labels)["stage"] for labels in scrape(client)["stage_seconds_count"]}
    assert {"decode", "faces", "store"} <= stages
    assert value(client, "stage_seconds_count", handler="/detect-face", stage="faces") == 1


def test_credentials_and_refusals_are_counted(client: TestClient) -> None:
    client.get("/models")
    client.get("/models", headers={"Authorization": "Bearer nobody"})
    for _ in range(21):
        client.get("/models", headers={"Authorization": f"Bearer {KEY}"})
    assert value(client, "auth_events_total", event="missing") == 1
    assert value(client, "auth_events_total", event="refused") == 1
    assert value(client, "auth_events_total", event="accepted") == 21
    assert value(client, "rate_limited_requests_total", caller="api_key") == 1
    assert value(client, "http_requests_total", handler="/models", method="GET", status="429") == 1


def test_engines_pool_and_process_are_read(client: TestClient) -> None:
    assert value(client, "engine_ready", engine="face_detector") == 1
    assert value(client, "engine_ready", engine="face_recognizer") == 0
    assert value(client, "inference_running", of="most") == 2
    assert value(client, "inference_waiting", of="now") == 0
    assert scrape(client)["process_resident_memory_bytes"][frozenset()] > 50e6


def test_no_secret_and_no_picture_is_in_a_scrape(client: TestClient) -> None:
    client.get("/models", headers={"Authorization": f"Bearer {KEY}"})
    assert KEY not in client.get("/metrics").text


def test_it_can_be_switched_off(tmp_path: Path) -> None:
    with TestClient(create_app(settings_in(tmp_path, prometheus_enabled=False))) as client:
        assert client.get("/metrics").status_code == 404


def test_two_applications_do_not_share_counters(client: TestClient, tmp_path: Path) -> None:
    client.get("/models", headers={"Authorization": f"Bearer {KEY}"})
    with TestClient(create_app(settings_in(tmp_path / "other"))) as other:
        assert "http_requests_total" not in scrape(other)


def test_the_dashboard_asks_only_for_what_a_scrape_has(client: TestClient, photo: bytes) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    client.post("/detect-face", files={"file": photo}, headers=headers)
    client.post("/api/v1/frontal/crop", files={"image": photo}, headers=headers)
    for _ in range(21):
        client.get("/models", headers=headers)
    names = set(scrape(client))
    expressions = [
        target["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for target in panel["targets"]
    ]
    asked = {
        name for expression in expressions for name in re.findall(r"\b([a-z]+(?:_[a-z]+)+)(?=[{\[)]|$)", expression)
    }
    assert len(asked) >= 8
    assert asked - names == set()


def test_compose_file_is_valid() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    secrets = dict.fromkeys(SECRETS, "x")
    command = [docker, "compose", "-f", str(DEPLOY / "compose.yaml"), "config", "--format", "json"]
    shown = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", **secrets}, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    services = {"service", "migrate", "postgres", "redis", "prometheus", "grafana"}
    assert set(json.loads(shown.stdout)["services"]) == services


def promtool(*arguments: str, scraped: str = "") -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    checked = subprocess.run([program, *arguments], input=scraped, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_prometheus_takes_its_configuration() -> None:
    promtool("check", "config", str(DEPLOY / "prometheus.yml"))


def test_prometheus_finds_no_fault_with_a_scrape(client: TestClient, photo: bytes) -> None:
    client.post("/detect-face", files={"file": photo}, headers={"Authorization": f"Bearer {KEY}"})
    promtool("check", "metrics", scraped=client.get("/metrics").text)


def test_what_compose_mounts_is_there() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounted = [volume.split(":")[0] for each in services.values() for volume in each.get("volumes", [])]
    assert [path for path in mounted if path.startswith(".") and not (DEPLOY / path).exists()] == []
    scraped = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"][0]["static_configs"][0]
    assert {target.split(":")[0] for target in scraped["targets"]} <= set(services)


def test_compose_refuses_to_start_without_secrets() -> None:
    compose = (DEPLOY / "compose.yaml").read_text()
    for name in SECRETS:
        assert f"${{{name}:?" in compose
