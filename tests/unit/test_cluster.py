"""How a model is cut over several hosts, and what is said where it cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.cluster import (
    layouts,
    meeting_port,
    ray_ports,
    rendezvous_port,
    spread_over_nodes,
    ssh_port,
)
from flagprov.errors import SettingsError
from flagprov.models.chip import Chip
from flagprov.models.release import Variant

CPU, H100 = load_chips()["cpu-x86"], load_chips()["nvidia-h100"]
RELEASE = load_release("qwen3-tiny")  # 4 attention heads


def variant(nodes: int, devices: int = 1, kind: str = "nodes", **serve: Any) -> Variant:
    base = RELEASE.variants["cpu-x86"]
    launch = base.launch.model_copy(update={"kind": kind})
    changes = {"nodes": nodes, "devices": devices, "launch": launch, "serve": {**base.serve, **serve}}
    return base.model_copy(update=changes)


def cut(chip: Chip, *arguments: Any, **serve: Any) -> tuple[Any, Any]:
    found = spread_over_nodes(RELEASE, variant(*arguments, **serve), chip).serve
    return found["tensor_parallel_size"], found["pipeline_parallel_size"]


def test_one_node_is_left_as_it_is() -> None:
    one = variant(1)
    assert spread_over_nodes(RELEASE, one, CPU) is one


def test_tensor_parallel_in_a_host_pipeline_across_but_not_on_processors() -> None:
    assert cut(H100, 2, 4) == (4, 2)
    assert cut(CPU, 2) == (2, 1)
    assert cut(H100, 2, 2, tensor_parallel_size=4) == (4, 1)
    assert cut(H100, 2, 2, pipeline_parallel_size=4) == (1, 4)


@pytest.mark.parametrize(
    ("chip", "serve", "near"),
    [
        (H100, {"tensor_parallel_size": 3}, "serve.tensor_parallel_size=2 with pipeline_parallel_size=2"),
        (H100, {"tensor_parallel_size": 8}, "serve.tensor_parallel_size=4 with pipeline_parallel_size=1"),
        (CPU, {"pipeline_parallel_size": 2}, "serve.tensor_parallel_size=4 with pipeline_parallel_size=1"),
    ],
)
def test_what_does_not_fit_names_what_does(chip: Chip, serve: dict[str, int], near: str) -> None:
    with pytest.raises(SettingsError, match="does not fit 2 hosts x 2 devices") as caught:
        cut(chip, 2, 2, **serve)
    assert near in caught.value.remedy


def test_no_layout_at_all() -> None:
    with pytest.raises(SettingsError) as caught:
        cut(CPU, 3)
    assert "no layout fits" in caught.value.remedy


def test_flagscale_becomes_nodes_on_processors_unless_its_port_is_named() -> None:
    assert spread_over_nodes(RELEASE, variant(2, kind="flagscale"), CPU).launch.kind == "nodes"
    entered = variant(2, kind="flagscale")
    entered = entered.model_copy(update={"launch": entered.launch.model_copy(update={"ssh_port": 2222})})
    assert spread_over_nodes(RELEASE, entered, CPU) == entered  # Ray spans the hosts, the engine does not
    assert spread_over_nodes(RELEASE, variant(2, kind="flagscale"), H100).launch.kind == "flagscale"


def test_a_cards_own_command_spans_no_hosts() -> None:
    with pytest.raises(SettingsError, match="launch kind command cannot span 2 hosts"):
        spread_over_nodes(RELEASE, variant(2, kind="command"), H100)


def test_ports_of_a_replica_never_meet() -> None:
    ports = [rendezvous_port(9010), meeting_port(9010), *ray_ports(9010).values()]
    ports.append(ssh_port(9010, variant(2)))
    assert len(set(ports)) == len(ports)
    assert max(ports) <= 9010 + 1399


def test_the_rendezvous_needs_ports() -> None:
    with pytest.raises(SettingsError, match="leaves no room for the rendezvous"):
        cut(CPU, 2, port=65000)


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=64), st.sampled_from([None, 4, 28, 40]), st.booleans())
def test_every_layout_uses_all_devices_and_divides_the_heads(
    total: int, heads: int | None, across: bool
) -> None:
    for tensor, pipeline in layouts(total, heads, across=across):
        assert tensor * pipeline == total
        assert not heads or heads % tensor == 0
        assert pipeline == 1 or not across
