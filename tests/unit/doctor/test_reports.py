"""What `facts` and `doctor` show, against tests/cases/doctor; FLAGPROV_UPDATE_CASES=1 writes them anew."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from doctor_values import CHIPS, answer, ascend, h100, path, subject

from flagprov.cli.main import cli
from flagprov.doctor import verbs
from flagprov.doctor.detect import detected
from flagprov.doctor.examine import NAMES, examine
from flagprov.doctor.read import read_facts
from flagprov.doctor.verbs import FleetFacts
from flagprov.errors import HostError, UnreachableError
from flagprov.models.facts import HostFacts
from flagprov.models.finding import Diagnosis, Finding
from flagprov.models.observed import Problem
from flagprov.report.doctor import doctor_lines, of_doctor
from flagprov.report.facts import facts_lines, of_facts
from flagprov.report.text import Line, render

CASES = Path(__file__).parents[2] / "cases" / "doctor"


def ill() -> Any:
    facts = h100(use=[{"tool": "nvidia-smi", "index": 0, "tried": True, "error": None, "why": ""}])
    facts["nvidia"]["report"]["gpus"][3].update(fabric_state="In Progress", fabric_status=None)
    facts["devices"]["nvidia-smi"][1].update(processes=["python (pid 7)"], used_mib=61240)
    return facts


def fleet() -> FleetFacts:
    busy = ascend(
        "a3-glued-and-busy", unknown={"clock": "neither chronyc nor timedatectl answers"}, clock=None
    )
    local = path("/data", point="/", network=False, planned_point=None)
    answers: dict[str, HostFacts | HostError] = {
        "gpu-1": read_facts("gpu-1", ill()),
        "npu-1": read_facts("npu-1", busy),
        "npu-2": read_facts("npu-2", {**ascend("a2-one-alarm"), "paths": [local]}),
        "npu-3": UnreachableError("npu-3", "connect", "no route to 192.0.2.9", remedy="Is it up?"),
    }
    known = {name: found for name, found in answers.items() if isinstance(found, HostFacts)}
    chips = {name: detected(found, CHIPS) for name, found in known.items()}
    expected = {"gpu-1": "nvidia-h100", "npu-1": "ascend-a3", "npu-2": "ascend-a3", "npu-3": None}
    return FleetFacts(answers, chips, expected)


def diagnosis() -> Diagnosis:
    found = examine(subject(ill(), "nvidia-h100", "qwq-32b"), ("fabric",))
    more = examine(subject(ascend("a3-idle"), "ascend-a3", "qwen3-4b"))
    silent = (("h3", Problem("connect", "no route to 192.0.2.9", "Is it up?"), True),)
    renamed = tuple(Finding(each.check, "h2", each.state, each.message, each.remedy) for each in more)
    return Diagnosis("", (*found, *renamed), silent)


def many() -> Diagnosis:
    found = [Finding("arch", f"h{n}", "ok", "x86_64") for n in range(40)]
    found += [Finding("clock", f"h{n}", "warning", "not synchronized", "set up chrony") for n in range(40)]
    found[3] = Finding("arch", "h3", "failed", "the machine is aarch64", "correct flagprov_chip of h3")
    return Diagnosis("qwq-32b", tuple(found))


TEXTS: dict[str, Callable[[int | None], list[Line]]] = {
    "facts": lambda width: facts_lines(fleet().answers, fleet().words(), width=width),
    "facts-narrow": lambda width: facts_lines(fleet().answers, fleet().words(), width=width or 60),
    "doctor": lambda width: doctor_lines(diagnosis(), width=width),
    "doctor-40-hosts": lambda width: doctor_lines(many(), width=width),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text(name: str) -> None:
    text = render(TEXTS[name](None))
    case = CASES / f"{name}.txt"
    if os.environ.get("FLAGPROV_UPDATE_CASES"):
        case.write_text(text)
    assert text == case.read_text()


def test_json() -> None:
    facts = of_facts(fleet().answers, fleet().chips)
    assert facts["hosts"]["gpu-1"]["nvidia"]["report"]["gpus"][0]["name"] == "NVIDIA H100 80GB HBM3"
    assert facts["silent"]["npu-3"] == {
        "step": "connect",
        "message": "no route to 192.0.2.9",
        "remedy": "Is it up?",
        "unreachable": True,
    }
    found = of_doctor(diagnosis())
    assert found["healthy"] is False
    assert found["silent"][0]["host"] == "h3"
    fabric = next(each for each in found["findings"] if each["check"] == "fabric" and each["host"] == "h1")
    assert (fabric["state"], fabric["forced"]) == ("failed", True)
    json.dumps([facts, found])


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def run(found: Any, *words: str) -> Any:
        def answer_with(request: Any) -> Any:
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(verbs, "doctor", answer_with)
        monkeypatch.setattr(verbs, "facts", answer_with)
        return CliRunner().invoke(cli, [*words, "--quiet"])

    return run


def test_exit_codes(invoke: Callable[..., Any]) -> None:
    well = Diagnosis(
        "", (Finding("arch", "h1", "ok", "x86_64"), Finding("clock", "h1", "warning", "off", "set"))
    )
    assert invoke(well, "doctor", "hosts.ini").exit_code == 0
    assert invoke(many(), "doctor", "hosts.ini", "qwq-32b").exit_code == 1
    forced = Diagnosis("", (Finding("arch", "h1", "failed", "x86_64", "no", forced=True),))
    assert invoke(forced, "doctor", "hosts.ini", "--force", "arch").exit_code == 0
    assert invoke(diagnosis(), "doctor", "hosts.ini").exit_code == 1
    assert invoke(fleet(), "facts", "hosts.ini").exit_code == 1
    assert (
        invoke(
            FleetFacts({"h1": read_facts("h1", answer())}, {"h1": ()}, {"h1": None}), "facts", "hosts.ini"
        ).exit_code
        == 0
    )
    refused = invoke(HostError("h1", "facts", "its answer is not understood"), "facts", "hosts.ini")
    assert (refused.exit_code, refused.stderr) == (1, "error: h1, facts: its answer is not understood\n")


def test_json_on_standard_output(invoke: Callable[..., Any]) -> None:
    said = json.loads(invoke(many(), "doctor", "hosts.ini", "qwq-32b", "--output", "json").stdout)
    assert (said["schema_version"], said["healthy"], len(said["findings"])) == (1, False, 80)
    assert list(json.loads(invoke(fleet(), "facts", "hosts.ini", "-o", "json").stdout)["hosts"]) == [
        "gpu-1",
        "npu-1",
        "npu-2",
    ]


def test_an_unknown_check_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["doctor", str(tmp_path / "hosts.ini"), "--force", "fabrik", "--quiet"])
    assert result.exit_code == 2
    assert "did you mean fabric?" in result.stderr


def test_every_check_is_documented() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "doctor.md").read_text()
    assert [name for name in NAMES if f"| `{name}` |" not in docs] == []
