"""What a verb without a release of its own acts on: a fleet, and perhaps one release's replicas."""

from __future__ import annotations

from dataclasses import dataclass

from flagprov.errors import HostError, UnreachableError, VersionError
from flagprov.models.fleet import Fleet
from flagprov.models.observed import Problem
from flagprov.models.plan import LeftOut
from flagprov.models.request import Request
from flagprov.site import Site


@dataclass(frozen=True, slots=True)
class Scope:
    fleet: Fleet
    site: Site
    release: str | None  # a name; None: every release


def scope_of(request: Request) -> Scope:
    from flagprov.fleet import load_fleet

    fleet = load_fleet(request.inventory, request.limit, reach=request.reach)
    release = request.release
    if release and ("/" in release or release.endswith((".yaml", ".yml"))):
        from flagprov.catalog import load_release

        release = load_release(release).name
    return Scope(fleet, Site(fleet.site), release)


def left_out(error: HostError) -> LeftOut:
    """Raises where the host has state of a newer flagprov."""
    if isinstance(error, VersionError):
        raise error
    problem = Problem(error.step, error.message, error.remedy)
    return LeftOut(error.host, problem, isinstance(error, UnreachableError))
