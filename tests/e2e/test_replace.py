"""A spare takes the place of a host that serves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Lab

RELEASE = "qwen3-tiny-standin"
OURS = "docker ps -aq --filter label=io.flagprov.replica"


@pytest.fixture
def one_serves(lab: Lab) -> Iterator[Lab]:
    lab.teardown()
    lab.deploy(RELEASE, "--limit", "lab1", "--set", "serve.max_num_seqs=3")
    yield lab
    lab.flagprov("uncordon", lab.inventory, "lab1", "--yes")
    lab.teardown()


def test_a_spare_takes_the_place_of_a_host(one_serves: Lab) -> None:
    lab = one_serves
    before = lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"]
    done = lab.flagprov("replace", lab.inventory, "lab1", "lab2", "--yes", "--output", "json")
    assert done.code == 0, done
    (replica,) = lab.flagprov("status", lab.inventory, "--output", "json").json["replicas"]
    assert (replica["hosts"], replica["state"]) == (["lab2"], "ready")
    assert (replica["name"], replica["endpoint"].rpartition(":")[2]) == (
        before[0]["name"],
        before[0]["endpoint"].rpartition(":")[2],
    )
    assert lab.on("lab1", OURS).strip() == ""
    assert "replaced by lab2" in lab.on("lab1", "cat /var/lib/flagprov/cordoned.json")
    assert "max_num_seqs: 3" in lab.on("lab2", "grep -rh max_num_seqs /var/lib/flagprov/replicas/*/configs")
    again = lab.flagprov("replace", lab.inventory, "lab1", "lab2", "--yes", "--output", "json")
    assert again.code == 2, again
    assert "no replica to hand over" in str(again)
