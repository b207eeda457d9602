"""The whole way, and the public Python API.

inventory + release + settings -> placement -> desired -> observe -> plan -> apply -> verify -> report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from flagprov import saved
from flagprov.apply.bring import Bringing, Brought, failure
from flagprov.apply.converge import OnEvent, failed
from flagprov.apply.lease import Lease
from flagprov.apply.preflight import entries, new_groups, preflight
from flagprov.apply.record import RunRecord, finish
from flagprov.distribute import supply
from flagprov.doctor.gather import Examination, is_new
from flagprov.errors import HostError
from flagprov.gateway.gateways import Gateways
from flagprov.least import notes as profile
from flagprov.maintenance import cordoned
from flagprov.models.desired import Placement
from flagprov.models.event import Event
from flagprov.models.observed import Change, Look, Problem, Survey
from flagprov.models.outcome import HostOutcome, Outcome
from flagprov.models.plan import HostPlan, LeftOut, Plan
from flagprov.observe import first_look, look, survey_for
from flagprov.placement import place
from flagprov.plan import build, host_plan
from flagprov.preparation import Job, Request, hosts_of, prepare
from flagprov.rollout.arrange import arrange, awaited, unproved
from flagprov.rollout.move import Rolling
from flagprov.rollout.options import Options
from flagprov.rollout.order import Budget
from flagprov.rollout.reprovision import Provisioning, drained, step
from flagprov.rollout.reprovision import notes as reprovision_notes
from flagprov.rollout.whole import halves, kept_out
from flagprov.runner.operators import exclusions_unheeded
from flagprov.scope import left_out
from flagprov.serving import launch_inputs, undecided
from flagprov.transport import KEPT, Connections, Session
from flagprov.upkeep import prune, stop, teardown
from flagprov.verify.status import completions, of_placement

__all__ = ["Request", "deploy", "plan", "prune", "stop", "teardown"]

Approve = Callable[[Plan], bool]
MakeRoom = Callable[[], HostError | None]
DEFAULT = Options(allow_downtime=True)


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything known before anything changes."""

    plan: Plan
    placement: Placement
    surveys: Mapping[str, Survey]
    looks: Mapping[str, Look] = field(default_factory=dict)
    gated: bool = False  # something that serves is interrupted: batch after batch
    budget: Budget | None = None


def _ignore(event: Event) -> None:
    """For callers who do not care what happens meanwhile."""


def plan(
    request: Request, on_event: OnEvent = _ignore, options: Options = DEFAULT, verb: str = "deploy"
) -> Plan:
    """What `deploy` would do; changes nothing."""
    job = prepare(request)
    with Connections(job.fleet) as connections, Gateways(job.fleet) as gateways:
        return _draw(job, connections, gateways, verb, options).plan


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
        picture = _draw(job, connections, gateways, verb, options)
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


def _draw(job: Job, connections: Connections, gateways: Gateways, verb: str, options: Options) -> Picture:
    """Survey all hosts, place, and look at what would change; one connection and one exec per host."""
    from flagprov.apply.provision import fingerprint

    gone: list[LeftOut] = []
    surveys: dict[str, Survey] = {}
    provision: dict[str, Change] = {}
    answers = connections.each(
        job.fleet.hosts,
        lambda s: survey_for(s, job.release.name, job.sets, rdma=job.by_rdma(s.host)),
        keep=KEPT,
    )
    for name, found in answers.items():
        host = hosts_of(job.fleet, [name])[0]
        if isinstance(found, Survey) and (out := cordoned(found)):
            gone.append(LeftOut(name, out))
        elif isinstance(found, Survey):
            surveys[name] = found
            if found.docker_version is None:
                provision[name] = step(job, host, "no container engine answers")
            elif found.provisioned != fingerprint(host):
                reason = "roles have changed" if found.provisioned else "never provisioned"
                provision[name] = step(job, host, reason)
        elif found.step == "python":
            provision[name] = step(job, host, "it has no python3 yet")
        else:
            gone.append(left_out(found))
    placement = place(job.fleet, job.release.name, job.wishes(surveys), job.reserved(surveys))
    for refusal in placement.refusals:
        if not (refusal.no_device and refusal.host in provision):
            gone.append(LeftOut(refusal.host, Problem("placement", refusal.message, refusal.remedy)))
    examination = Examination(job, placement)
    plans, looks = _look_at(job, connections, examination, surveys, provision, gone)
    if job.bundle is not None:
        from flagprov.distribute.offline import lacks, refuse

        refuse([*gone, *lacks(job, connections, surveys, provision)])
    excluded = {left.host for left in gone}
    for name, change in provision.items():
        if name not in plans and name not in excluded:
            plans[name] = host_plan(name, None, change, "the rest follows once the host is provisioned")
    for add in (awaited, unproved):
        plans = {name: add(plan, placement, surveys.get(name)) for name, plan in plans.items()}
    for name, why in halves(placement.replicas, plans).items():
        del plans[name]
        excluded.add(name)
        gone.append(LeftOut(name, Problem("placement", why, "mend that host first")))
    stopping = drained(job, provision, surveys)
    arranged = arrange(placement, plans, surveys, options, lambda: job.census(excluded), stopping)
    provisioned = reprovision_notes(job, set(provision) & set(plans), surveys)
    told = (*_taken_back(job, placement, surveys), *profile(job.unprivileged), *arranged.notes)
    told = (*told, *_unheeded(job, placement, surveys), *_undecided(job, placement, surveys))
    notes = (*told, *provisioned, *examination.notes())
    drawn = build(verb, job.release.name, placement, plans, gone, notes, arranged.groups)
    drawn = gateways.planned(drawn, job, placement, arranged.interrupts)
    return Picture(drawn, placement, surveys, looks, arranged.gated, arranged.budget)


def _look_at(
    job: Job,
    connections: Connections,
    examination: Examination,
    surveys: Mapping[str, Survey],
    provision: Mapping[str, Change],
    gone: list[LeftOut],
) -> tuple[dict[str, HostPlan], dict[str, Look]]:
    """Looks of the hosts that can be looked at; problems go to `gone`.

    Hosts where something new is to run are examined too: that takes seconds where there are accelerators.
    """
    placement = examination.placement
    bringing = Bringing(job, placement, None, _ignore)
    pending: dict[str, str] = {}

    def look_at(session: Session) -> Look:
        survey = surveys[session.host.name]
        host = bringing.desired(session.host, survey)
        seen = first_look(session, survey, host.resources)
        if host.pending and bringing.learn(session.host, host, seen.notes):
            host = bringing.desired(session.host, survey)
            seen = look(session, host.resources)
        pending[host.host] = host.pending
        if is_new(seen):
            examination.ask(session, survey)
        return seen

    refused = {refusal.host for refusal in placement.refusals}
    hosts = [
        h
        for h in job.fleet.hosts
        if h.name in surveys and surveys[h.name].docker_version and h.name not in refused
    ]
    plans: dict[str, HostPlan] = {}
    looks: dict[str, Look] = {}
    bare = [h for h in job.fleet.hosts if h.name in surveys and h.name in provision and h not in hosts]
    gone.extend(left_out(error) for error in examination.ask_all(connections, bare, surveys).values())
    answers = connections.each([host for host in hosts if placement.on(host.name)], look_at, keep=KEPT)
    for host in bare:
        gone.extend(LeftOut(host.name, problem) for problem in examination.problems(host.name, True))
    seen = {name: found for name, found in answers.items() if isinstance(found, Look)}
    supplied = supply.answerable(job, connections, seen, surveys, examination.pulls())
    for name, found in answers.items():
        if isinstance(found, HostError):
            gone.append(left_out(found))
            continue
        found = supplied[name]
        problems = _standing(found, name in provision) or examination.problems(name, name in provision)
        if problems:
            gone.extend(LeftOut(name, problem) for problem in problems)
        else:
            looks[name] = found
            plans[name] = host_plan(name, found, provision.get(name), pending[name])
    return plans, looks


def _standing(seen: Look, provision: bool) -> list[Problem]:
    """Provisioning brings CAs and proxies: what the registry said before it proves nothing."""
    return [problem for problem in seen.problems if not (provision and problem.step == "image")]


def _taken_back(job: Job, placement: Placement, surveys: Mapping[str, Survey]) -> list[str]:
    """A run's --set that this run does not repeat is taken back; the plan says so."""
    notes = set()
    for replica in placement.replicas:
        for host in replica.hosts:
            record = surveys[host].records.get(replica.name) or {}
            for text in record.get("set", ()):
                if text not in job.sets:
                    notes.add(f"--set {text} of an earlier run is taken back (repeat it to keep it)")
    return sorted(notes)


def _unheeded(job: Job, placement: Placement, surveys: Mapping[str, Survey]) -> list[str]:
    """Of each chip and image once."""
    hosts = {
        (host.chip, job.variants[host.name].image.reference): host for host in hosts_of(job.fleet, [*surveys])
    }
    servings = [each for host in hosts.values() for each in job.servings(host, placement, surveys[host.name])]
    return sorted({note for each in servings if (note := exclusions_unheeded(launch_inputs(each)))})


def _undecided(job: Job, placement: Placement, surveys: Mapping[str, Survey]) -> list[str]:
    hosts = {host for replica in placement.replicas if replica.nodes for host in replica.hosts}
    found = [host for host in job.fleet.hosts if host.name in hosts and host.name in surveys]
    return list(undecided(e for host in found for e in job.servings(host, placement, surveys[host.name])))


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
    bringing = Bringing(job, picture.placement, lease, record, picture.plan)
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

    def bring(session: Session, kept: Mapping[str, Any]) -> Brought:
        name = session.host.name
        settings = [f"serve.{key}" for key in sorted(job.settings_keys[name])]
        brings = {text.partition("=")[0] for text in job.sets}
        kept = {**kept, "settings": [key for key in settings if key not in brings]}
        found = bringing.bring(session, surveys[name], digests[name], kept)
        found = found.after(fetched.outcomes[name]) if name in fetched.outcomes else found
        return found.after(roles.outcomes[name]) if name in roles.outcomes else found

    def prepare(names: Sequence[str]) -> Mapping[str, HostError]:
        errors = roles.in_batch(names)
        bringing.placement = roles.placement
        if len(errors) < len(names) and (error := make_room()):
            return kept_out(names, error)
        return errors

    hosts = {host.name: host for host in job.fleet.hosts}
    rolling = Rolling(
        *(connections, hosts, surveys, options, lease, record, bring, prepare),
        gateways=gateways,
        hooks=job.hooks,
        budget=picture.budget,
    )
    brought = rolling.roll(picture.plan, brought, picture.gated)
    gateways.settle(job, roles.placement, brought)
    return replace(picture, placement=roles.placement), brought


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
