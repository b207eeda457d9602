"""Programs side by side: results in their order, whatever becomes of each."""

from __future__ import annotations

from flagprov.host.shell import run, together


def test_results_come_in_order_and_one_that_is_missing_or_late_hides_no_other() -> None:
    large = "head -c 300000 /dev/zero | tr '\\0' x"  # more than a pipe holds
    found = together([["sh", "-c", large], ["no-such-program"], ["sleep", "60"], ["sh", "-c", "exit 3"]], 1)
    assert [result.code for result in found] == [0, 127, 124, 3]
    assert len(found[0].out) == 300000
    assert "sleep did not end" in found[2].err


def test_standard_input_is_given_or_empty() -> None:
    assert run(["cat"], stdin="words").out == "words"
    assert run(["cat"]).out == ""
