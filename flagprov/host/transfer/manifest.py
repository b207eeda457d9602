"""What lies beside the files that flagprov brought or hashed: file, size, sha256, and how to see a change."""

from __future__ import annotations

import hashlib
import json
import os

from flagprov.host.files import read_json, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAME = ".flagprov-manifest.json"
ELSEWHERE = "/var/lib/flagprov/manifests"  # of directories that this host may not write to
BLOCK = 1 << 20


def stamp(path: str) -> tuple[int, int, int]:
    """Size, time of change in ns and inode: the same as before, the file was not written since."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def read(folder: str) -> dict[str, dict[str, Any]]:
    """Path -> entry; empty where there is no manifest."""
    return {str(entry["path"]): entry for entry in _stored(folder).get("files", ())}


def brought(folder: str) -> str:
    """Which content the files came with; empty where they did not come by a transfer."""
    return str(_stored(folder).get("content") or "")


def found(folder: str) -> bool:
    """Whether somebody else brought the files, and flagprov only hashed them."""
    return bool(_stored(folder).get("found"))


def _stored(folder: str) -> dict[str, Any]:
    for path in (os.path.join(folder, NAME), _elsewhere(folder)):
        stored = read_json(path)
        if isinstance(stored, dict) and stored.get("schema_version") == 1:
            return stored
    return {}


def _elsewhere(folder: str) -> str:
    name = hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:16]
    return os.path.join(ELSEWHERE, name + ".json")


def write(folder: str, sums: dict[str, str], origin: dict[str, Any], beside: str = "") -> None:
    """After every file is whole and on the disk. A directory that somebody else brought stays his."""
    if found(folder):
        origin = dict(origin, found=True)
    files = []
    for path in sorted(sums):
        size, mtime, inode = stamp(os.path.join(beside or folder, path))
        files.append({"path": path, "size": size, "sha256": sums[path], "mtime_ns": mtime, "inode": inode})
    text = json.dumps(dict(origin, schema_version=1, files=files), indent=1) + "\n"
    replace(os.path.join(folder, NAME), text.encode(), 0o644)


def promise(folder: str, sums: dict[str, str], origin: dict[str, Any], beside: str) -> None:
    """Before files move from `beside` to where none of ours are: after a kill a look sees what is missing."""
    if not _stored(folder):
        write(folder, sums, origin, beside)


def remove(folder: str) -> None:
    """The files that the manifest lists, itself last, and the directories that are empty then."""
    _unlink(folder, list(read(folder)))
    os.unlink(os.path.join(folder, NAME))
    _tidy(folder)


def settle(folder: str, sums: dict[str, str], origin: dict[str, Any]) -> None:
    """New files are in their places: say so, and only then remove what an earlier one of ours had besides.

    An engine may load what lies there.
    """
    ours = [] if found(folder) else list(read(folder))
    write(folder, sums, origin)
    gone = [path for path in ours if path not in sums]
    if gone:
        _unlink(folder, gone)
        _tidy(folder)


def _unlink(folder: str, paths: list[str]) -> None:
    top = os.path.realpath(folder)
    for path in paths:
        full = os.path.join(top, path)
        inside = os.path.realpath(os.path.dirname(full))
        if inside != top and not inside.startswith(top + os.sep):
            continue  # a manifest is only a file: it has no say over what lies elsewhere
        try:
            os.unlink(full)
        except FileNotFoundError:
            continue


def _tidy(folder: str) -> None:
    for below, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(below):
            os.rmdir(below)


def unchanged(folder: str, entry: dict[str, Any]) -> bool:
    """Whether a file is still the one that was hashed; no byte of it is read."""
    try:
        found = stamp(os.path.join(folder, entry["path"]))
    except OSError:
        return False
    return found == (entry["size"], entry["mtime_ns"], entry["inode"])


def faults(folder: str, wanted: list[tuple[str, int, str]]) -> list[str]:
    """What is missing, differs, or was written since it was hashed; reads no file."""
    found = differences(folder, wanted)
    return found["faults"] + ["%s: not hashed since it was written" % path for path in found["written"]]


def differences(folder: str, wanted: list[Any]) -> dict[str, list[str]]:
    """`faults` by sizes and by the manifest, and files that were `written` since they were hashed, if ever.

    Of the faults, files that are surely (`others`) or maybe (`unknown`: never hashed) another version.
    """
    known = read(folder)
    found: list[str] = []
    others: list[str] = []
    unknown: list[str] = []
    written: list[str] = []
    for path, size, digest in wanted:
        try:
            real = os.path.getsize(os.path.join(folder, path))
        except OSError:
            found.append("%s: missing" % path)
            continue
        if digest and path in known and known[path]["sha256"] != digest:
            others.append(path)
            found.append("%s: another version" % path)
        elif real != size:
            found.append("%s: %d bytes instead of %d" % (path, real, size))
            if digest and path not in known:
                unknown.append(path)
        elif not unchanged(folder, known[path]) if path in known else digest:
            written.append(path)
    return {"faults": found, "others": others, "unknown": unknown, "written": written}


def check_again(folder: str, paths: list[str], locked: dict[str, str]) -> str:
    """Hash files that were written; the manifest takes them up. Returns the first that differs."""
    known = read(folder)
    for path in paths:
        full = os.path.join(folder, path)
        size, mtime, inode = stamp(full)
        digest = file_digest(full)
        if digest != (locked.get(path) or known[path]["sha256"]):
            return path
        known[path] = {"path": path, "size": size, "sha256": digest, "mtime_ns": mtime, "inode": inode}
    kept = dict(_stored(folder) or {"schema_version": 1, "found": True})
    kept["files"] = [known[path] for path in sorted(known)]
    text = (json.dumps(kept, indent=1) + "\n").encode()
    try:
        replace(os.path.join(folder, NAME), text, 0o644)
    except OSError:  # a share that this host may only read
        os.makedirs(ELSEWHERE, mode=0o755, exist_ok=True)
        replace(_elsewhere(folder), text, 0o644)
    return ""


def deep_faults(
    folder: str, wanted: list[tuple[str, int, str]], report: Callable[[int, int], None] | None = None
) -> list[str]:
    """Like `faults`, but every byte is read and hashed."""
    known = read(folder)
    if not wanted:
        wanted = [(path, entry["size"], entry["sha256"]) for path, entry in sorted(known.items())]
    total, done, found = sum(size for _, size, _ in wanted), 0, []
    for path, size, digest in wanted:
        digest = digest or known.get(path, {}).get("sha256", "")
        full = os.path.join(folder, path)
        try:
            if os.path.getsize(full) != size:
                found.append("%s: %d bytes instead of %d" % (path, os.path.getsize(full), size))
            elif digest and file_digest(full) != digest:
                found.append("%s: its sha256 is not %s" % (path, digest))
        except OSError as error:
            found.append("%s: %s" % (path, error.strerror or error))
        done += size
        if report:
            report(done, total)
    return found


def file_digest(path: str) -> str:
    sha = hashlib.sha256()
    with open(path, "rb", buffering=0) as stream:
        while True:
            block = stream.read(BLOCK)
            if not block:
                return sha.hexdigest()
            sha.update(block)
