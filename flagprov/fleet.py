"""From an Ansible inventory to a Fleet."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flagprov.errors import InventoryError
from flagprov.inventory_cache import Kept, kept
from flagprov.inventory_variables import check_fetching, check_variables, nearest
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.ssh_config import Resolver

_READER = Path(__file__).with_name("inventory_reader.py")
_OURS = (
    "flagprov_chip",
    "flagprov_settings",
    "flagprov_weights_root",
    "flagprov_registries",
    "flagprov_site",
)


def load_fleet(inventory: Path, limit: str | None = None, *, reach: bool = True) -> Fleet:
    """The hosts of an inventory that a command acts on."""
    return start_loading(inventory, limit, reach=reach).result()


def start_loading(inventory: Path, limit: str | None = None, *, reach: bool = True) -> Loading:
    """Starts the child that reads the inventory, so that the caller can import the rest meanwhile.

    Without `reach` somebody else connects: options of the connection that we refuse do not matter.
    """
    if not inventory.exists():
        return Loading(inventory, limit, None)
    request = json.dumps(
        {"inventory": str(inventory), "limit": limit, "prefixes": ["flagprov_", *_role_prefixes()]}
    )
    place = kept(inventory, limit, request)
    known = place.read() if place else None
    if known is not None:
        return Loading(inventory, limit, None, known, reach=reach)
    settings = {
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true",  # a skipped file is a missing host
        "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
        "PYTHONUTF8": "1",
    }
    child = subprocess.Popen(
        [sys.executable, "-P", str(_READER), request],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | settings,
    )
    return Loading(inventory, limit, child, place=place, reach=reach)


@dataclass
class Loading:
    """An inventory that is being read."""

    inventory: Path
    limit: str | None
    _child: subprocess.Popen[bytes] | None
    _known: Mapping[str, Any] | None = None  # from last time
    place: Kept | None = None  # for the next time
    reach: bool = True

    def result(self) -> Fleet:
        """Waits for the child and resolves how each host is reached."""
        if self._known is not None:
            return fleet_of(self.inventory, self.limit, self._known, reach=self.reach)
        if self._child is None:
            raise _missing(self.inventory)
        answer = self._answer(self._child)
        fleet = fleet_of(self.inventory, self.limit, answer, reach=self.reach)
        if self.place:
            self.place.write(answer)
        return fleet

    def cancel(self) -> None:
        """Ends the child, where nobody wants its answer any more."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()

    def _answer(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        try:
            out, err = child.communicate()
        except BaseException:
            self.cancel()
            raise
        try:
            answer: dict[str, Any] = json.loads(out)
        except ValueError:
            last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"status {child.returncode}"]
            raise InventoryError(
                f"{self.inventory}: Ansible could not read it: {last[0]}",
                remedy=f"Look at what `ansible-inventory -i {self.inventory} --list` says.",
            ) from None
        return answer


def fleet_of(inventory: Path, limit: str | None, answer: Mapping[str, Any], *, reach: bool = True) -> Fleet:
    """The Fleet of what the reader answered."""
    if "error" in answer:
        raise _refusal(inventory, limit, answer["error"])
    records: Sequence[Mapping[str, Any]] = answer["hosts"]
    _check_named(inventory, limit, answer)
    site = Fleet(inventory, ()).site
    resolver = Resolver(site)
    gateways: Sequence[Mapping[str, Any]] = answer.get("gateways", ())
    for record in records:
        check_variables(record)
        check_fetching(record, answer.get("strangers", ()), inventory)
    if reach:
        for record in (*records, *gateways):
            _check_plugins(record)
        resolver.prepare([*records, *gateways])
    hosts = tuple(_host(resolver, record, reach) for record in records)
    if reach:
        _check_apart(hosts)
    known = {host.name: host for host in hosts}
    before = tuple(known.get(record["name"]) or _host(resolver, record, reach) for record in gateways)
    return Fleet(inventory, tuple(_behind(before, host) for host in hosts), before)


def _behind(gateways: Sequence[Host], host: Host) -> Host:
    """With whom the role `firewall` lets in by default: another gateway is a reason to provision it again."""
    from dataclasses import replace

    mine = host.variables
    if not gateways or "firewall_enabled" not in mine or "firewall_clients" in mine:
        return host
    clients = [g.variables.get("flagprov_serving_address") or g.connection.address for g in gateways]
    return replace(host, variables={**mine, "firewall_clients": clients})


def _host(resolver: Resolver, record: Mapping[str, Any], reach: bool) -> Host:
    variables = dict(record["variables"])
    chip, settings, weights, registries, site = (variables.pop(name, None) for name in _OURS)
    try:
        connection = _with_sudo(record, resolver.connection(record))
    except InventoryError:
        if reach:
            raise
        connection = Connection(str(record["ssh"].get("host") or record["name"]).strip("[]"))
    return Host(
        name=record["name"],
        connection=connection,
        chip=chip,
        groups=tuple(record["groups"]),
        settings=settings or {},
        weights_root=weights,
        registries=registries or {},
        site=site,
        ascend_access=variables.get("flagprov_ascend_access") or "mounts",
        cann=variables.get("flagprov_cann") or "image",
        cann_path=variables.get("flagprov_cann_path"),
        variables=variables,
    )


def _with_sudo(record: Mapping[str, Any], connection: Connection) -> Connection:
    from dataclasses import replace

    from flagprov.models.fleet import Secret

    python = record["python"]
    connection = replace(connection, python=python if isinstance(python, str) and "/" in python else None)
    if connection.user == "root":
        return connection
    name, become = record["name"], record["become"]
    if str(become["asked"]).lower() in ("false", "no", "0", "off"):
        raise InventoryError(
            f"{name}: ansible_become is false, and user {connection.user} is not root",
            remedy="Set ansible_become to true, or give a user who may use sudo.",
        )
    if str(become["method"]).rpartition(".")[2] != "sudo":
        raise InventoryError(
            f"{name}: ansible_become_method {become['method']} cannot be honoured: flagprov uses sudo",
            remedy="Set ansible_become_method to sudo for this host.",
        )
    if (become["user"] or "root") != "root":
        raise InventoryError(
            f"{name}: ansible_become_user {become['user']} cannot be honoured: flagprov works as root",
            remedy="Set ansible_become_user to root for this host.",
        )
    if (become["exe"] or "sudo") != "sudo":
        raise InventoryError(
            f"{name}: ansible_become_exe {become['exe']} cannot be honoured: flagprov runs sudo",
            remedy="Leave ansible_become_exe out for this host.",
        )
    password = become["password"]
    return replace(
        connection, become=True, become_password=None if password is None else Secret(str(password))
    )


def _check_plugins(record: Mapping[str, Any]) -> None:
    name, ssh = record["name"], record["ssh"]
    if str(record["connection"]).rpartition(".")[2] not in ("ssh", "smart"):
        raise InventoryError(
            f"{name}: ansible_connection {record['connection']} cannot be honoured: flagprov uses ssh",
            remedy="Leave ansible_connection out for this host, or take it out with --limit.",
        )
    for option, default, variable in (
        ("ssh_executable", "ssh", "ansible_ssh_executable"),
        ("private_key", None, "ansible_ssh_private_key"),
        ("pkcs11_provider", "", "ansible_ssh_pkcs11_provider"),
    ):
        if (ssh.get(option) or default) != default:
            raise InventoryError(
                f"{name}: {variable} cannot be honoured",
                remedy="Use ansible_ssh_private_key_file, or a key in ssh-agent.",
            )
    if record.get("strict_variable"):
        raise InventoryError(
            f"{name}: {record['strict_variable']}: false weakens the check of host keys",
            remedy="Remove it and run `flagprov trust INVENTORY` once: host keys are always checked.",
        )


def _check_apart(hosts: Sequence[Host]) -> None:
    """Two names for one machine would each be given its devices."""
    names: dict[tuple[object, ...], str] = {}
    for host in hosts:
        way = host.connection
        other = names.setdefault((way.address, way.port, way.proxy, way.proxy_command), host.name)
        if other != host.name:
            raise InventoryError(
                f"{other} and {host.name} are one machine: both are at {way.address}, port {way.port}",
                remedy="Name it once, or correct ansible_host of one of them.",
            )


def _check_named(inventory: Path, limit: str | None, answer: Mapping[str, Any]) -> None:
    """A host that is named has to be of the fleet; a fleet has to have hosts."""
    named = set(re.split(r"[,:\s]+", limit or ""))
    why = "is not in group flagprov_serving" if answer["serving"] else "has no flagprov_chip"
    for name in answer["others"]:
        if name in named:
            raise InventoryError(
                f"{name}: {why}",
                remedy="Add it to the group, or take it out of --limit."
                if answer["serving"]
                else "Set flagprov_chip for it, or take it out of --limit.",
            )
    if not answer["hosts"]:
        what = "is in group flagprov_serving" if answer["serving"] else "has flagprov_chip"
        where = f"--limit {limit}: matches" if limit else f"{inventory}: has"
        raise InventoryError(
            f"{where} no host that {what}",
            remedy="Set flagprov_chip for the hosts or groups that serve.",
        )


def _refusal(inventory: Path, limit: str | None, error: Mapping[str, Any]) -> InventoryError:
    kind, message = error["kind"], str(error["message"])
    if kind == "limit":
        _, _, pattern = message.rpartition("ignoring: ")
        unmatched = message.startswith("Could not match")
        text = f"matches no host or group of {inventory}" if unmatched else message
        remedy = nearest(pattern, error["names"]) if unmatched else ""
        what = pattern if unmatched and pattern != limit else ""
        return InventoryError(f"--limit {limit}: {what}{' ' if what else ''}{text}", remedy=remedy)
    if kind == "empty":
        return InventoryError(message, remedy="Add hosts; the samples in inventory/ show how.")
    if "vault" in message.lower():
        return InventoryError(
            f"{inventory}: {message}" if str(inventory) not in message else message,
            remedy="Give the vault's password as Ansible does: ANSIBLE_VAULT_PASSWORD_FILE or ansible.cfg.",
        )
    if kind == "variable":
        return InventoryError(
            message, remedy=f"Correct {error['variable']} in the inventory or its group_vars."
        )
    if kind == "unparsed":
        return InventoryError(message, remedy=f"Check it with `ansible-inventory -i {inventory} --list`.")
    return InventoryError(f"{inventory}: {message}")


def _missing(inventory: Path) -> InventoryError:
    folder = inventory.parent
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if not names and not folder.is_dir():
        return InventoryError(f"{inventory}: no such inventory: there is no directory {folder}")
    return InventoryError(f"{inventory}: no such inventory", remedy=nearest(inventory.name, names))


def _role_prefixes() -> list[str]:
    """`container_engine_` and the like: variables of our roles are templated, others stay as written."""
    folder = _READER.parents[1] / "ansible_collections/flagprov/flagprov/roles"
    return sorted(f"{path.name}_" for path in folder.iterdir()) if folder.is_dir() else []
