"""Emulated Ascend packages: driver and firmware installers and Docker runtime, as self-extracting .run files.

They know the options, messages and return codes of the vendor's. On a host with `/etc/flagprov-emulated` they
bring stand-ins of npu-smi and hccn_tool, device nodes now and at each boot, and the vendor's files. Keys of
that file: CHIP (ascend-a2, ascend-a3), DEVICES, and optionally numbers of devices as UNHEALTHY, MISSING, BUSY
and LINKS_DOWN, and ASCEND_INSTALLER: `fails` (return code 1), `dies` (half-way),
`reboot` (works after one; the driver's return code is 0 all the same, the firmware's 2), `reboot-2` (both 2).
A SLOW driver does not answer yet when it is asked for the first time after a boot.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path

FILES = Path(__file__).with_name("ascend")
OLD_DRIVER, NEW_DRIVER = "25.0.rc1", "25.2.0"
FIRMWARE = {OLD_DRIVER: "7.7.0.1.231", NEW_DRIVER: "7.7.0.6.236"}
RUNTIME = "7.1.RC1"
# How names of packages begin, by device: the vendor is not of one mind.
PREFIXES = {"910b": "Ascend-hdk-910b", "A3": "Atlas-A3-hdk"}
# Where the driver puts npu-smi depends on its version.
FOLDERS = {OLD_DRIVER: "/usr/local/sbin", NEW_DRIVER: "/usr/local/bin"}


def build(directory: Path, arch: str | None = None) -> dict[str, str]:
    """Write all packages to a directory, the same bytes each time; file name -> sha256."""
    arch = arch or os.uname().machine
    directory.mkdir(parents=True, exist_ok=True)
    packages: dict[str, bytes] = {}
    for hardware in PREFIXES:
        for version, firmware in FIRMWARE.items():
            driver = driver_name(hardware, version, arch)
            packages[driver] = _package(driver, "driver", hardware, version, arch, FOLDERS[version])
            image = firmware_name(hardware, firmware)
            packages[image] = _package(image, "firmware", hardware, firmware, arch, "-")
    runtime = runtime_name(RUNTIME, arch)
    packages[runtime] = _runtime(runtime)
    for name, content in packages.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o644)
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(packages.items())}


def driver_name(hardware: str, version: str, arch: str) -> str:
    """As the vendor calls the package."""
    return f"{PREFIXES[hardware]}-npu-driver_{version}_linux-{_spelled(arch)}.run"


def firmware_name(hardware: str, version: str) -> str:
    return f"{PREFIXES[hardware]}-npu-firmware_{version}.run"


def runtime_name(version: str, arch: str) -> str:
    return f"Ascend-docker-runtime_{version}_linux-{arch}.run"


def _spelled(arch: str) -> str:
    return arch.replace("_", "-")


def _package(file: str, kind: str, hardware: str, version: str, arch: str, folder: str) -> bytes:
    words = {"KIND": kind, "NAME": kind.capitalize(), "VERSION": version, "FILE": file}
    words |= {"HARDWARE": hardware, "ARCH": arch, "FOLDER": folder}
    contents = {
        "version.info": (f"Version={version}\npackage_version={version}\n", 0o444),
        "script/uninstall.sh": (_text("uninstall.sh", words), 0o755),
    }
    if kind == "driver":
        contents |= {
            "tools/upgrade-tool": ("#!/bin/sh\n# Emulated by flagprov.\n", 0o755),
            "tools/hccn_tool": (_text("hccn_tool", words), 0o755),
            "lib64/common/libc_sec.so": ("", 0o644),
            "lib64/driver/libascend_hal.so": ("", 0o644),
            "include/dcmi_interface_api.h": (_text("dcmi_interface_api.h", words), 0o644),
            "emulated/npu-smi": (_text("npu-smi", words), 0o755),
            "emulated/load": (_text("load", words), 0o755),
        }
        for name in ("flagprov-emulated-ascend.service", "dcmi_interface_api.h"):
            contents[f"emulated/{name}"] = (_text(name, words), 0o644)
        for captured in sorted((FILES / "captured").iterdir()):
            contents[f"emulated/{captured.name}"] = (captured.read_text("utf-8"), 0o644)
    return _self_extracting("installer", words, contents)


def _runtime(file: str) -> bytes:
    words = {"VERSION": RUNTIME, "FILE": file}
    contents = {
        "ascend-docker-runtime": (_text("runtime", words), 0o755),
        "add-devices": (_text("add-devices", words), 0o644),
    }
    return _self_extracting("runtime-installer", words, contents)


def _self_extracting(head: str, words: Mapping[str, str], contents: Mapping[str, tuple[str, int]]) -> bytes:
    payload = _archive(contents)
    text = _text(head, {**words, "SUM": hashlib.sha256(payload).hexdigest()})
    return text.encode() + payload


def _text(name: str, words: Mapping[str, str]) -> str:
    text = (FILES / name).read_text("utf-8")
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


def _archive(contents: Mapping[str, tuple[str, int]]) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path in sorted({str(parent) for name in contents for parent in Path(name).parents} - {"."}):
            entry = tarfile.TarInfo(path)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, (text, mode) in sorted(contents.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), mode
            archive.addfile(entry, io.BytesIO(text.encode()))
    return gzip.compress(plain.getvalue(), mtime=0)
