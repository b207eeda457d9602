"""An image as files, each named by its sha256 (an OCI layout): what is fanned out, what a bundle holds."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flagprov.distribute.alone import alone
from flagprov.distribute.content import Content, content_of
from flagprov.distribute.images import FromRegistry, Parts, check_locked
from flagprov.distribute.registry import WrongBytesError, sha256
from flagprov.errors import FlagprovError

BLOBS = "blobs/sha256"
NAME = "org.opencontainers.image.ref.name"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """One image for one processor in a directory."""

    root: Path
    reference: str
    manifest: str  # digest
    blobs: tuple[tuple[str, int], ...]  # digest and size, the manifest's among them
    layers: tuple[tuple[str, int], ...]  # the blobs that are unpacked, lowest first

    def part(self, digests: Collection[str]) -> Content:
        """These blobs as files."""
        wanted = [(_hex(digest), size) for digest, size in self.blobs if digest in digests]
        listed = [(f"{BLOBS}/{name}", size, name) for name, size in wanted]
        return content_of(listed, {"source": self.reference})

    @property
    def licence(self) -> str:
        """As the image's labels have it; its configuration is the first of its blobs."""
        config = json.loads((self.root / BLOBS / _hex(self.blobs[0][0])).read_text(encoding="utf-8"))
        labels = (config.get("config") or {}).get("Labels") or {}
        return str(labels.get("org.opencontainers.image.licenses", ""))


def fetch_layout(
    source: FromRegistry, reference: str, architecture: str, locked: Sequence[str], folder: Path, say: Say
) -> ImageLayout:
    """Bring an image into `folder`; what a run before brought is there already, each part is checked."""
    parts = source.parts([architecture])
    check_locked(reference, parts, {architecture: locked})
    data, kind = _single(parts, reference)
    digest = sha256(data)
    root = folder / _hex(digest)[:32]
    (root / BLOBS).mkdir(parents=True, exist_ok=True)
    with alone(root, lambda: say(f"{reference}: another run is fetching it")):
        lacking = {b: size for b, size in parts.blobs.items() if not _is_there(root / BLOBS / _hex(b), size)}
        _fits(root, sum(lacking.values()))
        for blob, size in lacking.items():
            say(f"{reference}: {size / 1e6:,.0f} MB")
            _fetch(root / BLOBS / _hex(blob), source, blob)
        _seal(root, reference, data, kind)
        return read_layout(root)


def put_layout(
    root: Path, reference: str, manifest: bytes, kind: str, config: bytes, layer: Path, digest: str
) -> None:
    """What an image has more than the one beneath it; the file `layer` moves in."""
    (root / BLOBS).mkdir(parents=True, exist_ok=True)
    layer.replace(root / BLOBS / _hex(digest))
    _write(root / BLOBS / _hex(sha256(config)), [config])
    _seal(root, reference, manifest, kind)


def built_root(folder: Path, reference: str, architecture: str) -> Path:
    """Where an image with build steps lies once it was built; its tag says what it is made of."""
    return folder / f"built-{reference.rpartition(':')[2]}-{architecture}"


def known_as(built: Path, digests: Collection[str]) -> set[str]:
    """Of the digests of a built image those for its processor: others that lie here go by the same name."""
    alike = built.parent.glob(f"{built.name.rpartition('-')[0]}-*/index.json")
    layouts = [read_layout(file.parent) for file in alike if file.parent != built]
    return set(digests) - {digest for layout in layouts for digest in (layout.blobs[0][0], layout.manifest)}


def whole(base: ImageLayout, built: Path) -> ImageLayout:
    """A built image with the layers of the one beneath it, in a directory of its own."""
    top = lying(read_layout(built))
    there = {digest for layout in (base, top) for digest, _ in layout.blobs}
    if not there.issuperset(digest for digest, _ in read_layout(built).blobs):
        raise FlagprovError(
            f"{top.reference}: was built from another image than {base.reference} is now",
            remedy=f"remove {built} and deploy the release once, which builds it anew",
        )
    root = built.with_name(f"{_hex(top.manifest)[:32]}")
    (root / BLOBS).mkdir(parents=True, exist_ok=True)
    for layout in (base, top):
        for digest, _ in layout.blobs:
            name = f"{BLOBS}/{_hex(digest)}"
            if not (root / name).exists():
                os.link(layout.root / name, root / name)
    for name in ("oci-layout", "index.json"):
        _write(root / name, [(built / name).read_bytes()])
    return read_layout(root)


def lying(layout: ImageLayout) -> ImageLayout:
    """Less the blobs that are not there."""
    there = tuple(blob for blob in layout.blobs if (layout.root / BLOBS / _hex(blob[0])).is_file())
    return replace(layout, blobs=there)


def _seal(root: Path, reference: str, manifest: bytes, kind: str) -> None:
    digest = sha256(manifest)
    _write(root / BLOBS / _hex(digest), [manifest])
    entry = {"mediaType": kind, "digest": digest, "size": len(manifest), "annotations": {NAME: reference}}
    _write(root / "oci-layout", [b'{"imageLayoutVersion": "1.0.0"}\n'])
    _write(root / "index.json", [json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()])


def read_layout(root: Path) -> ImageLayout:
    """What `fetch_layout` wrote."""
    try:
        (entry,) = json.loads((root / "index.json").read_text(encoding="utf-8"))["manifests"]
        digest = str(entry["digest"])
        manifest = json.loads((root / BLOBS / _hex(digest)).read_text(encoding="utf-8"))
        layers = layers_of(manifest)
        config = (str(manifest["config"]["digest"]), int(manifest["config"]["size"]))
        blobs = dict.fromkeys((config, *layers, (digest, int(entry["size"]))))
        reference = str(entry.get("annotations", {}).get(NAME, ""))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FlagprovError(f"{root}: not a whole OCI layout ({error})") from None
    return ImageLayout(root, reference, digest, tuple(blobs), layers)


def layers_of(manifest: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    """Digests and sizes, lowest first; one that an image has twice is there twice."""
    return tuple((str(layer["digest"]), int(layer["size"])) for layer in manifest["layers"])


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _fits(root: Path, total: int) -> None:
    begun = sum(path.stat().st_size for path in root.glob(f"{BLOBS}/*.part"))
    free = shutil.disk_usage(root).free
    if total - begun > free:
        raise FlagprovError(
            f"{root} has {free >> 20} MiB free, the image needs {(total - begun) >> 20} more",
            remedy="Let FLAGPROV_IMAGE_CACHE name a directory with room, or make some: flagprov prune",
        )


def _single(parts: Parts, reference: str) -> tuple[bytes, str]:
    if len(parts.manifests) != 1:
        raise FlagprovError(f"{reference}: several images where one was asked for")
    return parts.manifests[0]


def _fetch(target: Path, source: FromRegistry, digest: str) -> None:
    """Goes on where a run before was broken off, and begins anew where that was no part of it."""
    part = target.with_name(f"{target.name}.part")
    resumed = part.exists()
    try:
        begun = _pieces(part) if resumed else ()
        with part.open("ab") as stream:
            for piece in source.blob(digest, begun):
                stream.write(piece)
    except WrongBytesError:
        part.unlink()
        if not resumed:
            raise
        _fetch(target, source, digest)
    else:
        part.replace(target)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            yield piece


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    """Whole or not at all; a source checks what it gives."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as stream:
        for piece in pieces:
            stream.write(piece)
    beside.replace(path)


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
