"""Opens one SSH connection: stream, host key, login; with the reason in words where that fails."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

import fabric
import paramiko

from flagprov.errors import HostError, UnreachableError
from flagprov.models.fleet import Connection
from flagprov.transport.auth import Login, LoginError
from flagprov.transport.known_hosts import HostKey, Known, KnownHosts, known_name
from flagprov.transport.sockets import SILENCE, Heard, dial, through_command, through_jump

logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # it logs a traceback for every lost connection

# curve25519 first: the post-quantum exchange costs the controller seven times the CPU at 1000 hosts.
KEX = (
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
)
_RETRIES = 7  # an sshd at MaxStartups drops connections before its banner: a queue, not a dead host
_PATIENCE = 10.0  # seconds without a word after which a server is silent, not busy
_CONFIG = fabric.Config(overrides={"load_ssh_configs": False}, ssh_config=paramiko.SSHConfig(), lazy=True)


T = TypeVar("T")


class Opener:
    """Opens connections for one fleet; jump hosts are opened once and shared."""

    def __init__(
        self, known_hosts: KnownHosts | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._known_hosts = known_hosts or KnownHosts()
        self._sleep = sleep
        self._jumps: dict[Connection, fabric.Connection] = {}
        self._dead_jumps: dict[Connection, tuple[float, HostError]] = {}
        self._locks: dict[Connection, threading.Lock] = {}
        self._lock = threading.Lock()

    def open(self, host: str, connection: Connection) -> fabric.Connection:
        """An authenticated connection, its host key checked."""
        known = self._known_hosts.lookup(connection)
        return self._retry(host, lambda: self._attempt(host, connection, known))

    def host_key(self, host: str, connection: Connection, kinds: Sequence[str]) -> HostKey | None:
        """The key that the host shows when only these kinds are asked for; nobody logs in."""
        return self._retry(host, lambda: self._show_key(host, connection, kinds))

    def _retry(self, host: str, attempt_once: Callable[[], T]) -> T:
        for attempt in range(_RETRIES):
            try:
                return attempt_once()
            except _Busy as busy:
                if attempt == _RETRIES - 1:
                    raise HostError(
                        host,
                        "connect",
                        f"sshd closes the connection before its greeting, {_RETRIES} times: {busy}",
                        remedy="It may be at its limit: see MaxStartups and PerSourcePenalties of its sshd.",
                    ) from busy
                self._sleep(0.1 * 2**attempt * (0.5 + random.random()))
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Closes the jump hosts."""
        with self._lock:
            jumps, self._jumps = list(self._jumps.values()), {}
        for jump in jumps:
            jump.client.close()

    def stream(self, host: str, connection: Connection) -> Heard:
        """The way to the host's sshd, through its jump hosts where it has some."""
        if connection.proxy_command is not None:
            return through_command(host, connection, connection.proxy_command)
        if connection.proxy is not None:
            jump = self._jump(host, connection.proxy)
            return through_jump(host, connection, jump, connection.proxy.address)
        return dial(host, connection)

    def _jump(self, host: str, connection: Connection) -> paramiko.Transport:
        with self._lock:
            lock = self._locks.setdefault(connection, threading.Lock())
        with lock:
            opened = self._jumps.get(connection)
            if opened is None or not opened.is_connected:
                since, failure = self._dead_jumps.get(connection, (0.0, None))
                try:
                    if failure is not None and time.monotonic() - since < 10:
                        raise failure  # many hosts behind it need not wait for it one after the other
                    opened = self.open(host, connection)
                except HostError as error:
                    self._dead_jumps[connection] = (time.monotonic(), error)
                    kind = UnreachableError if isinstance(error, UnreachableError) else HostError
                    message = f"jump host {connection.address}: {error.message}"
                    raise kind(host, error.step, message, remedy=error.remedy) from error
                with self._lock:
                    self._jumps[connection] = opened
            transport: paramiko.Transport = opened.client.get_transport()
            return transport

    def _show_key(self, host: str, connection: Connection, kinds: Sequence[str]) -> HostKey | None:
        stream = self.stream(host, connection)
        asked = replace(connection, algorithms=(("keys", tuple(kinds)),))
        transport = _Transport(stream, asked, Known(), {})
        try:
            transport.start_client(timeout=max(15.0, connection.connect_timeout_s))
            key = transport.get_remote_server_key()
            return HostKey(key.get_name(), key.asbytes())
        except paramiko.ssh_exception.IncompatiblePeer:
            return None
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise _explain(host, connection, error, stream) from error
        finally:
            transport.close()
            stream.close()

    def _attempt(self, host: str, connection: Connection, known: Known) -> fabric.Connection:
        stream = self.stream(host, connection)
        made: list[_Transport] = []

        def transport(sock: Heard, **options: Any) -> _Transport:
            made.append(_Transport(sock, connection, known, options))
            return made[-1]

        opened = fabric.Connection(
            connection.address,
            user=connection.user,
            port=connection.port,
            config=_CONFIG.clone(),  # a Connection writes into its config: threads must not share one
            connect_timeout=max(15, int(connection.connect_timeout_s)),
            connect_kwargs={
                "sock": stream,
                "transport_factory": transport,
                "auth_strategy": Login(connection),
                "banner_timeout": 30,
                "auth_timeout": 60,
                "channel_timeout": 60,
            },
        )
        opened.client.set_missing_host_key_policy(_Policy(host, connection, known))
        try:
            opened.open()
        except BaseException as error:
            opened.client.close()
            stream.close()
            if isinstance(error, HostError) or not isinstance(error, Exception):
                raise
            raise _explain(host, connection, error, stream) from error
        made[0].watch(connection.keepalive_s)
        return opened


class _Busy(Exception):
    """The connection was dropped before sshd's greeting."""


class _Transport(paramiko.Transport):
    """Our algorithms, and a watch that ends the connection when the host has gone silent."""

    def __init__(self, sock: Heard, connection: Connection, known: Known, options: Any) -> None:
        super().__init__(cast("Any", sock), **options)
        self._heard = sock
        security, said = self.get_security_options(), dict(connection.algorithms)
        supported = set(security.kex)
        security.kex = [name for name in said.get("kex", KEX) if name in supported]
        if "ciphers" in said:
            security.ciphers = said["ciphers"]
        if "macs" in said:
            security.digests = said["macs"]
        usual = list(said.get("keys", security.key_types))
        first = [name for kind in known.kinds for name in _algorithms_of(kind) if name in security.key_types]
        security.key_types = [*first, *(name for name in usual if name not in first)]

    def watch(self, interval: int) -> None:
        """Asks the host for a sign of life whenever nothing was sent or heard for a while."""
        self.packetizer.set_keepalive(interval, self._ask)

    def _ask(self) -> None:
        if time.monotonic() - self._heard.last > SILENCE:
            raise TimeoutError(110, "no answer from the host")
        message = paramiko.Message()
        message.add_byte(
            b"\x50"
        )  # SSH_MSG_GLOBAL_REQUEST, with an answer wanted; any answer is a sign of life
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        cast("Any", self)._send_user_message(message)


class _Policy(paramiko.MissingHostKeyPolicy):
    """Called for every host, because fabric's client itself is given no known hosts."""

    def __init__(self, host: str, connection: Connection, known: Known) -> None:
        self._host, self._connection, self._known = host, connection, known

    def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
        """Accepts a known key; anything else ends the connection before a login is tried."""
        offered = HostKey(key.get_name(), key.asbytes())
        check_host_key(self._host, self._connection, self._known, offered)


def check_host_key(host: str, connection: Connection, known: Known, offered: HostKey) -> None:
    """Raises unless the key is known."""
    verdict, name = known.verdict(offered), known_name(connection)
    if verdict == "known":
        return
    shown = f"{offered.kind} {offered.fingerprint}"
    if verdict == "new":
        by = "only by a certificate authority, which flagprov does not check" if known.authority else "not"
        raise HostError(
            host,
            "host key",
            f"the host key of {name} is {by} known: {shown}",
            remedy="Run `flagprov trust INVENTORY` to compare and accept it.",
        )
    if verdict == "revoked":
        line = next(line for line in known.revoked if line.key == offered)
        raise HostError(
            host, "host key", f"the host key of {name} is revoked by {line.file} line {line.number}: {shown}"
        )
    same = next((line for line in known.lines if line.key.kind == offered.kind), known.lines[0])
    raise HostError(
        host,
        "host key",
        f"the host key of {name} has CHANGED: it shows {shown}, but {same.file} line {same.number} has "
        f"{same.key.kind} {same.key.fingerprint}",
        remedy="Somebody may be in between. If the host was set up anew, compare the fingerprint at its "
        "console, then run `flagprov trust INVENTORY --replace`.",
    )


def _algorithms_of(kind: str) -> tuple[str, ...]:
    return ("rsa-sha2-512", "rsa-sha2-256") if kind == "ssh-rsa" else (kind,)


def _explain(host: str, connection: Connection, error: Exception, stream: Heard) -> Exception:
    if isinstance(error, LoginError):
        return _refused(host, connection, error)
    text, first = str(error), stream.first.decode(errors="replace")
    if "SSH-" not in first:
        return _no_greeting(host, connection, first, time.monotonic() - stream.since)
    greeting = first[first.index("SSH-") :].splitlines()[0]
    if isinstance(error, paramiko.SSHException) and not isinstance(error, paramiko.AuthenticationException):
        return HostError(
            host,
            "connect",
            f"no agreement with {greeting.removeprefix('SSH-2.0-')}: {text or type(error).__name__}",
        )
    return UnreachableError(
        host, "connect", f"the connection was lost at login: {text or type(error).__name__}"
    )


def _no_greeting(host: str, connection: Connection, said: str, waited: float) -> Exception:
    place = f"{connection.address} port {connection.port}"
    if "MaxStartups" in said or "Not allowed at this time" in said:
        return _Busy(said.strip())
    if said:
        shown = said.splitlines()[0][:60]
        return HostError(
            host, "connect", f"{place} does not speak SSH: it says {shown!r}", remedy="Is ansible_port right?"
        )
    if waited > _PATIENCE:
        return UnreachableError(host, "connect", f"{place} accepts, but sshd sends no greeting")
    if connection.proxy_command is not None:
        command = connection.proxy_command
        return UnreachableError(host, "connect", f"the ProxyCommand ends without a connection: {command}")
    return _Busy("the connection was closed")


def _refused(host: str, connection: Connection, error: LoginError) -> HostError:
    tried = (
        f"; tried: {', '.join(error.tried)}" if error.tried else "; there was no key and no password to offer"
    )
    remedy = "Give ansible_ssh_private_key_file, or put the key into ssh-agent."
    if error.locked:
        tried += f"; locked: {', '.join(error.locked)} is encrypted and no agent holds it"
        remedy = f"Run `ssh-add {error.locked[0]}`."
    elif error.cut:
        remedy = "It closes after too many keys: set IdentitiesOnly yes and one IdentityFile for it."
    elif error.tried:
        remedy = (
            f"Add the public key to ~{connection.user}/.ssh/authorized_keys there, or correct ansible_user."
        )
    return HostError(
        host, "login", f"{connection.address} refuses user {connection.user}{tried}", remedy=remedy
    )
