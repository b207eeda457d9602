"""Emulated NVIDIA packages: repositories for apt and dnf with driver, Fabric Manager and container toolkit.

Named and related as the vendor's are. On a host with `/etc/flagprov-emulated` they bring an nvidia-smi that
prints captured outputs, and a unit which plays the kernel module (device nodes, /proc/driver/nvidia) now and
at each boot. Keys of that file: CHIP, DEVICES, SWITCHES (0: no NVSwitch), NAME of the GPUs, numbers of
devices as UNHEALTHY, BUSY and LINKS_DOWN, MINORS of the devices in order, FABRIC (a state instead of the real
one), DRIVER_LOADED (a version other than the one on disk), MODULE (`missing`: half installed, `busy`: cannot
be unloaded), SIGNER of the module, and DKMS=fails.
"""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

from flagprov.lab.emulated.packages import Package, write_apt, write_dnf

FILES = Path(__file__).with_name("nvidia")
OLD_DRIVER, NEW_DRIVER = "535.183.06", "580.126.20"
# The distribution made this 535 out of empty packages that bring the next branch.
TRAP = "535.309.01"
CUDA = {OLD_DRIVER: "12.2", NEW_DRIVER: "13.0"}
TOOLKITS = ("1.17.8", "1.18.1")
# A kernel that a host may boot next.
NEXT_KERNEL = "99.1.0-1-flagprov"
STATE = "/var/lib/flagprov-emulated/nvidia"
UNIT = "flagprov-emulated-nvidia.service"

BUILD = """mkdir -p {state} && echo "{version} {kind}" >"{state}/$(uname -r)"
for directory in /lib/modules/*/build; do
    [ ! -d "$directory" ] || echo "{version} {kind}" >"{state}/$(basename "$(dirname "$directory")")"
done
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable --quiet {unit}
    systemctl start {unit} || :
fi
"""
UNBUILD = """case $1 in remove | 0) rm -rf {state} ;; esac
"""


def build_apt(directory: Path) -> None:
    """A flat repository, as `deb [trusted=yes] file:DIRECTORY ./` wants it."""
    kernel = os.uname().release
    packages = [
        Package(f"linux-image-{kernel}", "1.0", summary="The kernel"),
        *(
            Package(f"linux-headers-{each}", "1.0", files=_headers(each), summary="Headers of the kernel")
            for each in (kernel, NEXT_KERNEL)
        ),
    ]
    for version in (OLD_DRIVER, NEW_DRIVER):
        packages += _branch(version, f"{_major(version)}", "1")
        packages += _branch(version, f"{_major(version)}-server", "0ubuntu0.24.04.1")
        packages += [_fabric_manager_deb(version), Package(f"libnvidia-nscq-{_major(version)}", version)]
    for name in ("headless-{}-open", "headless-{}", "utils-{}"):
        old, new = (name.format(f"{_major(each)}-server") for each in (TRAP, NEW_DRIVER))
        packages.append(
            Package(
                f"nvidia-{old}",
                TRAP,
                "0ubuntu0.24.04.2",
                summary="NVIDIA driver (transitional package)",
                relations=(f"Depends: nvidia-{new}",),
            )
        )
    to = (f"Depends: nvidia-fabricmanager (= {NEW_DRIVER}-1)",)
    packages.append(
        Package(
            "nvidia-fabricmanager-535", TRAP, summary="Fabric Manager (transitional package)", relations=to
        )
    )
    for version in TOOLKITS:
        packages += _toolkit_debs(version)
    write_apt(directory, packages)


def build_dnf(directory: Path) -> None:
    """A repository for `baseurl=file://DIRECTORY`."""
    kernel = os.uname().release
    version, _, release = kernel.partition("-")
    packages = [
        Package(
            "kernel-devel",
            version,
            release.replace("-", "_") or "1",
            files=_headers(kernel),
            relations=(f"Provides: kernel-devel-{kernel}",),
        )
    ]
    for driver in (OLD_DRIVER, NEW_DRIVER):
        packages += _driver_rpms(driver)
    for toolkit in TOOLKITS:
        packages += _toolkit_rpms(toolkit)
    write_dnf(directory, packages)


def _branch(version: str, branch: str, release: str) -> list[Package]:
    """Ubuntu's packages of one branch, for servers without a display."""
    exact = f"(= {version}-{release})"
    make = partial(Package, version=version, release=release)
    packages = [
        make(f"libnvidia-compute-{branch}", files=_library(version), relations=_only("libcompute")),
        make(
            f"nvidia-utils-{branch}",
            files=_file("usr/bin/nvidia-smi", "nvidia-smi", version),
            relations=(f"Depends: libnvidia-compute-{branch} {exact}", *_only("utils")),
        ),
        make(
            f"nvidia-compute-utils-{branch}",
            files=_daemon(version, "--no-persistence-mode --verbose"),
            relations=(f"Depends: libnvidia-compute-{branch} {exact}", *_only("compute-utils")),
        ),
    ]
    for kind, suffix in (("open", "-open"), ("proprietary", "")):
        packages.append(
            make(
                f"nvidia-dkms-{branch}{suffix}",
                files=_module(version, kind),
                relations=_only("dkms-kernel"),
                after=BUILD.format(state=STATE, version=version, kind=kind, unit=UNIT),
                before_removal=UNBUILD.format(state=STATE),
            )
        )
        needed = ("nvidia-dkms-{}" + suffix, "libnvidia-compute-{}", "nvidia-compute-utils-{}")
        depends = ", ".join(f"{name.format(branch)} {exact}" for name in needed)
        packages.append(make(f"nvidia-headless-{branch}{suffix}", relations=(f"Depends: {depends}",)))
    return packages


def _only(what: str) -> tuple[str, ...]:
    """One package of a kind at a time, whatever its branch."""
    return (f"Conflicts: nvidia-{what}", f"Replaces: nvidia-{what}", f"Provides: nvidia-{what}")


def _fabric_manager_deb(version: str) -> Package:
    """Its name lost the branch with 580, which is a virtual package since."""
    major = _major(version)
    if major >= 580:
        relations = tuple(
            f"{relation}: nvidia-fabricmanager-{branch}"
            for relation, branch in (("Provides", major), ("Replaces", 535), ("Breaks", f"535 (<< {TRAP})"))
        )
        return Package("nvidia-fabricmanager", version, files=_fabric_manager(version), relations=relations)
    return Package(f"nvidia-fabricmanager-{major}", version, files=_fabric_manager(version))


def _driver_rpms(version: str) -> list[Package]:
    exact = f"= 3:{version}"
    make = partial(Package, version=version, release="1.el9", epoch=3)
    packages = [
        make("nvidia-kmod-common", relations=(f"Requires: nvidia-kmod {exact}",)),
        make("nvidia-persistenced", files=_daemon(version, "--verbose")),
        make("libnvidia-ml", files=_library(version)),
        make(
            "nvidia-driver-cuda",
            files=_file("usr/bin/nvidia-smi", "nvidia-smi", version),
            relations=tuple(
                f"Requires: {name} {exact}"
                for name in ("nvidia-kmod-common", "nvidia-persistenced", "libnvidia-ml")
            ),
        ),
    ]
    for kind, name, other in (("open", "open", "latest"), ("proprietary", "latest", "open")):
        packages.append(
            make(
                f"kmod-nvidia-{name}-dkms",
                files=_module(version, kind),
                relations=(f"Provides: nvidia-kmod {exact}", f"Conflicts: kmod-nvidia-{other}-dkms"),
                after=BUILD.format(state=STATE, version=version, kind=kind, unit=UNIT),
                before_removal=UNBUILD.format(state=STATE),
            )
        )
    new = _major(version) >= 580
    packages.append(
        Package(
            "nvidia-fabricmanager" if new else "nvidia-fabric-manager",
            version,
            files=_fabric_manager(version),
            relations=(f"Conflicts: nvidia-fabric{'-' if new else ''}manager",),
        )
    )
    return packages


def _toolkit_debs(version: str) -> list[Package]:
    exact = f"(= {version}-1)"
    return [
        Package("libnvidia-container1", version),
        Package("libnvidia-container-tools", version, relations=(f"Depends: libnvidia-container1 {exact}",)),
        Package("nvidia-container-toolkit-base", version, files=_toolkit(version)),
        Package(
            "nvidia-container-toolkit",
            version,
            files=_hook(),
            relations=(f"Depends: nvidia-container-toolkit-base {exact}, libnvidia-container-tools {exact}",),
        ),
    ]


def _toolkit_rpms(version: str) -> list[Package]:
    exact = f"= {version}"
    return [
        Package("libnvidia-container1", version),
        Package("libnvidia-container-tools", version, relations=(f"Requires: libnvidia-container1 {exact}",)),
        Package("nvidia-container-toolkit-base", version, files=_toolkit(version)),
        Package(
            "nvidia-container-toolkit",
            version,
            files=_hook(),
            relations=(
                f"Requires: nvidia-container-toolkit-base {exact}",
                f"Requires: libnvidia-container-tools {exact}",
            ),
        ),
    ]


def _major(version: str) -> int:
    return int(version.split(".")[0])


def _text(name: str, version: str, **words: str) -> str:
    text = (FILES / name).read_text(encoding="utf-8")
    for key, value in {"VERSION": version, "CUDA": CUDA.get(version, ""), **words}.items():
        text = text.replace(f"@{key}@", value)
    return text


def _file(path: str, name: str, version: str, mode: int = 0o755, **words: str) -> dict[str, tuple[str, int]]:
    return {path: (_text(name, version, **words), mode)}


def _library(version: str) -> dict[str, tuple[str, int]]:
    return {f"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.{version}": ("", 0o644)}


def _module(version: str, kind: str) -> dict[str, tuple[str, int]]:
    files = _file("usr/lib/systemd/system/" + UNIT, "module.service", version, 0o644)
    for name in ("modprobe", "modinfo", "dkms"):
        files |= _file(f"usr/local/sbin/{name}", name, version, KIND=kind)
    return files


def _daemon(version: str, options: str) -> dict[str, tuple[str, int]]:
    unit = "usr/lib/systemd/system/nvidia-persistenced.service"
    return _file("usr/bin/nvidia-persistenced", "nvidia-persistenced", version) | _file(
        unit, "nvidia-persistenced.service", version, 0o644, OPTIONS=options
    )


def _fabric_manager(version: str) -> dict[str, tuple[str, int]]:
    unit = "nvidia-fabricmanager.service"
    return _file("usr/bin/nv-fabricmanager", "nv-fabricmanager", version) | _file(
        f"usr/lib/systemd/system/{unit}", unit, version, 0o644
    )


def _toolkit(version: str) -> dict[str, tuple[str, int]]:
    runtime = '#!/bin/sh\n# Emulated by flagprov.\nexec runc "$@"\n'
    return _file("usr/bin/nvidia-ctk", "nvidia-ctk", version) | {
        "usr/bin/nvidia-container-runtime": (runtime, 0o755)
    }


def _hook() -> dict[str, tuple[str, int]]:
    return {"usr/bin/nvidia-container-runtime-hook": ("#!/bin/sh\n# Emulated by flagprov.\n", 0o755)}


def _headers(kernel: str) -> dict[str, tuple[str, int]]:
    return {f"usr/lib/modules/{kernel}/build/Makefile": ("# Emulated by flagprov.\n", 0o644)}


if __name__ == "__main__":  # python -m flagprov.lab.emulated.nvidia apt|dnf DIRECTORY
    {"apt": build_apt, "dnf": build_dnf}[sys.argv[1]](Path(sys.argv[2]))
