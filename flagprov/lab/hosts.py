"""The lab's hosts: containers that boot their own systemd, sshd and dockerd."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
import socket
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab import rootfs
from flagprov.lab.files_written import forget_host, know_host
from flagprov.lab.layout import MODEL, WEIGHTS_ROOT, Layout
from flagprov.lab.leftovers import remove
from flagprov.lab.machine import MANY, missing_capabilities, raise_limits
from flagprov.lab.network import host_address
from flagprov.lab.shell import attempt, docker, lines, run

BOOT = "umount -R /sys/fs/cgroup; mount -o remount,rw /sys; exec /sbin/init"
KIND = "flagprov.lab.kind"
CHIP = "flagprov.lab.chip"


Files = Mapping[str, tuple[bytes, int]]  # path -> content and mode; of a link, where it leads


@dataclass(frozen=True, slots=True)
class Wanted:
    """One host as it should be."""

    name: str
    address: str
    image: str
    chip: str = ""
    options: tuple[str, ...] = ()  # more words of `docker create`
    files: Files = field(default_factory=dict)  # what it has beside its image


@dataclass(frozen=True, slots=True)
class LabHost:
    """One host of the lab, as it is."""

    name: str
    address: str
    running: bool
    ssh: bool
    docker: str  # active, inactive, none
    chip: str = ""  # of an emulated host


def ensure_image(
    layout: Layout, *, bare: bool, on_progress: Callable[[str], None], arch: str = "amd64"
) -> str:
    """The docker image that hosts start from, by content."""
    kind = ("bare" if bare else "host") + ("" if arch == "amd64" else f"-{arch}")
    key = hashlib.sha256(rootfs.host_content(bare=bare, arch=arch).encode()).hexdigest()[:12]
    image = f"flagprov-{layout.id}/{kind}:{key}"
    if attempt(["docker", "image", "inspect", image]).returncode == 0:
        return image
    target = layout.build / f"{kind}-root"
    try:
        on_progress(f"{kind} image: installing Debian")
        rootfs.make_host(target, bare=bare, arch=arch)
        packed = 'tar --directory "$1" --numeric-owner --create . | docker import --change "$2" - "$3"'
        run(["bash", "-o", "pipefail", "-c", packed, "bash", target, f"LABEL {layout.label}", image])
    finally:
        remove(target)
    on_progress(f"{kind} image: there")
    return image


def plain_hosts(subnet: ipaddress.IPv4Network, image: str, count: int) -> tuple[Wanted, ...]:
    """Hosts without anything special."""
    numbers = range(1, count + 1)
    return tuple(Wanted(f"lab{number}", host_address(subnet, number), image) for number in numbers)


def bring_hosts(layout: Layout, wanted: Sequence[Wanted], on_progress: Callable[[str], None]) -> None:
    """Exactly these hosts, the running ones reused."""
    images = {host.image for host in wanted}
    ids = {image: docker("image", "inspect", image, "--format", "{{.Id}}") for image in images}
    right = {host.name: ids[host.image] for host in wanted}
    for name, (at, running) in _containers(layout).items():
        if right.get(name) != at:
            on_progress(f"{name}: removing")
            remove_host(layout, name)
        elif not running:
            on_progress(f"{name}: starting")
            docker("start", layout.container(name))
    present = _containers(layout)
    if len(wanted) > MANY:
        raise_limits(layout)
    for host in wanted:
        if host.name not in present:
            on_progress(f"{host.name}: starting")
            _create(layout, host)


def copy_model(layout: Layout, hosts: Sequence[Wanted]) -> None:
    """Every `up` makes the weights whole again; whole ones are left alone: a deploy finds no change."""
    for host in hosts:
        _copy_model(layout, host.name)


def remove_host(layout: Layout, name: str) -> None:
    attempt(["docker", "rm", "--force", "--volumes", layout.container(name)])
    attempt(["docker", "volume", "rm", "--force", layout.volume(name)])
    forget_host(layout, name)


def look(layout: Layout) -> tuple[LabHost, ...]:
    """What each host is doing."""
    found = lines(
        attempt(["docker", "ps", "--all", "--quiet", "--filter", f"label={layout.label}"]).stdout.decode()
    )
    if not found:
        return ()
    described = json.loads(docker("inspect", *found))
    prefix = layout.container("")
    hosts = []
    for container in described:
        name = container["Name"].removeprefix("/").removeprefix(prefix)
        if KIND not in container["Config"]["Labels"]:
            continue
        settings = container["NetworkSettings"]["Networks"].get(layout.network, {})
        address = (settings.get("IPAMConfig") or {}).get("IPv4Address", "")
        running = bool(container["State"]["Running"])
        hosts.append((name, address, running, container["Config"]["Labels"].get(CHIP, "")))
    with ThreadPoolExecutor(max_workers=16) as pool:
        return tuple(sorted(pool.map(lambda host: _look(layout, *host), hosts), key=_order))


def wait_for_ssh(addresses: Sequence[str], timeout: float = 60) -> None:
    """Until every host's sshd has said its banner."""
    deadline = time.monotonic() + timeout
    waiting = list(addresses)
    while waiting:
        waiting = [address for address in waiting if not _banner(address)]
        if waiting and time.monotonic() > deadline:
            raise LabError(
                f"no sshd answers at {', '.join(waiting)} after {timeout:.0f} s",
                remedy="flagprov lab down, then up; docker logs of the host's container may say more",
            )
        if waiting:
            time.sleep(0.1)


def wait_for_docker(layout: Layout, names: Sequence[str], timeout: float = 60) -> None:
    """Until dockerd answers in every host."""
    deadline = time.monotonic() + timeout
    for name in names:
        while attempt(["docker", "exec", layout.container(name), "docker", "version"]).returncode:
            if time.monotonic() > deadline:
                said = attempt(
                    [
                        "docker",
                        "exec",
                        layout.container(name),
                        "journalctl",
                        "-u",
                        "docker",
                        "-n",
                        "5",
                        "-o",
                        "cat",
                    ]
                )
                raise LabError(f"{name}: dockerd does not answer: {said.stdout.decode(errors='replace')}")
            time.sleep(0.2)


def _look(layout: Layout, name: str, address: str, running: bool, chip: str) -> LabHost:
    if not running:
        return LabHost(name, address, False, False, "none", chip)
    state = attempt(
        ["docker", "exec", layout.container(name), "systemctl", "is-active", "docker"], timeout=20
    )
    there = attempt(["docker", "exec", layout.container(name), "test", "-x", "/usr/sbin/dockerd"], timeout=20)
    engine = state.stdout.decode().strip() if there.returncode == 0 else "none"
    return LabHost(name, address, True, _banner(address), engine, chip)


def _order(host: LabHost) -> tuple[str, int, str]:
    digits = host.name.removeprefix("lab")
    return (host.chip, int(digits) if digits.isdigit() else 0, host.name)


def _banner(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _containers(layout: Layout) -> dict[str, tuple[str, bool]]:
    """name -> (image id, running)"""
    listed = lines(
        docker("ps", "--all", "--quiet", "--filter", f"label={layout.label}", "--filter", f"label={KIND}")
    )
    if not listed:
        return {}
    prefix = "/" + layout.container("")
    return {
        container["Name"].removeprefix(prefix): (container["Image"], bool(container["State"]["Running"]))
        for container in json.loads(docker("inspect", *listed))
    }


def _create(layout: Layout, host: Wanted) -> None:
    name, image = host.name, host.image
    dropped = [word for capability in missing_capabilities() for word in ("--cap-drop", capability)]
    open_up = ("seccomp=unconfined", "apparmor=unconfined", "systempaths=unconfined")
    docker("volume", "create", "--label", layout.label, layout.volume(name))
    docker(
        *("create", "--name", layout.container(name), "--hostname", name, "--label", layout.label),
        *("--label", f"{KIND}={image.split('/')[1].split(':')[0]}", "--label", f"{CHIP}={host.chip}"),
        *("--network", layout.network, "--ip", host.address, "--network-alias", name),
        *("--cap-add", "ALL", *dropped),
        *(word for option in open_up for word in ("--security-opt", option)),
        *("--device-cgroup-rule", "a *:* rwm", "--cgroupns", "private", "--stop-signal", "SIGRTMIN+3"),
        # A host that reboots ends with a signal; one that is stopped from outside stays away.
        *("--restart", "on-failure"),
        *("--stop-timeout", "60", "--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"),
        *("--volume", f"{layout.volume(name)}:/var/lib/docker", *host.options, image, "sh", "-c", BOOT),
    )
    private, public = _host_key(name)
    files = {
        **host.files,
        "etc/ssh/ssh_host_ed25519_key": (private, 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (public, 0o644),
    }
    people = {"root/.ssh": 0} | {f"home/{user}/.ssh": 1000 + at for at, user in enumerate(_PEOPLE)}
    authorized = layout.key.with_suffix(".pub").read_bytes()
    owners = {}
    for home, owner in people.items():
        files[f"{home}/authorized_keys"] = (authorized, 0o600)
        owners[f"{home}/authorized_keys"] = owner
        owners[home] = owner
    docker("cp", "-", f"{layout.container(name)}:/", stdin=_archive(files, owners))
    know_host(layout, name, host.address, public)
    docker("start", layout.container(name))


def _copy_model(layout: Layout, name: str) -> None:
    paths = sorted(layout.model.iterdir())
    sums = "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {WEIGHTS_ROOT}/{MODEL}/{path.name}\n"
        for path in paths
    )
    whole = (
        "exec",
        "-i",
        layout.container(name),
        "sh",
        "-c",
        "sha256sum --check --status && echo whole || true",
    )
    if docker(*whole, stdin=sums.encode()).strip() == "whole":
        return
    files = {f"{WEIGHTS_ROOT.strip('/')}/{MODEL}/{path.name}": (path.read_bytes(), 0o644) for path in paths}
    docker("cp", "-", f"{layout.container(name)}:/", stdin=_archive(files, {}))


_PEOPLE = ("deployer", "keeper", "guest")


def _host_key(name: str) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "key"
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path])
        return path.read_bytes(), path.with_suffix(".pub").read_bytes()


def _archive(files: Files, owners: dict[str, int]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for directory in sorted({path.rsplit("/", 1)[0] for path in files}):
            if directory.endswith((".ssh", MODEL)):
                entry = tarfile.TarInfo(directory)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700 if directory.endswith(".ssh") else 0o755
                entry.uid = entry.gid = owners.get(directory, 0)
                archive.addfile(entry)
        for path, (content, mode) in files.items():
            entry = tarfile.TarInfo(path)
            entry.mode, entry.mtime = stat.S_IMODE(mode), int(time.time())
            entry.uid = entry.gid = owners.get(path, 0)
            if stat.S_ISLNK(mode):
                entry.type, entry.linkname = tarfile.SYMTYPE, content.decode()
            else:
                entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
