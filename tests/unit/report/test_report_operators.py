"""FlagGems in `flagprov status`: per host and process, in one line where they say the same."""

from __future__ import annotations

from typing import Any

import pytest
from report_values import ready

from flagprov.models.outcome import RankStatus
from flagprov.report.status import operator_texts
from flagprov.verify.status import operators_of


def process(state: str, **more: Any) -> dict[str, Any]:
    return {
        "pid": 1,
        "process": "VLLM::Worker",
        "flaggems": state,
        "version": "5.0.2",
        "operators": 241,
        **more,
    }


ON = {"asked": "flaggems", "on": True}


@pytest.mark.parametrize(
    ("said", "texts"),
    [
        (None, []),
        ({"asked": "native", "on": False}, ["native operators on lab1, lab2"]),
        (
            {"asked": "flaggems", "on": False, "reason": "the image has no FlagGems"},
            ["native operators (the image has no FlagGems) on lab1, lab2"],
        ),
        (
            {**ON, "processes": [process("on"), process("on"), process("off", process="API server")]},
            [
                "FlagGems 5.0.2 on, 241 operators replaced, in 2 processes on lab1, lab2",
                "FlagGems off (API server), in 1 process on lab1, lab2",
            ],
        ),
        (
            {**ON, "processes": [process("failed", error="ImportError: x")]},
            ["FlagGems failed (ImportError: x), in 1 process on lab1, lab2"],
        ),
        (ON, ["FlagGems not proved by any process on lab1, lab2"]),
    ],
)
def test_texts(said: dict[str, Any] | None, texts: list[str]) -> None:
    ranks = tuple(RankStatus(host, i, "ready", operators_of(said)) for i, host in enumerate(("lab1", "lab2")))
    assert operator_texts(ready(0, ranks=ranks)) == texts
