"""The link that a launcher follows: how it is switched, and who makes an engine take it up."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import docker, launched
from flagprov.host.resources import current, tree, unit
from flagprov.host.shell import Result

UNIT = "flagprov@m-0.service"


class Slot:
    """Its folder of configurations; the launcher of its container says one thing after another."""

    def __init__(self, folder: Path) -> None:
        self.link = folder / "current"
        self.state: dict[str, Any] | None = {"Running": True}
        self.says: list[dict[str, Any]] = [{"phase": "running", "follows": True}]
        self.now = 0.0
        self.did: list[tuple[str, str]] = []
        for name in ("one", "two"):
            (folder / name).mkdir()

    def spec(self, name: str = "two") -> dict[str, Any]:
        config = str(self.link.parent / name)
        return {"path": str(self.link), "config": config, "container": "flagprov-m-0", "unit": UNIT}

    def container(self, name: str) -> dict[str, Any] | None:
        assert name == "flagprov-m-0"
        return None if self.state is None else {"State": self.state}

    def said(self, *_: Any) -> dict[str, Any]:
        return self.says.pop(0) if len(self.says) > 1 else self.says[0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, argv: list[str], timeout: float) -> Result:
        self.did.append((argv[1], argv[-1]))
        return Result(0, "", "")

    def changes(self, name: str = "two", *changed: str) -> list[str]:
        spec = self.spec(name)
        return [action for action, *_ in current.diff(spec, current.observe(spec), set(changed))]

    def apply(self, name: str = "two") -> None:
        spec = self.spec(name)
        current.apply(spec, current.observe(spec))


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slot:
    found = Slot(tmp_path)
    monkeypatch.setattr(docker, "container", found.container)
    monkeypatch.setattr(launched, "said", found.said)
    monkeypatch.setattr(unit, "run", found.run)
    monkeypatch.setattr(unit, "unit_state", lambda _: {"ActiveState": "inactive"})
    monkeypatch.setattr(unit, "STARTED", set())
    monkeypatch.setattr(time, "monotonic", lambda: found.now)
    monkeypatch.setattr(time, "sleep", found.sleep)
    return found


@pytest.mark.parametrize(
    "before", [None, "one", "gone"], ids=["none yet", "another", "one that is not there"]
)
def test_it_leads_to_the_wanted_one(slot: Slot, before: str | None) -> None:
    if before:
        slot.link.symlink_to(before)
    assert slot.changes() == ["switch"]
    slot.apply()
    assert slot.link.readlink() == Path("two")
    assert slot.changes() == []


def test_it_is_made_anew_where_its_configuration_was_put_right(slot: Slot) -> None:
    slot.link.symlink_to("two")
    os.utime(slot.link, (0, 0), follow_symlinks=False)
    two = slot.spec()["config"]
    assert slot.changes("two", two) == ["switch"]
    slot.apply()
    assert slot.link.readlink() == Path("two")
    assert slot.link.lstat().st_mtime_ns > 0, "by this a launcher knows that it is new"


def test_a_link_that_says_the_same_in_other_words_is_left_alone(slot: Slot) -> None:
    slot.link.symlink_to(slot.link.parent / "two")
    assert slot.changes() == []


@pytest.mark.parametrize("thing", ["folder", "file"])
def test_what_is_no_link_is_in_the_way(slot: Slot, thing: str) -> None:
    if thing == "folder":
        slot.link.mkdir()
    else:
        slot.link.touch()
    assert slot.changes() == ["block"]


def test_what_a_run_that_was_cut_off_left_beside_it_is_in_nobodys_way(slot: Slot) -> None:
    slot.link.with_name("current.new").symlink_to("one")
    slot.apply()
    assert slot.link.readlink() == Path("two")
    assert sorted(path.name for path in slot.link.parent.iterdir()) == ["current", "one", "two"]


def test_what_a_tree_puts_there_is_what_it_leads_to(slot: Slot) -> None:
    """Both go by the same path, so that a repair of one is known by the other."""
    spec = {"path": str(slot.link.parent / "three"), "files": {"a": "a\n"}}
    tree.apply(spec, tree.observe(spec))
    slot.apply("three")
    assert (slot.link / "a").read_text() == "a\n"
    (slot.link / "a").write_text("edited\n")
    ((action, *_),) = tree.diff(spec, tree.observe(spec), set())
    assert (action, slot.changes("three", str(spec["path"]))) == ("repair", ["switch"])


YET: dict[str, Any] = {"phase": "running", "follows": False}


@pytest.mark.parametrize(
    "taken",
    [
        {"phase": "stopping", "follows": False},
        {"phase": "starting", "follows": True},
    ],
    ids=["its engine ends", "it follows already"],
)
def test_a_launcher_that_has_begun_to_follow_is_left_to_itself(slot: Slot, taken: dict[str, Any]) -> None:
    slot.says = [YET, {}, YET, taken]
    slot.apply()
    assert slot.did == [("reset-failed", UNIT)], "failures of before do not count"
    assert slot.now == pytest.approx(0.15)
    assert {UNIT} == unit.STARTED, "how that engine starts is this run's work"


@pytest.mark.parametrize(
    "says",
    [YET, {}, {"junk": True, "reason": "junk"}],
    ids=["frozen", "nothing of this start", "junk"],
)
def test_the_unit_of_one_that_does_not_react_is_restarted(slot: Slot, says: dict[str, Any]) -> None:
    slot.says = [says]
    slot.apply()
    assert slot.did == [("reset-failed", UNIT), ("restart", UNIT)]
    assert current.TAKEN_S <= slot.now < current.TAKEN_S + 1
    assert {UNIT} == unit.STARTED


def test_the_unit_of_a_paused_container_is_restarted_at_once(slot: Slot) -> None:
    slot.state, slot.says = {"Running": True, "Paused": True}, [YET]
    slot.apply()
    assert [verb for verb, _ in slot.did] == ["reset-failed", "restart"]
    assert slot.now == 0


@pytest.mark.parametrize("state", [None, {"Running": False}], ids=["none yet", "it ended"])
def test_where_nothing_runs_there_is_only_the_link(slot: Slot, state: dict[str, Any] | None) -> None:
    """Its unit starts it; whether anew, the unit says."""
    slot.state = state
    slot.apply()
    assert slot.link.readlink() == Path("two")
    assert (slot.did, unit.STARTED, slot.now) == ([], set(), 0)


def test_one_that_ends_meanwhile_is_waited_for_no_more(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    slot.says = [YET]

    def ends(seconds: float) -> None:
        slot.sleep(seconds)
        slot.state = {"Running": False}

    monkeypatch.setattr(time, "sleep", ends)
    slot.apply()
    assert slot.did == []
