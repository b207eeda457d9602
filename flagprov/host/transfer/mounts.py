"""What a path lies on: a share, this host's own disk, or a mount point that nothing is mounted at."""

from __future__ import annotations

import os

from flagprov.host.wire import Blocked

SHARED = ("lustre", "ceph", "glusterfs", "fuse.glusterfs", "gpfs", "beegfs", "cifs", "smb3", "fuse.juicefs")


def _lines(file: str) -> list[list[str]]:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            rows = [line.split() for line in stream if not line.lstrip().startswith("#")]
    except OSError:
        return []
    return [row for row in rows if len(row) >= 3]


def _inside(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _point(word: str) -> str:
    return word.replace("\\040", " ").rstrip("/") or "/"


def storage(path: str, mounts: str = "/proc/self/mounts") -> str:
    """Names the network share and the place on it; empty for this host's own disks."""
    path = os.path.realpath(path)
    best, share = "", ""
    for source, word, kind in (row[:3] for row in _lines(mounts)):
        point = _point(word)
        if _inside(path, point) and len(point) >= len(best):
            shared = kind.startswith("nfs") or kind in SHARED
            best, share = point, "%s %s" % (kind, source) if shared else ""
    return share and "%s %s" % (share, os.path.relpath(path, best))


def unmounted(path: str, fstab: str = "/etc/fstab", mounts: str = "/proc/self/mounts") -> str:
    """The mount point of /etc/fstab that a path lies under and where nothing is mounted."""
    there = {_point(row[1]) for row in _lines(mounts)}
    for row in _lines(fstab):
        point = _point(row[1])
        if point != "/" and point.startswith("/") and _inside(path, point) and point not in there:
            return point
    return ""


def not_mounted(point: str) -> tuple[str, str]:
    """What is wrong, and the way out."""
    return "%s is in /etc/fstab and not mounted" % point, "mount %s on this host" % point


def refuse_unmounted(path: str) -> None:
    """Nothing is written below a mount point that has lost its mount: it would fill the root disk."""
    point = unmounted(path)
    if point:
        raise Blocked("weights", *not_mounted(point))
