"""Checks that have nothing to do with accelerators."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_interface

from flagprov.doctor.subject import Subject, Verdict, failed, ok, unknown, warning, worst
from flagprov.models.chip import Chip
from flagprov.models.facts import Interface
from flagprov.placement import mismatch
from flagprov.report.text import duration
from flagprov.versions import older

OFF_S, FAR_OFF_S = 1.0, 30.0
NETWORK_DELAY_S = 0.5  # the controller's comparison is no better than this


def arch(subject: Subject) -> Verdict | None:
    if subject.chip is None or subject.facts.system is None:
        return None if subject.chip is None else unknown(subject.unknown("system"), "see `uname -m`")
    wanted, machine = subject.chip.detection.arch, subject.facts.system.arch
    if wanted and machine not in wanted:
        return failed(
            f"the machine is {machine}, chip {subject.chip.name} is {' or '.join(wanted)}",
            f"correct flagprov_chip of {subject.host.name}",
        )
    return ok(machine)


def chip(subject: Subject) -> Verdict | None:
    """The inventory's word against the tools'."""
    if subject.chip is None:
        return failed(
            "the inventory gives it no flagprov_chip", f"set it to one of {', '.join(sorted(subject.chips))}"
        )
    if not subject.devices:
        return _without_devices(subject, subject.chip)
    detection = subject.chip.detection
    machine = (subject.facts.system and subject.facts.system.machine) or ""
    other = mismatch(detection, subject.devices, machine)
    if other:
        fitting = [
            name
            for name, each in subject.chips.items()
            if each.detection.tool == detection.tool
            and not each.emulated_only
            and not mismatch(each.detection, subject.devices, machine)
        ]
        hint = f"; it looks like {' or '.join(fitting)}" if fitting else ""
        return failed(
            f"the inventory says {subject.chip.name}, but {other}{hint}",
            f"correct flagprov_chip of {subject.host.name}",
        )
    made_up = ", emulated" if subject.facts.emulated else ""
    return ok(f"{len(subject.devices)} x {subject.devices[0].name}{made_up}")


def _without_devices(subject: Subject, chip: Chip) -> Verdict | None:
    """Where no driver names devices, the PCI bus says whether one for this chip would find any."""
    seen, wanted = subject.facts.pci_ids, set(chip.detection.pci_ids)
    if seen is None or not wanted or wanted & set(seen):
        if subject.before_provisioning:
            return None
        tool = chip.detection.tool
        said = subject.facts.device_errors.get(tool, "it is not there, or names no device")
        return failed(
            f"no {chip.name} device: {tool}: {said}",
            "install the driver (flagprov deploy runs its role), or correct flagprov_chip",
        )
    fitting = [each.name for each in subject.chips.values() if set(each.detection.pci_ids) & set(seen)]
    there = f"{', '.join(seen)}" if seen else "no accelerator"
    hint = f"; it looks like {' or '.join(fitting)}" if fitting else ""
    return failed(
        f"the inventory says {chip.name}, but the PCI bus has {there}{hint}",
        f"correct flagprov_chip of {subject.host.name}",
    )


def processor(subject: Subject) -> Verdict | None:
    wanted = subject.chip.health.cpu_features if subject.chip else ()
    if not wanted:
        return None
    if subject.facts.processor is None:
        return unknown(subject.unknown("processor"), "see /proc/cpuinfo")
    missing = [feature for feature in wanted if feature not in subject.facts.processor.features]
    if missing:
        return failed(
            f"the processor has no {', '.join(missing)}",
            "use an instance of the right type, and a kernel that shows its features",
        )
    return ok(", ".join(wanted))


def docker(subject: Subject) -> Verdict | None:
    engine = subject.facts.docker
    if engine is None:
        return failed(
            f"no container engine answers: {subject.unknown('docker')}",
            "flagprov deploy installs it; where it is installed: systemctl status docker",
        )
    wanted = subject.serving.variant.versions.get("docker") if subject.serving else None
    if wanted and older(engine.version, wanted):
        return failed(
            f"docker {engine.version} is older than the card's {wanted}",
            "install a newer docker (role container_engine), or --force docker",
        )
    return ok(f"docker {engine.version}" + (f", the card has {wanted}" if wanted else ""))


def clock(subject: Subject) -> Verdict:
    found: list[Verdict] = []
    kept = subject.facts.clock
    remedy = "set up chrony or systemd-timesyncd (role host_baseline), and see what it says"
    ahead = subject.facts.clock_offset_s
    if ahead is not None and abs(ahead) > OFF_S + NETWORK_DELAY_S:
        said = f"{duration(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this controller"
        found.append(failed(said, remedy) if abs(ahead) > FAR_OFF_S else warning(said, remedy))
    if kept is None:
        found.append(unknown(subject.unknown("clock"), remedy))
    elif not kept.synchronized:
        found.append(warning(f"not synchronized, says {kept.tool}", remedy))
    elif kept.offset_s is not None and abs(kept.offset_s) > OFF_S:
        found.append(warning(f"{kept.offset_s:+.1f} s off its source, says {kept.tool}", remedy))
    return worst(found, f"synchronized, says {kept.tool}" if kept else "")


def ports(subject: Subject) -> Verdict | None:
    asked = subject.facts.ports
    if not asked:
        return None if asked is not None else unknown(subject.unknown("ports"), "see `ss -tlnp`")
    taken = [
        failed(f"port {port.port} is taken by {port.holder}", "stop it, or use another: --set port=N")
        for port in asked
        if port.holder
    ]
    return worst(taken, f"{', '.join(str(port.port) for port in asked)} free")


def interfaces(subject: Subject) -> Verdict:
    found = subject.facts.interfaces
    if found is None:
        return unknown(subject.unknown("interfaces"), "see `ip address`")
    up = [each for each in found if each.state != "down" and each.addresses != ()]
    if not up:
        return failed("no network interface is up with an address", "ip address; ip link")
    own = _mtus(up)
    for name, facts in subject.peers.items():
        theirs = _mtus(facts.interfaces or ())
        for network in own.keys() & theirs.keys():
            if own[network].isdisjoint(theirs[network]):
                return warning(
                    f"MTU {_listed(own[network])} in {network}, on {name} {_listed(theirs[network])}",
                    "give the hosts of one network one MTU",
                )
    speeds = [
        f"{each.name} {each.speed_mbps // 1000 if each.speed_mbps else '?'} Gbit/s MTU {each.mtu}"
        for each in up
    ]
    return ok(", ".join(speeds))


def _mtus(interfaces: Iterable[Interface]) -> dict[str, set[int]]:
    """By network, the MTUs of the interfaces that have an address in it."""
    found: dict[str, set[int]] = {}
    for each in interfaces:
        if each.mtu and each.state != "down":
            for address in each.addresses or ():
                found.setdefault(str(ip_interface(address).network), set()).add(each.mtu)
    return found


def _listed(values: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(values)))
