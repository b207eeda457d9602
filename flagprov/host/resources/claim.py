"""The port and devices that a replica is about to use: refused, by name, when something else has them."""

from __future__ import annotations

from flagprov.host import docker, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    own = docker.container(spec["container"])
    if own and own["State"]["Running"]:
        return {"ours": True, "port": "", "devices": {}}
    ports = machine.listening()
    taken = next((port for port in spec.get("ports", [spec["port"]]) if port in ports), None)
    holder = machine.holder(taken) if taken is not None else ""
    return {"ours": False, "number": taken, "port": holder, "devices": _device_holders(spec)}


def _device_holders(spec: dict[str, Any]) -> dict[str, str]:
    held = {}
    for device in machine.devices().get(spec["tool"], []):
        if device["index"] in spec["devices"] and device["processes"]:
            held[str(device["index"])] = ", ".join(device["processes"])
    return held


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if observed["ours"]:
        return []
    blocks = []
    if observed["port"]:
        blocks.append(
            (
                "block",
                "port %d is taken by %s" % (observed.get("number") or spec["port"], observed["port"]),
                "stop it, or choose another port: --set port=N",
            )
        )
    for index, processes in sorted(observed["devices"].items()):
        blocks.append(
            (
                "block",
                "%s device %s is used by %s" % (spec["tool"], index, processes),
                "stop that process, or leave the host out with --limit",
            )
        )
    return blocks


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    """Nothing to do: a claim is only checked."""
