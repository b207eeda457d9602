"""One engine over two lab hosts: it answers, a lost rank brings the whole down and back, nothing stays."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from flagprov.lab import ssh_command

from .conftest import ROOT, Lab

pytestmark = pytest.mark.vllm
RELEASE, REPLICA = "qwen3-tiny", "qwen3-tiny-0"
TWO = ("--set", "nodes=2", "--set", "deadline_s=480")


@pytest.fixture(scope="module")
def deployed(lab: Lab) -> Iterator[Any]:
    lab.teardown()
    yield lab.deploy(RELEASE, *TWO)
    lab.teardown()


def status(lab: Lab) -> Any:
    (replica,) = lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"]
    return replica


def test_one_replica_over_both_hosts_answers(lab: Lab, deployed: Any) -> None:
    (replica,) = deployed["replicas"]
    assert (replica["name"], replica["hosts"], replica["state"]) == (REPLICA, list(lab.hosts), "ready")
    assert [rank["state"] for rank in replica["ranks"]] == ["ready", "ready"]
    (proof,) = deployed["completions"]
    assert (proof["host"], proof["model"]) == ("lab1", RELEASE)


def test_the_ranks_are_two_halves_of_one_engine(lab: Lab, deployed: Any) -> None:
    head, worker = (lab.on(host, f"docker top flagprov-{REPLICA} -eo pid,args") for host in lab.hosts)
    for processes in (head, worker):
        assert "--tensor-parallel-size 2" in processes
        assert "--nnodes 2" in processes
    assert "--headless" in worker
    assert "--headless" not in head
    assert lab.on("lab2", "ss -tlnH sport = :9010") == ""


def test_a_second_deploy_changes_nothing(lab: Lab, deployed: Any) -> None:
    again = lab.deploy(RELEASE, *TWO)
    assert {host["state"] for host in again["hosts"]} == {"unchanged"}


def test_a_killed_rank_brings_the_replica_down_and_back_as_a_whole(lab: Lab, deployed: Any) -> None:
    started = f"grep -o '.started_at.: [0-9.]*' /var/lib/flagprov/replicas/{REPLICA}/run/state.json"
    kept = f"docker inspect -f '{{{{.State.StartedAt}}}}' flagprov-{REPLICA}"
    container = lab.on("lab1", kept)
    before = {host: lab.on(host, started) for host in lab.hosts}
    lab.on("lab2", f"docker kill -s KILL flagprov-{REPLICA}")
    lab.until(lambda: status(lab)["state"] != "ready", 30, "it is seen as not ready")
    lab.until(lambda: status(lab)["state"] == "ready", 480, "it serves again")
    assert all(lab.on(host, started) != before[host] for host in lab.hosts)
    # Only the rank that died counts towards its unit's limit of failed starts.
    assert lab.on("lab1", kept) == container
    assert [rank["state"] for rank in status(lab)["ranks"]] == ["ready", "ready"]


def test_teardown_leaves_nothing(lab: Lab, deployed: Any) -> None:
    lab.teardown()
    for host in lab.hosts:
        assert lab.on(host, "docker ps -aq --filter label=io.flagprov.replica") == ""
        assert lab.on(host, "ls -d /var/lib/flagprov 2>/dev/null", check=False) == ""
        assert lab.on(host, "systemctl list-units --all --plain --no-legend 'flagprov*'") == ""
        assert lab.on(host, "ss -tlnH '( sport = :9010 or sport = :10010 or sport = :10011 )'") == ""
        assert lab.on(host, "pgrep -f '[v]llm serve'", check=False) == ""


# Two ways that the tests above and test_ray.py do not go: through the hosts' own sshd into containers whose
# image has none, and by a card's own script. The stand-in engine serves in both.
STANDIN = "qwen3-tiny-standin"
WITHOUT_SSHD = "e2e/without-sshd:1"
SCRIPT = """exec vllm serve /models/Qwen3-Tiny --served-model-name qwen3-tiny --host 0.0.0.0 --port 9010 \
--tensor-parallel-size $NNODES --nnodes $NNODES --node-rank $NODE_RANK --master-addr $MASTER_ADDR \
--master-port $MASTER_PORT --distributed-executor-backend mp $([ $NODE_RANK = 0 ] || echo --headless)"""
AUTHORIZED = "cat /root/.ssh/authorized_keys"


@dataclass(frozen=True)
class Way:
    """A release over two hosts, and what root's authorized_keys of each held before it came."""

    release: str
    before: tuple[str, ...]

    @property
    def replica(self) -> str:
        return f"{self.release}-0"

    @property
    def folder(self) -> str:
        return f"/var/lib/flagprov/replicas/{self.replica}"

    @property
    def inside(self) -> str:
        return f"docker exec flagprov-{self.replica} "


def entered(lab: Lab) -> dict[str, Any]:
    """qwen3-tiny-ray by the port of the hosts' own sshd, in an image without one that is on both."""
    found = shipped("qwen3-tiny-ray")
    (variant,) = found["variants"].values()
    variant["image"] = {"reference": WITHOUT_SSHD}
    variant["launch"]["ssh_port"] = 22
    lab.deploy(STANDIN)  # brings its image
    base = lab.on("lab1", f"docker inspect -f '{{{{.Image}}}}' flagprov-{STANDIN}-0").strip()
    made = f"docker run --name e2e --entrypoint rm {base} /usr/sbin/sshd && docker commit e2e {WITHOUT_SSHD}"
    lab.on("lab1", f"docker rm -f e2e 2>/dev/null; {made} && docker rm e2e")
    save = [*ssh_command("lab1"), f"docker save {WITHOUT_SSHD}"]
    with subprocess.Popen(save, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as saved:
        load = [*ssh_command("lab2"), "docker load"]
        subprocess.run(load, stdin=saved.stdout, check=True, capture_output=True, timeout=300)
    return found


def scripted(lab: Lab) -> dict[str, Any]:
    """The stand-in's release, started by a script that knows its place from the environment."""
    found = shipped(STANDIN)
    (variant,) = found["variants"].values()
    variant["launch"] = {
        "kind": "command",
        "command": ["bash", "-c", SCRIPT],
        "head_before_start": ["touch /run/flagprov/on-the-head"],
    }
    variant["nodes"] = 2
    return found


def shipped(release: str) -> dict[str, Any]:
    text = (ROOT / "flagprov" / "catalog" / "releases" / f"{release}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.fixture(scope="module")
def way(lab: Lab, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    make = request.param
    name = f"e2e-{make.__name__}"
    lock = lab.inventory.parent / ".flagprov" / "locks" / f"{name}.json"
    lock.unlink(missing_ok=True)  # each run makes another image
    lab.teardown()
    before = tuple(lab.on(host, AUTHORIZED) for host in lab.hosts)
    file = tmp_path_factory.mktemp("way") / f"{name}.yaml"
    try:
        file.write_text(yaml.safe_dump({**make(lab), "name": name}))
        lab.teardown()
        lab.deploy(str(file), "--set", "deadline_s=300")
        yield Way(name, before)
    finally:
        lab.teardown()
        lock.unlink(missing_ok=True)
        for host in lab.hosts:
            lab.on(host, f"docker rmi -f {WITHOUT_SSHD}", check=False)


def ways(*makers: Callable[[Lab], dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("way", makers, indirect=True, scope="module", ids=lambda m: m.__name__)


@pytest.mark.thorough
@ways(entered, scripted)
def test_every_rank_of_another_way_serves(lab: Lab, way: Way) -> None:
    found = status(lab)
    assert (found["name"], found["hosts"], found["state"]) == (way.replica, list(lab.hosts), "ready")
    assert [rank["state"] for rank in found["ranks"]] == ["ready", "ready"]


@pytest.mark.thorough
@ways(entered)
def test_flagscale_enters_the_node_by_its_hosts_sshd(lab: Lab, way: Way) -> None:
    nodes = json.loads(lab.on("lab1", f"cat {way.folder}/record.json"))["nodes"]
    head, worker = (node["address"] for node in nodes)
    script = lab.on("lab1", f"cat {way.folder}/run/exp/serve_logs/scripts/host_0_localhost_run.sh")
    assert f"ssh -n -p 22 {worker} \"docker exec flagprov-{way.replica} /bin/bash -c '" in script
    seen = lab.on("lab1", f"{way.inside}ray status --address {head}:10022")
    assert seen.count(" node_") == 2
    for host in lab.hosts:
        assert "raylet" in lab.on(host, "ss -tlnpH sport = :10023")


@pytest.mark.thorough
@ways(entered)
def test_its_key_enters_that_container_and_nothing_else(lab: Lab, way: Way) -> None:
    nodes = json.loads(lab.on("lab1", f"cat {way.folder}/record.json"))["nodes"]
    head, worker = (node["address"] for node in nodes)
    on_head, on_worker = (lab.on(host, AUTHORIZED) for host in lab.hosts)
    assert on_head == way.before[0]
    (line,) = set(on_worker.splitlines()) - set(way.before[1].splitlines())
    assert line.startswith(f'restrict,from="{head}",command="')
    keys = [lab.on(host, f"cd {way.folder}/ssh && stat -c '%a %n' *").splitlines() for host in lab.hosts]
    both = ["600 authorized_keys", "600 host_key", "600 key.pub"]
    assert keys == [sorted([*both, "600 key", "600 known_hosts"]), both]
    ssh = f"{way.inside}/run/flagprov/exp/first/ssh -p 22 {worker} "
    within = f"\"docker exec flagprov-{way.replica} /bin/bash -c 'hostname; ls /usr/sbin/sshd'\" 2>&1"
    said = lab.on("lab1", ssh + within, check=False)
    assert said.startswith("lab2\n")
    assert "cannot access '/usr/sbin/sshd'" in said
    for other in ("id", "\"docker exec flagprov-other /bin/bash -c 'id'\"", '"docker run busybox"'):
        assert "and nothing else" in lab.on("lab1", f"{ssh}{other} 2>&1", check=False)


@pytest.mark.thorough
@ways(scripted)
def test_a_script_knows_its_place(lab: Lab, way: Way) -> None:
    head, worker = (lab.on(host, f"docker top flagprov-{way.replica} -eo pid,args") for host in lab.hosts)
    assert "--node-rank 0" in head and "--headless" not in head
    assert "--node-rank 1" in worker and "--headless" in worker
    on_the_head = f"ls {way.folder}/run/on-the-head 2>/dev/null"
    assert lab.on("lab1", on_the_head, check=False) != ""
    assert lab.on("lab2", on_the_head, check=False) == ""


@pytest.mark.thorough
@ways(entered, scripted)
@pytest.mark.parametrize("host", ["lab1", "lab2"], ids=["head", "worker"])
def test_a_killed_rank_of_another_way_comes_back_with_all_others(lab: Lab, way: Way, host: str) -> None:
    started = f"grep -o '.started_at.: [0-9.]*' {way.folder}/run/state.json"
    before = {each: lab.on(each, started) for each in lab.hosts}
    lab.on(host, f"docker kill -s KILL flagprov-{way.replica}")
    lab.until(lambda: status(lab)["state"] != "ready", 30, "it is seen as not ready")
    lab.until(lambda: status(lab)["state"] == "ready", 240, "it serves again")
    assert all(lab.on(each, started) != before[each] for each in lab.hosts)
    assert [rank["state"] for rank in status(lab)["ranks"]] == ["ready", "ready"]


@pytest.mark.thorough
@ways(entered, scripted)
def test_teardown_of_another_way_leaves_nothing(lab: Lab, way: Way) -> None:
    lab.teardown()
    assert tuple(lab.on(host, AUTHORIZED) for host in lab.hosts) == way.before
    for host in lab.hosts:
        assert lab.on(host, "docker ps -aq --filter label=io.flagprov.replica") == ""
        assert lab.on(host, "ls -d /var/lib/flagprov 2>/dev/null", check=False) == ""
        assert lab.on(host, "systemctl list-units --all --plain --no-legend 'flagprov*'") == ""
        assert lab.on(host, "ss -tlnH '( sport >= :9010 and sport <= :10420 )'") == ""
        assert lab.on(host, "pgrep -f '[v]llm serve|[r]aylet|[g]cs_server|[l]auncher'", check=False) == ""
    assert not (lab.inventory.parent / ".flagprov" / "runner" / f"{way.replica}.json").exists()
