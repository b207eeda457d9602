"""What a launcher says of itself is believed as far as it is of this start and of the link as it is now."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import docker, engine, launched, slots
from flagprov.host.shell import Result

STARTED_AT = 1767323045
FOUND = {"State": {"Running": True, "StartedAt": "2026-01-02T03:04:05.6789Z"}}
SPEC = {"container": "flagprov-m-0", "unit": "u", "readiness": "chat"}
SERVES = {"state": "ready", "detail": ""}


class Slot:
    """A running container with its folder; its engine answers."""

    def __init__(self, state: Path) -> None:
        folder = state / "replicas" / "m-0"
        self.said, self.link = folder / "run" / "state.json", folder / "configs" / "current"
        for path in (self.said, self.link):
            path.parent.mkdir(parents=True)
        self.link.symlink_to("one")

    def says(self, **more: Any) -> None:
        """As it does when it was called by the link as that is now."""
        said = {"phase": "running", "reason": "", "started_at": STARTED_AT + 1, "touch_s": 2}
        self.said.write_text(json.dumps({**said, "current": self.link.lstat().st_mtime_ns, **more}))

    def switch(self) -> None:
        os.utime(self.link, (1, 1), follow_symlinks=False)

    def state(self, **spec: Any) -> tuple[str, str]:
        found = engine.state({**SPEC, **spec})
        return found["state"], found["detail"]


@pytest.fixture
def slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slot:
    monkeypatch.setattr(slots, "STATE", str(tmp_path))
    monkeypatch.setattr(docker, "container", lambda _: FOUND)
    monkeypatch.setattr(engine, "unit_state", lambda _: {"ActiveState": "active"})
    monkeypatch.setattr(engine, "_serving", lambda *_: dict(SERVES))
    monkeypatch.setattr(engine, "missing", lambda _: "")
    return Slot(tmp_path)


def test_one_that_runs_what_it_is_to_run_is_judged_by_its_engine(slot: Slot) -> None:
    slot.says()
    assert slot.state() == ("ready", "")


YET = ("starting", "its launcher has yet to take up its configuration")


@pytest.mark.parametrize("rank", [False, True], ids=["one host", "a rank"])
def test_one_that_is_to_follow_is_not_ready_whatever_its_engine_answers(slot: Slot, rank: bool) -> None:
    more = {"launcher": str(slot.said), "readiness": "rank"} if rank else {}
    slot.says()
    slot.switch()
    assert slot.state(**more) == YET
    slot.says(phase="stopping", current=0, reason="another configuration takes its place")
    assert slot.state(**more) == ("draining", "another configuration takes its place")
    slot.says(phase="stopping", current=0)
    assert slot.state(**more) == ("draining", "its engine ends")
    slot.says()
    assert slot.state(**more) == ("ready", "")


def test_one_that_stops_for_good_drains_too(slot: Slot) -> None:
    slot.says(phase="stopping")
    assert slot.state() == ("draining", "its engine ends")


def silent(slot: Slot) -> None:
    long_ago = time.time() - 60
    os.utime(slot.said, (long_ago, long_ago))


@pytest.mark.parametrize("phase", ["running", "stopping"])
def test_one_that_is_to_follow_and_does_not_move_hangs(slot: Slot, phase: str) -> None:
    slot.says(phase=phase)
    slot.switch()
    silent(slot)
    assert slot.state() == ("hung", "its launcher has not moved for 60 s")


def test_one_that_has_nothing_to_do_may_be_silent_while_its_engine_answers(slot: Slot) -> None:
    """A frozen launcher costs nobody an answer; only a rank's engine is what its launcher says."""
    slot.says()
    silent(slot)
    assert slot.state() == ("ready", "")
    assert slot.state(launcher=str(slot.said))[0] == "hung"


@pytest.mark.parametrize("current", [{}, {"current": None}], ids=["of before", "called by no link"])
def test_one_that_has_no_link_has_nothing_to_follow(slot: Slot, current: dict[str, Any]) -> None:
    slot.says()
    said = json.loads(slot.said.read_text())
    del said["current"]
    slot.said.write_text(json.dumps({**said, **current}))
    slot.switch()
    assert slot.state() == ("ready", "")
    slot.link.unlink()
    assert slot.state() == ("ready", "")


@pytest.mark.parametrize("junk", ["now", [1], {"a": 1}, 1.5])
def test_a_link_of_another_type_is_junk_and_judges_nothing_else(slot: Slot, junk: Any) -> None:
    slot.says(current=junk)
    assert launched.said("flagprov-m-0", FOUND) == {"junk": True, "reason": launched.JUNK}
    assert slot.state() == ("ready", "")
    assert slot.state(launcher=str(slot.said), readiness="rank") == ("wrong", launched.JUNK)


def test_what_an_earlier_start_said_is_nothing(slot: Slot) -> None:
    slot.says(started_at=STARTED_AT - 60, phase="stopping", current=0)
    assert launched.said("flagprov-m-0", FOUND) == {}
    assert slot.state() == ("ready", "")


def test_an_error_is_the_first_one_since_this_launcher_began(
    slot: Slot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine that it took the place of, in the same container, may have ended with some of its own."""
    asked: list[float] = []

    def logs(argv: list[str], timeout: float) -> Result:
        asked.append(float(argv[argv.index("--since") + 1]))
        return Result(0, "ValueError: why\n", "")

    monkeypatch.setattr(engine, "run", logs)
    assert engine.first_error("flagprov-m-0") == ": ValueError: why"
    slot.says(started_at=STARTED_AT + 100.625)
    engine.first_error("flagprov-m-0")
    slot.says(started_at="junk")
    engine.first_error("flagprov-m-0")
    assert asked == [STARTED_AT, STARTED_AT + 100.625, STARTED_AT]
    monkeypatch.setattr(docker, "container", lambda _: None)
    engine.first_error("flagprov-m-0")
    assert asked[-1] == 0
