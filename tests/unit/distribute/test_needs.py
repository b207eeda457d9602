"""Which packages a host of a fleet may need, and which it lacks."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from flagprov.apply.assets import ansible_root
from flagprov.chips import load_chips
from flagprov.distribute.needs import Package, is_version, lacking, needs, question
from flagprov.distribute.system_packages import by_hand, wanted
from flagprov.models.fleet import Connection, Fleet, Host

CPU = load_chips()["cpu-x86"].roles
NVIDIA = load_chips()["nvidia-h100"]
BARE = {
    "platform": "debian-12-x86_64",
    "manager": "apt",
    "kernel": "6.1.0-32-amd64",
    "there": [],
    "versions": {},
    "programs": {},
}


def names(platform: str, *chips: str, fleet: Fleet | None = None, more: tuple[str, ...] = ()) -> list[str]:
    return [str(package) for package in wanted(platform, chips, fleet, more)]


def test_a_platform_has_its_own_names() -> None:
    assert "docker.io 20.10.5 or later" in names("ubuntu-22.04-x86_64", "cpu-x86")
    assert not any("docker-cli" in name for name in names("debian-12-x86_64", "cpu-x86"))
    assert "docker-cli 20.10.5 or later" in names("debian-13-x86_64", "cpu-x86")
    assert "docker-engine 20.10.8 or later" in names("openeuler-22.03-aarch64", "ascend-a2")
    assert "docker-ce 20.10.5 or later" in names("rhel-9.4-x86_64", "nvidia-h100")
    assert {"systemd-timesyncd", "haproxy", "python3-apt"} <= {*names("debian-12-x86_64", "cpu-x86")}
    assert "chrony" in names("rocky-9.4-x86_64", "cpu-x86")


def test_pins_are_those_of_the_chip_under_the_variables_of_its_hosts() -> None:
    version = NVIDIA.pins["nvidia_container_toolkit_version"]
    assert f"libnvidia-container1 {version}" in names("ubuntu-22.04-x86_64", "nvidia-h100")
    host = Host(
        "h1",
        Connection("192.0.2.1"),
        "nvidia-h100",
        variables={
            "nvidia_container_toolkit_version": "1.17.0",
            "container_engine_package": "docker-ce=5:27*",
        },
    )
    found = names("ubuntu-22.04-x86_64", "nvidia-h100", fleet=Fleet(ansible_root(), (host,)))
    assert "libnvidia-container1 1.17.0" in found and "docker-ce 5:27*" in found
    assert "haproxy" not in found  # no gateways


def test_what_nobody_can_know_here_is_named_by_hand() -> None:
    assert not any("headers" in name for name in names("debian-12-x86_64", "nvidia-h100"))
    assert names("debian-12-x86_64", "cpu-x86", more=("linux-headers-amd64",))[-1] == "linux-headers-amd64"
    said = by_hand("ubuntu-22.04-x86_64", [Package(("docker.io",)), Package(("a", "b"), "1.2")])
    assert "--download-only" in said and said.endswith(" docker.io 'a=1.2-*'")
    said = by_hand("ubuntu-22.04-x86_64", [Package(("a",), "5:27*"), Package(("b",), "2.8-1")])
    assert said.endswith(" 'a=5:27*' b=2.8-1")
    assert by_hand("rhel-9.4-x86_64", [Package(("a",), "1.2")]).startswith("dnf download --resolve --alldeps")


def test_a_host_lacks_what_it_does_not_show() -> None:
    assert question(CPU, {})["op"] == "packages" and "/usr/bin/dockerd" in question(CPU, {})["paths"]
    assert [str(package) for package in lacking(CPU, {}, BARE, {})] == [
        "python3", "iproute2", "procps", "ca-certificates", "systemd-timesyncd",
        "docker.io 20.10.5 or later",
    ]  # fmt: skip
    there = ["/usr/bin/python3", "/sbin/ip", "/sbin/sysctl", "/usr/sbin/update-ca-certificates"]
    answer = {**BARE, "there": [*there, "/run/systemd/container"]}
    assert lacking(CPU, {}, answer, {"docker.io": "20.10.24+dfsg1-1"}) == []
    assert lacking(CPU, {"firewall_enabled": "no"}, answer, {"docker.io": "20.10.5"}) == []
    assert lacking(CPU, {"firewall_enabled": True}, answer, {"docker.io": "27"}) == [Package(("nftables",))]


def test_a_package_that_the_inventory_names_is_needed_at_its_version() -> None:
    values = {"gateway_package": "haproxy=2.8*"}
    wanted = [Package(("haproxy",), "2.8*")]
    assert lacking(("gateway",), values, BARE, {"haproxy": "2.9.1-1"}) == wanted
    assert lacking(("gateway",), values, BARE, {"haproxy": "2.8.3-1"}) == []
    exact = {"gateway_package": "haproxy=3:2.8.3-1.el9"}
    assert lacking(("gateway",), exact, BARE, {"haproxy": "2.8.3-1.el9"}) == []  # rpms say no epoch
    assert lacking(("gateway",), exact, BARE, {"haproxy": "2.8.3-2.el9"}) != []


def test_a_clock_that_the_site_keeps_in_another_way_needs_no_package() -> None:
    there = ["/usr/bin/python3", "/sbin/ip", "/sbin/sysctl", "/usr/sbin/update-ca-certificates"]
    answer = {**BARE, "there": [*there, "/usr/bin/dockerd"]}
    assert lacking(CPU, {}, answer, {}) == [Package(("systemd-timesyncd",))]
    assert lacking(CPU, {"host_baseline_time_sync": "yes"}, answer, {}) == [Package(("systemd-timesyncd",))]
    assert lacking(CPU, {"host_baseline_time_sync": "false"}, answer, {}) == []
    assert "/lib/systemd/system/ptp4l.service" in question(CPU, {})["paths"]  # as the role looks for it


def test_a_driver_that_is_not_compiled_there_needs_no_compiler() -> None:
    named = ["gcc", "make", "linux-headers-6.1.0-32-amd64"]
    assert [str(package) for package in lacking(("ascend_driver",), {}, BARE, {})] == named
    assert lacking(("ascend_driver",), {"ascend_driver_build_tools": False}, BARE, {}) == []


def test_a_pinned_package_is_needed_at_its_version() -> None:
    values: dict[str, Any] = {"nvidia_container_toolkit_version": "1.18.1"}
    roles = ("nvidia_container_toolkit",)
    asked = question(roles, values)["packages"]
    assert "libnvidia-container1" in asked
    there = {**BARE, "versions": dict.fromkeys(asked, "1.18.1-1")}
    assert lacking(roles, values, there, {}) == []
    old = {**BARE, "versions": dict.fromkeys(asked, "1.17.0-1")}
    assert len(lacking(roles, values, old, {})) == 4
    assert lacking(roles, values, old, dict.fromkeys(asked, "1.18.1-1")) == []
    assert len(lacking(roles, values, old, dict.fromkeys(asked, "1.18.10-1"))) == 4


def test_a_driver_has_one_of_several_names_and_wants_headers() -> None:
    values: dict[str, Any] = {"nvidia_driver_version": "580.126.20"}
    offered = {"nvidia-driver-cuda": "580.126.20-1", "nvidia-kernel-open-dkms": "580.126.20-1"}
    assert lacking(("nvidia_driver",), values, BARE, offered) == [Package(("linux-headers-6.1.0-32-amd64",))]
    files = {**values, "nvidia_driver_packages": ["/srv/driver.deb"]}
    answer = {**BARE, "there": ["/lib/modules/{kernel}/build"]}
    assert lacking(("nvidia_driver",), files, answer, {}) == []
    assert len(lacking(("nvidia_driver",), values, answer, {})) == 2


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ("1.18.1-1", "1.18.1", True),
        ("1:1.18.1~rc-1", "1.18.1", True),
        ("1.18.10-1", "1.18.1", False),
        ("9", "", True),
    ],
)
def test_versions_of_their_makers(found: str, wanted: str, same: bool) -> None:
    assert is_version(found, wanted) is same


def role_vars(role: str) -> dict[str, Any]:
    text = (ansible_root() / "roles" / role / "vars" / "main.yml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def test_the_names_are_those_of_the_roles() -> None:
    """Whoever changes what a role installs, changes what is packed for it."""
    engines = role_vars("container_engine")["_container_engine_distribution_packages"]
    packed = needs()["container_engine"][0].names
    for distribution, packages in engines.items():
        assert packages[0] == packed[distribution.lower()][0]
    baseline = role_vars("host_baseline")
    for manager in ("apt", "dnf"):
        ours = {name for need in needs()["host_baseline"] for name in need.names.get(manager, ())}
        assert set(baseline["_host_baseline_commands"][manager].values()) <= ours
        assert baseline["_host_baseline_time_sync_packages"][manager] in ours
    toolkit = role_vars("nvidia_container_toolkit")["_nvidia_container_toolkit_packages"]
    assert [*needs()["nvidia_container_toolkit"][0].names["apt"]] == toolkit
    assert set(needs()) <= {path.name for path in (ansible_root() / "roles").iterdir()}
    installing = {
        path.parts[-3]
        for path in (ansible_root() / "roles").glob("*/tasks/*.yml")
        if any(f"ansible.builtin.{module}:" in path.read_text() for module in ("apt", "dnf"))
    }
    assert installing <= set(needs())


@pytest.mark.parametrize(
    ("version", "values", "offered", "lacks"),
    [
        ("20.10.24", {}, {}, []),
        ("", {}, {}, []),  # it does not say: the role sees
        ("19.03.15", {}, {}, ["docker.io 20.10.5 or later"]),
        ("20.10.4", {}, {"docker.io": "19.3.1-1"}, ["docker.io 20.10.5 or later"]),
        ("19.03.15", {}, {"docker.io": "20.10.24+dfsg1-1"}, []),
        ("19.03.15", {}, {"docker.io": "5:27.1.1-1~debian.12~bookworm"}, []),
        ("19.03.15", {"container_engine_minimum_version": "18.09"}, {}, []),
        ("24.0.7", {"container_engine_minimum_version": 25}, {}, ["docker.io 25 or later"]),
    ],
)
def test_an_engine_that_is_too_old_is_not_there(
    version: str, values: dict[str, Any], offered: dict[str, str], lacks: list[str]
) -> None:
    assert question(["container_engine"], {})["programs"][0] == "/usr/bin/dockerd"
    answer = {**BARE, "there": ["/usr/bin/dockerd"], "programs": {"/usr/bin/dockerd": version}}
    assert [str(each) for each in lacking(["container_engine"], values, answer, offered)] == lacks


def test_the_least_engine_is_that_of_the_role() -> None:
    text = (ansible_root() / "roles/container_engine/defaults/main.yml").read_text(encoding="utf-8")
    (need,) = [need for need in needs()["container_engine"] if need.least]
    assert f"{need.least[0]}: " in text and f"default('{need.least[1]}')" in text


def test_the_other_kernel_module_is_named_where_the_inventory_asks_for_it() -> None:
    version = NVIDIA.pins["nvidia_driver_version"]
    host = Host(
        "h1", Connection("192.0.2.1"), "nvidia-h100", variables={"nvidia_driver_module": "proprietary"}
    )
    fleet = Fleet(ansible_root(), (host,))
    opened, closed = f"kmod-nvidia-open-dkms {version}", f"kmod-nvidia-latest-dkms {version}"
    found = names("rhel-9.4-x86_64", "nvidia-h100")
    assert opened in found and closed not in found
    found = names("rhel-9.4-x86_64", "nvidia-h100", fleet=fleet)
    assert opened not in found and closed in found
    values: dict[str, Any] = {"nvidia_driver_version": "580.126.20", "nvidia_driver_module": "proprietary"}
    answer = {
        **BARE,
        "there": ["/lib/modules/{kernel}/build"],
        "versions": {"nvidia-headless-580-open": "580.126.20-1", "nvidia-utils-580": "580.126.20-1"},
    }
    assert lacking(("nvidia_driver",), {**values, "nvidia_driver_module": "open"}, answer, {}) == []
    lacks = lacking(("nvidia_driver",), values, answer, {})  # the tools are the same for both
    assert [str(each) for each in lacks] == ["nvidia-headless-580 580.126.20"]
    assert lacking(("nvidia_driver",), values, answer, {"nvidia-kernel-dkms": "580.126.20-1"}) == []


def test_names_of_the_sites_own_take_the_place_of_the_usual_ones() -> None:
    values: dict[str, Any] = {
        "nvidia_driver_version": "580.126.20",
        "nvidia_driver_package_names": ["site-nvidia", "site-nvidia-utils"],
    }
    answer = {**BARE, "there": ["/lib/modules/{kernel}/build"]}
    named = ["site-nvidia 580.126.20", "site-nvidia-utils 580.126.20"]
    assert [str(each) for each in lacking(("nvidia_driver",), values, answer, {})] == named


@pytest.mark.parametrize("module", ["open", "proprietary"])
def test_names_of_drivers_are_those_of_the_role(module: str) -> None:
    loader, values = DataLoader(), {"nvidia_driver_version": "580.126.20", "nvidia_driver_module": module}
    known: dict[str, Any] = {}
    for file in ("defaults", "vars"):
        path = ansible_root() / f"roles/nvidia_driver/{file}/main.yml"
        known |= loader.load_from_file(str(path), trusted_as_template=True)
    templar = Templar(loader, variables={**known, **values, "_nvidia_driver_look": {"kernel_next": "6"}})
    sets = templar.template(trust_as_template("{{ _nvidia_driver_known_sets }}"))
    parts = [need for need in needs()["nvidia_driver"] if need.variable and need.is_chosen(values)]
    for manager, platform in (("apt", "ubuntu-22.04-x86_64"), ("dnf", "rhel-9.4-x86_64")):
        ours = [each.names for need in parts for each in need.packages(platform, manager, values)]
        assert {name for names in ours for name in names} == {name for each in sets[manager] for name in each}
