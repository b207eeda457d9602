"""The port and devices that a replica is about to use: refused, by name, when something else has them."""

from __future__ import annotations

from flagprov.host import docker, machine
from flagprov.host.facts import devices as probe
from flagprov.host.slots import CONTAINER, across

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    own = docker.container(spec["container"])
    if own and own["State"]["Running"]:
        return {"ours": True, "port": "", "devices": {}}
    ports, given = machine.listening(), _given_up(spec["container"])
    asked = spec.get("ports", [spec["port"]])
    taken = next((port for port in asked if port in ports and port != given["port"]), None)
    holder = machine.holder(taken) if taken is not None else ""
    return dict({"ours": False, "number": taken, "port": holder}, **_devices(spec, given["devices"]))


def _given_up(container: str) -> dict[str, Any]:
    """What the container in the replica's other slot has: that one ends before this one starts.

    Where it serves on meanwhile, placement has given this one others.
    """
    found = docker.container(across(container))
    labels = (found["Config"].get("Labels") or {}) if found and found["State"]["Running"] else {}
    replica = labels.get("io.flagprov.replica")
    if not replica or container not in (CONTAINER + replica, across(CONTAINER + replica)):
        return {"port": None, "devices": []}
    devices = labels.get("io.flagprov.devices", "").split(",")
    return {"port": int(labels["io.flagprov.port"]), "devices": [int(each) for each in devices if each]}


def _devices(spec: dict[str, Any], given: list[int]) -> dict[str, Any]:
    """Who uses the devices, and those of which the tool does not say it; but for `given`, which get free."""
    found, errors = probe.devices()
    wanted = [index for index in spec["devices"] if index not in given]
    named = {device["index"]: device["processes"] for device in found.get(spec["tool"], ())}
    silent = [index for index in wanted if index not in named] if spec["tool"] in errors else []
    return {
        "devices": {str(i): ", ".join(named[i]) for i in wanted if named.get(i)},
        "silent": silent,
        "why": errors[spec["tool"]] if silent else "",
    }


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if observed["ours"]:
        return []
    blocks = []
    if observed["port"]:
        port = observed.get("number") or spec["port"]
        other = "choose another port: --set port=N"
        if port == spec.get("ssh_port"):
            other = "give the release another launch.ssh_port"
        message = "port %d is taken by %s" % (port, observed["port"])
        blocks.append(("block", message, "stop it, or %s" % other))
    for index, processes in sorted(observed["devices"].items()):
        blocks.append(
            (
                "block",
                "%s device %s is used by %s" % (spec["tool"], index, processes),
                "stop that process, or leave the host out with --limit",
            )
        )
    if observed.get("silent"):
        which = ", ".join(str(index) for index in observed["silent"])
        blocks.append(
            (
                "block",
                "whether %s device %s is free is not known: %s" % (spec["tool"], which, observed["why"]),
                "see what the tool says on the host, or leave the host out with --limit",
            )
        )
    return blocks


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    """Nothing to do: a claim is only checked."""
