"""Which hosts are asked before a replica over several hosts starts, and what each is asked."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from flagprov.apply.preflight import Entry, differences, new_groups, request_of, verdicts
from flagprov.catalog import load_release, variant_for
from flagprov.host import docker
from flagprov.host.preflight import Meeting, layers, manifest
from flagprov.models.desired import Node, Replica
from flagprov.models.observed import Running, Survey
from flagprov.models.release import Variant

NODES = (Node("a", "192.0.2.1", "eth0"), Node("b", "192.0.2.2", "eth0"))
TWO = Replica("m-0", "m", "c", ("a", "b"), (0,), 9010, NODES)
ONE = Replica("m-1", "m", "c", ("c",), (0,), 9010)


def survey(host: str, *states: str) -> Survey:
    known = tuple(Running("m-0", "m", "c", ("a", "b"), (0,), 9010, state) for state in states)
    return Survey(host, "x86_64", "Debian", "6", 8, 1024, "20.10", None, {}, known, {})


def variant(kind: str) -> Variant:
    base = variant_for(load_release("qwen3-tiny"), "cpu-x86")
    return base.model_copy(update={"launch": base.launch.model_copy(update={"kind": kind})})


@pytest.mark.parametrize(
    ("states", "going", "names"),
    [
        ((), {"a", "b", "c"}, ["m-0"]),
        (("running",), {"a", "b", "c"}, []),  # its ports are in use, by itself
        (("restarting",), {"a", "b", "c"}, []),
        (("exited",), {"a", "b", "c"}, ["m-0"]),  # it starts anew, over whatever network there is now
        (("absent",), {"a", "b", "c"}, ["m-0"]),  # a record is all that is left
        ((), {"a", "c"}, []),  # it is refused as a whole anyway
    ],
)
def test_what_starts_over_several_hosts_is_tried(states: Any, going: set[str], names: list[str]) -> None:
    surveys = {"a": survey("a"), "b": survey("b", *states)}
    assert [each.name for each in new_groups((TWO, ONE), surveys, going)] == names


RAY = {10012, 10020, 10021}


@pytest.mark.parametrize(
    ("kind", "entry", "head_only", "worker_only"),
    [
        ("nodes", None, set(), set()),
        ("ray", None, RAY, set()),
        ("flagscale", "container", RAY, {10019}),
        ("flagscale", None, RAY, set()),  # its image has no sshd, so that its launchers form the Ray
    ],
)
def test_each_rank_listens_where_it_will(
    kind: str, entry: Entry | None, head_only: set[int], worker_only: set[int]
) -> None:
    head, worker = (request_of(TWO, rank, variant(kind), entry) for rank in (0, 1))
    assert set(head["ports"]) - set(worker["ports"]) == head_only
    assert set(worker["ports"]) - set(head["ports"]) == worker_only
    assert {10010, 10011} <= set(head["ports"]) & set(worker["ports"])
    assert head["peers"] == [{"host": "b", "address": "192.0.2.2", "ports": worker["ports"]}]


def test_a_hosts_own_sshd_is_greeted_by_the_head_and_not_listened_for() -> None:
    asked = variant("flagscale")
    launch = asked.launch.model_copy(update={"ssh_port": 22})
    head, worker = (
        request_of(TWO, rank, asked.model_copy(update={"launch": launch}), "host") for rank in (0, 1)
    )
    assert 22 not in {*head["ports"], *worker["ports"]}
    assert [peer["sshd"] for peer in head["peers"]] == [22]
    assert "sshd" not in worker["peers"][0]


@pytest.mark.parametrize(
    ("said", "why"), [(b"SSH-2.0-OpenSSH_9.2", ""), (b"HTTP/1.1 400", "no sshd"), (None, "refused")]
)
def test_who_answers_at_the_port_of_an_sshd(said: bytes | None, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        meeting = Meeting({"address": "127.0.0.1", "ports": [], "peers": []})
        if said is None:
            server.close()
            meeting.greet({"host": "b", "address": "127.0.0.1"}, port)
        else:
            caller = threading.Thread(
                target=meeting.greet, args=({"host": "b", "address": "127.0.0.1"}, port)
            )
            caller.start()
            connection, _ = server.accept()
            with connection:
                connection.sendall(said)
                caller.join()
    assert [why in each["why"] for each in meeting.failures] == ([True] if why else [])


def test_one_message_names_the_host_and_all_its_ports() -> None:
    failures = [{"host": "b", "port": port, "why": "No route to host"} for port in (1, 2)]
    found = verdicts({"a": failures, "b": []})
    assert {name: error.message for name, error in found.items()} == {
        "a": "it does not reach b (No route to host) at port 1, 2"
    }


def test_the_host_with_another_mtu_or_other_weights_is_named() -> None:
    same = {"mtu": 9000, "weights": {"a.safetensors": 7, "config.json": 1}}
    other = {"mtu": 1500, "weights": same["weights"]}
    torn = {"mtu": 9000, "weights": {"a.safetensors": 5, "config.json": 1}}
    assert differences({"a": same, "b": same}) == {}
    assert differences({"a": same, "b": {"mtu": None, "weights": {}}}) == {}  # not known is not other
    found = differences({"a": same, "b": other, "c": same, "d": torn})
    assert {name: error.message for name, error in found.items()} == {
        "b": "its cluster interface has MTU 1500, that of a, c, d 9000",
        "d": "its weights are not those of a, b, c: a.safetensors has 5 bytes here, 7 there",
    }


def test_the_host_with_another_image_is_named() -> None:
    found = differences({"a": {"image": "1"}, "b": {"image": "2"}, "c": {"image": "1"}, "d": {"image": ""}})
    assert {name: error.message for name, error in found.items()} == {
        "b": "its image is not that of a, c, though both are accepted"
    }


def test_an_image_is_known_by_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A docker that keeps images in containerd gives the same image another Id."""
    made_of = {"sha256:1": ["sha256:a", "sha256:b"], "sha256:2": ["sha256:a", "sha256:b"], "sha256:3": ["b"]}
    monkeypatch.setattr(docker, "image_id", lambda reference, digests: reference if digests else None)
    monkeypatch.setattr(docker, "call", lambda _, path: {"RootFS": {"Layers": made_of[path.split("/")[2]]}})
    one, same, other = (layers(image, [image]) for image in made_of)
    assert one == same != other
    assert layers("sha256:1", []) == ""


def test_weights_are_what_the_engine_reads(tmp_path: Path) -> None:
    for name in ("config.json", "a.safetensors", ".msc", "README.md", ".cache/x.json", "sub/b.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("four")
    assert manifest(str(tmp_path)) == {"config.json": 4, "a.safetensors": 4, "sub/b.py": 4}
    assert manifest("") == {}
