"""Hosts for molecule, made like the lab's: `instances.py create|destroy PLATFORMS` prints how to reach them.

Each host is a bare one (its own systemd and sshd, no container engine) on a network of its own. PLATFORMS is
molecule's list as JSON; besides its name a platform may have
    family: rhel         another family than Debian's (families.py)
    engine: true         with a container engine, as the lab's hosts have it
    rpms: [firewalld]    what that family's repository offers, as NAME or NAME=DEBIAN_PACKAGE
    arch: arm64          another processor, under qemu
    chip: graviton4      what the machine shows of itself is that of a host of this chip
    emulated: {KEY: x}   more of /etc/flagprov-emulated
    mirror: nvidia       the emulated packages in /srv/mirror, for apt or for the family's dnf
"""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import families

from flagprov.lab import arm64, chips, files_written, hosts, machine, network
from flagprov.lab.emulated import nvidia
from flagprov.lab.layout import Layout, find_layout
from flagprov.lab.shell import attempt

BUILD = Path(__file__).resolve().parents[1] / "build" / "molecule"


def main() -> None:
    """Make or remove the host of each platform."""
    verb, platforms = sys.argv[1], json.loads(sys.argv[2])
    made = [create(one) if verb == "create" else destroy(one["name"]) for one in platforms]
    json.dump([instance for instance in made if instance], sys.stdout)


def create(platform: dict[str, Any]) -> dict[str, str]:
    """One host; the connection that molecule has to use. Scenarios side by side build one after the other."""
    name = platform["name"]
    layout = Layout(BUILD / name)
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = _start(platform, layout)
    hosts.wait_for_ssh([address])
    return {
        "instance": name,
        "address": address,
        "user": "root",
        "port": "22",
        "identity_file": str(layout.key),
        "known_hosts": str(layout.known_hosts),
    }


def _start(platform: dict[str, Any], layout: Layout) -> str:
    """Address of the platform's host, which is booting."""
    lab = find_layout()
    machine.require_known_machine()
    arch = platform.get("arch", "amd64")
    machine.install_packages(machine.missing_packages({**machine.PROGRAMS, **_programs(arch)}))
    machine.start_docker(lab)
    if arch == "arm64":
        arm64.enable()
    files_written.ensure_client_key(layout)
    image = hosts.ensure_image(lab, bare=not platform.get("engine"), on_progress=_say, arch=arch)
    if "family" in platform:
        image = families.ensure_image(lab, image, platform["family"], platform.get("rpms", ()))
    subnet = network.ensure_network(layout)
    address = network.host_address(subnet, 1)
    options, files = _mirror(platform, layout), _hardware(platform)
    wanted = hosts.Wanted("lab1", address, image, options=options, files=files)
    hosts.bring_hosts(layout, [wanted], _say)
    return address


def _hardware(platform: dict[str, Any]) -> hosts.Files:
    described = {key: str(value) for key, value in platform.get("emulated", {}).items()}
    kinds = [kind for kind in chips.KINDS if kind.chip == platform.get("chip")]
    return (
        chips.hardware_files(replace(kinds[0], described={**kinds[0].described, **described}))
        if kinds
        else {}
    )


def _mirror(platform: dict[str, Any], layout: Layout) -> tuple[str, ...]:
    """More words of `docker create`."""
    if "mirror" not in platform:
        return ()
    mirror = layout.root / "mirror"
    shutil.rmtree(mirror, ignore_errors=True)
    (nvidia.build_dnf if "family" in platform else nvidia.build_apt)(mirror)
    return ("--volume", f"{mirror}:/srv/mirror:ro")


def _programs(arch: str) -> dict[str, str]:
    return arm64.PROGRAMS if arch == "arm64" else {}


def destroy(name: str) -> None:
    """The host and all that belongs to it."""
    layout = Layout(BUILD / name)
    hosts.remove_host(layout, "lab1")
    attempt(["docker", "network", "rm", layout.network])
    shutil.rmtree(layout.root, ignore_errors=True)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
