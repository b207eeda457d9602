"""This machine: is it one that can carry a lab, what is missing on it, and its dockerd."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab.layout import Layout
from flagprov.lab.leftovers import mounted_below
from flagprov.lab.shell import attempt, docker, lines, run

# program -> Debian package
PROGRAMS = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "mmdebstrap": "mmdebstrap",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "ip": "iproute2",
    "iptables": "iptables",
    "tini": "tini",
    "openssl": "openssl",
    "update-ca-certificates": "ca-certificates",
}
OS_RELEASE = Path("/etc/os-release")
INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
MANY = 4  # hosts, each with its systemd: more need more inotify instances than machines come with
# In the kernel's order.
# fmt: off
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID",
    "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW",
    "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
    "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
    "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)
# fmt: on


def require_known_machine() -> None:
    """One message with all that is missing, before anything is changed."""
    lacks = []
    if os.geteuid() != 0:
        lacks.append("root: run it with sudo, or in a root shell")
    described = OS_RELEASE.read_text() if OS_RELEASE.exists() else ""
    facts = dict(line.split("=", 1) for line in lines(described) if "=" in line)
    name = f"{facts.get('ID', '?').strip(chr(34))} {facts.get('VERSION_ID', '?').strip(chr(34))}"
    if name != "debian 12":
        lacks.append(f"Debian 12 (this is {name}): use a Debian 12 machine or virtual machine")
    if os.uname().machine != "x86_64":
        lacks.append(f"an x86_64 processor (this is {os.uname().machine}): the lab's engine is built for it")
    if lacks:
        raise LabError("the lab cannot run here; it needs", remedy="\n  ".join(f"- {lack}" for lack in lacks))


def missing_packages(programs: Mapping[str, str] = PROGRAMS) -> tuple[str, ...]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return tuple(sorted({package for name, package in programs.items() if not shutil.which(name, path=path)}))


def install_packages(packages: tuple[str, ...]) -> None:
    if not packages:
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    remedy = f"check apt's sources, or install by hand: apt-get install {' '.join(packages)}"
    run(["apt-get", "-qq", "update"], env=quiet, remedy=remedy)
    with _no_services():
        run(
            ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages],
            env=quiet,
            remedy=remedy,
        )


@contextmanager
def _no_services() -> Iterator[None]:
    """Where no systemd runs, a package would start its service by hand, and nobody would ever stop it."""
    policy = Path("/usr/sbin/policy-rc.d")
    if Path("/run/systemd/system").is_dir() or policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def missing_capabilities() -> tuple[str, ...]:
    """What dockerd here cannot give to a container."""
    pid = Path("/var/run/docker.pid")
    status = Path(f"/proc/{pid.read_text().strip() if pid.exists() else 'self'}/status")
    held = next(int(line.split()[1], 16) for line in lines(status.read_text()) if line.startswith("CapBnd:"))
    return tuple(name for bit, name in enumerate(CAPABILITIES) if not held >> bit & 1)


def docker_answers() -> bool:
    return attempt(["docker", "version", "--format", "{{.Server.Version}}"], timeout=20).returncode == 0


def start_docker(layout: Layout) -> bool:
    """Start dockerd when none answers; True when this call started it."""
    if docker_answers():
        return False
    if Path("/run/systemd/system").is_dir():
        run(["systemctl", "start", "docker"], remedy="journalctl -u docker says why")
        return False
    layout.build.mkdir(parents=True, exist_ok=True)
    (layout.build / "iptables.before").write_text(run(["iptables-save"]))
    log = layout.build / "dockerd.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            ["dockerd"], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True
        )
    (layout.build / "dockerd.pid").write_text(f"{process.pid}\n")
    for _ in range(150):
        if docker_answers():
            return True
        if process.poll() is not None:
            break
        time.sleep(0.2)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
    raise LabError(f"dockerd does not start: {tail}", remedy=f"the whole log is {log}")


def stop_docker(layout: Layout) -> bool:
    """Stop the dockerd that this checkout's lab started, unless other containers run on it."""
    file = layout.build / "dockerd.pid"
    if not file.exists():
        return False
    pid = int(file.read_text())
    if not _is_dockerd(pid):
        file.unlink()
        return False
    if docker("ps", "--quiet"):
        return False
    os.kill(pid, signal.SIGTERM)
    for _ in range(150):
        if not _is_dockerd(pid):
            break
        time.sleep(0.2)
    attempt(["ip", "link", "delete", "docker0"])
    for point in mounted_below(Path("/run/docker")):
        attempt(["umount", point])
    before = layout.build / "iptables.before"
    if before.exists():
        rules = rules_as_before(before.read_text(), run(["iptables-save"]))
        run(["iptables-restore"], stdin=rules.encode())
        before.unlink()
    file.unlink()
    return True


def rules_as_before(before: str, now: str) -> str:
    """What iptables-restore needs to go back; tables that were not in use before come out empty."""
    unused, table = [], ""
    for line in lines(now):
        table = line if line.startswith("*") else table
        if table not in before.splitlines() and re.match(r"\*|COMMIT|:[A-Z]+ ACCEPT|:[A-Z]+ DROP", line):
            unused.append(re.sub(r"^(:[A-Z]+) DROP", r"\1 ACCEPT", line))
    return before + "".join(f"{line}\n" for line in unused)


def raise_limits(layout: Layout) -> None:
    """More inotify instances; `down` puts the old number back."""
    before = layout.build / "inotify.before"
    if int(INSTANCES.read_text()) < 8192:
        before.write_text(INSTANCES.read_text())
        INSTANCES.write_text("8192\n")


def restore_limits(layout: Layout) -> None:
    before = layout.build / "inotify.before"
    if before.exists():
        INSTANCES.write_text(before.read_text())
        before.unlink()


def _is_dockerd(pid: int) -> bool:
    try:
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return False
        return Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except OSError:
        return False
