"""What a registry says of an image, as dockerd hears it: by its proxy, mirrors and authorities."""

from __future__ import annotations

import os

from flagprov.host import docker
from flagprov.host.files import read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OTHER = "its tag was moved, or another processor's is locked"
MOVED = (
    "%s; none of the locked digests is there (flagprov releases lock takes what is there; "
    "for an image of the settings, remove its name from the site's lock file)" % OTHER
)
REFUSALS = ("manifest unknown", "name unknown", "not found", "denied", "unauthorized", "credentials")


def ask(reference: str, digests: list[str] | None = None) -> dict[str, Any]:
    """`why` is empty where it can be pulled; `answers` is whether there was anybody to say no.

    `digests`: those that are locked; a tag that names another image now is no way to them.
    """
    said = _ask(reference)
    if said["why"] or not digests or said["digest"] in digests:
        return said
    if any(not _ask(by_digest(reference, digest))["why"] for digest in digests):
        return said
    config = _configuration(reference)
    return dict(said, why=MOVED) if config and config not in digests else said


def by_digest(reference: str, digest: str) -> str:
    name, _, tag = reference.rpartition(":")
    return "%s@%s" % (name if "/" not in tag and name else reference, digest)


def credentials(reference: str) -> dict[str, str]:
    """X-Registry-Auth from root's docker config, as `docker login` left it."""
    import base64
    import json

    registry = reference.split("/", 1)[0]
    config = read_json(os.path.expanduser("~root/.docker/config.json")) or {}
    entry = (config.get("auths") or {}).get(registry) or {}
    if "auth" not in entry:
        return {}
    user, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
    auth = {"username": user, "password": password, "serveraddress": registry}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()}


def _ask(reference: str) -> dict[str, Any]:
    path = "/distribution/%s/json" % docker.quote(reference)
    try:
        said = docker.call("GET", path, headers=credentials(reference), timeout=30) or {}
    except docker.DockerError as error:
        answers = error.code in (401, 403, 404) or any(word in str(error).lower() for word in REFUSALS)
        return {"arches": [], "answers": answers, "why": str(error), "digest": ""}
    except OSError as error:
        why = "no answer from the registry (%s)" % error
        return {"arches": [], "answers": False, "why": why, "digest": ""}
    arches = {str(platform.get("architecture", "")) for platform in said.get("Platforms") or []}
    digest = str((said.get("Descriptor") or {}).get("digest", ""))
    return {"arches": sorted(arches - {"", "unknown"}), "answers": True, "why": "", "digest": digest}


def _configuration(reference: str) -> str:
    """Digest of the configuration that the tag leads to; empty where that cannot be told."""
    from flagprov.host.facts import Unparsed
    from flagprov.host.facts.registry import ARCHES, Registry

    arch = ARCHES.get(os.uname().machine, os.uname().machine)
    asked = Registry(reference)
    try:
        asked.answer(arch)
    except Unparsed:
        pass
    return asked.configuration
