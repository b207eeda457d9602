"""A run that was killed and is taken up when nothing is left to do has come to its end."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov import pipeline, saved
from flagprov.apply.record import RunRecord
from flagprov.errors import UsageError
from flagprov.models.desired import Placement
from flagprov.models.fleet import Fleet
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Plan
from flagprov.rollout.options import Options
from flagprov.site import Site


def test_nothing_to_do_ends_the_run_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(tmp_path / "hosts.ini", ())
    request = pipeline.Request(fleet.inventory, "m")
    plan = Plan("rollout", "m", ())
    with RunRecord(Site(fleet.site), "rollout", plan, lambda event: None) as record:
        saved.save(record.directory / saved.REQUEST, "rollout", request, Options(), plan)
    killed = saved.unfinished(fleet, "rollout")
    job: Any = SimpleNamespace(fleet=fleet, release=SimpleNamespace(golden=None))
    gateways = SimpleNamespace(status=tuple)
    monkeypatch.setattr(pipeline, "prepare", lambda request: job)
    monkeypatch.setattr(pipeline, "Connections", lambda fleet: nullcontext())
    monkeypatch.setattr(pipeline, "Gateways", lambda fleet: nullcontext(gateways))
    monkeypatch.setattr(pipeline, "draw", lambda *_: pipeline.Picture(plan, Placement(()), {}))
    monkeypatch.setattr(pipeline, "_finish", lambda *_: Outcome("rollout", "m", ()))
    pipeline.deploy(request, approve=cast(Any, None), resumed=killed)
    with pytest.raises(UsageError, match="its last rollout came to an end"):
        saved.unfinished(fleet, "rollout")
