"""How a model is cut over several hosts, and what is said where it cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagprov.catalog import load_release, release_names
from flagprov.chips import load_chips
from flagprov.cluster import (
    layouts,
    meeting_port,
    node_ports,
    ray_ports,
    rendezvous_port,
    spread_over_nodes,
    ssh_port,
)
from flagprov.errors import SettingsError
from flagprov.models.chip import Chip
from flagprov.models.release import Variant
from flagprov.settings import apply_settings, merge_settings, parse_sets

CPU, H100 = load_chips()["cpu-x86"], load_chips()["nvidia-h100"]
RELEASE = load_release("qwen3-tiny")  # 4 attention heads


def variant(nodes: int, devices: int = 1, kind: str = "nodes", **serve: Any) -> Variant:
    base = RELEASE.variants["cpu-x86"]
    launch = base.launch.model_copy(update={"kind": kind})
    changes = {"nodes": nodes, "devices": devices, "launch": launch, "serve": {**base.serve, **serve}}
    return base.model_copy(update=changes)


def cut(chip: Chip, *arguments: Any, **serve: Any) -> tuple[Any, Any]:
    found = spread_over_nodes(RELEASE, variant(*arguments, **serve), chip, frozenset(serve)).serve
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
        (H100, {"tensor_parallel_size": 3}, "2 --set serve.pipeline_parallel_size=2"),
        (H100, {"tensor_parallel_size": 8}, "4 --set serve.pipeline_parallel_size=1"),
        (CPU, {"pipeline_parallel_size": 2}, "4 --set serve.pipeline_parallel_size=1"),
    ],
)
def test_what_does_not_fit_names_what_does(chip: Chip, serve: dict[str, int], near: str) -> None:
    with pytest.raises(SettingsError, match="does not fit 2 hosts x 2 devices") as caught:
        cut(chip, 2, 2, **serve)
    assert f"--set serve.tensor_parallel_size={near}" in caught.value.remedy


def card_on_two_hosts(name: str, chip: str, *sets: str) -> Variant:
    """As `--set nodes=2` reaches it, through settings and all."""
    release = load_release(name)
    wanted = merge_settings({}, parse_sets(["nodes=2", *sets]))
    changed = apply_settings(release, release.variants[chip], wanted)
    return spread_over_nodes(release, changed, load_chips()[chip], frozenset(wanted.serve))


@pytest.mark.parametrize(
    ("name", "chip"), [(name, chip) for name in release_names() for chip in load_release(name).variants]
)
def test_every_release_spans_two_hosts_as_it_is(name: str, chip: str) -> None:
    found = card_on_two_hosts(name, chip)
    devices, across = found.devices, load_chips()[chip].tensor_parallel_across_nodes
    sizes = (found.serve.get("tensor_parallel_size"), found.serve.get("pipeline_parallel_size"))
    if name == "qwen3-tiny-ray":
        return  # its engine is the head's alone
    assert sizes == ((2 * devices, 1) if across else (devices, 2))


def test_what_a_card_says_of_one_host_is_no_wish_for_two() -> None:
    found = card_on_two_hosts("qwq-32b", "nvidia-h100", "devices=4")
    assert (found.serve["tensor_parallel_size"], found.serve["pipeline_parallel_size"]) == (4, 2)
    found = card_on_two_hosts("qwq-32b", "nvidia-h100", "devices=4", "serve.pipeline_parallel_size=1")
    assert (found.serve["tensor_parallel_size"], found.serve["pipeline_parallel_size"]) == (8, 1)


def test_a_misfit_in_the_settings_names_the_nearest_layouts() -> None:
    for wish in ("serve.tensor_parallel_size=3", "serve.tensor_parallel_size=64"):
        with pytest.raises(SettingsError, match="does not fit") as caught:
            card_on_two_hosts("qwq-32b", "nvidia-h100", wish)
        assert "--set serve.tensor_parallel_size=" in caught.value.remedy


def test_what_killed_workers_leave_stays_in_the_container() -> None:
    assert load_release("qwq-32b").variants["nvidia-h100"].container.ipc == "host"
    container = card_on_two_hosts("qwq-32b", "nvidia-h100").container
    assert (container.ipc, container.shm_size) == ("private", "512g")


def test_a_bridge_spans_no_hosts() -> None:
    apart = variant(2)
    apart = apart.model_copy(update={"container": apart.container.model_copy(update={"network": "bridge"})})
    with pytest.raises(SettingsError, match=r"container\.network bridge cannot span 2 hosts"):
        spread_over_nodes(RELEASE, apart, CPU)


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


def test_a_cards_own_command_cuts_the_model_itself() -> None:
    asked = variant(2, kind="command")
    spread = spread_over_nodes(RELEASE, asked, H100)
    assert (spread.serve, spread.launch) == (asked.serve, asked.launch)
    assert spread.container.ipc != "host"
    assert node_ports(9010, "command", None, head=True) == {9010, 10010, 10011}


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
