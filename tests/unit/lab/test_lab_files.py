"""What the lab writes for the other commands."""

from __future__ import annotations

import json
from ast import literal_eval
from configparser import ConfigParser
from pathlib import Path

import pytest

from flagprov.lab import files_written as files
from flagprov.lab.layout import Layout
from flagprov.lab.oci import Image


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
    manifest, config = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    files.write_locks(layout, [Image("vllm-cpu", "0.32.0", manifest, config, 1)])
    lock = json.loads((layout.locks / "qwen3-tiny.json").read_text())
    assert lock == {"schema_version": 1, "variants": {"cpu-x86": {"digests": [manifest, config]}}}


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
    files.write(layout.locks / "qwen3-tiny.json", "{}")
    files.remove_files(layout)
    assert layout.known_hosts.read_text() == theirs
    assert [path.name for path in layout.locks.iterdir()] == ["qwq-32b.json"]
