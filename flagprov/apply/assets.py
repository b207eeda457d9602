"""Where the playbooks and roles are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from flagprov.errors import FlagprovError


def ansible_root() -> Path:
    """The directory that holds `playbooks/` and `roles/`."""
    package = Path(__file__).resolve().parents[1]
    for root in (package / "_ansible", package.parent):
        if (root / "playbooks" / "provision.yml").is_file() and (root / "roles").is_dir():
            return root
    raise FlagprovError(
        f"flagprov's playbooks and roles are not in {package.parent}", remedy="install flagprov again"
    )
