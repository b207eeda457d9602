"""What Ansible said of an inventory, kept until anything changes that it was made of.

Reading with Ansible costs a good half second of processor time. Only plain inventories are kept: what is
computed (scripts, plugins, lookups), secret (vaults, passwords) or configured by plugins is asked each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
LARGEST = 16 << 20  # bytes of all files together
BESIDE = ("group_vars", "host_vars")
_COMPUTED = re.compile(
    rb"\$ANSIBLE_VAULT|!vault|\b(?:lookup|query|q|now)\s*\(|\{%|random|shuffle|password_hash|^plugin\s*:"
    rb"|vars_plugins|inventory_plugins|enable_plugins|vault",
    re.MULTILINE,
)
_SECRET = re.compile(r"://[^/\s:@]+:[^/\s@]+@")
_SECRET_NAME = re.compile(r"passw|secret|token|api_?key|credential|webhook", re.IGNORECASE)
_SECRET_OPTIONS = ("password", "private_key", "private_key_passphrase")


@dataclass(frozen=True, slots=True)
class Kept:
    """Where an inventory's answer is kept, and what it must have been made of."""

    path: Path
    key: str

    def read(self) -> dict[str, Any] | None:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            answer = stored["answer"] if stored["key"] == self.key else None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return answer if isinstance(answer, dict) else None

    def write(self, answer: Mapping[str, Any]) -> None:
        """Nothing that is secret, and no errors; a site that cannot be written to goes without."""
        if "error" in answer or any(_is_secret(host) for host in _records(answer)):
            return
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        try:
            self.path.parent.mkdir(mode=0o700, exist_ok=True)
            beside.touch(mode=0o600)
            beside.write_text(json.dumps({"key": self.key, "answer": answer}), encoding="utf-8")
            beside.replace(self.path)
        except OSError:
            return


def kept(inventory: Path, limit: str | None, request: str) -> Kept | None:
    """None where the answer must not be kept; `request` is what Ansible's child is asked."""
    if limit is not None:
        return None
    digest = hashlib.sha256(f"{SCHEMA_VERSION}\0{request}\0{Path.cwd()}\0{inventory.absolute()}".encode())
    for name in sorted(os.environ):
        if name.startswith("ANSIBLE_") or name in ("HOME", "USER", "LOGNAME"):
            digest.update(f"{name}={os.environ[name]}\0".encode(errors="surrogateescape"))
    try:
        left = LARGEST
        for path in _files(inventory):
            data = path.read_bytes()
            left -= len(data)
            executable = path.stat().st_mode & 0o111
            if executable or left < 0 or (_COMPUTED.search(data) and not _is_ansibles(path)):
                return None
            digest.update(f"{path}\0{len(data)}\0".encode())
            digest.update(data)
    except OSError:
        return None
    site = (inventory if inventory.is_dir() else inventory.parent) / ".flagprov"
    name = hashlib.sha256(str(inventory.absolute()).encode()).hexdigest()[:16]
    return Kept(site / "inventories" / f"{name}.json", digest.hexdigest())


def _files(inventory: Path) -> Iterator[Path]:
    """All files that Ansible would read, in a fixed order; its own release is one of them."""
    yield from _tree(inventory)
    parents = {inventory if inventory.is_dir() else inventory.parent, Path.cwd()}
    for parent in sorted(parents):
        for name in BESIDE:
            yield from _tree(parent / name)
    named = Path(os.environ.get("ANSIBLE_CONFIG", "."))
    config = named / "ansible.cfg" if named.is_dir() else named
    for path in (config, Path.home() / ".ansible.cfg", Path("/etc/ansible/ansible.cfg")):
        if path.is_file():
            yield path
    yield Path(__file__).with_name("inventory_reader.py")
    found = find_spec("ansible")
    if found and found.origin:
        yield Path(found.origin).with_name("release.py")


def _tree(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        for folder, folders, names in os.walk(path, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _is_ansibles(path: Path) -> bool:
    return path.name in ("release.py", "inventory_reader.py")


def _records(answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from answer.get("hosts", ())
    yield from answer.get("gateways", ())


def _is_secret(record: Mapping[str, Any]) -> bool:
    if record["become"].get("password") or any(record["ssh"].get(name) for name in _SECRET_OPTIONS):
        return True
    variables = record["variables"]
    return any(map(_SECRET_NAME.search, variables)) or bool(_SECRET.search(json.dumps(variables)))
