"""A file with exact content and mode, replaced atomically."""

from __future__ import annotations

import os

from flagprov.host.files import digest, replace
from flagprov.host.slots import RECORD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    try:
        status = os.lstat(spec["path"])
        if (status.st_mode & 0o170000) != 0o100000:
            return {"exists": True, "regular": False}
        with open(spec["path"], "rb") as stream:
            content = digest(stream.read())
    except FileNotFoundError:
        return {"exists": False}
    return {"exists": True, "regular": True, "mode": "%04o" % (status.st_mode & 0o7777), "content": content}


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    path = spec["path"]
    if spec.get("absent"):
        return [("remove", spec.get("reason", "it is there"), "nothing")] if observed["exists"] else []
    if not observed["exists"]:
        return [("create", "it is missing", "nothing")]
    if not observed["regular"]:
        return [("block", "%s is not a regular file" % path, "move it away")]
    wanted = digest(spec["content"].encode())
    if observed["content"] != wanted:
        return [("update", "its content is other (%s)" % observed["content"][:12], "nothing")]
    mode = _mode(spec)
    if observed["mode"] != mode:
        return [("update", "mode %s -> %s" % (observed["mode"], mode), "nothing")]
    return []


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    if spec.get("absent"):
        os.unlink(spec["path"])
        if spec.get("unit"):
            from flagprov.host.resources.unit import forget

            forget()
        return
    replace(spec["path"], spec["content"].encode(), int(_mode(spec), 8))


def _mode(spec: dict[str, Any]) -> str:
    """A record may hold keys: it is for root alone, also as an older flagprov has asked for it."""
    return "0600" if os.path.basename(spec["path"]) == RECORD else str(spec["mode"])
