from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import report_values as values

from flagprov import catalog
from flagprov.errors import InventoryError

DEPLOY = ("deploy", "lab.ini", "qwen3-tiny")


def test_deploy_asks_the_pipeline_and_reports(pipeline: Any, invoke: Any) -> None:
    result = invoke(*DEPLOY, "--yes", "--limit", "lab*", "--set", "serve.seed=1", "--set", "port=9000")
    assert result.exit_code == 0
    verb, request = pipeline.calls[0]
    assert verb == "deploy"
    assert (str(request.inventory), request.release, request.limit) == ("lab.ini", "qwen3-tiny", "lab*")
    assert request.sets == ("serve.seed=1", "port=9000")
    assert "deploy qwen3-tiny: 10 changes on 2 hosts" in result.stdout  # the plan
    assert "http://172.30.0.2:8000" in result.stdout
    assert "flagprov status lab.ini" in result.stdout
    assert "lab1 image: pull vllm-cpu" in result.stderr


def test_deploy_gives_1_when_a_host_failed(pipeline: Any, invoke: Any) -> None:
    pipeline.outcome = values.outcome((values.host(1), values.failed(2)))
    result = invoke(*DEPLOY, "--yes")
    assert result.exit_code == 1
    assert "lab2, serve: the engine ended with code 1" in result.stdout


@pytest.mark.parametrize("verb", [DEPLOY, ("stop", "lab.ini"), ("teardown", "lab.ini")])
@pytest.mark.parametrize("more", [(), ("--output", "json")])
def test_nothing_is_begun_without_consent(
    pipeline: Any, invoke: Any, verb: tuple[str, ...], more: tuple[str, ...]
) -> None:
    result = invoke(*verb, *more)
    assert result.exit_code == 2
    assert not pipeline.calls
    assert "--yes" in result.stderr


@pytest.mark.parametrize("verb", [DEPLOY, ("stop", "lab.ini"), ("teardown", "lab.ini")])
@pytest.mark.usefixtures("pipeline")
def test_wrong_input_is_said_before_the_missing_consent(invoke: Any, verb: tuple[str, ...]) -> None:
    wrong = InventoryError("lab.ini: no such inventory")
    for name in ("flagprov.preparation", "flagprov.fleet"):
        sys.modules[name].error = wrong  # type: ignore[attr-defined]
    result = invoke(*verb)
    assert (result.exit_code, result.stderr) == (2, "error: lab.ini: no such inventory\n")


@pytest.mark.usefixtures("terminal")
def test_json_asks_nobody(pipeline: Any, invoke: Any) -> None:
    result = invoke(*DEPLOY, "--output", "json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["kind"] == "UsageError"
    assert not pipeline.calls


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(
    ("answer", "approved"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_a_terminal_is_asked(pipeline: Any, invoke: Any, answer: str, approved: bool) -> None:
    result = invoke(*DEPLOY, answer=answer)
    assert pipeline.approved is approved
    assert result.exit_code == (0 if approved else 1)
    assert "deploy: do this? [y/N]" in result.stderr
    assert "10 changes on 2 hosts" in result.stdout
    assert ("nothing was changed" in result.stderr) is not approved


@pytest.mark.usefixtures("terminal")
def test_no_change_asks_nobody(pipeline: Any, invoke: Any) -> None:
    pipeline.found = values.plan(changes=False)
    pipeline.outcome = values.outcome((values.host(1, "unchanged"), values.host(2, "unchanged")))
    result = invoke(*DEPLOY)
    assert result.exit_code == 0
    assert "[y/N]" not in result.stderr
    assert "no change on 2 hosts" in result.stdout


def test_one_json_document(pipeline: Any, invoke: Any) -> None:
    result = invoke(*DEPLOY, "--yes", "--output", "json")
    found = json.loads(result.stdout)
    assert (found["schema_version"], found["verb"], found["succeeded"]) == (1, "deploy", True)
    assert "lab1 image: pull vllm-cpu" in result.stderr


def test_quiet(pipeline: Any, invoke: Any) -> None:
    assert invoke(*DEPLOY, "--yes", "-q", "--output", "json").stderr == ""


@pytest.mark.parametrize(
    ("found", "code"),
    [
        (values.plan(), 3),
        (values.plan(changes=False), 0),
        (values.plan(changes=False, left_out=(values.left_out(),)), 1),
        (values.plan(left_out=(values.left_out(),)), 1),
    ],
)
def test_plan(pipeline: Any, invoke: Any, found: Any, code: int) -> None:
    pipeline.found = found
    result = invoke("plan", "lab.ini", "qwen3-tiny", "--set", "port=1")
    assert result.exit_code == code
    assert pipeline.calls[0][1].sets == ("port=1",)
    assert "deploy qwen3-tiny: " in result.stdout
    as_json = invoke("plan", "lab.ini", "qwen3-tiny", "--output", "json", "-q")
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout)["changes"] == found.changes


def test_a_saved_plan_is_applied_as_it_is_or_not_at_all(pipeline: Any, invoke: Any, tmp_path: Path) -> None:
    words = ("lab.ini", "qwen3-tiny", "--set", "port=1", "--batch", "1", "--save", "plan.json")
    planned = invoke("rollout", *words)
    assert planned.exit_code == 3, planned.stderr
    assert pipeline.calls[0][0] == "plan"
    result = invoke("apply", "plan.json", "--yes")
    assert result.exit_code == 0
    verb, wanted = pipeline.calls[1]
    assert (verb, wanted.sets, wanted.inventory) == ("deploy", ("port=1",), tmp_path / "lab.ini")
    assert pipeline.more["verb"] == "rollout"
    pipeline.found = values.plan(changes=False)
    pipeline.approved = None
    refused = invoke("apply", "plan.json", "--yes")
    assert (refused.exit_code, pipeline.approved) == (1, None)
    assert "not as plan.json has it any more" in refused.stderr


def test_status(pipeline: Any, invoke: Any) -> None:
    result = invoke("status", "lab.ini", "--limit", "lab1")
    assert result.exit_code == 0
    assert pipeline.calls[0][1].limit == "lab1"
    assert result.stdout.splitlines()[0].split() == [
        "replica", "state", "release", "chip", "hosts", "endpoint", "model",
    ]  # fmt: skip
    assert json.loads(invoke("status", "lab.ini", "-o", "json").stdout)["replicas"][0]["state"] == "ready"


@pytest.mark.parametrize(
    "outcome",
    [
        values.outcome((values.host(1, "unreachable", message="away"),), ()),
        values.outcome(replicas=(values.ready(0, state="hung"),)),
    ],
)
def test_status_gives_1_when_somebody_must_look(pipeline: Any, invoke: Any, outcome: Any) -> None:
    pipeline.outcome = outcome
    assert invoke("status", "lab.ini").exit_code == 1
    assert invoke("status", "lab.ini", "--output", "json").exit_code == 1


def test_stop_and_teardown(pipeline: Any, invoke: Any) -> None:
    pipeline.found = values.plan()
    assert invoke("stop", "lab.ini", "--yes").exit_code == 0
    assert invoke("teardown", "lab.ini", "qwen3-tiny", "-y").exit_code == 0
    assert [(verb, request.release) for verb, request in pipeline.calls] == [
        ("stop", None), ("teardown", "qwen3-tiny"),
    ]  # fmt: skip
    assert pipeline.more == {"weights": False}
    assert invoke("teardown", "lab.ini", "--weights", "-y").exit_code == 0
    assert pipeline.more == {"weights": True}
    pipeline.outcome = values.outcome((values.failed(1),))
    assert invoke("stop", "lab.ini", "--yes").exit_code == 1


def test_logs(pipeline: Any, invoke: Any) -> None:
    result = invoke("logs", "lab.ini", "qwen3-tiny-0", "-n", "5")
    assert (result.exit_code, result.stdout) == (0, "INFO one\nINFO two\n")
    assert pipeline.more == {"target": "qwen3-tiny-0", "follow": False, "lines": 5}


def test_logs_as_json(pipeline: Any, invoke: Any) -> None:
    found = json.loads(invoke("logs", "lab.ini", "lab1", "--output", "json").stdout)
    assert found == {"schema_version": 1, "target": "lab1", "lines": ["INFO one", "INFO \x1b[31mtwo\x1b[0m"]}


def test_interrupting_logs_is_no_event(pipeline: Any, invoke: Any) -> None:
    result = invoke("logs", "-f", "lab.ini", "lab1")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "INFO one\nINFO two\n", "")
    lines = invoke("logs", "-f", "lab.ini", "lab1", "--output", "json").stdout.splitlines()
    assert json.loads(lines[0]) == {"line": "INFO one"}


def test_deploy_stops_all_at_once_only_where_that_is_said(pipeline: Any, invoke: Any) -> None:
    invoke(*DEPLOY, "--yes")
    assert not pipeline.more["options"].at_once
    invoke(*DEPLOY, "--yes", "--all-at-once")
    assert pipeline.more["options"].at_once


def test_a_release_file_is_rolled_out_where_it_is_the_release_that_was_named(
    pipeline: Any, invoke: Any, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    shipped = Path(catalog.__file__).parent / "releases" / "qwen3-tiny-standin.yaml"
    file.write_text(shipped.read_text())
    words = ("rollout", "lab.ini", "qwen3-tiny-standin", "--release-file", str(file), "--yes")
    assert invoke(*words, "--completions", "8", "--concurrent", "3").exit_code == 0
    assert pipeline.calls[-1][1].release == str(file)
    assert (pipeline.more["options"].requests, pipeline.more["options"].concurrent) == (8, 3)
    wrong = invoke("rollout", "lab.ini", "qwen3-tiny", "--release-file", str(file), "--yes")
    assert wrong.exit_code == 2
    assert "defines qwen3-tiny-standin, not qwen3-tiny" in wrong.stderr
