"""Proxies lead outside: what one of the fleet's own hosts serves is asked for directly."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING

from flagprov.errors import UsageError
from flagprov.host.http import is_direct
from flagprov.models.fleet import Fleet

if TYPE_CHECKING:
    import ssl

    import httpx

NAMES = ("http_proxy", "https_proxy", "all_proxy")
LONGEST = 96 << 10  # no program is started with a variable of more than 128 KiB
_ASKED = ("flagprov_webhook", "container_engine_registry_mirrors", "container_engine_insecure_registries")


def keep_direct(fleet: Fleet, release: str = "") -> None:
    """In this process and its children; `release` as text, which may name a host as a source."""
    os.environ.update(no_proxy(os.environ, addresses(fleet), (release, *asked(fleet))))


def no_proxy(
    environment: Mapping[str, str], direct: Iterable[str], asked: Iterable[str] = ()
) -> dict[str, str]:
    """NO_PROXY with these besides, where that environment has a proxy at all.

    Of a fleet that is too large for it only those that the environment or one of the `asked` texts name.
    """
    if not any(environment.get(name) or environment.get(name.upper()) for name in NAMES):
        return {}
    before = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    known, ours = [entry.strip() for entry in before.split(",")], list(direct)
    text = _listed(known, ours)
    if len(text) > LONGEST:
        named = {word for said in (*asked, *environment.values()) for word in _words(said)}
        text = _listed(known, (name for name in ours if name.lower() in named))
    if len(text) > LONGEST:
        raise UsageError(
            f"NO_PROXY is {len(text) >> 10} KiB long, and no program can be given so much",
            remedy="let it name domains (.example.com) and networks (10.0.0.0/8) in the place of hosts",
        )
    return {"no_proxy": text, "NO_PROXY": text}


def asked(fleet: Fleet) -> Iterator[str]:
    """Texts of the inventory that name whom somebody asks by HTTP."""
    for host in fleet.machines:
        yield from host.registries.values()
        yield from (str(host.variables.get(name) or "") for name in _ASKED)


def _listed(*entries: Iterable[str]) -> str:
    return ",".join(entry for entry in dict.fromkeys(chain(*entries)) if entry)


def _words(text: str) -> Iterator[str]:
    """What may be a name or an address."""
    for found in re.finditer(r"\[([0-9a-f:.]+)\]|[\w.-]+", text.lower()):
        yield found[1] or found[0]


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
