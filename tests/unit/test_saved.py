"""A saved plan comes back as it was, and is refused when the fleet is no longer as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flagprov import saved
from flagprov.apply.record import RunRecord, finish
from flagprov.errors import FlagprovError, UsageError, VersionError
from flagprov.models.fleet import Fleet
from flagprov.models.observed import Change, Problem
from flagprov.models.outcome import Outcome
from flagprov.models.plan import Batch, HostPlan, LeftOut, Plan, ReplicaPlan
from flagprov.preparation import Request
from flagprov.rollout.options import Options
from flagprov.rollout.order import Size
from flagprov.site import Site

REQUEST = Request(Path("/site/hosts.ini"), "m", "h*", ("port=1",), ("clock",), allow_reboot=True)
OPTIONS = Options(batches=(Size(1), Size(percent=50)), latency_s=1.5)
STEP = Change("container", "flagprov-m-0", "serve", "create", "it is missing")


def plan(*replicas: str, digest: str = "d", left: tuple[str, ...] = ()) -> Plan:
    batches = [Batch((ReplicaPlan(r, (HostPlan(f"h-{r}", (STEP,), digest),), "nothing"),)) for r in replicas]
    gone = tuple(LeftOut(host, Problem("connect", "no answer"), True) for host in left)
    return Plan("rollout", "m", tuple(batches), gone)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "plan.json"
    saved.save(path, "rollout", REQUEST, OPTIONS, plan("a", "b"))
    return path


def test_it_comes_back_as_it_was(file: Path) -> None:
    found = saved.load(file)
    assert (found.verb, found.request, found.options) == ("rollout", REQUEST, OPTIONS)
    found.check(plan("a", "b"))
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (plan("a", "b", digest="other"), "h-a, h-b: not as"),
        (plan("a"), "h-b: not as"),
        (plan("a", "b", left=("h-c",)), "h-c: not as"),
        (plan("b", "a"), "batches would be others"),
    ],
)
def test_a_fleet_that_has_moved_is_refused(file: Path, now: Plan, said: str) -> None:
    with pytest.raises(FlagprovError, match=said) as refused:
        saved.load(file).check(now)
    assert refused.value.exit_code == 1
    assert refused.value.remedy


def test_each_replica_of_a_host_counts(tmp_path: Path) -> None:
    """How an engine is, is not in a look's digest."""

    def sharing(*steps: Change) -> Plan:
        parts = [HostPlan("h", tuple(s for s in steps if s.replica == name), "d") for name in ("m-0", "m-1")]
        return Plan("rollout", "m", (Batch(tuple(ReplicaPlan("m", (part,), "restart") for part in parts)),))

    hung = Change("probe", "endpoint", "verify", "restart", "it is hung", "m-0", "restart")
    same = Change("container", "flagprov-m-1", "serve", "replace", "other", "m-1", "new container")
    path = tmp_path / "plan.json"
    saved.save(path, "rollout", REQUEST, OPTIONS, sharing(same, hung))
    saved.load(path).check(sharing(same, hung))
    with pytest.raises(FlagprovError, match="h: not as"):
        saved.load(path).check(sharing(same))


def test_another_free_slot_is_another_plan_and_another_reason_for_none_is_not(tmp_path: Path) -> None:
    def ordered(order: str, reason: str) -> Plan:
        hosts = (HostPlan("h", (STEP,), "d"),)
        return Plan("rollout", "m", (Batch((ReplicaPlan("m-0", hosts, "nothing", order, reason),)),))

    path = tmp_path / "plan.json"
    saved.save(path, "rollout", REQUEST, OPTIONS, ordered("start before stop", "device 1, port 9110 of h"))
    saved.load(path).check(ordered("start before stop", "device 1, port 9110 of h"))
    with pytest.raises(FlagprovError, match="h: not as"):
        saved.load(path).check(ordered("start before stop", "device 2, port 9110 of h"))
    saved.save(path, "rollout", REQUEST, OPTIONS, ordered("stop before start", "901 MiB are available"))
    saved.load(path).check(ordered("stop before start", "900 MiB are available"))


def test_another_reason_is_no_other_plan(file: Path) -> None:
    step = replace(STEP, reason="it has 3 of 4 files")
    hosts = {name: (HostPlan(f"h-{name}", (step,), "d"),) for name in "ab"}
    now = Plan("rollout", "m", tuple(Batch((ReplicaPlan(n, hosts[n], "nothing"),)) for n in "ab"))
    saved.load(file).check(now)


NOT_WHOLE = '{"kind": "flagprov plan", "schema_version": 1, "verb": "deploy", "request": 5}'


@pytest.mark.parametrize("text", ["", "[]", "{", '{"kind": "flagprov plan", "schema_version": 1}', NOT_WHOLE])
def test_what_is_no_plan_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"x\.json: not a"):
        saved.load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        saved.load(tmp_path / "none")


def test_a_newer_schema_is_refused(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 2}))
    with pytest.raises(VersionError):
        saved.load(file)


def test_the_last_run_that_was_killed_is_taken_up(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "hosts.ini", ())
    for number, ended in ((1, True), (2, False)):
        run = fleet.site / "runs" / f"20260102T03040{number}Z-rollout"
        run.mkdir(parents=True)
        request = replace(REQUEST, release=f"m{number}")
        saved.save(run / saved.REQUEST, "rollout", request, OPTIONS, plan("a"))
        if ended:
            (run / "outcome.json").write_text("{}")
    found = saved.unfinished(fleet, "rollout")
    assert (found.request.release, found.options) == ("m2", OPTIONS)
    with pytest.raises(UsageError, match="its last deploy came to an end"):
        saved.unfinished(fleet, "deploy")
    (run / "outcome.json").write_text("{}")
    with pytest.raises(UsageError, match="its last rollout came to an end"):
        saved.unfinished(fleet, "rollout")


def test_a_release_file_is_found_again_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    saved.save(tmp_path / "p", "rollout", replace(REQUEST, release="mine.yaml"), OPTIONS, plan("a"))
    assert saved.load(tmp_path / "p").request.release == str(tmp_path / "mine.yaml")


def test_a_run_that_lives_is_not_taken_up_and_one_that_was_killed_with_its_lease(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path / "hosts.ini", ())
    with RunRecord(Site(fleet.site), "rollout", plan("a"), lambda event: None) as record:
        saved.save(record.directory / saved.REQUEST, "rollout", REQUEST, OPTIONS, plan("a"))
        with pytest.raises(UsageError, match="is still at work"):
            saved.unfinished(fleet, "rollout")
    assert saved.unfinished(fleet, "rollout").token == record.token
    kept = json.loads((record.directory / "lease.json").read_text())
    (record.directory / "lease.json").write_text(json.dumps({**kept, "machine": "another"}))
    assert saved.unfinished(fleet, "rollout").token == ""
    finish(record.directory, Outcome("rollout", "m", ()))
    with pytest.raises(UsageError, match="came to an end"):
        saved.unfinished(fleet, "rollout")
