"""A host takes the place of another: the replicas go over with their names and ports; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from flagprov.errors import UsageError
from flagprov.models.desired import Placement
from flagprov.models.observed import Running, Survey
from flagprov.models.request import Handover

Deployed = Mapping[str, Mapping[str, Any]]  # as the site has it


def handed(
    old: str, new: str, release: str | None, surveys: Mapping[str, Survey], deployed: Deployed
) -> Handover:
    """What the old host has: by its own word, by that of its partners, or as the site remembers it."""
    said = [running for seen in surveys.values() for running in seen.running if old in running.hosts]
    known = [_remembered(name, r) for name, r in deployed.items() if old in r["hosts"]]
    found = {running.replica: running for running in (*known, *said) if release in (None, running.release)}
    if not found:
        what = f"no replica of {release}" if release else "no replica"
        raise UsageError(f"{old} has {what} to hand over", remedy="flagprov status shows what is where")
    releases = sorted({running.release for running in found.values()})
    if len(releases) > 1:
        raise UsageError(
            f"{old} has replicas of {' and '.join(releases)}",
            remedy=f"one after the other: flagprov replace INVENTORY {old} {new} {releases[0]}",
        )
    return Handover(old, new, tuple(_taken(running, old, new) for _, running in sorted(found.items())))


def _remembered(name: str, known: Mapping[str, Any]) -> Running:
    release, chip, hosts = str(known["release"]), str(known["chip"]), tuple(known["hosts"])
    slot = str(known.get("slot", ""))
    return Running(name, release, chip, hosts, (), int(known["port"]), "absent", slot)


def _taken(running: Running, old: str, new: str) -> Running:
    """The same name, slot and rank, and by these the port; alone on its host, it may have other devices."""
    hosts = tuple(new if host == old else host for host in running.hosts)
    return replace(running, hosts=hosts, devices=running.devices if len(hosts) > 1 else (), beside=None)


def applied(handover: Handover, surveys: Mapping[str, Survey]) -> dict[str, Survey]:
    """The surveys as if it were so already, for placement to keep."""
    names = {running.replica for running in handover.replicas}
    found = dict(surveys)
    for name in {host for running in handover.replicas for host in running.hosts} & set(surveys):
        mine = [running for running in handover.replicas if name in running.hosts]
        others = [running for running in surveys[name].running if running.replica not in names]
        own = [r.replica for r in others if r.release == handover.release]
        if name == handover.new and own:
            raise UsageError(
                f"{name} is no spare: it has {', '.join(own)}", remedy="name a host without this release"
            )
        found[name] = replace(surveys[name], running=(*others, *mine))
    return found


def other_ports(handover: Handover, placement: Placement) -> Iterator[str]:
    """For the plan: who asks a replica directly has to follow it."""
    placed = {replica.name: replica for replica in placement.replicas}
    for running in handover.replicas:
        now = placed.get(running.replica)
        if now and now.port != running.port:
            yield (
                f"{now.name} had port {running.port} on {handover.old} and gets {now.port} on "
                f"{handover.new}: "
                "whoever asks it past a gateway has to follow"
            )


def moved(surveys: Mapping[str, Survey], deployed: Deployed) -> Iterator[tuple[str, str, str]]:
    """Host, replica, where that is now: hosts that came back with what others have taken over."""
    claims = [(seen.host, running) for seen in surveys.values() for running in seen.running]
    hosts = {(running.replica, running.hosts) for _, running in claims}
    for host, running in claims:
        now = tuple(deployed.get(running.replica, {}).get("hosts", ()))
        if host not in now and now != running.hosts and (running.replica, now) in hosts:
            yield host, running.replica, " and ".join(now)
