"""Checks of what only replicas over several hosts need; each ill host is a healthy one with one change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from doctor_values import ALL, ascend, check, h100, state, subject

from flagprov.doctor.read import read_facts
from flagprov.doctor.subject import Subject

GPU, A2, A3 = "nvidia-h100", "ascend-a2", "ascend-a3"


def port(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "device": f"mlx5_{number}", "port": 1, "model": "MT4129", "state": "ACTIVE", "physical": "LinkUp",
        "rate_gbps": 400.0, "link_layer": "InfiniBand", "interfaces": [f"ib{number}"], "addresses": [],
        "bus": None, "numa_node": 0, "gids": [], **changes,
    }  # fmt: skip


def roce(number: int, index: int | None = 3, **changes: Any) -> dict[str, Any]:
    address = f"0000:0000:0000:0000:0000:ffff:c000:020{number}"
    gids = [{"index": index, "address": address, "type": "RoCE v2", "interface": f"eth{number}"}]
    rest = {
        "link_layer": "Ethernet",
        "interfaces": [f"eth{number}"],
        "gids": gids if index is not None else [],
    }
    return port(number, **{**rest, **changes})


def rdma(*ports: dict[str, Any], **changes: Any) -> dict[str, Any]:
    found = {"ports": list(ports), "outward": ["eno1"], "cards": len(ports), "peer_modules": []}
    return h100(rdma={**found, **changes})


def pair(here: dict[str, Any], there: dict[str, Any], chip: str, release: str, **more: Any) -> Subject:
    """A host with a partner in the same replica, and one that has nothing to do with it."""
    variables = more.pop("variables", {})
    facts = {"h2": read_facts("h2", there), "h3": read_facts("h3", {**there, "rdma": None, "ascend": None})}
    found = subject(here, chip, release, peers=facts, nodes=2, **more)
    assert found.serving is not None
    replicas = tuple(replace(each, hosts=("h1", "h2")) for each in found.serving.replicas)
    host = replace(found.host, variables=variables)
    return replace(found, host=host, serving=replace(found.serving, replicas=replicas))


def gpus(here: dict[str, Any], there: dict[str, Any] | None = None, **more: Any) -> Subject:
    return pair(here, there or rdma(port(0), port(1)), GPU, "qwq-32b", **more)


def test_nothing_is_said_where_replicas_are_of_one_host() -> None:
    alone = subject(rdma(), GPU, "qwq-32b")
    assert ALL["rdma"](alone) is ALL["gpudirect"](alone) is None
    assert ALL["rdma"](subject(rdma(), GPU)) is None
    assert ALL["rdma"](subject(rdma(), "cpu-x86", "qwen3-tiny", nodes=2)) is None


def test_ports_that_are_well() -> None:
    found = check("rdma", gpus(rdma(port(0), port(1))))
    assert (found.state, found.message) == ("ok", "mlx5_0:1, mlx5_1:1: 400 Gb/s InfiniBand")
    found = check("rdma", gpus(rdma(roce(0), roce(1)), rdma(roce(0), roce(1))))
    assert (found.state, found.message) == ("ok", "mlx5_0:1, mlx5_1:1: 400 Gb/s Ethernet")


FALLS_BACK = "NCCL would silently fall back to TCP"
DOWN = {"state": "DOWN", "physical": "Polling"}


@pytest.mark.parametrize(
    ("facts", "expected", "words", "way"),
    [
        (rdma(cards=8), "failed", "8 RDMA cards on the PCI bus, no RDMA device of the kernel: " + FALLS_BACK,
         "mlx5_ib"),
        (rdma(), "failed", "there is no RDMA card, h2 of the same replica has some: " + FALLS_BACK, "=off"),
        (rdma(port(0, **DOWN)), "failed", "no RDMA port is active (mlx5_0:1 DOWN, Polling): " + FALLS_BACK,
         "cable"),
        (rdma(port(0), port(1, **DOWN)), "failed", "mlx5_1:1 is down here and active on h2", "cable"),
        (rdma(port(0, link_layer="Unspecified")), "unknown", "mlx5_0:1 is of a kind that NCCL uses by",
         "NCCL_DEBUG=INFO"),
        (rdma(port(0)), "warning", "1 port here, 2 on h2", "alike"),
        (rdma(port(0), port(1, state="INIT")), "failed", "mlx5_1:1 is INIT: no subnet manager", "opensm"),
        (rdma(port(0), port(1, rate_gbps=200.0)), "failed", "RDMA ports of several kinds (mlx5_0", "cable"),
        (rdma(port(0), roce(1)), "failed", "400 Gb/s Ethernet, MT4129): none is chosen", "=mlx5_0:1 of"),
        (rdma(port(0, model="MT1"), port(1)), "failed", "RDMA ports of several kinds", "or off"),
        (rdma(port(0, rate_gbps=200.0), port(1, rate_gbps=200.0)), "warning", "200 Gb/s here, 400 Gb/s on h2",
         "ethtool"),
        (rdma(roce(0), roce(1)), "failed", "Ethernet here, InfiniBand on h2", "one network"),
    ],
)  # fmt: skip
def test_ports_that_are_ill(facts: dict[str, Any], expected: str, words: str, way: str) -> None:
    found = check("rdma", gpus(facts))
    assert found.state == expected
    assert words in found.message
    assert way in found.remedy


def test_no_card_anywhere_may_be_meant() -> None:
    found = check("rdma", gpus(rdma(), rdma()))
    assert (found.state, found.message) == ("warning", "there is no RDMA card: NCCL talks TCP")
    assert state("rdma", gpus(rdma(), variables={"flagprov_cluster_rdma": "off"})) == "ok"
    assert state("rdma", gpus(rdma(), env={"NCCL_IB_DISABLE": "1"})) == "ok"
    assert state("rdma", gpus(h100())) == "unknown"


def test_ports_that_nobody_has_connected_are_no_finding() -> None:
    assert state("rdma", gpus(rdma(port(0), port(1), port(9, **DOWN)))) == "ok"


def test_the_hosts_own_traffic_is_left_alone_and_kinds_are_named() -> None:
    own = roce(7, interfaces=["eno1", "bond0"], rate_gbps=25.0, model="MT4127")
    assert state("rdma", gpus(rdma(port(0), port(1), own))) == "ok"
    storage = roce(8, index=None, rate_gbps=200.0)
    several = rdma(port(0), port(1), storage)
    assert state("rdma", gpus(several)) == "failed"
    assert state("rdma", gpus(several, variables={"flagprov_cluster_rdma": "mlx5_0,mlx5_1"})) == "ok"
    assert state("rdma", gpus(several, variables={"flagprov_cluster_rdma": "off"})) == "ok"
    slow = rdma(port(0), port(1, rate_gbps=200.0))
    found = check("rdma", gpus(slow, slow, variables={"flagprov_cluster_rdma": "mlx5_0,mlx5_1"}))
    assert (found.state, found.message) == ("warning", "mlx5_1:1 has 200 Gb/s, others 400 Gb/s")
    # Where a partner is logged in to, is not known here: its ports are compared all the same.
    found = check(
        "rdma", gpus(rdma(port(0), port(1, **DOWN)), rdma(port(0), port(1), roce(7, rate_gbps=25.0)))
    )
    assert (found.state, found.message) == ("failed", "mlx5_1:1 is down here and active on h2")
    alone = rdma(roce(7, interfaces=["eno1"]))
    found = check("rdma", gpus(alone, alone))
    assert (found.state, "carries the host's other traffic" in found.message) == ("warning", True)
    assert state("rdma", gpus(alone, alone, variables={"flagprov_cluster_rdma": "mlx5_7:1"})) == "ok"


def test_ports_that_the_inventory_names() -> None:
    named = {"flagprov_cluster_rdma": ["mlx5_0", "mlx5_4:1"]}
    found = check("rdma", gpus(rdma(port(0), port(1)), variables=named))
    assert (found.state, found.message) == ("failed", "mlx5_4:1 of flagprov_cluster_rdma is not active here")
    left_out = rdma(port(0), port(1, **DOWN))
    assert state("rdma", gpus(left_out, variables={"flagprov_cluster_rdma": "mlx5_0"})) == "ok"


def test_addresses_of_roce() -> None:
    bare = rdma(roce(0), roce(1, index=None))
    found = check("rdma", gpus(bare, rdma(roce(0), roce(1))))
    assert (found.state, found.message) == ("failed", "mlx5_1:1 has no RoCE v2 address over IPv4")
    assert "give eth1 an IPv4 address" in found.remedy
    apart = rdma(roce(0), roce(1, index=5))
    assert state("rdma", gpus(apart, rdma(roce(0), roce(1)))) == "warning"


@pytest.mark.parametrize(
    ("modules", "kernel", "loaded", "expected"),
    [
        (["nvidia_peermem"], "5.4.0-100-generic", {"version": "550", "open": False}, "ok"),
        ([], "5.15.0-113-generic", {"version": "550", "open": True}, "ok"),
        ([], "5.15.0-113-generic", {"version": "550", "open": False}, "failed"),
        ([], "5.4.0-100-generic", {"version": "550", "open": True}, "failed"),
        ([], "4.18.0-553.el8_10.x86_64", {"version": "550", "open": True}, "unknown"),
        ([], "4.18.0-553.el8_10.x86_64", {"version": "550", "open": False}, "failed"),
        ([], "mainline", {"version": "550", "open": True}, "unknown"),
        ([], "5.15.0-113-generic", None, "unknown"),
    ],
)
def test_gpudirect(modules: list[str], kernel: str, loaded: Any, expected: str) -> None:
    facts = rdma(port(0), port(1), peer_modules=modules)
    facts["nvidia"]["loaded"] = loaded
    facts["system"]["kernel"] = kernel
    found = check("gpudirect", gpus(facts))
    assert found.state == expected
    assert expected == "ok" or "modprobe nvidia_peermem" in found.remedy


def test_gpudirect_without_ports_is_no_question() -> None:
    assert ALL["gpudirect"](gpus(rdma())) is None


def npus(net: str = "192.0.2", table: str = "a2-idle", **changes: Any) -> dict[str, Any]:
    """A host whose NPUs have addresses; `changes` are those of NPU 1."""
    facts = ascend(table)
    conf: dict[str, str] = {}
    for each in facts["ascend"]["network"]:
        index = each["index"]
        ip = {"address": f"{net}.{10 + index}", "netmask": "255.255.255.0"}
        each.update(ip=ip, gateway=f"{net}.1", tls=False)
        conf.update({f"address_{index}": ip["address"], f"netmask_{index}": ip["netmask"]})
        conf[f"gateway_{index}"] = each["gateway"]
    facts["ascend"]["hccn"] = conf
    facts["ascend"]["network"][1].update(changes)
    return facts


def of_npus(here: dict[str, Any], there: dict[str, Any] | None = None, chip: str = A2) -> Subject:
    return pair(here, there or npus("198.51.100"), chip, "qwen3-4b", devices=2)


def test_npus_that_are_well() -> None:
    assert check("npu-network", of_npus(npus())).message == "8 links up"


def test_tls_is_the_same_on_all_npus_of_a_replica() -> None:
    found = check("npu-network", of_npus(npus(tls=True)))
    assert (found.state, found.message) == ("failed", "TLS is on for NPU 1 and off for NPU 0")
    other = npus("198.51.100", tls=True)
    found = check("npu-network", of_npus(npus(), other))
    assert (found.state, found.message) == ("failed", "TLS is off here and on for NPU 1 of h2")
    assert "-tls -s enable 0" in found.remedy
    assert state("npu-network", subject(npus(tls=True), A2, "qwen3-4b")) == "ok"


def test_npus_in_two_networks_need_a_gateway() -> None:
    lost = npus(gateway="")
    lost["ascend"]["hccn"].pop("gateway_1")
    found = check("npu-network", of_npus(lost))
    assert (found.state, found.message) == ("failed", "NPU 1 has no gateway, and is in another network on h2")
    near = npus("192.0.2")
    near["ascend"]["network"] = [
        {**each, "ip": {"address": f"192.0.2.{100 + each['index']}", "netmask": "255.255.255.0"}}
        for each in near["ascend"]["network"]
    ]
    assert state("npu-network", of_npus(lost, near)) == "ok"


def test_two_npus_with_one_address() -> None:
    found = check("npu-network", of_npus(npus(), npus()))
    assert "NPU 0 has 192.0.2.10, and so has NPU 0 of h2" in found.message
    assert found.state == "failed"


def test_hccn_conf_says_what_the_ports_have() -> None:
    found = check("npu-network", of_npus(npus(ip={"address": "192.0.2.99", "netmask": "255.255.255.0"})))
    said = "NPU 1: address 192.0.2.99, /etc/hccn.conf says 192.0.2.11"
    assert (found.state, found.message) == ("failed", said)
    bare = npus()
    bare["ascend"]["hccn"] = None
    assert "there is no /etc/hccn.conf" in check("npu-network", of_npus(bare)).message
    assert state("npu-network", subject(bare, A2, "qwen3-4b")) == "ok"


def test_npus_without_addresses() -> None:
    bare = npus(ip={}, gateway="")
    for name in ("address", "netmask", "gateway"):
        bare["ascend"]["hccn"].pop(f"{name}_1")
    found = check("npu-network", of_npus(bare))
    assert (found.state, found.message) == ("failed", "NPU 1: its port has no address")
    assert state("npu-network", of_npus(npus(ip=None))) == "unknown"
    pod = npus("192.0.2", "a3-idle", ip={}, gateway="")
    for name in ("address", "netmask", "gateway"):
        pod["ascend"]["hccn"].pop(f"{name}_1")
    assert state("npu-network", of_npus(pod, npus("198.51.100", "a3-idle"), A3)) == "warning"
