"""What a registry says of an image, as dockerd hears it: by its proxy, mirrors and authorities."""

from __future__ import annotations

from flagprov.host import docker
from flagprov.host.pull import credentials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REFUSALS = ("manifest unknown", "name unknown", "not found", "denied", "unauthorized", "credentials")


def ask(reference: str) -> dict[str, Any]:
    """`why` is empty where it can be pulled; `answers` is whether there was anybody to say no."""
    path = "/distribution/%s/json" % docker.quote(reference)
    try:
        said = docker.call("GET", path, headers=credentials(reference), timeout=30) or {}
    except docker.DockerError as error:
        answers = error.code in (401, 403, 404) or any(word in str(error).lower() for word in REFUSALS)
        return {"arches": [], "answers": answers, "why": str(error)}
    except OSError as error:
        return {"arches": [], "answers": False, "why": "no answer from the registry (%s)" % error}
    arches = {str(platform.get("architecture", "")) for platform in said.get("Platforms") or []}
    return {"arches": sorted(arches - {"", "unknown"}), "answers": True, "why": ""}
