"""What a run would do: hosts surveyed, replicas placed, looks taken, batches arranged; nothing changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flagprov.apply.bring import Bringing
from flagprov.distribute import supply
from flagprov.doctor.gather import Examination, is_new
from flagprov.errors import HostError
from flagprov.gateway.gateways import Gateways
from flagprov.handover import other_ports
from flagprov.least import notes as profile
from flagprov.maintenance import cordoned
from flagprov.models.desired import Placement, Replica
from flagprov.models.observed import Change, Look, Problem, Survey
from flagprov.models.plan import HostPlan, LeftOut, Plan
from flagprov.observe import first_look, look, survey_for
from flagprov.placement import place
from flagprov.plan import build, host_plan
from flagprov.preparation import Job, hosts_of
from flagprov.processors import need_mib
from flagprov.report.text import names
from flagprov.rollout import others
from flagprov.rollout.arrange import Arrangement, arrange, awaited, in_their_places, interrupts, unproved
from flagprov.rollout.options import Options
from flagprov.rollout.order import Budget
from flagprov.rollout.reprovision import drained, step
from flagprov.rollout.reprovision import notes as reprovision_notes
from flagprov.rollout.slots import NO_SLOTS, Slots, find_slots
from flagprov.rollout.whole import halves
from flagprov.runner.operators import exclusions_unheeded
from flagprov.scope import left_out
from flagprov.serving import launch_inputs, merged_environment, undecided
from flagprov.transport import KEPT, Connections, Session


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything known before anything changes."""

    plan: Plan
    placement: Placement
    surveys: Mapping[str, Survey]
    looks: Mapping[str, Look] = field(default_factory=dict)
    gated: bool = False  # something that serves is interrupted: batch after batch
    budget: Budget | None = None
    slots: Slots = NO_SLOTS  # replicas whose new ones start before their old ones stop; not in `placement`


def draw(job: Job, connections: Connections, gateways: Gateways, verb: str, options: Options) -> Picture:
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
    examination = Examination(job, placement, surveys)
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
    slots = NO_SLOTS
    if options.surge and not options.at_once:
        slots = _room(job, placement, plans, surveys, provision)
        slots, beside = _look_beside(job, connections, placement, slots, surveys, examination.pulls())
        plans |= beside
    surging = slots.taken.keys()

    def arranged_by(how: Options) -> Arrangement:
        return arrange(placement, plans, surveys, how, lambda: job.census(excluded), stopping, surging)

    arranged, taken = others.spared(
        arranged_by, options, placement.replicas, stopping, surveys, job.release.name
    )
    provisioned = reprovision_notes(job, set(provision) & set(plans), surveys)
    told = (*_taken_back(job, placement, surveys), *profile(job.unprivileged), *arranged.notes)
    told = (*told, *in_their_places(surveys, job.release.name))
    told = (*told, *(other_ports(job.handover, placement) if job.handover else ()))
    told = (*told, *_unheeded(job, placement, surveys), *_undecided(job, placement, surveys))
    notes = (*told, *provisioned, *others.notes(taken), *examination.notes(), *_other_ports(job, slots))
    drawn = build(verb, job.release.name, placement, plans, gone, notes, arranged.groups, slots.orders())
    drawn = gateways.planned(drawn, job, slots.placed(placement), arranged.interrupts)
    return Picture(drawn, placement, surveys, looks, arranged.gated, arranged.budget, slots)


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
    bringing = Bringing(job, placement, None, lambda event: None)
    pending: dict[str, str] = {}

    def look_at(session: Session) -> Look:
        survey = surveys[session.host.name]
        host = bringing.desired(session.host, survey)
        seen = first_look(session, survey, host.resources)
        if host.pending and bringing.learn(session.host, survey, host, seen.notes):
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


def _room(
    job: Job,
    placement: Placement,
    plans: Mapping[str, HostPlan],
    surveys: Mapping[str, Survey],
    provision: Mapping[str, Change],
) -> Slots:
    """Where new engines can start beside those that the plan would interrupt."""

    def need(replica: Replica) -> int | None:
        host = hosts_of(job.fleet, replica.hosts)[0]
        servings = job.servings(host, Placement((replica,)), surveys[host.name])
        return need_mib(
            servings[0].variant, job.release.model, merged_environment(servings[0]), _weights(job)
        )

    changing = [replica for replica in placement.replicas if interrupts(replica, plans, surveys)]
    wishes = {wish.host.name: wish for wish in job.wishes(surveys)}
    steps = {str(step.replica) for plan in plans.values() for step in plan.steps}
    return find_slots(changing, placement, wishes, provision, need, steps)


def _weights(job: Job) -> int:
    return sum(size for _, size, _ in job.files)


def _look_beside(
    job: Job,
    connections: Connections,
    placement: Placement,
    slots: Slots,
    surveys: Mapping[str, Survey],
    pulls: Mapping[str, int],
) -> tuple[Slots, dict[str, HostPlan]]:
    """Plans of the hosts with new engines in free slots; what is in the way there, only a look tells."""
    placed = slots.placed(placement)
    bringing = Bringing(job, placed, None, lambda event: None)
    pending: dict[str, str] = {}

    def look_at(session: Session) -> Look:
        host = bringing.desired(session.host, surveys[session.host.name])
        pending[host.host] = host.pending
        return look(session, host.resources)

    answers = connections.each(hosts_of(job.fleet, list(slots.hosts)), look_at, keep=KEPT)
    seen = {name: found for name, found in answers.items() if isinstance(found, Look)}
    supplied = supply.answerable(job, connections, seen, surveys, pulls)
    plans: dict[str, HostPlan] = {}
    for name, found in answers.items():
        problems = supplied[name].problems if name in supplied else ()
        if isinstance(found, HostError):
            slots = slots.without(name, found.message)
        elif problems:
            slots = slots.without(name, problems[0].message)
        else:
            plan = host_plan(name, supplied[name], None, pending[name])
            for add in (awaited, unproved):
                plan = add(plan, placed, surveys[name])
            plans[name] = plan
    return slots, plans


def _other_ports(job: Job, slots: Slots) -> list[str]:
    if not slots.taken or job.fleet.gateways:
        return []
    ports = names(f"{replica.name} {replica.port}" for replica in slots.taken.values())
    return [f"no gateway is in front: whoever asks these replicas has to follow them to new ports: {ports}"]


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
