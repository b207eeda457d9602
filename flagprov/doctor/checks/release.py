"""Checks of a release against a host: image, weights, devices and memory."""

from __future__ import annotations

import math
import re
from pathlib import PurePosixPath

from flagprov.catalog.fit import parallel as misfits
from flagprov.doctor import tags
from flagprov.doctor.subject import Serving, Subject, Verdict, failed, gib, ok, unknown, warning, worst
from flagprov.processors import ROOM, model_bytes, operators
from flagprov.versions import begins_with, major, older

PULL = "it is known once the image is on a host"
ARCHES = {"amd64": "x86_64", "arm64": "aarch64"}


def image(subject: Subject) -> Verdict | None:
    """The registry has it, and its name or configuration is not one of another chip or architecture."""
    serving, chip = subject.serving, subject.chip
    if serving is None or chip is None:
        return None
    found = [*_for_another_chip(subject, serving)]
    said = subject.facts.image
    arches = [ARCHES.get(arch, arch) for arch in said.arches] if said else []
    if serving.image and serving.image.arch:
        arches = [ARCHES.get(serving.image.arch, serving.image.arch)]
    machine = subject.facts.system.arch if subject.facts.system else ""
    if said and said.where in ("missing", "unreachable") and not subject.before_provisioning:
        found.append(failed(f"{serving.reference}: {said.why}", _elsewhere(said.where, serving)))
    elif arches and machine and machine not in arches:
        way = "choose an image for this machine: --set image=NAME"
        found.append(failed(f"it is for {', '.join(arches)}, the machine is {machine}", way))
    elif not arches and not found:
        tag = tags.parse(serving.variant.image.pulled.reference)
        if tag.arch is None or not machine:
            why = said.why if said and said.why else subject.unknown("image")
            found.append(unknown(f"architecture: {why}", PULL))
        elif tag.arch != machine:
            found.append(failed(f"its name says {tag.arch}, the machine is {machine}", "--set image=NAME"))
    return worst(found, f"{', '.join(arches) or machine}")


def _elsewhere(where: str, serving: Serving) -> str:
    ways = {
        "missing": "is the name right, and does flagprov_registries map its registry to yours?",
        "unreachable": "is the registry up, and may dockerd reach it (proxy, insecure-registries, mirror)?",
    }
    others = serving.variant.image.pulled.alternatives
    published = f"\npublished as well as {', '.join(others)}: --set image=NAME" if others else ""
    return ways[where] + published


def _for_another_chip(subject: Subject, serving: Serving) -> list[Verdict]:
    chip, name = subject.chip, serving.variant.image.pulled.reference
    assert chip is not None
    tag = tags.parse(name)
    way = "choose the release's image for this chip, or --force image"
    if tag.vendor and chip.images.vendor and tag.vendor != chip.images.vendor:
        return [failed(f"its name says {tag.vendor}, chip {chip.name} is of {chip.images.vendor}", way)]
    if tag.code and chip.images.codes and tag.code not in chip.images.codes:
        return [
            warning(f"its name says device {tag.code}, {chip.name} is {', '.join(chip.images.codes)}", way)
        ]
    own = name.rsplit("/", 1)[-1]
    if any(re.search(pattern, own) for pattern in chip.images.patterns):
        return []
    others = [
        each.name
        for each in subject.chips.values()
        if each.name != chip.name and any(re.search(pattern, own) for pattern in each.images.patterns)
    ]
    return [failed(f"its name {own} is that of an image for {', '.join(others)}", way)] if others else []


def sdk(subject: Subject) -> Verdict | None:
    """CUDA or CANN of the image against the driver of the host."""
    serving, chip = subject.serving, subject.chip
    if serving is None or chip is None or chip.health.sdk is None:
        return None
    version = _sdk_version(subject, serving)
    if version is None and _of_host(subject):
        way = "install CANN there, correct flagprov_cann_path, or set flagprov_cann: image"
        return failed("containers are to use the host's CANN, and there is none", way)
    if version is None:
        return unknown(f"what {chip.health.sdk.upper()} the image has is known once it was looked into", PULL)
    return _cuda(subject, version) if chip.health.sdk == "cuda" else _cann(subject, version)


def _of_host(subject: Subject) -> bool:
    return bool(subject.chip and subject.chip.host_sdk) and subject.host.cann == "host"


def _sdk_version(subject: Subject, serving: Serving) -> str | None:
    """From the image itself, else its configuration, else its name."""
    assert subject.chip is not None
    kind = subject.chip.health.sdk
    if _of_host(subject):
        return subject.facts.ascend.cann if subject.facts.ascend else None
    probed = serving.image and (serving.image.cuda if kind == "cuda" else serving.image.cann)
    if probed:
        return probed
    told = subject.facts.image.env if subject.facts.image else {}
    configured = told.get("CUDA_VERSION" if kind == "cuda" else "CANN_VERSION")
    if configured:
        return configured
    tag = tags.parse(serving.variant.image.pulled.reference)
    return tag.sdk_version if tag.sdk == kind else None


def _cuda(subject: Subject, version: str) -> Verdict:
    report = subject.facts.nvidia and subject.facts.nvidia.report
    takes = report.cuda if report else None
    if takes is None:
        return unknown(
            f"the image has CUDA {version}; nvidia-smi does not say what the driver takes", "see nvidia-smi"
        )
    way = "install a driver for it (role nvidia_driver), or choose an image with an older CUDA"
    wanted, most = major(version), major(takes)
    if wanted is not None and most is not None and wanted > most:
        return failed(f"the image has CUDA {version}, the driver takes {takes} at most", way)
    if older(takes, ".".join(version.split(".")[:2])):
        return warning(
            f"CUDA {version} on a driver of {takes}: minor versions fit, compiling PTX may not", way
        )
    return ok(f"CUDA {version}, the driver takes {takes}")


def _cann(subject: Subject, version: str) -> Verdict:
    ascend = subject.facts.ascend
    driver = ascend.driver if ascend else None
    if driver is None or subject.chip is None:
        return unknown(f"CANN is {version}; the driver's version is not known", "see the check `driver`")
    table = subject.chip.health.sdk_drivers
    least = next((oldest for start, oldest in table.items() if begins_with(version, start)), None)
    if least is None:
        said = f"CANN {version} on driver {driver}: no pair in the table of this chip"
        return unknown(said, "see Huawei's compatibility table; flagprov's is sdk_drivers in the chip's file")
    if older(driver, least):
        return failed(
            f"CANN {version} wants driver {least} or newer, here is {driver}",
            "install a newer driver and firmware (role ascend_driver), or --force sdk",
        )
    return ok(f"CANN {version}, driver {driver}")


def driver_hint(subject: Subject) -> Verdict | None:
    """The driver in an image's name is that of the host on which it was built: a hint, no more."""
    if subject.serving is None or subject.chip is None:
        return None
    hint = tags.parse(subject.serving.variant.image.pulled.reference).driver
    nvidia, ascend = subject.facts.nvidia, subject.facts.ascend
    here = (nvidia.loaded.version if nvidia and nvidia.loaded else None) or (
        ascend.driver if ascend else None
    )
    if hint is None or here is None:
        return None
    if older(here, hint):
        return warning(f"built beside driver {hint}, here is {here}", f"driver {hint} is known to work")
    return ok(f"built beside driver {hint}, here is {here}")


def weights(subject: Subject) -> Verdict | None:
    if subject.serving is None:
        return None
    path = PurePosixPath(subject.serving.release.weights.path)
    container = subject.serving.variant.container
    if not any(path.is_relative_to(mount.target) for mount in container.mounts):
        return failed(f"{path} lies under none of the container's mounts", "correct weights or mounts")
    found = subject.facts.path(subject.serving.weights)
    if found and not found.exists:
        source = subject.serving.release.weights.source
        return warning(f"{subject.serving.weights} is not there yet", f"bring {source} there")
    return ok(f"{subject.serving.weights} is mounted as {path}")


def parallel(subject: Subject) -> Verdict | None:
    """Ways of parallelism against heads, and devices against what is free."""
    serving = subject.serving
    if serving is None:
        return None
    found = [
        failed(message, f"--set {'.'.join(key)}=N")
        for key, message in misfits(serving.variant, serving.release.model)
    ]
    if serving.refusal and not (serving.refusal.no_device and subject.before_provisioning):
        found.append(failed(serving.refusal.message, serving.refusal.remedy))
    placed = ", ".join(f"{len(replica.devices)} for {replica.name}" for replica in serving.replicas)
    return worst(found, f"devices: {placed}" if placed else "it fits")


def memory(subject: Subject) -> Verdict | None:
    """Parameters x bytes x 1.2 against the memory of the replica's devices."""
    serving = subject.serving
    if serving is None or subject.chip is None:
        return None
    model, variant = serving.release.model, serving.variant
    size = model_bytes(variant, model)
    if size is None:
        dtype = variant.serve.get("dtype") or model.dtype or "none"
        missing = "parameters" if model.parameters is None else f"the size of dtype {dtype}"
        return unknown(f"the release does not say {missing}", "it stands under model in the release")
    need = size * ROOM / variant.nodes / (1 << 20)
    chosen = {index for replica in serving.replicas for index in replica.devices}
    sizes = sorted(
        d.memory_mib for d in subject.devices if d.memory_mib and (d.index in chosen or not chosen)
    )
    if not sizes:
        return unknown("the memory of the devices is not known", "see the check `devices`")
    there = sizes[0] * variant.devices
    if subject.chip.resource_type == "cpu":  # an engine on processors may use all of the host's memory
        there = (subject.facts.system and subject.facts.system.memory_mib) or there
    if need > there:
        devices = math.ceil(need / sizes[0])
        way = f"use {devices} devices or more: --set devices=N --set serve.tensor_parallel_size=N"
        if subject.chip.resource_type == "cpu":
            way = "use a host with more memory"
        return failed(f"the model needs about {gib(need)}, there are {gib(there)}", way)
    return ok(f"about {gib(need)} of {gib(there)}")


def eager(subject: Subject) -> Verdict | None:
    """FlagGems compiles kernels as they are met, which cannot happen while a graph is captured."""
    serving, chip = subject.serving, subject.chip
    if serving is None or chip is None:
        return None
    if operators(chip, serving.variant, serving.image)[0] != "flaggems":
        return None
    if serving.variant.launch.kind == "command" or serving.variant.serve.get("enforce_eager") is True:
        return ok("enforce_eager with FlagGems")
    return failed(
        "FlagGems is on, and enforce_eager is not", "--set serve.enforce_eager=true, or operators=native"
    )
