"""Debian root directories for the lab's hosts and its engine images, with this machine's own apt set-up."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab import arm64
from flagprov.lab.leftovers import remove
from flagprov.lab.shell import lines, run

SUITE = "bookworm"
DOCKER_PACKAGES = ("docker.io",)
FILES = Path(__file__).parent / "files"
FORMAT = "2"  # raise it when the way of building changes


def listed(path: Path) -> tuple[str, ...]:
    """The lines of a list file, without its comments."""
    return tuple(line for line in lines(path.read_text()) if not line.startswith("#"))


def host_packages(*, bare: bool) -> tuple[str, ...]:
    return (*listed(FILES / "host.txt"), *(() if bare else DOCKER_PACKAGES))


def host_content(*, bare: bool, arch: str = "amd64") -> str:
    """All that decides what a host image holds; another text means another image."""
    own = [FILES / name for name in ("runc", "runc-clamped", "unused.txt")]
    files = [*own, *([Path(arm64.__file__)] if arch == "arm64" else ())]
    return "\0".join((FORMAT, *host_packages(bare=bare), *(path.read_text() for path in files)))


def sources() -> str:
    """The Debian package sources of this machine, one a line."""
    asked = ["apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]
    found = lines(run([*asked, "Created-By: Packages", "Origin: Debian"]))
    kept = [line for line in found if line.split()[2].startswith(SUITE)]
    if not kept:
        raise LabError("apt on this machine knows no Debian 12 packages", remedy="apt-get update")
    return "\n".join(dict.fromkeys(kept)) + "\n"


def apt_settings() -> str:
    """What this machine's apt settings say about fetching (proxies, certificates, dates)."""
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as plain:
        plain.write('Dir::Etc::parts "/nonexistent";\nDir::Etc::main "/nonexistent";\n')
        plain.flush()
        default = set(lines(run(["apt-config", "dump"], env={"APT_CONFIG": plain.name})))
    own = [line for line in lines(run(["apt-config", "dump"])) if line not in default]
    settings = [line for line in own if re.match("Acquire::(?!IndexTargets|GzipIndexes)", line)]
    for scheme in ("http", "https"):
        proxy = os.environ.get(f"{scheme}_proxy")
        if proxy and not any(line.startswith(f"Acquire::{scheme}::Proxy") for line in settings):
            settings.append(f'Acquire::{scheme}::Proxy "{proxy}";')
    return "".join(f"{line}\n" for line in settings)


def bootstrap(target: Path, packages: Sequence[str], arch: str = "amd64") -> None:
    """A minimal Debian of this architecture with these packages in target."""
    remove(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        settings = Path(scratch) / "apt.conf"
        settings.write_text(apt_settings())
        options = [f"--aptopt={settings}"] if settings.stat().st_size else []
        wanted = f"--include={','.join(packages)}"
        # In a mount namespace of its own: what it mounts goes when it goes.
        alone = ("unshare", "--mount", "--propagation", "private")
        run(
            [
                *alone,
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--architectures={arch}",
                *(arm64.BOOTSTRAP_OPTIONS if arch == "arm64" else ()),
                wanted,
                *options,
                SUITE,
                str(target),
                "-",
            ],
            stdin=sources().encode(),
            log=target.with_suffix(".log"),
            remedy=f"the whole log is {target.with_suffix('.log')}",
        )
    local = Path("/usr/local/share/ca-certificates")
    if local.is_dir() and any(local.iterdir()):
        shutil.copytree(local, target / "usr/local/share/ca-certificates", dirs_exist_ok=True)
    if arch == "arm64":
        arm64.finish_certificates(target)
    elif local.is_dir() and any(local.iterdir()):
        run(["chroot", target, "update-ca-certificates"])
    for pattern in listed(FILES / "unused.txt"):
        for path in target.glob(pattern):
            remove(path)
    for path in target.glob("usr/share/doc/*/*"):
        if path.name != "copyright":
            remove(path)
    (target / "var/lib/apt/lists/partial").mkdir(parents=True)
    (target / "var/cache/apt/archives/partial").mkdir(parents=True)
    (target / "var/log/apt").mkdir(parents=True)


def make_host(target: Path, *, bare: bool, arch: str = "amd64") -> None:
    """The root directory of a lab host; without a container engine when bare."""
    bootstrap(target, host_packages(bare=bare), arch)
    for key in target.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    # Large labs open hundreds of connections at once; sshd's own limit would refuse half of them.
    drop_in = target / "etc/ssh/sshd_config.d/lab.conf"
    drop_in.write_text("MaxStartups 1000:30:2000\nMaxSessions 100\nUseDNS no\n")
    # A diversion holds whether runc is there already or comes later with a role.
    divert = ("dpkg-divert", "--local", "--rename", "--divert", "/usr/sbin/runc.distrib")
    run(["chroot", target, *divert, "--add", "/usr/sbin/runc"])
    for name, place in (("runc", "usr/sbin"), ("runc-clamped", "usr/lib/flagprov-lab")):
        (target / place).mkdir(parents=True, exist_ok=True)
        shutil.copy(FILES / name, target / place)
        (target / place / name).chmod(0o755)
    if arch == "arm64":
        arm64.finish_host(target)
    for unit in ("apt-daily.timer", "apt-daily-upgrade.timer", "fstrim.timer", "e2scrub_all.timer"):
        mask = target / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    (target / "etc/machine-id").write_text("")
    (target / "etc/hostname").unlink(missing_ok=True)
    (target / "etc/resolv.conf").unlink(missing_ok=True)
    (target / "srv/models").mkdir(parents=True, exist_ok=True)
    (target / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    _add_people(target)


def _add_people(target: Path) -> None:
    """Users as sites have them: one with sudo without password, one with, one without sudo."""
    for name, sudo in (("deployer", "NOPASSWD:ALL"), ("keeper", "ALL"), ("guest", "")):
        run(["chroot", target, "useradd", "--create-home", "--shell", "/bin/bash", name])
        if sudo:
            rule = target / "etc/sudoers.d" / name
            rule.write_text(f"{name} ALL=(ALL:ALL) {sudo}\n")
            rule.chmod(0o440)
    run(["chroot", target, "chpasswd"], stdin=b"keeper:keeper\n")
