"""Which RDMA ports the ranks of a node use, and that what serves keeps what it has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_desired import serving

from flagprov.desired import host_desired
from flagprov.errors import InventoryError
from flagprov.models.desired import Node, Replica
from flagprov.models.fleet import Connection, Host
from flagprov.preparation import Request, prepare
from flagprov.rails import environment, named_ports
from flagprov.serving import Serving, merged_environment, undecided

LOGIN = "198.51.100.7"
V2 = "0000:0000:0000:0000:0000:ffff:c000:020"


def port(name: str, **changes: Any) -> dict[str, Any]:
    device, _, number = name.partition(":")
    return {
        "device": device, "port": int(number or 1), "model": "MT4129", "state": "ACTIVE",
        "physical": "LinkUp", "rate_gbps": 400.0, "link_layer": "InfiniBand",
        "interfaces": [f"net-{device}"], "addresses": [], "bus": None, "numa_node": 0, "gids": [], **changes,
    }  # fmt: skip


def roce(name: str, *indices: int, **changes: Any) -> dict[str, Any]:
    gids = [{"index": i, "address": f"{V2}{i}", "type": "RoCE v2", "interface": "x"} for i in indices]
    gids.append({"index": 0, "address": "fe80:0000::1", "type": "RoCE v2", "interface": "x"})
    gids.append({"index": 2, "address": f"{V2}3", "type": "IB/RoCE v1", "interface": "x"})
    return port(name, **{"link_layer": "Ethernet", "gids": gids, **changes})


def host(**variables: Any) -> Host:
    return Host("h1", Connection(LOGIN), chip="nvidia-h100", variables=variables)


def told(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"ports": list(ports), "outward": ["eno1", "bond0.7"], "cards": 1, "peer_modules": []}


def chosen(*ports: dict[str, Any], before: dict[str, str] | None = None, **variables: Any) -> dict[str, str]:
    return environment(host(**variables), told(*ports), before or {})


DOWN = {"state": "DOWN"}


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        ((), ""),
        ((port("mlx5_0"), port("mlx5_3"), port("mlx5_10", **DOWN)), "=mlx5_0:1,mlx5_3:1"),
        ((port("mlx5_0"), port("mlx5_0:2")), "=mlx5_0:1,mlx5_0:2"),
        ((port("mlx5_0"), roce("mlx5_1", interfaces=["eno1"])), "=mlx5_0:1"),
        ((port("mlx5_0"), port("mlx5_1", interfaces=["bond0", "bond0.7"])), "=mlx5_0:1"),
        ((port("mlx5_0"), port("mlx5_1", addresses=[LOGIN])), "=mlx5_0:1"),
        # Of several kinds nobody knows which one is for the ranks.
        ((roce("mlx5_0", rate_gbps=200.0), port("mlx5_1"), port("mlx5_2")), ""),
        ((port("mlx5_0", model="MT4123"), port("mlx5_1")), ""),
        ((port("mlx5_0"), port("mlx5_1", rate_gbps=200.0)), ""),
        ((port("rdmap0s6", link_layer="Unspecified", model=None),), ""),
        ((roce("mlx5_0", interfaces=["eno1"]),), ""),  # NCCL finds it by itself
    ],
)
def test_ports_of_a_host(ports: tuple[dict[str, Any], ...], expected: str) -> None:
    assert chosen(*ports).get("NCCL_IB_HCA", "") == expected


@pytest.mark.parametrize(
    ("tables", "expected"),
    [([(3,), (3,)], "3"), ([(3, 5), (5, 7)], "5"), ([(3,), (5,)], None), ([(3,), ()], None)],
)
def test_one_place_in_the_tables_of_all(tables: list[tuple[int, ...]], expected: str | None) -> None:
    ports = [roce(f"mlx5_{number}", *indices) for number, indices in enumerate(tables)]
    assert chosen(*ports).get("NCCL_IB_GID_INDEX") == expected
    assert "NCCL_IB_GID_INDEX" not in chosen(port("mlx5_0"))


def test_what_serves_keeps_its_ports_while_one_is_down() -> None:
    before = chosen(port("mlx5_0"), port("mlx5_1"))
    assert chosen(port("mlx5_0"), port("mlx5_1", **DOWN), before=before) == before
    assert chosen(port("mlx5_0", **DOWN), before=before) == before
    assert environment(host(), None, before) == before
    more = chosen(port("mlx5_0"), port("mlx5_2"), before=before)
    assert more == {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_2:1"}


def test_what_serves_keeps_its_ports_when_one_of_another_kind_comes_up() -> None:
    before = chosen(port("mlx5_0"))
    assert chosen(port("mlx5_0"), roce("mlx5_5", rate_gbps=100.0), before=before) == before


def test_the_plan_says_where_no_ports_are_chosen() -> None:
    mixed = (port("mlx5_0"), port("mlx5_1"), roce("mlx5_5", 3, rate_gbps=100.0, model="MT4123"))
    said = list(undecided([spanning(0, *mixed), spanning(1, *mixed)]))
    assert said == [
        "h0, h1: RDMA ports of several kinds (mlx5_0:1, mlx5_1:1: 400 Gb/s InfiniBand, MT4129; "
        "mlx5_5:1: 100 Gb/s Ethernet, MT4123): none is chosen; "
        "flagprov_cluster_rdma of the host names those for the ranks, or is off"
    ]
    named = spanning(0, *mixed)
    named = replace(named, host=replace(named.host, variables={"flagprov_cluster_rdma": "mlx5_0"}))
    quiet = [named, spanning(0, port("mlx5_0")), spanning(0, *mixed, NCCL_IB_HCA="mlx5_0"), spanning(0)]
    assert not list(undecided([*quiet, serving("qwq-32b", "nvidia-h100")]))


def test_what_the_inventory_named_is_no_longer_kept_when_it_names_nothing() -> None:
    own = roce("mlx5_7", interfaces=["eno1"])
    before = chosen(port("mlx5_0"), own, flagprov_cluster_rdma="mlx5_0:1,mlx5_7:1")
    assert chosen(port("mlx5_0"), own, before=before) == {"NCCL_IB_HCA": "=mlx5_0:1"}
    assert chosen(before={"NCCL_IB_DISABLE": "1"}) == {}


def test_named_ports_that_are_all_down_change_nothing() -> None:
    before = chosen(roce("mlx5_0", 3), flagprov_cluster_rdma="mlx5_0")
    down = roce("mlx5_0", 1, **DOWN)
    assert chosen(down, flagprov_cluster_rdma="mlx5_0", before=before) == before


def test_a_place_that_has_moved_is_set_anew() -> None:
    before = chosen(roce("mlx5_0", 3))
    assert chosen(roce("mlx5_0", 5), before=before)["NCCL_IB_GID_INDEX"] == "5"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("off", {"NCCL_IB_DISABLE": "1"}),
        (False, {"NCCL_IB_DISABLE": "1"}),
        ("mlx5_1:1", {"NCCL_IB_HCA": "=mlx5_1:1", "NCCL_IB_GID_INDEX": "3"}),
        (["mlx5_1", "mlx5_4:2"], {"NCCL_IB_HCA": "=mlx5_1,mlx5_4:2", "NCCL_IB_GID_INDEX": "3"}),
        ("mlx5_1, mlx5_4", {"NCCL_IB_HCA": "=mlx5_1,mlx5_4", "NCCL_IB_GID_INDEX": "3"}),
    ],
)
def test_the_inventory_has_the_last_word(said: Any, expected: dict[str, str]) -> None:
    ports = (port("mlx5_0"), roce("mlx5_1", 3, interfaces=["eno1"]))
    assert chosen(*ports, flagprov_cluster_rdma=said, before={"NCCL_IB_HCA": "=mlx5_0:1"}) == expected


@pytest.mark.parametrize("said", [True, 3, [], "", "^mlx5_0", "mlx5_0;reboot", {"a": 1}, ["mlx5_0:x"]])
def test_what_is_no_list_of_ports_is_refused(said: Any) -> None:
    with pytest.raises(InventoryError, match=r"h1: flagprov_cluster_rdma: a list of RDMA ports or off"):
        named_ports(host(flagprov_cluster_rdma=said))


def test_that_is_said_before_a_host_is_touched(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.ini"
    lines = [f"h{i} ansible_host=192.0.2.{i} ansible_user=root" for i in (1, 2)]
    lines += ["[all:vars]", "flagprov_chip=nvidia-h100", "flagprov_cluster_rdma=^mlx5_0"]
    inventory.write_text("\n".join(lines) + "\n")
    with pytest.raises(InventoryError, match="flagprov_cluster_rdma"):
        prepare(Request(inventory, "qwq-32b", sets=("nodes=2",)))
    assert prepare(Request(inventory, "qwq-32b")).replicas is None


def spanning(rank: int, *ports: dict[str, Any], chip: str = "nvidia-h100", **env: str) -> Serving:
    """A node of a replica over two hosts."""
    base = serving("qwq-32b" if chip == "nvidia-h100" else "qwen3-4b", chip)
    nodes = (Node("h0", "192.0.2.1", "eth0"), Node("h1", "192.0.2.2", "eth0"))
    replica = Replica("r-0", "r", chip, ("h0", "h1"), (0,), 9010, nodes)
    survey = replace(base.survey, facts={**base.survey.facts, "rdma": told(*ports)})
    variant = base.variant.model_copy(update={"env": {**base.variant.env, **env}, "nodes": 2})
    assert base.facts is not None
    image = replace(base.facts, ray="2.55.0")
    own = replace(host(), name=f"h{rank}", chip=chip)
    return replace(base, replica=replica, survey=survey, variant=variant, host=own, facts=image)


def record(of: Serving) -> dict[str, Any]:
    resources = host_desired(of.host.name, [of]).resources
    content = next(r.spec["content"] for r in resources if str(r.name).endswith("record.json"))
    read: dict[str, Any] = json.loads(content)
    return read


def test_each_node_has_its_own_ports_and_remembers_them() -> None:
    found = [merged_environment(spanning(rank, port(f"mlx5_{rank}"))) for rank in (0, 1)]
    assert [env["NCCL_IB_HCA"] for env in found] == ["=mlx5_0:1", "=mlx5_1:1"]
    first = spanning(0, port("mlx5_0"), port("mlx5_1"))
    kept = record(first)
    assert kept["rdma"] == {"NCCL_IB_HCA": "=mlx5_0:1,mlx5_1:1"}
    later = spanning(0, port("mlx5_0"), port("mlx5_1", **DOWN))
    later = replace(later, survey=replace(later.survey, records={"r-0": kept}))
    assert host_desired("h0", [later]) == host_desired("h0", [first])


def test_who_sets_one_of_the_variables_sets_all() -> None:
    env = merged_environment(spanning(0, roce("mlx5_0", 3), NCCL_IB_HCA="mlx5_7"))
    assert env["NCCL_IB_HCA"] == "mlx5_7"
    assert "NCCL_IB_GID_INDEX" not in env


def test_only_replicas_over_several_hosts_of_chips_with_nccl_have_it() -> None:
    alone = serving("qwq-32b", "nvidia-h100")
    alone = replace(alone, survey=replace(alone.survey, facts={"rdma": told(port("mlx5_0"))}))
    assert "NCCL_IB_HCA" not in merged_environment(alone)
    assert "rdma" not in record(alone)
    assert "NCCL_IB_HCA" not in merged_environment(spanning(0, port("mlx5_0"), chip="ascend-a2"))
