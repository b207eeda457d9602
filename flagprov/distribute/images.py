"""Images for a site's own registry: from the registry that a card names, or from a `docker save` archive."""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flagprov.distribute.registry import MANIFESTS, Registry, of_architecture, sha256, split
from flagprov.errors import FlagprovError, UsageError

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
AT_ONCE = 4
SAY_S = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an image is made of; a source gives the bytes."""

    manifests: tuple[tuple[bytes, str], ...]  # with media types; the one that the tag names comes last
    blobs: Mapping[str, int]  # digest -> size
    digests: tuple[str, ...]  # of the index, and of each manifest with its configuration: each is a name


class Source(Protocol):
    """Where an image's parts come from."""

    def parts(self, architectures: Sequence[str]) -> Parts:
        """For these processors, as OCI names them, as far as there are images for them."""

    def blob(self, digest: str) -> Iterable[bytes]: ...


class FromRegistry:
    def __init__(self, registry: Registry, reference: str) -> None:
        self.registry, self.reference = registry, reference

    def parts(self, architectures: Sequence[str]) -> Parts:
        data, kind = self.registry.manifest(split(self.reference)[2])
        index = json.loads(data)
        if "manifests" not in index:
            return _parts([(data, kind)])
        wanted = {name: of_architecture(index, name) for name in architectures}
        found = [entries[0] for entries in wanted.values() if entries]
        if not found:
            raise FlagprovError(f"{self.reference}: has no image for {' or '.join(architectures)}")
        if len(found) == 1:  # tens of gigabytes for processors that nobody has stay where they are
            return _parts([self.registry.manifest(str(found[0]["digest"]))], sha256(data))
        children = [self.registry.manifest(str(entry["digest"])) for entry in index["manifests"]]
        return _parts([*children, (data, kind)])

    def blob(self, digest: str, begun: Iterable[bytes] = ()) -> Iterable[bytes]:
        return self.registry.blob(digest, begun)


class FromArchive:
    """`docker save -o FILE IMAGE`: one image, its layers not compressed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with tarfile.open(path) as archive:
                listed = json.load(_member(archive, "manifest.json"))
                if len(listed) != 1:
                    raise UsageError(f"{path}: holds {len(listed)} images", remedy="docker save one of them")
                names = [str(name) for name in (listed[0]["Config"], *listed[0]["Layers"])]
                self._sums = {name: _sum(archive, name) for name in dict.fromkeys(names)}
        except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not an archive of docker save ({error})") from None
        self._names = names

    def parts(self, architectures: Sequence[str]) -> Parts:
        config, *layers = [
            {"mediaType": LAYER if number else CONFIG, "digest": digest, "size": size}
            for number, (digest, size) in enumerate(self._sums[name] for name in self._names)
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFESTS[0], "config": config, "layers": layers}
        return _parts([(json.dumps(manifest, sort_keys=True).encode(), MANIFESTS[0])])

    def blob(self, digest: str) -> Iterator[bytes]:
        (name, *_) = [name for name, (known, _) in self._sums.items() if known == digest]
        with tarfile.open(self.path) as archive:
            yield from _pieces(_member(archive, name))


def check_locked(target: str, parts: Parts, locked: Mapping[str, Sequence[str]]) -> None:
    """What is copied must be what the release has locked, for every chip that uses it."""
    for chip, digests in locked.items():
        if digests and not set(digests) & set(parts.digests):
            raise FlagprovError(
                f"{target}: this is not the image that is locked for {chip}",
                remedy="Its tag was moved, or another processor's is locked: flagprov releases lock NAME; "
                "for an image of the settings, remove its name from the site's lock file",
            )


def push(source: Source, parts: Parts, target: Registry, tag: str, say: Say) -> int:
    """Copy what the target lacks; a copy that was broken off goes on with what is missing. Bytes copied."""
    lacking = {digest: size for digest, size in parts.blobs.items() if not target.has(digest)}
    progress = _Progress(sum(lacking.values()), say)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        copies = [
            pool.submit(target.put_blob, digest, size, progress.of(source.blob(digest)))
            for digest, size in lacking.items()
        ]
        for copy in copies:
            copy.result()
    for data, kind in parts.manifests:
        target.put_manifest(sha256(data), data, kind)
    target.put_manifest(tag, *parts.manifests[-1])
    return sum(lacking.values())


def _parts(manifests: Sequence[tuple[bytes, str]], *more: str) -> Parts:
    blobs: dict[str, int] = {}
    digests = list(more)
    for data, _ in manifests:
        stored = json.loads(data)
        digests.append(sha256(data))
        if "config" in stored:
            digests.append(str(stored["config"]["digest"]))
            pieces = (stored["config"], *stored["layers"])
            blobs |= {str(piece["digest"]): int(piece["size"]) for piece in pieces}
    if wrong := [digest for digest in blobs if not DIGEST.fullmatch(digest)]:
        raise FlagprovError(f"its manifest names {wrong[0]!r}, which is no sha256")  # files are called so
    return Parts(tuple(manifests), blobs, tuple(dict.fromkeys(digests)))


class _Progress:
    """Says how far all copies are together, every few seconds."""

    def __init__(self, total: int, say: Say) -> None:
        self.total, self.done, self._say = total, 0, say
        self._begun = self._said = time.monotonic()

    def of(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            yield piece
            self.done += len(piece)
            now = time.monotonic()
            if now - self._said > SAY_S:
                self._said = now
                rate = self.done / (now - self._begun)
                left = (self.total - self.done) / rate
                self._say(f"{self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB, {left:.0f} s left")


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found


def _sum(archive: tarfile.TarFile, name: str) -> tuple[str, int]:
    """sha256 and size."""
    digest, size = hashlib.sha256(), 0
    for piece in _pieces(_member(archive, name)):
        digest.update(piece)
        size += len(piece)
    return f"sha256:{digest.hexdigest()}", size


def _pieces(stream: Any) -> Iterator[bytes]:
    while piece := stream.read(1 << 20):
        yield piece
