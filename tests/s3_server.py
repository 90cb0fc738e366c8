"""Moto's S3 over real HTTP, in this process, for tests that stop it, start it again, and have it answer with faults."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any
from uuid import uuid4

import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import BaseWSGIServer, make_server

from service.s3_storage import S3Account, S3Objects
from service.storage import Storage, UserPrefixes
from tests.servers import free_port

KEY, SECRET = "TESTKEY", "a-secret-that-nobody-may-see"
SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""Moto reads the service in it, and believes the rest."""


class S3Server:
    """What is stored outlasts `stop`.

    Attributes:
        faults: answers instead of the next ones to requests of a method: method, status and S3's code; each once.
        requests: method and path of all that was asked.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.faults: list[tuple[str, int, str]] = []
        self.requests: list[tuple[str, str]] = []
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._server: BaseWSGIServer | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Have it listen when this returns."""
        if self._server is not None:
            return
        self._server = make_server("127.0.0.1", self.port, self._answer, threaded=True, request_handler=_QuietHandler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def new_bucket(self) -> str:
        """The name of an empty bucket."""
        name = f"test-{uuid4().hex}"
        httpx.put(f"{self.url}/{name}", headers={"Authorization": SIGNED}, trust_env=False).raise_for_status()
        return name

    def account(self, **changes: Any) -> S3Account:
        """The account of a bucket, a new one where none is named."""
        defaults: dict[str, Any] = {
            "region": "us-east-1", "endpoint_url": self.url, "public_endpoint_url": None, "addressing_style": "auto",
            "access_key_id": KEY, "secret_access_key": SECRET, "session_token": None, "presign_expire_s": 60,
        }  # fmt: skip
        if "bucket" not in changes:
            defaults["bucket"] = self.new_bucket()
        return S3Account(**(defaults | changes))

    def storage(self, **changes: Any) -> Storage:
        """A storage in a bucket, a new one where none is named."""
        return Storage(S3Objects(self.account(**changes)), UserPrefixes("avatars/", "subjects/", "generated/"))

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method = environ["REQUEST_METHOD"]
        self.requests.append((method, environ["PATH_INFO"]))
        for fault in self.faults:
            if fault[0] == method:
                self.faults.remove(fault)
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response(f"{fault[1]} Fault", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{fault[2]}</Code><Message>as told</Message></Error>".encode()]
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


class _QuietHandler(MotoRequestHandler):
    def log(self, *_: Any, **__: Any) -> None:
        """Nothing."""
