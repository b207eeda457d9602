"""What the lab writes for every other command: inventory, client key, digests of the engine images."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from flagprov.lab.cards import locks
from flagprov.lab.chips import ChipHost
from flagprov.lab.layout import CHIP, HOST_GROUP, REGISTRY_NAME, WEIGHTS_ROOT, Layout
from flagprov.lab.leftovers import remove
from flagprov.lab.serving import Built
from flagprov.lab.shell import lines, run

RELEASES = {"vllm-cpu": "qwen3-tiny", "standin": "qwen3-tiny-standin"}  # image -> release that uses it


def ensure_client_key(layout: Layout) -> None:
    layout.site.mkdir(parents=True, exist_ok=True)
    if not (layout.key.exists() and layout.key.with_suffix(".pub").exists()):
        layout.key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "flagprov lab", "-f", layout.key])
    layout.key.chmod(0o600)
    layout.known_hosts.touch()


def write_inventory(layout: Layout, addresses: Mapping[str, str], registry: str) -> None:
    """lab.ini: the hosts that serve with this machine's own processor."""
    own = {"flagprov_chip": CHIP, "flagprov_weights_root": WEIGHTS_ROOT}
    registries = {REGISTRY_NAME: registry}
    variables = {**_shared(layout, registry, registries), **own}
    write(layout.inventory, _text({HOST_GROUP: addresses}, {HOST_GROUP: variables}))


def write_chip_inventories(
    layout: Layout,
    hosts: Sequence[tuple[ChipHost, str]],
    registry: str,
    upstreams: Sequence[str],
    variables: Mapping[str, Mapping[str, str]],
) -> None:
    """A file for each group of chips, and lab-all.ini; variables of the roles are by chip."""
    wanted = {*(host.kind.group for host, _ in hosts), *(("all",) if hosts else ())}
    for path in layout.chip_inventories():
        if path.stem.removeprefix("lab-") not in wanted:
            path.unlink()
    shared = _shared(layout, registry, dict.fromkeys(upstreams, registry))
    for name in sorted(wanted):
        members = [(host, address) for host, address in hosts if name in ("all", host.kind.group)]
        kinds = {host.kind.name: host.kind for host, _ in members}
        groups: dict[str, dict[str, str]] = {f"{HOST_GROUP}:children": dict.fromkeys(kinds, "")}
        settings = {HOST_GROUP: shared}
        for group, kind in kinds.items():
            groups[group] = {host.name: address for host, address in members if host.kind == kind}
            settings[group] = {"flagprov_chip": kind.chip, **variables.get(kind.chip, {})}
        write(layout.chip_inventory(name), _text(groups, settings))


def _shared(layout: Layout, registry: str, registries: Mapping[str, str]) -> dict[str, str]:
    """Ansible reads values under :vars as Python literals, so the maps are written as such."""
    option = f"-o UserKnownHostsFile={shlex.quote(str(layout.known_hosts))}"
    return {
        "ansible_port": "22",
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(layout.key),
        "ansible_ssh_common_args": repr(option),
        "ansible_python_interpreter": "/usr/bin/python3",
        "flagprov_registries": repr(dict(registries)),
        "container_engine_registry_cas": repr({registry: str(layout.ca)}),
    }


def _text(groups: Mapping[str, Mapping[str, str]], variables: Mapping[str, Mapping[str, str]]) -> str:
    parts = ["# Written by `flagprov lab up`, removed by `flagprov lab down`."]
    for group, members in groups.items():
        named = (f"{name} ansible_host={at}" if at else name for name, at in members.items())
        parts += [f"[{group}]", *named, ""]
    for group, values in variables.items():
        parts += [f"[{group}:vars]", *(f"{name}={value}" for name, value in values.items()), ""]
    return "\n".join(parts[:-1]) + "\n"


def write_locks(layout: Layout, built: Built) -> None:
    """The digests of what was built here take the place of those that a card names, until `down`."""
    own = {(RELEASES[image.repository], CHIP): image for image in built.plain}
    digests = {key: (image.manifest, image.config) for key, image in (own | dict(built.cards)).items()}
    ours = _our_locks(layout)
    for release, content in locks(digests).items():
        path = layout.locks / f"{release}.json"
        if path.exists() and path.name not in ours:  # a site's own, which comes back
            (layout.build / "locks").mkdir(parents=True, exist_ok=True)
            path.replace(layout.build / "locks" / path.name)
        write(layout.build / "locks.written", "\n".join(dict.fromkeys((*ours, path.name))) + "\n")
        ours = _our_locks(layout)
        write(path, json.dumps(content, indent=1) + "\n")


def _our_locks(layout: Layout) -> tuple[str, ...]:
    written = layout.build / "locks.written"
    return lines(written.read_text()) if written.exists() else ()


def _take_locks_back(layout: Layout) -> bool:
    """True where a site's own came back."""
    own = False
    for name in _our_locks(layout):
        (layout.locks / name).unlink(missing_ok=True)
        kept = layout.build / "locks" / name
        if kept.exists():
            kept.replace(layout.locks / name)
            own = True
    (layout.build / "locks.written").unlink(missing_ok=True)
    remove(layout.build / "locks")
    return own


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
    for inventory in (layout.inventory, *layout.chip_inventories()):
        inventory.unlink(missing_ok=True)
    own = _take_locks_back(layout)
    known = layout.known_hosts.read_text().splitlines() if layout.known_hosts.exists() else []
    others = [line for line in known if line.strip() and layout.container("") not in line.split()[-1]]
    if not others and not own:
        remove(layout.site)
        return
    write(layout.known_hosts, "".join(f"{line}\n" for line in others))
    for path in (layout.key, layout.key.with_suffix(".pub"), layout.ca):
        path.unlink(missing_ok=True)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text)
    temporary.replace(path)
