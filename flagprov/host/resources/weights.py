"""Weights that are complete: every shard of the index is there, with the size that its header says.

Where a lock or a manifest lists the files, their sizes hold too. Nothing is hashed here: a file that was
written since its hash was taken, or that is locked and has none, is hashed when the resource is applied. What
is missing is brought by a transfer, before hosts converge.
"""

from __future__ import annotations

import json
import os

from flagprov.host import docker
from flagprov.host.shell import unit_state
from flagprov.host.transfer import manifest
from flagprov.host.transfer.mounts import not_mounted, storage, unmounted
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

RUNS = ("active", "activating", "reloading", "deactivating")
UNFINISHED = (".incomplete", ".part", ".tmp")


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    path = spec["path"]
    if spec.get("absent"):
        return {"exists": os.path.isdir(path) and not kept(path, spec.get("going", ()))}
    if not os.path.isdir(path):
        return dict(_lost_mount(path), exists=False)
    names = sorted(os.listdir(path))
    shards = [name for name in names if name.endswith(".safetensors")]
    faults = [fault for name in shards for fault in [shard_fault(os.path.join(path, name))] if fault]
    for name in names:
        if name.endswith(UNFINISHED) or name == "._____temp":
            faults.append("%s: a download that did not finish" % name)
    faults.extend(
        "%s: named by the index, but missing" % name for name in _indexed(path) if name not in names
    )
    if "config.json" not in names:
        faults.append("config.json: missing")
    if not shards and not any(name.endswith((".bin", ".gguf", ".pt")) for name in names):
        faults.append("no weight files")
    wanted = [tuple(entry) for entry in spec.get("files", ())]
    known = manifest.read(path)
    listed = wanted or [(name, entry["size"], "") for name, entry in sorted(known.items())]
    differ = manifest.differences(path, listed)
    faults.extend(fault for fault in differ["faults"] if fault.split(":")[0] not in _named(faults))
    found = {"exists": True, "faults": faults}
    if faults:
        found.update(_lost_mount(path))
    if differ["others"] or differ["unknown"]:
        found.update(_use(path, surely=bool(differ["others"])))
    if differ["written"]:
        found["written"] = differ["written"]
    return found


def kept(path: str, going: Iterable[str] = ()) -> str:
    """Why nobody takes them away: others may read them, or somebody else brought them.

    `going`: containers that end before.
    """
    share = storage(path)
    if share:
        return "%s is on a share (%s): other hosts may use it" % (path, share)
    if manifest.found(path) or not manifest.read(path):
        return "%s was not brought by flagprov: it was there before" % path
    try:
        containers = docker.call("GET", "/containers/json?all=1") or []
    except (Blocked, docker.DockerError):
        return "docker does not answer: %s may be mounted into a container" % path
    for container in containers:
        name = str(container["Names"][0]).lstrip("/")
        sources = [str(mount.get("Source") or "/") for mount in container.get("Mounts") or []]
        if name not in going and any(overlap(path, source) for source in sources if source != "/"):
            return "%s is mounted into the container %s" % (path, name)
    return ""


def overlap(path: str, other: str) -> bool:
    """Whether one lies in the other."""
    first, second = (os.path.realpath(each).rstrip("/") + "/" for each in (path, other))
    return first.startswith(second) or second.startswith(first)


def _use(path: str, surely: bool) -> dict[str, Any]:
    """Who would find other files under his feet, in the middle of his work or at his next start."""
    from flagprov.host.slots import in_place, unit_name
    from flagprov.host.survey import records

    real = os.path.realpath(path)
    units = {
        name: unit_state(unit_name(in_place(name)))
        for name, record in records().items()
        if os.path.realpath(str(record.get("weights"))) == real
    }
    running = [name for name, unit in sorted(units.items()) if unit.get("ActiveState") in RUNS]
    if running:
        return {"used": "%s runs from it" % ", ".join(running), "way_out": "stop it first (flagprov stop)"}
    share = surely and storage(path)  # else it may be a download that broke off: it is brought to its end
    if share:
        way_out = "stop all that runs from there, on any host, and remove it"
        return {"used": "it is on a share (%s): other hosts may run from it" % share, "way_out": way_out}
    return {}


def _named(faults: list[str]) -> set[str]:
    return {fault.split(":")[0] for fault in faults}


def _lost_mount(path: str) -> dict[str, Any]:
    """A share that is not mounted is no directory to be filled."""
    share = unmounted(path)
    return {"unmounted": share} if share else {}


def _indexed(path: str) -> list[str]:
    try:
        with open(os.path.join(path, "model.safetensors.index.json"), encoding="utf-8") as stream:
            return sorted(set(json.load(stream)["weight_map"].values()))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, AttributeError):
        return ["model.safetensors.index.json (not readable)"]


def shard_fault(path: str) -> str:
    """Empty for a whole safetensors file: 8 bytes of header length, the header, then its data."""
    name = os.path.basename(path)
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                return "%s: truncated (%d bytes, its header alone has %d)" % (name, size, length)
            header = json.loads(stream.read(length))
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "%s: its header is not that of a safetensors file" % name
    expected = 8 + length + max(ends or [0])
    if size != expected:
        return "%s: truncated or changed (%d bytes instead of %d)" % (name, size, expected)
    return ""


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if spec.get("absent"):
        return [("remove", spec["reason"], "nothing")] if observed["exists"] else []
    if observed.get("unmounted"):
        return [("block", *not_mounted(observed["unmounted"]))]
    if not observed["exists"]:
        return [_fetch_or_block(spec, "weights are missing: %s" % spec["path"])]
    faults = observed["faults"]
    if observed.get("used"):
        message = "%s has other files than the locked ones, and %s" % (spec["path"], observed["used"])
        way_out = "give the new revision a weights.path of its own, or %s" % observed["way_out"]
        return [("block", message, way_out)]
    if faults:
        more = " (and %d more)" % (len(faults) - 3) if len(faults) > 3 else ""
        message = "weights in %s are not whole: %s%s" % (spec["path"], "; ".join(faults[:3]), more)
        return [_fetch_or_block(spec, message)]
    if observed.get("written"):
        names = ", ".join(observed["written"][:3])
        return [("check", "its sha256 was not taken since it was written: %s" % names, "nothing")]
    return []


def _fetch_or_block(spec: dict[str, Any], message: str) -> tuple[str, str, str]:
    if spec.get("fetch"):
        return ("fetch", message, "nothing")
    return ("block", message, spec["remedy"])


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    """Hash again what was written since; what is missing has been brought before, or it ends here."""
    if spec.get("absent"):
        manifest.remove(spec["path"])
        return
    if not observed["exists"] or observed["faults"]:
        raise Blocked("weights", diff(spec, observed, set())[0][1], spec["remedy"])
    locked = {path: digest for path, _, digest in spec.get("files", ())}
    wrong = manifest.check_again(spec["path"], observed["written"], locked)
    if wrong:
        raise Blocked(
            "weights",
            "%s in %s is not what was brought or locked: its sha256 differs" % (wrong, spec["path"]),
            "remove that file and run again: it is brought anew",
        )
