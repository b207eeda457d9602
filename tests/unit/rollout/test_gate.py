"""What opens a gate, and what keeps it shut."""

import pytest

from flagprov.models.release import Golden
from flagprov.rollout.gate import Figures, judge, unlike
from flagprov.rollout.options import Options


def figures(*seconds: float, errors: tuple[str, ...] = (), text: str = "hello") -> Figures:
    return Figures(seconds, errors, tuple(text for _ in seconds), 10.0)


@pytest.mark.parametrize(
    ("before", "after", "options", "reason"),
    [
        (None, figures(0.2, 0.3), Options(), ""),
        (figures(0.1), figures(0.3), Options(), ""),
        (figures(1.0), figures(2.9), Options(), ""),
        (figures(1.0), figures(3.1), Options(), "takes 3.10 s, it took 1.00 s before"),
        (None, figures(3.1), Options(latency_s=3.0), "the budget is 3.00 s"),
        (figures(1.0), figures(0.1, errors=("HTTP 500",)), Options(), "1 of 2 completions failed: HTTP 500"),
        (figures(1.0, errors=("x",)), figures(9.0), Options(), ""),
        (None, figures(0.1, text=""), Options(), "completions are empty"),
        (None, figures(0.1, text="\n"), Options(), ""),
        (None, figures(), Options(), ""),
    ],
)
def test_judge(before: Figures | None, after: Figures, options: Options, reason: str) -> None:
    found = judge(before, after, options)
    assert reason in found
    assert bool(reason) == bool(found)


@pytest.mark.parametrize(
    ("before", "after", "refused"),
    [(100.0, 30.0, True), (100.0, 40.0, False), (0.0, 1.0, False), (900.0, 200.0, False)],
)
def test_throughput(before: float, after: float, refused: bool) -> None:
    one, other = (Figures((1.0,), (), ("x",), tokens) for tokens in (before, after))
    assert ("tokens/s" in judge(one, other, Options())) is refused


def test_what_failed_before_is_said() -> None:
    assert unlike(None) == unlike(figures(1.0)) == ""
    assert "failed before the change already (HTTP 500)" in unlike(figures(errors=("HTTP 500",)))
    failed = Figures((1.0,), (), ("x",), 10.0, golden_error="no answer")
    assert "its golden prompts failed before" in unlike(failed)
    options = Options(golden=Golden(prompts=("one",)))
    assert judge(figures(1.0), failed, options) == "its golden prompts fail: no answer"
    assert judge(failed, figures(1.0), options) == ""


def test_figures_in_words() -> None:
    found = Figures((0.1, 0.2, 0.4), (), ("x",), 120.0, warm_up=(1.5,))
    assert found.words() == "a warm-up of 1.50 s, then 3 completions of 0.20 s, 120 tokens/s"
    assert figures().words() == "its gate is open"


def golden(*answers: str) -> Figures:
    return Figures((0.1,), (), ("hello",), 10.0, answers)


@pytest.mark.parametrize(
    ("before", "after", "tolerance", "reason"),
    [
        (("a b c d", "e f"), ("a b c d", "e f"), 0.0, ""),
        (("a b c d", "e f"), ("a b x d", "e f"), 0.0, "33% of its golden answers differ"),
        (("a b c d", "e f"), ("a b x d", "e f"), 0.4, ""),
        (("a b c d", "e f"), ("a b c d e", "e f"), 0.0, ""),
        (("a b c d", "e f"), ("!!!!", "!!"), 0.5, "'one' was 'a b c d', is '!!!!'"),
        (("", ""), ("", ""), 0.0, ""),
        (("", ""), ("x", ""), 0.0, "differ"),
        ((), ("x", "y"), 0.0, ""),
    ],
)
def test_golden_answers(
    before: tuple[str, ...], after: tuple[str, ...], tolerance: float, reason: str
) -> None:
    options = Options(golden=Golden(prompts=("one", "two"), tolerance=tolerance))
    found = judge(golden(*before), golden(*after), options)
    assert reason in found
    assert bool(reason) == bool(found)
