"""An image in files here, given to dockerd by a registry on loopback that lives for the pull."""

from __future__ import annotations

import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flagprov.host import docker, layers
from flagprov.host.pull import pull_by_name
from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

REPOSITORY = "flagprov/image"
PIECE = 1 << 20
ASKED = re.compile(r"^/v2/%s/(manifests|blobs)/sha256:([0-9a-f]{64})$" % REPOSITORY)
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def load(spec: dict[str, Any]) -> dict[str, Any]:
    """Pull `manifest` from the parts in `path`, and give it the name `reference`.

    `missing` where dockerd asked for blobs that were thought to be here already.
    """
    with Registry(spec["path"]) as registry:
        name = "127.0.0.1:%d/%s@%s" % (registry.port, REPOSITORY, spec["manifest"])
        try:
            pull_by_name(name, {})
        except docker.DockerError as error:
            if registry.missing:
                return {"id": "", "missing": sorted(registry.missing)}
            raise Blocked(
                "image",
                "dockerd cannot take %s from %s: %s" % (spec["reference"], spec["path"], error),
                "journalctl -u docker; is there room in docker's data root?",
            ) from None
        image = docker.call("GET", "/images/%s/json" % docker.quote(name))["Id"]
        repository, _, tag = spec["reference"].rpartition(":")
        if "/" in tag or not repository:
            repository, tag = spec["reference"], "latest"
        path = "/images/%s/tag?repo=%s&tag=%s" % (
            docker.quote(image),
            docker.quote(repository),
            docker.quote(tag),
        )
        docker.call("POST", path)
        if not spec["digests"] or image in spec["digests"]:  # else only this name says which manifest it is
            docker.call("DELETE", "/images/%s" % docker.quote(name))
    return {"id": image, "missing": []}


class Registry:
    """As much of a registry as dockerd asks of one; reads only, on loopback only."""

    def __init__(self, path: str) -> None:
        folders = [os.path.join(part, "blobs", "sha256") for part in layers.parts(path)]
        self.missing: set[str] = set()
        missing = self.missing

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                _answer(self, folders, missing, True)

            def do_HEAD(self) -> None:
                _answer(self, folders, missing, False)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]

    def __enter__(self) -> Registry:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(request: BaseHTTPRequestHandler, folders: list[str], missing: set[str], body: bool) -> None:
    asked = ASKED.match(request.path)
    files = [os.path.join(folder, asked.group(2)) for folder in folders] if asked else []
    file = next(filter(os.path.isfile, files), "")
    if request.path == "/v2/":
        size, kind = 2, "application/json"
    elif asked and file:
        size = os.path.getsize(file)
        kind = _media_type(file) if asked.group(1) == "manifests" else "application/octet-stream"
    else:
        if asked:
            missing.add("sha256:%s" % asked.group(2))
        request.send_response(404)
        request.send_header("Content-Length", "0")
        request.end_headers()
        return
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(size))
    if asked:
        request.send_header("Docker-Content-Digest", "sha256:%s" % asked.group(2))
    request.end_headers()
    if not body:
        return
    if not asked:
        request.wfile.write(b"{}")
        return
    with open(file, "rb") as stream:
        piece = stream.read(PIECE)
        while piece:
            request.wfile.write(piece)
            piece = stream.read(PIECE)


def _media_type(file: str) -> str:
    with open(file, "rb") as stream:
        return str(json.loads(stream.read().decode("utf-8")).get("mediaType") or DOCKER_MANIFEST)
