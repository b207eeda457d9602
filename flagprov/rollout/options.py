"""How a change goes over a fleet: sizes, pauses, and what a gate asks for."""

from __future__ import annotations

from dataclasses import dataclass

from flagprov.models.release import Golden
from flagprov.rollout.order import Size

QUARTER = Size(percent=25)


@dataclass(frozen=True, slots=True)
class Options:
    """Careful by default; `at_once` is one batch without canary or soak."""

    batches: tuple[Size, ...] = (QUARTER,)
    max_unavailable: Size | None = None  # None: a quarter, or as many as a batch was asked to have
    canary: bool = True
    at_once: bool = False
    pause_s: float = 0.0
    soak_s: float = 3.0
    return_s: float = 120.0  # how long a host that went away during its batch is waited for
    requests: int = 4
    concurrent: int = 2
    latency_s: float | None = None  # of one completion; None: against the replica's own figures from before
    slowdown: float = 3.0  # how much slower than before is still good
    allow_downtime: bool = False
    surge: bool = False  # where a host has room, the new one starts before the old one stops
    golden: Golden | None = None  # the release's

    def unavailable(self, total: int) -> int:
        """How many of so many may be out of service."""
        if self.max_unavailable is not None:
            return self.max_unavailable.of(total)
        return max(size.of(total) for size in (QUARTER, *self.batches))
