"""Checks that have nothing to do with accelerators."""

from __future__ import annotations

from flagprov.doctor.subject import Subject, Verdict, failed, gib, ok, unknown, warning, worst
from flagprov.doctor.versions import older
from flagprov.models.facts import PathFacts
from flagprov.placement import mismatch
from flagprov.report.text import duration

OFF_S, FAR_OFF_S = 1.0, 30.0
NETWORK_DELAY_S = 0.5  # the controller's comparison is no better than this
LOW_SHARE = 10  # a tenth of the disk


def arch(subject: Subject) -> Verdict | None:
    if subject.chip is None or subject.facts.system is None:
        return None if subject.chip is None else unknown(subject.unknown("system"))
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
    detection = subject.chip.detection
    if not subject.devices and subject.before_provisioning:
        return None  # a driver may be brought yet
    if not subject.devices:
        said = subject.facts.device_errors.get(detection.tool, "it is not there, or names no device")
        return failed(
            f"no {subject.chip.name} device: {detection.tool}: {said}",
            "install the driver (flagprov deploy runs its role), or correct flagprov_chip",
        )
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


def processor(subject: Subject) -> Verdict | None:
    wanted = subject.chip.health.cpu_features if subject.chip else ()
    if not wanted:
        return None
    if subject.facts.processor is None:
        return unknown(subject.unknown("processor"))
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


def mounts(subject: Subject) -> Verdict | None:
    """Every directory that the release mounts is there, answers, and is the mount that it is meant to be."""
    found: list[Verdict] = []
    shown: list[str] = []
    serving = subject.serving
    wanted = [each.rstrip("/") for each in serving.sources] if serving else []
    spare = [each.rstrip("/") for each in serving.optional] if serving else []
    for path in subject.facts.paths or ():
        if path.path in spare and not path.exists:  # docker would make a directory of it
            shown.append(f"the container goes without {path.path}, which is not here")
        if serving and path.path not in wanted:
            continue
        verdict = _path(subject, path)
        if verdict:
            found.append(verdict)
        else:
            where = f"{path.source} ({path.type})" if path.point != "/" else "the root file system"
            shown.append(f"{path.path} on {where}")
    if subject.facts.paths is None:
        return unknown(subject.unknown("paths"))
    return worst(found, ", ".join(shown)) if found or shown else None


def _path(subject: Subject, path: PathFacts) -> Verdict | None:
    planned = path.planned_point
    if not path.answers:
        return failed(
            f"{path.path}: {path.source or 'its mount'} does not answer",
            f"is its server up? umount -l {path.point or path.path}, then mount it again",
        )
    if planned and planned != path.point and len(planned) > len(path.point or ""):
        return failed(
            f"{planned} is not mounted; /etc/fstab has {path.planned_source} there", f"mount {planned}"
        )
    if not path.exists:
        return failed(f"{path.path} is not there", f"mount or make {path.path}, or set flagprov_weights_root")
    others = {
        name: mount
        for name, facts in subject.peers.items()
        for mount in [facts.path(path.path)]
        if mount and mount.network
    }
    if not path.network and others:
        name, mount = next(iter(others.items()))
        return failed(
            f"{path.path} is no network mount here, on {name} it is {mount.source}",
            f"mount {mount.source} on {mount.point}",
        )
    different = {name: mount.source for name, mount in others.items() if mount.source != path.source}
    if path.network and different:
        name, source = next(iter(different.items()))
        return warning(
            f"{path.path} is {path.source}, on {name} it is {source}", "mount the same export on all hosts"
        )
    if path.empty and path.point == "/" and _for_weights(subject, path.path):
        return failed(
            f"{path.path} is an empty directory of the root file system", f"mount {path.path}; see /etc/fstab"
        )
    return None


def _for_weights(subject: Subject, path: str) -> bool:
    """Directories of the system, such as /usr/local/sbin, may well be empty."""
    if subject.serving is None:
        return True
    return subject.serving.weights == path or subject.serving.weights.startswith(path.rstrip("/") + "/")


def space(subject: Subject) -> Verdict | None:
    """Room for the image where docker keeps images; it is unpacked there."""
    engine = subject.facts.docker
    if engine is None:
        return None
    remedy = "docker system df; docker image prune; or move docker's data root"
    image = subject.facts.image
    if subject.serving and image and image.where == "registry" and image.download_mib:
        need = image.download_mib * 3  # layers are compressed, and the archive lies beside what it unpacks to
        if engine.free_mib < need:
            return failed(
                f"{gib(engine.free_mib)} free in {engine.root}, the image needs about {gib(need)}", remedy
            )
    if engine.free_mib * LOW_SHARE < engine.total_mib:
        return warning(f"{gib(engine.free_mib)} of {gib(engine.total_mib)} free in {engine.root}", remedy)
    return ok(f"{gib(engine.free_mib)} free in {engine.root}")


def ports(subject: Subject) -> Verdict | None:
    asked = subject.facts.ports
    if not asked:
        return None if asked is not None else unknown(subject.unknown("ports"))
    taken = [
        failed(f"port {port.port} is taken by {port.holder}", "stop it, or use another: --set port=N")
        for port in asked
        if port.holder
    ]
    return worst(taken, f"{', '.join(str(port.port) for port in asked)} free")


def interfaces(subject: Subject) -> Verdict:
    found = subject.facts.interfaces
    if found is None:
        return unknown(subject.unknown("interfaces"))
    up = [each for each in found if each.state != "down" and each.addresses != ()]
    if not up:
        return failed("no network interface is up with an address", "ip address; ip link")
    own = {each.mtu for each in up}
    for name, facts in subject.peers.items():
        theirs = {each.mtu for each in facts.interfaces or () if each.state != "down" and each.addresses}
        if theirs and own.isdisjoint(theirs):
            return warning(
                f"MTU {', '.join(map(str, sorted(filter(None, own))))}, on {name} "
                f"{', '.join(map(str, sorted(filter(None, theirs))))}",
                "give the hosts of one network one MTU",
            )
    speeds = [
        f"{each.name} {each.speed_mbps // 1000 if each.speed_mbps else '?'} Gbit/s MTU {each.mtu}"
        for each in up
    ]
    return ok(", ".join(speeds))
