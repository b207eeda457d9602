"""Where playbooks, roles and plugins are: in one Ansible collection, which a checkout is itself."""

from __future__ import annotations

from pathlib import Path

from flagprov.errors import FlagprovError

_COLLECTION = Path("ansible_collections/flagprov/flagprov")  # in a checkout a link to its top


def ansible_root() -> Path:
    """The collection: the directory that holds `playbooks/`, `roles/` and `plugins/`."""
    root = (collections_path() / _COLLECTION).resolve()
    if (root / "playbooks" / "provision.yml").is_file() and (root / "roles").is_dir():
        return root
    raise FlagprovError(f"flagprov's playbooks and roles are not in {root}", remedy="install flagprov again")


def collections_path() -> Path:
    """Where Ansible has to look for collections to find ours."""
    return Path(__file__).resolve().parents[2]
