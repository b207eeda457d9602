"""An image that is one of its locked digests; pulled as a job."""

from __future__ import annotations

import os

from flagprov.host import docker
from flagprov.host.jobs import run_job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def observe(spec: dict[str, Any]) -> dict[str, Any]:
    found = docker.image_id(spec["reference"], spec["digests"])
    if found:
        return {"id": found}
    return {"id": None, "registry": _registry_says(spec), "free_mib": _free_mib()}


def _free_mib() -> int:
    root = docker.call("GET", "/info")["DockerRootDir"]
    status = os.statvfs(root)
    return (status.f_bavail * status.f_frsize) >> 20


def _registry_says(spec: dict[str, Any]) -> str:
    """Empty where the registry has the image, else its answer."""
    from flagprov.host.pull import credentials

    path = "/distribution/%s/json" % docker.quote(spec["reference"])
    try:
        docker.call("GET", path, headers=credentials(spec["reference"]), timeout=30)
    except docker.DockerError as error:
        return str(error)
    except OSError as error:
        return "no answer from the registry (%s)" % error
    return ""


def diff(spec: dict[str, Any], observed: dict[str, Any], changed: set[str]) -> list[tuple[str, str, str]]:
    if observed["id"]:
        return []
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
    return [("pull", "it is not here", "nothing")]


def apply(spec: dict[str, Any], observed: dict[str, Any]) -> None:
    run_job("pull", {"reference": spec["reference"], "digests": spec["digests"]})
