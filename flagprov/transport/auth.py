"""Who we are to a host: keys from files, keys in an agent, a password, in this order."""

from __future__ import annotations

import base64
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import paramiko
from paramiko.agent import AgentKey, AgentSSH

from flagprov.models.fleet import Connection

_MAX_AGENT_KEYS = 5  # sshd closes the connection after six attempts


class LoginError(Exception):
    """No way in; `tried` says what was offered, `locked` which key files are encrypted."""

    def __init__(self, tried: list[str], locked: list[str], cut: bool) -> None:
        super().__init__(", ".join(tried) or "nothing to offer")
        self.tried = tried
        self.locked = locked
        self.cut = cut  # the host closed the connection before all was tried


class Login:
    """Stands in for paramiko's AuthStrategy: SSHClient.connect calls authenticate(transport=...)."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._locked: list[str] = []

    def authenticate(self, transport: paramiko.Transport) -> None:
        tried: list[str] = []
        user = self._connection.user
        for name, key in self._keys():
            if not transport.is_active():
                raise LoginError(tried, self._locked, cut=True)
            tried.append(name)
            try:
                if not transport.auth_publickey(user, key):
                    return
            except paramiko.SSHException:
                continue
        password = self._connection.password
        if password is not None:
            if not transport.is_active():
                raise LoginError(tried, self._locked, cut=True)
            tried.append("password")
            try:
                if not transport.auth_password(user, password.reveal()):
                    return
            except paramiko.SSHException:
                pass
        raise LoginError(tried, self._locked, cut=not transport.is_active())

    def _keys(self) -> Iterator[tuple[str, paramiko.PKey]]:
        connection = self._connection
        agent = list(agent_keys(connection.agent_socket or _agent_path())) if connection.agent else []
        offered: set[bytes] = set()
        for file in connection.identity_files:
            public, key = load_key(
                file, connection.key_passphrase.reveal() if connection.key_passphrase else None
            )
            held = next((held for held in agent if public is not None and held.asbytes() == public), None)
            if key is None and held is None:
                if public is not None:
                    self._locked.append(file)
                continue
            chosen = key if key is not None else held
            if chosen is not None and chosen.asbytes() not in offered:
                offered.add(chosen.asbytes())
                yield file, chosen
        if not connection.identities_only:
            others = [held for held in agent if held.asbytes() not in offered]
            for held in others[:_MAX_AGENT_KEYS]:
                yield f"agent key {held.comment or held.get_name()}", held


@lru_cache(maxsize=256)
def load_key(file: str, passphrase: str | None) -> tuple[bytes | None, paramiko.PKey | None]:
    """(public part, private key) of a key file; no private key where it is encrypted or absent."""
    path = Path(file.removesuffix(".pub"))
    public = _public_part(path)
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            key = kind.from_private_key_file(str(path), passphrase)
        except (paramiko.SSHException, OSError, ValueError, UnicodeDecodeError):
            continue
        certificate = path.with_name(path.name + "-cert.pub")
        if certificate.is_file():
            key.load_certificate(str(certificate))
        return key.asbytes(), key
    return public, None


def _public_part(path: Path) -> bytes | None:
    """From the .pub beside it, else from the clear head of an OpenSSH key file."""
    try:
        return base64.b64decode(path.with_name(path.name + ".pub").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        body = "".join(path.read_text().split("-----")[2].split())
        data = base64.b64decode(body).removeprefix(b"openssh-key-v1\0")
        for _ in range(3):  # cipher, key derivation, its options
            data = data[4 + struct.unpack(">I", data[:4])[0] :]
        size = struct.unpack(">I", data[4:8])[0]
        return data[8 : 8 + size]
    except (OSError, ValueError, IndexError, struct.error):
        return b"" if path.is_file() else None


class _Agent(AgentSSH):  # type: ignore[misc,unused-ignore]
    """An agent on a given socket, used by many threads; paramiko's own knows SSH_AUTH_SOCK only."""

    _connect: Callable[[socket.socket], None]
    _close: Callable[[], None]

    def __init__(self, path: str) -> None:
        super().__init__()
        self._lock = threading.Lock()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
            self._connect(connection)
        except BaseException:
            connection.close()
            raise

    def _send_message(self, message: Any) -> Any:
        with self._lock:
            return super()._send_message(message)  # type: ignore[misc]


_agents: dict[str, _Agent | None] = {}
_agents_lock = threading.Lock()


def agent_keys(path: str | None) -> tuple[AgentKey, ...]:
    """The keys of the agent, asked once per process; none where there is no agent."""
    if not path:
        return ()
    with _agents_lock:
        if path not in _agents:
            try:
                _agents[path] = _Agent(path)
            except (OSError, paramiko.SSHException):
                _agents[path] = None
        agent = _agents[path]
    return tuple(agent.get_keys()) if agent is not None else ()


def forget_agents() -> None:
    """Closes the connections to agents, so that they are asked again."""
    with _agents_lock:
        for agent in _agents.values():
            if agent is not None:
                agent._close()
        _agents.clear()
    load_key.cache_clear()


def _agent_path() -> str | None:
    return os.environ.get("SSH_AUTH_SOCK")
