"""What replicas that exist say: their state and their logs. Nothing is imported that only changes need."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from flagprov.apply.converge import failures
from flagprov.errors import FlagprovError, HostError, InventoryError, UsageError
from flagprov.models.desired import container_name
from flagprov.models.fleet import Fleet, Host
from flagprov.models.observed import Running
from flagprov.models.outcome import GatewayStatus, HostOutcome, Outcome
from flagprov.models.request import Request
from flagprov.observe import survey
from flagprov.scope import check_named, scope_of
from flagprov.transport import KEPT, Connections
from flagprov.verify.status import merge


def status(request: Request) -> Outcome:
    """Every replica's state; what is unreachable is counted, never dropped."""
    begun = time.monotonic()
    scope = scope_of(request)
    with Connections(scope.fleet) as connections, _gateways(scope.fleet) as gateways:
        answers = connections.once(
            scope.fleet.hosts, lambda session: session.ask({"op": "status"})["replicas"]
        )
        before = gateways()
    silent = failures(answers)
    known = {name: found for name, found in answers.items() if not isinstance(found, HostError)}
    check_named(scope, (str(each["release"]) for found in known.values() for each in found), silent)
    hosts = [silent.get(host.name, HostOutcome(host.name, "unchanged")) for host in scope.fleet.hosts]
    replicas = merge(scope.fleet, known, silent, scope.site.deployed(), scope.release)
    seconds = round(time.monotonic() - begun, 3)
    return Outcome("status", scope.release or "", tuple(hosts), replicas, seconds=seconds, gateways=before)


@contextmanager
def _gateways(fleet: Fleet) -> Iterator[Callable[[], tuple[GatewayStatus, ...]]]:
    """The gateways' words, where there are any; they are asked meanwhile."""
    if not fleet.gateways:
        yield lambda: ()
        return
    from flagprov.gateway.gateways import Gateways

    with Gateways(fleet) as gateways:
        yield gateways.status


def logs(request: Request, target: str, follow: bool = False, lines: int = 100) -> Iterator[str]:
    """The lines of one replica's log; the target is a replica, or a host that has a single one."""
    scope = scope_of(request)
    with Connections(scope.fleet) as connections:
        host, container = _find(scope.fleet, connections, target)
        payload = {"op": "logs", "container": container, "follow": follow, "lines": lines}
        for message in connections.session(host).request(payload):
            if "event" in message:
                yield str(message["event"]["text"])
            elif "error" in message:
                error = message["error"]
                raise HostError(host.name, error["step"], error["message"], remedy=error["remedy"])


def _find(fleet: Fleet, connections: Connections, target: str) -> tuple[Host, str]:
    candidates = [host for host in fleet.hosts if host.name == target] or list(fleet.hosts)
    found: list[tuple[Host, Running]] = []
    silent: list[HostError] = []
    names_there = {host.name for host in fleet.hosts}
    for name, seen in connections.each(candidates, survey, keep=KEPT).items():
        if isinstance(seen, HostError):
            if name == target:
                raise seen
            silent.append(seen)
            continue
        host = next(host for host in fleet.hosts if host.name == name)
        names_there.update(running.replica for running in seen.running)
        # A replica's log is that of its head; those of its other ranks are asked for by host.
        found += [
            (host, running)
            for running in seen.running
            if target == name or (target == running.replica and running.hosts[:1] in ((name,), ()))
        ]
    if len(found) == 1:
        return found[0][0], container_name(found[0][1].instance)
    names = ", ".join(sorted(running.replica for _, running in found))
    if found:
        raise UsageError(f"{target} has several replicas: {names}", remedy="name one of them")
    if silent:
        names = ", ".join(error.host for error in silent)
        raise FlagprovError(
            f"{target}: on no host that answered; {names} did not: {silent[0].message}",
            remedy=silent[0].remedy,
        )
    raise InventoryError(
        f"no host or replica {target}{_nearest(target, names_there)}",
        remedy="flagprov status shows what there is",
    )


def _nearest(target: str, names: Iterable[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(target, sorted(names), 3, 0.6)
    return f"; nearest: {', '.join(close)}" if close else ""
