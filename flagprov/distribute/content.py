"""What is to be brought to the hosts: a list of files, and how it is cut into chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flagprov.errors import FlagprovError
from flagprov.host.transfer.layout import chunk_size, content_id, is_safe
from flagprov.models.fleet import Host

Listed = tuple[str, int, str]  # path, size, sha256 (empty: not known before it was read)


@dataclass(frozen=True, slots=True)
class Content:
    """Files with sizes and, where a lock or a manifest has them, their sha256."""

    files: tuple[Listed, ...]
    origin: Mapping[str, Any] = field(default_factory=dict)  # kept in the hosts' manifests
    written: str = ""  # says which version it is where there is no lock

    @property
    def total(self) -> int:
        return sum(size for _, size, _ in self.files)

    @property
    def chunk(self) -> int:
        return chunk_size(self.total)

    @property
    def id(self) -> str:
        return content_id(list(self.files), self.chunk, "" if self.locked else self.written)

    @property
    def locked(self) -> bool:
        return all(digest for _, _, digest in self.files)


def content_of(
    listed: Sequence[Sequence[Any]], origin: Mapping[str, Any] | None = None, written: str = ""
) -> Content:
    """Small files first: what a model is, is known before its shards are all there."""
    files = tuple((str(path), int(size), str(digest or "")) for path, size, digest in listed)
    bad = [path for path, size, _ in files if not is_safe(path) or size < 0]
    if bad:
        raise FlagprovError(f"{bad[0]!r} is no path of a file that hosts may take")
    ordered = sorted(files, key=lambda entry: (entry[1] > 64 << 20, entry[0]))
    return Content(tuple(ordered), dict(origin or {}), written)


@dataclass(frozen=True, slots=True)
class Here:
    """The source is a directory on the controller."""

    path: Path


@dataclass(frozen=True, slots=True)
class There:
    """The source is a directory on a host of the fleet."""

    host: Host
    path: str
    place: str = ""  # where this host itself wants it, if it lies elsewhere
