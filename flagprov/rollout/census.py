"""All replicas of a release in the whole inventory: what a budget is a share of, and what is out of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flagprov.errors import HostError
from flagprov.models.fleet import Fleet
from flagprov.models.observed import Survey
from flagprov.observe import survey
from flagprov.site import Site
from flagprov.transport import Connections


@dataclass(frozen=True, slots=True)
class Census:
    known: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()  # on hosts that were left out, or elsewhere and not running


def census(
    fleet: Fleet, limit: str | None, site: Site, release: str, left_out: Collection[str] = ()
) -> Census:
    """Asks the hosts beyond --limit, too: what is down there is out of service all the same."""
    asked: Mapping[str, Survey | HostError] = {}
    if limit:
        from flagprov.fleet import load_fleet

        mine = {host.name for host in fleet.hosts}
        others = [host for host in load_fleet(fleet.inventory).hosts if host.name not in mine]
        with Connections(fleet) as connections:
            asked = connections.once(others, survey)
    return count(site, release, left_out, asked)


def count(
    site: Site, release: str, left_out: Collection[str], asked: Mapping[str, Survey | HostError]
) -> Census:
    """From what the site remembers, and from what the hosts beyond a limit say."""
    places = {n: set(r["hosts"]) for n, r in site.deployed().items() if r["release"] == release}
    silent = set(left_out) | {name for name, found in asked.items() if isinstance(found, HostError)}
    lost = {name for name, hosts in places.items() if hosts & silent}
    known = set(places)
    for found in asked.values():
        for running in () if isinstance(found, HostError) else found.running:
            if running.release == release:
                known.add(running.replica)
                if running.state != "running":
                    lost.add(running.replica)
    return Census(frozenset(known), frozenset(lost))
