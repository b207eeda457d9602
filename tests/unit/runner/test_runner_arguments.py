"""Engine arguments as one image takes them: one JSON case each in tests/cases/runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launch_inputs import facts, inputs

from flagprov.errors import ReleaseError, SettingsError
from flagprov.runner.arguments import command_line, drain_mode, engine_arguments

CASES = sorted((Path(__file__).parents[2] / "cases/runner").glob("*.json"))


@pytest.mark.parametrize("path", CASES, ids=[path.stem for path in CASES])
def test_case(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text())
    launch = inputs(
        serve=case["serve"],
        facts=facts(case["vllm"]) if case["vllm"] else None,
        settings_keys=frozenset(case["serve"]) if case.get("settings") else frozenset(),
    )
    if "error" in case:
        with pytest.raises(SettingsError if case["settings"] else ReleaseError) as caught:
            engine_arguments(launch)
        assert case["error"] in caught.value.message
        assert caught.value.remedy
        return
    placed = {"model": "/models/tiny", "host": "0.0.0.0", "port": 9010}
    assert engine_arguments(launch) == placed | case["arguments"]


def test_command_line_flattens_as_flagscale_does() -> None:
    words = command_line({"model": "/m", "port": 1, "a_b": True, "c": False, "names": ["x", "y"], "d": "{}"})
    assert words == ["vllm", "serve", "/m", "--port", "1", "--a-b", "--names", "x", "y", "--d", "{}"]


@pytest.mark.parametrize(("version", "mode"), [("0.32.0", "engine"), ("0.8.5", "outside")])
def test_who_drains_follows_the_image(version: str, mode: str) -> None:
    assert drain_mode(inputs(facts=facts(version))) == mode
