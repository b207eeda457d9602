"""Proxies lead outside: what one of the fleet's own hosts serves is asked for directly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping

from flagprov.models.fleet import Fleet

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
