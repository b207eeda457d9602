"""Who gets it from whom; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

FIRST_PORT, PORTS = 29800, 100


@dataclass(frozen=True, slots=True)
class Member:
    """A host of a transfer."""

    name: str
    addresses: tuple[str, ...]
    site: str = ""


def port_of(authority: str) -> int:
    """All nodes of one transfer listen at the same port, transfers beside each other at different ones."""
    return FIRST_PORT + int(hashlib.sha256(authority.encode()).hexdigest()[:8], 16) % PORTS


def ordered(members: Sequence[Member], first_site: str = "") -> tuple[Member, ...]:
    """Site by site, so that one copy crosses between two sites; the source's own site first."""
    sites = list(dict.fromkeys(member.site for member in members))
    sites.sort(key=lambda site: site != first_site)
    return tuple(member for site in sites for member in members if member.site == site)


def before(chain: Sequence[Member], name: str) -> tuple[Member, ...]:
    """Whom a host pulls from, nearest first; behind a dead one its own site comes before others."""
    names = [member.name for member in chain]
    place = names.index(name)
    nearest = list(reversed(chain[:place]))
    return tuple(sorted(nearest, key=lambda member: member.site != chain[place].site))
