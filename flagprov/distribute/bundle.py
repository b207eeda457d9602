"""A bundle: one file with all that a release needs on a fleet that reaches no registry, no hub and no mirror.

A tar file: `bundle.json` first (what is inside, with sha256), `release.yaml` with its images locked, an OCI
layout per image in `oci/`, the weights in `weights/`, flagprov and what it needs in `wheels/`, and a signed
repository of packages for each platform in `packages/PLATFORM/`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flagprov.catalog import load_release
from flagprov.catalog.show import as_dict
from flagprov.distribute.alone import alone
from flagprov.distribute.disk import on_disk
from flagprov.distribute.layouts import ImageLayout, read_layout
from flagprov.errors import FlagprovError, UsageError, VersionError
from flagprov.host.transfer.layout import is_safe
from flagprov.host.transfer.manifest import file_digest
from flagprov.models.fleet import Fleet
from flagprov.models.release import Release, Variant
from flagprov.report.text import names
from flagprov.site import Site

SCHEMA_VERSION = 2
KIND = "flagprov bundle"
INDEX, RELEASE = "bundle.json", "release.yaml"
WEIGHTS, IMAGES, WHEELS, PACKAGES = "weights", "oci", "wheels", "packages"
_PIECE = 1 << 20

Say = Callable[[str], None]
Listed = tuple[str, int, str]  # path, size, sha256


@dataclass(frozen=True, slots=True)
class BundledImage:
    """An image for hosts of these chips that have this processor, as OCI names it."""

    chips: tuple[str, ...]
    architecture: str
    layout: ImageLayout


@dataclass(frozen=True, slots=True)
class Part:
    """A file that goes in, and what it is."""

    path: str  # inside
    file: Path
    name: str = ""  # none: it only lists others
    version: str = ""
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Packages:
    """The repository for one platform."""

    files: tuple[Listed, ...]
    versions: Mapping[str, str]  # of the packages, by name


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as it lies unpacked at a site."""

    root: Path
    release: Release
    images: tuple[BundledImage, ...]
    files: tuple[Listed, ...]  # of the weights
    packages: Mapping[str, Packages] = field(default_factory=dict)  # by platform

    @property
    def weights(self) -> Path:
        return self.root / WEIGHTS

    def check(self, fleet: Fleet) -> None:
        """Raises where the inventory alone says that the bundle is not for this fleet."""
        inside = {chip for image in self.images for chip in image.chips}
        without = [host for host in fleet.hosts if host.chip and host.chip not in inside]
        if without:
            chips = sorted({str(host.chip) for host in without})
            hosts = names([host.name for host in without])
            raise UsageError(
                f"the bundle has no image of {self.release.name} for {names(chips)} ({hosts})",
                remedy=self.command(chips),
            )

    def command(self, chips: Iterable[str] = (), platforms: Iterable[str] = ()) -> str:
        """What makes a bundle with these, too."""
        inside = sorted({chip for image in self.images for chip in image.chips} | set(chips))
        known = sorted({*self.packages, *platforms})
        words = [*(f"--chip {chip}" for chip in inside), *(f"--platform {platform}" for platform in known)]
        return f"flagprov bundle {self.release.name} {' '.join(words)} --output FILE.tar"

    def packages_root(self, platform: str) -> Path:
        return self.root / PACKAGES / platform

    def image(self, chip: str, architecture: str) -> ImageLayout:
        for image in self.images:
            if chip in image.chips and image.architecture == architecture:
                return image.layout
        raise UsageError(
            f"the bundle has no image of {self.release.name} for {chip} on {architecture}",
            remedy=self.command([chip]),
        )


def write(
    release: Release,
    images: Sequence[BundledImage],
    weights: Path,
    files: Sequence[Listed],
    output: Path,
    say: Say,
    more: Sequence[Part] = (),
) -> int:
    """Returns its size in bytes. Written beside and moved into place."""
    stored = yaml.safe_dump(as_dict(_locked(release, images)), sort_keys=False, allow_unicode=True).encode()
    parts: dict[str, Part] = {}
    for image in images:
        root = image.layout.root
        found = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".part")
        names = {path: f"{IMAGES}/{root.name}/{path.relative_to(root)}" for path in found}
        parts |= {name: Part(name, path) for path, name in names.items()}
    parts |= {part.path: part for part in more}
    listed: list[dict[str, Any]] = [_listed(RELEASE, len(stored), hashlib.sha256(stored).hexdigest())]
    listed += [
        _listed(part.path, part.file.stat().st_size, file_digest(str(part.file)))
        | {key: text for key in ("name", "version", "licence") if (text := getattr(part, key))}
        for part in parts.values()
    ]
    listed += [_listed(f"{WEIGHTS}/{name}", size, digest) for name, size, digest in files]
    index = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "release": release.name,
        "licence": release.card.licence if release.card else "",
        "revision": release.weights.revision or "",
        "images": [
            {"chips": list(i.chips), "architecture": i.architecture, "layout": i.layout.root.name,
             "reference": i.layout.reference, "manifest": i.layout.manifest, "licence": i.layout.licence}
            for i in images
        ],
        "files": listed,
    }  # fmt: skip
    beside = output.with_name(f"{output.name}.part")
    # Links, too, go in as files: hubs' clients keep weights behind them, images on one base share its layers.
    with on_disk(output.parent), ExitStack() as stack:
        stack.callback(beside.unlink, missing_ok=True)  # it may have taken all the room that there was
        with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
            _add(archive, INDEX, json.dumps(index, indent=1).encode())
            _add(archive, RELEASE, stored)
            weighed = ((f"{WEIGHTS}/{name}", weights / name) for name, _, _ in files)
            for name, path in (*((part.path, part.file) for part in parts.values()), *weighed):
                say(f"{name}: {path.stat().st_size / 1e6:,.1f} MB")
                archive.add(path, name, recursive=False, filter=_plain)
        beside.replace(output)
    return output.stat().st_size


def _listed(path: str, size: int, digest: str) -> dict[str, Any]:
    return {"path": path, "size": size, "sha256": digest}


def read_index(path: Path) -> dict[str, Any]:
    """What a bundle says that it holds; raises UsageErrors."""
    with _archive(path) as archive:
        return _index(path, archive)[0]


@contextmanager
def _archive(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path) as archive:
            yield archive
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a whole bundle ({error})", remedy="copy it again") from None


def _index(path: Path, archive: tarfile.TarFile) -> tuple[dict[str, Any], str]:
    """And its sha256."""
    first = archive.next()
    if first is None or first.name != INDEX:
        raise UsageError(f"{path}: not a bundle", remedy="flagprov bundle writes one")
    data = b"".join(_pieces(path, archive, first))
    index = json.loads(data)
    if index.get("kind") != KIND:
        raise UsageError(f"{path}: not a bundle", remedy="flagprov bundle writes one")
    if index.get("schema_version") != SCHEMA_VERSION:
        raise VersionError(f"{path}: written by another version of flagprov", remedy="write it again")
    return dict(index), hashlib.sha256(data).hexdigest()


def open_bundle(path: Path, site: Site) -> Bundle:
    """Unpacked once into the site, every file checked; raises UsageErrors that name the file."""
    with _archive(path) as archive:
        index, digest = _index(path, archive)
        root = site.root / "bundles" / digest[:16]
        try:
            with on_disk(site.root / "bundles"):
                site.root.mkdir(mode=0o700, parents=True, exist_ok=True)
                with alone(root.parent, lambda: None):
                    if not root.is_dir():
                        _unpack(path, archive, index, root)
                    os.utime(root)  # a prune of another run sees that somebody is at it
        except UsageError:  # of the bundle
            raise
        except FlagprovError as error:
            raise UsageError(error.message, remedy=error.remedy) from None
        return _opened(root, index)


def _opened(root: Path, index: Mapping[str, Any]) -> Bundle:
    images = tuple(
        BundledImage(tuple(image["chips"]), str(image["architecture"]), read_layout(_folder(root, image)))
        for image in index["images"]
    )
    platforms = dict.fromkeys(f["path"].split("/")[1] for f in index["files"] if _below(f, PACKAGES))
    packages = {
        platform: Packages(_files(index, folder), _versions(index, folder))
        for platform in platforms
        if (folder := f"{PACKAGES}/{platform}")
    }
    return Bundle(root, load_release(str(root / RELEASE)), images, _files(index, WEIGHTS), packages)


def _folder(root: Path, image: Mapping[str, Any]) -> Path:
    name = str(image["layout"])
    if "/" in name or not is_safe(name):
        raise ValueError(f"an image lies in {name!r}")
    return root / IMAGES / name


def _below(file: Mapping[str, Any], folder: str) -> bool:
    return str(file["path"]).startswith(f"{folder}/")


def _files(index: Mapping[str, Any], folder: str) -> tuple[Listed, ...]:
    found = [file for file in index["files"] if _below(file, folder)]
    return tuple((f["path"].removeprefix(f"{folder}/"), int(f["size"]), str(f["sha256"])) for f in found)


def _unpack(path: Path, archive: tarfile.TarFile, index: Mapping[str, Any], root: Path) -> None:
    wanted = {str(file["path"]): (int(file["size"]), str(file["sha256"])) for file in index["files"]}
    beside = root.with_name(f"{root.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(mode=0o700, parents=True)
    free, total = shutil.disk_usage(beside).free, sum(size for size, _ in wanted.values())
    if total > free:
        raise UsageError(
            f"{root.parent} has {free >> 20} MiB free, unpacking {path} needs {total >> 20}",
            remedy="make room, or put the inventory where there is some",
        )
    try:
        _put_files(path, archive, wanted, beside)
        beside.rename(root)
    except OSError:  # a full disk, for one: room for others
        shutil.rmtree(beside, ignore_errors=True)
        raise


def _put_files(
    path: Path, archive: tarfile.TarFile, wanted: dict[str, tuple[int, str]], folder: Path
) -> None:
    """Files with size and sha256, all of them and no others."""
    while member := _next(path, archive, next(iter(wanted), "its end")):
        size, digest = wanted.pop(member.name, (-1, ""))
        if not member.isfile() or not is_safe(member.name) or member.size != size:
            raise UsageError(f"{path}: {member.name!r} is not what its index says", remedy="copy it again")
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        with target.open("wb") as stream:
            for piece in _pieces(path, archive, member):
                found.update(piece)
                stream.write(piece)
        if found.hexdigest() != digest:
            raise UsageError(f"{path}: {member.name} has another sha256", remedy="copy it again")
    if wanted:
        raise UsageError(f"{path}: lacks {next(iter(wanted))}", remedy="copy it again")


def _next(path: Path, archive: tarfile.TarFile, expected: str) -> tarfile.TarInfo | None:
    try:
        return archive.next()
    except (tarfile.TarError, OSError) as error:
        raise UsageError(f"{path}: {expected} is damaged ({error})", remedy="copy it again") from None


def _versions(index: Mapping[str, Any], folder: str) -> dict[str, str]:
    return {
        file["name"]: file["version"] for file in index["files"] if _below(file, folder) and "name" in file
    }


def _locked(release: Release, images: Iterable[BundledImage]) -> Release:
    """The release with the variants that are inside, their images by digest."""
    variants: dict[str, Variant] = {}
    for image in images:
        config = next(digest for digest, _ in image.layout.blobs)
        for chip in image.chips:
            variant = variants.get(chip, release.variants[chip])
            digests = dict.fromkeys((*variant.image.digests, image.layout.manifest, config))
            locked = variant.image.model_copy(update={"digests": tuple(digests)})
            variants[chip] = variant.model_copy(update={"image": locked})
    return release.model_copy(update={"variants": variants})


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    archive.addfile(entry, io.BytesIO(data))


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nothing of this machine's users."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


def _pieces(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None  # a file: looked at before
    try:
        while piece := stream.read(_PIECE):
            yield piece
    except tarfile.TarError:
        raise UsageError(f"{path}: {member.name} is cut off", remedy="copy it again") from None
    except OSError as error:
        raise UsageError(f"{path}: {member.name} cannot be read ({error})", remedy="copy it again") from None
