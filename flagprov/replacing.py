"""`flagprov replace`: a spare takes the place of a host that is dead or to be retired."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from flagprov import maintenance, pipeline
from flagprov.apply.converge import OnEvent
from flagprov.desired import absent
from flagprov.errors import FlagprovError, HostError, InventoryError, UsageError
from flagprov.handover import handed
from flagprov.models.desired import Resource
from flagprov.models.observed import Survey
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import Plan
from flagprov.models.request import Handover, Request
from flagprov.observe import survey
from flagprov.scope import Scope, scope_of
from flagprov.transport import Connections, Session
from flagprov.upkeep import change


def replace(
    request: Request, old: str, new: str, *, approve: Callable[[Plan], bool], on_event: OnEvent
) -> Outcome | None:
    """Deploy on the new host, and on its partners where the replica spans hosts, what the old one had.

    The old host gives it up and is cordoned, if it answers: once the new one serves, or, where both would
    be the same rank of one replica, when all is staged and before a rank starts.
    """
    scope = scope_of(request)
    _check_named(scope, old, new)
    surveys = _surveys(scope, new)
    handover = handed(old, new, scope.release, surveys, scope.site.deployed())
    hosts = dict.fromkeys(host for running in handover.replicas for host in running.hosts)
    wanted = dataclasses.replace(
        request,
        release=request.release or handover.release,
        limit=",".join(hosts),
        sets=request.sets or _sets(handover, surveys),
        handover=handover,
    )
    spans = len(hosts) > 1
    retired: list[HostOutcome] = []

    def retire() -> None:
        retired.append(_retire(request, handover, on_event))

    def make_room() -> HostError | None:
        """Two hosts of the same rank would meet in one replica."""
        try:
            if spans and not retired:
                retire()
        except FlagprovError as error:
            step = error.step if isinstance(error, HostError) else "replace"
            return HostError(old, step, error.message, remedy=error.remedy)
        failed = [each for each in retired if each.state == "failed"]
        return _error(failed[0]) if failed else None

    # No batches: nothing else moves, and there is no way back to a host that is gone.
    how = dataclasses.replace(pipeline.DEFAULT, at_once=True)
    outcome = pipeline.deploy(
        wanted, approve=approve, on_event=on_event, options=how, verb="replace", make_room=make_room
    )
    if outcome is None:
        return None
    if outcome.succeeded and not retired:
        retire()
    told = tuple(_told(each, new) for each in retired)
    return dataclasses.replace(outcome, notes=(*outcome.notes, *told))


def _retire(request: Request, handover: Handover, on_event: OnEvent) -> HostOutcome:
    """The old host gives up what was handed over, and is cordoned; nothing, where it does not answer."""
    names = {running.replica for running in handover.replicas}
    mark = maintenance.mark_of(f"replaced by {handover.new}")

    def resources(session: Session) -> tuple[Resource, ...]:
        mine = [running for running in survey(session).running if running.replica in names]
        return (mark, *(resource for running in mine for resource in absent(running)))

    scope = scope_of(dataclasses.replace(request, release=None, limit=handover.old))
    outcome = change("replace", scope, resources, lambda plan: True, on_event)
    assert outcome is not None
    return outcome.hosts[0]


def _error(old: HostOutcome) -> HostError:
    return HostError(old.host, old.step, old.message, remedy=old.remedy, log=old.log)


def _check_named(scope: Scope, old: str, new: str) -> None:
    chips = {host.name: host.chip for host in scope.fleet.hosts}
    for name in (old, new):
        if name not in chips:
            raise InventoryError(
                f"{scope.fleet.inventory}: no host {name}", remedy="replace names two hosts of the inventory"
            )
    if old == new:
        raise UsageError(
            f"{old} cannot replace itself", remedy="set up anew under its name? flagprov trust --replace"
        )
    if chips[old] != chips[new]:
        raise UsageError(
            f"{old} has {chips[old]}, and {new} has {chips[new]}", remedy="name a spare of the same chip"
        )


def _surveys(scope: Scope, new: str) -> Mapping[str, Survey]:
    """Of all that answer; the new host has to."""
    with Connections(scope.fleet) as connections:
        answers = connections.once(scope.fleet.hosts, survey)
    spare = answers[new]
    if isinstance(spare, HostError) and spare.step != "python":
        raise spare
    found = {name: seen for name, seen in answers.items() if isinstance(seen, Survey)}
    mark = maintenance.cordoned(found[new]) if new in found else None
    if mark:
        raise HostError(new, mark.step, mark.message, remedy=mark.remedy)
    return found


def _sets(handover: Handover, surveys: Mapping[str, Survey]) -> tuple[str, ...]:
    """--set of the last run, which the hosts remember: the place changes, and nothing else."""
    for name in [handover.old, *sorted(surveys)]:
        for record in surveys[name].records.values() if name in surveys else ():
            if (record.get("replica") or {}).get("release") == handover.release:
                return tuple(map(str, record.get("set") or ()))
    return ()


def _told(old: HostOutcome, new: str) -> str:
    if old.state in ("changed", "unchanged"):
        return f"{old.host} is cordoned; {new} has what it had"
    return (
        f"{old.host} does not answer ({old.message}): take it out of the inventory; should it come back, "
        f"flagprov teardown INVENTORY --limit {old.host} ends what it still has"
    )
