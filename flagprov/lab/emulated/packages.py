"""Debian and RPM packages written by hand, and repositories of them: what emulated drivers come as."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from flagprov.lab.machine import install_packages
from flagprov.lab.shell import attempt, run

TOOLS = {"rpmbuild": "rpm", "createrepo_c": "createrepo-c"}
SPEC = """%define __os_install_post %{{nil}}
%define _binary_payload w1.gzdio
%define _build_id_links none
AutoReqProv: no
BuildArch: noarch
Name: {name}
{epoch}Version: {version}
Release: {release}
License: Apache-2.0
Summary: {summary}
{relations}
%description
{summary}
%install
cp -a {tree}/. %{{buildroot}}/
{scripts}
%files
{files}
"""


@dataclass(frozen=True, slots=True)
class Package:
    """One package; relations and scripts are in the words of its own format."""

    name: str
    version: str
    release: str = "1"
    epoch: int = 0
    summary: str = "Emulated by flagprov"
    relations: tuple[str, ...] = ()  # lines such as `Depends: ...`
    files: Mapping[str, tuple[str, int]] = field(default_factory=dict)  # path -> text and mode
    after: str = ""  # script after installation
    before_removal: str = ""
    after_removal: str = ""


def write_apt(directory: Path, packages: Iterable[Package]) -> None:
    """A flat repository: `deb [trusted=yes] file:DIRECTORY ./`."""
    directory.mkdir(parents=True, exist_ok=True)
    index = []
    for package in packages:
        control = _control(package)
        content = _deb(package, control)
        file = f"{package.name}_{package.version}-{package.release}_all.deb"
        (directory / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        index.append(f"{control}Filename: ./{file}\nSize: {len(content)}\nSHA256: {digest}\n")
    text = "\n".join(index).encode()
    (directory / "Packages").write_bytes(text)
    (directory / "Packages.gz").write_bytes(gzip.compress(text, mtime=0))
    sums = "".join(
        f" {hashlib.sha256((directory / name).read_bytes()).hexdigest()} "
        f"{(directory / name).stat().st_size} {name}\n"
        for name in ("Packages", "Packages.gz")
    )
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S UTC")
    (directory / "Release").write_text(f"Origin: flagprov\nLabel: emulated\nDate: {now}\nSHA256:\n{sums}")


def write_dnf(directory: Path, packages: Sequence[Package]) -> None:
    """A repository for `baseurl=file://DIRECTORY`."""
    missing = [package for tool, package in TOOLS.items() if attempt([tool, "--version"]).returncode == 127]
    install_packages(tuple(missing))
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        specs = [_spec(package, Path(scratch)) for package in packages]
        where = [f"--define=_rpmdir {directory}", f"--define=_topdir {scratch}/top"]
        run(["rpmbuild", "-bb", "--quiet", *where, *specs])
    run(["createrepo_c", "--quiet", directory])


def _control(package: Package) -> str:
    epoch = f"{package.epoch}:" if package.epoch else ""
    head = {
        "Package": package.name,
        "Version": f"{epoch}{package.version}-{package.release}",
        "Architecture": "all",
        "Maintainer": "flagprov",
    }
    lines = [f"{key}: {value}" for key, value in head.items()]
    return "\n".join([*lines, *package.relations, f"Description: {package.summary}", ""])


def _deb(package: Package, control: str) -> bytes:
    scripts = {
        "postinst": package.after,
        "prerm": package.before_removal,
        "postrm": package.after_removal,
    }
    meta = {"control": (control, 0o644)}
    meta |= {name: (f"#!/bin/sh\n{text}", 0o755) for name, text in scripts.items() if text}
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar(meta),
        "data.tar.gz": _tar(package.files),
    }
    archive = b"!<arch>\n"
    for name, content in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{0o100644:<8o}{len(content):<10}`\n".encode()
        archive += content + b"\n" * (len(content) % 2)
    return archive


def _tar(files: Mapping[str, tuple[str, int]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        parents = {str(parent) for path in files for parent in Path(path).parents}
        for parent in sorted(parents - {"."}):
            entry = tarfile.TarInfo(f"./{parent}")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for path, (text, mode) in sorted(files.items()):
            entry = tarfile.TarInfo(f"./{path}")
            content = text.encode()
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def _spec(package: Package, scratch: Path) -> Path:
    tree = scratch / f"{package.name}-{package.version}-{package.release}"
    tree.mkdir()
    for path, (text, mode) in package.files.items():
        file = tree / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    scripts = {"post": package.after, "preun": package.before_removal, "postun": package.after_removal}
    spec = tree.with_suffix(f"{tree.suffix}.spec")
    spec.write_text(
        SPEC.format(
            name=package.name,
            epoch=f"Epoch: {package.epoch}\n" if package.epoch else "",
            version=package.version,
            release=package.release,
            summary=package.summary,
            relations="\n".join(package.relations),
            tree=tree,
            scripts="\n".join(f"%{name}\n{text}" for name, text in scripts.items() if text),
            files="\n".join(f"/{path}" for path in sorted(package.files)),
        )
    )
    return spec
