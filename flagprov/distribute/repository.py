"""Package files as a repository that apt or dnf takes: listed, and the list signed.

The key is made for one repository and kept nowhere: what it signed is what was packed.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
import subprocess
import tarfile
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path

from flagprov.distribute.images import ARCHITECTURES
from flagprov.distribute.needs import split
from flagprov.errors import FlagprovError, UsageError

KEY = "key.asc"
_COMMON = "{http://linux.duke.edu/metadata/common}"
_RPM = "{http://linux.duke.edu/metadata/rpm}"


@dataclass(frozen=True, slots=True)
class PackageFile:
    path: str  # in the repository
    name: str
    version: str
    licence: str = ""


def build(files: Sequence[Path], platform: str, target: Path) -> list[PackageFile]:
    """A repository of these files in `target`, which holds nothing else afterwards."""
    kinds = {file.suffix for file in files}
    if kinds not in ({".deb"}, {".rpm"}):
        raise UsageError(
            f"{platform}: {' and '.join(sorted(kinds)) or 'no files'}, where all should be .deb or all .rpm"
        )
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    found = _debian(files, platform, target) if kinds == {".deb"} else _rpm(files, target)
    return sorted(found, key=lambda package: package.path)


def _debian(files: Iterable[Path], platform: str, target: Path) -> list[PackageFile]:
    processor = split(platform)[2]
    found, listed = {}, []
    for file in files:
        control = run(["dpkg-deb", "--field", str(file)], "apt-get install dpkg")
        fields = dict(re.findall(r"^(\S+): *(.*)$", control, re.MULTILINE))
        name, version, architecture = (fields[key] for key in ("Package", "Version", "Architecture"))
        if architecture not in ("all", ARCHITECTURES.get(processor, processor)):
            raise UsageError(f"{file}: is for {architecture}, not for {platform}")
        # Without what apt would have to quote: how it does so differs from version to version.
        plain = re.sub(r"[^\w.+~-]", ".", f"{name}_{version.partition(':')[2] or version}_{architecture}.deb")
        if plain in found:
            continue
        data = file.read_bytes()
        (target / plain).write_bytes(data)
        extra = f"Filename: ./{plain}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        listed.append(f"{control.rstrip()}\n{extra}")
        found[plain] = PackageFile(plain, name, version, _licence(file, name))
    packages = "\n".join(listed).encode()
    (target / "Packages").write_bytes(packages)
    (target / "Release").write_text(
        f"Origin: flagprov bundle\nDate: {formatdate(usegmt=True)}\nSHA256:\n"
        f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    )
    _sign(target / "Release", target / "Release.gpg", target / KEY)
    return list(found.values())


def _licence(file: Path, name: str) -> str:
    """What the package says of all its files, where it says so in the form that programs read."""
    asked = f"usr/share/doc/{name}/copyright"
    unpack = ["dpkg-deb", "--fsys-tarfile", str(file)]  # complains when nobody reads on
    with (
        subprocess.Popen(unpack, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as archive,
    ):
        member = next((m for m in archive if m.name.removeprefix("./") == asked and m.isfile()), None)
        stream = archive.extractfile(member) if member else None
        text = stream.read().decode(errors="replace") if stream else ""
    said = re.search(r"^Files: *\*\n(?:.+\n)*?License: *(\S.*)$", text, re.MULTILINE)
    return said.group(1).strip() if said else ""


def _rpm(files: Iterable[Path], target: Path) -> list[PackageFile]:
    for file in files:
        shutil.copyfile(file, target / file.name)
    run(
        ["createrepo_c", "--quiet", "--general-compress-type=gz", str(target)],
        "install createrepo_c on this controller",
    )
    _sign(target / "repodata/repomd.xml", target / "repodata/repomd.xml.asc", target / KEY)
    (primary,) = (target / "repodata").glob("*primary.xml.gz")
    found = []
    for package in ElementTree.fromstring(gzip.decompress(primary.read_bytes())):
        version = package.find(f"{_COMMON}version")
        location = package.find(f"{_COMMON}location")
        if version is not None and location is not None:
            name = package.findtext(f"{_COMMON}name", "")
            licence = package.findtext(f"{_COMMON}format/{_RPM}license", "")
            number = f"{version.get('ver')}-{version.get('rel')}"
            found.append(PackageFile(str(location.get("href")), name, number, licence))
    return found


def _sign(file: Path, signature: Path, key: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="flagprov-") as home:
        alone = ["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        gpg = ["gpg", "--homedir", home, *alone]
        remedy = "install GnuPG on this controller (gpg and gpg-agent)"
        run([*gpg, "--quick-generate-key", "flagprov bundle", "rsa3072", "sign", "never"], remedy)
        try:
            run([*gpg, "--armor", "--output", str(signature), "--detach-sign", str(file)], remedy)
            run([*gpg, "--armor", "--output", str(key), "--export"], remedy)
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, capture_output=True)


def run(command: Sequence[str], remedy: str) -> str:
    """What a tool says; raises what it complains of, or how to get it."""
    if shutil.which(command[0]) is None:
        raise FlagprovError(f"{command[0]} is not on this controller", remedy=remedy)
    done = subprocess.run(command, capture_output=True, check=False, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise FlagprovError(f"{command[0]}: {said[-1] if said else f'ended with code {done.returncode}'}")
    return done.stdout
