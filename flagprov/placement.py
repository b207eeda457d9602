"""Which devices of which hosts serve which replica; pure, and stable across runs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flagprov.models.chip import Chip, Detection
from flagprov.models.desired import Placement, Refusal, Replica
from flagprov.models.fleet import Fleet, Host
from flagprov.models.observed import Device, Running, Survey
from flagprov.models.release import Variant

DEFAULT_PORT = 9010


@dataclass(frozen=True, slots=True)
class Wish:
    """What the release with the fleet's settings asks for on one host."""

    host: Host
    chip: Chip
    variant: Variant
    survey: Survey
    replicas: int | None = None  # over the whole fleet; None: one per host

    @property
    def port(self) -> int:
        port = self.variant.serve.get("port")
        return int(port) if isinstance(port, int | str) else DEFAULT_PORT


def place(fleet: Fleet, release: str, wishes: Sequence[Wish], reserved: Collection[str] = ()) -> Placement:
    """One replica per host, or `replicas` of them spread evenly; what runs already stays where it is.

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
    counts = _spread(usable, release)
    names = _names(release, usable, reserved)
    replicas: list[Replica] = []
    for wish, count in zip(usable, counts, strict=True):
        kept = _kept(wish, release)[:count]
        try:
            replicas.extend(_on_host(wish, release, count, kept, names))
        except _Refused as refused:
            refusals.append(refused.refusal)
    order = {host.name: position for position, host in enumerate(fleet.hosts)}
    replicas.sort(key=lambda replica: (order[replica.hosts[0]], replica.port))
    return Placement(tuple(replicas), tuple(refusals))


class _Refused(Exception):
    def __init__(self, host: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(host, message, remedy)


def _unusable(wish: Wish) -> Refusal | None:
    """The inventory says one chip; what the host's own tools say has to agree."""
    host, chip, survey = wish.host, wish.chip, wish.survey
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
    held = {device: running for running in foreign for device in running.devices}
    ports: dict[int, str] = {running.port: running.replica for running in foreign}
    devices = wish.survey.devices[wish.chip.detection.tool]
    for position in range(count):
        previous = kept[position] if position < len(kept) else None
        chosen = _devices(wish, previous, devices, held)
        port = _port(wish, position, ports)
        name = previous.replica if previous else next(names)
        replica = Replica(name, release, wish.chip.name, (host,), chosen, port)
        running = Running(name, release, wish.chip.name, (host,), chosen, port, "placed")
        held.update(dict.fromkeys(chosen, running))
        ports[port] = name
        yield replica


def _port(wish: Wish, position: int, ports: Mapping[int, str]) -> int:
    port = wish.port + position
    if port in ports:
        raise _Refused(
            wish.host.name,
            f"port {port} belongs to replica {ports[port]}",
            "stop that one with `flagprov teardown`, or use another port: --set port=N",
        )
    return port


def _devices(
    wish: Wish, previous: Running | None, devices: Sequence[Device], held: Mapping[int, Running]
) -> tuple[int, ...]:
    count = wish.variant.devices
    if previous and len(previous.devices) == count and not set(previous.devices) & set(held):
        return previous.devices
    unclaimed = [device for device in devices if device.index not in held and is_well(device)]
    free = [device for device in unclaimed if not device.processes]
    for some in (free, unclaimed):  # busy ones, so that the claim says which process is on which device
        if len(some) >= count:
            return _whole_cards(some, count, wish.chip.detection.devices_per_card)
    holders = sorted({f"{running.replica}" for running in held.values()})
    reasons = [f"held by {', '.join(holders)}"] if holders else []
    reasons += [f"device {device.index}: {device.health}" for device in devices if not is_well(device)]
    counts = wish.chip.device_counts
    if counts and len(devices) not in counts:
        reasons.append(f"a host of this chip has {', '.join(map(str, counts[:-1]))} or {counts[-1]} devices")
    by = f"; {'; '.join(reasons)}" if reasons else ""
    raise _Refused(
        wish.host.name,
        f"{count} devices are needed, {len(unclaimed)} of {len(devices)} are free{by}",
        "stop or tear down what holds them, or ask for fewer: --set devices=N",
    )


def is_well(device: Device) -> bool:
    """A device with an alarm computes wrongly or not at all; one with a warning still works."""
    return device.health in ("ok", "warning", "unknown", "")


def _whole_cards(devices: Sequence[Device], count: int, per_card: int) -> tuple[int, ...]:
    """Whole cards where they can be had; a single device comes from a card that is broken into already."""
    if per_card == 1:
        return tuple(device.index for device in devices[:count])
    cards: dict[int, list[int]] = {}
    for device in devices:
        card = device.index // per_card if device.card is None else device.card
        cards.setdefault(card, []).append(device.index)
    whole = [indices for indices in cards.values() if len(indices) == per_card]
    broken = [indices for indices in cards.values() if len(indices) < per_card]
    full = count - count % per_card
    chosen = [index for indices in whole for index in indices][:full]
    rest = [index for indices in broken + whole for index in indices if index not in chosen]
    return tuple(sorted(chosen + rest[: count - len(chosen)]))
