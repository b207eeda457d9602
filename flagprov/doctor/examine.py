"""All checks, in the order in which they are shown, and what they say of one host."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from flagprov.doctor.checks import device, gpu, machine, npu, rdma, release, storage
from flagprov.doctor.subject import Subject, Verdict
from flagprov.errors import UsageError
from flagprov.models.finding import Finding


@dataclass(frozen=True, slots=True)
class Check:
    """`brought`: provisioning may mend it, so that it says nothing before."""

    name: str
    about: str
    look: Callable[[Subject], Verdict | None]
    brought: bool = False


CHECKS = (
    Check("arch", "the machine's architecture is the chip's", machine.arch),
    Check("chip", "the tools name the chip that the inventory says", machine.chip),
    Check("processor", "the processor's features that the chip has", machine.processor),
    Check("driver", "loaded, on disk and reported are one version, new enough", device.driver, True),
    Check("devices", "all devices of the bus are named, with the chip's memory", device.devices, True),
    Check("fabric", "the fabric between GPUs is completed, its manager the driver's", gpu.fabric, True),
    Check("nvlink", "all NVLinks are up", gpu.links, True),
    Check("mig", "GPUs are not partitioned", gpu.mig),
    Check("compute-mode", "several processes may use a GPU", gpu.compute_mode),
    Check("persistence", "the driver stays loaded", gpu.persistence, True),
    Check("ecc", "no uncorrected errors, no remapped rows that wait or failed", gpu.memory_errors),
    Check("xid", "no fatal message of the driver since boot", gpu.xids),
    Check("npu-health", "no NPU has an alarm", npu.health),
    Check("npu-numbers", "logical and physical numbers of NPUs agree", npu.numbering),
    Check("npu-network", "the NPUs' own network ports", npu.network),
    Check("rdma", "RDMA ports are up, and alike on the hosts of a replica", rdma.ports),
    Check("gpudirect", "RDMA cards reach the GPUs' memory", rdma.gpudirect, True),
    Check("usable", "free devices can be allocated and computed on", device.usable, True),
    Check("docker", "an engine answers, at least the card's version", machine.docker, True),
    Check("mounts", "what the release mounts is there, and the same on all hosts", storage.mounts),
    Check("space", "room for the image", storage.space, True),
    Check("ports", "the replica's ports are free", machine.ports),
    Check("network", "interfaces are up, one MTU", machine.interfaces),
    Check("clock", "the clock is kept, and agrees with this controller's", machine.clock, True),
    Check("image", "the registry has it, for this chip and architecture", release.image),
    Check("sdk", "CUDA or CANN of the image fits the driver", release.sdk, True),
    Check("driver-hint", "the driver in the image's name", release.driver_hint, True),
    Check("weights", "the weights' path lies under a mount", release.weights),
    Check("parallel", "parallelism divides the heads, devices are free", release.parallel),
    Check("memory", "the model fits the devices", release.memory),
    Check("eager", "enforce_eager with FlagGems", release.eager),
)
NAMES = tuple(check.name for check in CHECKS)


def check_forced(forced: Collection[str]) -> None:
    """Names after --force are names of checks."""
    from difflib import get_close_matches

    for name in forced:
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            hint = f"did you mean {near[0]}?" if near else f"checks are {', '.join(NAMES)}"
            raise UsageError(f"--force {name}: there is no such check", remedy=hint)


def examine(subject: Subject, forced: Collection[str] = ()) -> tuple[Finding, ...]:
    """What every check that means something on this host says."""
    found = []
    for check in CHECKS:
        if check.brought and subject.before_provisioning:
            continue
        verdict = check.look(subject)
        if verdict:
            overruled = verdict.state == "failed" and check.name in forced
            found.append(
                Finding(
                    check.name, subject.host.name, verdict.state, verdict.message, verdict.remedy, overruled
                )
            )
    return tuple(found)
