"""Weights that are complete: every shard of the index is there, with the size that its header says."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNFINISHED = (".incomplete", ".part", ".tmp")


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    path = spec["path"]
    if not os.path.isdir(path):
        return {"exists": False}
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
    return {"exists": True, "faults": faults}


def _indexed(path: str) -> list[str]:
    try:
        with open(os.path.join(path, "model.safetensors.index.json"), encoding="utf-8") as stream:
            return sorted(set(json.load(stream)["weight_map"].values()))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, AttributeError):
        return ["model.safetensors.index.json (not readable)"]


def shard_fault(path: str) -> str:
    """Empty for a whole safetensors file: 8 bytes of header length, the header, then the data it announces."""
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
    if not observed["exists"]:
        return [("block", "weights are missing: %s" % spec["path"], spec["remedy"])]
    faults = observed["faults"]
    if faults:
        more = " (and %d more)" % (len(faults) - 3) if len(faults) > 3 else ""
        message = "weights in %s are not whole: %s%s" % (spec["path"], "; ".join(faults[:3]), more)
        return [("block", message, spec["remedy"])]
    return []


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    """Nothing to do: incomplete weights block the host before anything changes."""
