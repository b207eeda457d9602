"""What placement chooses from on one host: its devices and its ports; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flagprov.cluster import node_ports
from flagprov.models.chip import Chip
from flagprov.models.desired import Refusal
from flagprov.models.fleet import Host
from flagprov.models.observed import Device, Running, Survey
from flagprov.models.release import Variant

DEFAULT_PORT = 9010
APART = 100  # from the port of a replica's first slot to that of its second


@dataclass(frozen=True, slots=True)
class Wish:
    """What the release with the fleet's settings asks for on one host."""

    host: Host
    chip: Chip
    variant: Variant
    survey: Survey
    replicas: int | None = None  # over the whole fleet; None: one per host
    moved: tuple[str, str] | None = None  # a replica that it still has, and where that is now

    @property
    def port(self) -> int:
        port = self.variant.serve.get("port")
        return int(port) if isinstance(port, int | str) else DEFAULT_PORT


class Refused(Exception):
    """One host cannot take what it was chosen for."""

    def __init__(self, host: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.refusal = Refusal(host, message, remedy)


def ports_of(host: str, running: Iterable[Running], records: Mapping[str, Any]) -> dict[int, str]:
    """Ports that replicas hold on a host; one over several hosts holds those of its launch kind, too."""
    held: dict[int, str] = {}
    for replica in with_besides(running):
        ports = frozenset({replica.port})
        if len(replica.hosts) > 1:
            launch = (records.get(replica.replica) or {}).get("launch") or {}
            kind, ssh = launch.get("kind", "nodes"), launch.get("ssh_port")
            ports = node_ports(replica.port, kind, ssh, head=replica.hosts[0] == host)
        held.update(dict.fromkeys(ports, replica.replica))
    return held


def with_besides(running: Iterable[Running]) -> list[Running]:
    """Each, and what is in its other slot."""
    return [each for replica in running for each in (replica, replica.beside) if each]


def choose_port(wish: Wish, position: int, ports: Mapping[int, str], slot: str = "") -> int:
    """Each slot has a port of its own: that of the release, or one apart from it."""
    port = wish.port + position + (APART if slot else 0)
    if port in ports:
        raise Refused(
            wish.host.name,
            f"port {port} belongs to replica {ports[port]}",
            "stop that one with `flagprov teardown`, or use another port: --set port=N",
        )
    return port


def choose_devices(
    wish: Wish, previous: Running | None, devices: Sequence[Device], held: Mapping[int, Running]
) -> tuple[int, ...]:
    count = wish.variant.devices
    if previous and len(previous.devices) == count and not set(previous.devices) & set(held):
        well = {device.index for device in devices if is_well(device)}
        if previous.state == "running" or well.issuperset(previous.devices):
            return previous.devices
    unclaimed = [device for device in devices if device.index not in held and is_well(device)]
    free = [device for device in unclaimed if not device.processes]
    for some in (free, unclaimed):  # busy ones, so that the claim says which process is on which device
        if len(some) >= count:
            return whole_cards(some, count, wish.chip.detection.devices_per_card)
    holders = sorted({f"{running.replica}" for running in held.values()})
    reasons = [f"held by {', '.join(holders)}"] if holders else []
    reasons += [f"device {device.index}: {device.health}" for device in devices if not is_well(device)]
    counts = wish.chip.device_counts
    if counts and len(devices) not in counts:
        reasons.append(f"a host of this chip has {', '.join(map(str, counts[:-1]))} or {counts[-1]} devices")
    by = f"; {'; '.join(reasons)}" if reasons else ""
    raise Refused(
        wish.host.name,
        f"{count} devices are needed, {len(unclaimed)} of {len(devices)} are free{by}",
        "stop or tear down what holds them, or ask for fewer: --set devices=N",
    )


def is_well(device: Device) -> bool:
    """One with an alarm, or that its tool knows nothing of, may compute wrongly; one with a warning works."""
    return device.health in ("ok", "warning")


def whole_cards(devices: Sequence[Device], count: int, per_card: int) -> tuple[int, ...]:
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
