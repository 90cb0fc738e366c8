"""Which addresses the service opens connections to when a client names a URL, and connections to nothing else.

A name is resolved once, every address it has is judged, and the connection goes to the very address that was judged: a
name that resolves to something else a moment later changes nothing. A redirect is another URL and comes here again.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpx

from service.errors import UrlNotAllowedError

MAX_URL_LENGTH = 2048
REFUSED = (
    "This URL is not opened. It must be http or https, without user name or password, on port 80, 443 or from 1024 on, "
    "and its host must have a public address."
)
DEFAULT_PORTS = {"http": 80, "https": 443}
OPEN_PORTS = frozenset(DEFAULT_PORTS.values())
FIRST_UNPRIVILEGED_PORT, LAST_PORT = 1024, 65_535

_NAT64 = IPv6Network("64:ff9b::/96")
_NOT_OF_THE_INTERNET = (IPv6Network("::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("fec0::/10"))
"""Which `is_global` lets pass: IPv4-compatible (:: and ::1 too), a network's own NAT64, site-local."""
_ISATAP_MARKS = (0x0000_5EFE, 0x0200_5EFE)
"""The 32 bits before the embedded address (RFC 5214), for a private and for a global one."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads: its host as written, and the address that was judged."""

    url: httpx.URL
    address: str


async def resolve(url: str, *, allow_private: bool) -> Target:
    """Judge a URL and find the address to connect to.

    Args:
        url: what a client gave.
        allow_private: let loopback, private and link-local addresses pass, and any port.

    Raises:
        UrlNotAllowedError: whatever is wrong with it.
    """
    parsed = _parse(url)
    port = DEFAULT_PORTS[parsed.scheme] if parsed.port is None else parsed.port
    if not (0 < port <= LAST_PORT and (allow_private or port in OPEN_PORTS or port >= FIRST_UNPRIVILEGED_PORT)):
        raise UrlNotAllowedError(REFUSED)
    addresses = await _look_up(parsed.host, port)
    if not addresses or not (allow_private or all(is_public(address) for address in addresses)):
        raise UrlNotAllowedError(REFUSED)
    return Target(parsed, addresses[0])


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, as are all that it embeds."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        if any(ip in network for network in _NOT_OF_THE_INTERNET):
            return False
        return ip.is_global and not ip.is_multicast and all(is_public(str(inner)) for inner in _embedded(ip))
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _embedded(ip: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses to which a network may carry what is sent to this one."""
    low = int(ip) & 0xFFFF_FFFF
    found = [inner for inner in (ip.ipv4_mapped, ip.sixtofour) if inner is not None]
    if ip.teredo is not None:
        found += ip.teredo
    if ip in _NAT64 or int(ip) >> 32 & 0xFFFF_FFFF in _ISATAP_MARKS:
        found.append(IPv4Address(low))
    return found


def _parse(url: str) -> httpx.URL:
    if len(url) > MAX_URL_LENGTH:
        raise UrlNotAllowedError(REFUSED)
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise UrlNotAllowedError(REFUSED) from error
    if parsed.scheme not in DEFAULT_PORTS or not parsed.host or parsed.userinfo:
        raise UrlNotAllowedError(REFUSED)
    return parsed


async def _look_up(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UrlNotAllowedError(REFUSED) from error
    return [str(entry[4][0]) for entry in found]


class GuardedTransport(httpx.AsyncBaseTransport):
    """Opens a URL at the address that was judged; certificate and Host stay those of its name.

    For a client with `trust_env=False`: a proxy would resolve the name again. httpx's time-outs are for one read each:
    put `asyncio.timeout` around a request, or a server that drips holds it for ever.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        # A connection is not used again: it was made for one name, and another one may have the same address.
        self._inner = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it. Raises UrlNotAllowedError before anything is sent."""
        target = await resolve(str(request.url), allow_private=self._allow_private)
        # The client's own request keeps its URL, to which the Location of a redirect may be relative.
        judged = httpx.Request(
            request.method,
            request.url.copy_with(host=target.address),
            headers=request.headers,
            stream=request.stream,
            extensions={**request.extensions, "sni_hostname": target.url.host},
        )
        return await self._inner.handle_async_request(judged)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()
