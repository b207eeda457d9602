"""Before a replica's ranks start: this host listens where its rank will, and reaches every other rank.

All hosts of a replica are asked at once. Each pair is tried in both directions with a block of data, so that
a path which drops large packets is found as well as a closed port.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import selectors
import socket
import threading
import time

from flagprov.host import docker, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READ = (".safetensors", ".bin", ".pt", ".gguf", ".json", ".model", ".txt", ".tiktoken", ".jinja", ".py")
BLOCK = b"flagprov" * 4096  # more than any MTU, several segments
SECONDS = 20.0
ATTEMPT_S = 5.0


def preflight(request: dict[str, Any]) -> dict[str, Any]:
    """`failures`: what is wrong here, or with whom; empty where every pair meets. And what has to be the
    same on all hosts of a replica: the interface's `mtu`, the `weights` as name -> size, the `image`."""
    meeting = Meeting(request)
    try:
        meeting.listen()
        if not meeting.failures:
            meeting.run()
    finally:
        meeting.close()
    mtu = machine.read("/sys/class/net/%s/mtu" % request.get("interface", "")).strip()
    return {
        "failures": meeting.failures,
        "mtu": int(mtu) if mtu.isdigit() else None,
        "weights": manifest(str(request.get("weights") or "")),
        "image": layers(**request["image"]) if "image" in request else "",
    }


def layers(reference: str, digests: list[str]) -> str:
    """What an image is made of, however this host's docker counts digests; empty where that is not known."""
    found = docker.image_id(reference, digests)
    seen = docker.call("GET", "/images/%s/json" % docker.quote(found)) if found else None
    told = ((seen or {}).get("RootFS") or {}).get("Layers") or []
    return hashlib.sha256(" ".join(told).encode()).hexdigest() if told else ""


def manifest(path: str) -> dict[str, int]:
    """What the engine reads of a directory of weights; nothing that downloaders leave beside it."""
    found: dict[str, int] = {}
    for folder, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            if name.endswith(READ) and not name.startswith("."):
                file = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    found[os.path.relpath(file, path)] = os.stat(file).st_size
    return found


class Meeting:
    """One host's side: its listeners, and its calls to the others."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.address = str(request["address"])
        self.ports = [int(port) for port in request["ports"]]
        self.peers = [dict(peer) for peer in request["peers"]]
        self.deadline = time.monotonic() + float(request.get("seconds", SECONDS))
        self.failures: list[dict[str, Any]] = []
        self.listeners: list[socket.socket] = []
        self.heard: set[tuple[str, int]] = set()  # address of a caller, port that it reached
        self.lock = threading.Lock()

    def listen(self) -> None:
        for port in self.ports:
            listener = socket.socket(_family(self.address), socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self.address, port))
                listener.listen(64)
            except OSError as error:
                listener.close()
                self.fail("", port, _bind_error(self.address, port, error))
                continue
            listener.setblocking(False)
            self.listeners.append(listener)

    def run(self) -> None:
        """Until all pairs have met in both directions, or the time is over."""
        calls = [
            threading.Thread(target=self.call, args=(peer, int(port)), daemon=True)
            for peer in self.peers
            for port in peer["ports"]
        ]
        calls += [
            threading.Thread(target=self.greet, args=(peer, int(peer["sshd"])), daemon=True)
            for peer in self.peers
            if "sshd" in peer
        ]
        for call in calls:
            call.start()
        expected = {(str(peer["address"]), port) for peer in self.peers for port in self.ports}
        with selectors.DefaultSelector() as selector:
            for listener in self.listeners:
                selector.register(listener, selectors.EVENT_READ)
            while time.monotonic() < self.deadline:
                if not any(call.is_alive() for call in calls) and (self.failures or expected <= self.heard):
                    break
                for key, _ in selector.select(0.1):
                    self.answer(key.fileobj)
        for call in calls:
            call.join(ATTEMPT_S)

    def answer(self, listener: Any) -> None:
        with contextlib.suppress(OSError):
            connection, caller = listener.accept()
            self.heard.add((str(caller[0]), int(listener.getsockname()[1])))
            connection.settimeout(ATTEMPT_S)
            threading.Thread(target=_send, args=(connection,), daemon=True).start()

    def call(self, peer: dict[str, Any], port: int) -> None:
        """Again and again: the other side may not listen yet."""
        why = "no answer"
        while time.monotonic() < self.deadline:
            try:
                with socket.create_connection(
                    (str(peer["address"]), port), ATTEMPT_S, (self.address, 0)
                ) as connection:
                    got = _receive(connection)
                if got == len(BLOCK):
                    return
                why = "only %d of %d bytes came: is its MTU the same?" % (got, len(BLOCK))
            except OSError as error:
                why = str(error.strerror or error)
            time.sleep(0.2)
        self.fail(str(peer["host"]), port, why)

    def greet(self, peer: dict[str, Any], port: int) -> None:
        """An sshd of the other host's own, which is there or is not."""
        try:
            with socket.create_connection(
                (str(peer["address"]), port), ATTEMPT_S, (self.address, 0)
            ) as connection:
                said = connection.recv(4)
            why = "" if said == b"SSH-" else "no sshd answers there"
        except OSError as error:
            why = str(error.strerror or error)
        if why:
            self.fail(str(peer["host"]), port, why)

    def fail(self, host: str, port: int, why: str) -> None:
        with self.lock:
            self.failures.append({"host": host, "port": port, "why": why})

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _bind_error(address: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "it is taken here by %s" % machine.holder(port)
    if error.errno == errno.EADDRNOTAVAIL:
        return "%s is no address of this host" % address
    return str(error.strerror or error)


def _send(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        connection.sendall(BLOCK)


def _receive(connection: socket.socket) -> int:
    connection.settimeout(ATTEMPT_S)
    got = 0
    with contextlib.suppress(socket.timeout):
        while got < len(BLOCK):
            data = connection.recv(65536)
            if not data:
                break
            got += len(data)
    return got
