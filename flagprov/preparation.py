"""From what a user wrote to what a run needs; what is wrong with it is said before a host is touched."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from flagprov.access import fit_chip, fit_variant
from flagprov.cluster import spread_over_nodes
from flagprov.errors import InventoryError, ReleaseError, SettingsError
from flagprov.handover import applied, moved
from flagprov.least import least
from flagprov.models.chip import Chip
from flagprov.models.desired import Placement
from flagprov.models.fleet import Fleet, Host
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Survey
from flagprov.models.release import Release, Variant
from flagprov.models.request import Handover
from flagprov.models.request import Request as Request
from flagprov.placement import Wish
from flagprov.proxies import keep_direct
from flagprov.rollout.hooks import NO_HOOKS, Hooks, hooks_of
from flagprov.serving import Serving, image_key
from flagprov.site import Site

if TYPE_CHECKING:
    from flagprov.distribute.bundle import Bundle
    from flagprov.rollout.census import Census


@dataclass(frozen=True, slots=True)
class Job:
    """A request that makes sense: its fleet, its release, and what each host asks of it."""

    fleet: Fleet
    site: Site
    release: Release
    chips: Mapping[str, Chip]
    variants: Mapping[str, Variant]  # host -> after its settings
    replicas: int | None
    sets: tuple[str, ...]
    settings_keys: Mapping[str, frozenset[str]]  # host -> serve keys that its settings brought
    force: tuple[str, ...] = ()  # names of checks
    allow_disruption: bool = False
    allow_reboot: bool = False
    files: tuple[tuple[str, int, str], ...] = ()  # of the weights, where the site has locked them
    hooks: Hooks = NO_HOOKS
    bundle: Bundle | None = None  # where images and weights come from, and nothing else
    limit: str | None = None  # the fleet is only this part of its inventory
    unprivileged: tuple[str, ...] = ()  # hosts whose containers get no more than they need
    handover: Handover | None = None

    def wishes(self, surveys: Mapping[str, Survey]) -> list[Wish]:
        elsewhere = {host: (name, now) for host, name, now in moved(surveys, self.site.deployed())}
        if self.handover:
            surveys = applied(self.handover, surveys)
        return [
            Wish(
                host,
                self.chips[str(host.chip)],
                self.variants[host.name],
                surveys[host.name],
                self.replicas,
                elsewhere.get(host.name),
            )
            for host in self.fleet.hosts
            if host.name in surveys
        ]

    def image_facts(self, host: Host, arch: str) -> ImageFacts | None:
        """What the site knows of the host's image; nothing where nobody has looked into it."""
        return self.site.facts(self.facts_key(host, arch))

    def facts_key(self, host: Host, arch: str) -> str:
        key = image_key(self.variants[host.name].image, str(host.chip), arch)
        return f"{key}-{probe_version()}"

    def by_rdma(self, host: Host) -> bool:
        """Whether ranks there reach others by RDMA, so that its survey has to tell the ports."""
        return self.chips[str(host.chip)].rdma and self.variants[host.name].nodes > 1

    def reserved(self, surveys: Mapping[str, Survey]) -> set[str]:
        """Replicas that were deployed on hosts which were not asked, or did not answer."""
        known = self.site.deployed()
        return {name for name, replica in known.items() if not set(replica["hosts"]) & set(surveys)}

    def census(self, left_out: Collection[str]) -> Census:
        """The release's replicas in the whole inventory."""
        from flagprov.rollout.census import census

        return census(self.fleet, self.limit, self.site, self.release.name, left_out)

    def servings(self, host: Host, placement: Placement, survey: Survey) -> list[Serving]:
        """The host's replicas, each with the image facts that the site knows by now."""
        variant = self.variants[host.name]
        probe = probe_version()
        facts = self.image_facts(host, survey.arch)
        chip = fit_chip(self.chips[str(host.chip)], host)
        keys, files = self.settings_keys[host.name], self.files
        entered = variant.launch.kind == "flagscale"  # by whose way its nodes enter each other
        return [
            Serving(
                self.release,
                variant,
                chip,
                replica,
                host,
                survey,
                facts,
                probe,
                self.sets,
                keys,
                files,
                self.site.runner_keys(replica.name, replica.hosts) if entered and replica.nodes else None,
            )
            for replica in placement.on(host.name)
        ]


@cache
def probe_version() -> str:
    """A newer image probe looks into known images again."""
    text = resources.files("flagprov.host").joinpath("image_probe.py").read_bytes()
    return hashlib.sha256(text).hexdigest()[:8]


def prepare(request: Request) -> Job:
    """Raises UsageErrors only, all of them before any host is touched."""
    from flagprov.fleet import start_loading

    if request.force:
        from flagprov.doctor.examine import check_forced

        check_forced(request.force)
    # A child process: it works while we import.
    loading = start_loading(request.inventory, request.limit, reach=request.reach)
    from flagprov.catalog import load_release, locked_files, locked_names, variant_for, with_lock
    from flagprov.catalog.building import unpinned
    from flagprov.chips import load_chips
    from flagprov.settings import apply_settings, merge_settings, parse_sets

    named = str(request.release)
    bundle = _bundle(request.inventory, named)
    release = bundle.release if bundle else load_release(named)
    chips = load_chips()
    sets = parse_sets(request.sets)
    fleet = loading.result()
    keep_direct(fleet, release.model_dump_json())
    site = Site(fleet.site)
    known: Mapping[str, Mapping[str, tuple[str, ...]]] = {}
    if bundle:  # nothing else counts, and no host pulls
        bundle.check(fleet)
        files = bundle.files
        fanned = (replace(h, variables={**h.variables, "flagprov_images": "fan-out"}) for h in fleet.hosts)
        fleet = replace(fleet, hosts=tuple(fanned))
    else:
        release = with_lock(release, site.lock_file(release.name))
        files = locked_files(release, site.lock_file(release.name))
        known = locked_names(site.lock_file(release.name))
    variants: dict[str, Variant] = {}
    replicas: set[int | None] = set()
    keys: dict[str, frozenset[str]] = {}
    unprivileged: list[str] = []
    for host in fleet.hosts:
        if not host.chip:
            raise InventoryError(
                f"{fleet.inventory}: {host.name} has no flagprov_chip",
                remedy=f"set flagprov_chip for it or its group: {', '.join(sorted(release.variants))}",
            )
        variant = variant_for(release, host.chip)
        settings = merge_settings(host.settings, sets, where=f"host {host.name}: flagprov_settings")
        keys[host.name] = frozenset(settings.serve)
        replicas.add(settings.replicas)
        reference = variant.image.reference
        variant = fit_variant(apply_settings(release, variant, settings), chips[host.chip], host)
        if not variant.image.digests:  # the settings' own
            digests = known.get(host.chip, {}).get(variant.image.reference, ())
            image = variant.image.model_copy(update={"digests": tuple(digests)})
            variant = variant.model_copy(update={"image": image})
        if bundle and variant.image.reference != reference:
            raise SettingsError(
                f"{host.name}: image {variant.image.reference} is not in the bundle, which has {reference}",
                remedy="take it out of the settings, or pack a bundle of a release that names it",
            )
        if variant.image.build:
            why = unpinned(variant.image) or f"{variant.image.reference} has no locked digest"
            raise ReleaseError(
                f"release {release.name}, variants.{host.chip}.image.build: {why}",
                remedy=f"pin it first: flagprov releases lock {named} --inventory {fleet.inventory}",
            )
        variant = spread_over_nodes(release, variant, chips[host.chip], keys[host.name])
        if settings.container_profile == "least":
            variant = least(variant, release.weights.path, chips[host.chip])
            unprivileged.append(host.name)
        if chips[host.chip].rdma and variant.nodes > 1:
            _check_rdma(host)
        variants[host.name] = variant
    if len(replicas) > 1:
        raise SettingsError(
            "flagprov_settings.replicas differs between hosts", remedy="set it for the whole fleet"
        )
    count = len(request.handover.replicas) if request.handover else next(iter(replicas), None)
    _check_groups(fleet, variants, count)
    job = Job(
        fleet=fleet,
        site=site,
        release=release,
        chips=chips,
        variants=variants,
        replicas=count,
        sets=tuple(request.sets),
        settings_keys=keys,
        force=request.force,
        files=files,
        allow_disruption=request.allow_disruption,
        allow_reboot=request.allow_reboot,
        unprivileged=tuple(unprivileged),
        hooks=hooks_of(fleet),
        limit=request.limit,
        bundle=bundle,
        handover=request.handover,
    )
    _check_serve(job)
    return job


def _check_serve(job: Job) -> None:
    """What an image refuses that the site has looked into already; others are looked into on the hosts."""
    from flagprov.runner.arguments import check_serve

    known = cache(job.site.facts)  # many hosts, few images
    for host in job.fleet.hosts:
        chip = job.chips[str(host.chip)]
        variant, keys = job.variants[host.name], job.settings_keys[host.name]
        for arch in chip.detection.arch:
            check_serve(variant, known(job.facts_key(host, arch)), job.release.name, chip.name, keys)


def _bundle(inventory: Path, named: str) -> Bundle | None:
    """A release may be given by the bundle that it is in."""
    if not named.endswith(".tar"):
        return None
    from flagprov.distribute.bundle import open_bundle

    return open_bundle(Path(named), Site(Fleet(inventory, ()).site))


def _check_rdma(host: Host) -> None:
    from flagprov.rails import named_ports

    named_ports(host)


def _check_groups(fleet: Fleet, variants: Mapping[str, Variant], replicas: int | None) -> None:
    """Enough hosts of a chip for the replicas over several that are asked for."""
    groups: dict[tuple[str, int], list[str]] = {}
    for host in fleet.hosts:
        groups.setdefault((str(host.chip), variants[host.name].nodes), []).append(host.name)
    for (chip, nodes), names in groups.items():
        wanted = replicas or 1
        if nodes > 1 and len(names) < wanted * nodes:
            what = "a replica" if wanted == 1 else f"{wanted} replicas"
            raise SettingsError(
                f"{what} over {nodes} hosts {'takes' if wanted == 1 else 'take'} {wanted * nodes} of {chip}; "
                f"the fleet has {len(names)}: {', '.join(names)}",
                remedy=f"--set nodes={len(names)}, or name more hosts" if wanted == 1 else "ask for fewer",
            )


def hosts_of(fleet: Fleet, names: Sequence[str]) -> list[Host]:
    return [host for host in fleet.hosts if host.name in set(names)]
