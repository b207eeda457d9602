"""Bringing the lab up and taking it down."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flagprov.errors import LabError, UsageError
from flagprov.lab import arm64, emulation, files_written, hosts, machine, network, serving
from flagprov.lab.cards import card_images, registries
from flagprov.lab.chips import ChipHost, chip_hosts
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
    chip_inventories: tuple[Path, ...] = ()


def up(hosts: int = 2, *, bare: bool = False, chips: Sequence[str] = (), on_progress: Progress) -> LabStatus:
    """Bring up exactly this many hosts and one of each chip, with the registry, images and inventories."""
    if hosts < 0 or hosts > 200 or not (hosts or chips):
        raise UsageError(f"a lab of {hosts} hosts cannot be", remedy="--hosts takes 1 to 200")
    layout, special = find_layout(), chip_hosts(chips)
    started = time.monotonic()

    def say(text: str) -> None:
        on_progress(f"[{time.monotonic() - started:5.1f} s] {text}")

    with _alone(layout):
        _remove_leftovers(layout)
        _prepare_machine(layout, say, {host.kind.arch for host in special})
        _build_and_start(layout, hosts, bare, special, say)
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
        return LabStatus((), "", layout.inventory, layout.chip_inventories())
    form = "{{if .State.Running}}{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}{{end}}"
    running = attempt(["docker", "inspect", layout.registry, "--format", form])
    address = running.stdout.decode().strip() if running.returncode == 0 else ""
    registry = f"{address}:{REGISTRY_PORT}" if address else ""
    return LabStatus(hosts.look(layout), registry, layout.inventory, layout.chip_inventories())


def ssh_command(host: str) -> list[str]:
    """The ssh command that logs in to a lab host."""
    layout = find_layout()
    known = {found.name: found for found in status().hosts}
    if host not in known:
        names = ", ".join(known) or "none: flagprov lab up starts some"
        raise UsageError(f"the lab has no host {host}", remedy=f"it has {names}")
    options = {
        "UserKnownHostsFile": str(layout.known_hosts),
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-i", str(layout.key), *words, f"root@{known[host].address}"]


def _prepare_machine(layout: Layout, say: Progress, arches: Collection[str]) -> None:
    machine.require_known_machine()
    programs = {**machine.PROGRAMS, **(arm64.PROGRAMS if "arm64" in arches else {})}
    if packages := machine.missing_packages(programs):
        say(f"installing {', '.join(packages)}")
        machine.install_packages(packages)
    if machine.start_docker(layout):
        say("dockerd: started")
    if "arm64" in arches:
        arm64.enable()


def _build_and_start(
    layout: Layout, count: int, bare: bool, special: Sequence[ChipHost], say: Progress
) -> None:
    files_written.ensure_client_key(layout)
    chips = tuple(dict.fromkeys(host.kind.chip for host in special))
    with ThreadPoolExecutor(max_workers=2) as pool:
        building = pool.submit(serving.build, layout, say, plain=count > 0, cards=card_images(chips))
        plain = pool.submit(hosts.ensure_image, layout, bare=bare or not count, on_progress=say)
        network.fetch_registry(layout)
        subnet = network.ensure_network(layout)
        image = plain.result()
        special_hosts = emulation.wanted_hosts(layout, subnet, special, say)
        built = building.result()
    for made in built.plain:
        say(f"{made.repository}:{made.tag}: {made.size / 1e6:.0f} MB")
    registry = network.ensure_registry(layout, subnet, image)
    plain_hosts = hosts.plain_hosts(subnet, image, count)
    hosts.bring_hosts(layout, (*plain_hosts, *special_hosts), say)
    hosts.copy_model(layout, plain_hosts)
    patience = 300 if any(host.kind.arch != "amd64" for host in special) else 60
    hosts.wait_for_ssh([host.address for host in (*plain_hosts, *special_hosts)], patience)
    if not bare:
        hosts.wait_for_docker(layout, [host.name for host in plain_hosts])
    files_written.write_locks(layout, built)
    if count:
        files_written.write_inventory(layout, {host.name: host.address for host in plain_hosts}, registry)
    else:
        layout.inventory.unlink(missing_ok=True)
    variables = emulation.offer(layout, subnet, image, chips)
    addresses = [(host, wanted.address) for host, wanted in zip(special, special_hosts, strict=True)]
    files_written.write_chip_inventories(layout, addresses, registry, registries(chips), variables)
    say(f"{count + len(special)} hosts answer; {', '.join(_written(layout))} written")


def _written(layout: Layout) -> tuple[str, ...]:
    paths = (layout.inventory, *layout.chip_inventories())
    return tuple(str(path.relative_to(layout.root)) for path in paths if path.exists())


def _remove_leftovers(layout: Layout) -> None:
    """Of a command that was killed half-way."""
    end_processes(layout)
    for name in ("work", "host-root", "bare-root", "bare-arm64-root", "registry-package"):
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
