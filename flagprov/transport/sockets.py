"""The byte stream under a connection: TCP, a ProxyCommand, or a channel through a jump host."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from typing import Any, Protocol

import paramiko

from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Connection

SILENCE = 45.0  # seconds after which a host that does not answer counts as gone


class Stream(Protocol):
    """What paramiko needs of a socket."""

    def send(self, data: bytes, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> None: ...
    def settimeout(self, value: float | None, /) -> None: ...


class Heard:
    """A stream that remembers its first words, and when something was last heard from the other side."""

    def __init__(self, stream: Stream, process: subprocess.Popen[bytes] | None = None) -> None:
        self._stream = stream
        self._process = process
        self.since = self.last = time.monotonic()
        self.first = b""

    def recv(self, size: int) -> bytes:
        data = self._stream.recv(size)
        self.last = time.monotonic()
        if len(self.first) < 200:
            self.first += data[:200]
        return data

    def close(self) -> None:
        self._stream.close()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def dial(host: str, connection: Connection) -> Heard:
    """A TCP connection to the host."""
    family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(connection.family, socket.AF_UNSPEC)
    address, port = connection.address, connection.port
    try:
        found = socket.getaddrinfo(address, port, family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # a label that is empty or too long is no name at all
        why = getattr(error, "strerror", None) or "it is not the name of a host"
        raise UnreachableError(
            host,
            "connect",
            f"the name {address} cannot be resolved: {why}",
            remedy="Correct ansible_host, or the resolver of this machine.",
        ) from error
    failure: OSError | None = None
    for kind, type_, protocol, _, place in found:
        try:
            stream = socket.socket(kind, type_, protocol)
        except OSError as error:
            failure = error
            continue
        try:
            stream.settimeout(connection.connect_timeout_s)
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError, AttributeError):
                stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENCE * 1000))
            if connection.bind_address:
                stream.bind((connection.bind_address, 0))
            stream.connect(place)
            return Heard(stream)
        except OSError as error:
            stream.close()
            failure = error
    raise _unreachable(host, connection, failure) from failure


def through_command(host: str, connection: Connection, command: str) -> Heard:
    """The standard input and output of a ProxyCommand, as a real socket."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        ours.close()
        raise HostError(host, "connect", f"the ProxyCommand cannot be started: {error}") from error
    finally:
        theirs.close()
    ours.settimeout(connection.connect_timeout_s)
    return Heard(ours, process)


def through_jump(host: str, connection: Connection, jump: paramiko.Transport, name: str) -> Heard:
    """A channel from a jump host to the host."""
    try:
        channel = jump.open_channel(
            "direct-tcpip",
            (connection.address, connection.port),
            ("", 0),
            timeout=connection.connect_timeout_s + 5,
        )
    except paramiko.ChannelException as error:
        if error.code == 1:
            raise HostError(
                host,
                "connect",
                f"jump host {name} forbids forwarding",
                remedy=f"Set AllowTcpForwarding yes in its sshd_config for user {jump.get_username()}.",
            ) from error
        raise UnreachableError(
            host,
            "connect",
            f"jump host {name} cannot reach {connection.address} port {connection.port}: {error.text}",
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise UnreachableError(
            host, "connect", f"jump host {name} gives no way to {connection.address}: {error}"
        ) from error
    return Heard(channel)


def _unreachable(host: str, connection: Connection, error: OSError | None) -> UnreachableError:
    place = f"{connection.address} port {connection.port}"
    if isinstance(error, TimeoutError):
        return UnreachableError(
            host, "connect", f"{place} does not answer within {connection.connect_timeout_s:g} s"
        )
    if error is not None and error.errno == errno.ECONNREFUSED:
        return UnreachableError(
            host,
            "connect",
            f"{place} refuses the connection",
            remedy="Is sshd running there, and is ansible_port right?",
        )
    reason = "it has no address of that family" if error is None else error.strerror or str(error)
    return UnreachableError(host, "connect", f"{place} cannot be reached: {reason}")
