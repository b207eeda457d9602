"""Packages of the operating system for a bundle: fetched here for hosts like this one, or made elsewhere."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flagprov.chips import load_chips
from flagprov.distribute.needs import Package, needs_of, split
from flagprov.distribute.repository import run
from flagprov.errors import FlagprovError, UsageError
from flagprov.host.packages import platform as this_platform
from flagprov.models.fleet import Fleet

Say = Callable[[str], None]
ON_GATEWAYS = ("host_baseline", "gateway")  # roles, as in their playbook: no chip names these
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:_~*-]*")  # dnf takes patterns
_APT = ("debian", "ubuntu")
_ELSEWHERE = "add a repository that has it, or fetch the packages elsewhere and give --packages"
_UPDATE = "see which repositories apt has (apt-get update), or give --packages"


def manager_of(platform: str) -> str:
    return "apt" if split(platform)[0] in _APT else "dnf"


def wanted(
    platform: str, chips: Iterable[str], fleet: Fleet | None, more: Sequence[str] = ()
) -> list[Package]:
    """What roles may install on hosts of these chips, and on gateways; `more` are names of packages."""
    known = load_chips()
    hosts = fleet.hosts if fleet else ()
    asked: list[tuple[Sequence[str], Mapping[str, Any]]] = []
    for chip in chips:
        of_chip = [host.variables for host in hosts if host.chip == chip] or [{}]
        asked += [(known[chip].roles, {**known[chip].pins, **variables}) for variables in of_chip]
    if fleet is None or fleet.gateways:
        gateways = [host.variables for host in fleet.gateways] if fleet else [{}]
        asked += [(ON_GATEWAYS, variables) for variables in gateways]
    manager = manager_of(platform)
    found = [
        package
        for roles, values in asked
        for need in needs_of(roles)
        if need.is_chosen(values)
        for package in need.packages(platform, manager, values)
    ]
    named = list(dict.fromkeys((*found, *(Package((name,)) for name in more))))
    for name in (name for package in named for name in package.names):
        if not _NAME.fullmatch(name):  # an option, a file or an address to a package manager
            raise UsageError(f"{name!r} is no name of a package", remedy="name one by its name alone")
    return named


def fetch(platform: str, packages: Sequence[Package], folder: Path, say: Say) -> list[Path]:
    """Files of the packages and of all that they depend on; `folder` keeps them for the next time."""
    here = this_platform()
    if platform != here:
        raise UsageError(
            f"{platform}: this controller is {here}, whose repositories are not for hosts of {platform}",
            remedy=f"on a machine of {platform}: {by_hand(platform, packages)}\n"
            f"then here: --packages {platform}=DIRECTORY",
        )
    folder = folder.absolute()  # apt reads another one below its own directories
    folder.mkdir(parents=True, exist_ok=True)
    say(f"fetching packages for {platform}")
    return (_from_apt if manager_of(platform) == "apt" else _from_dnf)(packages, folder)


def by_hand(platform: str, packages: Sequence[Package]) -> str:
    """The command that fills a directory on a machine of that platform."""
    if manager_of(platform) == "apt":
        names = [_apt_name(package.names[0], package) for package in packages]
        options = ["-o", "Dir::State::status=/dev/null", "-o", "Dir::Cache::archives=$PWD/packages"]
        words = ["apt-get", "install", "--download-only", "--yes", "--no-install-recommends", *options]
        made = "mkdir -p packages/partial && "
    else:
        names = [_dnf_name(package.names[0], package) for package in packages]
        words, made = ["dnf", "download", "--resolve", "--alldeps", "--destdir", "packages"], ""
    return made + " ".join(word if "$PWD" in word else shlex.quote(word) for word in (*words, *names))


def given(folder: Path) -> list[Path]:
    """Package files that a directory holds."""
    found = sorted(path for path in folder.rglob("*") if path.suffix in (".deb", ".rpm") and path.is_file())
    if not found:
        raise UsageError(f"{folder}: no .deb and no .rpm lies there")
    return found


def _from_apt(packages: Sequence[Package], folder: Path) -> list[Path]:
    """As for a host that has nothing; lists and files of our own, so that nobody has to be root."""
    for name in ("lists/partial", "archives/partial", "nothing/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "status").touch()
    ours = {
        "Dir::State": folder, "Dir::State::lists": folder / "lists", "Dir::State::status": folder / "status",
        "Dir::Cache": folder, "Dir::Cache::archives": folder / "archives", "Debug::NoLocking": "true",
        "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [word for name, value in ours.items() for word in ("-o", f"{name}={value}")]
    run(["apt-get", "--quiet", *options, "update"], _UPDATE)
    names = [_on_offer(package, options) for package in packages]
    words = ["apt-get", "--quiet", "--yes", "--no-install-recommends", *options]
    # Asked with no files there, for it names only those that are missing.
    asked = [*words, "-o", f"Dir::Cache::archives={folder / 'nothing'}", "--print-uris", "install", *names]
    needed = re.findall(r"^'[^']+' (\S+\.deb) \d+", run(asked, _UPDATE), re.MULTILINE)
    run([*words, "--download-only", "install", *names], _UPDATE)
    return [folder / "archives" / name for name in needed]


def _on_offer(package: Package, options: Sequence[str]) -> str:
    """The first of its names that apt has, at its version if it has one, as apt takes it."""
    for name in package.names:
        said = run(["apt-cache", *options, "madison", name], _UPDATE)
        rows = [[cell.strip() for cell in row.split("|")] for row in said.splitlines()]
        versions = [row[1] for row in rows if package.fits({row[0]: row[1]}) and row[0] == name]
        if versions:
            return f"{name}={versions[0]}" if package.version else name
    raise FlagprovError(
        f"apt on this controller offers no {' or '.join(package.names)} {package.wanted}".rstrip(),
        remedy=_ELSEWHERE,
    )


def _from_dnf(packages: Sequence[Package], folder: Path) -> list[Path]:
    target = folder / "archives"
    shutil.rmtree(target, ignore_errors=True)
    names = []
    for package in packages:
        known = [name for name in package.names if _dnf_offers(name, package)]
        if not known:
            raise FlagprovError(
                f"dnf on this controller offers no {' or '.join(package.names)} {package.wanted}".rstrip(),
                remedy=_ELSEWHERE,
            )
        names.append(_dnf_name(known[0], package))
    run(["dnf", "--quiet", "download", "--resolve", "--alldeps", "--destdir", str(target), *names], _UPDATE)
    return given(target)


def _dnf_offers(name: str, package: Package) -> bool:
    """It downloads the newest one; where any is new enough, that one is."""
    asked = ["dnf", "--quiet", "repoquery", "--queryformat", "%{epoch}:%{version}-%{release}\\n"]
    versions = run([*asked, _dnf_name(name, package)], _UPDATE).split()
    return any(package.fits({name: version}) for version in versions)


def _apt_name(name: str, package: Package) -> str:
    whole = "-" in package.version or "*" in package.version
    return f"{name}={package.version}{'' if whole else '-*'}" if package.version else name


def _dnf_name(name: str, package: Package) -> str:
    return f"{name}-{package.version}" if package.version else name
