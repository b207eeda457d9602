"""`flagprov bundle`: bring here what a release needs, and write it into one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from flagprov.catalog.building import unpinned
from flagprov.chips import load_chips
from flagprov.distribute import repository, system_packages, wheels
from flagprov.distribute.bundle import PACKAGES, WHEELS, BundledImage, Listed, Part, Say, write
from flagprov.distribute.disk import on_disk
from flagprov.distribute.fan_images import CACHE, image_cache
from flagprov.distribute.fetch import fetch_here
from flagprov.distribute.images import ARCHITECTURES, FromRegistry
from flagprov.distribute.layouts import ImageLayout, built_root, fetch_layout, known_as, whole
from flagprov.distribute.lock import hashed
from flagprov.distribute.registry import registry_of
from flagprov.errors import FlagprovError, UsageError
from flagprov.models.event import Event
from flagprov.models.fleet import Fleet
from flagprov.models.release import Release
from flagprov.serving import site_reference


@dataclass(frozen=True, slots=True)
class Extras:
    """What goes in beside images and weights."""

    wheels: bool = False
    platforms: tuple[str, ...] = ()  # whose packages are fetched here
    made: Mapping[str, Path] = field(default_factory=dict)  # platform -> packages that were fetched elsewhere
    packages: tuple[str, ...] = ()  # names, beside those that roles install


NOTHING_MORE = Extras()


def pack(
    release: Release,
    chips: Sequence[str],
    fleet: Fleet | None,
    weights: Path | None,
    cache: Path,
    output: Path,
    say: Say,
    locked: Sequence[Listed] = (),
    extras: Extras = NOTHING_MORE,
) -> int:
    """Size of the file. `locked` are the only files of the weights that may go in. `fleet` says under
    which names images are pulled here, `weights` where they lie."""
    unknown = [chip for chip in chips if chip not in release.variants]
    if unknown:
        known = ", ".join(sorted(release.variants))
        raise UsageError(f"release {release.name} has no variant for {unknown[0]}", remedy=f"it has {known}")
    chips = chips or sorted(release.variants)
    more = _extras(extras, chips, fleet, cache, say)
    folder, files = _weights(release, weights, cache, say)
    if locked:
        files = as_locked(folder, files, locked)
    images: dict[str, BundledImage] = {}
    with ExitStack() as stack:
        for chip in chips:
            for image in _images(release, chip, fleet, cache, stack, say):
                known_image = images.setdefault(image.layout.manifest, image)
                together = tuple(dict.fromkeys((*known_image.chips, chip)))
                images[image.layout.manifest] = replace(known_image, chips=together)
    return write(release, list(images.values()), folder, files, output, say, more)


def _extras(extras: Extras, chips: Sequence[str], fleet: Fleet | None, cache: Path, say: Say) -> list[Part]:
    parts: list[Part] = []
    for platform in dict.fromkeys((*extras.platforms, *extras.made)):
        folder = cache / "packages" / platform
        if made := extras.made.get(platform):
            found = system_packages.given(made)
        else:
            wanted = system_packages.wanted(platform, chips, fleet, extras.packages)
            found = system_packages.fetch(platform, wanted, folder, say)
        parts += _repository(found, platform, folder / "repository")
    if extras.wheels:
        say("fetching wheels")
        parts += [
            Part(f"{WHEELS}/{each.file.name}", each.file, each.name, each.version, each.licence)
            for each in wheels.fetch(cache / "wheels")
        ]
    return parts


def _repository(files: Sequence[Path], platform: str, target: Path) -> list[Part]:
    known = {package.path: package for package in repository.build(files, platform, target)}
    parts = []
    for file in sorted(path for path in target.rglob("*") if path.is_file()):
        path = str(file.relative_to(target))
        what = known.get(path, repository.PackageFile(path, "", ""))
        parts.append(Part(f"{PACKAGES}/{platform}/{path}", file, what.name, what.version, what.licence))
    return parts


def _weights(release: Release, given: Path | None, cache: Path, say: Say) -> tuple[Path, list[Listed]]:
    source = release.weights.source
    if given is None and source.startswith("file://"):
        given = Path(source.removeprefix("file://"))
    if given is not None:
        if not (given / "config.json").is_file():
            raise UsageError(
                f"{given}: no weights lie there", remedy=f"--weights DIRECTORY, with those of {source}"
            )
        say(f"hashing {given}")
        return given, hashed(given)
    if "://" not in source:
        raise UsageError(
            f"{source}: its weights lie on a host", remedy="--weights DIRECTORY, with a copy of them"
        )
    folder = cache / "weights" / release.name

    def told(event: Event) -> None:
        if event.text:
            say(f"{event.step}: {event.text}")

    return folder, fetch_here(source, release.weights.revision, folder, told)


def as_locked(folder: Path, files: Sequence[Listed], locked: Sequence[Listed]) -> list[Listed]:
    """The locked files, if they are what lies there; what else lies there stays there."""
    there = {path: (size, digest) for path, size, digest in files}
    for path, size, digest in locked:
        if there.get(path) != (size, digest):
            what = "is not the file that is locked" if path in there else "is locked, and missing"
            raise FlagprovError(
                f"{folder / path}: {what}",
                remedy="Bring the locked revision there, or lock the new one: flagprov releases lock NAME",
            )
    return list(locked)


def _images(
    release: Release, chip: str, fleet: Fleet | None, cache: Path, stack: ExitStack, say: Say
) -> list[BundledImage]:
    """The chip's image for each processor for which there is one."""
    image, made = release.variants[chip].image.pulled, release.variants[chip].image
    if image is made and image.build:
        raise UsageError(
            f"release {release.name}, variants.{chip}.image.build: {unpinned(image)}",
            remedy="pin it (flagprov releases lock), deploy it once, and name the site: --inventory",
        )
    host = next((host for host in fleet.hosts if host.chip == chip), None) if fleet else None
    reference = site_reference(image.reference, host.registries) if host else image.reference
    source = FromRegistry(stack.enter_context(registry_of(reference, host)), reference)
    found: list[BundledImage] = []
    folder = image_cache(cache)
    for processor in load_chips()[chip].detection.arch:
        architecture = ARCHITECTURES[processor]
        if _is_for(source, architecture):
            with on_disk(folder, CACHE):
                layout = fetch_layout(source, reference, architecture, image.digests, folder, say)
                if made is not image:
                    layout = _whole(layout, built_root(folder, made.reference, architecture), made.digests)
            found.append(BundledImage((chip,), architecture, layout))
    if not found:
        raise FlagprovError(f"{reference}: is for another processor than those of {chip}")
    return found


def _whole(base: ImageLayout, built: Path, digests: Sequence[str]) -> ImageLayout:
    if not (built / "index.json").exists():
        raise UsageError(
            f"{base.reference} has build steps, and nobody has built that image yet",
            remedy="deploy the release once where the hosts reach what it needs; this controller keeps it",
        )
    layout, known = whole(base, built), known_as(built, digests)
    if known and not {layout.blobs[0][0], layout.manifest} & known:
        raise UsageError(
            f"{layout.reference}: what lies in {built} is not the image that the site has locked",
            remedy="remove its name from the site's lock to take this one, or bring the other one from the "
            "controller that locked it",
        )
    return layout


def _is_for(source: FromRegistry, architecture: str) -> bool:
    try:
        data, _ = source.parts([architecture]).manifests[0]
    except FlagprovError as error:
        if "has no image for" in error.message:
            return False
        raise
    config = b"".join(source.blob(str(json.loads(data)["config"]["digest"])))
    return str(json.loads(config).get("architecture")) == architecture
