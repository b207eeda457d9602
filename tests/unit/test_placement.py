"""Placement: named devices, stable names, refusals that say why."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from flagprov.models.chip import Chip, Detection
from flagprov.models.desired import Placement
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Device, Running, Survey
from flagprov.models.release import Image, Variant
from flagprov.placement import Wish, place

CHIP = Chip(
    name="nvidia-h100",
    title="H100",
    detection=Detection(tool="nvidia-smi", name_patterns=("H100",)),
    resource_type="gpu",
)


def variant(devices: int = 1) -> Variant:
    image = Image(reference="registry/image:1")
    return Variant(image=image, serve={"port": 9010}, operators="native", devices=devices)


def survey(
    host: str, devices: int = 8, running: tuple[Running, ...] = (), name: str = "NVIDIA H100"
) -> Survey:
    return Survey(
        host=host,
        arch="x86_64",
        os="Debian",
        kernel="6",
        cpus=8,
        memory_mib=1 << 20,
        docker_version="20.10.24",
        provisioned=None,
        devices={"nvidia-smi": tuple(Device(i, name, 81559) for i in range(devices))},
        running=running,
    )


def wish(seen: Survey, devices: int = 1, replicas: int | None = None) -> Wish:
    host = Host(seen.host, Connection(seen.host), chip=CHIP.name)
    return Wish(host, CHIP, variant(devices), seen, replicas)


def fleet(*wishes: Wish) -> Fleet:
    return Fleet(Path("hosts.ini"), tuple(w.host for w in wishes))


def run(*wishes: Wish, reserved: tuple[str, ...] = ()) -> Placement:
    return place(fleet(*wishes), "m", wishes, reserved)


def as_running(placement: Placement, host: str) -> tuple[Running, ...]:
    return tuple(
        Running(r.name, r.release, r.chip, r.hosts, r.devices, r.port, "running") for r in placement.on(host)
    )


def test_one_replica_per_host() -> None:
    placed = run(wish(survey("a")), wish(survey("b"), devices=8))
    assert [(r.name, r.hosts, r.devices, r.port) for r in placed.replicas] == [
        ("m-0", ("a",), (0,), 9010),
        ("m-1", ("b",), tuple(range(8)), 9010),
    ]


def test_what_runs_keeps_its_name_and_devices() -> None:
    there = Running("m-7", "m", CHIP.name, ("b",), (3,), 9010, "running")
    placed = run(wish(survey("a")), wish(survey("b", running=(there,))))
    assert [(r.name, r.hosts, r.devices) for r in placed.replicas] == [
        ("m-0", ("a",), (0,)),
        ("m-7", ("b",), (3,)),
    ]


def test_what_does_not_run_moves_off_devices_that_are_ill_or_gone() -> None:
    seen = survey("a", devices=4)
    first, second, *rest = seen.devices["nvidia-smi"]
    there = Running("m-0", "m", CHIP.name, ("a",), (0, 1), 9010, "exited")
    for some in ((first, replace(second, health="lost"), *rest), (first, *rest)):
        ill = replace(seen, devices={"nvidia-smi": some}, running=(there,))
        assert run(wish(ill, devices=2)).replicas[0].devices == (0, 2)
        serving = replace(ill, running=(replace(there, state="running"),))
        assert run(wish(serving, devices=2)).replicas[0].devices == (0, 1)


def test_a_name_on_a_host_that_does_not_answer_is_not_given_away() -> None:
    assert [r.name for r in run(wish(survey("b")), reserved=("m-0",)).replicas] == ["m-1"]


def test_several_replicas_share_a_host_with_ports_and_devices_of_their_own() -> None:
    placed = run(wish(survey("a"), devices=4, replicas=2))
    assert [(r.devices, r.port) for r in placed.replicas] == [((0, 1, 2, 3), 9010), ((4, 5, 6, 7), 9011)]


def test_another_release_keeps_its_devices_and_its_port() -> None:
    other = Running("other-0", "other", CHIP.name, ("a",), (0, 1), 8000, "running")
    assert run(wish(survey("a", running=(other,)), devices=4)).replicas[0].devices == (2, 3, 4, 5)
    taken = run(wish(survey("a", running=(replace(other, port=9010),))))
    assert taken.refusals[0].message == "port 9010 belongs to replica other-0"
    full = run(wish(survey("a", running=(other,)), devices=8))
    assert full.refusals[0].message == "8 devices are needed, 6 of 8 are free; held by other-0"


def test_a_device_with_a_process_is_passed_over_while_others_are_free() -> None:
    seen = survey("a", devices=2)
    busy = Device(0, "NVIDIA H100", 81559, ("python (pid 9)",))
    seen = replace(seen, devices={"nvidia-smi": (busy, seen.devices["nvidia-smi"][1])})
    assert run(wish(seen)).replicas[0].devices == (1,)


def test_the_host_says_another_chip_than_the_inventory() -> None:
    placed = run(wish(survey("a", name="NVIDIA A100")))
    assert placed.refusals[0].message == "the inventory says nvidia-h100, but nvidia-smi says NVIDIA A100"
    assert (
        run(wish(survey("a", devices=0))).refusals[0].message
        == "no nvidia-h100 device is visible to nvidia-smi"
    )


@given(
    hosts=st.lists(st.integers(min_value=0, max_value=8), min_size=1, max_size=6),
    devices=st.integers(min_value=1, max_value=4),
    replicas=st.one_of(st.none(), st.integers(min_value=1, max_value=8)),
)
def test_no_device_port_or_name_is_given_twice_and_a_second_run_changes_nothing(
    hosts: list[int], devices: int, replicas: int | None
) -> None:
    wishes = [wish(survey(f"h{i}", count), devices, replicas) for i, count in enumerate(hosts)]
    placed = run(*wishes)
    names = [r.name for r in placed.replicas]
    assert len(set(names)) == len(names)
    for w in wishes:
        mine = placed.on(w.host.name)
        used = [index for r in mine for index in r.devices]
        assert len(set(used)) == len(used)
        assert len({r.port for r in mine}) == len(mine)
    again = [replace(w, survey=replace(w.survey, running=as_running(placed, w.host.name))) for w in wishes]
    assert set(run(*again).replicas) >= set(placed.replicas)


def test_what_has_moved_to_its_other_slot_stays_there() -> None:
    """Its devices and its port are kept by the next deploy; what was left beside it is free for no other."""
    left = Running("m-7", "m", CHIP.name, ("a",), (5,), 9010, "exited")
    there = Running("m-7", "m", CHIP.name, ("a",), (3,), 9110, "running", ".b", left)
    (placed,) = run(wish(survey("a", running=(there,)))).replicas
    assert (placed.name, placed.devices, placed.port, placed.slot) == ("m-7", (3,), 9110, ".b")
    foreign = replace(there, replica="n-0", release="n", port=9500, beside=replace(left, replica="n-0"))
    refused = run(wish(survey("a", running=(foreign,)), devices=8))
    assert "6 of 8 are free" in refused.refusals[0].message
    assert (
        "port 9010 belongs to replica n-0" in run(wish(survey("a", running=(foreign,)))).refusals[0].message
    )
