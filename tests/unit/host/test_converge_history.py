"""What a converge writes into the history, and when."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.host import converge, history, wire
from flagprov.host.wire import Blocked

RESOURCES: list[dict[str, Any]] = [
    {"kind": kind, "name": kind, "stage": "serve", "replica": "m-0", "spec": {}}
    for kind in ("container", "probe")
]


class Killed(BaseException):
    """Power, or kill -9."""


class Host:
    """A resource module of every kind; the probe's apply ends as told."""

    def __init__(self, end: BaseException | None = None, changes: bool = True) -> None:
        self.end, self.changes = end, changes
        self.seen: list[str] = []

    def load(self, kind: str) -> Any:
        def apply(spec: Any, observed: Any) -> None:
            self.seen += [str(entry["result"]) for entry in history.answer({})["deployments"]]
            if kind == "probe" and self.end:
                raise self.end

        def diff(spec: Any, observed: Any, changed: set[str]) -> list[tuple[str, str, str]]:
            return [("create", "", "nothing")] if self.changes else []

        return SimpleNamespace(observe=lambda spec: {}, after=lambda *_: {}, diff=diff, apply=apply)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(history, "STATE", str(tmp_path))
    monkeypatch.setattr(converge, "STATE", str(tmp_path))
    monkeypatch.setattr(wire, "send", lambda message: None)

    def one(host: Host, gated: bool = True, resources: Any = RESOURCES) -> None:
        monkeypatch.setattr(converge, "load", host.load)
        converge.converge({"resources": resources, "deployment": {"at": "1", "by": "x", "gated": gated}})

    return one


def results() -> list[str]:
    return [str(entry["result"]) for entry in history.answer({})["deployments"]]


def test_it_is_there_before_the_first_change(run: Any) -> None:
    host = Host()
    run(host)
    assert host.seen == ["pending", "pending"]
    assert results() == ["pending"]  # the gate is to come
    history.mark("m-0", "done")
    assert results() == ["done"]


def test_without_a_gate_it_is_done_when_it_answers(run: Any) -> None:
    run(Host(), gated=False)
    assert results() == ["done"]


def test_what_was_cut_off_is_settled_by_the_next_run_that_has_no_gate(run: Any) -> None:
    with pytest.raises(Killed):
        run(Host(Killed()))
    assert results() == ["pending"]
    run(Host(changes=False))
    assert results() == ["pending"]
    run(Host(changes=False), gated=False)
    assert results() == ["done"]


def test_what_was_begun_and_is_not_in_place_is_proved_by_no_other(run: Any) -> None:
    """Cut off before its first change, and the next run wants what was there before."""
    with pytest.raises(Killed):
        run(Host(Killed()), resources=[{**r, "spec": {**r["spec"], "new": True}} for r in RESOURCES])
    run(Host(changes=False))
    assert results() == ["cut off", "pending"]
    history.mark("m-0", "done")
    assert history.last_good("m-0") == 2


def test_what_fails_is_said(run: Any) -> None:
    with pytest.raises(Blocked):
        run(Host(Blocked("serve", "its engine ended")))
    assert results() == ["failed"]
