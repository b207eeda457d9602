"""A replica over two hosts when something breaks: the state that is shown, and that it comes back as a whole.

The engine is the stand-in below the real FlagScale's launcher; beside it, on both hosts, runs a service of
somebody else's, which nothing of ours may touch.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .conftest import ROOT, Lab

pytestmark = pytest.mark.lab
RELEASE, REPLICA = "qwen3-tiny-standin", "qwen3-tiny-standin-0"
TWO = ("--set", "nodes=2")
OURS = "docker top flagprov-" + REPLICA + " -eo pid,args"
FOREIGN = "systemctl show -p MainPID --value foreign; docker inspect -f '{{.State.StartedAt}}' foreign"
thorough = pytest.mark.thorough


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[Any]:
    lab.teardown()
    found = lab.deploy(RELEASE, *TWO)
    image = lab.on("lab1", f"docker inspect -f '{{{{.Image}}}}' flagprov-{REPLICA}").strip()
    for host in lab.hosts:  # named as FlagScale's own stop script looks for them
        lab.on(host, "systemd-run -q --unit foreign bash -c 'exec -a \"vllm serve foreign\" sleep infinity'")
        lab.on(host, f"docker run -d --name foreign --network host --entrypoint sleep {image} infinity")
    yield found
    for host in lab.hosts:
        lab.on(host, "docker rm -f foreign; systemctl stop foreign", check=False)
    lab.teardown()


@pytest.fixture
def serving(lab: Lab, deployed: Any) -> Iterator[Lab]:
    """The replica serves before a fault; afterwards it does again, and others were left alone."""
    assert state(lab) == "ready", replica(lab)
    foreign = {host: lab.on(host, FOREIGN) for host in lab.hosts}
    yield lab
    lab.until(lambda: state(lab) == "ready", 180, "the replica serves again")
    assert [rank["state"] for rank in replica(lab)["ranks"]] == ["ready", "ready"]
    assert {host: lab.on(host, FOREIGN) for host in lab.hosts} == foreign


def replica(lab: Lab) -> Any:
    found = lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"]
    return next(each for each in found if each["name"] == REPLICA)


def state(lab: Lab) -> str:
    return str(replica(lab)["state"])


def starts(lab: Lab) -> list[str]:
    """When the engines of both hosts were started; both are new when the replica came back as a whole."""
    since = "ps -o lstart= -p $(" + OURS + " | awk '/VLLM::EngineCor[e]/ {print $1; exit}')"
    return [lab.on(host, since, check=False).strip() for host in lab.hosts]


def fails_and_returns(lab: Lab, break_it: Callable[[], Any], mend: Callable[[], Any] = lambda: None) -> None:
    before = starts(lab)
    break_it()
    lab.until(lambda: state(lab) != "ready", 60, "it is seen as not ready")
    mend()
    lab.until(lambda: state(lab) == "ready", 180, "it serves again")
    assert all(now not in ("", then) for now, then in zip(starts(lab), before, strict=True))


def killed(lab: Lab, host: str, pattern: str) -> None:
    lab.on(host, f"kill -KILL $({OURS} | awk '/{pattern}/ {{print $1}}')")


@pytest.mark.parametrize(
    "host", [pytest.param("lab1", marks=thorough, id="head"), pytest.param("lab2", id="worker")]
)
def test_the_engine_of_a_rank_is_killed(serving: Lab, host: str) -> None:
    fails_and_returns(serving, lambda: killed(serving, host, "VLLM::EngineCor[e]"))


@thorough
@pytest.mark.parametrize("host", ["lab1", "lab2"], ids=["head", "worker"])
def test_the_front_process_of_a_rank_is_killed(serving: Lab, host: str) -> None:
    fails_and_returns(serving, lambda: killed(serving, host, "bin/vllm serv[e]"))


@thorough
@pytest.mark.parametrize("host", ["lab1", "lab2"], ids=["head", "worker"])
def test_the_container_of_a_rank_is_killed(serving: Lab, host: str) -> None:
    fails_and_returns(serving, lambda: serving.on(host, f"docker kill -s KILL flagprov-{REPLICA}"))


@pytest.mark.parametrize(
    "host", [pytest.param("lab1", marks=thorough, id="head"), pytest.param("lab2", id="worker")]
)
def test_a_host_is_off_and_on_again(lab: Lab, deployed: Any, host: str) -> None:
    assert state(lab) == "ready"
    fails_and_returns(
        lab,
        lambda: lab.docker("stop", "-t", "2", lab.container(host)),
        lambda: lab.docker("start", lab.container(host)),
    )
    lab.on(host, "docker start foreign")  # nobody else brings theirs back
    lab.on(host, "systemd-run -q --unit foreign bash -c 'exec -a \"vllm serve foreign\" sleep infinity'")


def test_the_network_between_the_ranks_is_cut_and_mended(serving: Lab) -> None:
    record = json.loads(serving.on("lab1", f"cat /var/lib/flagprov/replicas/{REPLICA}/record.json"))
    address = record["nodes"][0]["address"]
    rules = [f"iptables -w {{}} INPUT -s {address} -j DROP", f"iptables -w {{}} OUTPUT -d {address} -j DROP"]
    change = {do: "; ".join(rule.format(do) for rule in rules) for do in ("-I", "-D")}
    fails_and_returns(
        serving, lambda: serving.on("lab2", change["-I"]), lambda: serving.on("lab2", change["-D"])
    )


def test_a_frozen_rank_is_seen(serving: Lab) -> None:
    serving.on("lab2", f"docker pause flagprov-{REPLICA}")
    serving.until(lambda: state(serving) in ("hung", "failed"), 60, "it is seen as not ready")
    serving.on("lab2", f"docker unpause flagprov-{REPLICA}")


def test_a_controller_that_dies_while_ranks_start(lab: Lab, deployed: Any) -> None:
    stopped = lab.flagprov("stop", lab.inventory, RELEASE, "--yes")
    assert stopped.code == 0, stopped
    argv = [sys.executable, "-m", "flagprov", "deploy", str(lab.inventory), RELEASE, "--yes", *TWO]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        # The first step of the last stages: some unit starts now.
        next(line for line in run.stderr if " serve: " in line)
        run.kill()
        with contextlib.suppress(OSError):
            run.stderr.read()
    lab.until(lambda: lab.flagprov("deploy", lab.inventory, RELEASE, "--yes", *TWO).code == 0, 180, "deploy")
    assert state(lab) == "ready"


def test_a_port_of_the_ranks_that_somebody_has(lab: Lab, deployed: Any) -> None:
    """Nothing is started on any host, and the message names host and port (on a second node: test_ray.py)."""
    lab.teardown()
    lab.on("lab1", "systemd-run -q --unit holder python3 -m http.server 10011")
    try:
        refused = lab.flagprov("deploy", lab.inventory, RELEASE, "--yes", *TWO)
        assert refused.code == 1, refused
        assert "lab1" in refused.out + refused.err
        assert "10011" in refused.out + refused.err
        for host in lab.hosts:
            assert lab.on(host, "docker ps -q --filter label=io.flagprov.replica") == ""
    finally:
        lab.on("lab1", "systemctl stop holder")
    lab.deploy(RELEASE, *TWO)
    assert state(lab) == "ready"
