"""Groups of hosts that serve one replica together: in the inventory's order, and stable across runs; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from flagprov.choosing import Refused, Wish, choose_devices, choose_port, is_well, ports_of, with_besides
from flagprov.cluster import Unconnected, node_ports, nodes_of
from flagprov.models.desired import Refusal, Replica
from flagprov.models.observed import Device, Running


def place_groups(
    release: str, wishes: Sequence[Wish], names: Iterator[str]
) -> tuple[list[Replica], list[Refusal]]:
    """Replicas of `nodes` hosts each, out of hosts that are alike; the first host of a group is its head."""
    nodes, wanted = wishes[0].variant.nodes, wishes[0].replicas
    by_name = {wish.host.name: wish for wish in wishes}
    refusals: list[Refusal] = []
    groups: list[tuple[list[Wish], Running | None]] = []
    spent = 0  # groups that count, though a host of theirs is missing
    taken: set[str] = set()
    for running in _known(release, nodes, wishes):
        if taken & set(running.hosts) or (wanted is not None and len(groups) + spent >= wanted):
            continue
        taken.update(running.hosts)
        missing = [host for host in running.hosts if host not in by_name]
        if not missing:
            groups.append(([by_name[host] for host in running.hosts], running))
            continue
        spent += 1
        refusals += [
            Refusal(
                host,
                f"{running.replica} needs {' and '.join(missing)} too, which cannot be used now",
                f"bring that back, or give {running.replica} up with `flagprov teardown`",
            )
            for host in running.hosts
            if host in by_name
        ]
    free = [wish for wish in wishes if wish.host.name not in taken]
    while len(free) >= nodes and (wanted is None or len(groups) + spent < wanted):
        groups.append((free[:nodes], None))
        free = free[nodes:]
    if wanted is None or len(groups) + spent < wanted:
        refusals += [_left_over(wish, free) for wish in free]
    replicas = []
    for members, previous in groups:
        try:
            replicas.append(_group(release, members, previous, names))
        except Refused as refused:
            refusals += _refusals(members, refused.refusal)
        except Unconnected as error:
            refusals += _refusals(members, Refusal(error.host, str(error), error.remedy))
    return replicas, refusals


def _known(release: str, nodes: int, wishes: Sequence[Wish]) -> list[Running]:
    """Groups that exist already, by their number; each is known to all of its hosts."""
    found = {
        running.replica: running
        for wish in wishes
        for running in wish.survey.running
        if running.release == release and len(running.hosts) == nodes
    }
    return sorted(found.values(), key=lambda running: (len(running.replica), running.replica))


def _left_over(wish: Wish, free: Sequence[Wish]) -> Refusal:
    nodes, chip = wish.variant.nodes, wish.chip.name
    return Refusal(
        wish.host.name,
        f"a replica takes {nodes} hosts of {chip}, and only {len(free)} "
        f"{'is' if len(free) == 1 else 'are'} left: {', '.join(w.host.name for w in free)}",
        "add hosts, or leave this one out with --limit",
    )


def _refusals(members: Sequence[Wish], refusal: Refusal) -> Iterator[Refusal]:
    yield refusal
    for wish in members:
        if wish.host.name != refusal.host:
            message = f"{refusal.host}, of the same replica, cannot serve it: {refusal.message}"
            yield replace(refusal, host=wish.host.name, message=message)


def _group(release: str, members: Sequence[Wish], previous: Running | None, names: Iterator[str]) -> Replica:
    head = members[0]
    devices = _devices(members, previous)
    port = _port(members, previous)
    surveys = {wish.host.name: wish.survey for wish in members}
    nodes = nodes_of([wish.host for wish in members], surveys)
    name = previous.replica if previous else next(names)
    hosts = tuple(wish.host.name for wish in members)
    return Replica(name, release, head.chip.name, hosts, devices, port, nodes)


def _foreign(wish: Wish, previous: Running | None) -> list[Running]:
    return [r for r in wish.survey.running if previous is None or r.replica != previous.replica]


def _devices(members: Sequence[Wish], previous: Running | None) -> tuple[int, ...]:
    """The same numbers on every host; what one of them lacks is said of that one."""
    head, tool = members[0], members[0].chip.detection.tool
    held: dict[int, Running] = {}
    for wish in members:
        others = with_besides(_foreign(wish, previous))
        own = {device: running for running in others for device in running.devices}
        choose_devices(wish, previous, wish.survey.devices[tool], own)
        held.update(own)
    common = _common([wish.survey.devices[tool] for wish in members])
    try:
        return choose_devices(head, previous, common, held)
    except Refused as refused:
        hosts = ", ".join(wish.host.name for wish in members)
        message = f"no {head.variant.devices} devices of the same numbers are free on {hosts}"
        raise Refused(head.host.name, message, refused.refusal.remedy) from None


def _common(hosts: Sequence[Sequence[Device]]) -> list[Device]:
    """Devices by the numbers that every host has; as busy and as ill as on any of them."""
    found = []
    for device in hosts[0]:
        same = [other for devices in hosts for other in devices if other.index == device.index]
        if len(same) == len(hosts):
            ill = next((other.health for other in same if not is_well(other)), device.health)
            busy = tuple(process for other in same for process in other.processes)
            found.append(replace(device, health=ill, processes=busy))
    return found


def _port(members: Sequence[Wish], previous: Running | None) -> int:
    """The head's port; those that follow from it have to be free on every host of the group."""
    port, launch = members[0].port, members[0].variant.launch
    for wish in members:
        held = ports_of(wish.host.name, _foreign(wish, previous), wish.survey.records)
        if wish is members[0]:
            choose_port(wish, 0, held)
        wanted = node_ports(port, launch.kind, launch.ssh_port, head=wish is members[0])
        for inner in sorted(wanted & held.keys()):
            message = f"port {inner}, which the ranks need beside {port}, belongs to replica {held[inner]}"
            own = inner == launch.ssh_port
            remedy = "give the release another launch.ssh_port" if own else "use another port: --set port=N"
            raise Refused(wish.host.name, message, remedy)
    return port
