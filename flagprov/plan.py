"""From looks to an ordered plan: batches -> replicas -> hosts -> steps; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flagprov.models.desired import Placement, Stage
from flagprov.models.observed import Change, Look
from flagprov.models.plan import Batch, HostPlan, LeftOut, Plan, ReplicaPlan

ROLES = "host_baseline, container_engine"
COSTS = ("nothing", "restart", "new container", "re-provision", "reboot")


def provision_step(reason: str) -> Change:
    return Change("roles", ROLES, Stage.PROVISION.label, "provision", reason, cost="re-provision")


def host_plan(host: str, look: Look | None, provision: str, pending: str) -> HostPlan:
    """Steps of one host; `provision` says why it has to be provisioned, where it has to."""
    steps = [provision_step(provision)] if provision else []
    steps += look.changes if look else ()
    steps.sort(key=lambda step: Stage[step.stage.upper()])
    return HostPlan(host, tuple(steps), look.digest if look else "", pending)


def build(
    verb: str,
    release: str,
    placement: Placement,
    hosts: Mapping[str, HostPlan],
    left_out: Sequence[LeftOut],
    notes: Sequence[str] = (),
) -> Plan:
    """A plain deploy is one batch; a replica with a host that was left out is left out whole."""
    replicas = []
    shown: set[str] = set()
    for replica in placement.replicas:
        if all(host in hosts for host in replica.hosts):
            parts = tuple(_part(hosts[host], replica.name, host not in shown) for host in replica.hosts)
            shown.update(replica.hosts)
            replicas.append(ReplicaPlan(replica.name, parts, cost_of(parts)))
    for host, plan in hosts.items():
        if host not in shown:
            replicas.append(ReplicaPlan("", (plan,), cost_of((plan,))))
    return Plan(verb, release, (Batch(tuple(replicas)),) if replicas else (), tuple(left_out), tuple(notes))


def _part(plan: HostPlan, replica: str, first: bool) -> HostPlan:
    """A host's shared steps are shown once, with its first replica."""
    steps = tuple(s for s in plan.steps if s.replica == replica or (s.replica is None and first))
    return HostPlan(plan.host, steps, plan.digest, plan.pending)


def cost_of(hosts: Sequence[HostPlan]) -> str:
    costs = [step.cost for host in hosts for step in host.steps]
    return max(costs, key=COSTS.index, default="nothing")
