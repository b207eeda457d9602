"""A serving container with exactly the wanted options, stopped and started by its unit only."""

from __future__ import annotations

import hashlib
import json
import os

from flagprov.host import docker
from flagprov.host.files import replace
from flagprov.host.resources import unit
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIGEST = "io.flagprov.digest"


def effective(spec: dict[str, Any]) -> dict[str, Any]:
    """The body of `containers/create`, less optional mounts and devices that this host lacks."""
    create: dict[str, Any] = json.loads(json.dumps(spec["create"]))
    optional = set(spec.get("optional_sources", ()))
    mounts = create["HostConfig"].get("Mounts", [])
    create["HostConfig"]["Mounts"] = [
        mount for mount in mounts if mount["Source"] not in optional or os.path.exists(mount["Source"])
    ]
    if "Devices" in create["HostConfig"]:
        create["HostConfig"]["Devices"] = [
            device
            for device in create["HostConfig"]["Devices"]
            if device["PathOnHost"] not in optional or os.path.exists(device["PathOnHost"])
        ]
    return create


def wanted_digest(spec: dict[str, Any], image: str | None) -> str:
    text = json.dumps([effective(spec), image], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    found = docker.container(spec["name"])
    if not found:
        return {"exists": False, "missing": _missing(spec)}
    if spec.get("absent"):
        return {"exists": True, "ours": _ours(found, spec)}
    image = docker.image_id(spec["image"]["reference"], spec["image"]["digests"])
    labels = found["Config"].get("Labels") or {}
    return {
        "exists": True,
        "ours": _ours(found, spec),
        "digest": labels.get(DIGEST, ""),
        "wanted": wanted_digest(spec, image),
        "restart_policy": found["HostConfig"]["RestartPolicy"].get("Name") or "no",
        "was": "image" if image and found["Image"] != image else _differences(labels, spec),
        "missing": _missing(spec),
    }


def _ours(found: dict[str, Any], spec: dict[str, Any]) -> bool:
    labels = found["Config"].get("Labels") or {}
    return bool(labels.get("io.flagprov.replica") == spec["replica"])


def _missing(spec: dict[str, Any]) -> list[str]:
    """Mount sources that are not there; docker would make empty directories of them."""
    if spec.get("absent"):
        return []
    made = tuple(spec.get("made", ()))
    sources = [mount["Source"] for mount in effective(spec)["HostConfig"].get("Mounts", [])]
    return [source for source in sources if not source.startswith(made) and not os.path.exists(source)]


def _differences(labels: dict[str, str], spec: dict[str, Any]) -> str:
    """What changed, in words, by the parts that labels name."""
    wanted = spec["create"]["Labels"]
    names = {"devices": "devices", "port": "port"}
    changed = [
        text
        for key, text in names.items()
        if labels.get("io.flagprov." + key) != wanted.get("io.flagprov." + key)
    ]
    return ", ".join(changed) or "run options"


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if observed["exists"] and not observed["ours"]:
        return [("block", "a container %s is not flagprov's" % spec["name"], "rename or remove it")]
    if spec.get("absent"):
        return [("remove", "it is there", "restart")] if observed["exists"] else []
    brought = tuple(changed)  # weights that are on their way make the directory they lie in
    lost = [path for path in observed["missing"] if not any(name.startswith(path + "/") for name in brought)]
    if lost:
        missing = ", ".join(lost)
        return [
            ("block", "mount sources are missing: %s" % missing, "is the driver installed, and /nfs mounted?")
        ]
    if not observed["exists"]:
        return [("create", "it is not there", "new container")]
    if observed["digest"] != observed["wanted"]:
        return [("replace", "changed: %s" % observed["was"], "new container")]
    if observed["restart_policy"] != "no":
        return [("replace", "its restart policy was set to %s" % observed["restart_policy"], "new container")]
    return []


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    name = spec["name"]
    if observed["exists"]:
        unit.stop(spec["unit"], spec.get("stop_timeout_s", 120))
        docker.call("DELETE", "/containers/%s?force=1" % docker.quote(name))
    if spec.get("absent"):
        return
    image = docker.image_id(spec["image"]["reference"], spec["image"]["digests"])
    if not image:
        raise Blocked("container", "image %s is not here" % spec["image"]["reference"], "deploy again")
    create = effective(spec)
    create["Image"] = image
    create["Labels"][DIGEST] = wanted_digest(spec, image)
    folder = spec["folder"]
    points = sorted(
        {_mount_point(mount["Source"]) for mount in create["HostConfig"].get("Mounts", [])} - {"/"}
    )
    replace(os.path.join(folder, "mounts"), "".join(point + "\n" for point in points).encode(), 0o644)
    try:
        docker.call("POST", "/containers/create?name=%s" % docker.quote(name), create)
    except docker.DockerError as error:
        raise Blocked(
            "container", "docker create %s: %s" % (name, error), "see the run options of the release"
        ) from None


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
