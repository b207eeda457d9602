"""Which batches a plan has: one, unless something that serves would be interrupted; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from flagprov.errors import FlagprovError, UsageError
from flagprov.host.slots import across
from flagprov.models.desired import Placement, Replica, Stage, container_name
from flagprov.models.observed import Change, Running, Survey, substitutes
from flagprov.models.plan import HostPlan
from flagprov.report.text import names as in_words
from flagprov.rollout.census import Census
from flagprov.rollout.options import Options
from flagprov.rollout.order import Budget, batches, units

INTERRUPTING = ("restart", "new container")


@dataclass(frozen=True, slots=True)
class Arrangement:
    groups: tuple[tuple[Replica, ...], ...] = ()  # empty: one batch of everything
    gated: bool = False
    interrupts: bool = False  # something that serves
    notes: tuple[str, ...] = ()
    budget: Budget | None = None  # as it is before the first batch


def arrange(
    placement: Placement,
    plans: Mapping[str, HostPlan],
    surveys: Mapping[str, Survey],
    options: Options,
    census: Callable[[], Census] = Census,
    drained: Collection[str] = (),
    surging: Collection[str] = (),
) -> Arrangement:
    """`census`: what a budget is over; asked for where there is need for one.

    `drained`: hosts where all that serves is stopped before they are provisioned. `surging`: replicas whose
    new ones start before their old ones stop.
    """
    stopping = {h for h in drained if h in plans and any(r.state == "running" for r in _running(h, surveys))}
    interrupted = [
        replica
        for replica in placement.replicas
        if stopping.intersection(replica.hosts) or interrupts(replica, plans, surveys)
        if replica.name not in surging
    ]
    to_be_gated = [
        r
        for r in placement.replicas
        if r.name in surging
        or any(_unproved(h, surveys).get(r.name) for h in r.hosts)
        or any(each.replica == r.name for h in r.hosts for each in _substitutes(h, surveys))
    ]
    if not (interrupted or to_be_gated) or options.at_once:
        return Arrangement(interrupts=bool(interrupted))
    together = units(
        [replica for replica in placement.replicas if all(host in plans for host in replica.hosts)]
    )
    serving = [unit for unit in together if any(r in interrupted or _serves(r, surveys) for r in unit)]
    idle = [replica for unit in together if unit not in serving for replica in unit]
    counted = census()
    names = {replica.name for replica in placement.replicas} | counted.lost | counted.known
    if interrupted and len(serving) == 1 and len(serving[0]) == len(names):
        return _alone(serving[0], options)
    down = {r.name for unit in serving for r in unit if _deployed(r, surveys) and not _serves(r, surveys)}
    budget = _budget(names, down | counted.lost, serving, options)
    # What serves nobody now interrupts nobody: it goes first, and serves when the others are away.
    first = batches(idle, options.batches, Budget(len(names), len(idle)), canary=options.canary)
    moving = [replica for unit in serving for replica in unit]
    return Arrangement(
        first + batches(moving, options.batches, budget, canary=options.canary),
        gated=True,
        interrupts=True,
        notes=tuple(f"{in_words(_names(unit))} share hosts and move as one" for unit in serving if unit[1:]),
        budget=budget,
    )


def _budget(
    names: Collection[str], lost: Collection[str], serving: Sequence[Sequence[Replica]], options: Options
) -> Budget:
    """Raises where it is too small for what has to move as one."""
    largest = max(map(len, serving), default=1)
    total = len(names)
    unavailable = options.unavailable(total)
    if options.max_unavailable is None or options.max_unavailable.percent is not None:
        unavailable = max(unavailable, largest)  # a share that rounds down to none would never end
    budget = Budget(total, unavailable, lost=len(lost))
    if budget.spent:
        raise FlagprovError(
            f"{budget.lost} of {total} replicas are out of service, and at most {unavailable} may be",
            remedy="bring those back first (flagprov status), or allow more: rollout --max-unavailable",
        )
    if budget.left < largest:
        unit = next(unit for unit in serving if len(unit) == largest)
        raise FlagprovError(
            f"{in_words(_names(unit))} share hosts and move as one; {budget.left} more may be out of service",
            remedy=f"allow more: rollout --max-unavailable {largest + budget.lost}",
        )
    return budget


def _alone(unit: Sequence[Replica], options: Options) -> Arrangement:
    named = in_words(_names(unit))
    if options.allow_downtime is False:
        what = "is the release's only replica" if len(unit) == 1 else "share hosts, and are all there is"
        raise UsageError(
            f"{named} {what}; changing {'it' if len(unit) == 1 else 'them'} interrupts the service",
            remedy="say so with --allow-downtime, or add a replica on another host first",
        )
    what = "is the only replica: it is away meanwhile"
    if len(unit) > 1:
        what = "share hosts and are all there is: they are away meanwhile"
    return Arrangement((tuple(unit),), True, True, (f"{named} {what}",))


def _names(unit: Sequence[Replica]) -> list[str]:
    return [replica.name for replica in unit]


def _deployed(replica: Replica, surveys: Mapping[str, Survey]) -> bool:
    return any(r.replica == replica.name for host in replica.hosts for r in _running(host, surveys))


def _serves(replica: Replica, surveys: Mapping[str, Survey]) -> bool:
    """Whether it runs on all of its hosts."""
    return all(
        any(r.replica == replica.name and r.state == "running" for r in _running(host, surveys))
        for host in replica.hosts
    )


def interrupts(replica: Replica, plans: Mapping[str, HostPlan], surveys: Mapping[str, Survey]) -> bool:
    """Whether it runs now, and a step of the plan stops it."""
    for host in replica.hosts:
        running = any(r.replica == replica.name and r.state == "running" for r in _running(host, surveys))
        steps = plans[host].steps if host in plans else ()
        if running and any(step.replica == replica.name and step.cost in INTERRUPTING for step in steps):
            return True
    return False


def awaited(plan: HostPlan, placement: Placement, survey: Survey | None) -> HostPlan:
    """With a new container for each replica that runs, where an image has to be looked into first.

    The look shows no more than a pull then, which costs nothing.
    """
    running = {r.replica for r in survey.running if r.state == "running"} if survey and plan.pending else ()
    steps = tuple(
        Change(
            "container",
            container_name(replica.instance),
            Stage.SERVE.label,
            "replace",
            "its image is not known yet",
            replica.name,
            "new container",
        )
        for replica in placement.on(plan.host)
        if replica.name in running
    )
    return replace(plan, steps=plan.steps + steps)


def unproved(plan: HostPlan, placement: Placement, survey: Survey | None) -> HostPlan:
    """With a step for each replica that a run left unproved, though all is in place."""
    left = (survey.facts.get("unproved") or {}) if survey else {}
    why = "the run that brought it was cut off, or could not put the one before back: nobody has proved it"
    steps = tuple(
        Change("deployment", replica.name, Stage.VERIFY.label, "prove", why, replica.name)
        for replica in placement.on(plan.host)
        if replica.name in left
    )
    return replace(plan, steps=plan.steps + steps)


def _unproved(host: str, surveys: Mapping[str, Survey]) -> Mapping[str, bool]:
    """Replica -> whether a gate was to come."""
    return (surveys[host].facts.get("unproved") or {}) if host in surveys else {}


def in_their_places(surveys: Mapping[str, Survey], release: str | None) -> tuple[str, ...]:
    """For the plan: what serves though nobody proved it, since its replica's own engine is down."""
    return tuple(
        f"{container_name(each.instance)} on {host} serves in the place of "
        f"{container_name(across(each.instance))}, which is down: a run that was cut off left it, "
        "and no gate has proved it"
        for host in surveys
        for each in _substitutes(host, surveys)
        if release in (None, each.release)
    )


def _substitutes(host: str, surveys: Mapping[str, Survey]) -> list[Running]:
    return substitutes(surveys[host].running, surveys[host].records) if host in surveys else []


def _running(host: str, surveys: Mapping[str, Survey]) -> tuple[Running, ...]:
    return surveys[host].running if host in surveys else ()
