"""Hosts of another processor: arm64 systems under qemu's user mode, on this x86-64 machine.

Programs run as arm64 throughout, with two exceptions that qemu cannot take: containerd's shim and runc, which
clone and pass descriptors in ways of their own, are this machine's. The kernel is this machine's too.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from flagprov.errors import LabError
from flagprov.lab.shell import attempt, run

# program -> Debian package
PROGRAMS = {
    "qemu-aarch64-static": "qemu-user-static",
    "update-binfmts": "binfmt-support",
    "arch-test": "arch-test",
}
FORMATS = Path("/proc/sys/fs/binfmt_misc")
SHIM = "usr/bin/containerd-shim-runc-v2"
# Where the wrapper that stands before runc looks for this machine's runc.
RUNC = "usr/lib/flagprov-lab/runc"
# dockerd's iptables rules and bridge need calls that qemu does not know.
DAEMON = '{"iptables": false, "ip6tables": false, "bridge": "none"}\n'
# systemd asks for credentials in a way that qemu does not know, and these units would not start.
WITH_CREDENTIALS = (
    "procps",
    "systemd-sysctl",
    "systemd-sysusers",
    "systemd-tmpfiles-clean",
    "systemd-tmpfiles-setup",
    "systemd-tmpfiles-setup-dev",
)
CERTIFICATES = "usr/sbin/update-ca-certificates"
# It starts thousands of short programs, minutes under qemu; this machine's links are copied instead.
BOOTSTRAP_OPTIONS = (
    f'--essential-hook=chroot "$1" dpkg-divert --quiet --local --rename --add /{CERTIFICATES}; '
    f'ln -s /bin/true "$1/{CERTIFICATES}"',
)


def enable() -> None:
    """Have the kernel start arm64 programs with qemu, in containers too."""
    if not (FORMATS / "register").exists():
        run(
            ["mount", "-t", "binfmt_misc", "binfmt_misc", FORMATS],
            remedy="the kernel needs binfmt_misc: modprobe binfmt_misc",
        )
    if not _works():
        attempt(["update-binfmts", "--enable", "qemu-aarch64"])
    if not _works():
        raise LabError(
            "this machine does not start arm64 programs", remedy="update-binfmts --enable qemu-aarch64"
        )


def finish_host(target: Path) -> None:
    """What an arm64 root directory needs so that its dockerd, now or later, can run containers."""
    divert = ("dpkg-divert", "--local", "--rename", "--divert", f"/{SHIM}.distrib", "--add", f"/{SHIM}")
    run(["chroot", target, *divert])
    programs = {SHIM: _own("containerd-shim-runc-v2"), RUNC: _own("runc.distrib", "runc")}
    for place, program in programs.items():
        _copy(program, target / place)
    for program in programs.values():
        for library in _libraries(program):
            _copy(Path(library), target / library.lstrip("/"))
    for unit in WITH_CREDENTIALS:
        drop_in = target / f"etc/systemd/system/{unit}.service.d/emulated.conf"
        drop_in.parent.mkdir(parents=True, exist_ok=True)
        drop_in.write_text("[Service]\nLoadCredential=\n")
    (target / "etc/systemd/system/e2scrub_reap.service").symlink_to("/dev/null")
    settings = target / "etc/docker/daemon.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(DAEMON)


def finish_certificates(target: Path) -> None:
    """The authorities that this machine trusts, with the links by which OpenSSL finds them."""
    (target / CERTIFICATES).unlink()
    run(["chroot", target, "dpkg-divert", "--quiet", "--local", "--rename", "--remove", f"/{CERTIFICATES}"])
    shutil.copytree("/etc/ssl/certs", target / "etc/ssl/certs", symlinks=True, dirs_exist_ok=True)


def _works() -> bool:
    return attempt(["arch-test", "arm64"]).returncode == 0


def _own(*names: str) -> Path:
    """A program of this machine that is no script."""
    for name in names:
        found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if found:
            return Path(found)
    raise LabError(f"there is no {names[-1]} here", remedy="install the package docker.io")


def _libraries(program: Path) -> tuple[str, ...]:
    """Paths that the program's loader opens, the loader itself among them."""
    words = run(["ldd", program]).split()
    return tuple(word for word in words if word.startswith("/"))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source.resolve(), target)
    target.chmod(0o755)
