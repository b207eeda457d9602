"""Two launchers and a Ray of a few shell lines: the order of a start, its ports, and what a failure says."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launching import Running, launched, write

from flagprov.host import launcher_ray
from flagprov.host.launcher_processes import descendants, processes, send
from flagprov.host.launcher_ray import Ray, look, nodes_in

STATUS = """======== Autoscaler status: 2026-01-01 ========
Node status
---------------------------------------------------------------
Active:
 1 node_5ab3
 1 node_77f0
Pending:
 (no pending nodes)
Recent failures:
 1 node_dead
"""
# Says how it was called; the head listens where it is told to, and `status` knows who has joined.
RAY = """#!/bin/bash
echo "ray $*"
case "$*" in
  *status*) cat JOINED ;;
  *--head*) exec python3 -c 'if True:
    import socket, sys
    (port,) = [w[7:] for w in sys.argv if w.startswith("--port=")]
    taken = socket.create_server(("127.0.0.1", int(port)))
    print("head is up", flush=True)
    sys.stdin.read() or __import__("signal").pause()' "$@" ;;
  *) FAIL; cp STATUS JOINED; exec sleep 1000 ;;
esac
"""
ENGINE = ["sh", "-c", "echo USE=$USE_FLAGGEMS; echo Application startup complete.; exec sleep 1000"]


@pytest.fixture
def ports() -> Iterator[list[int]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        found = [each.getsockname()[1] for each in sockets]
    yield found


def two(
    tmp_path: Path, ports: list[int], stack: ExitStack, fail: str = ":", ray: str = RAY
) -> tuple[Running, Running]:
    text = ray.replace("JOINED", str(tmp_path / "joined")).replace("STATUS", str(tmp_path / "status"))
    write(
        tmp_path, {"bin/ray": text.replace("FAIL", fail), "status": STATUS, "joined": "Active:\n 1 node_a\n"}
    )
    (tmp_path / "bin/ray").chmod(0o755)
    meeting, gcs, other = ports
    said: dict[str, Any] = {
        "kind": "ray", "argv": ENGINE, "env": {"USE_FLAGGEMS": "1"},
        "peers": {"hosts": ["a", "b"], "address": "127.0.0.1", "port": meeting, "token": "t"},
        "ray": {"address": "127.0.0.1", "head": "127.0.0.1", "nodes": 2, "resources": ["--num-gpus=8"],
                "ports": {"port": gcs, "node-manager-port": other}},
    }  # fmt: skip
    head, worker = (
        stack.enter_context(launched(tmp_path / str(rank), path=str(tmp_path / "bin"), rank=rank, **said))
        for rank in (0, 1)
    )
    return head, worker


def test_the_engine_starts_when_every_node_has_joined(tmp_path: Path, ports: list[int]) -> None:
    with ExitStack() as stack:
        head, worker = two(tmp_path, ports, stack)
        head.until("Application startup complete.")
        worker.until("--address")
        assert head.state()["reason"] == ""
        assert head.state()["ray"] == {"nodes": 2, "of": 2}
        order = [line for line in head.lines if line in ("head is up", "USE=1") or "Ray has all" in line]
        assert order == ["head is up", "flagprov: Ray has all 2 nodes", "USE=1"]
        (started,) = [line for line in head.lines if line.startswith("ray start --head")]
        assert f"--port={ports[1]} --include-dashboard=false" in started
        assert f"--node-ip-address=127.0.0.1 --node-manager-port={ports[2]}" in started
        (joined,) = [line for line in worker.lines if line.startswith("ray start")]
        assert f"--address=127.0.0.1:{ports[1]}" in joined
        assert "--head" not in joined
        send(descendants(worker.process.pid, processes()), signal.SIGKILL)  # Ray of one node dies
        assert worker.finish() == 1
        assert "rank 1 on b ended" in head.until("the engine was ended")


def test_a_ray_that_does_not_start_is_said_and_ends_both(tmp_path: Path, ports: list[int]) -> None:
    with ExitStack() as stack:
        head, worker = two(tmp_path, ports, stack, fail="echo port is taken; exit 5")
        assert worker.finish() == 1
        assert "port is taken" in worker.lines
        assert "rank 1 on b ended" in head.until("the engine was ended")


@pytest.mark.parametrize("stands", ["cat JOINED", "exec python3"])
def test_a_rank_that_is_lost_while_ray_stands_still_ends_the_start_at_once(
    tmp_path: Path, ports: list[int], stands: str
) -> None:
    """`ray status` of a Ray that lost a node, or Ray's head itself, may take a minute or two to say so."""
    with ExitStack() as stack:
        still = RAY.replace(stands, "echo stands; exec sleep 1000; exec python3")
        head, worker = two(tmp_path, ports, stack, ray=still)
        head.until("ray start --head")
        if stands == "cat JOINED":
            worker.until("ray start")
        worker.process.kill()
        assert "rank 1 on b ended" in head.until("the engine was ended")


def test_each_node_keeps_its_own_values(tmp_path: Path) -> None:
    """vLLM's head would give its own interface and RDMA ports to the workers of all nodes."""
    said = {"ports": {"port": 1}, "address": "a", "head": "a", "nodes": 2, "resources": []}
    env: dict[str, str] = {}
    Ray({**said, "own": ["NCCL_IB_HCA", "NCCL_SOCKET_IFNAME"]}, str(tmp_path)).write(env)
    file = Path(env["VLLM_CONFIG_ROOT"], "ray_non_carry_over_env_vars.json")
    assert json.loads(file.read_text()) == ["NCCL_IB_HCA", "NCCL_SOCKET_IFNAME"]
    theirs = {"VLLM_CONFIG_ROOT": str(tmp_path / "theirs")}
    Ray(said, str(tmp_path)).write(theirs)
    assert theirs == {"VLLM_CONFIG_ROOT": str(tmp_path / "theirs")}


def test_nodes_are_those_that_are_active() -> None:
    assert nodes_in(STATUS) == 2
    assert nodes_in("no cluster") == 0


def test_nodes_are_counted_again_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(launcher_ray.time, "monotonic", lambda: now[0])
    said = {"ports": {"port": 1}, "address": "a", "head": "a", "nodes": 2, "resources": []}
    ray = Ray(said, str(tmp_path))

    def answers(status: str, code: int) -> int | None:
        def spawn(argv: list[str], output: str) -> int:
            assert argv[:2] == ["ray", "status"]
            Path(output).write_text(status)
            return 7

        node: Any = SimpleNamespace(exp=str(tmp_path), ended={}, spawn=spawn)
        now[0] += 60
        look(node, ray)
        before = ray.seen
        look(node, ray)  # it has not ended yet
        assert ray.seen == before
        node.ended[7] = code
        look(node, ray)
        return ray.seen

    assert answers(STATUS, 0) == 2
    assert answers("cannot connect", 256) == 2  # no news
    assert answers(STATUS.replace(" 1 node_77f0\n", ""), 0) == 1


@pytest.mark.parametrize(("imports", "told"), [("true", True), ("false", False)])
def test_a_ray_without_its_client_is_not_told_of_its_port(tmp_path: Path, imports: str, told: bool) -> None:
    """Ray refuses that; it asks for grpc, which not every image with Ray has."""
    python, bin_ray = tmp_path / "python", tmp_path / "bin" / "ray"
    write(tmp_path, {"python": f'#!/bin/sh\n[ "$1" != -c ] || exec {imports}\nshift; echo "$@"\n'})
    write(tmp_path, {"bin/ray": f"#!{python}\n"})
    for path in (python, bin_ray):
        path.chmod(0o755)
    said = {"address": "127.0.0.1", "head": "127.0.0.1", "nodes": 2, "resources": [],
            "ports": {"port": 1, "ray-client-server-port": 7}}  # fmt: skip
    Ray(said, str(tmp_path)).write({})
    env = {"PATH": f"{bin_ray.parent}:/usr/bin:/bin"}
    wrapper = [str(tmp_path / "first" / "ray"), "start", "--head"]
    done = subprocess.run(wrapper, env=env, capture_output=True, text=True, check=True)
    assert ("--ray-client-server-port=7" in done.stdout) == told
    assert "--port=1" in done.stdout


def test_a_ray_behind_a_long_path_is_asked_for_its_client_all_the_same(tmp_path: Path) -> None:
    """The kernel reads 127 bytes of a first line, so pip lets a shell start a Python that lies deeper."""
    write(tmp_path / "bin", {"python3": "#!/bin/sh\n", "ray": '#!/bin/sh\necho "$@"\n'})
    for path in (tmp_path / "bin").iterdir():
        path.chmod(0o755)
    said = {"address": "127.0.0.1", "head": "127.0.0.1", "nodes": 2, "resources": [],
            "ports": {"port": 1, "ray-client-server-port": 7}}  # fmt: skip
    Ray(said, str(tmp_path)).write({})
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    wrapper = [str(tmp_path / "first" / "ray"), "start", "--head"]
    done = subprocess.run(wrapper, env=env, capture_output=True, text=True, check=True)
    assert "--ray-client-server-port=7" in done.stdout
