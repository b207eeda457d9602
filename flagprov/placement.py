"""Which devices of which hosts serve which replica; pure, and stable across runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flagprov.models.chip import Chip
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
        return Refusal(
            host.name,
            f"no {chip.name} device is visible to {detection.tool}",
            f"is the driver installed, and flagprov_chip of {host.name} right?",
        )
    others = [d.name for d in devices if not any(re.search(p, d.name) for p in detection.name_patterns)]
    if others:
        return Refusal(
            host.name,
            f"the inventory says {chip.name}, but {detection.tool} says {others[0]}",
            f"correct flagprov_chip of {host.name}",
        )
    return None


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
    unclaimed = [device for device in devices if device.index not in held]
    free = [device.index for device in unclaimed if not device.processes]
    if len(free) >= count:
        return tuple(free[:count])
    if len(unclaimed) >= count:  # named, so that the claim's message says which process is on which device
        return tuple(device.index for device in unclaimed[:count])
    holders = sorted({f"{running.replica}" for running in held.values()})
    by = f"; held by {', '.join(holders)}" if holders else ""
    raise _Refused(
        wish.host.name,
        f"{count} devices are needed, {len(unclaimed)} of {len(devices)} are free{by}",
        "stop or tear down what holds them, or ask for fewer: --set devices=N",
    )
