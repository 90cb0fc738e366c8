"""Which URLs of clients are opened: by a table of addresses, and by a real socket that must not be reached."""

from __future__ import annotations

import asyncio
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from service.errors import UrlNotAllowedError
from service.outbound import MAX_URL_LENGTH, GuardedTransport, is_public, resolve

PUBLIC = ["8.8.8.8", "100.63.255.255", "100.128.0.0", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808",
          "2002:808:808::"]  # fmt: skip
NOT_PUBLIC = [
    "127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.0",
    "100.127.255.255", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1", "64:ff9b:1::808:808", "2002:7f00:1::", "2002:a00:1::", "fe80::1", "fe80::1%eth0", "fec0::1",
    "fd00::1", "ff02::1", "2001:db8::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2607:f8b0::5efe:7f00:1",
    "2607:f8b0::200:5efe:a00:1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_others_are_not_nor_what_embeds_one(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost/", "http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/",
        "http://127.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://0/", "http://169.254.169.254/latest",
        "https://user:secret@8.8.8.8/", "http://8.8.8.8:22/", "http://8.8.8.8:0/", "ftp://8.8.8.8/", "file:///etc/passwd",
        "gopher://8.8.8.8/", "http://", "//8.8.8.8/", "8.8.8.8", "", "http://[/", "http://8.8.8.8:99999/",
        "http://nowhere.invalid/", f"http://8.8.8.8/{'a' * MAX_URL_LENGTH}", "http://a\x00b/", "http://\uff11\uff12\uff17.0.0.1/",
    ],
)  # fmt: skip
def test_what_is_refused_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(UrlNotAllowedError) as refusal:
        asyncio.run(resolve(url, allow_private=False))
    assert refusal.value.message.startswith("This URL is not opened.")


@pytest.mark.parametrize("url", ["http://8.8.8.8/", "https://8.8.8.8:8443/hook?a=b", "http://[2606:4700::1111]/"])
def test_public_addresses_are_opened_at_what_was_judged(url: str) -> None:
    target = asyncio.run(resolve(url, allow_private=False))
    assert target.address == target.url.host


def test_private_addresses_are_opened_only_where_the_operator_allows_them() -> None:
    assert asyncio.run(resolve("http://127.0.0.1:81/", allow_private=True)).address == "127.0.0.1"
    with pytest.raises(UrlNotAllowedError):
        asyncio.run(resolve("file:///etc/passwd", allow_private=True))


def test_nothing_reaches_a_socket_that_is_not_allowed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.3)
        url = f"http://localhost:{listening.getsockname()[1]}/"
        with pytest.raises(UrlNotAllowedError):
            asyncio.run(get(url, allow_private=False))
        with pytest.raises(TimeoutError):
            listening.accept()


def test_a_name_is_resolved_once_and_its_host_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second answer would be another address: what was judged is what is connected to."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: object, **__: object) -> object:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    with echo_server() as port:
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        answer = asyncio.run(get(f"http://shop.example:{port}/", allow_private=True))
    assert answer == f"shop.example:{port}"
    assert [host for host in asked if host != "127.0.0.1"] == ["shop.example"]


def test_one_private_address_among_several_is_enough_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> object:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 80)) for host in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(UrlNotAllowedError):
        asyncio.run(resolve("http://shop.example/", allow_private=False))


async def get(url: str, *, allow_private: bool) -> str:
    transport = GuardedTransport(allow_private=allow_private)
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        return (await client.get(url)).text


@contextmanager
def echo_server() -> Iterator[int]:
    """Answers with the Host that it was asked for; its port."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.headers["Host"].encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
