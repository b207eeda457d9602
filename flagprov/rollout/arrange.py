"""Which batches a plan has: one, unless something that serves would be interrupted; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from flagprov.errors import FlagprovError, UsageError
from flagprov.models.desired import Placement, Replica
from flagprov.models.observed import Running, Survey
from flagprov.models.plan import HostPlan
from flagprov.rollout.options import Options
from flagprov.rollout.order import Budget, batches

INTERRUPTING = ("restart", "new container")


@dataclass(frozen=True, slots=True)
class Arrangement:
    groups: tuple[tuple[Replica, ...], ...] = ()  # empty: one batch of everything
    gated: bool = False
    notes: tuple[str, ...] = ()


def arrange(
    placement: Placement,
    plans: Mapping[str, HostPlan],
    surveys: Mapping[str, Survey],
    lost: Collection[str],
    options: Options,
    drained: Collection[str] = (),
) -> Arrangement:
    """`lost`: replicas that are unreachable or left out; they keep their place in the budget.

    `drained`: hosts where all that serves is stopped before they are provisioned.
    """
    stopping = {h for h in drained if h in plans and any(r.state == "running" for r in _running(h, surveys))}
    interrupted = [
        replica
        for replica in placement.replicas
        if stopping.intersection(replica.hosts) or _interrupts(replica, plans, surveys)
    ]
    if not interrupted or options.at_once:
        return Arrangement()
    moving = [replica for replica in placement.replicas if all(host in plans for host in replica.hosts)]
    total = len({replica.name for replica in placement.replicas} | set(lost))
    budget = Budget(total, max(1, options.max_unavailable.of(total)), lost=len(lost))
    if total == 1:
        return _alone(interrupted[0], options)
    if budget.spent:
        raise FlagprovError(
            f"{budget.lost} of {total} replicas are out of service, and at most {budget.unavailable} may be",
            remedy="bring those back first (flagprov status), or allow more: --max-unavailable",
        )
    return Arrangement(batches(moving, options.batches, budget, canary=options.canary), gated=True)


def _alone(replica: Replica, options: Options) -> Arrangement:
    if options.allow_downtime is False:
        raise UsageError(
            f"{replica.name} is the release's only replica; changing it interrupts its service",
            remedy="say so with --allow-downtime, or add a replica on another host first",
        )
    return Arrangement(((replica,),), True, (f"{replica.name} is the only replica: it is away meanwhile",))


def _interrupts(replica: Replica, plans: Mapping[str, HostPlan], surveys: Mapping[str, Survey]) -> bool:
    """Whether it runs now, and a step of the plan stops it."""
    for host in replica.hosts:
        running = any(r.replica == replica.name and r.state == "running" for r in _running(host, surveys))
        steps = plans[host].steps if host in plans else ()
        if running and any(step.replica == replica.name and step.cost in INTERRUPTING for step in steps):
            return True
    return False


def _running(host: str, surveys: Mapping[str, Survey]) -> tuple[Running, ...]:
    return surveys[host].running if host in surveys else ()
