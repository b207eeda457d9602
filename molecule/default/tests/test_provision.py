"""A host after playbooks/provision.yml."""

from __future__ import annotations

from typing import Any


def test_all_roles_have_run(host: Any) -> None:
    assert host.file("/var/lib/flagprov/replicas").is_directory
    assert host.service("docker").is_running


def test_it_notes_what_it_was_provisioned_with(host: Any) -> None:
    noted = host.file("/var/lib/flagprov/provisioned")
    assert noted.content_string == "what the host was provisioned with\n"
    assert noted.mode == 0o644
