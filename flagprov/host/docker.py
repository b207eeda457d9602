"""Docker's Engine API over its socket: typed bodies, no command line to quote, no process to start."""

from __future__ import annotations

import json
import socket

from flagprov.host.wire import Blocked

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is slow to import on a host, and annotations are never evaluated there
    from collections.abc import Iterator
    from typing import Any, BinaryIO

SOCKET = "/var/run/docker.sock"


class DockerError(Exception):
    """The engine refused; code is its HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def quote(text: str) -> str:
    safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~:/@"
    return "".join(
        char if char in safe else "".join("%%%02X" % byte for byte in char.encode()) for char in text
    )


def filters(**values: list[str]) -> str:
    """A query string's filters, in the API's JSON form."""
    return "filters=" + quote(json.dumps(values)).replace("/", "%2F")


def _open(method: str, path: str, body: object, headers: dict[str, str], timeout: float) -> BinaryIO:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(SOCKET)
    except OSError as error:
        connection.close()
        raise Blocked(
            "docker",
            "dockerd does not answer on %s: %s" % (SOCKET, error.strerror),
            "systemctl status docker; flagprov deploy provisions a host that lacks it",
        ) from None
    data = b"" if body is None else json.dumps(body).encode()
    lines = ["%s %s HTTP/1.0" % (method, path), "Host: docker", "Content-Length: %d" % len(data)]
    if body is not None:
        lines.append("Content-Type: application/json")
    lines.extend("%s: %s" % pair for pair in headers.items())
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
    stream = connection.makefile("rb")
    connection.close()  # the stream keeps the socket open
    return stream


def stream(
    method: str, path: str, body: object = None, headers: dict[str, str] | None = None, timeout: float = 600.0
) -> Iterator[dict[str, Any]]:
    """The lines of a streaming answer, each decoded from JSON."""
    answer = _open(method, path, body, headers or {}, timeout)
    code = _head(answer)
    if code >= 400:
        raise DockerError(code, _message(answer.read()))
    with answer:
        for line in answer:
            if line.strip():
                yield json.loads(line)


def call(
    method: str, path: str, body: object = None, headers: dict[str, str] | None = None, timeout: float = 120.0
) -> Any:
    """One request; the decoded answer, or None where there is none."""
    answer = _open(method, path, body, headers or {}, timeout)
    with answer:
        code = _head(answer)
        data = answer.read()
    if code >= 400:
        raise DockerError(code, _message(data))
    return json.loads(data) if data.strip() else None


def _head(answer: BinaryIO, headers: dict[str, str] | None = None) -> int:
    """The status; `headers` is filled with what comes after it."""
    status = answer.readline().split(b" ", 2)
    for line in iter(answer.readline, b""):
        if not line.strip():
            break
        if headers is not None:
            name, _, value = line.decode(errors="replace").partition(":")
            headers[name.lower()] = value.strip()
    return int(status[1]) if len(status) > 1 else 500


def version() -> str:
    """dockerd says it with every answer; to be asked for it, it starts runc and others for theirs."""
    headers: dict[str, str] = {}
    with _open("GET", "/_ping", None, {}, 20) as answer:
        _head(answer, headers)
    product, _, number = headers.get("server", "").partition(" ")[0].partition("/")
    if product == "Docker" and number:
        return number
    return str(call("GET", "/version", timeout=20)["Version"])


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip()


def container(name: str) -> Any:
    """`docker inspect` of a container, None where there is none."""
    try:
        return call("GET", "/containers/%s/json" % quote(name))
    except DockerError as error:
        if error.code == 404:
            return None
        raise


def image_id(reference: str, digests: list[str]) -> str | None:
    """Config digest of the local image which is one of the digests, or has the name where none is locked."""
    for image in call("GET", "/images/json") or []:
        held = [name.split("@", 1)[1] for name in image.get("RepoDigests") or [] if "@" in name]
        if digests and (image["Id"] in digests or any(digest in digests for digest in held)):
            return str(image["Id"])
        if not digests and reference in (image.get("RepoTags") or []):
            return str(image["Id"])
    return None
