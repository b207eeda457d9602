"""What a registry says of an image when it is asked as dockerd would ask that has no mirror."""

from __future__ import annotations

import json
import os
import re

from flagprov.host import docker
from flagprov.host.facts import Unparsed, shown
from flagprov.host.http import is_direct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Nothing else of an image's environment leaves the host.
TELLING = ("CUDA_VERSION", "NVIDIA_REQUIRE_CUDA", "CANN_VERSION", "ASCEND_TOOLKIT_HOME", "VLLM_VERSION")
TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
)
ARCHES = {"x86_64": "amd64", "aarch64": "arm64"}
HUB = "registry-1.docker.io"
PATIENCE_S = 10
MASK = "xxxxx:xxxxx@"  # what dockerd shows of a proxy's login


def answer(where: str, arches: list[str], told: dict[str, str], size: int | None) -> dict[str, Any]:
    return {"where": where, "arches": arches, "env": told, "download_mib": size, "why": ""}


def told(env: list[str]) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in env)
    return {name: value for name, _, value in pairs if name in TELLING}


def split(reference: str) -> tuple[str, str, str]:
    """Registry, repository, and tag or digest of an image's name."""
    rest, _, digest = reference.partition("@")
    first, slash, path = rest.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, path = HUB, rest if slash else "library/" + rest
    name, colon, tag = path.rpartition(":")
    if not colon:
        name, tag = path, "latest"
    return ("registry-1.docker.io" if first == "docker.io" else first), name, digest or tag


def proxies(host: str) -> dict[str, str]:
    """The way to a host that dockerd has been given, in urllib's form."""
    engine = docker.call("GET", "/info", timeout=20)
    proxy, no_proxy = str(engine.get("HttpsProxy") or ""), str(engine.get("NoProxy") or "")
    if not proxy or is_direct(host, no_proxy):
        return {}
    if MASK in proxy:
        from flagprov.host import build

        proxy = build.proxies().get("HTTPS_PROXY", proxy)
    return {"https": proxy}


class Registry:
    """One image in its registry."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.host, self.name, self.tag = split(reference)
        self.token = ""
        self.configuration = ""  # its digest, once there was an answer

    def answer(self, arch: str) -> dict[str, Any]:
        from urllib.error import HTTPError

        try:
            return self._answer(arch)
        except HTTPError as error:
            error.close()
            raise Unparsed("%s answers with %d" % (self.host, error.code)) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = getattr(error, "reason", None) or error
            raise Unparsed("registry %s: %s" % (self.host, shown(str(reason)))) from None

    def _answer(self, arch: str) -> dict[str, Any]:
        manifest = self._json("manifests/" + self.tag)
        arches = []
        if "manifests" in manifest:
            entries = [entry for entry in manifest["manifests"] if "platform" in entry]
            arches = sorted({entry["platform"]["architecture"] for entry in entries} - {"unknown"})
            fitting = [entry for entry in entries if entry["platform"]["architecture"] == arch]
            if not fitting:
                return answer("registry", arches, {}, None)
            manifest = self._json("manifests/" + fitting[0]["digest"])
        config = self._json("blobs/" + manifest["config"]["digest"])
        size = sum(int(layer["size"]) for layer in manifest["layers"]) >> 20
        env = told((config.get("config") or {}).get("Env") or [])
        self.configuration = str(manifest["config"]["digest"])
        return answer("registry", arches or [str(config["architecture"])], env, size)

    def _json(self, path: str) -> Any:
        from urllib.error import HTTPError

        try:
            return self._get(path)
        except HTTPError as error:
            challenge = error.headers.get("WWW-Authenticate", "") if error.code == 401 else ""
            if self.token or not challenge.lower().startswith("bearer "):
                raise
            error.close()
            self.token = self._fetch_token(challenge)
            return self._get(path)

    def _get(self, path: str) -> Any:
        url = "https://%s/v2/%s/%s" % (self.host, self.name, path)
        return self._open(url, "Bearer " + self.token if self.token else self._basic())

    def _fetch_token(self, challenge: str) -> str:
        from urllib.parse import urlencode

        said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        query = urlencode({"service": said.get("service", ""), "scope": "repository:%s:pull" % self.name})
        given = self._open("%s?%s" % (said["realm"], query), self._basic())
        return str(given.get("token") or given["access_token"])

    def _open(self, url: str, authorization: str) -> Any:
        import urllib.request

        if not url.startswith("https://"):
            raise ValueError("its answer leads to %s, which is not encrypted" % url)
        request = urllib.request.Request(url, headers={"Accept": ", ".join(TYPES)})
        if authorization:  # never sent on to where a registry redirects
            request.add_unredirected_header("Authorization", authorization)
        handlers = (
            urllib.request.HTTPSHandler(context=self._context()),
            urllib.request.ProxyHandler(proxies(url.split("/")[2])),
        )
        with urllib.request.build_opener(*handlers).open(request, timeout=PATIENCE_S) as stream:
            return json.loads(stream.read(4 << 20))

    def _context(self) -> Any:
        """The certificates that dockerd trusts for this registry."""
        import ssl

        context = ssl.create_default_context()
        folder = "/etc/docker/certs.d/" + self.host
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name.endswith(".crt"):
                context.load_verify_locations(os.path.join(folder, name))
        return context

    def _basic(self) -> str:
        """As `docker login` left it for root."""
        from flagprov.host.files import read_json

        config = read_json(os.path.expanduser("~root/.docker/config.json")) or {}
        names = [self.host, "https://index.docker.io/v1/"] if self.host == HUB else [self.host]
        entries = [(config.get("auths") or {}).get(name) or {} for name in names]
        return next(("Basic " + entry["auth"] for entry in entries if entry.get("auth")), "")
