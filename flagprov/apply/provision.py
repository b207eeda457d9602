"""Provisioning: the roles, run by Ansible on the hosts that need them."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

from flagprov.apply.ansible_events import Listener
from flagprov.apply.assets import ansible_root, collections_path
from flagprov.chips import load_chips
from flagprov.models.event import Event
from flagprov.models.fleet import Fleet, Host
from flagprov.models.outcome import HostOutcome
from flagprov.serving import STATE

_FORKS = 32
_LARGEST_FILE = 1 << 20  # of those that a role's variable may name
_SHARED = (
    "flagprov_ascend_access",
    "flagprov_cann",
    "flagprov_http_proxy",
    "flagprov_https_proxy",
    "flagprov_no_proxy",
)  # beginnings of variables of no role alone


def fingerprint(host: Host) -> str:
    """What a host was provisioned with: its chip's roles and pins, its variables for them and their files."""
    chip = load_chips()[str(host.chip)]
    text = json.dumps([roles_digest(host, chip.roles), chip.pins], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def roles_digest(host: Host, roles: tuple[str, ...]) -> str:
    """Roles, a host's variables for them, and the files that these name."""
    prefixes = (*(f"{role}_" for role in roles), *_SHARED)
    variables = {name: value for name, value in host.variables.items() if name.startswith(prefixes)}
    if any(name.endswith(("_http_proxy", "_https_proxy")) for name in variables):
        variables["flagprov_registries"] = dict(host.registries)  # dockerd's exceptions are made of them
    files = {path: _digest(Path(path)) for path in sorted(set(_paths(variables)))}
    tree = _tree_digest(ansible_root(), roles)
    text = json.dumps([tree, variables, files], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def provision(
    fleet: Fleet,
    hosts: Sequence[Host],
    on_event: Callable[[Event], None],
    *,
    directory: Path,
    allow_disruption: bool = False,
    allow_reboot: bool = False,
    playbook: str = "provision.yml",
    variables: Mapping[str, Any] | None = None,
    packages: Mapping[str, bool] | None = None,
) -> dict[str, HostOutcome]:
    """Run the roles on hosts; what Ansible says goes to `directory`, and nowhere else.

    `packages`: of a bundle, which hosts have got some; all of them take packages from nowhere else.
    """
    if variables is None:
        variables = {"flagprov_fingerprints": {host.name: fingerprint(host) for host in hosts}}
    data = _new_directory(directory)
    listener = Listener(
        [host.name for host in hosts],
        on_event,
        inventory=str(fleet.inventory),
        log=str(data / "artifacts" / "provision" / "stdout"),
    )
    listener.begin()
    with _control_sockets() as sockets:
        stopped = _run(
            data,
            fleet,
            hosts,
            listener,
            environment=_environment(data, hosts, sockets),
            variables={
                **variables,
                **(offline(packages) if packages is not None else {}),
                "flagprov_allow_disruption": allow_disruption,
                "flagprov_allow_reboot": allow_reboot,
                "flagprov_batch": "100%",
            },
            playbook=playbook,
        )
    return listener.end(stopped)


def offline(packages: Mapping[str, bool]) -> dict[str, Any]:
    """Roles take packages from what was brought, in place of mirrors and the vendors' repositories."""
    folder = f"{STATE}/packages"
    return {
        "flagprov_packages": dict(packages),
        "flagprov_outside": {
            "APT_CONFIG": f"{folder}/apt.conf",
            "FLAGPROV_DNF": f"--config={folder}/dnf.conf",
        },
        "flagprov_dnf_config": f"{folder}/dnf.conf",
        "nvidia_driver_repository": "host",
        "nvidia_container_toolkit_repository": "host",
        "container_engine_repository": f"{folder}/files",
    }


def _new_directory(directory: Path) -> Path:
    """One for each time that a run provisions: `ansible`, `ansible-2`, ..."""
    for number in count(1):
        data = directory / (f"ansible-{number}" if number > 1 else "ansible")
        if not data.exists():
            data.mkdir(mode=0o700)
            return data
    raise AssertionError


def _run(
    data: Path,
    fleet: Fleet,
    hosts: Sequence[Host],
    listener: Listener,
    *,
    environment: Mapping[str, str],
    variables: Mapping[str, Any],
    playbook: str,
) -> str:
    """Ansible's run from begin to end, why it ended early if it did; an interrupt ends it, too."""
    import ansible_runner

    limit = data / "limit"
    limit.write_text("".join(f"{host.name}\n" for host in hosts), encoding="utf-8")
    cancelled = threading.Event()
    run = partial(
        ansible_runner.run,
        private_data_dir=str(data),
        project_dir=str(Path.cwd()),  # where the user's ansible.cfg and relative paths are looked for
        playbook=str(ansible_root() / "playbooks" / playbook),
        inventory=str(fleet.inventory.absolute()),
        limit=f"@{limit}",
        extravars=dict(variables),
        envvars=dict(environment),
        settings={"pexpect_timeout": 1},
        ident="provision",
        quiet=True,
        event_handler=listener,
        status_handler=lambda status, **_: _forget_environment(data, status["status"]),
        cancel_callback=cancelled.is_set,
    )
    with ThreadPoolExecutor(1, thread_name_prefix="ansible") as executor:
        running = executor.submit(run)
        try:
            runner = running.result()
        except BaseException:
            cancelled.set()
            raise
    if runner.rc == 0:
        return ""
    log = Path(listener.log)
    said = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    errors = re.findall(r"^(?:\[ERROR\]|ERROR!):? *(.+)$", said, re.MULTILINE)
    return str(errors[-1]).strip() if errors else f"ansible-playbook ended with status {runner.rc}"


def _environment(data: Path, hosts: Sequence[Host], sockets: Path) -> dict[str, str]:
    """Ansible's settings: the user's own configuration, under what makes it fast and strict here."""
    return {
        "ANSIBLE_COLLECTIONS_PATH": f"{collections_path()}:{_users_collections()}",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_FORKS": str(max(1, min(_FORKS, len(hosts)))),
        "ANSIBLE_HOST_KEY_CHECKING": "true",
        "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
        "ANSIBLE_RETRY_FILES_ENABLED": "false",
        "ANSIBLE_NOCOLOR": "true",
        "ANSIBLE_LOCAL_TEMP": str(sockets),
        "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
        "ANSIBLE_SSH_ARGS": _ssh_arguments(data, hosts),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
    }


def _ssh_arguments(data: Path, hosts: Sequence[Host]) -> str:
    """The user's arguments after ours: strict host keys from the site's files, also for jump hosts."""
    files = list(dict.fromkeys(file for host in hosts for file in host.connection.known_hosts))
    known = " ".join(f'"{file}"'.replace("%", "%%") for file in files)
    strict = {"StrictHostKeyChecking": "yes"} | ({"UserKnownHostsFile": known} if files else {})
    ssh_config = data / "ssh_config"  # a jump host's own ssh gets this file, but none of our arguments
    lines = [f"{name} {value}" for name, value in strict.items()]
    lines += ["Include ~/.ssh/config", "Include /etc/ssh/ssh_config"]
    ssh_config.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    ours = " ".join(shlex.quote(word) for n, v in strict.items() for word in ("-o", f"{n}={v}"))
    return f"-F {shlex.quote(str(ssh_config))} {ours} {_users_ssh_arguments()}"


def _users_ssh_arguments() -> str:
    default = "-C -o ControlMaster=auto -o ControlPersist=60s"
    return os.environ.get("ANSIBLE_SSH_ARGS") or _configured("ssh_connection", "ssh_args") or default


def _users_collections() -> str:
    default = "~/.ansible/collections:/usr/share/ansible/collections"
    named = os.environ.get("ANSIBLE_COLLECTIONS_PATH") or _configured("defaults", "collections_path")
    return named or default


def _configured(section: str, option: str) -> str | None:
    """What the ansible.cfg says that Ansible would read."""
    named = Path(os.environ.get("ANSIBLE_CONFIG", "."))
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    for path in (named / "ansible.cfg" if named.is_dir() else named, Path.home() / ".ansible.cfg"):
        if path.is_file():
            parser.read(path, encoding="utf-8")
            break
    return parser.get(section, option, fallback=None)


@contextmanager
def _control_sockets() -> Iterator[Path]:
    """A short path for SSH's sockets; no connection outlives the run."""
    directory = Path(tempfile.mkdtemp(prefix="flagprov-"))
    try:
        yield directory
    finally:
        for path in directory.iterdir():
            if path.is_socket():
                subprocess.run(
                    ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "flagprov"],
                    check=False,
                    capture_output=True,
                )
        shutil.rmtree(directory, ignore_errors=True)


def _forget_environment(data: Path, status: str) -> None:
    """ansible-runner notes the whole environment of the run, which may hold secrets."""
    file = data / "artifacts" / "provision" / "command"
    if status == "running" and file.is_file():
        noted = json.loads(file.read_text(encoding="utf-8"))
        noted.pop("env", None)
        file.write_text(json.dumps(noted), encoding="utf-8")


@cache
def _tree_digest(root: Path, roles: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    files = [root / "playbooks" / name for name in ("provision.yml", "group_vars/all.yml")]
    files += [path for role in roles for path in (root / "roles" / role).rglob("*")]
    for path in sorted(path for path in files if path.is_file() and path.suffix != ".md"):
        digest.update(f"{path.relative_to(root)}\0{_digest(path)}\0".encode())
    return digest.hexdigest()


def _paths(value: Any) -> Iterator[str]:
    """Absolute paths of files among the values, as the authorities of a registry are."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _paths(item)
    elif isinstance(value, str) and value.startswith("/"):
        path = Path(value)
        if path.is_file() and path.stat().st_size <= _LARGEST_FILE:
            yield value


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
