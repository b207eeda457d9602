"""The emulated Ascend packages and tools: what they print is what the parsers of host facts understand."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from flagprov.host.facts import ascend as parse
from flagprov.lab.emulated import ascend


@pytest.fixture
def packages(tmp_path: Path) -> dict[str, str]:
    return ascend.build(tmp_path / "packages", "x86_64")


class Tools:
    """The tools of a driver package, as if installed below `root` on the machine that `keys` describe."""

    def __init__(self, root: Path, package: Path) -> None:
        self.root = root
        driver = root / "usr/local/Ascend/driver"
        driver.mkdir(parents=True)
        head, _, payload = package.read_bytes().partition(b"\n__PAYLOAD__\n")
        assert b"\nkind=driver " in head
        subprocess.run(["tar", "-xz", "-C", driver], input=payload, check=True)
        for tool in ("emulated/npu-smi", "tools/hccn_tool"):
            path = driver / tool
            text = path.read_text().replace("/usr/local", f"{root}/usr/local")
            for folder in ("/etc/", "/run/"):
                text = text.replace(folder, f"{root}{folder}")
            path.write_text(text)
        self.driver = driver
        (root / "etc").mkdir()

    def describe(self, keys: str, loaded: str = "25.2.0") -> None:
        (self.root / "etc/flagprov-emulated").write_text(keys)
        (self.root / "run/flagprov-emulated").mkdir(parents=True, exist_ok=True)
        (self.root / "run/flagprov-emulated/ascend-driver").write_text(f"{loaded}\n")

    def run(self, tool: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", self.driver / tool, *arguments], capture_output=True, text=True)

    def npu_smi(self, *arguments: str) -> str:
        said = self.run("emulated/npu-smi", *arguments)
        assert said.returncode == 0, said
        return said.stdout


@pytest.fixture
def tools(tmp_path: Path, packages: dict[str, str]) -> Tools:
    return Tools(tmp_path / "host", tmp_path / "packages" / ascend.driver_name("A3", "25.2.0", "x86_64"))


def test_packages_are_the_same_bytes_each_time(packages: dict[str, str], tmp_path: Path) -> None:
    again = ascend.build(tmp_path / "again", "x86_64")
    assert again == packages
    assert "Ascend-hdk-910b-npu-driver_25.0.rc1_linux-x86-64.run" in packages
    for name, digest in packages.items():
        assert hashlib.sha256((tmp_path / "again" / name).read_bytes()).hexdigest() == digest


def test_a_package_knows_its_version_and_its_sum(packages: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "packages" / ascend.driver_name("910b", "25.2.0", "x86_64")
    assert subprocess.check_output(["sh", path, "--version"], text=True) == "25.2.0\n"
    assert "All good" in subprocess.check_output(["sh", path, "--check"], text=True)
    path.write_bytes(path.read_bytes()[:-1])
    cut = subprocess.run(["sh", path, "--check"], capture_output=True, text=True)
    assert (cut.returncode, "Error in SHA256" in cut.stdout) == (1, True)


def test_a_package_leaves_real_hosts_alone(packages: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "packages" / ascend.driver_name("910b", "25.2.0", "x86_64")
    said = subprocess.run(["sh", path, "--full", "--quiet"], capture_output=True, text=True)
    assert said.returncode == 1
    assert "not an emulated one" in said.stdout


def test_a3_has_two_devices_on_a_card(tools: Tools) -> None:
    tools.describe("CHIP=ascend-a3\nDEVICES=16\n")
    found = parse.table(tools.npu_smi("info"))
    assert found["version"] == "25.2.0"
    assert [device["phy_id"] for device in found["devices"]] == list(range(16))
    assert {device["health"] for device in found["devices"]} == {"ok"}
    logical = parse.mapping(tools.npu_smi("info", "-m"))
    assert [entry["logic_id"] for entry in logical] == list(range(16))


@pytest.mark.parametrize("chip", ["ascend-a2", "ascend-a3"])
def test_a_device_is_ill_one_is_missing_and_one_is_busy(tools: Tools, chip: str) -> None:
    tools.describe(f'CHIP={chip}\nDEVICES=8\nUNHEALTHY="3"\nMISSING="2 5"\nBUSY="0 7"\n')
    found = {device["index"]: device for device in parse.table(tools.npu_smi("info"))["devices"]}
    assert sorted(found) == [0, 1, 3, 4, 6, 7]
    assert [index for index, device in found.items() if device["health"] != "ok"] == [3]
    assert {index: device["processes"] for index, device in found.items() if device["processes"]} == {
        0: ["python3 (pid 4242)"],
        7: ["python3 (pid 4249)"],
    }
    entries = parse.mapping(tools.npu_smi("info", "-m"))
    assert [entry["logic_id"] for entry in entries] == list(range(6))
    health = tools.npu_smi("info", "-t", "health", "-i", str(found[3]["card"]))
    assert "Alarm" in health


def test_a_driver_that_is_not_loaded_says_so(tools: Tools) -> None:
    tools.describe("CHIP=ascend-a3\nDEVICES=16\n")
    (tools.root / "run/flagprov-emulated/ascend-driver").unlink()
    said = tools.run("emulated/npu-smi", "info")
    assert said.returncode != 0
    assert "dcmi module initialize failed" in said.stdout


def test_links(tools: Tools) -> None:
    tools.describe('CHIP=ascend-a2\nDEVICES=8\nLINKS_DOWN="1"\n')
    states = [tools.run("tools/hccn_tool", "-i", str(index), "-link", "-g").stdout for index in (0, 1)]
    assert [parse.hccn(state) for state in states] == ["UP", "DOWN"]
    assert tools.run("tools/hccn_tool", "-i", "9", "-link", "-g").returncode == 1


def test_how_ports_are_set(tools: Tools) -> None:
    tools.describe("CHIP=ascend-a2\nDEVICES=2\n")
    (tools.root / "etc/hccn.conf").write_text("address_0=192.0.2.80\ngateway_0=192.0.2.1\n")

    def say(index: int, option: str) -> str:
        return tools.run("tools/hccn_tool", "-i", str(index), option, "-g").stdout

    assert [parse.hccn_address(say(index, "-ip")).get("address") for index in (0, 1)] == ["192.0.2.80", None]
    assert [parse.hccn_gateway(say(index, "-gateway")) for index in (0, 1)] == ["192.0.2.1", ""]
    assert parse.hccn_tls(say(0, "-tls")) is False
