"""Reads an inventory with Ansible's own code; runs in a child process, because importing Ansible is slow.

Input: one JSON object as the only argument. Output: one JSON object on standard output.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

SERVING_GROUP = "flagprov_serving"
GATEWAY_GROUP = "flagprov_gateway"
_SSH_OPTIONS = (  # those of Ansible's ssh connection that we have to honour or to refuse
    "host",
    "port",
    "remote_user",
    "password",
    "private_key_file",
    "private_key",
    "private_key_passphrase",
    "ssh_args",
    "ssh_common_args",
    "ssh_extra_args",
    "ssh_executable",
    "pkcs11_provider",
    "timeout",
)
_STRICT_VARIABLES = ("ansible_host_key_checking", "ansible_ssh_host_key_checking")
_CONNECTION_VARIABLES = (
    "ansible_connection",
    "ansible_python_interpreter",
    "ansible_become",
    "ansible_become_method",
)
_MAGIC = frozenset({"groups", "group_names", "hostvars", "omit", "playbook_dir", "vars", "environment"})


class Refused(Exception):
    """The inventory is wrong; carries what the parent turns into an InventoryError."""

    def __init__(self, kind: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.answer = {"kind": kind, "message": message, **more}


def read(inventory: str, limit: str | None, prefixes: tuple[str, ...]) -> dict[str, Any]:
    """The hosts that a command acts on, with templated variables of ours, and the names of the others."""
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader
    from ansible.vars.manager import VariableManager

    failures, skipped = _collect_failures()
    loader = DataLoader()
    try:
        _load_vault_secrets(loader)
        manager = InventoryManager(loader=loader, sources=[inventory])
    except AnsibleError as error:
        raise Refused("unparsed", _why(inventory, failures, error)) from error
    if skipped:
        raise Refused("unparsed", f"{inventory}: {skipped[0]}")
    if not manager.hosts:
        raise Refused("empty", f"{inventory}: lists no host")
    try:
        manager.subset(limit)
        chosen = manager.get_hosts()
    except AnsibleError as error:
        names = sorted([*manager.hosts, *manager.groups])
        raise Refused("limit", str(error), names=names[:2000]) from error
    variables = VariableManager(loader=loader, inventory=manager)
    group = manager.groups.get(SERVING_GROUP)
    serving = None if group is None else {host.name for host in group.get_hosts()}
    hosts, others = [], []
    for host in chosen:
        try:
            merged = variables.get_vars(host=host, include_hostvars=True)
        except AnsibleError as error:
            raise Refused("unparsed", f"{_place(error) or inventory}: {_plain(error)}") from error
        if host.name in serving if serving is not None else "flagprov_chip" in merged:
            hosts.append(_host(loader, host, merged, prefixes))
        else:
            others.append(host.name)
    strangers = [
        name
        for name in sorted({str(host["variables"].get("flagprov_fetch_on") or "") for host in hosts} - {""})
        if name not in manager.hosts
        or not (
            name in serving
            if serving is not None
            else "flagprov_chip" in variables.get_vars(host=manager.hosts[name], include_hostvars=False)
        )
    ]
    gateways = _gateways(manager, loader, variables, inventory, prefixes)
    return {
        "hosts": hosts,
        "others": others,
        "serving": serving is not None,
        "gateways": gateways,
        "strangers": strangers,
    }


def _gateways(
    manager: Any, loader: Any, variables: Any, inventory: str, prefixes: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Hosts of the gateways' group, whatever the limit: they send requests to all replicas."""
    from ansible.errors import AnsibleError

    group = manager.groups.get(GATEWAY_GROUP)
    found = []
    for host in group.get_hosts() if group is not None else ():
        try:
            merged = variables.get_vars(host=host, include_hostvars=True)
        except AnsibleError as error:
            raise Refused("unparsed", f"{_place(error) or inventory}: {_plain(error)}") from error
        found.append(_host(loader, host, merged, prefixes))
    return found


def _collect_failures() -> tuple[list[BaseException], list[str]]:
    """Ansible only warns of what it cannot parse: keep the reasons, and the parts that it skips."""
    from ansible.utils.display import Display

    failures: list[BaseException] = []
    skipped: list[str] = []

    def warn(message: str, *_: Any, **__: Any) -> None:
        if message.startswith("Skipping "):
            skipped.append(_plain(message))

    display = Display()
    display.error_as_warning = lambda *_, exception=None, **__: failures.append(exception)
    display.warning = warn
    display.deprecated = display.display = lambda *_, **__: None
    return failures, skipped


def _load_vault_secrets(loader: Any) -> None:
    from ansible import constants

    if not (constants.DEFAULT_VAULT_PASSWORD_FILE or constants.DEFAULT_VAULT_IDENTITY_LIST):
        return
    from ansible.cli import CLI  # heavy, and only the vault needs it

    ids = list(constants.DEFAULT_VAULT_IDENTITY_LIST)
    loader.set_vault_secrets(CLI.setup_vault_secrets(loader, vault_ids=ids, auto_prompt=False))


def _why(inventory: str, failures: list[BaseException], error: BaseException) -> str:
    """The reason of the plugin that fits the file, with the place in the file."""
    kind = ("yaml", "auto") if inventory.endswith((".yml", ".yaml", ".json")) else ("ini",)
    if os.access(inventory, os.X_OK) and not os.path.isdir(inventory):  # noqa: PTH112
        kind = ("script", *kind)
    known = [failure for failure in failures if failure is not None]
    fitting = [failure for failure in known if any(f"{name}" in _plugin(failure) for name in kind)]
    for failure in [*fitting, *known, error]:
        place = _place(failure)
        if place or failure in fitting:
            return f"{place or inventory}: {_plain(failure)}"
    return f"{inventory}: {_plain(error)}"


def _plugin(failure: BaseException) -> str:
    """Path of the inventory plugin in which it failed."""
    trace, path = failure.__traceback__, ""
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        path = name.rsplit("/", 1)[-1] if "/plugins/inventory/" in name else path
        trace = trace.tb_next
    return path


def _place(failure: BaseException) -> str:
    """`file:line` of a failure, from where Ansible keeps it, else from its INI parser's loop."""
    cause: BaseException | None = failure
    path = ""
    while cause is not None:
        origin: Any = getattr(cause, "obj", None)
        path = path or getattr(origin, "path", None) or ""
        if getattr(origin, "line_num", None) and getattr(origin, "path", None):
            return f"{origin.path}:{origin.line_num}" + (f":{origin.col_num}" if origin.col_num else "")
        line = _ini_line(cause)
        if path and line:
            return f"{path}:{line}"
        cause = cause.__cause__ or cause.__context__
    return ""


def _ini_line(failure: BaseException) -> int | None:
    trace = failure.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        if frame.f_code.co_filename.endswith("/plugins/inventory/ini.py") and "lines" in frame.f_locals:
            stripped, line = [text.strip() for text in frame.f_locals["lines"]], frame.f_locals.get("line")
            return stripped.index(line) + 1 if line in stripped else None
    return None


def _plain(error: BaseException | str) -> str:
    return " ".join(str(error).split())


def _host(loader: Any, host: Any, merged: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    from ansible import constants
    from ansible.errors import AnsibleError
    from ansible.template import Templar

    templar = Templar(loader=loader, variables=merged)
    ours = [name for name in merged if name.startswith(prefixes)]
    needed = [*_CONNECTION_VARIABLES, *_plugin_variables(), *ours]
    known = {name: _template(templar, host.name, name, merged[name]) for name in needed if name in merged}
    try:
        ssh = constants.config.get_plugin_options("connection", "ssh", variables=known)
        sudo = constants.config.get_plugin_options("become", "sudo", variables=known)
    except AnsibleError as error:
        text = _plain(error)
        named = re.search(r"'var: (\w+)'", text)
        raise Refused("variable", f"{host.name}: {text}", variable=named[1] if named else "it") from error
    return {
        "name": host.name,
        "groups": sorted(group.name for group in host.get_groups() if group.name != "all"),
        "ssh": {option: _json(ssh.get(option)) for option in _SSH_OPTIONS},
        "strict_variable": next((n for n in _STRICT_VARIABLES if known.get(n) is False), None),
        "become": {
            "asked": _json(known.get("ansible_become")),
            "method": _json(known.get("ansible_become_method", constants.DEFAULT_BECOME_METHOD)),
            "user": _json(sudo.get("become_user")),
            "exe": _json(sudo.get("become_exe")),
            "password": _json(sudo.get("become_pass")),
        },
        "connection": _json(known.get("ansible_connection", constants.DEFAULT_TRANSPORT)),
        "python": _json(known.get("ansible_python_interpreter")),
        "variables": dict(_variables(merged, known, ours)),
    }


@cache
def _plugin_variables() -> tuple[str, ...]:
    """Names of the variables that Ansible's ssh and sudo plugins read."""
    from ansible import constants
    from ansible.plugins.loader import become_loader, connection_loader

    names = []
    for kind, plugin, plugins in (
        ("connection", "ssh", connection_loader),
        ("become", "sudo", become_loader),
    ):
        plugins.get(plugin, class_only=True)  # brings the plugin's options
        for option in constants.config.get_configuration_definitions(kind, plugin).values():
            names += [variable["name"] for variable in option.get("vars", [])]
    return tuple(names)


def _variables(
    merged: Mapping[str, Any], known: Mapping[str, Any], ours: Iterable[str]
) -> Iterable[tuple[str, Any]]:
    """Ours templated; those of others as they are written (a lookup of theirs may have effects)."""
    mine = set(ours)
    for name, value in merged.items():
        if name in mine:
            yield name, _json(known[name])
        elif name not in _MAGIC and not name.startswith(("ansible_", "inventory_", "role_", "play_")):
            try:
                yield name, _json(value)
            except Exception:  # a vault value without a secret, for one: it is not ours to read
                continue


def _template(templar: Any, host: str, name: str, value: Any) -> Any:
    from ansible.errors import AnsibleError

    try:
        return templar.template(value)
    except AnsibleError as error:
        raise Refused("variable", f"{host}: variable {name}: {_plain(error)}", variable=name) from error


def _json(value: Any) -> Any:
    """Plain JSON without Ansible's tags."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_json(item) for item in value]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    return str(value)


def main() -> None:
    """Entry point of the child process."""
    request = json.loads(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever Ansible or a plugin prints must not mix with the answer
    try:
        answer = read(request["inventory"], request["limit"], tuple(request["prefixes"]))
    except Refused as error:
        answer = {"error": error.answer}
    except KeyboardInterrupt:
        os._exit(130)
    except (Exception, SystemExit) as error:
        answer = {"error": {"kind": "ansible", "message": _plain(error) or type(error).__name__}}
    json.dump(answer, answers)
    answers.flush()
    os._exit(0)  # without the clean-up of a large interpreter, which costs some 30 ms


if __name__ == "__main__":
    main()
