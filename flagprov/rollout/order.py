"""Which replicas move when: one canary per chip first, then batches within a budget; pure arithmetic."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flagprov.errors import UsageError
from flagprov.models.desired import Replica


@dataclass(frozen=True, slots=True)
class Size:
    """A number of replicas, or a share of all of them."""

    count: int | None = None
    percent: float | None = None

    def of(self, total: int) -> int:
        """At least one: a share that rounds down to none would never end."""
        if self.count is not None:
            return self.count
        assert self.percent is not None
        return max(1, int(total * self.percent / 100))


def parse_size(text: str, option: str) -> Size:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(%?)\s*", text)
    if not found or (not found.group(2) and "." in found.group(1)):
        raise UsageError(
            f"{option}: {text!r} is no size", remedy="a number such as 5, or a share such as 25%"
        )
    value = float(found.group(1))
    if found.group(2):
        if not 0 < value <= 100:
            raise UsageError(f"{option}: {text!r} is no share", remedy="more than 0%, at most 100%")
        return Size(percent=value)
    if value < 1 and option == "--batch":
        raise UsageError(f"{option}: a batch has at least one replica", remedy="--batch 1")
    return Size(count=int(value))


def parse_batches(text: str) -> tuple[Size, ...]:
    """`1`, `25%`, or `1,5,50%`: the last one is repeated until all have moved."""
    return tuple(parse_size(part, "--batch") for part in text.split(","))


@dataclass(frozen=True, slots=True)
class Budget:
    """How many replicas may be out of service at once; unreachable and failed ones keep their place in it."""

    total: int
    unavailable: int  # allowed at once
    lost: int = 0  # unreachable or failed: out of service already, each counted once

    @property
    def left(self) -> int:
        return max(0, self.unavailable - self.lost)

    @property
    def spent(self) -> bool:
        return self.left == 0


def batches(
    replicas: Sequence[Replica],
    sizes: Sequence[Size],
    budget: Budget,
    *,
    canary: bool = True,
    lost: Collection[str] = (),
) -> tuple[tuple[Replica, ...], ...]:
    """Every replica that is not lost, once; no batch is larger than the budget leaves.

    A replica over several hosts counts and moves as one. Empty when the budget is spent.
    """
    moving = [replica for replica in replicas if replica.name not in lost]
    if budget.spent or not moving:
        return ()
    found: list[tuple[Replica, ...]] = []
    if canary:
        first = list({replica.chip: replica for replica in reversed(moving)}.values())
        order = {replica.name: position for position, replica in enumerate(moving)}
        first.sort(key=lambda replica: order[replica.name])
        found += _cut(first, (Size(count=len(first)),), budget)
        chosen = {replica.name for replica in first}
        moving = [replica for replica in moving if replica.name not in chosen]
    found += _cut(moving, sizes, budget)
    return tuple(found)


def _cut(replicas: Sequence[Replica], sizes: Sequence[Size], budget: Budget) -> list[tuple[Replica, ...]]:
    found: list[tuple[Replica, ...]] = []
    position = 0
    while position < len(replicas):
        size = sizes[min(len(found), len(sizes) - 1)].of(budget.total)
        size = max(1, min(size, budget.left))
        found.append(tuple(replicas[position : position + size]))
        position += size
    return found
