"""A replica over two hosts when something breaks: the state that is shown, and that it comes back as a whole.

The stand-in engine for all of them, a real vLLM for one of each kind; beside it, on both hosts, runs a
service of somebody else's, which nothing of ours may touch.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from .conftest import ROOT, Lab

TWO = ("--set", "nodes=2", "--set", "deadline_s=480")
FOREIGN = "systemctl show -p MainPID --value foreign; docker inspect -f '{{.State.StartedAt}}' foreign"
thorough = pytest.mark.thorough


@dataclass(frozen=True)
class Engine:
    """What serves, and the name of the processes that compute on each host."""

    release: str
    worker: str
    returns_s: int

    @property
    def replica(self) -> str:
        return f"{self.release}-0"

    @property
    def processes(self) -> str:
        return f"docker top flagprov-{self.replica} -eo pid,args"


ENGINES = {
    "stand-in": Engine("qwen3-tiny-standin", "VLLM::EngineCor[e]", 180),
    "vllm": Engine("qwen3-tiny", "VLLM::Worke[r]", 480),
}
EMULATED = pytest.mark.parametrize("engine", ["stand-in"], indirect=True, scope="module")
BOTH = pytest.mark.parametrize(
    "engine",
    ["stand-in", pytest.param("vllm", marks=[thorough, pytest.mark.vllm])],
    indirect=True,
    scope="module",
)


@pytest.fixture(scope="module")
def engine(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Engine]:
    found = ENGINES[request.param]
    lab.teardown()
    lab.deploy(found.release, *TWO)
    image = lab.on("lab1", f"docker inspect -f '{{{{.Image}}}}' flagprov-{found.replica}").strip()
    for host in lab.hosts:  # named as FlagScale's own stop script looks for them
        lab.on(host, "systemd-run -q --unit foreign bash -c 'exec -a \"vllm serve foreign\" sleep infinity'")
        lab.on(host, f"docker run -d --name foreign --network host --entrypoint sleep {image} infinity")
    yield found
    for host in lab.hosts:
        lab.on(host, "docker rm -f foreign; systemctl stop foreign", check=False)
    lab.teardown()


@pytest.fixture
def serving(lab: Lab, engine: Engine) -> Iterator[Lab]:
    """The replica serves before a fault; afterwards it does again, and others were left alone."""
    assert state(lab, engine) == "ready", replica(lab, engine)
    foreign = {host: lab.on(host, FOREIGN) for host in lab.hosts}
    yield lab
    lab.until(lambda: state(lab, engine) == "ready", engine.returns_s, "the replica serves again")
    assert [rank["state"] for rank in replica(lab, engine)["ranks"]] == ["ready", "ready"]
    assert {host: lab.on(host, FOREIGN) for host in lab.hosts} == foreign


def replica(lab: Lab, engine: Engine) -> Any:
    found = lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"]
    return next(each for each in found if each["name"] == engine.replica)


def state(lab: Lab, engine: Engine) -> str:
    return str(replica(lab, engine)["state"])


def starts(lab: Lab, engine: Engine) -> list[str]:
    """When the engines of both hosts were started; both are new when the replica came back as a whole."""
    pick = f"awk '/{engine.worker}/ {{print $1; exit}}'"
    since = f"ps -o lstart= -p $({engine.processes} | {pick})"
    return [lab.on(host, since, check=False).strip() for host in lab.hosts]


def fails_and_returns(
    lab: Lab, engine: Engine, break_it: Callable[[], Any], mend: Callable[[], Any] = lambda: None
) -> None:
    before = starts(lab, engine)
    break_it()
    lab.until(lambda: state(lab, engine) != "ready", 60, "it is seen as not ready")
    mend()
    lab.until(lambda: state(lab, engine) == "ready", engine.returns_s, "it serves again")
    assert all(now not in ("", then) for now, then in zip(starts(lab, engine), before, strict=True))


def killed(lab: Lab, engine: Engine, host: str, pattern: str) -> None:
    lab.on(host, f"kill -KILL $({engine.processes} | awk '$0 ~ \"{pattern}\" {{print $1}}')")


@BOTH
@pytest.mark.parametrize(
    "host", [pytest.param("lab1", marks=thorough, id="head"), pytest.param("lab2", id="worker")]
)
def test_the_engine_of_a_rank_is_killed(serving: Lab, engine: Engine, host: str) -> None:
    fails_and_returns(serving, engine, lambda: killed(serving, engine, host, engine.worker))


@EMULATED
@pytest.mark.parametrize(
    "host", [pytest.param("lab1", id="head"), pytest.param("lab2", marks=thorough, id="worker")]
)
def test_the_front_process_of_a_rank_is_killed(serving: Lab, engine: Engine, host: str) -> None:
    fails_and_returns(serving, engine, lambda: killed(serving, engine, host, "bin/vllm serv[e]"))


@EMULATED
@thorough
@pytest.mark.parametrize("host", ["lab1", "lab2"], ids=["head", "worker"])
def test_the_container_of_a_rank_is_killed(serving: Lab, engine: Engine, host: str) -> None:
    kill = f"docker kill -s KILL flagprov-{engine.replica}"
    fails_and_returns(serving, engine, lambda: serving.on(host, kill))


@BOTH
@pytest.mark.parametrize(
    "host", [pytest.param("lab1", marks=thorough, id="head"), pytest.param("lab2", id="worker")]
)
def test_a_host_is_off_and_on_again(lab: Lab, engine: Engine, host: str) -> None:
    assert state(lab, engine) == "ready"
    fails_and_returns(
        lab,
        engine,
        lambda: lab.docker("stop", "-t", "2", lab.container(host)),
        lambda: lab.docker("start", lab.container(host)),
    )
    lab.on(host, "docker start foreign")  # nobody else brings theirs back
    lab.on(host, "systemd-run -q --unit foreign bash -c 'exec -a \"vllm serve foreign\" sleep infinity'")


@BOTH
def test_the_network_between_the_ranks_is_cut_and_mended(serving: Lab, engine: Engine) -> None:
    record = json.loads(serving.on("lab1", f"cat /var/lib/flagprov/replicas/{engine.replica}/record.json"))
    address = record["nodes"][0]["address"]
    rules = [f"iptables -w {{}} INPUT -s {address} -j DROP", f"iptables -w {{}} OUTPUT -d {address} -j DROP"]
    change = {do: "; ".join(rule.format(do) for rule in rules) for do in ("-I", "-D")}
    fails_and_returns(
        serving, engine, lambda: serving.on("lab2", change["-I"]), lambda: serving.on("lab2", change["-D"])
    )


@BOTH
def test_a_frozen_rank_is_seen(serving: Lab, engine: Engine) -> None:
    serving.on("lab2", f"docker pause flagprov-{engine.replica}")
    serving.until(lambda: state(serving, engine) in ("hung", "failed"), 60, "it is seen as not ready")
    serving.on("lab2", f"docker unpause flagprov-{engine.replica}")


@BOTH
def test_a_controller_that_dies_while_ranks_start(lab: Lab, engine: Engine) -> None:
    stopped = lab.flagprov("stop", lab.inventory, engine.release, "--yes")
    assert stopped.code == 0, stopped
    argv = [sys.executable, "-m", "flagprov", "deploy", str(lab.inventory), engine.release, "--yes", *TWO]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr
        # The first step of the last stages: some unit starts now.
        next(line for line in run.stderr if " serve: " in line)
        run.kill()
        with contextlib.suppress(OSError):
            run.stderr.read()
    lab.until(
        lambda: lab.flagprov("deploy", lab.inventory, engine.release, "--yes", *TWO).code == 0, 180, "deploy"
    )
    assert state(lab, engine) == "ready"


@EMULATED
def test_a_port_of_the_ranks_that_somebody_has(lab: Lab, engine: Engine) -> None:
    """Nothing is started on any host, and the message names host and port (on a second node: test_ray.py)."""
    lab.teardown()
    lab.on("lab1", "systemd-run -q --unit holder python3 -m http.server 10011")
    try:
        refused = lab.flagprov("deploy", lab.inventory, engine.release, "--yes", *TWO)
        assert refused.code == 1, refused
        assert "lab1" in refused.out + refused.err
        assert "10011" in refused.out + refused.err
        for host in lab.hosts:
            assert lab.on(host, "docker ps -q --filter label=io.flagprov.replica") == ""
    finally:
        lab.on("lab1", "systemctl stop holder")
    lab.deploy(engine.release, *TWO)
    assert state(lab, engine) == "ready"
