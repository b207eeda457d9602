"""Hosts that are not what a release needs: left out before anything is pulled, with message and way out.

A case of tests/cases/wrong_hosts is a healthy host (`host`) with something changed, and what is said of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from doctor_fleet import Answers, plan_for
from doctor_values import answer, ascend, device, h100, path

from flagprov.models.release import Variant

CASES = sorted((Path(__file__).parents[2] / "cases" / "wrong_hosts").glob("*.yaml"))
READS = {"survey", "look", "facts"}  # operations that change nothing


def graviton4() -> dict[str, Any]:
    facts = answer(devices={"cpuinfo": [device(0, "Neoverse-V2", 1 << 18)]})
    facts["system"].update(arch="aarch64", machine="Amazon EC2 r8g.24xlarge", memory_mib=1 << 18)
    facts["processor"].update(name="Neoverse-V2", features=["bf16", "i8mm", "sve2"])
    return facts


def healthy(host: str) -> dict[str, Any]:
    kind, _, table = host.partition(" ")
    if kind == "ascend":
        return ascend(table)
    return {"h100": h100, "graviton4": graviton4, "plain": answer}[kind]()


def changed(facts: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    for dotted, value in case.get("facts", {}).items():
        *way, last = dotted.split(".")
        place = facts
        for key in way:
            place = place[key]
        place[last] = value
    facts["paths"][0].update(case.get("path", {}))
    if "gpu" in case:
        facts["nvidia"]["report"]["gpus"][3].update(case["gpu"])
    for gpu in facts["devices"].get("nvidia-smi", ()) if "named" in case else ():
        gpu["name"] = case["named"]
    if "ill" in case:
        facts["devices"]["nvidia-smi"][3]["health"] = case["ill"]
    for missing in case.get("missing", ()):
        facts["paths"] = [each for each in facts["paths"] if each["path"] != missing]
        facts["paths"].append(path(missing, exists=False, point="/", network=False, planned_point=None))
    if "behind_s" in case:
        facts["behind_s"] = case["behind_s"]
    return facts


def surveyed(facts: dict[str, Any], case: dict[str, Any]) -> dict[str, Any]:
    found = {"arch": facts["system"]["arch"], "facts": {"machine": facts["system"]["machine"]}}
    found.update(case.get("survey", {}))
    for tool, said in found.get("devices", {}).items():
        if said == "well":
            found["devices"] = {tool: [{**each, "health": "ok"} for each in facts["devices"][tool]]}
    return found


@pytest.mark.parametrize("file", CASES, ids=[file.stem for file in CASES])
def test_a_wrong_host(file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    case = yaml.safe_load(file.read_text())
    facts = changed(healthy(case["host"]), case)
    answers = Answers(facts, **surveyed(facts, case))

    def change(variant: Variant) -> Variant:
        changes: dict[str, Any] = {}
        if "image" in case:
            changes["image"] = variant.image.model_copy(update={"reference": case["image"], "digests": ()})
        if "devices" in case:
            changes["devices"] = case["devices"]
        return variant.model_copy(update=changes)

    plan = plan_for(
        monkeypatch, tmp_path, {"h1": answers}, release=case["release"], chip=case["chip"], change=change
    )
    assert set(answers.asked) <= READS
    if "left_out" not in case:
        assert plan.left_out == ()
        assert plan.changes
        assert case.get("noted", "") in " ".join(plan.notes)
        return
    assert plan.changes == 0
    told = {left.problem.step: left.problem for left in plan.left_out}
    assert case["left_out"] in told, told
    problem = told[case["left_out"]]
    for words in case["message"]:
        assert words in problem.message
    assert case["remedy"] in problem.remedy
