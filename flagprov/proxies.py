"""Proxies lead outside: what one of the fleet's own hosts serves is asked for directly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from flagprov.host.http import is_direct
from flagprov.models.fleet import Fleet

if TYPE_CHECKING:
    import ssl

    import httpx

NAMES = ("http_proxy", "https_proxy", "all_proxy")


def keep_direct(fleet: Fleet) -> None:
    """In this process and its children."""
    os.environ.update(no_proxy(os.environ, addresses(fleet)))


def no_proxy(environment: Mapping[str, str], direct: Iterable[str]) -> dict[str, str]:
    """NO_PROXY with these besides, where that environment has a proxy at all."""
    if not any(environment.get(name) or environment.get(name.upper()) for name in NAMES):
        return {}
    known = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    entries = dict.fromkeys((*(entry.strip() for entry in known.split(",")), *direct))
    text = ",".join(entry for entry in entries if entry)
    return {"no_proxy": text, "NO_PROXY": text}


def addresses(fleet: Fleet) -> Iterator[str]:
    """All that hosts of the fleet are called by."""
    for host in fleet.machines:
        said = (host.variables.get(name) for name in ("flagprov_address", "flagprov_serving_address"))
        yield from (host.name, host.connection.address, *(str(address or "") for address in said))


def outward(verify: ssl.SSLContext) -> httpx.BaseTransport:
    """By this process's proxies. httpx itself knows no networks in NO_PROXY, and ends at those of IPv6."""
    from urllib.request import getproxies

    import httpx

    proxies = getproxies()
    ways: dict[str, httpx.HTTPTransport] = {}

    def way(proxy: str) -> httpx.HTTPTransport:
        proxy = f"http://{proxy}" if proxy and "://" not in proxy else proxy
        if proxy not in ways:
            try:
                ways[proxy] = httpx.HTTPTransport(verify=verify, proxy=proxy or None)
            except (ValueError, ImportError, httpx.InvalidURL) as error:  # its text may have a password
                raise httpx.ProxyError(f"the proxy is of no use: {type(error).__name__}") from None
        return ways[proxy]

    class Outward(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            proxy = proxies.get(request.url.scheme) or proxies.get("all") or ""
            known = proxy and is_direct(request.url.netloc.decode("ascii"), proxies.get("no", ""))
            return way("" if known else proxy).handle_request(request)

        def close(self) -> None:
            for each in ways.values():
                each.close()

    return Outward()
