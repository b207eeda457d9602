"""Whose log is meant, where not all hosts answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flagprov.asking import _find
from flagprov.errors import FlagprovError, InventoryError, UnreachableError
from flagprov.models.fleet import Connection, Fleet, Host

FLEET = Fleet(Path("lab.ini"), tuple(Host(name, Connection("192.0.2.1")) for name in ("lab1", "lab2")))


class Answers:
    """Connections over which these answers come."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def each(self, hosts: Any, ask: Any, keep: int) -> dict[str, Any]:
        return {host.name: self.answers[host.name] for host in hosts}


class Nothing:
    running = ()


SILENT = UnreachableError("lab2", "connect", "192.0.2.1 does not answer", remedy="Is it up?")


def test_a_replica_that_no_host_has_is_wrong_input() -> None:
    with pytest.raises(InventoryError, match="no host or replica qwen3-tiny-7"):
        _find(FLEET, Answers(lab1=Nothing, lab2=Nothing), "qwen3-tiny-7")  # type: ignore[arg-type]
    with pytest.raises(InventoryError, match="no host or replica lab7; nearest: lab2, lab1"):
        _find(FLEET, Answers(lab1=Nothing, lab2=Nothing), "lab7")  # type: ignore[arg-type]


def test_a_replica_that_may_be_on_a_silent_host_is_not_said_to_be_nowhere() -> None:
    with pytest.raises(FlagprovError) as refused:
        _find(FLEET, Answers(lab1=Nothing, lab2=SILENT), "qwen3-tiny-1")  # type: ignore[arg-type]
    assert refused.value.exit_code == 1
    assert refused.value.message == (
        "qwen3-tiny-1: on no host that answered; lab2 did not: 192.0.2.1 does not answer"
    )
    assert refused.value.remedy == "Is it up?"
