"""Desired state for plain Ansible: what its modules answered goes in, what hosts are to have comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flagprov import plain
from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.preparation import Job, Request
from flagprov.site import Site

RELEASE, CHIP = "qwen3-tiny-standin", "cpu-x86"
Decide = Callable[..., dict[str, Any]]


def survey(**more: Any) -> dict[str, Any]:
    usual = {
        "arch": "x86_64", "os": "Debian", "kernel": "6", "cpus": 2, "memory_mib": 8192,
        "docker_version": "24.0.7", "provisioned": "print", "running": [], "records": {}, "facts": {},
        "devices": {"cpuinfo": [
            {"index": 0, "name": "a processor", "memory_mib": None, "processes": [], "uuid": ""}
        ]},
    }  # fmt: skip
    return {**usual, **more}


@pytest.fixture
def decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Decide:
    told: list[str] = []

    def run(
        surveys: Mapping[str, Any], notes: Mapping[str, Any] | None = None, nodes: int = 1
    ) -> dict[str, Any]:
        release = load_release(RELEASE)
        hosts = tuple(Host(name, Connection(name), chip=CHIP) for name in ("one", "two"))
        fleet = Fleet(tmp_path / "hosts.ini", hosts)
        variant = release.variants[CHIP].model_copy(update={"nodes": nodes})
        variants = dict.fromkeys(("one", "two"), variant)
        keys = {host.name: frozenset[str]() for host in hosts}
        job = Job(fleet, Site(fleet.site), release, load_chips(), variants, None, (), keys)
        monkeypatch.setattr(plain, "prepare", lambda request: job)
        request = Request(fleet.inventory, RELEASE)
        return plain.desired_state(request, surveys, {}, notes or {}, told.append)

    return run


def kinds(state: Mapping[str, Any]) -> list[str]:
    return [resource["kind"] for resource in state["resources"]]


def test_one_host_looks_into_an_image_for_all(decide: Decide) -> None:
    state = decide({"one": survey(), "two": survey()})
    assert state["pending"]
    assert kinds(state["hosts"]["one"]) == ["image", "image_facts", "weights", "claim"]
    assert kinds(state["hosts"]["two"]) == ["image", "weights", "claim"]


def test_where_something_is_to_run_the_host_is_asked_for_facts(decide: Decide) -> None:
    state = decide({"one": survey()})
    assert state["ask"]
    assert state["hosts"]["one"]["ask"]["ports"] == [9010]


def test_a_host_that_was_not_surveyed_is_left_out(decide: Decide) -> None:
    assert list(decide({"two": survey()})["hosts"]) == ["two"]


def test_a_host_without_engine_is_refused_and_another_looks_into_the_image(decide: Decide) -> None:
    state = decide({"one": survey(docker_version=None), "two": survey()})
    refused = state["hosts"]["one"]
    assert refused["problem"] == "docker: no container engine answers"
    assert "provision.yml" in refused["remedy"]
    assert not refused["provisioned"]
    assert "image_facts" in kinds(state["hosts"]["two"])


def test_a_replica_over_hosts_is_whole_or_refused(decide: Decide) -> None:
    def there(number: int) -> dict[str, Any]:
        routes = [
            {"network": network, "metric": 0, "interface": "eth0"}
            for network in ("192.0.2.0/24", "0.0.0.0/0")
        ]
        networks = {"addresses": {"eth0": f"192.0.2.{number}"}, "routes": routes}
        return {"facts": {"networks": networks}}

    whole = decide({"one": survey(**there(1)), "two": survey(**there(2))}, nodes=2)
    assert [replica["hosts"] for replica in whole["replicas"]] == [("one", "two")]
    assert kinds(whole["hosts"]["two"])
    state = decide({"one": survey(docker_version=None, **there(1)), "two": survey(**there(2))}, nodes=2)
    assert "needs one too" in state["hosts"]["two"]["problem"]
    assert state["hosts"]["two"]["resources"] == []


def test_a_host_that_cannot_be_used_says_the_way_out(decide: Decide) -> None:
    state = decide({"one": survey(devices={"cpuinfo": []}), "two": survey()})
    refused = state["hosts"]["one"]
    assert refused["problem"].startswith("placement: ")
    assert refused["remedy"]
    assert refused["resources"] == []


def test_replicas_are_remembered_where_all_their_hosts_did_well_and_forgotten_again(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.ini"
    usual = {"release": RELEASE, "chip": CHIP, "devices": [0], "port": 9010, "nodes": []}
    replicas = [{"name": "a-0", "hosts": ["one"], **usual}, {"name": "a-1", "hosts": ["one", "two"], **usual}]
    plain.remember(inventory, replicas, ["one"])
    site = Site(tmp_path / ".flagprov")
    assert list(site.deployed()) == ["a-0"]
    plain.forget(inventory, "another", ["one"])
    assert list(site.deployed()) == ["a-0"]
    plain.forget(inventory, None, ["one"])
    assert not site.deployed()


def test_what_hosts_write_into_their_history(decide: Decide) -> None:
    deployment = decide({"one": survey()})["deployment"]
    assert deployment["release"] == RELEASE
    assert deployment["set"] == []
    assert "ansible" in deployment["by"]
