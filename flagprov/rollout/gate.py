"""May the next batch go? Figures of a replica before and after its change, judged; pure but for asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from flagprov.errors import HostError
from flagprov.host.gate import TOKENS
from flagprov.models.release import Golden
from flagprov.rollout.options import Options
from flagprov.transport import Session

TIMEOUT_S = 60.0  # of a completion; one that hangs is found sooner, by its token counters
WARM_UP_S = 300.0  # kernels are compiled with the first completions
NOISE_S = 0.5  # differences below this say nothing


@dataclass(frozen=True, slots=True)
class Figures:
    seconds: tuple[float, ...]  # of each completion, sorted
    errors: tuple[str, ...]
    texts: tuple[str, ...]
    tokens_per_s: float
    golden: tuple[str, ...] = ()  # answers to the release's golden prompts
    golden_error: str = ""  # why there are none
    warm_up: tuple[float, ...] = ()  # seconds

    def words(self) -> str:
        """For the record of a run."""
        if not self.seconds:
            return "its gate is open"
        warm_up = f"a warm-up of {max(self.warm_up):.2f} s, then " if self.warm_up else ""
        each = f"{len(self.seconds)} completions of {median(self.seconds):.2f} s"
        return f"{warm_up}{each}, {self.tokens_per_s:.0f} tokens/s"

    def wire(self) -> dict[str, Any]:
        return asdict(self)


def read_figures(answer: Mapping[str, Any]) -> Figures:
    """Raises KeyError or TypeError where it is something else."""
    return Figures(
        tuple(answer["seconds"]),
        tuple(answer["errors"]),
        tuple(answer["texts"]),
        float(answer["tokens_per_s"]),
        tuple(answer.get("golden", ())),
        str(answer.get("golden_error", "")),
        tuple(answer.get("warm_up", ())),
    )


def measure(
    session: Session, probe: Mapping[str, Any], options: Options, lease: Mapping[str, Any], warm_up: int
) -> Figures:
    answer = session.ask(
        {
            "op": "measure",
            "probe": dict(probe),
            "requests": options.requests,
            "concurrent": options.concurrent,
            "timeout_s": options.latency_s or TIMEOUT_S,
            "warm_up": warm_up,
            "warm_up_timeout_s": WARM_UP_S,
            "golden": options.golden.model_dump(mode="json") if options.golden else None,
            "lease": dict(lease),
        }
    )
    try:
        return read_figures(answer)
    except (KeyError, TypeError, ValueError) as error:
        raise HostError(session.host.name, "gate", f"its answer is not understood: {error!r}") from None


def unlike(before: Figures | None) -> str:
    """What of a gate cannot be judged for want of figures from before; empty where nothing is amiss."""
    if before and before.errors:
        return (
            f"its completions failed before the change already ({before.errors[0]}): nothing to compare with"
        )
    if before and before.golden_error:
        return f"its golden prompts failed before the change already ({before.golden_error}): not compared"
    return ""


def judge(before: Figures | None, after: Figures, options: Options) -> str:
    """Empty when the gate opens, else why it stays shut."""
    if after.errors:
        total = len(after.errors) + len(after.seconds)
        return f"{len(after.errors)} of {total} completions failed: {after.errors[0]}"
    if not after.seconds:
        return ""
    slow = median(after.seconds)
    if options.latency_s is not None and slow > options.latency_s:
        return f"a completion takes {slow:.2f} s, the budget is {options.latency_s:.2f} s"
    if before and before.seconds and not before.errors:
        allowed = max(median(before.seconds) * options.slowdown, NOISE_S)
        if slow > allowed:
            return f"a completion takes {slow:.2f} s, it took {median(before.seconds):.2f} s before"
        if _less(before.tokens_per_s, after.tokens_per_s, options):
            return f"it makes {after.tokens_per_s:.1f} tokens/s, it made {before.tokens_per_s:.1f} before"
    if not any(after.texts):
        return "its completions are empty"
    if options.golden and after.golden_error and not (before and before.golden_error):
        return f"its golden prompts fail: {after.golden_error}"
    return _golden(before.golden, after.golden, options.golden) if before and options.golden else ""


def _less(before: float, after: float, options: Options) -> bool:
    """Throughput that fell by more than the slowdown that is allowed; noise of a short load is none."""
    if not before or not after:
        return False
    longer = options.requests * TOKENS * (1 / after - 1 / before)
    return before > after * options.slowdown and longer > NOISE_S


def _golden(before: Sequence[str], after: Sequence[str], golden: Golden) -> str:
    """Greedy answers against those from before: what follows the first other word is another answer."""
    if not before or len(before) != len(after):
        return ""
    words = [text.split() for text in before]
    same = [_in_common(one, text.split()) for one, text in zip(words, after, strict=True)]
    total = sum(len(one) for one in words)
    differing = 1 - sum(same) / total if total else float(list(before) != list(after))
    if differing <= golden.tolerance:
        return ""
    worst = min(range(len(words)), key=lambda i: same[i] / max(1, len(words[i])))
    return (
        f"{differing:.0%} of its golden answers differ from before, {golden.tolerance:.0%} may: "
        f"{golden.prompts[worst]!r} was {before[worst][:80]!r}, is {after[worst][:80]!r}"
    )


def _in_common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
