"""What the lab writes for the other commands."""

from __future__ import annotations

import json
from ast import literal_eval
from configparser import ConfigParser
from pathlib import Path

import pytest

from flagprov.fleet import load_fleet
from flagprov.lab import files_written as files
from flagprov.lab.chips import chip_hosts
from flagprov.lab.layout import Layout
from flagprov.lab.oci import Image
from flagprov.lab.serving import Built

DIGESTS = ["sha256:" + "a" * 64, "sha256:" + "b" * 64]
PLAIN = Image("vllm-cpu", "0.32.0", DIGESTS[0], DIGESTS[1], 1)
CARD = Image("flagrelease/flagrelease", "tag", DIGESTS[0], DIGESTS[1], 1)
BUILT = Built((PLAIN,), {("qwen3-4b", "ascend-a2"): CARD, ("qwen3-4b", "ascend-a3"): CARD})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path)
    layout.site.mkdir(parents=True)
    return layout


def test_the_inventory_names_hosts_and_what_they_need(layout: Layout) -> None:
    files.write_inventory(layout, {"lab1": "10.0.0.11", "lab2": "10.0.0.12"}, "10.0.0.2:5000")
    parsed = ConfigParser(allow_no_value=True, delimiters=("=",), interpolation=None)
    parsed.read(layout.inventory)
    assert list(parsed["flagprov_serving"]) == ["lab1 ansible_host", "lab2 ansible_host"]
    shared = parsed["flagprov_serving:vars"]
    assert literal_eval(shared["flagprov_registries"]) == {"flagprov-lab": "10.0.0.2:5000"}
    assert literal_eval(shared["container_engine_registry_cas"]) == {"10.0.0.2:5000": str(layout.ca)}
    assert shared["ansible_ssh_private_key_file"] == str(layout.key)


def test_both_digests_of_an_image_are_locked(layout: Layout) -> None:
    files.write_locks(layout, BUILT)
    lock = json.loads((layout.locks / "qwen3-tiny.json").read_text())
    assert lock == {"schema_version": 1, "variants": {"cpu-x86": {"digests": DIGESTS}}}
    cards = json.loads((layout.locks / "qwen3-4b.json").read_text())["variants"]
    assert cards == {"ascend-a2": {"digests": DIGESTS}, "ascend-a3": {"digests": DIGESTS}}


def test_what_a_site_had_locked_itself_comes_back(layout: Layout) -> None:
    files.write(layout.locks / "qwen3-4b.json", "the site's own")
    files.write_locks(layout, BUILT)
    files.write_locks(layout, BUILT)
    assert DIGESTS[0] in (layout.locks / "qwen3-4b.json").read_text()
    files.remove_files(layout)
    assert [path.name for path in layout.locks.iterdir()] == ["qwen3-4b.json"]
    assert (layout.locks / "qwen3-4b.json").read_text() == "the site's own"


def test_each_group_of_chips_has_an_inventory_and_all_have_one(layout: Layout) -> None:
    hosts = chip_hosts(["nvidia-h100", "ascend-a3", "ascend-a2"])
    addresses = [(host, f"10.0.0.{number}") for number, host in enumerate(hosts, 211)]
    files.write(layout.chip_inventory("graviton"), "of a lab before\n")
    variables = {"nvidia-h100": {"some_mirror": "http://10.0.0.3/apt"}}
    files.write_chip_inventories(layout, addresses, "10.0.0.2:5000", ["registry.example"], variables)
    assert [path.name for path in layout.chip_inventories()] == [
        "lab-ascend.ini",
        "lab-h100.ini",
        "lab-all.ini",
    ]
    files.ensure_client_key(layout)
    fleet = load_fleet(layout.chip_inventory("all"))
    assert {host.name: (host.chip, host.connection.address) for host in fleet.hosts} == {
        "h100-1": ("nvidia-h100", "10.0.0.211"),
        "a3-1": ("ascend-a3", "10.0.0.212"),
        "a2-1": ("ascend-a2", "10.0.0.213"),
    }
    assert fleet.hosts[0].registries == {"registry.example": "10.0.0.2:5000"}
    ascend = layout.chip_inventory("ascend").read_text()
    assert "h100" not in ascend and "some_mirror" not in ascend
    files.remove_files(layout)
    assert layout.chip_inventories() == ()


def test_a_host_is_known_by_its_newest_key_only(layout: Layout) -> None:
    files.know_host(layout, "lab1", "10.0.0.11", b"ssh-ed25519 AAAAold lab1\n")
    files.know_host(layout, "lab2", "10.0.0.12", b"ssh-ed25519 AAAAtwo lab2\n")
    files.know_host(layout, "lab1", "10.0.0.11", b"ssh-ed25519 AAAAnew lab1\n")
    keys = [line.split()[2] for line in layout.known_hosts.read_text().splitlines()]
    assert keys == ["AAAAtwo", "AAAAnew"]


def test_a_site_that_knows_only_the_lab_goes_with_it(layout: Layout) -> None:
    files.know_host(layout, "lab1", "10.0.0.11", b"ssh-ed25519 AAAA lab1\n")
    files.write(layout.site / "deployed.json", "{}")
    files.remove_files(layout)
    assert not layout.site.exists()


def test_a_site_that_knows_other_hosts_keeps_what_is_theirs(layout: Layout) -> None:
    theirs = "node7 ssh-ed25519 AAAAnode7\n"
    layout.known_hosts.write_text(theirs)
    files.know_host(layout, "lab1", "10.0.0.11", b"ssh-ed25519 AAAA lab1\n")
    files.write(layout.locks / "qwq-32b.json", "{}")
    files.write_locks(layout, Built(BUILT.plain, {}))
    files.remove_files(layout)
    assert layout.known_hosts.read_text() == theirs
    assert [path.name for path in layout.locks.iterdir()] == ["qwq-32b.json"]
