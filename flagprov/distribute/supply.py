"""What hosts lack and do not get by themselves: images and weights, brought before they converge."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flagprov.apply.converge import OnEvent
from flagprov.desired import FAN_OUT, image_resource
from flagprov.distribute import built, fan_images, room, weights
from flagprov.errors import HostError
from flagprov.models.fleet import Host
from flagprov.models.observed import Look, Survey
from flagprov.models.outcome import HostOutcome
from flagprov.models.release import BuiltImage
from flagprov.observe import look
from flagprov.preparation import Job
from flagprov.transport import Connections, Session


@dataclass
class Supplied:
    """What came of it, per host."""

    failures: dict[str, HostError] = field(default_factory=dict)
    outcomes: dict[str, HostOutcome] = field(default_factory=dict)
    touched: tuple[str, ...] = ()  # no longer as the plan saw them

    def add(self, work: fan_images.Images | weights.Weights) -> None:
        self.failures |= work.failures
        self.touched = (*self.touched, *work.touched)
        for name, outcome in work.outcomes.items():
            before = self.outcomes.get(name)
            self.outcomes[name] = _both(before, outcome) if before else outcome


def bring(
    job: Job,
    connections: Connections,
    looks: Mapping[str, Look],
    surveys: Mapping[str, Survey],
    provisioned: Sequence[str],
    excluded: Collection[str],
    on_event: OnEvent,
    lease: Mapping[str, Any] | None = None,
) -> Supplied:
    """Images first: a host whose image cannot come needs no weights."""
    supplied = Supplied()
    seen = {**looks, **_fresh(job, connections, provisioned, excluded)}
    supplied.add(fan_images.bring(job, connections, seen, surveys, excluded, on_event, lease))
    out = {*excluded, *supplied.failures}
    supplied.add(built.bring(job, connections, seen, surveys, out, on_event, lease))
    out |= supplied.failures.keys()
    supplied.add(weights.bring(job, connections, looks, provisioned, out, on_event, lease))
    return supplied


def answerable(
    job: Job,
    connections: Connections,
    looks: Mapping[str, Look],
    surveys: Mapping[str, Survey],
    pulls: Mapping[str, int],
) -> dict[str, Look]:
    """The looks, where what is to be brought and has no source, or no room, is a problem.

    `pulls`: MiB that the images need which hosts pull themselves.
    """
    found, images = fan_images.answerable(job, looks, surveys)
    found = fan_images.with_other_names(job, built.answerable(job, found, surveys))
    found = weights.answerable(job, found)
    needs = _needs(job, {name: seen for name, seen in found.items() if not seen.problems}, images, pulls)
    for name, problems in room.lacking(connections, job.fleet.hosts, needs).items():
        found[name] = replace(found[name], problems=(*found[name].problems, *problems))
    return found


def _needs(
    job: Job,
    looks: Mapping[str, Look],
    images: Mapping[str, fan_images.Layers],
    pulls: Mapping[str, int],
) -> dict[str, list[room.Need]]:
    """What goes where on hosts that lack weights, images, or both."""
    needs: dict[str, list[room.Need]] = {}
    without = set(weights.lacking(looks))
    files = weights.listed(job) if without else ()
    for host in job.fleet.hosts:
        if host.name not in looks:
            continue
        found: list[room.Need] = []
        if host.name in without and files:
            found.append(room.of_weights(weights.weights_path(job.release, host), files))
            found += [room.of_pull(pulls[host.name])] if host.name in pulls else []
        found += room.of_layers(images[host.name]) if host.name in images else []
        if found:
            needs[host.name] = found
    return needs


def _fresh(
    job: Job, connections: Connections, provisioned: Sequence[str], excluded: Collection[str]
) -> dict[str, Look]:
    """Hosts that had no container engine before, where images are fanned out or built at all."""
    hosts = [
        host
        for host in job.fleet.hosts
        if host.name in provisioned
        and host.name not in excluded
        and (host.variables.get("flagprov_images") == FAN_OUT or _is_built(job, host))
    ]

    def ask(session: Session) -> Look:
        return look(session, [image_resource(job.variants[session.host.name].image, session.host)])

    found = connections.each(hosts, ask)
    return {name: seen for name, seen in found.items() if isinstance(seen, Look)}


def _is_built(job: Job, host: Host) -> bool:
    return isinstance(job.variants[host.name].image, BuiltImage)


def _both(first: HostOutcome, second: HostOutcome) -> HostOutcome:
    seconds = {**first.seconds, **second.seconds}
    return replace(second, changes=first.changes + second.changes, seconds=seconds)
