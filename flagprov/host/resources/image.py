"""An image that is one of its locked digests, pulled as a job; `absent` removes it where nothing uses it.

One with a `base` is built from that, on one host for all; here it is only seen whether it has come.
"""

from __future__ import annotations

import os

from flagprov.host import docker, registry
from flagprov.host.jobs import run_job
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    if spec.get("absent"):
        images = docker.call("GET", "/images/json") or []
        return {"id": spec["id"] if any(image["Id"] == spec["id"] for image in images) else None}
    found = docker.image_id(spec["reference"], spec["digests"])
    if found:
        return {"id": found}
    if "base" in spec:
        return {"id": None, "base": observe(spec["base"])}
    asked = "" if spec.get("brought") else registry.ask(spec["reference"], spec["digests"])["why"]
    return {"id": None, "registry": asked, "free_mib": _free_mib()}


def _free_mib() -> int:
    root = docker.call("GET", "/info")["DockerRootDir"]
    status = os.statvfs(root)
    return (status.f_bavail * status.f_frsize) >> 20


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if spec.get("absent"):
        return [("remove", spec["reason"], "nothing")] if observed["id"] else []
    if observed["id"]:
        return []
    if "base" in spec:
        return _built(spec["base"], diff(spec["base"], observed["base"], changed))
    if observed["registry"]:
        return [
            (
                "block",
                "image %s: %s" % (spec["reference"], observed["registry"]),
                "check the name, and flagprov_registries, which maps the release's registry to the site's",
            )
        ]
    if observed["free_mib"] < spec["need_mib"]:
        return [
            (
                "block",
                "docker's data root has %d MiB free, the image needs %d"
                % (observed["free_mib"], spec["need_mib"]),
                "free space (docker system df), or move the data root",
            )
        ]
    if spec.get("brought"):
        return [("bring", "it is not here; it comes from host to host", "nothing")]
    return [("pull", "it is not here", "nothing")]


def _built(base: dict[str, Any], beneath: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    if any(action == "block" for action, _, _ in beneath):
        return beneath
    first = [(action, "%s: %s" % (base["reference"], reason), cost) for action, reason, cost in beneath]
    return [*first, ("build", "it is made from %s, on one host for all" % base["reference"], "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    if spec.get("absent"):
        _remove(spec["id"])
        return
    if "base" in spec:
        raise Blocked(
            "image", "%s was not built for this host" % spec["reference"], "flagprov deploy builds it"
        )
    if spec.get("brought"):
        raise Blocked("image", "%s did not arrive here" % spec["reference"], "run the command again")
    run_job("pull", {"reference": spec["reference"], "digests": spec["digests"]})


def _remove(image: str) -> None:
    """All its names; docker itself refuses where a container has it."""
    held = docker.call("GET", "/images/%s/json" % docker.quote(image))
    for name in (held.get("RepoTags") or []) + (held.get("RepoDigests") or []):
        docker.call("DELETE", "/images/%s" % docker.quote(name), timeout=600)
    try:
        docker.call("DELETE", "/images/%s" % docker.quote(image), timeout=600)
    except docker.DockerError as error:
        if error.code != 404:  # it went with its last name
            raise
