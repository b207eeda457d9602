"""Whether all that is on its way to this host fits, summed for each file system."""

from __future__ import annotations

import os

from flagprov.host.layers import data_root, held
from flagprov.host.transfer import manifest
from flagprov.host.transfer.store import SPARE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def room(request: dict[str, Any]) -> dict[str, Any]:
    """`needs`: what, its bytes or its image's layers, and where it goes to (empty: docker's data root)."""
    needed: dict[int, list[tuple[str, int]]] = {}
    folders: dict[int, str] = {}
    for need in request["needs"]:
        path = str(need["path"]) or data_root()
        folder = _existing(path)
        device = os.stat(folder).st_dev
        folders.setdefault(device, folder)
        total = int(need["bytes"]) if "bytes" in need else _unheld(need["layers"], need.get("times", 1))
        lacking = max(0, total - _there(path, need.get("files") or []))
        needed.setdefault(device, []).append((str(need["what"]), lacking))
    return {"faults": [_fault(folders[device], parts) for device, parts in needed.items()]}


def _fault(folder: str, parts: list[tuple[str, int]]) -> str:
    """Empty where it fits."""
    status = os.statvfs(folder)
    free, total = status.f_bavail * status.f_frsize, sum(size for _, size in parts)
    if total + min(SPARE, total // 10) <= free:
        return ""
    words = ", ".join("%s %d MiB" % (what, size >> 20) for what, size in parts)
    return "the file system of %s has %d MiB free; on their way are %s" % (folder, free >> 20, words)


def _unheld(layers: list[list[Any]], times: float) -> int:
    has = held([str(digest) for digest, _ in layers])
    return int(times * sum({str(digest): int(size) for digest, size in layers if digest not in has}.values()))


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _there(path: str, files: list[list[Any]]) -> int:
    """Bytes that are not brought again: files that are as locked, and what an earlier run left beside."""
    known = manifest.read(path)
    total = sum(
        int(size)
        for name, size, digest in files
        if known.get(name, {}).get("sha256") == digest and manifest.unchanged(path, known[name])
    )
    parent, name = os.path.split(path.rstrip("/"))
    for entry in os.listdir(parent) if os.path.isdir(parent) else ():
        if entry.startswith(name + ".flagprov-"):
            total += _allocated(os.path.join(parent, entry))
    return total


def _allocated(folder: str) -> int:
    """Files have their size from the beginning; blocks tell what has arrived."""
    return sum(
        os.lstat(os.path.join(base, name)).st_blocks * 512
        for base, _, names in os.walk(folder)
        for name in names
    )
