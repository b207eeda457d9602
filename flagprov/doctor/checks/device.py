"""Checks of drivers and devices, of whatever maker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flagprov.doctor.subject import Subject, Verdict, failed, gib, numbers, ok, unknown, warning, worst
from flagprov.versions import older

SIZE_TOLERANCE = 0.06  # a device of 80 GiB says 79.6 or 81.6
IDLE_SHARE = 0.1  # an idle NPU says 3 of 64 GiB
REBOOT = "reboot the host (drained first), and have the device replaced if it happens again"


def driver(subject: Subject) -> Verdict | None:
    """Loaded, on disk and reported are one version, and it is new enough."""
    tool = subject.chip.detection.tool if subject.chip else "cpuinfo"
    if tool == "nvidia-smi":
        return _nvidia_driver(subject)
    return _ascend_driver(subject) if tool == "npu-smi" else None


def _nvidia_driver(subject: Subject) -> Verdict:
    found = subject.facts.nvidia
    if found is None:
        return failed("there is no NVIDIA driver", "role nvidia_driver installs it: flagprov deploy")
    loaded = found.loaded.version if found.loaded else None
    reported = found.report.driver if found.report else None
    named = [("loaded", loaded), ("on disk", found.on_disk), ("reported by nvidia-smi", reported)]
    said = ", ".join(f"{where} {version or 'none'}" for where, version in named)
    if len({version for _, version in named}) > 1:
        if found.on_disk is None:
            way = "the module is gone from the disk: install the driver again for the running kernel"
        elif loaded is None:
            way = "modprobe nvidia, and see dmesg: nouveau, Secure Boot, or a module of another kernel"
        elif loaded != found.on_disk:
            way = "reboot (drained first), and hold the driver's packages against unattended upgrades"
        else:
            way = "; ".join(found.errors.values()) or "nvidia-smi does not answer: see dmesg"
        return failed(f"{said}", way)
    return _new_enough(subject, loaded or "", said if loaded is None else f"{loaded}")


def _ascend_driver(subject: Subject) -> Verdict:
    found = subject.facts.ascend
    if found is None:
        return failed("there is no Ascend driver", "role ascend_driver installs it: flagprov deploy")
    if "table" in found.errors:
        way = "npu-smi says -8005 until a reboot after driver and firmware were changed; see dmesg"
        return failed(found.errors["table"], way)
    if found.table is None:
        return failed("there is no npu-smi", "install the driver with --full --install-for-all")
    if found.driver is None:
        why = found.errors.get("driver", "/usr/local/Ascend/driver/version.info is missing")
        return failed(f"half installed: {why}", "install the driver again; see /var/log/ascend_seclog")
    status = (found.install or {}).get("Driver_Install_Status", "complete")
    if status != "complete":
        return failed(f"installation is {status}, says /etc/ascend_install.info", "install the driver again")
    if older(found.driver, found.table.version) or older(found.table.version, found.driver):
        said = f"on disk {found.driver}, npu-smi says {found.table.version}"
        return failed(said, "reboot (drained first), so that what was installed is loaded")
    return _new_enough(subject, found.driver, found.driver)


def _new_enough(subject: Subject, version: str, said: str) -> Verdict:
    assert subject.chip is not None
    wanted = [(subject.chip.health.oldest_driver, f"chip {subject.chip.name}")]
    if subject.serving:
        wanted.append((subject.serving.variant.versions.get("driver"), "the card"))
    for least, whose in wanted:
        if least and older(version, least):
            return failed(
                f"driver {said} is older than {least} of {whose}",
                "install a newer driver, or --force driver",
            )
    return ok(f"driver {said}")


def devices(subject: Subject) -> Verdict | None:
    """As many as the bus has and a host of the chip may have, with the chip's memory, none of them lost."""
    if subject.chip is None or subject.chip.detection.tool == "cpuinfo" or not subject.devices:
        return None
    chip, seen = subject.chip, subject.devices
    found: list[Verdict] = []
    spare = bool(subject.chosen) and subject.chosen <= {device.index for device in seen}
    missed = warning if spare else failed  # whether what is missing is none of those that serve
    complaint = subject.facts.device_errors.get(chip.detection.tool)
    if complaint:
        found.append(missed(complaint, REBOOT))
    lost = [device.index for device in seen if device.health == "lost"]
    found += subject.of_devices(lost, lambda which: f"device {which} does not answer", REBOOT)
    there = (subject.facts.bus or {}).get(chip.health.bus or "", 0)
    if there > len(seen):
        found.append(missed(f"{there} on the PCI bus, {chip.detection.tool} names {len(seen)}", REBOOT))
    elif chip.device_counts and len(seen) not in chip.device_counts:
        counts = ", ".join(map(str, chip.device_counts))
        found.append(warning(f"{len(seen)} devices; a host of this chip has {counts}", REBOOT))
    found += _sizes(subject)
    found += _held(subject)
    report = subject.facts.nvidia and subject.facts.nvidia.report
    if report and report.unread:
        found.append(unknown("; ".join(report.unread), "a newer flagprov may understand this driver"))
    per_card = Counter(device.card for device in seen if device.card is not None)
    torn = [card for card, count in per_card.items() if count != chip.detection.devices_per_card]
    if torn:
        found.append(warning(f"card {numbers(torn)} shows only a part of its devices", REBOOT))
    return worst(found, f"{len(seen)} devices")


def _sizes(subject: Subject) -> Iterable[Verdict]:
    assert subject.chip is not None
    allowed = subject.chip.device_memory_gib
    unread = [device.index for device in subject.devices if device.memory_mib is None]
    if unread:
        way = f"see what {subject.chip.detection.tool} says on the host"
        yield unknown(f"the memory of device {numbers(unread)} is not shown", way)
    odd = {
        round(device.memory_mib / 1024)
        for device in subject.devices
        if device.memory_mib and allowed and not _near(device.memory_mib / 1024, allowed)
    }
    if odd:
        sizes = ", ".join(map(str, sorted(odd)))
        yield warning(
            f"{sizes} GiB of memory; the chip has {', '.join(map(str, allowed))}", "is it partitioned?"
        )


def _held(subject: Subject) -> Iterable[Verdict]:
    """Memory that is in use without a process: of a process that died, or that the tool cannot see."""
    for device in subject.devices:
        used, size = device.used_mib or 0, device.memory_mib or 0
        if size and not device.processes and used > size * IDLE_SHARE:
            said = f"device {device.index}: {gib(used)} in use, and no process is named"
            yield warning(
                said, "fuser -v /dev/nvidia* /dev/davinci* shows who holds it; else reset the device"
            )


def _near(size: float, allowed: Iterable[int]) -> bool:
    return any(abs(size - each) <= each * SIZE_TOLERANCE for each in allowed)


def usable(subject: Subject) -> Verdict | None:
    """Every free device was allocated and computed on."""
    trials = subject.facts.use
    if not trials:
        way = "try it by hand: torch.ones(1).cuda(), or .npu()"
        return unknown(subject.unknown("use"), way) if "use" in subject.facts.unknown else None
    found = [
        failed(f"device {t.index}: {t.error}", "see `flagprov facts` and dmesg; reset it, or reboot")
        for t in trials
        if t.error
    ]
    tried = [trial.index for trial in trials if trial.tried and not trial.error]
    skipped: dict[str, list[int]] = {}
    for trial in trials:
        if not trial.tried:
            skipped.setdefault(trial.why, []).append(trial.index)
    left = "; ".join(f"device {numbers(indices)}: {why}" for why, indices in skipped.items())
    if not tried and not found:
        return unknown(left, "it is tried where devices are free and, on NPUs, the image is on the host")
    said = f"computed on device {numbers(tried)}" + (f"; {left}" if left else "")
    return worst(found, said)
