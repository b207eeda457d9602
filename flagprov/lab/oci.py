"""Container images written straight into a registry's storage.

Layers stay uncompressed: on one machine compressing costs minutes and saves nothing. The storage is that
of the distribution registry 2.x, so an image is there the moment its files are.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flagprov.errors import LabError

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Blob:
    """Content in the storage, named by its digest."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the storage: the digests that docker may call it by."""

    repository: str
    tag: str
    manifest: str
    config: str
    size: int


class Storage:
    """The directory that the registry serves."""

    def __init__(self, root: Path) -> None:
        self.v2 = root / "docker" / "registry" / "v2"

    def has(self, blob: Blob) -> bool:
        path = self._data(blob.digest)
        return path.is_file() and path.stat().st_size == blob.size

    def layer(self, directory: Path) -> Blob:
        """A directory as an uncompressed layer."""
        incoming = self.v2 / "incoming" / str(os.getpid())
        incoming.parent.mkdir(parents=True, exist_ok=True)
        temporary = incoming.with_suffix(f".{directory.name}")
        command = ["tar", "--directory", str(directory), "--sort=name", "--numeric-owner", "--create", "."]
        digest, size = hashlib.sha256(), 0
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as tar,
            temporary.open("wb") as sink,
        ):
            assert tar.stdout is not None and tar.stderr is not None
            while chunk := tar.stdout.read(1 << 20):
                digest.update(chunk)
                sink.write(chunk)
                size += len(chunk)
            said = tar.stderr.read().decode(errors="replace")
        if tar.returncode:
            temporary.unlink()
            raise LabError(f"tar of {directory} failed: {said.strip()[-400:]}", remedy="is the disk full?")
        blob = Blob(f"sha256:{digest.hexdigest()}", size)
        self._data(blob.digest).parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(self._data(blob.digest))
        return blob

    def image(
        self, repository: str, tag: str, layers: Sequence[Blob], config: dict[str, Any], arch: str = ""
    ) -> Image:
        """Name an image of these layers; the same input gives the same digests."""
        machine = arch or {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
        content = {
            "architecture": machine,
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "flagprov lab"} for _ in layers],
        }
        configured = self._put(content)
        manifest = self._put(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": CONFIG_TYPE, **asdict(configured)},
                "layers": [{"mediaType": LAYER_TYPE, **asdict(layer)} for layer in layers],
            }
        )
        home = self.v2 / "repositories" / repository
        for blob in (configured, *layers):
            _link(home / "_layers" / blob.digest.replace(":", "/") / "link", blob.digest)
        plain = manifest.digest.replace(":", "/")
        _link(home / "_manifests" / "revisions" / plain / "link", manifest.digest)
        _link(home / "_manifests" / "tags" / tag / "index" / plain / "link", manifest.digest)
        _link(home / "_manifests" / "tags" / tag / "current" / "link", manifest.digest)
        size = sum(layer.size for layer in layers)
        return Image(repository, tag, manifest.digest, configured.digest, size)

    def sweep(self, keep: Sequence[Blob]) -> None:
        """Remove what a build that was cut off left, and blobs larger than a manifest that nothing uses."""
        for leftover in (self.v2 / "incoming").glob("*"):
            leftover.unlink()
        kept = {blob.digest for blob in keep}
        for data in (self.v2 / "blobs").glob("sha256/*/*/data"):
            if data.stat().st_size > 1 << 20 and f"sha256:{data.parent.name}" not in kept:
                data.unlink()

    def _data(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.v2 / "blobs" / "sha256" / name[:2] / name / "data"

    def _put(self, content: dict[str, Any]) -> Blob:
        text = json.dumps(content, separators=(",", ":"), sort_keys=True).encode()
        digest = f"sha256:{hashlib.sha256(text).hexdigest()}"
        path = self._data(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        return Blob(digest, len(text))


def _link(path: Path, digest: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(digest)
