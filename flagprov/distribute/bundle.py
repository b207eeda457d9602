"""A bundle: one file with all that a release needs on a fleet that reaches no registry and no hub.

A tar file: `bundle.json` first (what is inside, with sha256), `release.yaml` with its images locked, an OCI
layout per image in `oci/`, the weights in `weights/`.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flagprov.catalog import load_release
from flagprov.catalog.show import as_dict
from flagprov.distribute.layouts import ImageLayout, read_layout
from flagprov.errors import UsageError, VersionError
from flagprov.host.transfer.layout import is_safe
from flagprov.host.transfer.manifest import file_digest
from flagprov.models.release import Release, Variant
from flagprov.site import Site

SCHEMA_VERSION = 1
KIND = "flagprov bundle"
INDEX, RELEASE, WEIGHTS, IMAGES = "bundle.json", "release.yaml", "weights", "oci"
ENDING = ".tar"
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
class Bundle:
    """A bundle as it lies unpacked at a site."""

    root: Path
    release: Release
    images: tuple[BundledImage, ...]
    files: tuple[Listed, ...]  # of the weights

    @property
    def weights(self) -> Path:
        return self.root / WEIGHTS

    def image(self, chip: str, architecture: str) -> ImageLayout:
        for image in self.images:
            if chip in image.chips and image.architecture == architecture:
                return image.layout
        raise UsageError(
            f"the bundle has no image of {self.release.name} for {chip} on {architecture}",
            remedy="flagprov bundle writes one with the chips that are named to it",
        )


def write(
    release: Release,
    images: Sequence[BundledImage],
    weights: Path,
    files: Sequence[Listed],
    output: Path,
    say: Say,
) -> int:
    """Returns its size in bytes. Written beside and moved into place."""
    stored = yaml.safe_dump(as_dict(_locked(release, images)), sort_keys=False, allow_unicode=True).encode()
    parts: list[tuple[str, Path]] = []
    for image in images:
        root = image.layout.root
        found = sorted(path for path in root.rglob("*") if path.is_file() and path.suffix != ".part")
        parts += [(f"{IMAGES}/{root.name}/{path.relative_to(root)}", path) for path in found]
    listed: list[Listed] = [(RELEASE, len(stored), hashlib.sha256(stored).hexdigest())]
    listed += [(name, path.stat().st_size, file_digest(str(path))) for name, path in dict(parts).items()]
    listed += [(f"{WEIGHTS}/{name}", size, digest) for name, size, digest in files]
    index = {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "release": release.name,
        "images": [
            {"chips": list(i.chips), "architecture": i.architecture, "layout": i.layout.root.name,
             "reference": i.layout.reference, "manifest": i.layout.manifest}
            for i in images
        ],
        "files": [{"path": name, "size": size, "sha256": digest} for name, size, digest in listed],
    }  # fmt: skip
    beside = output.with_name(f"{output.name}.part")
    with tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, INDEX, json.dumps(index, indent=1).encode())
        _add(archive, RELEASE, stored)
        for name, path in (*dict(parts).items(), *((f"{WEIGHTS}/{n}", weights / n) for n, _, _ in files)):
            say(f"{name}: {path.stat().st_size / 1e6:,.1f} MB")
            archive.add(path, name, recursive=False, filter=_plain)
    beside.replace(output)
    return output.stat().st_size


def open_bundle(path: Path, site: Site) -> Bundle:
    """Unpacked once into the site, every file checked; raises UsageErrors that name the file."""
    try:
        with tarfile.open(path) as archive:
            first = archive.next()
            if first is None or first.name != INDEX:
                raise UsageError(f"{path}: not a bundle", remedy="flagprov bundle writes one")
            data = _read(archive, first)
            index = json.loads(data)
            if index.get("kind") != KIND:
                raise UsageError(f"{path}: not a bundle", remedy="flagprov bundle writes one")
            if index.get("schema_version") != SCHEMA_VERSION:
                raise VersionError(f"{path}: written by another version of flagprov", remedy="write it again")
            root = site.root / "bundles" / hashlib.sha256(data).hexdigest()[:16]
            if not root.is_dir():
                _unpack(path, archive, index, root)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (tarfile.TarError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a whole bundle ({error})", remedy="copy it again") from None
    return _opened(root, index)


def _opened(root: Path, index: Mapping[str, Any]) -> Bundle:
    images = tuple(
        BundledImage(
            tuple(image["chips"]), str(image["architecture"]), read_layout(root / IMAGES / image["layout"])
        )
        for image in index["images"]
    )
    inside = [(f["path"].partition("/"), int(f["size"]), str(f["sha256"])) for f in index["files"]]
    files = tuple((rest, size, digest) for (top, _, rest), size, digest in inside if top == WEIGHTS)
    return Bundle(root, load_release(str(root / RELEASE)), images, files)


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
    while member := archive.next():
        size, digest = wanted.pop(member.name, (-1, ""))
        if not member.isfile() or not is_safe(member.name) or member.size != size:
            raise UsageError(f"{path}: {member.name!r} is not what its index says", remedy="copy it again")
        target = beside / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        found = hashlib.sha256()
        with target.open("wb") as stream:
            for piece in _pieces(archive, member):
                found.update(piece)
                stream.write(piece)
        if found.hexdigest() != digest:
            raise UsageError(f"{path}: {member.name} has another sha256", remedy="copy it again")
    if wanted:
        raise UsageError(f"{path}: lacks {next(iter(wanted))}", remedy="copy it again")
    beside.rename(root)


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


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    return b"".join(_pieces(archive, member))


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = archive.extractfile(member)
    assert stream is not None  # a file: looked at before
    while piece := stream.read(_PIECE):
        yield piece
