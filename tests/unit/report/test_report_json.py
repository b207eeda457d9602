from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import pytest
import report_values as values

from flagprov.errors import HostError, UsageError
from flagprov.models.desired import Stage
from flagprov.models.fleet import Connection, Secret
from flagprov.models.release import Card
from flagprov.report.json import document, of_error, of_outcome, of_plan, of_status, plain


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Thing:
    path: Path
    stage: Stage
    colour: Colour
    counts: dict[int, tuple[int, ...]]
    ratio: float


def test_every_kind_of_value() -> None:
    thing = Thing(Path("/a"), Stage.IMAGE, Colour.RED, {1: (2, 3)}, float("nan"))
    assert plain(thing) == {
        "path": "/a", "stage": "image", "colour": "red", "counts": {"1": [2, 3]}, "ratio": None,
    }  # fmt: skip
    assert plain(Card(name="Qwen3")) == {"name": "Qwen3", "url": "", "licence": ""}
    assert plain({"b", "a"}) == ["a", "b"]
    assert plain(True) is True


def test_a_secret_never_shows() -> None:
    connection = Connection("10.0.0.1", password=Secret("hunter2"))
    shown = document(connection)
    assert "hunter2" not in shown
    assert json.loads(shown)["password"] == "[redacted]"


def test_what_has_no_json_form_is_an_error() -> None:
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_schema_version_stands_first_and_the_text_is_ascii() -> None:
    shown = document(of_outcome(values.outcome()))
    assert shown.splitlines()[1] == '  "schema_version": 1,'
    assert shown.isascii()
    assert json.loads(document({"target": "lab1"})) == {"schema_version": 1, "target": "lab1"}


def test_a_terminal_obeys_no_document() -> None:
    assert "\x9b" not in document({"text": "\x9b2J\u202e"})


def test_status_is_what_is_documented() -> None:
    found = of_status(values.outcome())
    assert list(found)[:3] == ["schema_version", "replicas", "hosts"]
    assert found["schema_version"] == 1
    replica = found["replicas"][0]
    documented = {"name", "release", "chip", "hosts", "endpoint", "state", "model", "engine_version", "ranks"}
    assert documented <= set(replica)
    assert replica["ranks"] == [{"host": "lab1", "rank": 0, "state": "ready", "operators": None}]


def test_plan_and_outcome_say_what_a_script_asks() -> None:
    assert of_plan(values.plan())["changes"] == 10
    assert of_plan(values.plan(left_out=(values.left_out(),)))["left_out"][0]["problem"]["step"] == "connect"
    found = of_outcome(values.outcome((values.host(1), values.failed(2))))
    assert (found["succeeded"], found["changes"]) == (False, 5)


def test_errors() -> None:
    assert of_error(UsageError("no", remedy="do")) == {
        "schema_version": 1, "error": {"kind": "UsageError", "message": "no", "remedy": "do"},
    }  # fmt: skip
    assert of_error(HostError("lab1", "disk", "full", log="x"))["error"]["host"] == "lab1"
