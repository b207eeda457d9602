"""The whole way, and the public Python API.

inventory + release + settings -> placement -> desired -> observe -> plan -> apply -> verify -> report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from flagprov import saved
from flagprov.apply.bring import Bringing, Brought, failure
from flagprov.apply.converge import OnEvent, failed
from flagprov.apply.lease import Lease
from flagprov.apply.preflight import entries, new_groups, preflight
from flagprov.apply.record import RunRecord, finish
from flagprov.distribute import supply
from flagprov.drawing import Picture, draw
from flagprov.errors import HostError
from flagprov.gateway.gateways import Gateways
from flagprov.models.desired import Placement
from flagprov.models.event import Event
from flagprov.models.observed import Survey
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import Plan
from flagprov.preparation import Job, Request, hosts_of, prepare
from flagprov.rollout.beside import Beside
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options
from flagprov.rollout.reprovision import Provisioning
from flagprov.rollout.whole import halves, kept_out
from flagprov.transport import Connections, Session
from flagprov.upkeep import prune, stop, teardown
from flagprov.verify.status import completions, of_placement

__all__ = ["Request", "deploy", "plan", "prune", "stop", "teardown"]

Approve = Callable[[Plan], bool]
MakeRoom = Callable[[], HostError | None]
DEFAULT = Options(allow_downtime=True)


def _ignore(event: Event) -> None:
    """For callers who do not care what happens meanwhile."""


def plan(
    request: Request, on_event: OnEvent = _ignore, options: Options = DEFAULT, verb: str = "deploy"
) -> Plan:
    """What `deploy` would do; changes nothing."""
    job = prepare(request)
    with Connections(job.fleet) as connections, Gateways(job.fleet) as gateways:
        return draw(job, connections, gateways, verb, options).plan


def deploy(
    request: Request,
    *,
    approve: Approve,
    on_event: OnEvent = _ignore,
    options: Options = DEFAULT,
    verb: str = "deploy",
    resumed: saved.SavedPlan | None = None,
    make_room: MakeRoom = lambda: None,
) -> Outcome | None:
    """Bring every host of the fleet to serve the release; None where the plan was not approved.

    What serves already is changed batch after batch, gated, and put back when it fails.
    `resumed`: the run that was killed, whose request this is. `make_room`: called when all is staged, before
    the hosts of a batch change what runs; what went wrong there keeps them out.
    """
    begun = time.monotonic()
    job = prepare(request)
    options = replace(options, golden=job.release.golden)
    with Connections(job.fleet) as connections, Gateways(job.fleet) as gateways:
        picture = draw(job, connections, gateways, verb, options)
        if picture.plan.changes == 0:
            brought = {
                host: Brought(HostOutcome(host, "unchanged"), seen.notes)
                for host, seen in picture.looks.items()
            }
            outcome = replace(_finish(job, picture, brought, begun), gateways=gateways.status())
            if resumed:
                finish(resumed.path.parent, outcome)
            return outcome
        if not approve(picture.plan):
            return None
        changing = hosts_of(job.fleet, [host.host for host in picture.plan.hosts()])
        command = " ".join([verb, job.release.name, *(f"--set {text}" for text in job.sets)])
        with (
            RunRecord(job.site, verb, picture.plan, on_event, resumed.token if resumed else "") as record,
            Lease(connections, changing, command, record.token) as lease,
        ):
            saved.save(record.directory / saved.REQUEST, verb, request, options, picture.plan)
            picture, brought = _apply(job, picture, connections, gateways, lease, record, options, make_room)
            outcome = replace(
                _finish(job, picture, brought, begun),
                run_directory=str(record.directory),
                gateways=gateways.status(again=True),
            )
            record.finish(outcome)
        return outcome


def _apply(
    job: Job,
    picture: Picture,
    connections: Connections,
    gateways: Gateways,
    lease: Lease,
    record: RunRecord,
    options: Options,
    make_room: MakeRoom,
) -> tuple[Picture, dict[str, Brought]]:
    """Provision the hosts that need it, stage, then bring batch after batch."""
    digests = {host.host: "" if host.pending else host.digest for host in picture.plan.hosts()}
    needy = [host.host for host in picture.plan.hosts() for step in host.steps if step.action == "provision"]
    surveys = dict(picture.surveys)
    roles = Provisioning(job, connections, lease, record, surveys, picture.placement, needy, gateways)
    brought = roles.first()
    packages = None
    if job.bundle is not None:
        from flagprov.distribute.offline import bring as bring_packages

        packages = partial(bring_packages, job, connections, on_event=record)
    gateways.provision(picture.plan, record, packages)
    for name in set(brought) & set(picture.looks):
        if not brought[name].outcome.changes:  # refused: what serves there serves on
            brought[name].notes = picture.looks[name].notes
    picture = replace(picture, placement=roles.placement, surveys=surveys)
    digests.update(dict.fromkeys(needy, ""))
    fetched = supply.bring(
        job, connections, picture.looks, surveys, list(roles.outcomes), brought, record, lease.wire
    )
    brought.update({name: failure(error) for name, error in fetched.failures.items()})
    digests.update(dict.fromkeys(fetched.touched, ""))
    slots = picture.slots
    bringing = Bringing(job, slots.placed(picture.placement), lease, record, picture.plan)
    spread = {host for replica in picture.placement.replicas if replica.nodes for host in replica.hosts}
    going = [host.host for host in picture.plan.hosts() if host.host not in brought]
    able = [name for name in going if picture.gated or name in spread]
    if able:
        staged = _stage(job, connections, bringing, surveys, digests, able)
        # Roles may still bring what a pull needs.
        brought.update(
            {n: b for n, b in staged.items() if not (n in roles.waiting and b.outcome.step == "image")}
        )
        digests |= dict.fromkeys(able, "")
    groups = new_groups(picture.placement.replicas, surveys, set(going) - set(brought))
    grouped = [host for host in job.fleet.hosts if any(host.name in group.hosts for group in groups)]
    entered = entries(
        each for host in grouped for each in job.servings(host, picture.placement, surveys[host.name])
    )
    unmet = preflight(connections, job.fleet.hosts, groups, job.variants, job.release, entered)
    brought.update({name: failure(error) for name, error in unmet.items()})
    for name, why in halves(picture.placement.replicas, set(going) - set(brought)).items():
        brought[name] = failure(HostError(name, "placement", why, remedy="mend that host first"))

    def with_settings(name: str, kept: Mapping[str, Any]) -> dict[str, Any]:
        settings = [f"serve.{key}" for key in sorted(job.settings_keys[name])]
        brings = {text.partition("=")[0] for text in job.sets}
        return {**kept, "settings": [key for key in settings if key not in brings]}

    def bring(session: Session, kept: Mapping[str, Any]) -> Brought:
        name = session.host.name
        found = bringing.bring(session, surveys[name], digests[name], with_settings(name, kept))
        found = found.after(fetched.outcomes[name]) if name in fetched.outcomes else found
        return found.after(roles.outcomes[name]) if name in roles.outcomes else found

    def prepare(names: Sequence[str]) -> Mapping[str, HostError]:
        errors = roles.in_batch(names)
        bringing.placement = slots.placed(roles.placement)
        if len(errors) < len(names) and (error := make_room()):
            return kept_out(names, error)
        return errors

    def start(session: Session, kept: Mapping[str, Any]) -> Brought:
        name = session.host.name
        return bringing.start(session, surveys[name], with_settings(name, kept), slots.on(name))

    def switch(session: Session) -> Brought:
        name = session.host.name
        found = bringing.switch(session, surveys[name])
        return found.after(fetched.outcomes[name]) if name in fetched.outcomes else found

    hosts = {host.name: host for host in job.fleet.hosts}
    rolling = Rolling(
        *(connections, hosts, surveys, options, lease, record, bring, prepare),
        gateways=gateways,
        hooks=job.hooks,
        budget=picture.budget,
        beside=Beside(slots, start, switch) if slots.taken else None,
    )
    brought = rolling.roll(picture.plan, brought, picture.gated)
    moved = {name for name, found in brought.items() if found.outcome.state == "changed"}
    placement = slots.placed(roles.placement, moved)
    gateways.settle(job, placement, brought)
    return replace(picture, placement=placement), brought


def _stage(
    job: Job,
    connections: Connections,
    bringing: Bringing,
    surveys: Mapping[str, Survey],
    digests: Mapping[str, str],
    names: Sequence[str],
) -> dict[str, Brought]:
    """Everything beside what runs, on all hosts, before the first of them is interrupted."""

    def stage(session: Session) -> None:
        bringing.stage(session, surveys[session.host.name], digests[session.host.name])

    staged = connections.each(hosts_of(job.fleet, list(dict.fromkeys(names))), stage)
    return {name: failure(error) for name, error in staged.items() if isinstance(error, HostError)}


def _finish(job: Job, picture: Picture, brought: Mapping[str, Brought], begun: float) -> Outcome:
    """One outcome per host of the fleet, the state of every replica, and the proofs."""
    hosts = {name: result.outcome for name, result in brought.items()}
    for left in picture.plan.left_out:
        error = HostError(left.host, left.problem.step, left.problem.message, remedy=left.problem.remedy)
        hosts.setdefault(left.host, failed(error, left.unreachable))
    ordered = tuple(hosts[host.name] for host in job.fleet.hosts if host.name in hosts)
    calm = {name for name, outcome in hosts.items() if outcome.state == "unchanged"}
    looked = {name: seen.notes for name, seen in picture.looks.items() if name in calm}
    notes = {name: result.notes or looked.get(name, {}) for name, result in brought.items()}
    proofs = [p for host in job.fleet.hosts for p in completions(host, notes.get(host.name, {}))]
    _remember(job, picture.placement, hosts)
    return Outcome(
        verb=picture.plan.verb,
        release=job.release.name,
        hosts=ordered,
        replicas=of_placement(job.fleet, picture.placement, notes),
        completions=tuple(proofs),
        notes=picture.plan.notes,
        seconds=round(time.monotonic() - begun, 3),
    )


def _remember(job: Job, placement: Placement, hosts: Mapping[str, HostOutcome]) -> None:
    job.site.remember(
        replica
        for replica in placement.replicas
        if all(hosts[host].state in ("changed", "unchanged") for host in replica.hosts if host in hosts)
    )
