"""What is done with replicas that exist: stopping and removing them, and what nothing needs any more."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from flagprov.apply.converge import OnEvent, converge, failed, failures
from flagprov.apply.lease import Lease
from flagprov.apply.record import RunRecord
from flagprov.desired import absent, emptied, stopped, unneeded
from flagprov.errors import HostError, UnreachableError
from flagprov.gateway.gateways import Gateways
from flagprov.host.slots import SECOND
from flagprov.models.desired import Placement, Resource, Stage, container_name
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import Change, Look, Running, Survey
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import HostPlan, Plan
from flagprov.observe import look, survey
from flagprov.plan import build, host_plan
from flagprov.preparation import Request, hosts_of
from flagprov.scope import Scope, check_named, left_out, scope_of
from flagprov.transport import KEPT, Connections, Session

HERE = "this controller"
Resources = Callable[[Session], tuple[Resource, ...]]


def stop(request: Request, *, approve: Callable[[Plan], bool], on_event: OnEvent) -> Outcome | None:
    """Stop replicas; they stay stopped over a reboot until they are deployed again."""

    scope = scope_of(request)
    there: set[str] = set()

    def resources(session: Session) -> tuple[Resource, ...]:
        seen = survey(session)
        there.update(running.release for running in seen.running)
        return tuple(r for running in _mine(seen, scope.release) for r in stopped(running))

    return change("stop", scope, resources, approve, on_event, there=there)


def teardown(
    request: Request, *, weights: bool, approve: Callable[[Plan], bool], on_event: OnEvent
) -> Outcome | None:
    """Remove replicas, and with the last one everything of flagprov; driver, engine, foreign data stay."""

    scope = scope_of(request)
    notes: dict[str, None] = {}
    there: set[str] = set()

    def resources(session: Session) -> tuple[Resource, ...]:
        seen = survey(session)
        there.update(running.release for running in seen.running)
        found = removal(seen, scope.release, weights)
        notes.update(dict.fromkeys(staying(session, found)))
        return found

    outcome = change("teardown", scope, resources, approve, on_event, notes, there=there)
    if outcome:
        _forget(scope, outcome)
    return outcome


def removal(seen: Survey, release: str | None, weights: bool) -> tuple[Resource, ...]:
    """A release's replicas gone, all of them without one; with the last replica everything of flagprov."""
    mine = _mine(seen, release)
    removed = [r for running in mine for r in absent(running)]
    if weights:
        removed += _weights(seen, [running.replica for running in mine])
    everything = len(mine) == len(seen.running)
    return (*removed, *(emptied() if everything else ()))


def staying(session: Session, resources: Iterable[Resource]) -> list[str]:
    """Weights that are asked to go and stay, with the reason: on a share, somebody else's, mounted."""
    wanted = [resource for resource in resources if resource.kind == "weights"]
    if not wanted:
        return []
    paths, going = [resource.name for resource in wanted], wanted[0].spec["going"]
    answer = session.ask({"op": "kept", "weights": paths, "going": going})
    return [f"{session.host.name}: {note}" for note in answer["kept"]]


def prune(
    request: Request, *, keep: int, approve: Callable[[Plan], bool], on_event: OnEvent
) -> Outcome | None:
    """Remove what of ours no container and none of the last `keep` deployments of a replica needs.

    Here, too: what is kept to bring it to hosts.
    """
    scope = scope_of(request)
    notes: dict[str, None] = {}
    needed: dict[str, Sequence[str]] = {}

    def resources(session: Session) -> tuple[Resource, ...]:
        answer = session.ask({"op": "unused", "keep": keep})
        notes.update((f"{session.host.name}: {note}", None) for note in answer["kept"])
        needed[session.host.name] = answer["needed"]
        return unneeded(answer)

    def here() -> tuple[Change, ...]:
        from flagprov.distribute import cellar

        return cellar.unneeded(scope.site, {*chain.from_iterable(needed.values())}, set(needed), keep)

    return change("prune", scope, resources, approve, on_event, notes, here)


def _mine(seen: Survey, release: str | None) -> list[Running]:
    return [running for running in seen.running if release in (None, running.release)]


def _weights(seen: Survey, replicas: Sequence[str]) -> list[Resource]:
    paths = {str(seen.records[name]["weights"]) for name in replicas if name in seen.records}
    kept = {str(record["weights"]) for name, record in seen.records.items() if name not in replicas}
    going = [container_name(instance) for name in replicas for instance in (name, name + SECOND)]
    spec = {"absent": True, "reason": "no replica here needs it", "going": going}
    return [Resource("weights", path, Stage.VERIFY, {"path": path, **spec}) for path in sorted(paths - kept)]


def _forget(scope: Scope, outcome: Outcome) -> None:
    gone = {host.host for host in outcome.hosts if host.state in ("changed", "unchanged")}
    scope.site.forget(scope.release, gone)


def change(
    verb: str,
    scope: Scope,
    resources: Resources,
    approve: Callable[[Plan], bool],
    on_event: OnEvent,
    notes: Iterable[str] = (),
    here: Callable[[], tuple[Change, ...]] = tuple,
    there: Collection[str] = (),
) -> Outcome | None:
    """Survey, look, ask, converge: one batch, all hosts side by side.

    `here` are directories to remove; `there` the releases on the hosts, once `resources` has asked them.
    """
    begun = time.monotonic()
    wanted: dict[str, tuple[Resource, ...]] = {}

    def look_at(session: Session) -> Look:
        wanted[session.host.name] = resources(session)
        return look(session, wanted[session.host.name])

    with Connections(scope.fleet) as connections, Gateways(scope.fleet) as gateways:
        looks = connections.each(scope.fleet.hosts, look_at, keep=KEPT)
        gone = [left_out(error) for error in looks.values() if isinstance(error, HostError)]
        check_named(scope, there, [left.host for left in gone])
        plans = {n: host_plan(n, seen, None, "") for n, seen in looks.items() if isinstance(seen, Look)}
        mine = here()
        if mine:
            plans[HERE] = HostPlan(HERE, mine, "")
        plan = build(verb, scope.release or "", Placement(()), plans, gone, tuple(notes))
        outcomes = failures(looks)
        run = ""
        leaving = set(_leaving(plans, scope.site.deployed()))
        if plan.changes:
            gateways.must_answer(leaving)
            if not approve(plan):
                return None
            mine = tuple(step for step in here() if step in mine)  # another run may have begun meanwhile
            changing = hosts_of(scope.fleet, [name for name, plan in plans.items() if plan.steps])
            with (
                RunRecord(scope.site, verb, plan, on_event) as record,
                Lease(connections, changing, f"{verb} {scope.release or ''}".strip()) as lease,
            ):
                gateways.on_event = record
                gateways.leave(leaving)
                outcomes |= _apply(changing, connections, plans, wanted, lease, record)
                if mine:
                    outcomes[HERE] = _removed(mine, record)
                if verb == "teardown":
                    gateways.forget(leaving, uninstall=scope.release is None)
                run = str(record.directory)
    names = (*(host.name for host in scope.fleet.hosts), *([HERE] if mine else []))
    hosts = tuple(outcomes.get(name, HostOutcome(name, "unchanged")) for name in names)
    seconds = round(time.monotonic() - begun, 3)
    return Outcome(verb, scope.release or "", hosts, notes=tuple(notes), seconds=seconds, run_directory=run)


def _removed(steps: Iterable[Change], on_event: OnEvent) -> HostOutcome:
    """Directories of this controller."""
    done = 0
    for step in steps:
        try:
            shutil.rmtree(step.name)
        except OSError as error:
            reason = error.strerror or str(error)
            return HostOutcome(HERE, "failed", done, step.name, reason, "remove it by hand")
        on_event(Event(time.time(), HERE, "done", step.stage, f"remove {step.name}"))
        done += 1
    return HostOutcome(HERE, "changed", done)


def _leaving(plans: Mapping[str, HostPlan], deployed: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Replicas that end, but for those that another host took over."""
    for name, plan in plans.items():
        for step in plan.steps:
            if step.replica and is_end(step):
                known = deployed.get(step.replica)
                if known is None or name in known["hosts"]:
                    yield step.replica


def is_end(step: Change) -> bool:
    """Whether a step ends a replica that may serve."""
    return step.action in ("stop", "remove") and step.kind in ("unit", "container")


def _apply(
    hosts: Sequence[Host],
    connections: Connections,
    plans: Mapping[str, HostPlan],
    wanted: Mapping[str, tuple[Resource, ...]],
    lease: Lease,
    on_event: OnEvent,
) -> dict[str, HostOutcome]:
    def apply(session: Session) -> HostOutcome:
        name = session.host.name
        answer = converge(session, wanted[name], plans[name].digest, lease, on_event)
        return HostOutcome(name, "changed", answer["changes"], seconds=answer["seconds"])

    results = connections.each(hosts, apply)
    return {
        name: result
        if isinstance(result, HostOutcome)
        else failed(result, isinstance(result, UnreachableError))
        for name, result in results.items()
    }
