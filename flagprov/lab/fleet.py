"""Bringing the lab up and taking it down."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab import files_written, hosts, machine, network, serving
from flagprov.lab.hosts import LabHost
from flagprov.lab.layout import REGISTRY_PORT, Layout, find_layout
from flagprov.lab.leftovers import end_processes, remove
from flagprov.lab.shell import attempt, lines

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class LabStatus:
    """The lab as it is; hosts is empty when there is none."""

    hosts: tuple[LabHost, ...]
    registry: str  # ADDRESS:PORT, empty while none runs
    inventory: Path


def up(hosts: int = 2, *, bare: bool = False, on_progress: Progress) -> LabStatus:
    """Bring up exactly this many hosts, with the registry, its images and the inventory."""
    if hosts < 1 or hosts > 200:
        raise LabError(f"a lab of {hosts} hosts cannot be", remedy="--hosts takes 1 to 200")
    layout = find_layout()
    started = time.monotonic()

    def say(text: str) -> None:
        on_progress(f"[{time.monotonic() - started:5.1f} s] {text}")

    with _alone(layout):
        _remove_leftovers(layout)
        _prepare_machine(layout, say)
        _build_and_start(layout, hosts, bare, say)
    return status()


def down(on_progress: Progress) -> None:
    """Remove hosts, registry, network, keys and inventory, also of a lab that is half up."""
    layout = find_layout()
    with _alone(layout):
        end_processes(layout)
        if machine.docker_answers():
            _remove_objects(layout, on_progress)
            if machine.stop_docker(layout):
                on_progress("dockerd: stopped")
        machine.restore_limits(layout)
        files_written.remove_files(layout)
        _remove_leftovers(layout)
        remove(layout.build / "tls")


def clean(on_progress: Progress) -> None:
    """down, and everything that was built."""
    layout = find_layout()
    with _alone(layout):
        if layout.blobs.exists() and not machine.missing_packages():
            machine.start_docker(layout)
        if machine.docker_answers():
            for tests in (layout.root / "build" / "molecule").glob("*"):
                _remove_objects(Layout(tests), on_progress)
            _remove_objects(layout, on_progress)
            listed = attempt(
                ["docker", "images", "--quiet", "--no-trunc", "--filter", f"label={layout.label}"]
            )
            for image in dict.fromkeys(lines(listed.stdout.decode())):
                attempt(["docker", "rmi", "--force", image])
    down(on_progress)
    remove(layout.build)


def status() -> LabStatus:
    """Each host: running, sshd answering, dockerd, address."""
    layout = find_layout()
    if not machine.docker_answers():
        return LabStatus((), "", layout.inventory)
    form = "{{if .State.Running}}{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}{{end}}"
    running = attempt(["docker", "inspect", layout.registry, "--format", form])
    address = running.stdout.decode().strip() if running.returncode == 0 else ""
    registry = f"{address}:{REGISTRY_PORT}" if address else ""
    return LabStatus(hosts.look(layout), registry, layout.inventory)


def ssh_command(host: str) -> list[str]:
    """The ssh command that logs in to a lab host."""
    layout = find_layout()
    known = {found.name: found for found in status().hosts}
    if host not in known:
        names = ", ".join(known) or "none: flagprov lab up starts some"
        raise LabError(f"the lab has no host {host}", remedy=f"it has {names}")
    options = {
        "UserKnownHostsFile": str(layout.known_hosts),
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-i", str(layout.key), *words, f"root@{known[host].address}"]


def _prepare_machine(layout: Layout, say: Progress) -> None:
    machine.require_known_machine()
    if packages := machine.missing_packages():
        say(f"installing {', '.join(packages)}")
        machine.install_packages(packages)
    if machine.start_docker(layout):
        say("dockerd: started")


def _build_and_start(layout: Layout, count: int, bare: bool, say: Progress) -> None:
    files_written.ensure_client_key(layout)
    with ThreadPoolExecutor(max_workers=2) as pool:
        engine_images = pool.submit(serving.build, layout, say)
        host_image = pool.submit(hosts.ensure_image, layout, bare=bare, on_progress=say)
        network.fetch_registry(layout)
        subnet = network.ensure_network(layout)
        image = host_image.result()
        images = engine_images.result()
    for built in images:
        say(f"{built.repository}:{built.tag}: {built.size / 1e6:.0f} MB")
    registry = network.ensure_registry(layout, subnet, image)
    names = hosts.ensure_hosts(layout, subnet, image, count, say)
    addresses = {name: network.host_address(subnet, number) for number, name in enumerate(names, 1)}
    hosts.wait_for_ssh(list(addresses.values()))
    if not bare:
        hosts.wait_for_docker(layout, names)
    files_written.write_locks(layout, images)
    files_written.write_inventory(layout, addresses, registry)
    say(f"{len(names)} hosts answer; {layout.inventory.relative_to(layout.root)} is written")


def _remove_leftovers(layout: Layout) -> None:
    """Of a command that was killed half-way."""
    end_processes(layout)
    for name in ("work", "host-root", "bare-root", "registry-package"):
        remove(layout.build / name)


def _remove_objects(layout: Layout, on_progress: Progress) -> None:
    label = f"label={layout.label}"
    for kind, listing, removal in (
        ("containers", ["ps", "--all", "--quiet"], ["rm", "--force", "--volumes"]),
        ("volumes", ["volume", "ls", "--quiet"], ["volume", "rm", "--force"]),
        ("networks", ["network", "ls", "--quiet"], ["network", "rm"]),
    ):
        found = lines(attempt(["docker", *listing, "--filter", label]).stdout.decode())
        if found:
            on_progress(f"removing {len(found)} {kind}")
            done = attempt(["docker", *removal, *found])
            if done.returncode:
                said = done.stderr.decode(errors="replace").strip()
                raise LabError(
                    f"docker cannot remove the lab's {kind}: {said}", remedy="flagprov lab down again"
                )


@contextmanager
def _alone(layout: Layout) -> Iterator[None]:
    """One up or down at a time in a checkout."""
    layout.build.mkdir(parents=True, exist_ok=True)
    with (layout.build.parent / "lab.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                "another `flagprov lab` is at work in this checkout", remedy="wait for its end"
            ) from None
        yield
