"""A directory named by its content: it is put there whole, never edited, and put right when somebody did."""

from __future__ import annotations

import os

from flagprov.host.files import digest, replace, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    if not os.path.isdir(spec["path"]):
        return {"exists": False}
    files = {}
    for folder, _, names in os.walk(spec["path"]):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, "rb") as stream:
                files[os.path.relpath(path, spec["path"])] = digest(stream.read())
    return {"exists": True, "files": files}


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if spec.get("absent"):
        return [("remove", "it is there", "nothing")] if observed["exists"] else []
    if not observed["exists"]:
        return [("create", spec.get("reason", "this configuration is new here"), "nothing")]
    wanted = {name: digest(content.encode()) for name, content in spec["files"].items()}
    edited = sorted(name for name in wanted if observed["files"].get(name) != wanted[name])
    foreign = sorted(name for name in observed["files"] if name not in wanted)
    if edited:
        return [("repair", "changed by hand: %s" % ", ".join(edited), "restart")]
    if foreign:
        return [("repair", "does not belong there: %s" % ", ".join(foreign), "nothing")]
    return []


def _put(spec: dict[str, Any], folder: str, name: str, *, sync: bool = True) -> None:
    """What is private is for its owner alone, who reads it in the container."""
    path, private = os.path.join(folder, name), name in spec.get("private", ())
    replace(path, spec["files"][name].encode(), 0o600 if private else 0o644, sync=sync)
    if private and spec.get("owner"):
        os.chown(path, spec["owner"], -1)


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    import shutil

    path = spec["path"]
    if spec.get("absent"):
        shutil.rmtree(path)
        return
    if observed["exists"]:  # an engine may run from there: its files are put right in place
        for name in observed["files"]:
            if name not in spec["files"]:
                os.unlink(os.path.join(path, name))
        for name in spec["files"]:
            _put(spec, path, name)
        return
    beside = path + ".new"
    shutil.rmtree(beside, ignore_errors=True)
    for name in spec["files"]:
        _put(spec, beside, name, sync=False)
    settle(beside)
    for folder, _, _ in os.walk(beside):
        os.chmod(folder, 0o755)
    os.rename(beside, path)
