"""Weights for the hosts that lack them: from a host that has them, from here, or from a hub."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flagprov.apply.converge import OnEvent, host_event
from flagprov.desired import weights_resource
from flagprov.distribute.content import Content, Here, There, content_of
from flagprov.distribute.disk import on_disk
from flagprov.errors import FlagprovError, HostError, UsageError
from flagprov.host.transfer.layout import listing, written
from flagprov.models.fleet import Host
from flagprov.models.observed import Look, Problem
from flagprov.models.outcome import HostOutcome
from flagprov.models.release import Release
from flagprov.observe import look
from flagprov.preparation import Job
from flagprov.proxies import addresses, asked, no_proxy
from flagprov.report.text import names
from flagprov.serving import host_path
from flagprov.transport import Connections, Session

LOCK_S = 120.0  # a share's server keeps the lock of a dead host for as long as that
CACHE = "FLAGPROV_WEIGHTS_CACHE"
HUBS = ("modelscope://", "hf://", "https://", "http://")


@dataclass(frozen=True, slots=True)
class Supply:
    """Where the weights of this run come from."""

    text: str  # for people
    source: Here | There | None = None  # None: a hub, which fetches into `cache` first
    cache: Path | None = None
    host: Host | None = None  # that is to download from the hub, in the controller's place


@dataclass(slots=True)
class Weights:
    """What one run does about weights."""

    job: Job
    connections: Connections
    on_event: OnEvent
    lease: Mapping[str, Any] | None = None
    failures: dict[str, HostError] = field(default_factory=dict)
    outcomes: dict[str, HostOutcome] = field(default_factory=dict)
    touched: tuple[str, ...] = ()  # hosts that are no longer as the plan saw them

    def bring(self, lacking: Sequence[Host], holding: Sequence[Host]) -> None:
        """Outcomes of the hosts that have got them, failures of those that have not."""
        self.touched = tuple(host.name for host in lacking)
        reached = self.connections.each([*lacking, *holding], self._reach)
        self._note(reached, [host.name for host in lacking])
        wanting = [host for host in lacking if host.name not in self.failures]
        if not wanting:
            return
        try:
            with on_disk(cache_of(self.job), CACHE):
                source, content = self._supply(reached, [h for h in holding if _has(reached, h)])
        except FlagprovError as error:
            for host in wanting:
                self.failures[host.name] = HostError(host.name, "weights", error.message, remedy=error.remedy)
            return
        shares, patience = _shares(wanting, reached), 0.0
        while shares:
            found = self._transfer(source, content, [share[0] for share in shares], reached, patience)
            # Where the one that writes is lost or killed, the next one goes on with what it left.
            lost = [share for share in shares if _may_be_done_by_another(found.get(share[0].name))]
            shares, patience = [share[1:] for share in lost if share[1:]], LOCK_S

    def _transfer(
        self,
        source: Here | There,
        content: Content,
        writers: Sequence[Host],
        reached: Mapping[str, Any],
        patience: float,
    ) -> dict[str, Any]:
        from flagprov.distribute.fan_out import Target, Transfer

        source = with_place(source, writers, self.job.release)
        targets = [
            Target(host, weights_path(self.job.release, host), tuple(_known(reached, host)["addresses"]))
            for host in writers
            if not (isinstance(source, There) and source.host is host)
        ]
        if not targets and not (isinstance(source, There) and source.place):
            return {}
        transfer = Transfer(
            *(self.connections, self.job.site, content, source, targets, self.on_event, self.lease),
            patience=patience,
        )
        found = transfer.run()
        self._note(found, list(found))
        for name, answer in found.items():
            if not isinstance(answer, HostError):
                seconds = {"weights": float(answer["seconds"])}
                changes = 1 if answer["changed"] else 0
                self.outcomes[name] = HostOutcome(name, "changed", changes, seconds=seconds)
        return found

    def _fetch_there(self, host: Host, origin: Mapping[str, Any]) -> tuple[There, Content]:
        weights = self.job.release.weights
        path = weights_path(self.job.release, host)
        spec = {"source": weights.source, "revision": weights.revision, "path": path, "files": self.job.files}
        fleet = self.job.fleet
        environment = hub_environment(host.variables, addresses(fleet), (weights.source, *asked(fleet)))
        request = {"op": "fetch", "spec": {**spec, "environment": environment}, "lease": self.lease}

        def said(message: Mapping[str, Any]) -> None:
            event = {**message, "stage": "weights", "step": f"fetch {weights.source}"}
            self.on_event(host_event(host.name, event))

        answer = self.connections.session(host).ask(request, said)
        self.outcomes[host.name] = HostOutcome(host.name, "changed", 1)
        return There(host, path), content_of(self.job.files or answer["files"], origin)

    def _note(self, answers: Mapping[str, Any], names: Sequence[str]) -> None:
        for name in names:
            if isinstance(answers[name], HostError):
                self.failures[name] = answers[name]

    def _reach(self, session: Session) -> dict[str, Any]:
        return session.ask({"op": "reach", "path": weights_path(self.job.release, session.host)})

    def _supply(self, reached: Mapping[str, Any], holding: Sequence[Host]) -> tuple[Here | There, Content]:
        release = self.job.release
        supply = find_supply(self.job, holding)
        if supply is None:
            _check_limit(self.job)
            raise FlagprovError(f"no source of {release.weights.source} can be reached")
        origin = {"source": release.weights.source, "revision": release.weights.revision}
        locked = self.job.files
        if isinstance(supply.source, There):
            there = supply.source
            if there.host not in holding:
                ask = {"op": "reach", "path": there.path}
                reached = {**reached, there.host.name: self.connections.session(there.host).ask(ask)}
            known = _known(reached, there.host)
            files = locked or known.get("files")
            if not files:
                raise FlagprovError(f"{there.host.name}: nothing lies in {there.path}")
            return there, content_of(files, origin, known.get("written", ""))
        if supply.host is not None:
            return self._fetch_there(supply.host, origin)
        if supply.source is not None:
            folder = str(supply.source.path)
            return supply.source, content_of(locked or listing(folder), origin, written(folder))
        from flagprov.distribute.fetch import fetch_here

        assert supply.cache is not None
        fetched = fetch_here(release.weights.source, release.weights.revision, supply.cache, self.on_event)
        return Here(supply.cache), content_of(locked or fetched, origin)


def hub_environment(
    variables: Mapping[str, Any], direct: Iterable[str], asked: Iterable[str] = ()
) -> dict[str, str]:
    """What a hub's client on a host needs to know of this controller's environment.

    A host's own proxies come before the controller's; `direct` are the names that go through none.
    """
    hubs = ("MODELSCOPE_ENDPOINT", "MODELSCOPE_API_TOKEN", "HF_ENDPOINT", "HF_TOKEN")
    proxies = ("http_proxy", "https_proxy", "no_proxy")
    names = (*hubs, *proxies, *(name.upper() for name in proxies))
    found = {name: os.environ[name] for name in names if name in os.environ}
    for name in proxies:
        if own := str(variables.get(f"flagprov_{name}") or ""):
            found |= {name: own, name.upper(): own}
    return found | no_proxy(found, direct, asked)


def weights_path(release: Release, host: Host) -> str:
    """Where a host has, or wants, the release's weights."""
    return host_path(release.weights.path.rstrip("/"), release, host)


def listed(job: Job) -> tuple[tuple[str, int, str], ...]:
    """The files of the weights, as far as they are known before a source is asked."""
    if job.files:
        return job.files
    supply = find_supply(job, [])
    if supply and isinstance(supply.source, Here):
        with on_disk(supply.source.path):
            return tuple(listing(str(supply.source.path)))
    return ()


def with_place(source: Here | There, wanting: Sequence[Host], release: Release) -> Here | There:
    """A host that has the files elsewhere than it wants them is source and target in one."""
    if isinstance(source, There) and source.host in wanting:
        path = weights_path(release, source.host)
        return replace(source, place="" if path == source.path.rstrip("/") else path)
    return source


def find_supply(job: Job, holding: Sequence[Host]) -> Supply | None:
    """The nearest source: a host that has the weights, a directory here, the hub."""
    release = job.release
    source = release.weights.source
    if job.bundle is not None and job.bundle.files:
        return Supply("from the bundle", Here(job.bundle.weights))
    if holding:
        first = holding[0]
        path = weights_path(release, first)
        return Supply(f"from {first.name}, which has them", There(first, path))
    if source.startswith("file://"):
        path = source.removeprefix("file://")
        if Path(path, "config.json").is_file():
            return Supply(f"from {path} on this controller", Here(Path(path)))
        return None
    name, colon, path = source.partition(":/")
    if colon and "//" not in source:
        for host in job.fleet.hosts:
            if host.name == name:
                return Supply(f"from {source}", There(host, f"/{path}"))
        return None
    if source.startswith(HUBS):
        named = _fetching(job)
        for host in job.fleet.hosts:
            if host.name in named:
                return Supply(f"from {source}, once by {host.name}, then host to host", host=host)
        if not named or job.handover:  # `replace` sets the limit, so nobody can take that host into it
            return Supply(f"from {source}, once, then host to host", None, cache_of(job))
    return None


def _fetching(job: Job) -> set[str]:
    """Hosts that are to download in the controller's place."""
    return {str(host.variables.get("flagprov_fetch_on") or "") for host in job.fleet.hosts} - {""}


def _check_limit(job: Job) -> None:
    """Of a run that found no source: it may be for --limit."""
    named = _fetching(job)
    if named and job.release.weights.source.startswith(HUBS):
        raise UsageError(
            f"flagprov_fetch_on is {names(sorted(named))}, which --limit {job.limit} leaves out",
            remedy="take it into --limit: it is to download the weights for the others",
        )


def cache_of(job: Job) -> Path:
    """Where the controller keeps what it fetched; large, so it may be elsewhere."""
    base = os.environ.get(CACHE)
    folder = Path(base) if base else job.site.root / "weights"
    return folder / job.release.name


def lacking(looks: Mapping[str, Look]) -> list[str]:
    """Hosts whose look says that weights have to be fetched."""
    return [name for name, seen in looks.items() if any(_is_fetch(change) for change in seen.changes)]


def holding(looks: Mapping[str, Look]) -> list[str]:
    """Hosts whose look found the weights whole."""
    without = set(lacking(looks))
    return [
        name
        for name, seen in looks.items()
        if name not in without
        and not any(change.kind == "weights" for change in seen.changes)
        and not any(problem.step == "weights" for problem in seen.problems)
    ]


def holders(job: Job, looks: Mapping[str, Look]) -> list[Host]:
    """Hosts that may be the source. One that is yet to be held against the lock is better than none:

    a source is hashed while it is read.
    """
    names = holding(looks)
    if not names and job.files and find_supply(job, []) is None:
        without = set(lacking(looks))
        names = [name for name, seen in looks.items() if name not in without and not seen.problems]
    return [host for host in job.fleet.hosts if host.name in names]


def _is_fetch(change: Any) -> bool:
    return bool(change.kind == "weights" and change.action == "fetch")


def _known(reached: Mapping[str, Any], host: Host) -> dict[str, Any]:
    answer = reached.get(host.name)
    return answer if isinstance(answer, dict) else {"addresses": [], "files": [], "storage": ""}


def _has(reached: Mapping[str, Any], host: Host) -> bool:
    return bool(_known(reached, host).get("files"))


def _may_be_done_by_another(answer: dict[str, Any] | HostError | None) -> bool:
    """What is wrong with files or the share itself would be so for the next host, too."""
    return isinstance(answer, HostError) and answer.step != "weights"


def _shares(hosts: Sequence[Host], reached: Mapping[str, Any]) -> list[list[Host]]:
    """Hosts that mount the same share have one copy, brought by the first of them."""
    found: dict[str, list[Host]] = {}
    for host in hosts:
        found.setdefault(_known(reached, host).get("storage") or f"host {host.name}", []).append(host)
    return list(found.values())


def answerable(job: Job, looks: Mapping[str, Look]) -> dict[str, Look]:
    """The looks, where a host's missing weights are a step if there is a source, and a problem if not."""
    without = lacking(looks)
    if not without:
        return dict(looks)
    hosts = {host.name: host for host in job.fleet.hosts}
    supply = find_supply(job, holders(job, looks))
    if supply is None:
        _check_limit(job)
    return {
        name: _answered(job.release, hosts[name], seen, supply) if name in without else seen
        for name, seen in looks.items()
    }


def _answered(release: Release, host: Host, seen: Look, supply: Supply | None) -> Look:
    changes, problems = [], list(seen.problems)
    for change in seen.changes:
        if not _is_fetch(change):
            changes.append(change)
        elif supply:
            changes.append(replace(change, reason=f"{change.reason}; {supply.text}"))
        else:
            remedy = str(weights_resource(release, host).spec["remedy"])
            problems.append(Problem("weights", change.reason, remedy, change.replica))
    return replace(seen, changes=tuple(changes), problems=tuple(problems))


def bring(
    job: Job,
    connections: Connections,
    looks: Mapping[str, Look],
    provisioned: Sequence[str],
    excluded: Collection[str],
    on_event: OnEvent,
    lease: Mapping[str, Any] | None = None,
) -> Weights:
    """Fan the weights out to the hosts that lack them; those provisioned just now are asked first."""
    work = Weights(job, connections, on_event, lease)
    fresh = [host for host in job.fleet.hosts if host.name in provisioned and host.name not in excluded]
    looks = dict(looks)
    for name, found in connections.each(fresh, lambda session: _look(job, session)).items():
        if isinstance(found, Look):
            looks[name] = found
    without = lacking(looks)
    needing = [host for host in job.fleet.hosts if host.name in without and host.name not in excluded]
    if needing:
        work.bring(needing, holders(job, looks))
    return work


def _look(job: Job, session: Session) -> Look:
    return look(session, [weights_resource(job.release, session.host, job.files)])
