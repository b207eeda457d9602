"""A configuration change over replicas that serve: gated, put back when it fails, reversible."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import Controller, Lab
from .load import Load
from .test_gateway import Fronted

thorough = pytest.mark.thorough
RELEASE = "qwen3-tiny-standin"
ROLLOUT = ("--batch", "1", "--max-unavailable", "1", "--soak", "1", "--yes", "--output", "json")


@pytest.fixture(scope="module")
def serving(lab: Lab) -> Iterator[Lab]:
    lab.teardown()
    lab.deploy(RELEASE)
    yield lab
    lab.teardown()


def rollout(lab: Lab, *more: str, expect: int = 0) -> Any:
    result = lab.flagprov("rollout", lab.inventory, RELEASE, *ROLLOUT, *more)
    assert result.code == expect, result
    return result.json


def setting(lab: Lab, host: str) -> str:
    """max_num_seqs of the configuration that the launcher of the container on a host says it runs."""
    name = lab.on(host, "docker ps --filter label=io.flagprov.replica --format '{{.Names}}'").strip()
    folder = f"/var/lib/flagprov/replicas/{name.removeprefix('flagprov-')}"
    config = json.loads(lab.on(host, f"cat {folder}/run/state.json"))["config"]
    found = lab.on(host, f"grep -h max_num_seqs {folder}/configs/{config}/conf/serve/*.yaml")
    return found.split(":")[1].strip()


def test_a_change_goes_batch_after_batch_and_back(serving: Lab) -> None:
    plan = serving.flagprov(
        "plan", serving.inventory, RELEASE, "--set", "serve.max_num_seqs=3", "--output", "json"
    )
    assert plan.code == 3, plan
    assert len(plan.json["batches"]) == 2
    rollout(serving, "--set", "serve.max_num_seqs=3")
    assert [setting(serving, host) for host in serving.hosts] == ["3", "3"]
    assert serving.flagprov("diff", serving.inventory).code == 0
    back = serving.flagprov("rollback", serving.inventory, RELEASE, *ROLLOUT)
    assert back.code == 0, back
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]
    history = serving.flagprov("history", serving.inventory, "--output", "json").json["deployments"]
    commands = [entry["command"] for entry in history if entry["host"] == "lab1"]
    assert commands[-2:] == [f"rollout {RELEASE} --set serve.max_num_seqs=3", f"rollback {RELEASE}"]


@pytest.mark.parametrize(
    "phase",
    [
        pytest.param(" config: ", marks=thorough, id="while it stages"),
        pytest.param(" serve: switch ", marks=thorough, id="while it changes"),
        pytest.param(" completions of ", id="at its gate"),
    ],
)
def test_a_run_that_was_killed_is_taken_up_and_gated(serving: Lab, phase: str) -> None:
    def results(host: str) -> list[str]:
        history = serving.flagprov("history", serving.inventory, "--output", "json").json["deployments"]
        return [entry["result"] for entry in history if entry["host"] == host]

    words = (*ROLLOUT, "--soak", "20", "--set", "serve.max_num_seqs=5")
    with Controller("rollout", serving.inventory, RELEASE, *words) as controller:
        controller.begins(phase)
        controller.kill()
    result = serving.flagprov("rollout", serving.inventory, "--resume", "--yes", "--output", "json")
    assert result.code == 0, result
    assert [setting(serving, host) for host in serving.hosts] == ["5", "5"]
    assert [results(host)[-1] for host in serving.hosts] == ["done", "done"]
    assert serving.flagprov("diff", serving.inventory).code == 0
    assert serving.flagprov("rollout", serving.inventory, "--resume", "--yes").code == 2
    assert serving.flagprov("rollback", serving.inventory, RELEASE, *ROLLOUT).code == 0
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]


@pytest.mark.parametrize(
    ("order", "deadline_s", "reason"),
    [
        pytest.param("env.STANDIN_FAIL_AT_START=on order", 25, "on order", id="dies at start"),
        pytest.param(
            'env.STANDIN_ORDERS={"hang": true}', 25, "did not answer", id="hangs while /health says 200"
        ),
        pytest.param(
            'env.STANDIN_ORDERS={"hang_after": 6}',  # its proofs and its warm-up are fine
            600,
            "it hangs",
            marks=thorough,
            id="hangs under its gate's load, and may load for long",
        ),
        pytest.param(
            'env.STANDIN_ORDERS={"nonsense": true}', 25, "golden answers differ", id="answers nonsense"
        ),
    ],
)
def test_a_failed_canary_is_put_back_and_the_rest_is_not_touched(
    serving: Lab, order: str, deadline_s: int, reason: str
) -> None:
    containers = "docker ps -q --filter label=io.flagprov.replica"
    before = serving.on("lab2", containers)
    found = rollout(serving, "--set", order, "--set", f"deadline_s={deadline_s}", expect=1)
    hosts = {entry["host"]: entry for entry in found["hosts"]}
    assert hosts["lab1"]["state"] == "failed"
    assert reason in hosts["lab1"]["message"], found
    assert "put back" in hosts["lab1"]["message"], found
    assert hosts["lab2"]["state"] == "unchanged"
    assert [replica["state"] for replica in found["replicas"]] == ["ready", "ready"]
    assert serving.on("lab2", containers) == before
    serving.until(lambda: serving.states(RELEASE) == dict.fromkeys(serving.hosts, "ready"), 60, "both serve")
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]


def test_two_controllers_at_once(serving: Lab) -> None:
    """A lease that another run holds keeps this one away, and says who has it."""
    held = (
        '{"op":"lease","do":"take","lease":{"token":"t","holder":"ann@desk","command":"rollout x",'
        '"since":"2026-01-01 00:00:00 UTC","ttl_s":300}}'
    )
    program = serving.on("lab2", "ls -td /var/lib/flagprov/programs/*/ | head -1").strip()
    run = f'import sys; sys.path.insert(0, \\"{program}\\"); from flagprov.host.main import main; main()'
    serving.on("lab2", f"echo '{held}' | python3 -I -S -c \"{run}\"")
    result = serving.flagprov(
        "rollout", serving.inventory, RELEASE, *ROLLOUT, "--set", "serve.max_num_seqs=2"
    )
    assert result.code == 1, result
    assert "ann@desk" in result.err
    shown = serving.flagprov("lock", "show", serving.inventory, "--output", "json").json
    assert [lease["host"] for lease in shown["leases"]] == ["lab2"]
    assert serving.flagprov("lock", "break", serving.inventory, "--yes").code == 0
    assert serving.flagprov("lock", "show", serving.inventory, "--output", "json").json["leases"] == []


def containers(lab: Lab) -> list[str]:
    return [lab.on(host, "docker ps -q --no-trunc --filter label=io.flagprov.replica") for host in lab.hosts]


def test_an_image_that_is_not_there_touches_nobody(serving: Lab) -> None:
    before = containers(serving)
    found = rollout(serving, "--set", f"image=sha256:{'0' * 64}", expect=1)
    for entry in found["hosts"]:
        assert entry["state"] == "failed", found
        assert "standin" in entry["message"], found
        assert entry["remedy"], found
    assert containers(serving) == before
    assert serving.states(RELEASE) == dict.fromkeys(serving.hosts, "ready")


def test_a_host_with_a_full_disk_serves_on(serving: Lab) -> None:
    """What cannot be staged there is not begun there; the other host is changed."""
    configs = serving.on("lab1", "ls -d /var/lib/flagprov/replicas/*/configs").strip()
    serving.on("lab1", f"mount -t tmpfs -o size=16k tmpfs {configs}")
    try:
        serving.on("lab1", f"dd if=/dev/zero of={configs}/filler bs=1k count=16 2>/dev/null", check=False)
        before = containers(serving)
        found = rollout(serving, "--set", "serve.max_num_seqs=6", expect=1)
        hosts = {entry["host"]: entry for entry in found["hosts"]}
        assert hosts["lab1"]["state"] == "failed", found
        assert "No space left on device" in hosts["lab1"]["message"], found
        assert hosts["lab1"]["remedy"], found
        assert hosts["lab2"]["state"] == "changed", found
        assert containers(serving)[0] == before[0]
        assert serving.states(RELEASE) == dict.fromkeys(serving.hosts, "ready")
    finally:
        serving.on("lab1", f"umount {configs}")
    rollout(serving)
    assert [setting(serving, host) for host in serving.hosts] == ["4", "4"]


@thorough
def test_a_host_that_is_rebooted_in_its_batch_is_waited_for_and_judged(serving: Lab) -> None:
    words = (*ROLLOUT, "--set", "serve.max_num_seqs=5", "--set", "deadline_s=300")
    with Controller("rollout", serving.inventory, RELEASE, *words) as controller:
        controller.begins("lab1 serve: switch ")
        serving.docker("restart", "-t", "2", serving.container("lab1"))
        result = controller.end()
    assert result.code == 0, result
    assert [setting(serving, host) for host in serving.hosts] == ["5", "5"]
    assert serving.flagprov("rollback", serving.inventory, RELEASE, *ROLLOUT).code == 0


@thorough
def test_every_twentieth_packet_is_lost(serving: Lab) -> None:
    """Between this controller and the hosts, both ways; rules of the hosts' own."""
    lossy = "-m statistic --mode random --probability 0.05 -j DROP"
    rules = f"iptables -w {{0}} INPUT -s $c {lossy} && iptables -w {{0}} OUTPUT -d $c {lossy}"
    change = {do: "c=${SSH_CLIENT%% *}; " + rules.format(do) for do in ("-I", "-D")}
    changed = []
    try:
        for host in serving.hosts:
            if serving.on(host, change["-I"] + " && echo lossy", check=False) != "lossy\n":
                pytest.skip("this kernel drops no packets at random")
            changed.append(host)
        rollout(serving, "--set", "serve.max_num_seqs=5", "--latency", "30")
        assert [setting(serving, host) for host in serving.hosts] == ["5", "5"]
    finally:
        for host in changed:
            serving.on(host, change["-D"])
    assert serving.flagprov("rollback", serving.inventory, RELEASE, *ROLLOUT).code == 0


@thorough
def test_a_saturated_replica_is_not_taken_for_hung(serving: Lab) -> None:
    def order(what: str, **more: Any) -> None:
        request = urllib.request.Request(f"{endpoint}/standin/{what}", json.dumps(more).encode())
        urllib.request.urlopen(request, timeout=10).read()

    def running() -> float:
        text = urllib.request.urlopen(f"{endpoint}/metrics", timeout=10).read().decode()
        line = next(line for line in text.splitlines() if line.startswith("vllm:num_requests_running"))
        return float(line.split()[-1])

    replicas = serving.flagprov("status", serving.inventory, "--output", "json").json["replicas"]
    endpoint = next(replica["endpoint"] for replica in replicas if replica["hosts"] == ["lab1"])
    before = containers(serving)
    try:
        order("slow", tokens_per_s=0.4)  # an idle one: a completion takes longer than a hung one is given
        assert serving.states(RELEASE)["lab1"] == "ready"
        order("slow", tokens_per_s=2)
        with Load(endpoint, "qwen3-tiny", clients=12, tokens=300):
            serving.until(lambda: running() >= 12, 30, "it is saturated")
            assert serving.states(RELEASE)["lab1"] == "ready"
            again = serving.deploy(RELEASE)
            order("well")
    finally:
        order("well")
    assert again["changes"] == 0, again
    assert containers(serving) == before


@pytest.fixture
def fronted(serving: Lab) -> Iterator[Fronted]:
    """The replicas behind a gateway; afterwards as they were."""
    here = Fronted()
    here.inventory.write_text(serving.inventory.read_text() + "\n[flagprov_gateway]\nlab1\n")
    try:
        here.url = here.deploy(RELEASE)["gateways"][0]["url"]
        yield here
        here.teardown()
    finally:
        here.inventory.unlink()
    serving.deploy(RELEASE)


def one_each(lab: Lab) -> list[str]:
    """The container of each host's replica, running or not, which is the only one there."""
    ours = "docker ps -aq --no-trunc --filter label=io.flagprov.replica"
    active = "systemctl list-units --plain --no-legend 'flagprov@*' | wc -l"
    found = [lab.on(host, ours).split() for host in lab.hosts]
    units = [lab.on(host, active) for host in lab.hosts]
    assert [len(containers) for containers in found] == [1] * len(lab.hosts), found
    assert [int(count) for count in units] == [1] * len(lab.hosts), units
    return [containers[0] for containers in found]


def test_new_ones_serve_before_old_ones_stop_and_no_request_is_lost(fronted: Fronted) -> None:
    words = ("--surge", "--set", "serve.max_num_seqs=3", "--set", "deadline_s=300", "--latency", "30")
    before = one_each(fronted)
    plan = fronted.inventory.with_name("surge.json")
    try:
        shown = fronted.flagprov(
            "rollout", fronted.inventory, RELEASE, *words, "--save", plan, "--output", "json"
        )
    finally:
        plan.unlink(missing_ok=True)
    orders = [replica["order"] for batch in shown.json["batches"] for replica in batch["replicas"]]
    assert orders == ["start before stop"] * len(fronted.hosts), shown
    with Load(fronted.url, "qwen3-tiny") as load:
        fronted.until(lambda: load.done > 50, 60, "load")
        rollout(fronted, *words)
        so_far = load.done
        fronted.until(lambda: load.done > so_far + 50, 60, "load goes on")
        refused = rollout(fronted, *words, "--set", "env.STANDIN_FAIL_AT_START=on order", expect=1)
        so_far = load.done
        fronted.until(lambda: load.done > so_far + 50, 60, "load goes on still")
    assert (load.failed, load.cut) == ([], [])
    messages = {host["host"]: str(host["message"]) for host in refused["hosts"]}
    assert "the new one was removed, the old one served all the time" in messages["lab1"], refused
    assert {replica["state"] for replica in refused["replicas"]} == {"ready"}
    now = one_each(fronted)
    assert not set(now) & set(before)
    assert [setting(fronted, host) for host in fronted.hosts] == ["3", "3"]
    assert set(fronted.states().values()) == {"in"}
    assert set(fronted.states()) == {replica["name"] for replica in fronted.replicas()}
    assert fronted.deploy(RELEASE, *words[1:5])["changes"] == 0
    assert one_each(fronted) == now
    assert fronted.flagprov("diff", fronted.inventory).code == 0
    assert fronted.flagprov("rollback", fronted.inventory, RELEASE, *ROLLOUT).code == 0
    assert [setting(fronted, host) for host in fronted.hosts] == ["4", "4"]
    one_each(fronted)


@thorough
@pytest.mark.parametrize("phase", [" starts anew beside itself", " serve: drain ", " serve: remove "])
def test_a_surge_that_was_killed_ends_with_one_of_each(fronted: Fronted, phase: str) -> None:
    words = ("--surge", "--set", "serve.max_num_seqs=5", "--set", "deadline_s=300", "--latency", "30")
    with Load(fronted.url, "qwen3-tiny", clients=2) as load:
        with Controller("rollout", fronted.inventory, RELEASE, *ROLLOUT, *words) as controller:
            controller.begins(phase)
            controller.kill()
        result = fronted.flagprov("rollout", fronted.inventory, "--resume", "--yes", "--output", "json")
        assert result.code == 0, result
    assert (load.failed, load.cut) == ([], [])
    one_each(fronted)
    assert [setting(fronted, host) for host in fronted.hosts] == ["5", "5"]
    assert set(fronted.states().values()) == {"in"}
