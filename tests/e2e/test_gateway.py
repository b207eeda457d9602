"""One address in front of the replicas: no request is lost while they change, none goes to one that hangs."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import INVENTORY, Controller, Lab
from .load import Load

thorough = pytest.mark.thorough
RELEASE = "qwen3-tiny-standin"
MODEL = "qwen3-tiny"
STANDSTILL_S = 4
THIRD = "a2-1"
PATIENT = ("--set", "deadline_s=300")  # the machine may be busy with other tests
GENTLY = (*PATIENT, "--batch", "1", "--max-unavailable", "1", "--soak", "1", "--latency", "30", "--yes")
SHOW_STAT = """python3 -c '
import socket
with socket.socket(socket.AF_UNIX) as admin:
    admin.connect("/run/flagprov-gateway/admin.sock")
    admin.sendall(b"show stat\\n")
    print(admin.makefile().read())'"""


class Fronted(Lab):
    """The lab and one host more, its first host the gateway too."""

    inventory = INVENTORY.with_name("lab-gateway.ini")
    url = ""

    def gateway(self) -> dict[str, Any]:
        """Replica -> how the gateway treats it."""
        found = self.flagprov("status", self.inventory, "--output", "json").json["gateways"]
        assert [gateway["state"] for gateway in found] == ["serving"], found
        return {server["replica"]: server for server in found[0]["servers"]}

    def states(self, release: str = RELEASE) -> dict[str, str]:
        return {name: server["state"] for name, server in self.gateway().items()}

    def live(self, replica: str) -> str:
        """HAProxy's own word for a replica: `status` waits for a hung engine longer than the gateway does."""
        stat = self.on("lab1", SHOW_STAT)
        rows = [line.split(",") for line in stat.splitlines()]
        return next(row[17] for row in rows if row[1:2] == [replica])

    def replicas(self) -> list[dict[str, Any]]:
        found = self.flagprov("status", self.inventory, "--output", "json").json["replicas"]
        return [replica for replica in found if replica["release"] == RELEASE]


def third_host(lab: Lab) -> str:
    """The line of a host whose accelerators nobody asks for; empty when the lab has none."""
    inventory = INVENTORY.with_name("lab-ascend.ini")
    lines = inventory.read_text().splitlines(keepends=True) if inventory.exists() else []
    line = next((line for line in lines if line.startswith(f"{THIRD} ")), "")
    if line:
        weights = lab.on("lab1", "tar -C /srv/models -c Qwen3-Tiny | base64 -w0")
        put = ["docker", "exec", "-i", lab.container(THIRD), "sh", "-c", "base64 -d | tar -C /srv/models -x"]
        subprocess.run(put, input=weights, text=True, check=True, timeout=120)
    return line


@pytest.fixture(scope="module")
def fronted(lab: Lab) -> Iterator[Fronted]:
    lab.teardown()
    here = Fronted()
    third = third_host(lab)
    group = f"\n[flagprov_gateway]\nlab1\n\n[flagprov_gateway:vars]\ngateway_standstill_s={STANDSTILL_S}\n"
    text = INVENTORY.read_text().replace("[flagprov_serving]\n", f"[flagprov_serving]\n{third}", 1)
    here.inventory.write_text(text + group)
    try:
        here.url = here.deploy(RELEASE, *PATIENT)["gateways"][0]["url"]
        yield here
        here.teardown()
    finally:
        here.inventory.unlink()
        if third:
            lab.docker("exec", lab.container(THIRD), "rm", "-r", "/srv/models/Qwen3-Tiny")


def order(replica: dict[str, Any], what: str, **more: Any) -> None:
    """Tell a stand-in engine what to do from now on."""
    request = urllib.request.Request(f"{replica['endpoint']}/standin/{what}", json.dumps(more).encode())
    urllib.request.urlopen(request, timeout=10).read()


def test_a_deploy_lets_replicas_in_and_says_so(fronted: Fronted) -> None:
    states = fronted.states()
    assert len(states) >= 2
    assert set(states.values()) == {"in"}
    again = fronted.flagprov("plan", fronted.inventory, RELEASE, *PATIENT, "--output", "json")
    assert again.code == 0, again
    assert again.json["gateways"] == []


def test_a_rolling_change_under_load_loses_nothing(fronted: Fronted) -> None:
    with Load(fronted.url, MODEL) as load:
        fronted.until(lambda: load.done > 50, 30, "load")
        words = (*GENTLY, "--set", "serve.max_num_seqs=3", "--output", "json")
        result = fronted.flagprov("rollout", fronted.inventory, RELEASE, *words)
        so_far = load.done
        fronted.until(lambda: load.done > so_far + 50, 30, "load goes on")
    assert result.code == 0, result
    assert result.json["changes"] > 0
    assert (load.failed, load.cut) == ([], [])
    assert load.streamed > 25
    assert set(fronted.states().values()) == {"in"}


@thorough
def test_a_controller_that_is_killed_while_it_drains_loses_nothing(fronted: Fronted) -> None:
    for replica in fronted.replicas():
        order(replica, "slow", tokens_per_s=20)  # so that draining takes seconds
    with Load(fronted.url, MODEL) as load:
        fronted.until(lambda: load.done > 6, 60, "load")
        words = (*GENTLY, "--set", "serve.max_num_seqs=2")
        with Controller("rollout", fronted.inventory, RELEASE, *words) as controller:
            controller.begins(" serve: drain ")
            controller.kill()
        result = fronted.flagprov("rollout", fronted.inventory, "--resume", "--yes", "--output", "json")
        so_far = load.done
        fronted.until(lambda: load.done > so_far + 50, 60, "load goes on")
    assert result.code == 0, result
    assert (load.failed, load.cut) == ([], [])
    assert set(fronted.states().values()) == {"in"}


@thorough
def test_a_gateway_that_dies_during_a_rollout_is_back_and_knows_who_is_in(fronted: Fronted) -> None:
    words = (*GENTLY, "--set", "serve.max_num_seqs=5")
    with Controller("rollout", fronted.inventory, RELEASE, *words) as controller:
        controller.begins(" serve: switch ")
        fronted.on("lab1", "systemctl kill -s KILL flagprov-gateway flagprov-gateway-agent")
        result = controller.end()
    assert result.code == 0, result
    assert set(fronted.states().values()) == {"in"}
    with Load(fronted.url, MODEL, clients=2) as load:
        fronted.until(lambda: load.done > 10, 30, "it serves")
    assert (load.failed, load.cut) == ([], [])


def test_a_reload_cuts_nothing(fronted: Fronted) -> None:
    with Load(fronted.url, MODEL, tokens=200) as load:
        for _ in range(2):
            fronted.on("lab1", "systemctl reload flagprov-gateway")
            so_far = load.done
            fronted.until(lambda: load.done > so_far + 20, 60, "load goes on")  # noqa: B023
    assert (load.failed, load.cut) == ([], [])


def test_a_hung_replica_is_put_out_within_seconds_and_comes_back(fronted: Fronted) -> None:
    first = fronted.replicas()[0]
    order(first, "hang")
    try:
        with Load(first["endpoint"], MODEL, clients=1):
            fronted.until(
                lambda: fronted.live(first["name"]).startswith("DOWN"),
                STANDSTILL_S + 8,
                "the hung one is out",
            )
            with Load(fronted.url, MODEL) as load:
                fronted.until(lambda: load.done > 50, 30, "the others serve")
            assert (load.failed, load.cut) == ([], [])
            order(first, "well")
    finally:
        order(first, "well")
    fronted.until(lambda: fronted.live(first["name"]).startswith("UP"), 20, "it is back")


def test_a_busy_replica_stays(fronted: Fronted) -> None:
    first = fronted.replicas()[0]
    order(first, "slow", tokens_per_s=2)
    try:
        with Load(first["endpoint"], MODEL, clients=8, tokens=2 * 2 * (STANDSTILL_S + 4)) as load:
            fronted.until(lambda: load.done > 0, 60, "one slow request")
            assert fronted.live(first["name"]).startswith("UP")
    finally:
        order(first, "well")


def test_stopped_is_out_and_deployed_is_in(fronted: Fronted) -> None:
    stopped = fronted.flagprov("stop", fronted.inventory, RELEASE, "--yes")
    assert stopped.code == 0, stopped
    assert set(fronted.states().values()) == {"out"}
    fronted.deploy(RELEASE, *PATIENT)
    assert set(fronted.states().values()) == {"in"}


def test_a_restart_of_the_gateway_knows_who_is_in(fronted: Fronted) -> None:
    fronted.on("lab1", "systemctl restart flagprov-gateway")
    fronted.until(lambda: set(fronted.states().values()) == {"in"}, 20, "all are in")
    with Load(fronted.url, MODEL, clients=2) as load:
        fronted.until(lambda: load.done > 10, 30, "it serves")
    assert (load.failed, load.cut) == ([], [])


def test_nothing_is_left_of_it(fronted: Fronted) -> None:
    fronted.teardown()
    left = fronted.on("lab1", "ls -d /etc/flagprov-gateway /var/lib/flagprov* 2>/dev/null", check=False)
    assert left.split() == []
    assert fronted.on("lab1", "systemctl is-active flagprov-gateway", check=False).strip() == "inactive"
