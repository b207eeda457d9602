"""Which replicas can start anew beside themselves: where their host shows room for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.models.desired import Placement, Replica
from flagprov.models.observed import Device, Running
from flagprov.rollout.slots import Slots, find_slots, slots_back

OLD = Running("m-0", "m", "c", ("h",), (0,), 9010, "running")
LEFT = replace(OLD, devices=(1,), port=9110, slot=".b")
OTHER = Running("n-0", "n", "c", ("h",), (1,), 9020, "running")
GPUS = (Device(0, "H100", 1, ("python3 (pid 7)",)), Device(1, "H100", 1))


def found(
    running: Sequence[Running] = (OLD,),
    devices: Sequence[Device] = GPUS,
    *,
    kind: str = "gpu",
    need: int | None = None,
    memory: int = 0,
    hosts: tuple[str, ...] = ("h",),
    provisioned: tuple[str, ...] = (),
    changing: Sequence[str] = (),
    steps: Sequence[str] = (),
    **variables: Any,
) -> Slots:
    """For the release's replicas among those that run."""
    mine = [
        Replica(r.replica, "m", "c", hosts, r.devices, r.port, slot=r.slot)
        for r in running
        if r.release == "m"
    ]
    survey = SimpleNamespace(
        running=tuple(running), devices={"tool": tuple(devices)}, records={}, facts={"available_mib": memory}
    )
    detection = SimpleNamespace(tool="tool", devices_per_card=1)
    chip = SimpleNamespace(resource_type=kind, detection=detection)
    host = SimpleNamespace(name="h", variables=variables)
    wish: Any = SimpleNamespace(host=host, chip=chip, survey=survey)
    interrupted = [replica for replica in mine if not changing or replica.name in changing]
    placement, wishes = Placement(tuple(mine)), {"h": wish}
    return find_slots(interrupted, placement, wishes, provisioned, lambda replica: need, steps)


def busy(device: Device) -> Device:
    return replace(device, processes=("train.py (pid 9)",))


@pytest.mark.parametrize(
    ("asked", "devices", "port", "slot"),
    [
        pytest.param({}, (1,), 9110, ".b", id="a free device"),
        pytest.param({"running": [replace(OLD, port=9110, slot=".b")]}, (1,), 9010, "", id="and back again"),
        pytest.param({"running": [replace(OLD, beside=LEFT)], "devices": [GPUS[0], busy(GPUS[1])]},
                     (1,), 9110, ".b", id="what a run that was cut off left there"),
        pytest.param({"kind": "cpu", "devices": GPUS[:1], "need": 900, "memory": 1000},
                     (0,), 9110, ".b", id="processors are shared, where there is memory"),
        pytest.param({"running": [replace(OLD, beside=replace(LEFT, devices=(0,)))], "kind": "cpu",
                      "devices": GPUS[:1], "need": 900, "memory": 100},
                     (0,), 9110, ".b", id="what was left there has its memory"),
        pytest.param({"firewall_enabled": "true", "firewall_serving_ports": [9010, "9100-9120"]},
                     (1,), 9110, ".b", id="where its port is closed to others, too"),
        pytest.param({"firewall_enabled": False}, (1,), 9110, ".b", id="no firewall of ours"),
        pytest.param({"running": [OLD, replace(OTHER, devices=(2,))]},
                     (1,), 9110, ".b", id="others elsewhere"),
    ],
)  # fmt: skip
def test_room(asked: dict[str, Any], devices: tuple[int, ...], port: int, slot: str) -> None:
    slots = found(**asked)
    new = slots.taken["m-0"]
    assert (new.devices, new.port, new.slot, slots.refused) == (devices, port, slot, {})
    assert slots.orders()["m-0"] == ("start before stop", f"device {devices[0]}, port {port} of h")


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"devices": GPUS[:1]}, "no free device on h"),
        ({"running": [OLD, OTHER]}, "no free device on h"),
        ({"running": [OLD, replace(OTHER, devices=(), beside=OTHER)]}, "no free device on h"),
        ({"devices": [GPUS[0], busy(GPUS[1])]}, "no free device on h"),
        ({"devices": [GPUS[0], replace(GPUS[1], health="ecc")]}, "no free device on h"),
        ({"running": [replace(OLD, devices=(0, 2))]}, "2 devices are needed, 1 of 2 are free on h"),
        ({"running": [OLD, replace(OTHER, devices=(5,), port=9110)]}, "port 9110 of h belongs to n-0"),
        ({"running": [replace(OLD, port=65500)]}, "there is no port 65600"),
        ({"firewall_enabled": True}, "firewall_serving_ports of h does not name port 9110"),
        ({"firewall_enabled": "yes", "firewall_serving_ports": [9010, "9100-9109"]},
         "firewall_serving_ports of h does not name port 9110"),
        ({"hosts": ("h", "i")}, "it spans several hosts"),
        ({"provisioned": ("h",)}, "h is provisioned first"),
        ({"kind": "cpu", "devices": GPUS[:1], "need": 900, "memory": 800},
         "no free memory on h: 900 MiB are needed, 800 are available"),
        ({"kind": "cpu", "devices": GPUS[:1], "memory": 800},
         "how much memory it needs is not known, and its processors are all there are on h"),
    ],
)  # fmt: skip
def test_no_room(asked: dict[str, Any], why: str) -> None:
    slots = found(**asked)
    assert slots.taken == {}
    assert slots.refused["m-0"] == why
    assert slots.orders()["m-0"] == ("stop before start", why)


def test_replicas_of_one_host_have_room_together_or_none_has() -> None:
    two = [OLD, replace(OLD, replica="m-1", devices=(1,), port=9011)]
    devices = [Device(i, "H100", 1) for i in range(4)]
    both = found(two, devices)
    assert [(r.devices, r.port) for r in both.taken.values()] == [((2,), 9110), ((3,), 9111)]
    assert set(found(two, devices[:3]).refused) == {"m-0", "m-1"}
    assert found(two, devices, kind="cpu").taken == both.taken
    memory = {"kind": "cpu", "need": 600, "memory": 1000}
    assert "400 are available" in found(two, devices[:2], **cast(Any, memory)).refused["m-1"]


def test_what_has_to_be_changed_with_it_but_serves_nobody_stops_it_first() -> None:
    two = [OLD, replace(OLD, replica="m-1", devices=(2,), port=9011, state="exited")]
    slots = found(two, changing=["m-0"], steps=["m-0", "m-1"])
    assert slots.refused == {"m-0": "m-1 on h is changed with it, and cannot start beside itself"}
    assert set(found(two, changing=["m-0"], steps=["m-0"]).taken) == {"m-0"}


def test_what_asks_for_more_devices_needs_those_free_and_no_others() -> None:
    devices = [Device(i, "H100", 1) for i in range(3)]
    survey = SimpleNamespace(running=(OLD,), devices={"tool": devices}, records={}, facts={})
    chip = SimpleNamespace(resource_type="gpu", detection=SimpleNamespace(tool="tool", devices_per_card=1))
    host = SimpleNamespace(name="h", variables={})
    wish: Any = SimpleNamespace(host=host, chip=chip, survey=survey)
    larger = Replica("m-0", "m", "c", ("h",), (0, 1), 9010)
    slots = find_slots([larger], Placement((larger,)), {"h": wish}, (), lambda replica: None)
    assert slots.taken["m-0"].devices == (1, 2)


def test_a_host_whose_look_shows_something_in_the_way_stops_first() -> None:
    slots = found().without("h", "port 9110 is taken by nc (pid 3)")
    assert (slots.taken, slots.refused) == ({}, {"m-0": "port 9110 is taken by nc (pid 3)"})


def test_only_what_has_moved_is_placed_where_it_is_now() -> None:
    slots = found()
    old = Replica("m-0", "m", "c", ("h",), (0,), 9010)
    assert slots.placed(Placement((old,))).replicas[0].port == 9110
    assert slots.placed(Placement((old,)), {"h"}).replicas[0].port == 9110
    assert slots.placed(Placement((old,)), set()).replicas == (old,)


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ({}, ""),
        ({"slot": ""}, "it goes back within its slot"),
        ({"devices": [0]}, "device 0, which it had on h, is the one it has now: there is none beside it"),
        ({"devices": [1, 2]}, "device 2, which it had on h, belongs to n-0"),
        ({"port": 9020}, "port 9020 of h belongs to n-0"),
    ],
)
def test_a_way_back_starts_where_it_was_if_that_is_free(place: dict[str, Any], why: str) -> None:
    running = (replace(OLD, beside=LEFT), replace(OTHER, devices=(2,)))
    survey: Any = SimpleNamespace(running=running, records={})
    mine = Replica("m-0", "m", "c", ("h",), (0,), 9010)
    there = {"m-0": {"slot": ".b", "devices": [1], "port": 9110, **place}}
    slots = slots_back([mine], Placement((mine,)), {"h": survey}, there)
    assert slots.refused == ({"m-0": why} if why else {})
    assert slots.taken == ({} if why else {"m-0": replace(mine, devices=(1,), port=9110, slot=".b")})


def test_a_way_back_gives_no_place_twice() -> None:
    """Deployments of the same number may have had the same place, one after the other."""
    others = (replace(OLD, replica="m-1", devices=(3,), port=9011), replace(OTHER, devices=(2,)))
    survey: Any = SimpleNamespace(running=(OLD, *others), records={})
    mine = [Replica(f"m-{i}", "m", "c", ("h",), (3 * i,), 9010 + i) for i in range(2)]

    def back(devices: list[int], port: int) -> Slots:
        places = {
            "m-0": {"slot": ".b", "devices": [1], "port": 9110},
            "m-1": {"slot": ".b", "devices": devices, "port": port},
        }
        return slots_back(mine, Placement(tuple(mine)), {"h": survey}, places)

    assert set(back([4], 9111).taken) == {"m-0", "m-1"}
    assert back([1], 9111).refused["m-1"] == "device 1, which it had on h, belongs to m-0"
    assert back([4], 9110).refused["m-1"] == "port 9110 of h belongs to m-0"
