"""Package managers are asked so that they do what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from flagprov.distribute import system_packages
from flagprov.distribute.needs import Package
from flagprov.errors import FlagprovError, UsageError


def test_apt_is_given_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others it reads below its own directories."""
    asked: list[Sequence[str]] = []

    def run(command: Sequence[str], remedy: str) -> str:
        asked.append(command)
        if command[0] == "apt-cache":
            return "docker.io | 20.10.24 | there"
        return "'http://mirror.example/d.deb' docker.io_20.10.24_amd64.deb 1 SHA256:x"

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(system_packages, "run", run)
    monkeypatch.setattr(system_packages, "this_platform", lambda: "debian-12-x86_64")
    (file,) = system_packages.fetch("debian-12-x86_64", [Package(("docker.io",))], Path("kept"), print)
    assert file == tmp_path / "kept" / "archives" / "docker.io_20.10.24_amd64.deb"
    values = [word.split("=", 1)[1] for command in asked for word in command if word.startswith("Dir::")]
    assert values and all(Path(value).is_absolute() for value in values)


@pytest.mark.parametrize("name", ["--setopt=pluginpath=/tmp", "-oDir::Bin=/tmp", "/tmp/a.rpm", "a b", ""])
def test_what_is_no_name_of_a_package_reaches_no_package_manager(name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a package"):
        system_packages.wanted("rocky-9-x86_64", (), None, (name,))
    assert system_packages.wanted("rocky-9-x86_64", (), None, ("docker-ce-3:26.*", "g++"))


@pytest.mark.parametrize(
    ("package", "said"),
    [
        (Package(("docker-engine",), least="20.10.5"), "docker-engine 20.10.5 or later"),
        (Package(("docker-engine",), version="26.*"), "docker-engine 26.*"),
    ],
)
def test_dnf_is_asked_for_a_version_that_hosts_take(
    package: Package, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle with an older one is refused by the fleet, with the same command as the way out."""
    offered = ["0:18.09.0-1\n\n"]

    def run(command: Sequence[str], remedy: str) -> str:
        if "repoquery" in command:
            return offered[-1]
        target = Path(command[command.index("--destdir") + 1])
        target.mkdir()
        (target / "docker-engine.rpm").touch()
        return ""

    monkeypatch.setattr(system_packages, "run", run)
    monkeypatch.setattr(system_packages, "this_platform", lambda: "openeuler-22.03-x86_64")
    with pytest.raises(FlagprovError) as caught:
        system_packages.fetch("openeuler-22.03-x86_64", [package], tmp_path, print)
    assert caught.value.message == f"dnf on this controller offers no {said}"
    offered.append(f"{offered[0]}3:26.1.4-1.el9\n")
    (file,) = system_packages.fetch("openeuler-22.03-x86_64", [package], tmp_path, print)
    assert file.name == "docker-engine.rpm"
