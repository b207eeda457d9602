"""Making hosts gateways: the role `gateway`, run by Ansible where something of it has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flagprov.apply.assets import ansible_root
from flagprov.apply.provision import provision, roles_digest
from flagprov.models.event import Event
from flagprov.models.fleet import Fleet, Host
from flagprov.models.outcome import HostOutcome

ROLES = ("host_baseline", "gateway")
PLAYBOOK = "gateway.yml"


def gateway_fingerprint(host: Host) -> str:
    """What a gateway was made with; secrets only go into the hash."""
    playbook = (ansible_root() / "playbooks" / PLAYBOOK).read_bytes()
    text = json.dumps([roles_digest(host, ROLES), host.connection.address])
    return hashlib.sha256(playbook + text.encode()).hexdigest()


def provision_gateways(
    fleet: Fleet,
    hosts: Sequence[Host],
    on_event: Callable[[Event], None],
    directory: Path,
    packages: Mapping[str, bool] | None = None,
) -> Mapping[str, HostOutcome]:
    variables = {"flagprov_gateway_fingerprints": {host.name: gateway_fingerprint(host) for host in hosts}}
    return provision(
        *(fleet, hosts, on_event),
        directory=directory,
        playbook=PLAYBOOK,
        variables=variables,
        packages=packages,
    )
