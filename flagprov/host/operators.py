"""FlagGems in a replica's processes here: on where a process has proved it, not where a variable is set."""

from __future__ import annotations

import os

from flagprov.host.files import read_foreign
from flagprov.host.slots import CONTAINER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/flagprov"
SHOWN = ("pid", "process", "rank", "device", "flaggems", "version", "error")


def operators(spec: dict[str, Any]) -> dict[str, Any] | None:
    """What was asked for and what each process says; None where the record is of an older flagprov."""
    expected = spec.get("operators")
    if not expected:
        return None
    said: dict[str, Any] = {
        "asked": expected["asked"],
        "on": bool(expected["on"]),
        "reason": expected.get("reason", ""),
        "workers": expected.get("workers"),
        "processes": [],
    }
    if said["on"]:
        name = spec["container"][len(CONTAINER) :]
        said["processes"] = _processes(os.path.join(STATE, "replicas", name, "run"))
    return said


def missing(spec: dict[str, Any]) -> str:
    """Why an engine that serves does so without what was asked for; empty where all is proved."""
    said = operators(spec)
    if not said or not said["on"] or said["workers"] is None:
        return ""
    proved = [process for process in said["processes"] if process["flaggems"] == "on"]
    if len(proved) >= said["workers"]:
        return ""
    errors = [process["error"] for process in said["processes"] if process["error"]]
    why = errors[0] if errors else "its vLLM did not load flagprov's plugin there"
    return "FlagGems was asked for, and is on in %d of %d workers: %s" % (len(proved), said["workers"], why)


def _processes(run: str) -> list[dict[str, Any]]:
    """Of this start: the launcher empties the directory before it starts an engine."""
    folder = os.path.join(run, "operators")
    found = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else ():
        record = read_foreign(os.path.join(folder, name)) if name.endswith(".json") else {}
        if record.get("schema_version") == 1:
            process = {key: record.get(key) for key in SHOWN}
            found[record.get("pid")] = dict(process, operators=record.get("count", 0))
    # Those which compute nothing: the API server, the engine's core.
    for process in read_foreign(os.path.join(run, "state.json")).get("processes", ()):
        off = dict.fromkeys(("version", "error", "device"), "")
        found.setdefault(
            process["pid"],
            dict(off, pid=process["pid"], process=process["name"], flaggems="off", rank=None, operators=0),
        )
    return [found[pid] for pid in sorted(found, key=lambda pid: (found[pid]["rank"] or 0, pid or 0))]
