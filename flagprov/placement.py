"""Which devices of which hosts serve which replica; pure, and stable across runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from flagprov.choosing import Refused, Wish, choose_devices, choose_port, is_well, ports_of, with_besides
from flagprov.grouping import place_groups
from flagprov.models.chip import Detection
from flagprov.models.desired import Placement, Refusal, Replica
from flagprov.models.fleet import Fleet
from flagprov.models.observed import Device, Running

__all__ = ["Wish", "is_well", "mismatch", "place"]


def place(fleet: Fleet, release: str, wishes: Sequence[Wish], reserved: Collection[str] = ()) -> Placement:
    """One replica per host or group of `nodes` hosts, or `replicas` of them; what runs stays where it is.

    `reserved`: names of replicas on hosts that could not be asked.
    """
    refusals: list[Refusal] = []
    usable: list[Wish] = []
    for wish in wishes:
        refusal = _unusable(wish)
        if refusal:
            refusals.append(refusal)
        else:
            usable.append(wish)
    names = _names(release, wishes, reserved)
    replicas: list[Replica] = []
    single = [wish for wish in usable if wish.variant.nodes == 1]
    for wish, count in zip(single, _spread(single, release), strict=True):
        kept = _kept(wish, release)[:count]
        try:
            replicas.extend(_on_host(wish, release, count, kept, names))
        except Refused as refused:
            refusals.append(refused.refusal)
    kinds = dict.fromkeys((w.chip.name, w.variant.nodes) for w in usable if w.variant.nodes > 1)
    for chip, nodes in kinds:
        alike = [w for w in usable if (w.chip.name, w.variant.nodes) == (chip, nodes)]
        placed, refused_ones = place_groups(release, alike, names)
        replicas += placed
        refusals += refused_ones
    order = {host.name: position for position, host in enumerate(fleet.hosts)}
    replicas.sort(key=lambda replica: (order[replica.hosts[0]], replica.port))
    return Placement(tuple(replicas), tuple(refusals))


def _unusable(wish: Wish) -> Refusal | None:
    """The inventory says one chip; what the host's own tools say has to agree."""
    host, chip, survey = wish.host, wish.chip, wish.survey
    if wish.moved:
        replica, now = wish.moved
        return Refusal(
            host.name,
            f"it still has {replica}, which {now} took over",
            f"flagprov teardown INVENTORY --limit {host.name}; then it is a spare",
        )
    detection = chip.detection
    devices = survey.devices.get(detection.tool, ())
    if detection.arch and survey.arch not in detection.arch:
        return Refusal(
            host.name,
            f"the inventory says {chip.name}, but the machine is {survey.arch}",
            f"correct flagprov_chip of {host.name}",
        )
    if not devices:
        said = (survey.facts.get("device_errors") or {}).get(detection.tool)
        return Refusal(
            host.name,
            f"no {chip.name} device is visible to {detection.tool}" + (f": {said}" if said else ""),
            f"is the driver installed, and flagprov_chip of {host.name} right?",
            no_device=True,
        )
    machine = str(survey.facts.get("machine") or "")
    found = mismatch(detection, devices, machine)
    if found:
        return Refusal(
            host.name,
            f"the inventory says {chip.name}, but {found}",
            f"correct flagprov_chip of {host.name}",
        )
    return None


def mismatch(detection: Detection, devices: Sequence[Device], machine: str) -> str:
    """What shows that these are not devices of the chip; empty where nothing does."""
    for device in devices:
        if device.health == "lost":  # its name cannot be read any more
            continue
        if not any(re.search(pattern, device.name) for pattern in detection.name_patterns):
            return f"{detection.tool} says {device.name}"
        numbered = device.phy_id is not None
        if detection.phy_id_header not in (None, numbered):
            shape = "with" if numbered else "without"
            return f"{detection.tool} shows {device.name} {shape} a Phy-ID column"
    on_a_card = Counter(device.card for device in devices if device.card is not None)
    if on_a_card and max(on_a_card.values()) > detection.devices_per_card:
        return f"{detection.tool} shows {max(on_a_card.values())} devices on a card"
    if machine and not _any(detection.machine_patterns, machine):
        return f"the machine is {machine}"
    return ""


def _any(patterns: Sequence[str], text: str) -> bool:
    """Whether one of the patterns fits; no pattern fits anything."""
    return not patterns or any(re.search(pattern, text) for pattern in patterns)


def _kept(wish: Wish, release: str) -> list[Running]:
    """Replicas of this release that the host has already, as they were numbered."""
    mine = [running for running in wish.survey.running if running.release == release]
    return sorted((r for r in mine if r.hosts == (wish.host.name,)), key=lambda running: running.replica)


def _spread(wishes: Sequence[Wish], release: str) -> list[int]:
    """How many replicas each host gets."""
    total = next((wish.replicas for wish in wishes if wish.replicas), None)
    if total is None:
        return [1] * len(wishes)
    counts = [min(len(_kept(wish, release)), total) for wish in wishes]
    while sum(counts) > total:
        counts[max(i for i, count in enumerate(counts) if count)] -= 1
    while wishes and sum(counts) < total:
        counts[min(range(len(counts)), key=lambda i: (counts[i], i))] += 1
    return counts


def _names(release: str, wishes: Sequence[Wish], reserved: Collection[str]) -> Iterator[str]:
    """Names that no replica of the release has yet."""
    taken = {running.replica for wish in wishes for running in wish.survey.running} | set(reserved)
    number = 0
    while True:
        name = f"{release}-{number}"
        if name not in taken:
            yield name
        number += 1


def _on_host(
    wish: Wish, release: str, count: int, kept: Sequence[Running], names: Iterator[str]
) -> Iterator[Replica]:
    host = wish.host.name
    foreign = [running for running in wish.survey.running if running not in kept]
    held = {device: running for running in with_besides(foreign) for device in running.devices}
    ports = ports_of(host, foreign, wish.survey.records)
    devices = wish.survey.devices[wish.chip.detection.tool]
    for position in range(count):
        previous = kept[position] if position < len(kept) else None
        chosen = choose_devices(wish, previous, devices, held)
        slot = previous.slot if previous else ""
        port = choose_port(wish, position, ports, slot)
        name = previous.replica if previous else next(names)
        replica = Replica(name, release, wish.chip.name, (host,), chosen, port, slot=slot)
        running = Running(name, release, wish.chip.name, (host,), chosen, port, "placed")
        held.update(dict.fromkeys(chosen, running))
        ports[port] = name
        yield replica
