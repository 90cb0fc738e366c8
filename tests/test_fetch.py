"""Pictures by URL: what is not opened, and what a server can do to whoever opens it. Real sockets on both sides."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias

import pytest
from PIL import Image

from service.errors import BusyError, ServiceError, UrlNotAllowedError, UrlNotFetchedError
from service.fetch import CONCURRENT, MAX_REDIRECTS, Fetcher
from tests.conftest import encoded
from tests.test_outbound import NOT_PUBLIC, PUBLIC

PNG = encoded(Image.new("RGB", (8, 8), (200, 30, 30)))
LIMIT = 100_000

Answer: TypeAlias = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers as its server was told for each path."""

    protocol_version = "HTTP/1.1"
    timeout = 20

    def do_GET(self) -> None:
        server: Any = self.server
        server.seen.append((self.path, dict(self.headers)))
        with suppress(ConnectionError):
            server.answers[self.path](self)
        self.close_connection = True

    def head(self, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in ({"Content-Type": "image/png"} | named).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class PictureServer:
    """A server on loopback: what it answers by path, and what it was asked."""

    def __init__(self, server: Any) -> None:
        self.answers: dict[str, Answer] = server.answers
        self.seen: list[tuple[str, dict[str, str]]] = server.seen
        self.port: int = server.server_port

    def url(self, path: str = "/picture", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"


@contextmanager
def picture_server() -> Iterator[PictureServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.answers, server.seen = {"/picture": whole()}, []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield PictureServer(server)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[PictureServer]:
    with picture_server() as running:
        yield running


def whole(content: bytes = PNG, status: int = 200, **headers: str) -> Answer:
    def send(handler: Handler) -> None:
        handler.head(status, **({"Content_Length": str(len(content))} | headers))
        handler.wfile.write(content)

    return send


def redirect(location: str, body: bytes = b"") -> Answer:
    return whole(body, 302, Location=location)


def fetch(url: str, *, allow_private: bool = True, **changes: Any) -> bytes:
    async def run() -> bytes:
        fetcher = Fetcher(**({"max_bytes": LIMIT, "timeout_s": 10, "allow_private": allow_private} | changes))
        try:
            return await fetcher.picture(url)
        finally:
            await fetcher.close()

    return asyncio.run(run())


def refusal(url: str, **changes: Any) -> ServiceError:
    with pytest.raises(ServiceError) as refused:
        fetch(url, **changes)
    return refused.value


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to the next of these lists of addresses, the last one for ever; which names were asked."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> object:
        if host.replace(".", "").isdigit() or ":" in host:
            addresses = [host]
        else:
            asked.append(host)
            addresses = answers[min(len(asked), len(answers)) - 1]
        return [
            (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 0, "", (each, port))
            for each in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# ---- what is opened, and how --------------------------------------------------------------------------------------


def test_a_picture_is_fetched_as_it_is(server: PictureServer) -> None:
    assert fetch(server.url()) == PNG
    _, headers = server.seen[0]
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Referer", "Authorization"} & headers.keys()


@pytest.mark.parametrize("kind", ["image/webp", "application/octet-stream", "Image/PNG; charset=binary", ""])
def test_types_of_pictures_and_of_storage_servers_are_taken(server: PictureServer, kind: str) -> None:
    server.answers["/picture"] = whole(Content_Type=kind)
    assert fetch(server.url()) == PNG


def test_redirects_are_followed_relative_ones_at_their_own_name(
    server: PictureServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, ["127.0.0.1"])
    server.answers["/a"] = redirect("/b?c=d")
    server.answers["/b?c=d"] = redirect(server.url(host="cdn.example"))
    assert fetch(server.url("/a", host="shop.example")) == PNG
    hosts = [headers["Host"].partition(":")[0] for _, headers in server.seen]
    assert hosts == ["shop.example", "shop.example", "cdn.example"]


def test_a_cookie_goes_to_no_one(server: PictureServer) -> None:
    server.answers["/a"] = whole(b"", 302, Location="/picture", Set_Cookie="session=1; Path=/")
    assert fetch(server.url("/a")) == PNG
    assert all("Cookie" not in headers for _, headers in server.seen)


def test_proxies_of_the_environment_are_not_used(server: PictureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        assert fetch(server.url()) == PNG


# ---- what is not opened -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_byte_is_sent_to_an_address_that_is_not_public(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a name, so that each line of the table comes through the resolver."""
    connected: list[object] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *args: connected.append(args))
    resolving(monkeypatch, [address.partition("%")[0]])
    assert isinstance(refusal("http://shop.example/picture.png", allow_private=False), UrlNotAllowedError)
    assert connected == []


def test_a_listening_socket_hears_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        port = listening.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0"):
            assert isinstance(refusal(f"http://{host}:{port}/", allow_private=False), UrlNotAllowedError)
        with pytest.raises(TimeoutError):
            listening.accept()


@pytest.mark.parametrize(
    "location",
    ["http://127.0.0.1:{port}/", "//127.0.0.1:{port}/", "http://169.254.169.254/latest/", "file:///etc/passwd",
     "gopher://127.0.0.1:{port}/", "http://[::1]:{port}/", "http://user:secret@shop.example/", "data:image/png,x"],
)  # fmt: skip
def test_a_redirect_is_judged_like_any_other_url(monkeypatch: pytest.MonkeyPatch, location: str) -> None:
    """The first server counts as public here, its address alone; what it leads to does not."""
    monkeypatch.setattr("service.outbound.is_public", lambda address: address == "127.0.0.2")
    resolving(monkeypatch, ["127.0.0.2"])
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadingHTTPServer(("127.0.0.2", 0), Handler) as first:
        listening.settimeout(0.2)
        first.answers = {"/": redirect(location.format(port=listening.getsockname()[1]))}  # type: ignore[attr-defined]
        first.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=first.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            refused = refusal(f"http://shop.example:{first.server_port}/", allow_private=False)
        finally:
            first.shutdown()
            thread.join()
        assert len(first.seen) == 1  # type: ignore[attr-defined]
        assert isinstance(refused, UrlNotAllowedError), refused.message
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_name_that_changes_its_address_gains_nothing(server: PictureServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second answer would be loopback, where a server listens. It is never asked for."""
    asked = resolving(monkeypatch, ["192.0.2.7"], ["127.0.0.1"])
    monkeypatch.setattr("service.outbound.is_public", lambda address: address == "192.0.2.7")
    connected: list[object] = []

    def connect(_: socket.socket, address: object) -> None:
        connected.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", connect)
    refused = refusal(server.url(host="rebind.example"), allow_private=False, timeout_s=2)
    assert isinstance(refused, UrlNotFetchedError)
    assert asked == ["rebind.example"]
    assert connected == [("192.0.2.7", server.port)]
    assert server.seen == []


def test_all_refusals_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["10.0.0.1"])
    urls = ["http://shop.example/", "http://127.0.0.1/", "ftp://8.8.8.8/", "http://8.8.8.8:22/", "http://[/", "", "x",
            "http://u:p@8.8.8.8/", "http://" + "a" * 3000, "http://a b/", "javascript:alert(1)"]  # fmt: skip
    refused = [refusal(url, allow_private=False) for url in urls]
    assert {each.message for each in refused} == {refused[0].message}
    assert {each.code for each in refused} == {"URL_NOT_ALLOWED"}
    assert PUBLIC  # the other half of the table is tried in test_outbound


# ---- what a server can do -----------------------------------------------------------------------------------------


def without_length(handler: Handler) -> None:
    handler.head()
    for _ in range(100):
        handler.wfile.write(bytes(LIMIT // 10))


def dripping(handler: Handler) -> None:
    handler.head(Content_Length="100")
    for _ in range(100):
        time.sleep(0.05)
        handler.wfile.write(b"x")


def dripping_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100):
        time.sleep(0.05)
        handler.wfile.write(b"X-%d: x\r\n" % number)


def cut_short(handler: Handler) -> None:
    handler.head(Content_Length="1000")
    handler.wfile.write(PNG)


def no_http(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")


def nothing(_: Handler) -> None:
    pass


FAULTS: dict[str, Answer] = {
    "a length over the limit": whole(b"", Content_Length=str(LIMIT + 1)),
    "no length and too many bytes": without_length,
    "a page": whole(b"<html>", Content_Type="text/html"),
    "an SVG by another name": whole(b"<svg/>", Content_Type="text/xml"),
    "404": whole(PNG, 404),
    "206": whole(PNG, 206),
    "204": whole(b"", 204),
    "500": whole(b"", 500),
    "a compressed bomb": whole(gzip.compress(bytes(50_000_000)), Content_Encoding="gzip"),
    "brotli": whole(PNG, Content_Encoding="br"),
    "fewer bytes than said": cut_short,
    "bytes that are no HTTP": no_http,
    "nothing at all": nothing,
    "a redirect without a place": whole(b"", 302),
    "for ever round": redirect("/fault"),
    "a length that is none": whole(PNG, Content_Length="9" * 5000),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_else_comes_is_one_refusal(server: PictureServer, fault: str) -> None:
    server.answers["/fault"] = FAULTS[fault]
    server.answers["/missing"] = whole(b"", 404)
    refused = refusal(server.url("/fault"))
    assert isinstance(refused, UrlNotFetchedError)
    assert refused.message == refusal(server.url("/missing")).message


@pytest.mark.parametrize("slow", [dripping, dripping_headers])
def test_a_server_that_drips_is_left_when_the_time_is_over(server: PictureServer, slow: Answer) -> None:
    server.answers["/slow"] = slow
    assert isinstance(refusal(server.url("/slow"), timeout_s=0.5), UrlNotFetchedError)


def test_the_body_of_a_redirect_is_not_read(server: PictureServer) -> None:
    sent: list[int] = []

    def endless_redirect(handler: Handler) -> None:
        handler.head(302, Location="/picture")
        with suppress(ConnectionError):
            sent.extend(handler.wfile.write(bytes(100_000)) for _ in range(2000))

    server.answers["/a"] = endless_redirect
    assert fetch(server.url("/a")) == PNG
    assert sum(sent) < 100_000_000


def test_so_many_redirects_and_no_more(server: PictureServer) -> None:
    for number in range(MAX_REDIRECTS + 1):
        server.answers[f"/{number}"] = redirect(f"/{number + 1}")
    server.answers[f"/{MAX_REDIRECTS + 1}"] = whole()
    assert fetch(server.url("/1")) == PNG
    assert isinstance(refusal(server.url("/0")), UrlNotFetchedError)


def test_exactly_the_limit_is_taken(server: PictureServer) -> None:
    server.answers["/picture"] = whole(bytes(LIMIT))
    assert len(fetch(server.url())) == LIMIT
    server.answers["/picture"] = whole(bytes(LIMIT + 1))
    assert isinstance(refusal(server.url()), UrlNotFetchedError)


def test_many_slow_servers_keep_others_waiting_for_a_bounded_time_only(server: PictureServer) -> None:
    server.answers["/slow"] = dripping

    async def run() -> list[Any]:
        fetcher = Fetcher(max_bytes=LIMIT, timeout_s=0.5, allow_private=True)
        try:
            slow = [fetcher.picture(server.url("/slow")) for _ in range(3 * CONCURRENT)]
            return await asyncio.gather(*slow, return_exceptions=True)
        finally:
            await fetcher.close()

    kinds = {type(each) for each in asyncio.run(run())}
    assert kinds <= {UrlNotFetchedError, BusyError}
    assert UrlNotFetchedError in kinds
