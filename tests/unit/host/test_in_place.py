"""A configuration that changes in its container, where something else happens at the same moment."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from launching import launched as started
from launching import write

from flagprov.host import docker, engine, launched
from flagprov.host.launcher import Launcher
from flagprov.host.launcher_state import Current
from flagprov.host.resources import current, probe, unit
from flagprov.host.wire import Blocked
from flagprov.models.release import Container, Mount
from flagprov.runner.render import launcher_files, own_shm

UNIT = "flagprov@m-0.service"


def relink(link: Path, target: str) -> None:
    beside = link.with_name("new")
    beside.symlink_to(target)
    beside.rename(link)


class Host:
    """A replica's unit, its container, and what its launcher says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.did: list[str] = []
        self.active = "active"
        self.container: dict[str, Any] = {"Running": True}
        self.said: dict[str, Any] = {"phase": "running", "follows": True}
        configs = folder / "configs"
        (configs / "two").mkdir(parents=True)
        self.spec = {"path": str(configs / "current"), "config": str(configs / "two"), "unit": UNIT}
        self.spec["container"] = "flagprov-m-0"
        monkeypatch.setattr(docker, "container", lambda _: {"State": self.container})
        monkeypatch.setattr(launched, "said", lambda *_: self.said)
        monkeypatch.setattr(unit, "run", self.run)
        monkeypatch.setattr(unit, "unit_state", lambda _: {"ActiveState": self.active})
        monkeypatch.setattr(unit, "STARTED", set())
        monkeypatch.setattr(current.time, "sleep", lambda _: None)
        monkeypatch.setattr(current, "TAKEN_S", -1.0)

    def run(self, argv: list[str], timeout: float) -> Any:
        self.did.append(argv[1])
        return SimpleNamespace(code=0, out="", err="")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


@pytest.mark.parametrize("state", ["active", "activating"])
def test_a_plan_is_the_same_whether_an_engine_that_dies_again_and_again_is_up_or_not(state: str) -> None:
    """Else converging would be refused: this host has changed since it was looked at."""
    spec = {"unit": UNIT, "active": True, "after": ["flagprov-m-0"]}
    observed = {"loaded": True, "active": state, "enabled": True}
    assert unit.diff(spec, observed, {"/configs/current", "/configs/two"}) == []


@pytest.mark.parametrize("active", ["active", "activating"])
def test_a_back_off_is_cut_short(host: Host, active: str) -> None:
    host.container, host.active = {"Running": False}, active
    current.apply(host.spec, current.observe(host.spec))
    assert host.did == ["reset-failed", "restart"]
    assert {UNIT} == unit.STARTED


@pytest.mark.parametrize("active", ["inactive", "failed", "deactivating"])
def test_a_unit_that_does_not_run_is_left_to_its_own_step(host: Host, active: str) -> None:
    host.container, host.active = {"Running": False}, active
    current.apply(host.spec, current.observe(host.spec))
    assert (host.did, unit.STARTED) == ([], set())


def test_an_engine_that_ended_by_itself_just_now_does_not_count_against_the_new_one(host: Host) -> None:
    """Its unit would come back by itself, which reads as a death of what this run has started."""
    host.said = {"phase": "ended", "follows": False}
    current.apply(host.spec, current.observe(host.spec))
    assert host.did == ["reset-failed", "restart"]


def test_what_a_person_started_while_it_is_held_ends_with_its_container(host: Host) -> None:
    """It has the port and the devices, and is none of the launcher's processes."""
    hold = Path(host.spec["path"]).parents[1] / "host" / "hold"
    hold.parent.mkdir()
    hold.touch()
    current.apply(host.spec, current.observe(host.spec))
    assert host.did == ["reset-failed", "restart"]


@pytest.mark.parametrize("said", [{"phase": "running", "follows": True}, {"phase": "stopping"}])
def test_a_new_engine_has_all_its_starts(host: Host, said: dict[str, Any]) -> None:
    host.said = said
    current.apply(host.spec, current.observe(host.spec))
    assert host.did == ["reset-failed"]


def test_without_a_link_nothing_else_is_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its launcher sees it: what serves is not called one that starts."""
    monkeypatch.setattr(launched, "folder", lambda _: str(tmp_path))
    assert launched._follows("m-0", {"current": 5})
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "current").symlink_to("one")
    assert not launched._follows("m-0", {"current": 5})
    assert launched._follows("m-0", {"current": None})


# The engine before it takes its container with it


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What probe sees, look after look: how the engine is, and its unit's state and restarts."""

    def during(*steps: tuple[dict[str, Any], str, int]) -> Any:
        units = iter([steps[0], *steps[1:], steps[-1]])
        states = iter(steps)
        monkeypatch.setattr(engine, "state", lambda *_: {"detail": "", **next(states)[0]})
        monkeypatch.setattr(engine, "log_tail", lambda *_: "")
        monkeypatch.setattr(engine, "first_error", lambda *_: "")

        def unit_state(_: str) -> dict[str, str]:
            _, sub, restarts = next(units)
            return {"ActiveState": "active", "SubState": sub, "NRestarts": str(restarts)}

        monkeypatch.setattr(probe, "unit_state", unit_state)
        monkeypatch.setattr(probe, "listens", lambda *_: True)
        monkeypatch.setattr(probe.time, "sleep", lambda _: None)
        monkeypatch.setattr(probe, "_pause", lambda *_: None)
        monkeypatch.setattr(probe.unit, "STARTED", {UNIT})
        for name in ("stop", "stop_soon"):
            monkeypatch.setattr(probe.unit, name, lambda *_: None)
        spec = {"replica": "m-0", "container": "flagprov-m-0", "unit": UNIT, "deadline_s": 900}
        return probe.apply({**spec, "readiness": "chat"}, {"state": "starting"})

    return during


DRAINS = {"state": "draining", "gives_way": True}
ENDED = {"state": "failed", "ended": True}
STARTS = {"state": "starting"}


def test_one_whose_memory_is_not_freed_ends_with_its_container_and_the_new_one_is_awaited(looks: Any) -> None:
    now = looks(
        (DRAINS, "running", 0),
        (ENDED, "running", 0),
        (ENDED, "auto-restart", 0),
        (ENDED, "start-pre", 1),
        (STARTS, "running", 1),
        ({"state": "ready"}, "running", 1),
    )
    assert now["state"] == "ready"


def test_the_new_one_may_not_die(looks: Any) -> None:
    with pytest.raises(Blocked, match="its engine ended at start"):
        looks(
            (DRAINS, "running", 0),
            (ENDED, "auto-restart", 0),
            (STARTS, "running", 1),
            (ENDED, "auto-restart", 1),
        )


def test_an_engine_of_several_hosts_that_dies_is_not_taken_for_one_that_gives_way(looks: Any) -> None:
    with pytest.raises(Blocked, match="its engine ended at start"):
        looks((STARTS, "running", 0), (dict(DRAINS, gives_way=False), "running", 0), (ENDED, "running", 0),
              (ENDED, "auto-restart", 0))  # fmt: skip


@pytest.mark.parametrize(("phase", "state"), [("stopping", "draining"), ("running", "starting")])
@pytest.mark.parametrize("follows", [True, False])
def test_who_gives_way_is_not_what_is_to_run(
    monkeypatch: pytest.MonkeyPatch, phase: str, state: str, follows: bool
) -> None:
    monkeypatch.setattr(docker, "container", lambda _: {"State": {"Running": True}})
    said = {"phase": phase, "follows": follows, "reason": ""}
    monkeypatch.setattr(launched, "said", lambda *_: said)
    monkeypatch.setattr(engine, "_serving", lambda *_: {"state": "starting", "detail": "refused"})
    now = engine.state({"container": "c", "unit": UNIT, "readiness": "chat"}, unit={})
    assert (now["state"], now.get("gives_way", False)) == (state, not follows)


# In the container


def configured(folder: Path, **launch: Any) -> None:
    folder.mkdir()
    document = {"schema_version": 1, "kind": "command", "launcher": "same", "settle_s": 0.3, **launch}
    write(folder, launcher_files() | {"launch.json": json.dumps(document)})


def test_one_that_was_put_right_is_read_anew(tmp_path: Path) -> None:
    """Also the launcher itself: what a person has changed there does not stay in memory."""
    argv = ["sh", "-c", "echo Application startup complete.; exec sleep 600"]
    configured(tmp_path / "one", argv=argv)
    (tmp_path / "conf").symlink_to("one")
    script = tmp_path / "one" / "launcher.py"
    files = {"launch.json": (tmp_path / "one" / "launch.json").read_text()}
    with started(tmp_path, files=files) as running:
        running.until("startup complete")
        text = script.read_text()
        script.write_text(text.replace("class Launcher:", "say('put right')\n\n\nclass Launcher:"))
        relink(tmp_path / "conf", "one")
        running.until("put right")
        running.until("startup complete")
        running.process.terminate()
        assert running.finish() == 0


def test_what_only_the_new_launcher_understands_is_left_to_it(tmp_path: Path) -> None:
    """Of an update: the one that runs may not know the new document's version."""
    argv = ["sh", "-c", "echo Application startup complete.; exec sleep 600"]
    configured(tmp_path / "one", argv=argv)
    configured(tmp_path / "two", argv=argv, schema_version=2)
    known = tmp_path / "two" / "flagprov" / "host" / "launcher_launch.py"
    known.write_text(known.read_text().replace("SCHEMA_VERSION = 1", "SCHEMA_VERSION = 2"))
    (tmp_path / "conf").symlink_to("one")
    files = {"launch.json": (tmp_path / "one" / "launch.json").read_text()}
    with started(tmp_path, files=files) as running:
        running.until("startup complete")
        relink(tmp_path / "conf", "two")
        running.until("startup complete")
        assert running.state()["config"] == "two"
        running.process.terminate()
        assert running.finish() == 0


def test_an_error_of_the_engine_before_is_not_the_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both may have the same second; docker tells them apart by less."""
    asked: list[str] = []

    def run(argv: list[str], timeout: float) -> Any:
        asked.extend(argv)
        return SimpleNamespace(out="", err="")

    monkeypatch.setattr(engine, "run", run)
    monkeypatch.setattr(docker, "container", lambda _: {"State": {"StartedAt": "2026-01-02T03:04:05.6Z"}})
    monkeypatch.setattr(launched, "said", lambda *_: {"started_at": 1767323045.678})
    engine.first_error("flagprov-m-0")
    assert asked[asked.index("--since") + 1] == "1767323045.678"


def test_a_link_that_leads_elsewhere_since_the_launcher_was_read_is_a_new_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    link = tmp_path / "current"
    link.symlink_to("two")
    assert not Current(str(link)).renewed()
    read = Current(str(link), str(tmp_path / "one"))
    assert (read.renewed(), read.directory) == (True, str(tmp_path / "one"))


def test_ends_for_another_ranks_sake_are_counted_by_configuration(tmp_path: Path) -> None:
    for name in ("one", "two"):
        configured(tmp_path / name, argv=["true"])
    link = tmp_path / "current"
    link.symlink_to("one")
    launcher = Launcher(Current(str(link)), str(tmp_path))
    launcher.again, launcher.lost = 3, "rank 1 on b is being stopped"
    relink(link, "two")
    assert launcher.renew() is None
    assert (launcher.again, launcher.lost, Path(launcher.current.directory).name) == (0, "", "two")


@pytest.mark.parametrize("target", ["/dev/shm", "/dev/shm/", "/dev/shm/sub"])
def test_what_of_shared_memory_is_the_hosts_is_not_emptied(target: str) -> None:
    assert own_shm(Container())
    assert own_shm(Container(mounts=(Mount(source="/x", target="/dev/shmem"),)))
    assert not own_shm(Container(ipc="host"))
    assert not own_shm(Container(mounts=(Mount(source="/dev/shm", target=target),)))
