"""What a check looks at, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from flagprov.models.chip import Chip
from flagprov.models.desired import Refusal, Replica
from flagprov.models.facts import HostFacts
from flagprov.models.finding import FindingState
from flagprov.models.fleet import Host
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Device
from flagprov.models.release import Release, Variant


@dataclass(frozen=True, slots=True)
class Serving:
    """What the release, with the fleet's settings, asks of the host."""

    release: Release
    variant: Variant
    reference: str  # of the image, as this site pulls it
    weights: str  # path on this host
    sources: tuple[str, ...] = ()  # mounts that the host has to have
    optional: tuple[str, ...] = ()  # mounts that a container goes without where the host lacks them
    replicas: tuple[Replica, ...] = ()  # placed here
    refusal: Refusal | None = None  # why none could be placed
    image: ImageFacts | None = None  # where somebody has looked into the image already


@dataclass(frozen=True, slots=True)
class Subject:
    host: Host
    facts: HostFacts
    chip: Chip | None = None
    chips: Mapping[str, Chip] = field(default_factory=dict)
    serving: Serving | None = None
    peers: Mapping[str, HostFacts] = field(default_factory=dict)  # the fleet's other hosts
    before_provisioning: bool = False  # roles will still bring what they bring

    @property
    def devices(self) -> tuple[Device, ...]:
        return self.facts.devices.get(self.chip.detection.tool, ()) if self.chip else ()

    @property
    def chosen(self) -> frozenset[int]:
        """Devices that the release uses or would use here; empty where that is not known."""
        replicas = self.serving.replicas if self.serving else ()
        return frozenset(index for replica in replicas for index in replica.devices)

    @property
    def spans_hosts(self) -> bool:
        """Whether the release runs over several hosts here."""
        return self.serving is not None and self.serving.variant.nodes > 1

    @property
    def partners(self) -> Mapping[str, HostFacts]:
        """The other hosts of its replicas, as far as they were asked."""
        replicas = self.serving.replicas if self.serving else ()
        names = {name for replica in replicas for name in replica.hosts}
        return {name: facts for name, facts in self.peers.items() if name in names}

    def of_device(self, index: int, message: str, remedy: str) -> Verdict:
        """A failure where the device would serve, and a warning where others do."""
        return (failed if not self.chosen or index in self.chosen else warning)(message, remedy)

    def of_devices(self, indices: Sequence[int], message: Callable[[str], str], remedy: str) -> list[Verdict]:
        """The same for several at once; `message` is given their numbers."""
        serving = [index for index in indices if not self.chosen or index in self.chosen]
        spare = [index for index in indices if index not in serving]
        found = [failed(message(numbers(serving)), remedy)] if serving else []
        return found + ([warning(message(numbers(spare)), remedy)] if spare else [])

    def unknown(self, fact: str) -> str:
        return self.facts.unknown.get(fact, "the host does not say")


@dataclass(frozen=True, slots=True)
class Verdict:
    state: FindingState
    message: str
    remedy: str = ""


def ok(message: str) -> Verdict:
    return Verdict("ok", message)


def warning(message: str, remedy: str) -> Verdict:
    return Verdict("warning", message, remedy)


def failed(message: str, remedy: str) -> Verdict:
    return Verdict("failed", message, remedy)


def unknown(message: str, remedy: str) -> Verdict:
    return Verdict("unknown", message, remedy)


_ORDER: tuple[FindingState, ...] = ("failed", "warning", "unknown", "ok")


def worst(verdicts: list[Verdict], fine: str) -> Verdict:
    """One verdict for several: the worst state, all that is in this state, and the ways out."""
    if not verdicts:
        return ok(fine)
    state = min((verdict.state for verdict in verdicts), key=_ORDER.index)
    told = [verdict for verdict in verdicts if verdict.state == state]
    remedies = dict.fromkeys(verdict.remedy for verdict in told if verdict.remedy)
    return Verdict(state, "; ".join(verdict.message for verdict in told), "\n".join(remedies))


def numbers(indices: list[int]) -> str:
    """0, 1, 2, 5 -> 0-2, 5."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def gib(mib: int | float) -> str:
    return f"{mib / 1024:.0f} GiB" if mib >= 10240 else f"{mib / 1024:.1f} GiB"
