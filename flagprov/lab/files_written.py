"""What the lab writes for every other command: inventory, client key, digests of the engine images."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from flagprov.lab.layout import CHIP, HOST_GROUP, REGISTRY_NAME, WEIGHTS_ROOT, Layout
from flagprov.lab.leftovers import remove
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


def forget_host(layout: Layout, name: str) -> None:
    """Take a host's key out of known_hosts; lines that others wrote stay."""
    if layout.known_hosts.exists():
        known = layout.known_hosts.read_text().splitlines()
        write(
            layout.known_hosts,
            "".join(f"{line}\n" for line in known if line.split()[-1:] != [mark(layout, name)]),
        )


def know_host(layout: Layout, name: str, address: str, public_key: bytes) -> None:
    forget_host(layout, name)
    kind, key = public_key.decode().split()[:2]
    with layout.known_hosts.open("a") as known:
        known.write(f"{address} {kind} {key} {mark(layout, name)}\n")


def mark(layout: Layout, name: str) -> str:
    """The comment by which the lab knows its own lines of known_hosts."""
    return layout.container(name)


def remove_files(layout: Layout) -> None:
    """All that the lab wrote, and the whole site where it knows no hosts but the lab's."""
    layout.inventory.unlink(missing_ok=True)
    known = layout.known_hosts.read_text().splitlines() if layout.known_hosts.exists() else []
    others = [line for line in known if line.strip() and layout.container("") not in line.split()[-1]]
    if not others:
        remove(layout.site)
        return
    write(layout.known_hosts, "".join(f"{line}\n" for line in others))
    locks = [layout.locks / f"{release}.json" for release in RELEASES.values()]
    for path in (layout.key, layout.key.with_suffix(".pub"), layout.ca, *locks):
        path.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
