"""A directory with its mode and, where it is said, its owner; `absent` removes it with all that is in it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        status = os.lstat(spec["path"])
    except FileNotFoundError:
        return {"exists": False}
    return {
        "exists": True,
        "directory": (status.st_mode & 0o170000) == 0o040000,
        "mode": "%04o" % (status.st_mode & 0o7777),
        "owner": status.st_uid,
    }


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if spec.get("absent"):
        return [("remove", spec.get("reason", "it is there"), "nothing")] if observed["exists"] else []
    if not observed["exists"]:
        return [("create", "it is missing", "nothing")]
    if not observed["directory"]:
        return [("block", "%s is not a directory" % spec["path"], "move it away")]
    if observed["mode"] != spec["mode"]:
        return [("update", "mode %s -> %s" % (observed["mode"], spec["mode"]), "nothing")]
    if "owner" in spec and observed["owner"] != spec["owner"]:
        return [("update", "owner %d -> %d" % (observed["owner"], spec["owner"]), "nothing")]
    return []


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    if spec.get("absent"):
        import shutil

        shutil.rmtree(spec["path"])
        return
    os.makedirs(spec["path"], exist_ok=True)
    os.chmod(spec["path"], int(spec["mode"], 8))
    if "owner" in spec:
        os.chown(spec["path"], spec["owner"], -1)
