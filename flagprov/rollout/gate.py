"""May the next batch go? Figures of a replica before and after its change, judged; pure but for asking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from flagprov.errors import HostError
from flagprov.rollout.options import Options
from flagprov.transport import Session

TIMEOUT_S = 60.0
NOISE_S = 0.5  # differences below this say nothing


@dataclass(frozen=True, slots=True)
class Figures:
    seconds: tuple[float, ...]  # of each completion, sorted
    errors: tuple[str, ...]
    texts: tuple[str, ...]
    tokens_per_s: float


def measure(session: Session, probe: Mapping[str, Any], options: Options, warm_up: int) -> Figures:
    answer = session.ask(
        {
            "op": "measure",
            "probe": dict(probe),
            "requests": options.requests,
            "concurrent": options.concurrent,
            "timeout_s": options.latency_s or TIMEOUT_S,
            "warm_up": warm_up,
        }
    )
    try:
        return Figures(
            tuple(answer["seconds"]), tuple(answer["errors"]), tuple(answer["texts"]), answer["tokens_per_s"]
        )
    except (KeyError, TypeError) as error:
        raise HostError(session.host.name, "gate", f"its answer is not understood: {error!r}") from None


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
    if not any(after.texts):
        return "its completions are empty"
    return ""
