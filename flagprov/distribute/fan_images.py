"""Images for hosts that do not pull them: fetched once, then from host to host, to each host's dockerd.

What speaks to registries and spreads files is imported by who needs it: most runs lack no image.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flagprov.apply.converge import OnEvent, host_event
from flagprov.distribute.content import Here
from flagprov.errors import FlagprovError, HostError
from flagprov.models.event import Event
from flagprov.models.fleet import Host
from flagprov.models.observed import Look, Problem, Survey
from flagprov.models.outcome import HostOutcome
from flagprov.preparation import Job
from flagprov.serving import STATE, site_reference
from flagprov.transport import Connections, Session

if TYPE_CHECKING:
    from flagprov.distribute.images import FromRegistry, Parts
    from flagprov.distribute.layouts import ImageLayout

    Find = Callable[[Host, str], ImageLayout]  # host and processor -> the image that it lacks


@dataclass(slots=True)
class Images:
    """What one run does about images that are fanned out."""

    job: Job
    connections: Connections
    on_event: OnEvent
    lease: Mapping[str, Any] | None = None
    failures: dict[str, HostError] = field(default_factory=dict)
    outcomes: dict[str, HostOutcome] = field(default_factory=dict)
    touched: tuple[str, ...] = ()

    def bring(self, hosts: Sequence[Host], surveys: Mapping[str, Survey], find: Find) -> None:
        """Outcomes of the hosts that have got their image, failures of those that have not."""
        from flagprov.distribute.images import ARCHITECTURES

        self.touched = tuple(host.name for host in hosts)
        groups: dict[str, tuple[ImageLayout, list[Host]]] = {}
        for host in hosts:
            arch = surveys[host.name].arch
            try:
                layout = find(host, ARCHITECTURES.get(arch, arch))
            except FlagprovError as error:
                self.failures[host.name] = HostError(host.name, "image", error.message, remedy=error.remedy)
                continue
            groups.setdefault(layout.manifest, (layout, []))[1].append(host)
        for layout, members in groups.values():
            self._spread(layout, members)

    def _spread(self, layout: ImageLayout, hosts: Sequence[Host]) -> None:
        from flagprov.distribute.fan_out import Target, Transfer

        path = f"{STATE}/oci/{layout.root.name}"
        reached = self.connections.each(hosts, lambda session: session.ask({"op": "reach", "path": path}))
        targets = [
            Target(host, path, tuple(found["addresses"]))
            for host in hosts
            if not isinstance(found := reached[host.name], HostError)
        ]
        self.failures.update({name: e for name, e in reached.items() if isinstance(e, HostError)})
        if not targets:
            return
        transfer = Transfer(
            *(self.connections, self.job.site, layout.content, Here(layout.root), targets, self.on_event),
            lease=self.lease,
            stage="image",
        )
        answers = transfer.run()
        self.failures.update({name: e for name, e in answers.items() if isinstance(e, HostError)})
        arrived = [target.host for target in targets if target.host.name not in self.failures]
        loaded = self.connections.each(arrived, lambda session: self._load(session, layout, path))
        for name, took in loaded.items():
            answer = answers[name]
            if isinstance(took, HostError):
                self.failures[name] = took
            elif not isinstance(answer, HostError):
                seconds = {"image": round(float(answer["seconds"]) + took, 3)}
                self.outcomes[name] = HostOutcome(name, "changed", 1, seconds=seconds)

    def _load(self, session: Session, layout: ImageLayout, path: str) -> float:
        host = session.host
        begun = time.monotonic()
        image = self.job.variants[host.name].image
        reference = site_reference(image.reference, host.registries)
        spec = {
            "path": path,
            "reference": reference,
            "manifest": layout.manifest,
            "digests": list(image.digests),
        }

        def said(message: Mapping[str, Any]) -> None:
            step = {**message, "stage": "image", "step": f"load {reference}"}
            self.on_event(host_event(host.name, step))

        session.ask({"op": "load", "spec": spec, "lease": self.lease}, said)
        return time.monotonic() - begun


def lacking(looks: Mapping[str, Look]) -> list[str]:
    """Hosts whose look says that an image has to be brought."""
    return [
        name
        for name, seen in looks.items()
        if any(change.kind == "image" and change.action == "bring" for change in seen.changes)
    ]


def bring(
    job: Job,
    connections: Connections,
    looks: Mapping[str, Look],
    surveys: Mapping[str, Survey],
    excluded: Collection[str],
    on_event: OnEvent,
    lease: Mapping[str, Any] | None = None,
) -> Images:
    """Fetch each image that hosts lack once, and spread it."""
    work = Images(job, connections, on_event, lease)
    names = set(lacking(looks)) - set(excluded)
    if names:
        hosts = [host for host in job.fleet.hosts if host.name in names]
        if job.bundle is not None:
            bundle = job.bundle
            work.bring(hosts, surveys, lambda host, arch: bundle.image(str(host.chip), arch))
        else:
            with ExitStack() as stack:
                work.bring(hosts, surveys, _Upstream(job, on_event, stack).find)
    return work


def answerable(
    job: Job, looks: Mapping[str, Look], surveys: Mapping[str, Survey]
) -> tuple[dict[str, Look], dict[str, int]]:
    """The looks, where an image that nobody can give is a problem; the image's bytes for other hosts."""
    names = lacking(looks)
    found: dict[str, Look] = dict(looks)
    sizes: dict[str, int] = {}
    if not names:
        return found, sizes
    from flagprov.distribute.images import ARCHITECTURES

    hosts = [host for host in job.fleet.hosts if host.name in names]
    with ExitStack() as stack:
        upstream = _Upstream(job, lambda event: None, stack)
        for host in hosts:
            arch = surveys[host.name].arch
            try:
                if job.bundle is not None:
                    content = job.bundle.image(str(host.chip), ARCHITECTURES.get(arch, arch)).content
                    sizes[host.name] = content.total
                else:
                    parts = upstream.ask(host, ARCHITECTURES.get(arch, arch))
                    sizes[host.name] = sum(parts.blobs.values())
            except FlagprovError as error:
                found[host.name] = _refused(job, host, found[host.name], error)
    return found, sizes


def _refused(job: Job, host: Host, seen: Look, error: FlagprovError) -> Look:
    others = job.variants[host.name].image.alternatives
    known = f"It is also known as {', '.join(others)}. " if others else ""
    changes = tuple(change for change in seen.changes if change.kind != "image")
    return replace(
        seen,
        changes=changes,
        problems=(*seen.problems, Problem("image", error.message, f"{known}{error.remedy}")),
    )


class _Upstream:
    """The registries, each image asked for once."""

    def __init__(self, job: Job, on_event: OnEvent, stack: ExitStack) -> None:
        self.job, self.on_event, self.stack = job, on_event, stack
        self._asked: dict[tuple[str, str], Parts | FlagprovError] = {}
        self._found: dict[tuple[str, str], ImageLayout] = {}

    def ask(self, host: Host, architecture: str) -> Parts:
        """Raises what is wrong with the host's image: not there, another one, none for its processor."""
        from flagprov.distribute.images import check_locked

        image = self.job.variants[host.name].image
        key = site_reference(image.reference, host.registries), architecture
        if key not in self._asked:
            try:
                parts = self._source(host, key[0]).parts([architecture])
                check_locked(key[0], parts, {str(host.chip): image.digests})
                self._asked[key] = parts
            except FlagprovError as error:
                self._asked[key] = error
        answer = self._asked[key]
        if isinstance(answer, FlagprovError):
            raise answer
        return answer

    def find(self, host: Host, architecture: str) -> ImageLayout:
        from flagprov.distribute.layouts import fetch_layout

        image = self.job.variants[host.name].image
        reference = site_reference(image.reference, host.registries)
        if (reference, architecture) not in self._found:
            source = self._source(host, reference)

            def say(text: str) -> None:
                self.on_event(Event(time.time(), "", "progress", "image", f"fetch {reference}", text))

            self._found[reference, architecture] = fetch_layout(
                source, reference, architecture, image.digests, cache_of(self.job), say
            )
        return self._found[reference, architecture]

    def _source(self, host: Host, reference: str) -> FromRegistry:
        from flagprov.distribute.images import FromRegistry
        from flagprov.distribute.registry import registry_of

        return FromRegistry(self.stack.enter_context(registry_of(reference, host)), reference)


def cache_of(job: Job) -> Path:
    """Where the controller keeps images that it fans out; large, so it may be elsewhere."""
    base = os.environ.get("FLAGPROV_IMAGE_CACHE")
    return Path(base) if base else job.site.root / "oci"
