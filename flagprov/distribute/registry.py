"""The digest behind an image's name, asked of its registry once; then the digest is what is trusted."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import httpx

from flagprov.errors import FlagprovError

_ACCEPT = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)


def digests_of(reference: str, architecture: str = "amd64") -> list[str]:
    """Index, manifest and config digests of an image; all of them name the same."""
    registry, name, tag = split(reference)
    with httpx.Client(timeout=30, follow_redirects=True) as client:
        index, digest = _manifest(client, registry, name, tag)
        found = [digest]
        if "manifests" in index:
            mine = [
                entry["digest"]
                for entry in index["manifests"]
                if entry.get("platform", {}).get("architecture") == architecture
            ]
            if not mine:
                raise FlagprovError(f"{reference}: has no image for {architecture}")
            index, digest = _manifest(client, registry, name, mine[0])
            found.append(digest)
        found.append(str(index["config"]["digest"]))
    return list(dict.fromkeys(found))


def split(reference: str) -> tuple[str, str, str]:
    """Registry, name and tag or digest."""
    first, slash, rest = reference.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "registry-1.docker.io", reference if slash else f"library/{reference}"
    name, at, digest = rest.partition("@")
    if at:
        return first, name.rpartition(":")[0] or name, digest
    name, colon, tag = rest.rpartition(":")
    return (first, name, tag) if colon else (first, rest, "latest")


def _manifest(client: httpx.Client, registry: str, name: str, tag: str) -> tuple[dict[str, Any], str]:
    scheme = "http" if registry.startswith(("localhost", "127.")) else "https"
    address = f"{scheme}://{registry}/v2/{name}/manifests/{tag}"
    headers = {"Accept": _ACCEPT}
    try:
        answer = client.get(address, headers=headers)
        if answer.status_code == 401:
            headers["Authorization"] = _authorize(
                client, registry, answer.headers.get("www-authenticate", "")
            )
            answer = client.get(address, headers=headers)
    except httpx.HTTPError as error:
        raise FlagprovError(
            f"{registry}: no answer ({error})", remedy="Check network, proxies and the private CA."
        ) from None
    if answer.status_code != 200:
        raise FlagprovError(
            f"{registry}/{name}:{tag}: the registry says {answer.status_code}",
            remedy="Was it moved or removed? Other names: flagprov releases show NAME; or `docker login`.",
        )
    return answer.json(), f"sha256:{hashlib.sha256(answer.content).hexdigest()}"


def _authorize(client: httpx.Client, registry: str, challenge: str) -> str:
    """A bearer token for reading, with the user's `docker login` where there is one."""
    login = _login(registry)
    if challenge.lower().startswith("basic"):
        return f"Basic {login}"
    asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    realm = asked.pop("realm", "")
    if not realm.startswith("https://"):
        raise FlagprovError(f"{registry}: asks for a token at {realm or 'nowhere'}")
    answer = client.get(realm, params=asked, headers={"Authorization": f"Basic {login}"} if login else {})
    words = answer.json() if answer.status_code == 200 else {}
    return f"Bearer {words.get('token') or words.get('access_token') or ''}"


def _login(registry: str) -> str:
    try:
        stored = json.loads((Path.home() / ".docker/config.json").read_text(encoding="utf-8"))
        entry = stored["auths"][registry]["auth"]
        base64.b64decode(entry)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(entry)
