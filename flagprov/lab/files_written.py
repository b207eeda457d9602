"""What the lab writes for every other command: inventory, client key, digests of the engine images."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from flagprov.lab.layout import CHIP, HOST_GROUP, REGISTRY_NAME, WEIGHTS_ROOT, Layout
from flagprov.lab.oci import Image
from flagprov.lab.shell import run

RELEASES = {"vllm-cpu": "qwen3-tiny", "standin": "qwen3-tiny-standin"}  # image -> release that uses it


def ensure_client_key(layout: Layout) -> None:
    layout.site.mkdir(parents=True, exist_ok=True)
    if not (layout.key.exists() and layout.key.with_suffix(".pub").exists()):
        layout.key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "flagprov lab", "-f", layout.key])
    layout.key.chmod(0o600)
    layout.known_hosts.touch()


def write_inventory(layout: Layout, addresses: Mapping[str, str], registry: str) -> None:
    """Ansible reads values under :vars as Python literals, so the maps are written as such."""
    option = f"-o UserKnownHostsFile={shlex.quote(str(layout.known_hosts))}"
    shared = {
        "ansible_port": "22",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(layout.key),
        "ansible_ssh_common_args": repr(option),
        "ansible_python_interpreter": "/usr/bin/python3",
        "flagprov_chip": CHIP,
        "flagprov_weights_root": WEIGHTS_ROOT,
        "flagprov_registries": repr({REGISTRY_NAME: registry}),
        "container_engine_registry_cas": repr({registry: str(layout.ca)}),
    }
    text = [
        "# Written by `flagprov lab up`, removed by `flagprov lab down`.",
        f"[{HOST_GROUP}]",
        *(f"{name} ansible_host={address}" for name, address in addresses.items()),
        "",
        f"[{HOST_GROUP}:vars]",
        *(f"{name}={value}" for name, value in shared.items()),
    ]
    write(layout.inventory, "\n".join(text) + "\n")


def write_locks(layout: Layout, images: Sequence[Image]) -> None:
    """The digests of what was built here take the place of those that a card names."""
    for image in images:
        content = {
            "schema_version": 1,
            "variants": {CHIP: {"digests": [image.manifest, image.config]}},
        }
        write(layout.locks / f"{RELEASES[image.repository]}.json", json.dumps(content, indent=1) + "\n")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
