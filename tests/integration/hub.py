"""A hub on loopback: what the clients of ModelScope and Hugging Face ask for, over HTTP."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "8d3c4f0b6a2e4d5f9b1c7e8a0d2f4b6c8e0a1b3d"
LARGE = 4096  # files from here on have a sha256 on the hub, smaller ones a git hash


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class Hub:
    """What the server holds, what it was asked, and what it does wrong."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.name, self.files = name, dict(files)
        self.asked: list[str] = []
        self.ranges: list[str] = []
        self.tokens: set[str] = set()
        self.revisions: set[str] = set()
        self.breaks: dict[str, int] = {}  # path -> how often its transfer is cut half-way
        self.wrong: set[str] = set()  # paths whose bytes differ from what the list says
        self.address = ""

    def content(self, path: str) -> bytes:
        data = self.files[path]
        return data[:-1] + bytes([data[-1] ^ 1]) if path in self.wrong else data


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            if token := self.headers.get("Authorization"):
                hub.tokens.add(token)
            url = urlsplit(self.path)
            path, query = unquote(url.path), parse_qs(url.query)
            if path.startswith("/plain/"):
                return self._plain(path.removeprefix("/plain/"))
            if found := re.fullmatch(rf"/{hub.name}/resolve/([^/]+)/(.+)", path):
                hub.revisions.add(found[1])
                return self._file(found[2], self._hf_headers(found[2]))
            if path.startswith("/api/v1/"):
                return self._modelscope(path.removeprefix("/api/v1/"), query)
            if path.startswith(f"/api/models/{hub.name}"):
                return self._hugging_face(path.removeprefix(f"/api/models/{hub.name}"))
            return self._json({"error": "not found", "Message": "not found", "Code": 404}, 404)

        def _plain(self, path: str) -> None:
            if path == "SHA256SUMS":
                text = "".join(f"{sha256(data)}  {name}\n" for name, data in hub.files.items())
                return self._bytes(text.encode(), {})
            return self._file(path, {})

        def _modelscope(self, path: str, query: Mapping[str, list[str]]) -> None:
            if path in (f"models/{hub.name}/repo/files", f"models/{hub.name}/repo"):
                hub.revisions.update(query.get("Revision", ()))
            if path == f"models/{hub.name}/repo/files":
                files = [
                    {"Path": name, "Name": name.rsplit("/", 1)[-1], "Size": len(data), "Type": "blob",
                     "Sha256": sha256(data), "Revision": COMMIT, "CommittedDate": 1}
                    for name, data in hub.files.items()
                ]  # fmt: skip
                return self._json({"Code": 200, "Success": True, "Data": {"Files": files}})
            if path == f"models/{hub.name}/repo":
                return self._file(query["FilePath"][0], {})
            if path == f"models/{hub.name}/revisions":
                branch = {"Revision": "master", "CreatedAt": 1}
                revisions = {"RevisionMap": {"Branches": [branch], "Tags": []}}
                return self._json({"Code": 200, "Success": True, "Data": revisions})
            if path == f"models/{hub.name}":
                return self._json(
                    {"Code": 200, "Success": True, "Data": {"Name": hub.name, "Revision": COMMIT}}
                )
            return self._json({"Code": 404, "Success": False, "Message": "not found"}, 404)

        def _hugging_face(self, path: str) -> None:
            hub.revisions.update(re.findall(r"/revision/([^/]+)", path))
            entries: list[dict[str, Any]] = []
            for name, data in hub.files.items():
                entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
                if len(data) > LARGE:
                    entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 134}
                entries.append(entry)
            if "/tree/" in path:
                tree = [
                    {"type": "file", "path": e["rfilename"], "size": e["size"], "oid": e["blobId"],
                     **({"lfs": {"oid": e["lfs"]["sha256"], **e["lfs"]}} if "lfs" in e else {})}
                    for e in entries
                ]  # fmt: skip
                return self._json(tree)
            return self._json({"id": hub.name, "modelId": hub.name, "sha": COMMIT, "siblings": entries,
                               "private": False, "tags": [], "downloads": 0, "likes": 0})  # fmt: skip

        def _hf_headers(self, path: str) -> dict[str, str]:
            data = hub.files.get(path, b"")
            etag = sha256(data) if len(data) > LARGE else git_sha1(data)
            return {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(data)),
                    "X-Linked-Etag": f'"{etag}"'}  # fmt: skip

        def _file(self, path: str, headers: dict[str, str]) -> None:
            if path not in hub.files:
                return self._json({"error": "no such file"}, 404)
            return self._bytes(hub.content(path), headers, path)

        def _bytes(self, data: bytes, headers: dict[str, str], path: str = "") -> None:
            begin, end, status = 0, len(data), 200
            if found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
                hub.ranges.append(path)
                begin, status = int(found[1]), 206
                end = min(int(found[2]) + 1, end) if found[2] else end
                if begin >= len(data) > 0:
                    return self._json({}, 416)
                headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
            self.send_response(status)
            for name, value in {
                **headers,
                "Content-Length": str(end - begin),
                "Accept-Ranges": "bytes",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return None
            part = data[begin:end]
            if hub.breaks.get(path, 0) > 0:
                hub.breaks[path] -= 1
                self.wfile.write(part[: len(part) // 2])
                self.close_connection = True
                return None
            self.wfile.write(part)
            return None

        def _json(self, value: Any, status: int = 200) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
