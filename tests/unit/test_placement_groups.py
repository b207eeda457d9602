"""Replicas over several hosts: groups in the inventory's order that stay as they are, and who is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flagprov.choosing import Wish
from flagprov.models.chip import Chip, Detection
from flagprov.models.desired import Placement
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Device, Running, Survey
from flagprov.models.release import Image, Variant
from flagprov.placement import place

CHIP = Chip(
    name="nvidia-h100",
    title="H100",
    detection=Detection(tool="nvidia-smi", name_patterns=("H100",)),
    resource_type="gpu",
)
ROUTES = [
    {"network": "0.0.0.0/0", "interface": "eth0", "metric": 0},
    {"network": "192.0.2.0/24", "interface": "eth0", "metric": 0},
    {"network": "10.9.0.0/16", "interface": "ib0", "metric": 0},
]


def wish(
    number: int,
    *,
    nodes: int = 2,
    devices: int = 1,
    there: int = 8,
    replicas: int | None = None,
    running: tuple[Running, ...] = (),
    **variables: str,
) -> Wish:
    name, address = f"h{number}", f"192.0.2.{number + 1}"
    host = Host(name, Connection(address), chip=CHIP.name, variables=variables)
    addresses = {"docker0": "172.17.0.1", "eth0": address, "ib0": f"10.9.0.{number + 1}"}
    survey = Survey(
        host=name,
        arch="x86_64",
        os="Debian",
        kernel="6",
        cpus=8,
        memory_mib=1 << 20,
        docker_version="20.10.24",
        provisioned=None,
        devices={"nvidia-smi": tuple(Device(i, "NVIDIA H100", 81559) for i in range(there))},
        running=running,
        facts={"networks": {"addresses": addresses, "routes": ROUTES}},
    )
    variant = Variant(
        image=Image(reference="registry/image:1"),
        serve={"port": 9010},
        operators="native",
        devices=devices,
        nodes=nodes,
    )
    return Wish(host, CHIP, variant, survey, replicas)


def run(*wishes: Wish) -> Placement:
    return place(Fleet(Path("hosts.ini"), tuple(w.host for w in wishes)), "m", wishes)


def again(wishes: Sequence[Wish], placed: Placement) -> list[Wish]:
    """The same hosts, with what was placed on them running there."""
    return [
        replace(
            w,
            survey=replace(
                w.survey,
                running=tuple(
                    Running(r.name, r.release, r.chip, r.hosts, r.devices, r.port, "running")
                    for r in placed.on(w.host.name)
                ),
            ),
        )
        for w in wishes
    ]


def groups(placed: Placement) -> list[tuple[str, tuple[str, ...]]]:
    return [(r.name, r.hosts) for r in placed.replicas]


def refused(placed: Placement) -> dict[str, str]:
    return {refusal.host: refusal.message for refusal in placed.refusals}


def test_hosts_are_grouped_in_order_and_the_rest_is_refused() -> None:
    placed = run(*(wish(i) for i in range(5)))
    assert groups(placed) == [("m-0", ("h0", "h1")), ("m-1", ("h2", "h3"))]
    assert refused(placed) == {"h4": "a replica takes 2 hosts of nvidia-h100, and only 1 is left: h4"}


def test_replicas_says_how_many_and_no_host_is_refused() -> None:
    placed = run(*(wish(i, replicas=1) for i in range(5)))
    assert groups(placed) == [("m-0", ("h0", "h1"))]
    assert not placed.refusals


def test_groups_that_exist_keep_name_hosts_and_order() -> None:
    there = Running("m-3", "m", CHIP.name, ("h2", "h0"), (5,), 9010, "running")
    wishes = [wish(i, running=(there,) if i in (0, 2) else ()) for i in range(4)]
    placed = run(*wishes)
    assert groups(placed) == [("m-0", ("h1", "h3")), ("m-3", ("h2", "h0"))]
    assert placed.on("h0")[0].devices == (5,)


def test_a_group_with_a_host_that_is_away_is_not_torn_apart() -> None:
    there = Running("m-0", "m", CHIP.name, ("h0", "gone"), (0,), 9010, "running")
    placed = run(wish(0, running=(there,)), wish(1), wish(2))
    assert groups(placed) == [("m-1", ("h1", "h2"))]
    assert refused(placed) == {"h0": "m-0 needs gone too, which cannot be used now"}


def test_devices_are_the_same_on_all_hosts() -> None:
    other = Running("other-0", "other", CHIP.name, ("h0",), (0,), 8000, "running")
    one = Running("other-1", "other", CHIP.name, ("h1",), (1,), 8000, "running")
    placed = run(wish(0, devices=2, running=(other,)), wish(1, devices=2, running=(one,)))
    assert placed.replicas[0].devices == (2, 3)
    left = replace(other, devices=(), beside=replace(other, slot=".b", port=8100))
    assert run(wish(0, running=(left,)), wish(1)).replicas[0].devices == (1,)
    short = run(wish(0, devices=7, running=(other,)), wish(1, devices=7, running=(one,)))
    assert refused(short)["h0"] == "no 7 devices of the same numbers are free on h0, h1"
    full = run(wish(0, devices=8), wish(1, devices=8, running=(one,)))
    assert refused(full)["h1"] == "8 devices are needed, 7 of 8 are free; held by other-1"
    assert refused(full)["h0"].startswith("h1, of the same replica, cannot serve it: 8 devices are needed")


def test_ports_are_those_of_the_head_the_rendezvous_included() -> None:
    on_worker = Running("other-0", "other", CHIP.name, ("h1",), (0,), 9010, "running")
    assert run(wish(0), wish(1, running=(on_worker,))).replicas[0].port == 9010
    at_rendezvous = replace(on_worker, hosts=("h0",), port=10010)
    said = refused(run(wish(0, running=(at_rendezvous,)), wish(1)))
    assert said["h0"] == "port 10010, which the ranks need beside 9010, belongs to replica other-0"


def test_all_ports_of_ray_and_the_runner_are_held_on_every_host() -> None:
    there = Running("other-0", "other", CHIP.name, ("h0", "h1"), (0,), 9020, "running")
    ray = {"other-0": {"launch": {"kind": "ray", "ssh_port": None}}}
    plain = {"other-0": {"launch": {"kind": "nodes", "ssh_port": None}}}
    wishes = [wish(i, devices=1, running=(there,)) for i in (0, 1)]
    meeting_of_ours = [replace(w, survey=replace(w.survey, records=ray)) for w in wishes]
    meeting_of_ours = [replace(w, variant=ported(w.variant, 9022)) for w in meeting_of_ours]
    said = refused(run(*meeting_of_ours))
    assert said["h0"] == "port 10022, which the ranks need beside 9022, belongs to replica other-0"
    apart = [replace(w, survey=replace(w.survey, records=plain)) for w in meeting_of_ours]
    assert run(*apart).replicas[0].port == 9022


def test_a_worker_among_rays_ports_is_no_place_for_another_replica() -> None:
    on_worker = Running("other-0", "other", CHIP.name, ("h1",), (0,), 10300, "running")
    wishes = [wish(0), wish(1, running=(on_worker,))]
    wishes = [replace(w, variant=launched(w.variant, "ray")) for w in wishes]
    said = refused(run(*wishes))
    assert said["h1"] == "port 10300, which the ranks need beside 9010, belongs to replica other-0"


def test_a_taken_port_of_the_runner_is_the_releases_to_change() -> None:
    there = Running("other-0", "other", CHIP.name, ("h1",), (0,), 2222, "running")
    wishes = [wish(0), wish(1, running=(there,))]
    kinds = [launched(each.variant, "flagscale") for each in wishes]
    launch = kinds[0].launch.model_copy(update={"ssh_port": 2222})
    wishes = [
        replace(each, variant=kind.model_copy(update={"launch": launch}))
        for each, kind in zip(wishes, kinds, strict=True)
    ]
    (refusal,) = [each for each in run(*wishes).refusals if each.host == "h1"]
    assert "port 2222" in refusal.message
    assert refusal.remedy == "give the release another launch.ssh_port"


def ported(variant: Variant, port: int) -> Variant:
    return variant.model_copy(update={"serve": {**variant.serve, "port": port}})


def launched(variant: Variant, kind: str) -> Variant:
    return variant.model_copy(update={"launch": variant.launch.model_copy(update={"kind": kind})})


def test_the_route_to_the_others_decides_the_interface() -> None:
    replica = run(wish(0), wish(1)).replicas[0]
    assert [(n.host, n.address, n.interface) for n in replica.nodes] == [
        ("h0", "192.0.2.1", "eth0"),
        ("h1", "192.0.2.2", "eth0"),
    ]


def test_the_inventory_decides_over_the_route() -> None:
    replica = run(wish(0), wish(1, flagprov_cluster_address="10.9.0.2")).replicas[0]
    assert [(n.address, n.interface) for n in replica.nodes] == [("10.9.0.1", "ib0"), ("10.9.0.2", "ib0")]
    named = run(wish(0, flagprov_cluster_interface="ib0"), wish(1)).replicas[0]
    assert [(n.address, n.interface) for n in named.nodes] == [("10.9.0.1", "ib0"), ("10.9.0.2", "ib0")]


def test_a_host_without_a_way_to_the_others_is_named() -> None:
    lost = wish(1)
    lost = replace(lost, survey=replace(lost.survey, facts={}))
    placed = run(wish(0), lost)
    assert not placed.replicas
    assert set(refused(placed)) == {"h0", "h1"}
    assert "flagprov_cluster_address" in placed.refusals[0].remedy


@pytest.mark.parametrize("chips", [1, 2])
def test_hosts_of_two_chips_are_never_one_group(chips: int) -> None:
    wishes = [wish(i) for i in range(4)]
    if chips == 2:
        other = CHIP.model_copy(update={"name": "nvidia-h200"})
        wishes = [replace(w, chip=other) if i % 2 else w for i, w in enumerate(wishes)]
    hosts = [r.hosts for r in run(*wishes).replicas]
    assert hosts == ([("h0", "h1"), ("h2", "h3")] if chips == 1 else [("h0", "h2"), ("h1", "h3")])


@settings(deadline=None)
@given(
    there=st.lists(st.integers(min_value=0, max_value=8), min_size=1, max_size=8),
    nodes=st.integers(min_value=2, max_value=4),
    devices=st.integers(min_value=1, max_value=4),
    replicas=st.one_of(st.none(), st.integers(min_value=1, max_value=4)),
)
def test_every_group_is_whole_no_host_is_in_two_and_a_second_run_changes_nothing(
    there: list[int], nodes: int, devices: int, replicas: int | None
) -> None:
    wishes = [
        wish(i, nodes=nodes, devices=devices, there=count, replicas=replicas) for i, count in enumerate(there)
    ]
    placed = run(*wishes)
    hosts = [host for r in placed.replicas for host in r.hosts]
    assert len(set(hosts)) == len(hosts)
    assert not set(hosts) & set(refused(placed))
    for replica in placed.replicas:
        assert len(replica.hosts) == len(replica.nodes) == nodes
        assert len(replica.devices) == devices
        assert all(max(replica.devices) < there[int(host[1:])] for host in replica.hosts)
    if replicas is None:
        assert set(hosts) | set(refused(placed)) == {w.host.name for w in wishes}
    else:
        assert len(placed.replicas) <= replicas
    assert set(run(*again(wishes, placed)).replicas) >= set(placed.replicas)


@settings(deadline=None)
@given(
    nodes=st.integers(min_value=2, max_value=3),
    count=st.integers(min_value=2, max_value=8),
    more=st.integers(min_value=0, max_value=4),
)
def test_more_hosts_never_move_a_group(nodes: int, count: int, more: int) -> None:
    wishes = [wish(i, nodes=nodes) for i in range(count)]
    placed = run(*wishes)
    front = [wish(20 + i, nodes=nodes) for i in range(more)]
    assert set(run(*front, *again(wishes, placed)).replicas) >= set(placed.replicas)
