"""The port and devices that a replica is about to use: refused, by name, when something else has them."""

from __future__ import annotations

from flagprov.host import docker, machine
from flagprov.host.facts import devices as probe

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
    return dict({"ours": False, "number": taken, "port": holder}, **_devices(spec))


def _devices(spec: dict[str, Any]) -> dict[str, Any]:
    """Who uses the devices, and those of which the tool does not say it."""
    found, errors = probe.devices()
    named = {device["index"]: device["processes"] for device in found.get(spec["tool"], ())}
    silent = [index for index in spec["devices"] if index not in named] if spec["tool"] in errors else []
    return {
        "devices": {str(i): ", ".join(named[i]) for i in spec["devices"] if named.get(i)},
        "silent": silent,
        "why": errors[spec["tool"]] if silent else "",
    }


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
