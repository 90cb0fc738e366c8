"""A local server that speaks the image model's wire format: checks requests as the real one does, and answers as told.

Asked plainly it sends the first picture back in one of the model's own sizes, with a red square in its middle.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, TypeAlias

from PIL import Image

KEY = "AIzaTest-4f2c9d71b8e6a053c4d9e8f7a6b5c4d3e2f"
MODELS = ("first-image", "second-image", "third-image")
PATH = re.compile(r"(?:http://[^/]+)?/(v1|v1beta)/models/([^/:?]+):generateContent")
SIZES = {
    "1:1": (1024, 1024), "2:3": (848, 1264), "3:2": (1264, 848), "3:4": (896, 1200), "4:3": (1200, 896),
    "4:5": (928, 1152), "5:4": (1152, 928), "9:16": (768, 1376), "16:9": (1376, 768), "21:9": (1584, 672),
}  # fmt: skip
"""What the model answers at 1K: multiples of 16, nearly in the ratio that was asked for."""
RED = (220, 20, 20)

JSON: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What arrived: `prompt` and `pictures` are those of its parts."""

    path: str
    version: str
    model: str
    headers: Mapping[str, str]
    body: JSON
    prompt: str
    pictures: tuple[Image.Image, ...]


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    fake: ClassVar[FakeImageModel]

    def setup(self) -> None:
        super().setup()
        with self.fake.lock:
            self.fake.connections += 1
            self.fake.open_connections += 1

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        with self.fake.lock:
            self.fake.open_connections -= 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.fake.lock:
            self.fake.at_once += 1
            self.fake.most_at_once = max(self.fake.most_at_once, self.fake.at_once)
        try:
            self.fake.answer(self, body)
        except (BrokenPipeError, ConnectionResetError):  # the client has gone, as some tests want
            self.close_connection = True
        finally:
            with self.fake.lock:
                self.fake.at_once -= 1

    def reply(self, status: int, body: JSON | bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send an answer whole."""
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


Answer: TypeAlias = Callable[[Handler, Request], None]


@dataclass
class FakeImageModel:
    """What it will answer, in this order, and what it has seen; with no answers left it makes a picture."""

    port: int
    answers: deque[Answer] = field(default_factory=deque)
    models: tuple[str, ...] = MODELS
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open_connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def answer(self, handler: Handler, body: bytes) -> None:
        """Check the request as the real server does, then answer it."""
        match = PATH.fullmatch(handler.path)
        if match is None:
            handler.reply(404, b"<html><title>Error 404 (Not Found)!!1</title></html>", {"Content-Type": "text/html"})
            return
        try:
            request = _read(handler, match[1], match[2], body)
        except ValueError as fault:
            _error(400, "INVALID_ARGUMENT", f"Invalid value: {fault}")(handler)
            return
        with self.lock:
            self.requests.append(request)
            answer = self.answers.popleft() if self.answers else picture()
        if handler.headers.get("x-goog-api-key") != KEY:
            _error(400, "INVALID_ARGUMENT", "API key not valid.", [error_info("API_KEY_INVALID")])(handler)
        elif request.model not in self.models:
            _error(404, "NOT_FOUND", f"models/{request.model} is not found for API version {request.version}")(handler)
        else:
            answer(handler, request)


@contextmanager
def serving() -> Iterator[FakeImageModel]:
    """The server, in threads of its own."""
    handler = type("BoundHandler", (Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        fake = FakeImageModel(port=server.server_address[1])
        handler.fake = fake  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield fake
        finally:
            server.shutdown()
            thread.join()


def edited(request: Request) -> Image.Image:
    """The first picture in the model's own size, with a red square in its middle."""
    size = SIZES[request.body["generationConfig"]["imageConfig"]["aspectRatio"]]
    image = request.pictures[0].convert("RGB").resize(size)
    side = min(size) // 5
    image.paste(RED, ((size[0] - side) // 2, (size[1] - side) // 2, (size[0] + side) // 2, (size[1] + side) // 2))
    return image


def file_of(image: Image.Image) -> bytes:
    """The picture as a PNG."""
    out = io.BytesIO()
    image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def image_part(file: bytes, *, url_safe: bool = False, padded: bool = True, **extra: Any) -> JSON:
    """A part that holds a picture."""
    data = (base64.urlsafe_b64encode if url_safe else base64.b64encode)(file).decode()
    return {**extra, "inlineData": {"mimeType": "image/png", "data": data if padded else data.rstrip("=")}}


def parts_answer(parts: list[JSON], *, finish: str | None = "STOP", snake: bool = False) -> JSON:
    """An answer with one candidate of these parts."""
    content = {"parts": parts, "role": "model"} if parts else {}
    body = {
        "candidates": [{"content": content, "finishReason": finish, "index": 0, "safetyRatings": None}],
        "usageMetadata": {"promptTokenCount": 1300, "candidatesTokenCount": 1290, "totalTokenCount": 2590},
        "modelVersion": "first-image-001",
        "responseId": "b0XyaM",
    }
    return _snake(body) if snake else body


def picture(change: Callable[[Image.Image], Image.Image] = lambda image: image, *, snake: bool = False) -> Answer:
    """The first picture, edited and then changed."""

    def send(handler: Handler, request: Request) -> None:
        handler.reply(200, parts_answer([image_part(file_of(change(edited(request))))], snake=snake))

    return send


def say(status: int, body: JSON | bytes, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer as it stands."""
    return lambda handler, _: handler.reply(status, body, headers)


def no_picture(finish: str, *texts: str) -> Answer:
    """HTTP 200 with a reason instead of a picture, and perhaps with words."""
    return say(200, parts_answer([{"text": text} for text in texts], finish=finish))


def blocked_prompt(reason: str = "PROHIBITED_CONTENT") -> Answer:
    """HTTP 200 without candidates."""
    return say(200, {"promptFeedback": {"blockReason": reason}, "usageMetadata": {"promptTokenCount": 12}})


def fails(status: int, name: str, message: str = "", details: list[JSON] | None = None) -> Answer:
    """An error in the form of Google's APIs."""
    send = _error(status, name, message, details)
    return lambda handler, _: send(handler)


def error_info(reason: str) -> JSON:
    """Why, in one word."""
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def retry_info(delay: str) -> JSON:
    """When to try again, such as "7s"."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota(quota_id: str) -> JSON:
    """Which quota is used up."""
    violation = {"quotaMetric": "generativelanguage.googleapis.com/generate_content_requests", "quotaId": quota_id}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def cut_short(handler: Handler, _: Request) -> None:
    """A connection that ends within the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    handler.wfile.write(b'{"candidates": [{"content": {"parts": [{"inlineData": {"data": "iVBORw0')
    handler.close_connection = True


def endless(handler: Handler, _: Request) -> None:
    """An answer that has no end."""
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    block = b" " * 2**20
    while True:
        handler.wfile.write(block)


def dripping(until: threading.Event) -> Answer:
    """A byte from time to time."""

    def send(handler: Handler, _: Request) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        while not until.wait(0.02):
            handler.wfile.write(b" ")

    return send


def held(until: threading.Event) -> Answer:
    """A picture, but not before `until` is set."""

    def send(handler: Handler, request: Request) -> None:
        assert until.wait(30)
        picture()(handler, request)

    return send


def _error(status: int, name: str, message: str = "", details: list[JSON] | None = None) -> Callable[[Handler], None]:
    body = {"error": {"code": status, "message": message, "status": name, "details": details or []}}
    return lambda handler: handler.reply(status, body)


def _read(handler: Handler, version: str, model: str, body: bytes) -> Request:
    """The request, if the real server would take it."""
    if len(body) > 20_000_000:
        raise ValueError("request payload size exceeds the limit: 20000000 bytes")
    fields = json.loads(body)
    if unknown := fields.keys() - {"contents", "generationConfig", "safetySettings"}:
        raise ValueError(f"unknown name {unknown}")
    (content,) = fields["contents"]
    assert content["role"] == "user"
    blobs = [_one_of(part, "inlineData") for part in content["parts"] if "text" not in part]
    assert all(_one_of(blob, "mimeType") == "image/jpeg" for blob in blobs)
    pictures = tuple(Image.open(io.BytesIO(_decode(blob["data"])), formats=["JPEG"]) for blob in blobs)
    config = fields["generationConfig"]
    if config["imageConfig"]["aspectRatio"] not in SIZES:
        raise ValueError("aspect_ratio")
    if config["imageConfig"].get("imageSize", "1K") not in {"1K", "2K", "4K"}:
        raise ValueError("image_size")
    if not {"IMAGE"} <= set(config["responseModalities"]) <= {"TEXT", "IMAGE"}:
        raise ValueError("response_modalities")
    if not 0 <= config.get("seed", 0) < 2**31:
        raise ValueError("seed")
    prompt = " ".join(part["text"] for part in content["parts"] if "text" in part)
    return Request(handler.path, version, model, dict(handler.headers), fields, prompt, pictures)


def _one_of(fields: JSON, camel: str) -> Any:
    """A field in either spelling."""
    return fields[camel] if camel in fields else fields[_snake_name(camel)]


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode(data.replace("-", "+").replace("_", "/"), validate=True)
    except binascii.Error as error:
        raise ValueError("data is no base64") from error


def _snake(value: Any) -> Any:
    if isinstance(value, dict):
        return {_snake_name(name): _snake(inner) for name, inner in value.items()}
    return [_snake(inner) for inner in value] if isinstance(value, list) else value


def _snake_name(camel: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", lambda match: f"_{match[1].lower()}", camel)
