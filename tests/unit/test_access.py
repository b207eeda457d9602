"""How a host gives containers its NPUs: by mounts or runtime, with whose CANN, under which numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flagprov.access import fit_chip, fit_variant, logical_numbers
from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.container import create_body
from flagprov.host.facts import ascend as parse
from flagprov.models.desired import Node, Replica
from flagprov.models.fleet import Connection, Host
from flagprov.models.image import ImageFacts
from flagprov.models.observed import Device, Survey
from flagprov.observe import read_device
from flagprov.runner.render import render
from flagprov.serving import Serving, launch_inputs
from flagprov.wait_script import wait_script

CASES = Path(__file__).parents[1] / "cases" / "facts"
FACTS = ImageFacts(
    digest="sha256:" + "0" * 64,
    arch="arm64",
    python="3.11.1",
    vllm="0.9.0",
    flagscale="0.8.0",
    flaggems="2.2",
    flaggems_enable=("lib", "unused", "record", "path"),
    flagscale_deploy="experiment.runner.deploy",
)
SURVEY = Survey("h1", "aarch64", "openEuler", "5.10", 192, 1 << 20, "20.10.24", None, {}, ())


def npus(table: str, mapping: str = "") -> tuple[Device, ...]:
    found = parse.table((CASES / "npu_smi" / f"{table}.txt").read_text())["devices"]
    entries = parse.mapping((CASES / "npu_mapping" / f"{mapping}.txt").read_text()) if mapping else []
    return tuple(read_device(entry) for entry in parse.numbered(found, entries))


def serving(
    chip: str = "ascend-a3",
    devices: tuple[int, ...] = (0,),
    there: tuple[Device, ...] = (),
    privileged: bool = True,
    nodes: tuple[Node, ...] = (),
    **host: Any,
) -> Serving:
    release, kind = load_release("qwen3-4b"), load_chips()[chip]
    at = Host("h1", Connection("192.0.2.1"), chip=chip, **host)
    variant = fit_variant(release.variants[chip], kind, at)
    if not privileged:
        container = variant.container.model_copy(update={"privileged": False})
        variant = variant.model_copy(update={"container": container})
    if nodes:
        variant = variant.model_copy(
            update={"launch": variant.launch.model_copy(update={"kind": "nodes"}), "nodes": len(nodes)}
        )
    hosts = tuple(node.host for node in nodes) or ("h1",)
    replica = Replica("qwen3-4b-0", "qwen3-4b", chip, hosts, devices, 9010, nodes)
    survey = replace(SURVEY, devices={"npu-smi": there})
    return Serving(release, variant, fit_chip(kind, at), replica, at, survey, FACTS, "probe")


def environment(made: Serving) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in create_body(made)["Env"])


def targets(made: Serving) -> list[str]:
    return [mount["Target"] for mount in create_body(made)["HostConfig"]["Mounts"]]


def sources(made: Serving) -> list[str]:
    return list(json.loads(render(launch_inputs(made))["launch.json"])["source"])


def test_numbers_agree_where_nothing_is_missing() -> None:
    assert logical_numbers(npus("a3-idle")) == {index: index for index in range(16)}
    assert environment(serving(devices=(6, 7), there=npus("a3-idle")))["ASCEND_RT_VISIBLE_DEVICES"] == "6,7"


def test_an_npu_is_missing() -> None:
    there = npus("a2-gap")
    assert [device.index for device in there] == [0, 1, 2, 4, 5, 6, 7]
    assert logical_numbers(there) == {0: 0, 1: 1, 2: 2, 4: 3, 5: 4, 6: 5, 7: 6}
    made = serving("ascend-a2", devices=(5,), there=there)
    assert environment(made)["ASCEND_RT_VISIBLE_DEVICES"] == "4"
    # The node is still called by its physical number.
    assert "/dev/davinci5" in wait_script(made)


def test_the_tool_says_another_order() -> None:
    there = (
        Device(0, "910B1", 65536, card=0, logical=4),
        Device(1, "910B1", 65536, card=1, logical=7),
    )
    assert logical_numbers(there) == {0: 4, 1: 7}
    assert environment(serving("ascend-a2", (1,), there))["ASCEND_RT_VISIBLE_DEVICES"] == "7"


def test_a_container_that_gets_only_its_own_devices_counts_anew() -> None:
    made = serving(devices=(6, 7), there=npus("a3-idle"), privileged=False)
    assert environment(made)["ASCEND_RT_VISIBLE_DEVICES"] == "0,1"


def test_a_host_that_was_not_asked_yet() -> None:
    assert environment(serving(devices=(5,)))["ASCEND_RT_VISIBLE_DEVICES"] == "5"


def test_addresses_of_npu_ports_go_into_replicas_over_several_hosts_only() -> None:
    alone = serving()
    assert "/etc/hccn.conf" not in targets(alone)
    nodes = (Node("h1", "192.0.2.1", "eth0"), Node("h2", "192.0.2.2", "eth0"))
    group = serving(nodes=nodes)
    assert "/etc/hccn.conf" in targets(group)
    assert "test -e /etc/hccn.conf" in wait_script(group)
    assert "test -e /usr/local/Ascend/driver" in wait_script(alone)


def test_the_runtime_brings_devices_and_driver() -> None:
    made = serving(devices=(6, 7), there=npus("a3-idle"), ascend_access="runtime")
    body = create_body(made)
    assert body["HostConfig"]["Runtime"] == "ascend"
    assert environment(made)["ASCEND_VISIBLE_DEVICES"] == "6,7"
    there = targets(made)
    brought = ("/usr/local/Ascend/driver", "/usr/local/Ascend/driver/lib64", "/usr/local/dcmi")
    assert not {*brought, "/usr/local/bin/npu-smi"} & set(there)
    assert {
        "/usr/local/Ascend/driver/version.info",
        "/usr/local/Ascend/driver/tools",
        "/usr/local/sbin/npu-smi",
        "/etc/ascend_install.info",
    } <= set(there)
    # A directory that the card mounts for a file of the driver would hide what the runtime puts there.
    assert "/usr/local/sbin" not in there
    assert {"/data", "/etc/localtime"} <= set(there)


def test_the_runtime_does_not_bring_addresses_of_npu_ports() -> None:
    nodes = (Node("h1", "192.0.2.1", "eth0"), Node("h2", "192.0.2.2", "eth0"))
    made = serving(nodes=nodes, ascend_access="runtime")
    assert "/etc/hccn.conf" in targets(made)
    assert "/etc/hccn.conf" not in targets(serving(ascend_access="runtime"))


def test_mounts_leave_the_runtime_out() -> None:
    body = create_body(serving())
    assert "Runtime" not in body["HostConfig"]
    assert "ASCEND_VISIBLE_DEVICES" not in environment(serving())


@pytest.mark.parametrize("path", [None, "/opt/Ascend/ascend-toolkit/"])
def test_the_hosts_own_cann(path: str | None) -> None:
    made = serving(cann="host", cann_path=path)
    folder = (path or "/usr/local/Ascend/ascend-toolkit").rstrip("/")
    above = folder.rpartition("/")[0]
    mounts = {mount["Target"]: mount for mount in create_body(made)["HostConfig"]["Mounts"]}
    for part in (folder, f"{above}/nnal"):
        assert mounts[part] == {"Type": "bind", "Source": part, "Target": part, "ReadOnly": True}
    # Only the host's scripts: the image's would mix the two.
    assert sources(made) == [f"{folder}/set_env.sh", f"{above}/nnal/atb/set_env.sh"]


def test_the_images_cann() -> None:
    assert sources(serving()) == [
        "/usr/local/Ascend/ascend-toolkit/set_env.sh",
        "/usr/local/Ascend/cann/set_env.sh",
        "/usr/local/Ascend/nnal/atb/set_env.sh",
    ]


def test_other_chips_know_neither() -> None:
    chip = load_chips()["nvidia-h100"]
    host = Host("h1", Connection("192.0.2.1"), ascend_access="runtime", cann="host")
    variant = load_release("qwq-32b").variants["nvidia-h100"]
    assert fit_chip(chip, host) is chip
    assert fit_variant(variant, chip, host) is variant


def test_what_the_roles_install_is_no_older_than_what_is_accepted() -> None:
    for name in ("ascend-a2", "ascend-a3"):
        chip = load_chips()[name]
        assert chip.pins["ascend_driver_minimum_version"] == chip.health.oldest_driver
