"""What a teardown takes away, and what it leaves and says so."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_placement_groups import CHIP, wish

from flagprov import upkeep
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Running, Survey
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan
from flagprov.models.request import Request
from flagprov.scope import Scope
from flagprov.site import Site
from flagprov.upkeep import removal, staying

ONE = Running("m-0", "m", CHIP.name, ("h0",), (0,), 9010, "running")
OTHER = Running("n-0", "n", CHIP.name, ("h0",), (1,), 9011, "running")


def survey(**weights: str) -> Survey:
    """m-0 and n-0 run, with these weights."""
    records = {f"{release}-0": {"weights": path} for release, path in weights.items()}
    return replace(wish(0, running=(ONE, OTHER)).survey, records=records)


@pytest.mark.parametrize(
    ("seen", "release", "gone"),
    [
        (survey(m="/srv/m", n="/srv/n"), "m", ["/srv/m"]),
        (survey(m="/srv/m", n="/srv/m"), "m", []),  # the other one needs them
        (survey(m="/srv/m", n="/srv/m"), None, ["/srv/m"]),
    ],
)
def test_weights_go_by_their_manifest_where_nobody_else_has_them(
    seen: Survey, release: str | None, gone: list[str]
) -> None:
    found = [each for each in removal(seen, release, True) if each.name.startswith("/srv")]
    assert [(each.kind, each.name) for each in found] == [("weights", path) for path in gone]
    assert all(each.spec["absent"] and each.spec["reason"] for each in found)
    assert not [each for each in removal(seen, release, False) if each.kind == "weights"]


def test_what_stays_is_said() -> None:
    asked: list[dict[str, Any]] = []

    def ask(payload: dict[str, Any]) -> dict[str, Any]:
        asked.append(payload)
        return {"kept": ["/srv/m is on a share"]}

    session: Any = SimpleNamespace(ask=ask, host=SimpleNamespace(name="h0"))
    resources = removal(survey(m="/srv/m", n="/srv/n"), "m", True)
    assert staying(session, resources) == ["h0: /srv/m is on a share"]
    going = ["flagprov-m-0", "flagprov-m-0.b"]  # it may be in its second slot
    assert asked == [{"op": "kept", "weights": ["/srv/m"], "going": going}]
    assert staying(session, removal(survey(m="/srv/m"), "m", False)) == []
    assert len(asked) == 1


class Empty:
    """Connections to hosts that have nothing to lose."""

    def __init__(self, fleet: Fleet) -> None:
        pass

    def __enter__(self) -> Empty:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def each(self, hosts: Any, work: Any, **_: Any) -> dict[str, Any]:
        answers = {
            "unused": {
                "needed": ["r/m:1"],
                "images": [],
                "weights": [],
                "directories": [],
                "kept": [],
                "builds": [],
            },
            "look": {"digest": "d", "changes": [], "problems": [], "notes": {}},
        }
        return {
            host.name: work(SimpleNamespace(host=host, ask=lambda asked: answers[asked["op"]]))
            for host in hosts
        }


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Two images lie here, `a` is the older one."""
    fleet = Fleet(tmp_path / "lab.ini", (Host("h0", Connection("192.0.2.1")),))
    site = Site(tmp_path / ".flagprov")
    for letter in "ab":
        (site.root / "oci" / letter).mkdir(parents=True)
        os.utime(site.root / "oci" / letter, (0, ord(letter)))
    monkeypatch.setattr(upkeep, "Connections", Empty)
    monkeypatch.setattr(upkeep, "scope_of", lambda request: Scope(fleet, site, None))
    return site


def test_what_a_run_uses_that_began_while_a_prune_was_asked_about_stays(site: Site) -> None:
    with ExitStack() as other:

        def approve(plan: Plan) -> bool:
            events = other.enter_context((site.new_run("deploy") / "events.jsonl").open("w"))
            fcntl.flock(events, fcntl.LOCK_EX)
            return True

        request = Request(site.root.parent / "lab.ini")
        outcome = upkeep.prune(request, keep=1, approve=approve, on_event=lambda event: None)
    assert (site.root / "oci/a").is_dir()
    assert outcome and outcome.changes == 0


def test_a_prune_takes_from_the_controller_what_its_plan_has_shown(site: Site) -> None:
    request = Request(site.root.parent / "lab.ini")
    shown: list[Plan] = []

    def approve(plan: Plan) -> bool:
        shown.append(plan)
        return len(shown) > 1

    def pruned() -> Outcome | None:
        return upkeep.prune(request, keep=1, approve=approve, on_event=lambda event: None)

    assert pruned() is None
    assert (site.root / "oci/a").is_dir()
    outcome = pruned()
    (step,) = [step for host in shown[-1].hosts() for step in host.steps]
    assert (step.action, step.name) == ("remove", str(site.root / "oci/a"))
    assert outcome
    assert {host.host: host.state for host in outcome.hosts} == {"h0": "unchanged", upkeep.HERE: "changed"}
    assert [path.name for path in (site.root / "oci").iterdir()] == ["b"]
    last = pruned()
    assert last and last.changes == 0 and len(shown) == 2
