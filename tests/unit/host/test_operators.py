"""Proofs of FlagGems on a host: what processes left, against what was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flagprov.host import operators

ON = {"asked": "flaggems", "on": True, "workers": 2, "by": "enable"}


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(operators, "STATE", str(tmp_path))
    return {"replica": "r-0", "container": "flagprov-r-0", "operators": ON}


def leave(tmp_path: Path, *records: dict[str, Any], processes: list[dict[str, Any]] | None = None) -> None:
    run = tmp_path / "replicas/r-0/run"
    (run / "operators").mkdir(parents=True)
    for record in records:
        (run / "operators" / f"{record['pid']}.json").write_text(json.dumps({"schema_version": 1, **record}))
    (run / "state.json").write_text(json.dumps({"processes": processes or []}))


def worker(pid: int, **more: Any) -> dict[str, Any]:
    record = {"pid": pid, "process": "VLLM::Worker", "rank": pid, "flaggems": "on", "version": "5.0.2"}
    return {**record, "device": "cuda:0", "count": 241, "error": "", **more}


def test_on_is_what_every_worker_has_proved(tmp_path: Path, spec: dict[str, Any]) -> None:
    leave(tmp_path, worker(11), worker(12), processes=[{"pid": 7, "name": "API server"}])
    assert operators.missing(spec) == ""
    said = operators.operators(spec)
    assert said
    assert [(each["pid"], each["flaggems"], each["operators"]) for each in said["processes"]] == [
        (7, "off", 0), (11, "on", 241), (12, "on", 241)
    ]  # fmt: skip


def test_a_worker_without_proof_is_named_with_its_reason(tmp_path: Path, spec: dict[str, Any]) -> None:
    leave(tmp_path, worker(11), worker(12, flaggems="failed", error="ImportError: no triton"))
    assert operators.missing(spec) == (
        "FlagGems was asked for, and is on in 1 of 2 workers: ImportError: no triton"
    )


def test_a_variable_is_no_proof(spec: dict[str, Any]) -> None:
    assert "is on in 0 of 2 workers" in operators.missing(spec)


@pytest.mark.parametrize(
    "expected",
    [None, {"asked": "native", "on": False}, {"asked": "flaggems", "on": True, "workers": None}],
)
def test_nothing_is_missed_where_nothing_can_be_expected(
    spec: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert operators.missing({**spec, "operators": expected}) == ""


def test_half_a_file_and_strangers_are_no_proof(tmp_path: Path, spec: dict[str, Any]) -> None:
    leave(tmp_path, worker(11))
    folder = tmp_path / "replicas/r-0/run/operators"
    (folder / "12.json").write_text('{"schema_version": 1, "pid"')
    (folder / "13.json").write_text("[]")
    assert "1 of 2" in operators.missing(spec)


@pytest.mark.parametrize(
    "junk",
    [
        {"pid": [11]},
        {"pid": "11"},
        {"rank": "first"},
        {"rank": {}},
        {"process": 7},
        {"error": ["no"]},
        {"count": "many"},
        {"version": 5},
        {"device": 0},
        {"flaggems": {}},
    ],
)
def test_a_proof_of_other_types_is_none(tmp_path: Path, spec: dict[str, Any], junk: dict[str, Any]) -> None:
    leave(tmp_path, worker(12))
    file = tmp_path / "replicas/r-0/run/operators/junk.json"
    file.write_text(json.dumps({"schema_version": 1, **worker(11), **junk}))
    assert "1 of 2" in operators.missing(spec)
    said = operators.operators(spec)
    assert said
    assert [each["pid"] for each in said["processes"]] == [12]


@pytest.mark.parametrize("processes", [7, {"pid": 1}, [7], [{}], [{"pid": [1], "name": "x"}], [{"pid": 1}]])
def test_processes_that_are_none_are_left_out(tmp_path: Path, spec: dict[str, Any], processes: Any) -> None:
    leave(tmp_path, worker(11), worker(12), processes=processes)
    assert operators.missing(spec) == ""


def test_a_folder_of_proofs_is_no_link_to_others(tmp_path: Path, spec: dict[str, Any]) -> None:
    leave(tmp_path, worker(11), worker(12))
    folder = tmp_path / "replicas/r-0/run/operators"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert "0 of 2" in operators.missing(spec)
