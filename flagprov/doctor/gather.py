"""Asking hosts for facts: what to ask, and the answers of a whole fleet together.

Checks are imported when a host is examined: a pass that changes nothing examines none.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flagprov.access import fit_chip
from flagprov.desired import image_resource
from flagprov.errors import HostError
from flagprov.models.chip import Chip
from flagprov.models.desired import Placement
from flagprov.models.fleet import Host
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Look, Problem, Survey
from flagprov.models.release import Release, Variant
from flagprov.preparation import Job
from flagprov.processors import operators
from flagprov.report.text import count
from flagprov.serving import host_path, site_reference
from flagprov.transport import Connections, Session

if TYPE_CHECKING:
    from flagprov.doctor.subject import Serving
    from flagprov.models.facts import HostFacts
    from flagprov.models.finding import Finding

NEW = {("image", "pull"), ("image_facts", "probe"), ("container", "create"), ("unit", "start")}


def ask(session: Session, payload: Mapping[str, Any]) -> HostFacts:
    """One request; the host's clock is compared with ours when the answer comes in."""
    return facts_of(session.host.name, session.ask({"op": "facts", **payload}), time.time())


def facts_of(host: str, answer: Mapping[str, Any], now: float) -> HostFacts:
    """`now` is when the answer came in."""
    from flagprov.doctor.read import read_facts

    offset = float(answer.get("time") or 0) - now
    return read_facts(host, {**answer, "clock_offset_s": round(offset, 3)})


def roots(host: Host, chip: Chip | None, releases: Sequence[Release]) -> list[str]:
    """Where weights lie on this host: what the site says, else what releases for its chip mount."""
    if host.weights_root:
        return [host.weights_root]
    return sorted({each.weights.root for each in releases if chip and chip.name in each.variants})


def is_new(look: Look) -> bool:
    """Whether something is to run that does not run there now; what serves has shown that its host works."""
    return any((change.kind, change.action) in NEW for change in look.changes)


class Examination:
    """The checks of one run: facts of its hosts, and what they mean for the release there."""

    def __init__(self, job: Job, placement: Placement, surveys: Mapping[str, Survey]) -> None:
        self.job = job
        self.placement = placement
        self._surveys = surveys
        self.facts: dict[str, HostFacts] = {}
        self._warned: set[tuple[str, str]] = set()

    def ask(self, session: Session, survey: Survey) -> None:
        """Keep the facts of a host; may be called from several threads."""
        self.facts[session.host.name] = ask(session, self.payload(session.host, survey))

    def ask_all(
        self, connections: Connections, hosts: Sequence[Host], surveys: Mapping[str, Survey]
    ) -> dict[str, HostError]:
        """Ask many hosts; the errors of those that did not answer."""
        answers = connections.each(hosts, lambda session: self.ask(session, surveys[session.host.name]))
        return {name: error for name, error in answers.items() if isinstance(error, HostError)}

    def findings(self, host: Host, before_provisioning: bool = False) -> tuple[Finding, ...]:
        """Nothing for a host that was not asked."""
        facts = self.facts.get(host.name)
        if facts is None:
            return ()
        from flagprov.doctor.examine import examine
        from flagprov.doctor.subject import Subject

        subject = Subject(
            host=host,
            facts=facts,
            chip=self.job.chips[str(host.chip)],
            chips=self.job.chips,
            serving=self._serving(host),
            peers={name: other for name, other in self.facts.items() if name != host.name},
            before_provisioning=before_provisioning,
        )
        return examine(subject, self.job.force)

    def problems(self, name: str, before_provisioning: bool = False) -> list[Problem]:
        """Why the host is to be left out: failures that nobody has overruled."""
        host = next(host for host in self.job.fleet.hosts if host.name == name)
        findings = self.findings(host, before_provisioning)
        self._warned.update((each.check, name) for each in findings if each.state == "warning" or each.forced)
        standing = (each for each in findings if each.state == "failed" and not each.forced)
        return [Problem(each.check, each.message, _way_out(each)) for each in standing]

    def pulls(self) -> dict[str, int]:
        """MiB that the images need which hosts are yet to pull; nothing where that does not count."""
        known = {} if "space" in self.job.force else self.facts
        return {name: found.image.need_mib for name, found in known.items() if found.image}

    def notes(self) -> list[str]:
        """What did not stop anything, in one line."""
        hosts: dict[str, list[str]] = {}
        for check, host in sorted(self._warned):
            hosts.setdefault(check, []).append(host)
        told = ", ".join(f"{check} on {count(len(on), 'host')}" for check, on in hosts.items())
        lines = [f"warnings of checks: {told}; `flagprov doctor` says more"] if told else []
        return lines + self._native()

    def _native(self) -> list[str]:
        """Where FlagGems is asked for and cannot be, as far as images have been looked into."""
        reasons: dict[str, int] = {}
        for host in self.job.fleet.hosts:
            chip, variant = self.job.chips[str(host.chip)], self.job.variants[host.name]
            if chip.resource_type != "cpu" or not self.placement.on(host.name):
                continue
            _, why = operators(chip, variant, self._image_facts(host))
            if why:
                reasons[why] = reasons.get(why, 0) + 1
        return [
            f"native operators instead of FlagGems on {count(number, 'host')}: {why}"
            for why, number in reasons.items()
        ]

    def _serving(self, host: Host) -> Serving:
        from flagprov.doctor.subject import Serving

        release, variant = self.job.release, self.job.variants[host.name]
        refusal = next((each for each in self.placement.refusals if each.host == host.name), None)
        return Serving(
            release=release,
            variant=variant,
            reference=site_reference(variant.image.pulled.reference, host.registries),
            weights=host_path(release.weights.path.rstrip("/"), release, host),
            sources=_sources(release, variant, host, self.job.chips[str(host.chip)]),
            optional=_sources(release, variant, host, self.job.chips[str(host.chip)], optional=True),
            replicas=self.placement.on(host.name),
            refusal=refusal,
            image=self._image_facts(host),
        )

    def _image_facts(self, host: Host) -> ImageFacts | None:
        seen = self._surveys.get(host.name)
        return self.job.image_facts(host, seen.arch) if seen else None

    def payload(self, host: Host, survey: Survey) -> dict[str, Any]:
        """What to ask a host for."""
        serving = self._serving(host)
        running = {each.replica for each in survey.running if each.state == "running"}
        starting = [replica for replica in serving.replicas if replica.name not in running]
        tool = self.job.chips[str(host.chip)].detection.tool
        devices = sorted({index for replica in starting for index in replica.devices})
        # A trial gets its devices by mounts, whatever brings them to replicas.
        chip = fit_chip(self.job.chips[str(host.chip)], replace(host, ascend_access="mounts"))
        image = image_resource(serving.variant.image, host).spec
        asked: dict[str, Any] = {
            "paths": [*serving.sources, serving.weights, *serving.optional],
            "ports": [replica.port for replica in starting],
            "image": {key: image[key] for key in ("reference", "digests", "brought", "base") if key in image},
            "use": {tool: devices} if devices and tool != "cpuinfo" else {},
        }
        if serving.variant.nodes > 1:
            asked["spanning"] = True
        if host.cann_path:
            asked["cann"] = host.cann_path.rstrip("/")
        if asked["use"] and tool == "npu-smi":
            mounts = [[m.source, m.target] for m in chip.mounts if not m.several_nodes]
            asked["npu"] = {
                **asked["image"], "nodes": chip.device_nodes, "mounts": mounts, "source": chip.source,
                **serving.variant.container.model_dump(include={"cap_drop", "cap_add", "security_opt"}),
            }  # fmt: skip
        return asked


def _way_out(finding: Finding) -> str:
    return f"{finding.remedy}\nto go on all the same: --force {finding.check}".lstrip()


def _sources(
    release: Release, variant: Variant, host: Host, chip: Chip, *, optional: bool = False
) -> tuple[str, ...]:
    """What the release mounts and no role brings."""
    brought = {mount.source for mount in chip.mounts}
    mounts = [mount for mount in variant.container.mounts if mount.optional is optional]
    return tuple(dict.fromkeys(host_path(m.source, release, host) for m in mounts if m.source not in brought))
