"""Two engines of one replica side by side: whatever cuts a change off, one of them is the replica."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from slotted import Killed, Machine, alone, installed

from flagprov.host import converge, history, machine, slots, status, survey
from flagprov.host.resources import claim, unit

RELEASE = {"release": "m", "chip": "c", "hosts": "h", "replica": "m-0"}


class Host:
    """What the controller asks of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def resources(self, instance: str, setting: str) -> list[dict[str, Any]]:
        """As the controller sends them."""
        second = instance.removeprefix("m-0")
        home, folder = self.machine.state / "replicas/m-0", self.machine.state / "replicas" / instance
        name, own = f"flagprov-{instance}", f"flagprov@{instance}.service"
        configs, config = folder / "configs", str(folder / "configs" / setting)
        current = str(configs / "current")
        port = "9110" if second else "9010"
        labels = {**RELEASE, "devices": "1" if second else "0", "port": port}
        labels |= {"slot": second} if second else {}
        check = {"replica": "m-0", "container": name, "unit": own, "port": int(port), "model": "x",
                 "readiness": "command", "deadline_s": 1, "after": [name, current, own]}  # fmt: skip
        replica = {"replica": "m-0", "release": "m", "chip": "c", "hosts": ["h"], "devices": [0]}
        record = {"replica": {**replica, "port": int(port), **({"slot": second} if second else {})}}
        create = {"Labels": {f"io.flagprov.{k}": v for k, v in labels.items()}, "HostConfig": {}}
        specs: list[tuple[str, str, dict[str, Any]]] = [
            ("directory", f"{home}", {"path": str(home), "mode": "0755"}),
            ("directory", f"{folder}", {"path": str(folder), "mode": "0755"}),
            ("directory", f"{configs}", {"path": str(configs), "mode": "0755"}),
            ("tree", config, {"path": config, "files": {"launch.json": setting}}),
            ("file", "wait", {"path": f"{folder}/wait", "mode": "0755", "content": ""}),
            ("file", "record", {"path": f"{home}/record.json", "mode": "0644",
                                "content": json.dumps(record)}),
            ("container", name, {"name": name, "replica": "m-0", "unit": own, "folder": str(folder),
                                 "image": {"reference": "i", "digests": []}, "create": create}),
            ("current", current, {"path": current, "config": config, "container": name, "unit": own}),
            ("unit", own, {"unit": own, "active": True, "after": [name], "follows": current}),
            ("probe", "endpoint", check),
        ]  # fmt: skip
        return [
            {"kind": kind, "name": name, "stage": "serve", "replica": "m-0", "spec": spec}
            for kind, name, spec in specs
        ]

    def converge(self, instance: str, setting: str, **more: Any) -> None:
        unit.STARTED.clear()
        converge.converge({"resources": self.resources(instance, setting), "digest": "", **more})

    def surge(self, old: str, new: str) -> None:
        self.converge(new, "new", beside=True, deployment={"at": "2", "by": "x", "gated": True})
        assert self.machine.runs(old), "the old one serves until the new one has proved itself"
        self.converge(new, "new")
        history.mark("m-0", "done")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Host]:
    def make() -> Host:
        shutil.rmtree(tmp_path / "state", ignore_errors=True)
        return Host(installed(monkeypatch, tmp_path / "state"))

    return make


@pytest.mark.parametrize(("old", "new"), [("m-0", "m-0.b"), ("m-0.b", "m-0")])
def test_a_new_one_takes_the_place_of_the_old_one(host: Any, old: str, new: str) -> None:
    here = host()
    here.converge(old, "old", deployment={"at": "1", "by": "x"})
    here.surge(old, new)
    assert here.machine.place() == alone(new)
    assert slots.in_place("m-0") == new
    (found,) = survey.replicas()
    assert (found["state"], found["port"], "beside" in found) == (
        "running",
        9110 if "b" in new else 9010,
        False,
    )
    again = here.resources(new, "new")
    assert converge.look({"resources": again})["changes"] == []
    assert [entry["result"] for entry in history.answer({})["deployments"]] == ["done", "done"]
    assert here.machine.restarted == [], "to be enabled is no reason to be restarted"


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize(("old", "new"), [("m-0", "m-0.b"), ("m-0.b", "m-0")])
def test_whatever_kills_a_change_the_next_run_leaves_one(
    host: Any, old: str, new: str, rebooted: bool
) -> None:
    """Before each step of docker, of systemd and of the files, until the whole change goes through."""
    at, over = 0, False
    while not over:
        at += 1
        here: Host = host()
        here.converge(old, "old", deployment={"at": "1", "by": "x"})
        here.machine.dies_at = here.machine.steps + at
        try:
            here.surge(old, new)
            over = True
        except Killed:
            pass
        here.machine.dies_at = 0
        if rebooted:
            here.machine.reboot()
        now = slots.in_place("m-0")
        assert here.machine.runs(old) or (now == new and (here.machine.runs(new) or rebooted)), (
            f"killed at {at}"
        )
        (seen,) = survey.replicas()
        running = [name for name in here.machine.place()[2] if f"flagprov-{name}" in here.machine.containers]
        assert "beside" in seen or len(running) < 2, "two engines, and nobody says so"
        for setting in ("old" if now == old else "new", "other"):
            here.converge(now, setting, deployment={"at": "3", "by": "x"})
            assert here.machine.place() == alone(now), f"killed at {at}"
            assert converge.look({"resources": here.resources(now, setting)})["changes"] == []
    assert at > 8


@pytest.mark.parametrize("instance", ["m-0", "m-0.b"])
def test_another_configuration_is_taken_up_in_its_container(host: Any, instance: str) -> None:
    here = host()
    here.converge(instance, "old", deployment={"at": "1", "by": "x"})
    wanted = here.resources(instance, "new")
    steps = [
        (step["kind"], step["action"], step["cost"])
        for step in converge.look({"resources": wanted})["changes"]
    ]
    assert steps == [
        ("tree", "create", "nothing"), ("current", "switch", "restart"), ("probe", "wait", "nothing"),
    ]  # fmt: skip
    here.converge(instance, "new", deployment={"at": "2", "by": "x"})
    assert here.machine.place() == alone(instance)
    assert here.machine.restarted == [], "its launcher follows by itself"
    assert converge.look({"resources": wanted})["changes"] == []
    back = {"from": [{"replica": "m-0", "number": 1}]}
    kinds = [step["kind"] for step in converge.look(back)["changes"]]
    assert kinds == ["current", "probe"]


def test_whatever_kills_that_the_next_run_ends_it(host: Any) -> None:
    at, over = 0, False
    while not over:
        at += 1
        here: Host = host()
        here.converge("m-0", "old", deployment={"at": "1", "by": "x"})
        here.machine.dies_at = here.machine.steps + at
        try:
            here.converge("m-0", "new", deployment={"at": "2", "by": "x"})
            over = True
        except Killed:
            pass
        here.machine.dies_at = 0
        link = here.machine.state / "replicas/m-0/configs/current"
        assert (link / "launch.json").read_text() in ("old", "new"), f"killed at {at}"
        here.converge("m-0", "new", deployment={"at": "3", "by": "x"})
        assert here.machine.place() == alone("m-0")
        assert (link / "launch.json").read_text() == "new"
        assert sorted(path.name for path in link.parent.iterdir()) == ["current", "new", "old"]
        assert converge.look({"resources": here.resources("m-0", "new")})["changes"] == []
    assert at > 3


def test_no_configuration_is_left_in_a_slot_that_gave_way(host: Any) -> None:
    """Else the next container there ran that before its own were there."""
    here = host()
    here.converge("m-0", "old", deployment={"at": "1", "by": "x"})
    here.surge("m-0", "m-0.b")
    replicas = here.machine.state / "replicas"
    assert not (replicas / "m-0" / "configs").exists()
    assert (replicas / "m-0.b" / "configs" / "current" / "launch.json").read_text() == "new"
    here.converge("m-0", "again", beside=True)
    assert (replicas / "m-0" / "configs" / "current" / "launch.json").read_text() == "again"


def test_a_way_back_to_the_other_slot_stops_first(host: Any) -> None:
    """Both at once may be too much for the host; a rollback starts nothing beside what it ends."""
    here = host()
    here.converge("m-0", "old", deployment={"at": "1", "by": "x"})
    here.surge("m-0", "m-0.b")
    looked = converge.look({"from": [{"replica": "m-0", "number": 1}]})
    steps = [(step["kind"], step["action"]) for step in looked["changes"]]
    assert steps.index(("slot", "remove")) < steps.index(("container", "create"))
    converge.converge({"from": [{"replica": "m-0", "number": 1}], "digest": looked["digest"],
                       "deployment": {"at": "4", "by": "x"}})  # fmt: skip
    assert here.machine.place() == alone("m-0")


def test_what_was_held_by_hand_in_a_slot_goes_with_it(host: Any) -> None:
    """Else the next engine there waits for a person who has long gone."""
    here = host()
    here.converge("m-0", "old", deployment={"at": "1", "by": "x"})
    hold = here.machine.state / "replicas/m-0/host/hold"
    hold.parent.mkdir()
    hold.touch()
    here.surge("m-0", "m-0.b")
    assert not hold.exists()
    assert history.numbers("m-0") == [1, 2]


def test_a_second_engine_is_said(host: Any) -> None:
    here = host()
    here.converge("m-0", "old", deployment={"at": "1", "by": "x"})
    here.converge("m-0.b", "new", beside=True)
    (found,) = survey.replicas()
    assert (found["port"], found["state"], found["beside"]["port"]) == (9010, "running", 9110)
    (said,) = status.status({})["replicas"]
    assert said["state"] == "failed"  # its record has no probe here
    assert "a second container of it is running (flagprov-m-0.b)" in said["detail"]
    assert here.machine.enabled == {"flagprov@m-0.service"}


def test_what_was_kept_is_the_newest_again(host: Any) -> None:
    here = host()
    here.converge("m-0", "old", deployment={"at": "1", "by": "x", "release": "m"})
    here.converge("m-0.b", "new", beside=True, deployment={"at": "2", "by": "x", "gated": True})
    kept = {"number": 1, "command": "kept after rollout", "by": "y", "at": "3"}
    history.mark("m-0", "refused", kept)
    found = history.answer({})["deployments"]
    assert [(e["number"], e["result"], e.get("restores")) for e in found] == [
        (1, "done", None), (2, "refused", None), (3, "done", 1),
    ]  # fmt: skip
    assert found[2]["what"] == found[0]["what"]
    assert (found[2]["run"], found[2]["command"]) == (found[0]["run"], "kept after rollout")


def test_what_ends_first_is_in_nobodys_way(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A way back to devices, or a port, that the second slot has now."""
    here = host()
    here.converge("m-0.b", "old", deployment={"at": "1", "by": "x"})
    known = [{"index": index, "processes": [f"python3 (pid {index})"]} for index in range(3)]
    monkeypatch.setattr(claim.probe, "devices", lambda: ({"nvidia-smi": known}, {}))
    monkeypatch.setattr(machine, "listening", lambda: {9110: "1", 9200: "2"})
    monkeypatch.setattr(machine, "holder", lambda port: "python3")
    spec = {"container": "flagprov-m-0", "port": 9110, "devices": [0, 1], "tool": "nvidia-smi"}
    found = claim.observe(spec)
    assert (found["port"], found["devices"]) == ("", {"0": "python3 (pid 0)"})
    assert claim.observe({**spec, "port": 9200})["port"] == "python3"
    assert sorted(claim.observe({**spec, "container": "flagprov-m-1"})["devices"]) == ["0", "1"]
