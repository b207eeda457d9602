"""`flagprov images push`: the images of a release in the registries of a site."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from flagprov.distribute.images import ARCHITECTURES, FromArchive, FromRegistry, Source, check_locked, push
from flagprov.distribute.registry import registry_of, split
from flagprov.errors import UsageError
from flagprov.models.fleet import Host
from flagprov.preparation import Job
from flagprov.serving import site_reference


@dataclass(slots=True)
class Copy:
    """One image, from the name that the release has to the name under which the site's hosts pull it."""

    source: str
    target: str
    host: Host  # that pulls it: its inventory says how the site's registry is reached
    architectures: dict[str, None] = field(default_factory=dict)
    locked: dict[str, tuple[str, ...]] = field(default_factory=dict)  # chip -> digests


@dataclass(frozen=True, slots=True)
class Mirrored:
    source: str
    target: str
    digests: tuple[str, ...]
    copied: int  # bytes; what was there already is not copied


def copies(job: Job) -> list[Copy]:
    """Which images the fleet pulls from elsewhere than the release says."""
    found: dict[tuple[str, str], Copy] = {}
    for host in job.fleet.hosts:
        image = job.variants[host.name].image.pulled
        target = site_reference(image.reference, host.registries)
        if target == image.reference:
            continue
        copy = found.setdefault((image.reference, target), Copy(image.reference, target, host))
        chip = str(host.chip)
        copy.locked[chip] = image.digests
        for name in job.chips[chip].detection.arch:
            copy.architectures[ARCHITECTURES.get(name, name)] = None
    if not found:
        raise UsageError(
            f"{job.fleet.inventory}: its hosts pull {job.release.name} from where the release says",
            remedy="flagprov_registries maps a release's registry to the site's own",
        )
    return list(found.values())


def mirror(job: Job, given: str | None, say: Callable[[str], None]) -> list[Mirrored]:
    """Copy each image, from `given` (another name, or an archive of docker save) where it is said."""
    wanted = copies(job)
    if given and len(wanted) > 1:
        names = ", ".join(copy.source for copy in wanted)
        raise UsageError(
            f"--from is one image; this fleet pulls {len(wanted)}: {names}", remedy="use --limit"
        )
    return [_mirror(copy, given or copy.source, say) for copy in wanted]


def _mirror(copy: Copy, source: str, say: Callable[[str], None]) -> Mirrored:
    tag = split(copy.target)[2]
    with ExitStack() as stack:
        target = stack.enter_context(registry_of(copy.target, copy.host))
        origin: Source
        if Path(source).is_file():
            say(f"hashing {source}")
            origin = FromArchive(Path(source))
        else:
            origin = FromRegistry(stack.enter_context(registry_of(source, copy.host)), source)
        say(f"{source} -> {copy.target}")
        parts = origin.parts(list(copy.architectures))
        check_locked(source, parts, copy.locked)
        copied = push(origin, parts, target, tag, say)
        return Mirrored(source, copy.target, parts.digests, copied)
