"""What this controller keeps to bring it to hosts, and what of it nothing needs any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import chain
from pathlib import Path

from flagprov.apply.record import lives
from flagprov.catalog import load_release, with_lock
from flagprov.distribute.bundle import IMAGES, RELEASE
from flagprov.distribute.layouts import read_layout
from flagprov.documents.check import read_model
from flagprov.documents.document import read
from flagprov.errors import FlagprovError
from flagprov.models.desired import Stage
from flagprov.models.observed import Change
from flagprov.models.release import Lock
from flagprov.site import Site

YOUNG_S = 3600.0  # somebody may be at it: a download, a bundle that is written


def unneeded(site: Site, needed: Collection[str], asked: Collection[str], keep: int) -> tuple[Change, ...]:
    """Directories that may go; `needed` are names and digests of the images of the hosts that were `asked`.

    Always stay: the newest `keep` of each kind, what a lock or a deployment names, and all of it while
    another run is under way.
    """
    if any(lives(run) for run in (site.root / "runs").glob("*")):
        return ()
    deployed = site.deployed().values()
    elsewhere = {str(one["release"]) for one in deployed if not set(one["hosts"]) <= set(asked)}
    named = {*needed, *_locked(site, elsewhere)}
    releases = {str(one["release"]) for one in deployed} | {path.stem for path in _locks(site)}

    def has_image(layout: Path) -> bool:
        return not named.isdisjoint(_names(layout))

    def has_bundle(root: Path) -> bool:
        if root.suffix == ".part":
            return False
        try:
            release = load_release(str(root / RELEASE)).name
        except FlagprovError:  # of another version of flagprov
            return True
        return release in elsewhere or any(map(has_image, (root / IMAGES).glob("*")))

    return (
        *_old(site.root / "oci", keep, has_image),
        *_old(site.root / "bundles", keep, has_bundle),
        *_old(site.root / "weights", keep, lambda folder: folder.name in releases),
        *_old(site.root / "packages", keep, lambda folder: False),  # what is needed of it lies in bundles
        *_unused([path for path in [site.root / "wheels"] if path.is_dir()], lambda folder: False),
    )


def _old(folder: Path, keep: int, used: Callable[[Path], bool]) -> Iterator[Change]:
    entries = sorted((path for path in folder.glob("*") if path.is_dir()), key=_newest)
    yield from _unused(entries[:-keep], used)


def _unused(folders: Iterable[Path], used: Callable[[Path], bool]) -> Iterator[Change]:
    for path in folders:
        if time.time() - _newest(path) > YOUNG_S and not used(path):
            size = sum(file.lstat().st_size for file in path.rglob("*"))
            reason = f"nothing needs it; {size / 1e6:,.1f} MB"
            yield Change("directory", str(path), Stage.VERIFY.label, "remove", reason)


def _newest(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _locks(site: Site) -> Iterator[Path]:
    return (site.root / "locks").glob("*.json")


def _locked(site: Site, elsewhere: Collection[str]) -> Iterator[str]:
    """Names and digests of the images that the site's releases stand for.

    All that were ever locked where the release is deployed on other hosts, or is not in the catalog.
    """
    for path in _locks(site):
        lock = read_model(read(path), Lock, f"Remove {path} and lock the release again.")
        try:
            release = with_lock(load_release(path.stem), path)
        except FlagprovError:
            release = None
        for variant in release.variants.values() if release else ():
            yield from (variant.image.reference, *variant.image.digests)
        if release is None or path.stem in elsewhere:
            for locked in lock.variants.values():
                yield from (*locked.digests, *locked.references, *chain(*locked.references.values()))


def _names(root: Path) -> set[str]:
    """By which an image may be wanted; none where it is not whole."""
    try:
        layout = read_layout(root)
    except FlagprovError:
        return set()
    return {layout.reference, layout.manifest, layout.blobs[0][0]}
