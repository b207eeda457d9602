"""A small HTTP/1.0 client for endpoints on this host; http.client would double the start-up time.

And which hosts a list like NO_PROXY leads to directly.
"""

from __future__ import annotations

import json
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NoAnswer(Exception):
    """Refused, cut, or too slow; the text says which."""


class Late(NoAnswer):
    """Nothing in time: whoever was asked may still be at it."""


def request(
    address: str, port: int, path: str, body: object = None, timeout: float = 5.0, token: str = ""
) -> tuple[int, bytes]:
    """Status and body of one request; the timeout is for each wait."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = ["%s %s HTTP/1.0" % ("GET" if body is None else "POST", path), "Host: %s:%d" % (address, port)]
    lines += ["Content-Type: application/json", "Content-Length: %d" % len(data)] if body is not None else []
    lines += ["Authorization: Bearer %s" % token] if token else []
    try:
        with socket.create_connection((address, port), timeout=timeout) as connection:
            connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
            chunks = []
            while True:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                chunks.append(chunk)
    except ConnectionRefusedError:
        raise NoAnswer("nothing listens on port %d" % port) from None
    except socket.timeout:
        raise Late("no answer within %d s" % timeout) from None
    except OSError as error:
        raise NoAnswer(error.strerror or str(error)) from None
    head, _, answer = b"".join(chunks).partition(b"\r\n\r\n")
    fields = head.split(b" ", 2)
    if len(fields) < 2 or not fields[1].isdigit():
        raise NoAnswer("the connection was cut")
    return int(fields[1]), answer


def listens(address: str, port: int) -> bool:
    """Whether somebody takes connections there; nothing is asked."""
    try:
        socket.create_connection((address, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def get_json(address: str, port: int, path: str, timeout: float = 5.0) -> Any:
    code, body = request(address, port, path, timeout=timeout)
    return parse(code, body)


def parse(code: int, body: bytes) -> Any:
    if code != 200:
        raise NoAnswer("HTTP %d %s" % (code, body[:200].decode(errors="replace")))
    try:
        return json.loads(body)
    except ValueError:
        raise NoAnswer("the answer is not JSON") from None


def is_direct(host: str, no_proxy: str) -> bool:
    """Whether a host, with or without a port, is asked without a proxy; networks count, as for dockerd."""
    import ipaddress

    name, port = _parted(host)
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        address = None
    if name == "localhost" or (address and address.is_loopback):
        return True
    for entry in no_proxy.split(","):
        wanted, only = _parted(entry)
        if wanted == "*":
            return True
        wanted = wanted.lstrip("*").lstrip(".")
        if not wanted or only not in ("", port):
            continue
        if not address and (name == wanted or name.endswith("." + wanted)):
            return True
        try:
            if address and address in ipaddress.ip_network(wanted, strict=False):
                return True
        except ValueError:  # a name
            continue
    return False


def _parted(entry: str) -> tuple[str, str]:
    """Name or address without brackets, and the port."""
    entry = entry.strip().lower()
    name, colon, port = entry.rpartition(":")
    if not colon or not port.isdigit() or (":" in name and not name.endswith("]")):
        name, port = entry, ""
    return name.strip("[]"), port
