"""What the Ascend roles know has to be what chips and flagprov know."""

from __future__ import annotations

from typing import Any

import yaml

from flagprov.apply.assets import ansible_root
from flagprov.chips import load_chips

CHIPS = [chip for chip in load_chips().values() if "ascend_container" in chip.roles]


def read(path: str) -> Any:
    return yaml.safe_load((ansible_root() / "roles" / path).read_text(encoding="utf-8"))


def test_cann_and_driver_pairs_are_the_chips() -> None:
    table = read("ascend_container/defaults/main.yml")["ascend_container_cann_drivers"]
    assert [chip.health.sdk_drivers for chip in CHIPS] == [table, table]


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
