"""What `start.sh` starts on each node (in which environment: tests/unit/host/test_launcher_by_hand.py)."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from launch_inputs import chip, facts, inputs

from flagprov.models.desired import Node, Replica
from flagprov.runner.render import render


def spanning(kind: str, rank: int, names: tuple[str, str] = ("a", "b")) -> str:
    nodes = tuple(Node(name, f"192.0.2.{number}", "eth0") for number, name in enumerate(names, 1))
    replica = Replica("r-0", "r", "nvidia-h100", names, tuple(range(8)), 9010, nodes)
    launch = inputs(
        launch={"kind": kind, "label": "r"},
        chip=chip(name="nvidia-h100", resource_type="gpu"),
        facts=facts(ray="2.55.0", sshd=True),
        replica=replica,
        rank=rank,
    )
    return render(launch)["start.sh"]


def test_each_node_of_a_ray_starts_its_part() -> None:
    head, worker = (spanning("ray", rank).splitlines() for rank in (0, 1))
    assert "ray start --head --num-gpus=8 || exit" in head
    assert head[-1].startswith("exec vllm serve /models/tiny ")
    assert any("ray status --address 192.0.2.1:10012" in line and "-ge 2" in line for line in head)
    assert worker[-1] == "exec ray start --address=192.0.2.1:10012 --block --num-gpus=8"


def test_flagscale_is_started_on_the_head_alone() -> None:
    head, worker = (spanning("flagscale", rank).splitlines() for rank in (0, 1))
    assert head[-1] == 'exec flagscale serve r "$FLAGPROV_CONFIG"/conf/serve.yaml'
    assert worker[-1] == "echo 'flagprov: nothing to start here: FlagScale enters from a'"
    assert "rank 1 of r-0 on b" in worker[1]


def scripts() -> list[Any]:
    kinds = [(kind, rank) for kind in ("nodes", "ray", "flagscale") for rank in (0, 1)]
    texts = {f"{kind}-{rank}": spanning(kind, rank) for kind, rank in kinds}
    texts["alone"] = render(inputs())["start.sh"]
    return [pytest.param(text, id=name) for name, text in texts.items()]


@pytest.mark.parametrize("text", scripts())
def test_it_is_shell(text: str) -> None:
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_hosts_name_is_no_shell(rank: int, tmp_path: Path) -> None:
    """An inventory may call a host anything."""
    names = (f"x';touch {tmp_path}/0;'", f"y\ntouch {tmp_path}/1\n")
    text = spanning("flagscale", rank, names)
    subprocess.run(["bash"], input=text, text=True, capture_output=True, check=False)
    assert list(tmp_path.iterdir()) == []
