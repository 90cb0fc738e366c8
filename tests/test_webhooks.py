"""Webhooks arrive signed, are tried again, and can be verified by what the README says."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from config import webhook_key
from service.database import open_database
from service.errors import InvalidValueError, UrlNotAllowedError
from service.job_runs import JobResult, JobRun
from service.jobs import Jobs
from service.tables import Job
from service.webhooks import WebhookSender, check_webhook_url, sign
from tests.conftest import settings_in
from tests.job_process import ENDING, OWNER, new_jobs

SECRET = SecretStr("whsec_" + base64.b64encode(bytes(range(32))).decode())
DELAYS_S = (0.05, 0.05)


def made(run: JobRun) -> JobResult:
    return JobResult(run.store(lambda file: file.write(b"made"), ending=ENDING), {"pages": 3})


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    database = open_database(None)
    jobs = new_jobs(database, tmp_path)
    jobs.register("make", made)
    jobs.start()
    yield jobs
    jobs.close()
    database.close()


class Receiver:
    """A client's server: notes what it gets, and answers what it is told to, 200 in the end."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []


@contextmanager
def receiving(*answers: int) -> Iterator[tuple[str, Receiver]]:
    receiver = Receiver(*answers)

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
            status = receiver.answers.pop(0) if receiver.answers else 200
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def deliver(jobs: Jobs, url: str, *, until: Callable[[Job], bool], allow_private: bool = True) -> Job:
    """Hand in a job and send webhooks until the job is as it is to be."""

    async def run() -> Job:
        sender = WebhookSender(
            jobs.store, key=webhook_key(SECRET), allow_private=allow_private, retry_delays_s=DELAYS_S, poll_s=0.05
        )
        jobs.on_finished = sender.poke
        try:
            job = await asyncio.to_thread(jobs.submit, "make", owner=OWNER, inputs={}, files={}, webhook_url=url)
            deadline = time.monotonic() + 20
            while not until(job):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
                job = jobs.store.get(job.id, OWNER)
            return job
        finally:
            await sender.close()

    return asyncio.run(run())


def test_a_finished_job_is_told_once_with_a_signature_that_the_documented_recipe_verifies(jobs: Jobs) -> None:
    with receiving() as (url, receiver):
        job = deliver(jobs, url, until=lambda job: job.webhook_attempts == 1 and job.webhook_due_at is None)
    assert job.webhook_error is None
    ((headers, body),) = receiver.requests
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(SECRET.get_secret_value().removeprefix("whsec_"))
    signature = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{signature}"
    assert headers["webhook-id"] == str(job.id)
    message = json.loads(body)
    assert (message["type"], message["data"]["job_id"]) == ("job.completed", str(job.id))
    assert message["data"]["result"]["pages"] == 3


def test_the_signature_is_that_of_the_specifications_example() -> None:
    secret = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signature = sign(webhook_key(secret), message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("answers", [(500, 404), (302, 503)])
def test_it_is_tried_again_until_it_is_taken_and_redirects_are_not_followed(
    jobs: Jobs, answers: tuple[int, ...]
) -> None:
    with receiving(*answers) as (url, receiver):
        job = deliver(jobs, url, until=lambda job: job.webhook_attempts == 3 and job.webhook_due_at is None)
    assert job.webhook_error is None
    assert len(receiver.requests) == 3
    assert len({headers["webhook-id"] for headers, _ in receiver.requests}) == 1


def test_it_is_given_up_after_the_last_attempt_and_says_why(jobs: Jobs) -> None:
    with receiving(*[500] * 10) as (url, receiver):
        job = deliver(jobs, url, until=lambda job: job.webhook_attempts == 3 and job.webhook_due_at is None)
    assert job.webhook_error == "answered 500"
    assert len(receiver.requests) == 3
    assert job.status == "completed"


def test_what_became_private_since_it_was_accepted_is_not_reached(jobs: Jobs) -> None:
    with receiving() as (url, receiver):
        job = deliver(jobs, url, until=lambda job: job.webhook_error is not None, allow_private=False)
    assert job.webhook_error == "the URL is not allowed"
    assert receiver.requests == []


def test_a_webhook_that_could_not_be_sent_is_refused_with_the_job(tmp_path: Path) -> None:
    without = settings_in(tmp_path)
    with_secret: dict[str, Any] = {"webhook_secret": SECRET}
    asyncio.run(check_webhook_url(None, without))
    with pytest.raises(InvalidValueError, match="WEBHOOK_SECRET"):
        asyncio.run(check_webhook_url("https://8.8.8.8/", without))
    with pytest.raises(UrlNotAllowedError):
        asyncio.run(check_webhook_url("http://127.0.0.1/", settings_in(tmp_path, **with_secret)))
    asyncio.run(
        check_webhook_url("http://127.0.0.1/", settings_in(tmp_path, webhook_allow_private=True, **with_secret))
    )
