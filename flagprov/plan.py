"""From looks to an ordered plan: batches -> replicas -> hosts -> steps; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flagprov.models.desired import Placement, Replica, Stage
from flagprov.models.observed import Change, Look
from flagprov.models.plan import Batch, HostPlan, LeftOut, Plan, ReplicaPlan

COSTS = ("nothing", "restart", "new container", "re-provision", "reboot")


def provision_step(reason: str, roles: Sequence[str], *, reboots: bool = False) -> Change:
    """`reboots`: where a role has to, and may."""
    cost = "reboot" if reboots else "re-provision"
    return Change("roles", ", ".join(roles), Stage.PROVISION.label, "provision", reason, cost=cost)


def host_plan(host: str, look: Look | None, provision: Change | None, pending: str) -> HostPlan:
    """Steps of one host; `provision` is its first, where it has to be provisioned."""
    steps = [provision] if provision else []
    steps += look.changes if look else ()
    steps.sort(key=lambda step: Stage[step.stage.upper()])
    if pending and look and any(problem.step == "image" for problem in look.problems):
        # A registry that answers once the roles have brought authorities and proxies.
        pending = f"the image is pulled once the host is provisioned; {pending}"
    return HostPlan(host, tuple(steps), look.digest if look else "", pending)


def build(
    verb: str,
    release: str,
    placement: Placement,
    hosts: Mapping[str, HostPlan],
    left_out: Sequence[LeftOut],
    notes: Sequence[str] = (),
    groups: Sequence[Sequence[Replica]] = (),
    orders: Mapping[str, tuple[str, str]] = {},
) -> Plan:
    """One batch unless there are groups; a replica with a host that was left out is left out whole.

    `orders`: replica -> whether its new one starts before its old one stops, and why.
    """
    shown: set[str] = set()
    batches: list[list[ReplicaPlan]] = []
    for group in groups or (placement.replicas,):
        batch = []
        for replica in group:
            if all(host in hosts for host in replica.hosts):
                parts = tuple(_part(hosts[host], replica.name, host not in shown) for host in replica.hosts)
                shown.update(replica.hosts)
                order = orders.get(replica.name, ("", ""))
                batch.append(ReplicaPlan(replica.name, parts, cost_of(parts), *order))
        batches.append(batch)
    batches[-1] += [
        ReplicaPlan("", (plan,), cost_of((plan,))) for host, plan in hosts.items() if host not in shown
    ]
    full = tuple(Batch(tuple(batch)) for batch in batches if batch)
    return Plan(verb, release, full, tuple(left_out), tuple(notes))


def _part(plan: HostPlan, replica: str, first: bool) -> HostPlan:
    """A host's shared steps are shown once, with its first replica."""
    steps = tuple(s for s in plan.steps if s.replica == replica or (s.replica is None and first))
    return HostPlan(plan.host, steps, plan.digest, plan.pending)


def cost_of(hosts: Sequence[HostPlan]) -> str:
    costs = [step.cost for host in hosts for step in host.steps]
    return max(costs, key=COSTS.index, default="nothing")
