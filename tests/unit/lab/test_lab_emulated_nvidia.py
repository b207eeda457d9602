"""The emulated NVIDIA packages and tools: what they print is what the parsers of host facts understand."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from flagprov.host.facts import nvidia as parse
from flagprov.lab.emulated import nvidia


def unpacked(deb: Path) -> dict[str, str]:
    """path -> text of a Debian package's files."""
    content, at, found = deb.read_bytes(), 8, {}
    while at < len(content):
        name, size = content[at : at + 16].decode().strip(), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(content[at + 60 : at + 60 + size])) as archive:
                for member in archive.getmembers():
                    file = archive.extractfile(member)
                    found[member.name.removeprefix("./")] = file.read().decode() if file else ""
        at += 60 + size + size % 2
    return found


class Host:
    """The tools of both branches, as if installed on the machine that `keys` describe."""

    def __init__(self, root: Path, packages: Path) -> None:
        self.root = root
        for folder in ("etc", "run", "proc/driver/nvidia"):
            (root / folder).mkdir(parents=True)
        (root / "etc/hostname").write_text("h100-1\n")
        for version, name in (("535", "535_535.183.06-1"), ("580", "580_580.126.20-1")):
            text = unpacked(packages / f"nvidia-utils-{name}_all.deb")["usr/bin/nvidia-smi"]
            for folder in ("/etc/", "/run/", "/proc/"):
                text = text.replace(folder, f"{root}{folder}")
            (root / f"nvidia-smi-{version}").write_text(text)

    def describe(self, keys: str, loaded: str = nvidia.NEW_DRIVER) -> None:
        (self.root / "etc/flagprov-emulated").write_text(f"CHIP=nvidia-h100\n{keys}")
        line = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {loaded}  Release Build\n"
        (self.root / "proc/driver/nvidia/version").write_text(line)

    def smi(self, *arguments: str, branch: str = "580") -> subprocess.CompletedProcess[str]:
        argv = ["sh", str(self.root / f"nvidia-smi-{branch}"), *arguments]
        return subprocess.run(argv, capture_output=True, text=True)

    def devices(self) -> list[dict[str, object]]:
        query = ["--format=csv,noheader,nounits"]
        gpus = self.smi(*query, f"--query-gpu={parse.QUERY}").stdout
        return parse.devices(gpus, self.smi(*query, f"--query-compute-apps={parse.APPS}").stdout)[0]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("apt")
    nvidia.build_apt(directory)
    return directory


@pytest.fixture
def host(tmp_path: Path, packages: Path) -> Host:
    return Host(tmp_path, packages)


def test_devices_are_those_that_are_described(host: Host) -> None:
    host.describe('DEVICES=4\nUNHEALTHY="1"\nBUSY="2 3"\nFABRIC=Completed\n')
    found = host.devices()
    assert [device["health"] for device in found] == ["ok", "lost", "ok", "ok"]
    assert [bool(device["processes"]) for device in found] == [False, False, True, True]
    assert found[0]["name"] == "NVIDIA H100 80GB HBM3"


def test_the_report_has_fabric_minors_and_errors(host: Host) -> None:
    host.describe('DEVICES=2\nUNHEALTHY=1\nMINORS="1 0"\nFABRIC=Completed\n')
    report = parse.report(host.smi("-q", "-x").stdout)
    assert (report["driver"], report["cuda"]) == (nvidia.NEW_DRIVER, "13.0")
    assert [gpu["minor"] for gpu in report["gpus"]] == [1, 0]
    assert [gpu["ecc_uncorrected"] for gpu in report["gpus"]] == [0, 3]
    assert {(gpu["fabric_state"], gpu["fabric_status"]) for gpu in report["gpus"]} == {
        ("Completed", "Success")
    }


def test_branch_570_and_later_no_longer_say_whether_a_reset_is_required(host: Host) -> None:
    host.describe("DEVICES=2\nFABRIC=Completed\n")
    said = host.smi("-q", "-x").stdout
    assert said.count("<reset_required>Requested functionality has been deprecated<") == 2
    assert (parse.report(said)["unread"], parse.report(said)["gpus"][0]["reset_required"]) == ([], None)
    host.describe("DEVICES=2\nFABRIC=Completed\n", loaded=nvidia.OLD_DRIVER)
    assert parse.report(host.smi("-q", "-x", branch="535").stdout)["gpus"][0]["reset_required"] is False


def test_links(host: Host) -> None:
    host.describe("DEVICES=2\nLINKS_DOWN=1\nFABRIC=Completed\n")
    found = parse.links(host.smi("nvlink", "-s").stdout)
    assert [(gpu["up"], gpu["down"]) for gpu in found] == [(18, []), (16, [0, 1])]


def test_another_version_loaded_is_a_mismatch(host: Host) -> None:
    host.describe("DEVICES=2\n", loaded=nvidia.OLD_DRIVER)
    said = host.smi("-q", "-x")
    assert said.returncode == 18
    assert "Driver/library version mismatch" in said.stdout
    assert host.smi("-L", branch="535").returncode == 0


def test_nothing_loaded(host: Host) -> None:
    (host.root / "etc/flagprov-emulated").write_text("DEVICES=1\n")
    assert host.smi().returncode == 9


def test_the_index_names_every_package_with_its_sum(packages: Path) -> None:
    index = (packages / "Packages").read_text()
    for name in ("nvidia-headless-580-open", "nvidia-fabricmanager", "nvidia-container-toolkit"):
        assert f"Package: {name}\n" in index
    assert index.count("SHA256: ") == len(list(packages.glob("*.deb")))
