"""One host all the way: image, what the image is, weights, configuration, container, endpoint."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flagprov.apply.converge import OnEvent, converge, failed, to_restart
from flagprov.apply.lease import Lease, run_of
from flagprov.desired import host_desired
from flagprov.errors import FlagprovError, HostError, UnreachableError
from flagprov.models.desired import HostDesired, Placement, Replica, Resource
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import Survey
from flagprov.models.outcome import HostOutcome
from flagprov.models.plan import Plan
from flagprov.models.release import Image
from flagprov.preparation import Job
from flagprov.processors import operators
from flagprov.runner.facts import parse_facts
from flagprov.serving import image_key
from flagprov.transport import Session

STAGED = ("image", "image_facts", "weights", "directory", "tree")


@dataclass
class Brought:
    """A host's outcome, and what its endpoint said."""

    outcome: HostOutcome
    notes: Mapping[str, Any] = field(default_factory=dict)

    def after(self, provisioned: HostOutcome) -> Brought:
        """With what provisioning did to the same host before."""
        changes = self.outcome.changes + provisioned.changes
        state = self.outcome.state
        merged = replace(
            self.outcome,
            state="changed" if state == "unchanged" and changes else state,
            changes=changes,
            seconds={**provisioned.seconds, **self.outcome.seconds},
        )
        return Brought(merged, self.notes)


def failure(error: HostError) -> Brought:
    return Brought(failed(error, isinstance(error, UnreachableError)))


def _deployment(lease: Lease, job: Job) -> dict[str, Any]:
    """What the hosts write into their history."""
    return {
        "command": lease.wire["command"],
        "by": lease.wire["holder"],
        "at": lease.wire["since"],
        "run": run_of(lease.wire["token"]),
        "release": job.release.name,
        "set": list(job.sets),
    }


class Bringing:
    """What the hosts of one run share: an image is looked into by one of them, for all."""

    def __init__(
        self,
        job: Job,
        placement: Placement,
        lease: Lease | None,
        on_event: OnEvent,
        plan: Plan | None = None,
    ) -> None:
        self.job = job
        self.lease = lease  # None: looking only
        self.placement = placement
        self.deployment = _deployment(lease, job) if lease else {}  # who does what, for the hosts' history
        self.steps = [(part.host, step) for part in plan.hosts() for step in part.steps] if plan else []
        self.on_event = on_event
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def bring(self, session: Session, survey: Survey, digest: str, kept: Mapping[str, Any]) -> Brought:
        """`digest` is that of the plan's look; empty where the plan could not look so far.

        `kept`: what goes into this host's history besides.
        """
        host = session.host
        seconds: dict[str, float] = {}
        changes = 0
        desired = self.desired(session.host, survey)
        if desired.pending:
            changes += self._prepare_image(session, survey, desired, seconds)
            desired = self.desired(session.host, survey)
            digest = ""
        restarts = to_restart(step for name, step in self.steps if name == host.name)
        answer = self._converge(
            session, desired.resources, digest, {**self.deployment, **kept}, restarts, checked=True
        )
        changes += _add(answer, seconds)
        outcome = HostOutcome(host.name, "changed" if changes else "unchanged", changes, seconds=seconds)
        return Brought(outcome, answer["notes"])

    def start(
        self, session: Session, survey: Survey, kept: Mapping[str, Any], replicas: Sequence[Replica]
    ) -> Brought:
        """New engines in free slots, while the old ones serve on; the host's history has them as pending."""
        desired = self.desired(session.host, survey, Placement(tuple(replicas)))
        deployment = {**self.deployment, **kept}
        answer = self._converge(session, desired.resources, "", deployment, beside=True, checked=True)
        return Brought(HostOutcome(session.host.name, "changed", answer["changes"]), answer["notes"])

    def switch(self, session: Session, survey: Survey) -> Brought:
        """They are the replicas now, and what is in the other slots is gone."""
        seconds: dict[str, float] = {}
        answer = self._converge(session, self.desired(session.host, survey).resources, "")
        changes = _add(answer, seconds)
        return Brought(HostOutcome(session.host.name, "changed", changes, seconds=seconds), answer["notes"])

    def desired(self, host: Host, survey: Survey, placement: Placement | None = None) -> HostDesired:
        """Of all its replicas, or of those placed there only."""
        try:
            return host_desired(host.name, self.job.servings(host, placement or self.placement, survey))
        except HostError:
            raise
        except FlagprovError as error:  # the image's facts refuse what the release or the settings ask for
            raise HostError(host.name, "config", error.message, remedy=error.remedy) from None

    def stage(self, session: Session, survey: Survey, digest: str) -> Mapping[str, float]:
        """Everything that lies beside what runs: image, weights, the new configuration directory."""
        seconds: dict[str, float] = {}
        desired = self.desired(session.host, survey)
        if desired.pending:
            self._prepare_image(session, survey, desired, seconds)
            desired = self.desired(session.host, survey)
            digest = ""
        _add(self._converge(session, desired.resources, digest, only=STAGED), seconds)
        return seconds

    def _prepare_image(
        self, session: Session, survey: Survey, desired: HostDesired, seconds: dict[str, float]
    ) -> int:
        """Bring the image, and look into it unless somebody has."""
        known = [resource for resource in desired.resources if resource.kind != "image_facts"]
        answer = self._converge(session, known, "", checked=True)
        changes = _add(answer, seconds)
        for resource in desired.resources:
            if resource.kind == "image_facts":
                changes += self._look_into(session, survey, resource, seconds)
        return changes

    def _converge(
        self,
        session: Session,
        resources: Sequence[Resource],
        digest: str,
        deployment: Mapping[str, Any] | None = None,
        restarts: Sequence[str] = (),
        *,
        beside: bool = False,
        checked: bool = False,
        only: Sequence[str] = (),
    ) -> dict[str, Any]:
        assert self.lease, "a run that only looks has no lease"
        return converge(
            *(session, resources, digest, self.lease, self.on_event, deployment, restarts),
            beside=beside, checked=checked, only=only,
        )  # fmt: skip

    def learn(self, host: Host, survey: Survey, desired: HostDesired, notes: Mapping[str, Any]) -> bool:
        """Keep the image facts that a host knows already; whether there were any."""
        learned = False
        for resource in desired.resources:
            note = notes.get(resource.name) or {}
            if resource.kind == "image_facts" and note.get("facts"):
                self._keep(host, survey, resource, note)
                learned = True
        return learned

    def _look_into(
        self, session: Session, survey: Survey, resource: Resource, seconds: dict[str, float]
    ) -> int:
        key = self._key(session.host, survey, resource)
        with self._locks[key]:
            if self.job.site.facts(key):
                return 0
            begun = time.monotonic()
            answer = self._converge(session, [resource], "")
            seconds["image"] = seconds.get("image", 0.0) + time.monotonic() - begun
            self._keep(session.host, survey, resource, answer["notes"][resource.name])
            return int(answer["changes"])

    def _key(self, host: Host, survey: Survey, resource: Resource, image: Image | None = None) -> str:
        image = image or self.job.variants[host.name].image
        return f"{image_key(image, str(host.chip), survey.arch)}-{resource.spec['probe']}"

    def _keep(self, host: Host, survey: Survey, resource: Resource, note: Mapping[str, Any]) -> None:
        image = self.job.variants[host.name].image
        facts = parse_facts(note["image"], note["facts"])
        chip = self.job.chips[str(host.chip)]
        _, why = operators(chip, self.job.variants[host.name], facts)
        if why:
            text = f"native operators instead of FlagGems: {why}"
            self.on_event(Event(time.time(), host.name, "note", "image", "operators", text))
        if image.digests:
            self.job.site.save_facts(self._key(host, survey, resource), facts)
        else:  # from now on it is known, and wanted, by its digest
            self.job.site.name_facts(self._key(host, survey, resource), facts)
            self.job.site.lock_image(self.job.release.name, str(host.chip), image.reference, note["image"])
            locked = image.model_copy(update={"digests": (note["image"],)})
            self.job.site.save_facts(self._key(host, survey, resource, locked), facts)


def _add(answer: Mapping[str, Any], seconds: dict[str, float]) -> int:
    for stage, took in answer["seconds"].items():
        seconds[stage] = round(seconds.get(stage, 0.0) + took, 3)
    return int(answer["changes"])
