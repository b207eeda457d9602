"""FlagGems in a replica's processes here: on where a process has proved it, not where a variable is set."""

from __future__ import annotations

import os

from flagprov.host.files import read_foreign, typed
from flagprov.host.slots import CONTAINER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STATE = "/var/lib/flagprov"
NONE = type(None)
SHOWN: dict[str, Any] = {
    "pid": int,
    "process": str,
    "rank": (int, NONE),
    "device": str,
    "flaggems": str,
    "version": (str, NONE),
    "error": str,
}
PROOF = dict(SHOWN, count=int)
PROCESS = {"pid": int, "name": str}


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
    ours = os.path.isdir(folder) and not os.path.islink(folder)
    names = sorted(os.listdir(folder)) if ours else []
    found = {}
    for name in names:
        record = read_foreign(os.path.join(folder, name)) if name.endswith(".json") else {}
        if record.get("schema_version") == 1 and typed(record, PROOF):
            process = {key: record.get(key) for key in SHOWN}
            found[record["pid"]] = dict(process, operators=record["count"])
    # Those which compute nothing: the API server, the engine's core.
    others = read_foreign(os.path.join(run, "state.json")).get("processes")
    for process in others if isinstance(others, list) else ():
        if typed(process, PROCESS):
            off: dict[str, Any] = dict.fromkeys(("version", "error", "device"), "")
            off.update(pid=process["pid"], process=process["name"], flaggems="off", rank=None, operators=0)
            found.setdefault(process["pid"], off)
    return [found[pid] for pid in sorted(found, key=lambda pid: (found[pid]["rank"] or 0, pid))]
