"""The fleet: hosts of an Ansible inventory, with what flagprov needs of their variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Secret:
    """Text that never shows itself; reveal() is called where it is sent, nowhere else."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        return self._value

    def __str__(self) -> str:
        return "[redacted]"

    __repr__ = __str__


@dataclass(frozen=True, slots=True)
class Connection:
    """How a host is reached: what Ansible's connection variables and ssh_config say together."""

    address: str
    port: int = 22
    user: str = "root"
    password: Secret | None = None
    identity_files: tuple[str, ...] = ()
    identities_only: bool = False
    known_hosts: tuple[str, ...] = ()  # in order; the site's own file first
    host_key_alias: str | None = None
    proxy: Connection | None = None  # the last jump; its own proxy is the jump before it
    proxy_command: str | None = None
    agent: bool = True
    agent_socket: str | None = None  # IdentityAgent; None = SSH_AUTH_SOCK
    key_passphrase: Secret | None = None
    algorithms: tuple[
        tuple[str, tuple[str, ...]], ...
    ] = ()  # kex, ciphers, macs, keys, where ssh_config says so
    family: str = "any"  # any, inet, inet6
    bind_address: str | None = None
    become: bool = False  # False where the user is root already
    become_user: str = "root"
    become_password: Secret | None = None
    connect_timeout_s: float = 10.0
    keepalive_s: int = 15
    python: str | None = None  # ansible_python_interpreter, when it is a path


@dataclass(frozen=True, slots=True)
class Host:
    """One machine. `chip` is what the inventory says; None where it says nothing."""

    name: str
    connection: Connection
    chip: str | None = None
    groups: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)  # flagprov_settings
    weights_root: str | None = None  # flagprov_weights_root
    registries: Mapping[str, str] = field(
        default_factory=dict
    )  # flagprov_registries: card's registry -> site's
    site: str | None = None  # flagprov_site: rack or site name
    ascend_access: str = "mounts"  # flagprov_ascend_access: mounts, runtime
    cann: str = "image"  # flagprov_cann: whose CANN containers use, image or host
    cann_path: str | None = None  # flagprov_cann_path: where a host's own lies
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)  # all others but Ansible's own


@dataclass(frozen=True, slots=True)
class Fleet:
    """The hosts that a command acts on, and the site directory that keeps what flagprov knows of them."""

    inventory: Path
    hosts: tuple[Host, ...]
    gateways: tuple[Host, ...] = ()  # group flagprov_gateway, whatever the command is limited to

    @property
    def machines(self) -> tuple[Host, ...]:
        """Every host that is logged in to."""
        names = {host.name for host in self.hosts}
        return (*self.hosts, *(host for host in self.gateways if host.name not in names))

    @property
    def site(self) -> Path:
        """Directory of the inventory's `.flagprov/`."""
        base = self.inventory if self.inventory.is_dir() else self.inventory.parent
        return base / ".flagprov"
