"""Images for hosts that do not pull them: fetched once, then from host to host, to each host's dockerd.

What speaks to registries and spreads files is imported by who needs it: most runs lack no image.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flagprov.apply.converge import OnEvent, host_event
from flagprov.distribute.content import Content, Here
from flagprov.distribute.disk import on_disk
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

CACHE = "FLAGPROV_IMAGE_CACHE"
T = TypeVar("T")
Layers = tuple[tuple[str, int], ...]  # digest and size, lowest first


@dataclass(slots=True)
class Images:
    """What one run does about images that are fanned out."""

    job: Job
    connections: Connections
    on_event: OnEvent
    lease: Mapping[str, Any] | None = None
    built: bool = False  # else what an image with build steps is made from
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

    def _spread(self, layout: ImageLayout, hosts: Sequence[Host], trusting: bool = True) -> None:
        """Each host gets the blobs that it lacks, and all where dockerd lacks what it seemed to have."""
        path = f"{STATE}/oci/{layout.root.name}"
        layers = [digest for digest, _ in layout.layers] if trusting else []
        asked = {"op": "held", "path": path, "layers": layers}
        reached = self._well(self.connections.each(hosts, lambda session: session.ask(asked)))
        held = {name: answer["held"] for name, answer in reached.items()}
        for names, digests in parcels(layout.blobs, held).items():
            receivers = [host for host in hosts if host.name in names and host.name not in self.failures]
            self._transfer(layout.part(digests), layout.root, path, receivers, reached)
        arrived = [host for host in hosts if host.name not in self.failures]
        loaded = self._well(self.connections.each(arrived, lambda session: self._load(session, layout, path)))
        short = [host for host in arrived if loaded.get(host.name)]
        if short and trusting:
            self._spread(layout, short, trusting=False)
        else:
            self._well({host.name: _asks_for(host.name, loaded[host.name]) for host in short})

    def _transfer(
        self, content: Content, root: Path, path: str, hosts: Sequence[Host], reached: Mapping[str, Any]
    ) -> None:
        from flagprov.distribute.fan_out import Target, Transfer

        place = f"{path}/{content.id}"
        targets = [Target(host, place, tuple(reached[host.name]["addresses"])) for host in hosts]
        if not targets:
            return
        transfer = Transfer(
            *(self.connections, self.job.site, content, Here(root), targets, self.on_event),
            lease=self.lease,
            stage="image",
        )
        for name, answer in self._well(transfer.run()).items():
            self._took(name, float(answer["seconds"]))

    def _well(self, answers: Mapping[str, T | HostError]) -> dict[str, T]:
        """Without the failures, which are noted."""
        for name, answer in answers.items():
            if isinstance(answer, HostError):
                self.failures[name] = answer
                self.outcomes.pop(name, None)
        return {name: answer for name, answer in answers.items() if not isinstance(answer, HostError)}

    def _load(self, session: Session, layout: ImageLayout, path: str) -> list[str]:
        """Give it to dockerd; returns blobs that it asked for and that are not there."""
        host = session.host
        begun = time.monotonic()
        image = self.job.variants[host.name].image
        image = image if self.built else image.pulled
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

        answer = session.ask({"op": "load", "spec": spec, "lease": self.lease}, said)
        self._took(host.name, time.monotonic() - begun)
        return list(answer["missing"])

    def _took(self, name: str, seconds: float) -> None:
        before = self.outcomes[name].seconds["image"] if name in self.outcomes else 0.0
        took = {"image": round(before + seconds, 3)}
        self.outcomes[name] = HostOutcome(name, "changed", 1, seconds=took)


def parcels(
    blobs: Iterable[tuple[str, int]], held: Mapping[str, Collection[str]]
) -> dict[tuple[str, ...], list[str]]:
    """Hosts -> the blobs that these lack and no others do: each comes once, and only where it is lacking."""
    found: dict[tuple[str, ...], list[str]] = {}
    for digest, _ in blobs:
        names = tuple(name for name, has in held.items() if digest not in has)
        if names:
            found.setdefault(names, []).append(digest)
    return found


def _asks_for(host: str, digests: Sequence[str]) -> HostError:
    message = f"dockerd asks for {', '.join(digests)}, which the image has not"
    return HostError(host, "image", message, remedy="journalctl -u docker")


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
                work.bring(hosts, surveys, Upstream(job, on_event, stack).find)
    return work


def answerable(
    job: Job, looks: Mapping[str, Look], surveys: Mapping[str, Survey]
) -> tuple[dict[str, Look], dict[str, Layers]]:
    """The looks, where an image that nobody can give is a problem; the image's layers for other hosts."""
    names = lacking(looks)
    found: dict[str, Look] = dict(looks)
    layers: dict[str, Layers] = {}
    if not names:
        return found, layers
    from flagprov.distribute.images import ARCHITECTURES
    from flagprov.distribute.layouts import layers_of

    hosts = [host for host in job.fleet.hosts if host.name in names]
    with ExitStack() as stack:
        upstream = Upstream(job, lambda event: None, stack)
        for host in hosts:
            arch = surveys[host.name].arch
            try:
                if job.bundle is not None:
                    layout = job.bundle.image(str(host.chip), ARCHITECTURES.get(arch, arch))
                    layers[host.name] = layout.layers
                else:
                    parts = upstream.ask(host, ARCHITECTURES.get(arch, arch))
                    _check_told_apart(job, host, arch, parts.digests)
                    layers[host.name] = layers_of(json.loads(parts.manifests[0][0]))
            except FlagprovError as error:
                found[host.name] = refused(job, host, found[host.name], error)
    return found, layers


def _check_told_apart(job: Job, host: Host, arch: str, digests: Sequence[str]) -> None:
    """By its index a registry knows an image, but no dockerd that was given the image alone."""
    image = job.variants[host.name].image.pulled
    if image.digests and not set(image.digests) & set(digests[-2:]):
        raise FlagprovError(
            f"{image.reference}: what is locked names its index alone, and not the image for {arch} in it",
            remedy=f"name that one there, or by --set image={image.reference}@{digests[-2]}; "
            f"an old lock: flagprov releases lock {job.release.name} --inventory {job.fleet.inventory}",
        )


def refused(job: Job, host: Host, seen: Look, error: FlagprovError) -> Look:
    changes = tuple(change for change in seen.changes if change.kind != "image")
    step = "image" if job.bundle is None else "bundle"
    problem = Problem(step, error.message, error.remedy)
    return replace(seen, changes=changes, problems=(*seen.problems, problem))


def with_other_names(job: Job, looks: Mapping[str, Look]) -> dict[str, Look]:
    """Where an image cannot be had: under which names it is known besides."""
    found = dict(looks)
    for host in job.fleet.hosts:
        seen = found.get(host.name)
        if seen is None or all(problem.step != "image" for problem in seen.problems):
            continue
        image = job.variants[host.name].image.pulled
        here = site_reference(image.reference, host.registries)
        others = [name for name in (image.reference, *image.alternatives) if name != here]
        known = f"It is also known as {', '.join(others)}: --set image=NAME. " if others else ""
        problems = [
            replace(problem, remedy=f"{known}{problem.remedy}") if problem.step == "image" else problem
            for problem in seen.problems
        ]
        found[host.name] = replace(seen, problems=tuple(problems))
    return found


class Upstream:
    """The registries, each image asked for once."""

    def __init__(self, job: Job, on_event: OnEvent, stack: ExitStack) -> None:
        self.job, self.on_event, self.stack = job, on_event, stack
        self._asked: dict[tuple[str, str], Parts | FlagprovError] = {}  # by name and processor
        self._found: dict[tuple[str, str], ImageLayout | FlagprovError] = {}

    def ask(self, host: Host, architecture: str) -> Parts:
        """Raises what is wrong with the host's image: not there, another one, none for its processor."""
        from flagprov.distribute.images import check_locked

        image = self.job.variants[host.name].image.pulled
        key = site_reference(image.reference, host.registries), architecture
        if key not in self._asked:
            try:
                self._asked[key] = self.source(host, key[0]).parts([architecture])
            except FlagprovError as error:
                self._asked[key] = error
        answer = self._asked[key]
        if isinstance(answer, FlagprovError):
            raise answer
        check_locked(key[0], answer, {str(host.chip): image.digests})  # others may have locked another one
        return answer

    def find(self, host: Host, architecture: str) -> ImageLayout:
        """What goes wrong with fetching it does so once, for all hosts that lack it."""
        from flagprov.distribute.layouts import fetch_layout

        image = self.job.variants[host.name].image.pulled
        reference = site_reference(image.reference, host.registries)
        self.ask(host, architecture)
        key, folder = (reference, architecture), cache_of(self.job)

        def say(text: str) -> None:
            self.on_event(Event(time.time(), "", "progress", "image", f"fetch {reference}", text))

        if key not in self._found:
            try:
                with on_disk(folder, CACHE):
                    source = self.source(host, reference)
                    self._found[key] = fetch_layout(source, *key, image.digests, folder, say)
            except FlagprovError as error:
                self._found[key] = error
        found = self._found[key]
        if isinstance(found, FlagprovError):
            raise found
        return found

    def source(self, host: Host, reference: str) -> FromRegistry:
        from flagprov.distribute.images import FromRegistry
        from flagprov.distribute.registry import registry_of

        return FromRegistry(self.stack.enter_context(registry_of(reference, host)), reference)


def cache_of(job: Job) -> Path:
    return image_cache(job.site.root)


def image_cache(root: Path) -> Path:
    """Where the controller keeps images that it fans out or bundles; large, so it may be elsewhere."""
    base = os.environ.get(CACHE)
    return Path(base) if base else root / "oci"
