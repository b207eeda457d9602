"""Where a new engine can start while the old one serves: its replica's other slot, if there is room; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flagprov.choosing import APART, DEFAULT_PORT, Wish, is_well, ports_of, whole_cards, with_besides
from flagprov.host.slots import opposite
from flagprov.models.desired import Placement, Replica
from flagprov.models.observed import Running, Survey
from flagprov.models.plan import START_FIRST, STOP_FIRST

HIGHEST_PORT = 65535
Need = Callable[[Replica], int | None]  # MiB of memory; None where it is not known


class NoRoom(Exception):
    """Why not."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Replicas as they will be in their other slots, and why others have to stop first."""

    taken: Mapping[str, Replica] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)

    def on(self, host: str) -> tuple[Replica, ...]:
        return tuple(replica for replica in self.taken.values() if host in replica.hosts)

    @property
    def hosts(self) -> frozenset[str]:
        return frozenset(host for replica in self.taken.values() for host in replica.hosts)

    def placed(self, placement: Placement, hosts: Collection[str] | None = None) -> Placement:
        """The placement with what starts in its other slot, on these hosts or on all."""
        moved = {n: r for n, r in self.taken.items() if hosts is None or set(r.hosts) <= set(hosts)}
        return replace(placement, replicas=tuple(moved.get(r.name, r) for r in placement.replicas))

    def without(self, host: str, why: str) -> Slots:
        """A host that has no room after all."""
        mine = {replica.name for replica in self.on(host)}
        kept = {name: replica for name, replica in self.taken.items() if name not in mine}
        return Slots(kept, {**self.refused, **dict.fromkeys(mine, why)})

    def orders(self) -> dict[str, tuple[str, str]]:
        """Replica -> its order and the reason, for the plan."""
        found = {name: (STOP_FIRST, why) for name, why in self.refused.items()}
        for name, new in self.taken.items():
            devices = ", ".join(map(str, new.devices))
            what = "device" if len(new.devices) == 1 else "devices"
            found[name] = (START_FIRST, f"{what} {devices}, port {new.port} of {new.hosts[0]}")
        return found


NO_SLOTS = Slots()


def find_slots(
    changing: Sequence[Replica],
    placement: Placement,
    wishes: Mapping[str, Wish],
    provisioned: Collection[str],
    need: Need,
    steps: Collection[str] = (),
) -> Slots:
    """For replicas that serve and would be interrupted; those of one host have room together, or none has.

    `steps`: all replicas that the plan has steps for; one that serves nobody has nothing to start beside.
    """

    def together(host: str, mine: Sequence[Replica]) -> Iterable[Replica]:
        if host in provisioned:
            raise NoRoom(f"{host} is provisioned first")
        return _together(wishes[host], mine, placement, need)

    return _by_host(changing, placement, steps, together)


def slots_back(
    changing: Sequence[Replica],
    placement: Placement,
    surveys: Mapping[str, Survey],
    places: Mapping[str, Mapping[str, Any]],
    steps: Collection[str] = (),
) -> Slots:
    """The same for a way back: it leads to the place that a replica had, by its history."""

    def together(host: str, mine: Sequence[Replica]) -> Iterable[Replica]:
        names = {replica.name for replica in mine}  # what is beside these is to be there, or makes way
        there = [replace(r, beside=None) if r.replica in names else r for r in surveys[host].running]
        held = {device: running.replica for running in with_besides(there) for device in running.devices}
        ports = ports_of(host, there, surveys[host].records)
        for replica in mine:
            place = places[replica.name]
            if place["slot"] == replica.slot:
                raise NoRoom("it goes back within its slot")
            for device in place["devices"]:
                if held.get(device) == replica.name:  # what both would need of a shared one is not known here
                    now = "is the one it has now: there is none beside it"
                    raise NoRoom(f"device {device}, which it had on {host}, {now}")
                if device in held:
                    raise NoRoom(f"device {device}, which it had on {host}, belongs to {held[device]}")
            if place["port"] in ports:
                raise NoRoom(f"port {place['port']} of {host} belongs to {ports[place['port']]}")
            devices = tuple(place["devices"])
            held.update(dict.fromkeys(devices, replica.name))
            ports[place["port"]] = replica.name
            yield replace(replica, devices=devices, port=place["port"], slot=place["slot"])

    return _by_host(changing, placement, steps, together)


def _by_host(
    changing: Sequence[Replica],
    placement: Placement,
    steps: Collection[str],
    together: Callable[[str, Sequence[Replica]], Iterable[Replica]],
) -> Slots:
    taken: dict[str, Replica] = {}
    refused: dict[str, str] = {}
    for host in dict.fromkeys(replica.hosts[0] for replica in changing):
        mine = [replica for replica in changing if replica.hosts[0] == host]
        try:
            if any(len(replica.hosts) > 1 for replica in mine):
                raise NoRoom("it spans several hosts")
            if others := [r.name for r in placement.on(host) if r.name in steps and r not in mine]:
                raise NoRoom(f"{others[0]} on {host} is changed with it, and cannot start beside itself")
            found = {new.name: new for new in together(host, mine)}
        except NoRoom as no:
            refused.update((replica.name, str(no)) for replica in mine)
        else:
            taken.update(found)
    return Slots(taken, refused)


def _together(wish: Wish, mine: Sequence[Replica], placement: Placement, need: Need) -> Iterable[Replica]:
    host, seen = wish.host.name, wish.survey
    memory = int(seen.facts.get("available_mib") or 0)
    there = [running for running in seen.running if running.replica not in {r.name for r in mine}]
    olds = {running.replica: running for running in seen.running}
    held = {device for running in with_besides(there) for device in running.devices}
    others = [replica for replica in placement.on(host) if replica not in mine]
    held |= {device for replica in others for device in replica.devices}
    held |= {device for running in olds.values() for device in running.devices}
    ports = ports_of(host, there, seen.records) | {r.port: r.name for r in others}
    ports |= {running.port: running.replica for running in olds.values()}
    found = []
    for replica in mine:
        left = olds[replica.name].beside
        port = replica.port + (-APART if replica.slot else APART)
        if port > HIGHEST_PORT:
            raise NoRoom(f"there is no port {port}")
        if port in ports:
            raise NoRoom(f"port {port} of {host} belongs to {ports[port]}")
        if not _closed(wish.host.variables, port):
            raise NoRoom(f"firewall_serving_ports of {host} does not name port {port}")
        devices = _devices(wish, replica, left, held)
        if devices is None:
            devices, memory = replica.devices, _less(memory, need(replica), host, left)
        held.update(devices)
        ports[port] = replica.name
        found.append(replace(replica, devices=devices, port=port, slot=opposite(replica.slot)))
    return found


def _closed(variables: Mapping[str, Any], port: int) -> bool:
    """The role `firewall` closes the ports only that it is told; true where it is not asked for."""
    if str(variables.get("firewall_enabled", False)).lower() in ("", "0", "f", "false", "n", "no", "off"):
        return True
    named = variables.get("firewall_serving_ports", [DEFAULT_PORT])
    spans = [str(each).partition("-") for each in (named if isinstance(named, list | tuple) else [named])]
    return any(
        first.strip().isdecimal() and int(first) <= port <= int(last if last.strip().isdecimal() else first)
        for first, _, last in spans
    )


def _devices(
    wish: Wish, replica: Replica, left: Running | None, held: Collection[int]
) -> tuple[int, ...] | None:
    """Free ones, those of what a run that was cut off has left there first; None: those of the old one.

    Processors can be shared, accelerators cannot.
    """
    count, known = len(replica.devices), wish.survey.devices[wish.chip.detection.tool]
    if left and left.state == "running" and len(left.devices) == count and not set(left.devices) & set(held):
        return left.devices
    free = [d for d in known if d.index not in held and is_well(d) and not d.processes]
    if len(free) >= count:
        return whole_cards(free, count, wish.chip.detection.devices_per_card)
    if wish.chip.resource_type == "cpu":
        return None
    if not free:
        raise NoRoom(f"no free device on {wish.host.name}")
    raise NoRoom(f"{count} devices are needed, {len(free)} of {len(known)} are free on {wish.host.name}")


def _less(memory: int, need: int | None, host: str, left: Running | None) -> int:
    """What is left of a host's memory; what runs there already needs no more."""
    if left and left.state == "running":
        return memory
    if need is None:
        raise NoRoom(f"how much memory it needs is not known, and its processors are all there are on {host}")
    if need > memory:
        raise NoRoom(f"no free memory on {host}: {need} MiB are needed, {memory} are available")
    return memory - need
