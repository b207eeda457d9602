"""What the launcher in a container says of itself, in a file that its container may write anything to."""

from __future__ import annotations

import os
import time

from flagprov.host.files import read_foreign, typed
from flagprov.host.slots import CONFIGS, CONTAINER, CURRENT, HOST, folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SILENT_S = 20.0  # a launcher touches its file every few seconds, whatever its engine does
LONGEST = 500  # of what it says
JUNK = "its launcher says nothing that is understood in state.json; a restart of its unit mends that"
NONE = type(None)
SAID: dict[str, Any] = {  # of state.json, as far as it is read here
    "phase": str,
    "started_at": (int, float),
    "reason": (str, NONE),
    "again": (int, NONE),
    "touch_s": (int, float, NONE),
    "stopped": (list, NONE),
    "ray": (dict, NONE),
    "current": (int, NONE),
}


def said(container: str, found: dict[str, Any], path: str = "") -> dict[str, Any]:
    """What the launcher of this start of a container says; nothing where the file is of an earlier one.

    `found` is what docker says of it; `path` where state.json does not lie as usual.
    """
    name = container[len(CONTAINER) :]
    path = path or os.path.join(folder(name), "run", "state.json")
    began = started(found)
    try:
        written = os.lstat(path).st_mtime
    except OSError:
        return {}
    told = read_foreign(path)
    ray = told.get("ray") or {"nodes": 0, "of": 0}
    if not (typed(told, SAID) and typed(ray, {"nodes": int, "of": int})):
        return {"junk": True, "reason": JUNK} if written >= began else {}
    if told["started_at"] < began:
        return {}
    here = os.path.join(os.path.dirname(os.path.dirname(path)), "host")
    reason = (told.get("reason") or "").replace(HOST, here)
    return dict(told, reason=reason[:LONGEST], age_s=time.time() - written, follows=_follows(name, told))


def started(found: dict[str, Any]) -> int:
    """When the container was, in seconds since the epoch."""
    import calendar

    return calendar.timegm(time.strptime(found["State"]["StartedAt"][:19], "%Y-%m-%dT%H:%M:%S"))


def silent(told: dict[str, Any]) -> bool:
    return bool(told.get("touch_s")) and told["age_s"] > SILENT_S


def made_ns(link: str) -> int | None:
    """The moment by which a launcher knows the link that it was called by."""
    try:
        return os.lstat(link).st_mtime_ns
    except OSError:
        return None


def _follows(name: str, told: dict[str, Any]) -> bool:
    """Whether it runs what it is to run, where there is a choice: an older launcher says nothing of it."""
    made = made_ns(os.path.join(folder(name), CONFIGS, CURRENT))
    return made is None or told.get("current") in (None, made)
