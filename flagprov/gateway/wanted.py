"""What the gateways of a fleet shall know of a release's replicas; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flagprov.models.desired import Placement, Stage
from flagprov.models.fleet import Host
from flagprov.models.observed import Change
from flagprov.models.plan import HostPlan
from flagprov.preparation import Job

ADDRESS = "flagprov_serving_address"  # of a host, where gateways reach it elsewhere than we do
PLACE = ("address", "port")


def beside(replica: str) -> str:
    """What a gateway calls a replica's new engine while the old one has its name."""
    return f"{replica}.beside"


def servers(job: Job, placement: Placement) -> dict[str, dict[str, Any]]:
    """Replica -> where its head answers, and how it proves itself."""
    hosts = {host.name: host for host in job.fleet.hosts}
    found = {}
    for replica in placement.replicas:
        head = hosts[replica.hosts[0]]
        variant = job.variants[head.name]
        readiness = variant.readiness or job.release.readiness
        model = variant.serve.get("served_model_name") or variant.serve.get("model") or ""
        found[replica.name] = {
            "address": address(head),
            "port": replica.port,
            "model": str(model),
            "readiness": readiness.kind,
            "path": readiness.path,
        }
    return found


def address(host: Host) -> str:
    return str(host.variables.get(ADDRESS) or host.connection.address)


def plan(
    gateway: str, release: str, wanted: Mapping[str, Mapping[str, Any]], shown: Mapping[str, Any], reason: str
) -> HostPlan | None:
    """Steps of one gateway; `reason` says why it has to be provisioned, where it has to."""
    steps = []
    if reason:
        roles = "host_baseline, gateway"
        steps.append(Change("roles", roles, Stage.PROVISION.label, "provision", reason, cost="re-provision"))
    known = (shown.get("releases") or {}).get(release, {})
    for name, server in wanted.items():
        there = known.get(name)
        if there is None:
            why = "the gateway does not know it"
        elif any(there[key] != server[key] for key in PLACE):
            why = f"it was at {there['address']} port {there['port']}"
        elif there["state"] != "in":
            why = "it gets no requests"
        else:
            continue
        steps.append(Change("gateway", name, Stage.VERIFY.label, "let in", why, name))
    for name in wanted:
        if beside(name) in known:
            why = "a run that was cut off left it"
            steps.append(Change("gateway", beside(name), Stage.VERIFY.label, "remove", why, name))
    return HostPlan(gateway, tuple(steps), "") if steps else None
