"""What the Ascend roles know has to be what chips and flagprov know."""

from __future__ import annotations

from typing import Any

import yaml

from flagprov.apply.assets import ansible_root
from flagprov.chips import load_chips
from flagprov.lab.emulated import ascend

CHIPS = [chip for chip in load_chips().values() if "ascend_container" in chip.roles]


def read(path: str) -> Any:
    return yaml.safe_load((ansible_root() / "roles" / path).read_text(encoding="utf-8"))


def test_packages_are_called_as_the_vendor_calls_them() -> None:
    for chip, hardware in zip(CHIPS, ("910b", "A3"), strict=True):
        prefix, version = chip.pins["ascend_driver_prefix"], chip.pins["ascend_driver_version"]
        name = ascend.driver_name(hardware, version, "aarch64")
        assert name == f"{prefix}-npu-driver_{version}_linux-aarch64.run"
    assert name == "Atlas-A3-hdk-npu-driver_25.2.0_linux-aarch64.run"


def test_a_container_without_privileges_may_open_nodes_that_are_not_roots() -> None:
    for chip in CHIPS:
        assert "DAC_OVERRIDE" in chip.least.cap_add


def test_the_runtime_is_called_by_the_name_that_it_knows_its_platform_by() -> None:
    tasks = read("ascend_container/tasks/runtime.yml")
    run = next(task for task in tasks if task["name"] == "Run the installer")
    assert "{{ _ascend_container_path }}" in run["ansible.builtin.command"]["argv"]
    assert read("ascend_container/vars/main.yml")["_ascend_container_path"].endswith(
        "/{{ _ascend_container_package }}"
    )


def test_the_role_looks_at_all_that_a_container_mounts() -> None:
    known = read("ascend_container/vars/main.yml")
    tools = known["_ascend_container_tools"]
    for chip in CHIPS:
        optional = [mount.source for mount in chip.mounts if mount.optional]
        assert optional == tools
        for mount in chip.mounts:
            if mount.source not in tools:
                assert mount.source in str(known)


def test_the_runtime_is_the_one_that_containers_ask_for() -> None:
    known = read("ascend_container/vars/main.yml")
    for chip in CHIPS:
        assert chip.runtime is not None
        assert f"'runtimes': {{'{chip.runtime.name}'" in known["_ascend_container_config"]


def test_pins_are_variables_of_the_roles() -> None:
    for chip in CHIPS:
        for name in chip.pins:
            role = next(role for role in chip.roles if name.startswith(f"{role}_"))
            assert f"flagprov_pins | default({{}})).{name}" in read(f"{role}/defaults/main.yml")[name]
