"""Container registries: what is behind a name. A name is trusted once, from then on its digest."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from flagprov.errors import FlagprovError
from flagprov.models.fleet import Host
from flagprov.proxies import outward

INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DOCKER_HUB = "registry-1.docker.io"
TRIES, RETRY_S = 5, 0.5
_PIECE = 1 << 20


class WrongBytesError(FlagprovError):
    """What arrived is not what was asked for."""


def split(reference: str) -> tuple[str, str, str]:
    """Registry, name and tag or digest."""
    first, slash, rest = reference.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = DOCKER_HUB, reference if slash else f"library/{reference}"
    name, at, digest = rest.partition("@")
    if at:
        return first, name.rpartition(":")[0] or name, digest
    name, colon, tag = rest.rpartition(":")
    return (first, name, tag) if colon else (first, rest, "latest")


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Registry:
    """One repository of a registry, with the user's `docker login`; `authorities` are files of private CAs.

    An insecure one speaks HTTP: what comes is held against digests all the same.
    """

    def __init__(
        self, host: str, name: str, authorities: Sequence[Path] = (), insecure: bool = False
    ) -> None:
        self.host, self.name = host, name
        scheme = "http" if insecure or host.startswith(("localhost", "127.")) else "https"
        verify = httpx.create_ssl_context()
        for authority in authorities:
            try:
                verify.load_verify_locations(authority)
            except OSError as error:
                raise FlagprovError(f"{authority}: holds no CA that can be read ({error})") from None
        timeout = httpx.Timeout(60, pool=None)
        self._client = httpx.Client(timeout=timeout, follow_redirects=True, transport=outward(verify))
        self._base = f"{scheme}://{host}/v2/{name}"
        self._token = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def manifest(self, tag: str) -> tuple[bytes, str]:
        """Bytes and media type of a manifest or index."""
        answer = self._ask("GET", f"/manifests/{tag}", headers={"Accept": ", ".join((*INDEXES, *MANIFESTS))})
        if answer.status_code != 200:
            raise FlagprovError(
                f"{self.host}/{self.name}:{tag}: the registry says {answer.status_code}",
                remedy="Was it moved? Other names: flagprov releases show NAME. Or `docker login`.",
            )
        if tag.startswith("sha256:") and sha256(answer.content) != tag:
            raise FlagprovError(f"{self.host}/{self.name}@{tag}: the registry sent something else")
        try:
            named = json.loads(answer.content).get("mediaType")
        except (ValueError, AttributeError):  # somebody else answers in its place
            raise FlagprovError(
                f"{self.host}/{self.name}:{tag}: what answers is no registry",
                remedy="Check the name, and proxies (HTTPS_PROXY, NO_PROXY).",
            ) from None
        return answer.content, str(named or answer.headers.get("content-type", ""))

    def put_manifest(self, tag: str, data: bytes, kind: str) -> None:
        self._done(self._ask("PUT", f"/manifests/{tag}", headers={"Content-Type": kind}, content=data), 201)

    def has(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self._ask("HEAD", f"/blobs/{digest}").status_code == 200

    def blob(self, digest: str, begun: Iterable[bytes] = ()) -> Iterator[bytes]:
        """Its bytes in pieces, checked at their end; `begun` is how it begins, as it came before.

        What breaks off goes on where it was.
        """
        sum_, have, tries = hashlib.sha256(), 0, 0
        for piece in begun:
            sum_.update(piece)
            have += len(piece)
        while True:
            before = have
            try:
                for piece in self._from(digest, have):
                    sum_.update(piece)
                    have += len(piece)
                    yield piece
                break
            except httpx.HTTPError as error:
                tries = 1 if have > before else tries + 1
                if tries == TRIES:
                    raise self._silent(error) from None
                time.sleep(RETRY_S * 2**tries)
        if f"sha256:{sum_.hexdigest()}" != digest:
            raise WrongBytesError(f"{self.host}/{self.name}@{digest}: what arrived has another sha256")

    def _from(self, digest: str, begin: int) -> Iterator[bytes]:
        """A blob's bytes from there to its end."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
        url = f"{self._base}/blobs/{digest}"
        for authorized in (False, True):
            request = self._client.build_request("GET", url, headers=self._headers(headers))
            answer = self._client.send(request, stream=True)
            if answer.status_code != 401 or authorized:
                break
            answer.close()
            self._authorize(answer.headers.get("www-authenticate", ""))
        try:
            if begin and answer.status_code == 416:  # all of it is there
                return
            if answer.status_code >= 500 or answer.status_code == 429:
                answer.raise_for_status()
            self._done(answer, 206 if begin and answer.status_code != 200 else 200)
            skip = begin if answer.status_code == 200 else 0  # it knows no ranges
            for piece in answer.iter_bytes(_PIECE):
                yield piece[skip:]
                skip = max(0, skip - len(piece))
        finally:
            answer.close()

    def put_blob(self, digest: str, size: int, pieces: Iterable[bytes]) -> None:
        """Streamed; the registry refuses what has another sha256."""
        begun = self._ask("POST", "/blobs/uploads/")
        self._done(begun, 202)
        place = httpx.URL(str(begun.request.url)).join(begun.headers["location"])
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        url = place.copy_merge_params({"digest": digest})
        try:
            answer = self._client.put(url, headers=self._headers(headers), content=pieces)
        except httpx.HTTPError as error:
            raise self._silent(error) from None
        self._done(answer, 201)

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        url = f"{self._base}{path}"
        try:
            answer = self._client.request(method, url, headers=self._headers(headers or {}), content=content)
            if answer.status_code == 401:
                self._authorize(answer.headers.get("www-authenticate", ""))
                answer = self._client.request(
                    method, url, headers=self._headers(headers or {}), content=content
                )
        except httpx.HTTPError as error:
            raise self._silent(error) from None
        return answer

    def _headers(self, more: Mapping[str, str]) -> dict[str, str]:
        return {**more, "Authorization": self._token} if self._token else dict(more)

    def _done(self, answer: httpx.Response, code: int) -> None:
        if answer.status_code == code:
            return
        denied = answer.status_code in (401, 403)
        raise FlagprovError(
            f"{self.host}/{self.name}: the registry says {answer.status_code}",
            remedy=f"`docker login {self.host}` as somebody who may do this." if denied else "See its log.",
        )

    def _silent(self, error: httpx.HTTPError) -> FlagprovError:
        remedy = "Check network, proxies and the private CA."
        return FlagprovError(f"{self.host}: no answer ({str(error) or type(error).__name__})", remedy=remedy)

    def _authorize(self, challenge: str) -> None:
        """A token for what was just refused, with the user's login where there is one."""
        login = _login(self.host)
        if challenge.lower().startswith("basic"):
            self._token = f"Basic {login}" if login else ""
            return
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        realm = asked.pop("realm", "")
        if not realm.startswith("https://" if self._base.startswith("https:") else ("https://", "http://")):
            raise FlagprovError(f"{self.host}: asks for a token at {realm or 'nowhere'}")
        headers = {"Authorization": f"Basic {login}"} if login else {}
        answer = self._client.get(realm, params=asked, headers=headers)
        words = answer.json() if answer.status_code == 200 else {}
        self._token = f"Bearer {words.get('token') or words.get('access_token') or ''}"


def registry_of(reference: str, host: Host | None = None) -> Registry:
    """The repository of an image, as the inventory says of a host how its registries are reached."""
    variables: Mapping[str, Any] = host.variables if host else {}
    name, repository, _ = split(reference)
    named = [(variables.get("container_engine_registry_cas") or {}).get(name)]
    named += variables.get("host_baseline_ca_certificates") or ()
    authorities = [Path(str(file)) for file in named if file]
    for file in authorities:
        if not file.is_file():
            raise FlagprovError(f"{file}: no such file; it is to hold a CA that {name} may be signed by")
    insecure = name in (variables.get("container_engine_insecure_registries") or ())
    return Registry(name, repository, authorities, insecure)


def of_architecture(index: Mapping[str, Any], architecture: str) -> list[Mapping[str, Any]]:
    """Entries of an index for this processor, as OCI names it."""
    entries = index.get("manifests", ())
    return [entry for entry in entries if (entry.get("platform") or {}).get("architecture") == architecture]


def digests_of(reference: str, architectures: Sequence[str], host: Host | None = None) -> list[str]:
    """Index, manifest and config digests of an image, for each of the processors that there is one for."""
    with registry_of(reference, host) as registry:
        data, _ = registry.manifest(split(reference)[2])
        found = [sha256(data)]
        stored = [json.loads(data)]
        if "manifests" in stored[0]:
            mine = [entries[0] for name in architectures if (entries := of_architecture(stored[0], name))]
            if not mine:
                raise FlagprovError(f"{reference}: has no image for {' or '.join(architectures)}")
            manifests = [registry.manifest(str(entry["digest"]))[0] for entry in mine]
            found += [sha256(data) for data in manifests]
            stored = [json.loads(data) for data in manifests]
        found += [str(each["config"]["digest"]) for each in stored]
    return list(dict.fromkeys(found))


def _login(registry: str) -> str:
    try:
        stored = json.loads((Path.home() / ".docker/config.json").read_text(encoding="utf-8"))
        entry = stored["auths"]["https://index.docker.io/v1/" if registry == DOCKER_HUB else registry]["auth"]
        base64.b64decode(entry)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(entry)
