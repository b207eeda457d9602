"""What a verb without a release of its own acts on: a fleet, and perhaps one release's replicas."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from flagprov.errors import FlagprovError, HostError, UnreachableError, VersionError
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
    by_file: bool = False  # a file has it, so that it needs to be known nowhere else


def scope_of(request: Request) -> Scope:
    from flagprov.fleet import load_fleet

    fleet = load_fleet(request.inventory, request.limit, reach=request.reach)
    release = request.release
    by_file = bool(release) and ("/" in str(release) or str(release).endswith((".yaml", ".yml")))
    if by_file:
        from flagprov.catalog import load_release

        release = load_release(str(release)).name
    return Scope(fleet, Site(fleet.site), release, by_file)


def check_named(scope: Scope, there: Iterable[str], silent: Collection[str] = ()) -> None:
    """A name that nobody knows is a typo, and nothing to be told of it that nothing is there.

    `there`: releases on the hosts that answered, which may have left the catalog long ago. A silent host may
    have it: then it is no usage error.
    """
    if scope.release is None or scope.by_file:
        return
    known = {*there, *(str(replica["release"]) for replica in scope.site.deployed().values())}
    if scope.release in known:
        return
    from flagprov.catalog import release_names, unknown_release

    if scope.release in release_names():
        return
    error = unknown_release(scope.release, known)
    if silent:
        said = f"{error.message}; {', '.join(sorted(silent))} could not be asked, and may have it"
        raise FlagprovError(said, remedy=error.remedy)
    raise error


def left_out(error: HostError) -> LeftOut:
    """Raises where the host has state of a newer flagprov."""
    if isinstance(error, VersionError):
        raise error
    problem = Problem(error.step, error.message, error.remedy)
    return LeftOut(error.host, problem, isinstance(error, UnreachableError))
