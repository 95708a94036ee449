"""Videos by http(s) URL, from hosts that the operator named and from nowhere else.

A host's addresses are looked up once and checked, and the one that was checked is the one that is
connected to. Redirects are followed within the allowed hosts only. No proxies, no cookies.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urljoin, urlsplit

import httpx

from slowfast_mllm.serve.errors import ApiError, wrong
from slowfast_mllm.video.names import short_name

_HOPS = 3
_SILENCE = 20.0  # seconds without a sign of life
_PATIENCE = 120.0  # seconds in all
_PORTS = {"http": 80, "https": 443}
# Addresses of IPv6 that stand for one of IPv4 behind a translator.
_TRANSLATED = [ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")]


async def fetch(url: str, hosts: Sequence[str], write: Callable[[bytes], None]) -> None:
    """Hand what a URL holds to `write`, piece by piece.

    Args:
        hosts: that are allowed, as `example.com` (its usual ports) or `example.com:8080`.

    Raises:
        ApiError: it may not be fetched, or cannot.
    """
    name = short_name(url)
    try:
        async with asyncio.timeout(_PATIENCE):
            for _ in range(_HOPS + 1):
                onward = await _fetch(url, name, hosts, write)
                if onward is None:
                    return
                url = onward
        raise wrong(f"{name}: redirected too often", code="fetch_failed")
    except TimeoutError as error:
        raise wrong(
            f"{name}: not fetched within {_PATIENCE:.0f} s; upload it instead", code="fetch_failed"
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as error:
        raise wrong(
            f"{name}: cannot be fetched ({type(error).__name__}); check the address, or upload it",
            code="fetch_failed",
        ) from error


async def _fetch(
    url: str, name: str, hosts: Sequence[str], write: Callable[[bytes], None]
) -> str | None:
    """Where it is to be looked for instead, if anywhere."""
    host, port, scheme = _allowed(url, name, hosts)
    address = await _checked_address(host, port, name)
    target = httpx.URL(url).copy_with(host=address, port=port, userinfo=b"")
    header = host if port == _PORTS[scheme] else f"{host}:{port}"
    limits = httpx.Timeout(_SILENCE)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=limits, follow_redirects=False) as client,
        client.stream(
            "GET",
            target,
            headers={"Host": header, "Accept-Encoding": "identity"},
            extensions={"sni_hostname": host},
        ) as answer,
    ):
        if answer.is_redirect:
            return urljoin(url, answer.headers.get("location", ""))
        if answer.status_code != 200:
            raise wrong(
                f"{name}: its host answers {answer.status_code}; check the address",
                code="fetch_failed",
            )
        async for piece in answer.aiter_raw():
            write(piece)
    return None


def _allowed(url: str, name: str, hosts: Sequence[str]) -> tuple[str, int, str]:
    """Host, port and scheme."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme.lower()]
        host = (parts.hostname or "").rstrip(".").encode("idna").decode().lower()
    except (ValueError, KeyError) as error:
        raise wrong(f"{name}: not an http(s) URL", code="invalid_url") from error
    known = {entry.lower() for entry in hosts}
    if f"{host}:{port}" in known or (host in known and port in _PORTS.values()):
        return host, port, parts.scheme.lower()
    raise ApiError(
        403,
        f"{name}: this server fetches "
        + (f"from {', '.join(hosts)} only" if hosts else "nothing from the network")
        + "; upload the video (POST /v1/files) instead",
        "not_allowed",
    )


async def _checked_address(host: str, port: int, name: str) -> str:
    """An address of the host, all of whose addresses are public ones."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise ApiError(
            403, f"{name}: its host is not on the public network; upload it", "not_allowed"
        )
    return addresses[0]


def is_public(text: str) -> bool:
    """Whether an address is of the public network: not private, loopback, link-local, reserved,
    multicast or unspecified, nor one of IPv6 that stands for such a one of IPv4."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is not None:
            return is_public(str(inner))
        if any(address in network for network in _TRANSLATED) or address.teredo is not None:
            return False
        if address.is_site_local or address in ipaddress.ip_network("::/96"):
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
