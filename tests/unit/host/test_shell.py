"""Programs side by side: results in their order, whatever becomes of each."""

from __future__ import annotations

import pytest

from flagprov.host import shell
from flagprov.host.shell import AtOnce, Result, run, together, unit_state


def test_results_come_in_order_and_one_that_is_missing_or_late_hides_no_other() -> None:
    large = "head -c 300000 /dev/zero | tr '\\0' x"  # more than a pipe holds
    found = together([["sh", "-c", large], ["no-such-program"], ["sleep", "60"], ["sh", "-c", "exit 3"]], 1)
    assert [result.code for result in found] == [0, 127, 124, 3]
    assert len(found[0].out) == 300000
    assert "sleep did not end" in found[2].err


def test_standard_input_is_given_or_empty() -> None:
    assert run(["cat"], stdin="words").out == "words"
    assert run(["cat"]).out == ""


def test_a_look_asks_systemd_once_for_all_its_units(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def systemctl(argv: list[str], timeout: float) -> Result:
        asked.append(argv[4:])
        return Result(0, "\n\n".join(f"ActiveState={unit}\nResult=success" for unit in argv[4:]) + "\n", "")

    monkeypatch.setattr(shell, "run", systemctl)
    with AtOnce({"b.service", "a.service"}):
        found = [unit_state(name)["ActiveState"] for name in ("b.service", "a.service", "b.service")]
        assert unit_state("c.service") == {"ActiveState": "c.service", "Result": "success"}
    unit_state("a.service")
    assert found == ["b.service", "a.service", "b.service"]
    assert asked == [["a.service", "b.service"], ["c.service"], ["a.service"]]


def test_a_systemd_that_does_not_answer_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "run", lambda argv, timeout: Result(1, "", "Failed to connect to bus"))
    assert unit_state("a.service") == {}
    with AtOnce({"a.service", "b.service"}):
        assert unit_state("b.service") == {}
