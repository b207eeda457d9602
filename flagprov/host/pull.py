"""Pulling an image through the engine's API, with progress in bytes."""

from __future__ import annotations

import time

from flagprov.host import docker
from flagprov.host.registry import OTHER, by_digest, credentials
from flagprov.host.wire import Blocked, progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def pull(spec: dict[str, Any]) -> dict[str, Any]:
    """Pull by a locked digest where there is one, else by name; the result is what is here now."""
    reference = spec["reference"]
    names = [by_digest(reference, digest) for digest in spec["digests"]] + [reference]
    refused = ""
    for name in names:
        try:
            pull_by_name(name, credentials(name))
        except docker.DockerError as error:
            refused = refused or str(error)
            continue
        found = docker.image_id(reference, spec["digests"])
        if found:
            return {"id": found}
    if refused:
        raise Blocked(
            "image", "%s: %s" % (reference, refused), "is it in the registry, and may this host pull it?"
        )
    raise Blocked(
        "image",
        "%s in the registry is not one of the release's locked digests" % reference,
        "%s: lock the release anew after checking the image, or restore the tag" % OTHER,
    )


def pull_by_name(name: str, headers: dict[str, str]) -> None:
    """Raises DockerError where the engine cannot."""
    layers: dict[str, tuple[int, int]] = {}
    said = 0.0
    path = "/images/create?fromImage=%s" % docker.quote(name)
    for line in docker.stream("POST", path, headers=headers, timeout=900):
        if "error" in line:
            raise docker.DockerError(500, str(line["error"]))
        detail = line.get("progressDetail") or {}
        if line.get("status") == "Downloading" and detail.get("total"):
            layers[line["id"]] = (detail["current"], detail["total"])
        elif line.get("status") in ("Download complete", "Pull complete") and line.get("id") in layers:
            layers[line["id"]] = (layers[line["id"]][1],) * 2
        if time.monotonic() - said > 1:
            said = time.monotonic()
            have = sum(pair[0] for pair in layers.values())
            total = sum(pair[1] for pair in layers.values())
            text = "%d of %d MiB" % (have >> 20, total >> 20) if total else str(line.get("status", ""))
            data: dict[str, object] = {"bytes": have, "total": total}
            progress(text, data)
