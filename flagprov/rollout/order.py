"""Which replicas move when: one canary per chip first, then batches within a budget; pure arithmetic."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from flagprov.errors import UsageError
from flagprov.models.desired import Replica
from flagprov.models.plan import Batch, ReplicaPlan


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
    if value < 1:
        raise UsageError(f"{option}: with none at all nothing would ever move", remedy=f"{option} 1")
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


def units(replicas: Sequence[Replica]) -> list[tuple[Replica, ...]]:
    """Replicas that share a host, directly or through others: a host is changed as one, and so are they."""
    found: list[list[Replica]] = []
    for replica in replicas:
        mine = [unit for unit in found if any(set(other.hosts) & set(replica.hosts) for other in unit)]
        if mine:
            mine[0] += [other for unit in mine[1:] for other in unit] + [replica]
            found = [unit for unit in found if unit not in mine[1:]]
        else:
            found.append([replica])
    return [tuple(unit) for unit in found]


def batches(
    replicas: Sequence[Replica],
    sizes: Sequence[Size],
    budget: Budget,
    *,
    canary: bool = True,
    lost: Collection[str] = (),
) -> tuple[tuple[Replica, ...], ...]:
    """Every replica that is not lost, once; no batch is larger than the budget leaves.

    A replica over several hosts counts and moves as one; replicas that share a host move together, and count
    each. Empty when the budget is spent, or too small for one of these.
    """
    moving = units([replica for replica in replicas if replica.name not in lost])
    if not moving or budget.left < max(map(len, moving)):
        return ()
    found: list[tuple[Replica, ...]] = []
    if canary:
        first = _canaries(moving)
        found += _cut(first, (Size(count=sum(map(len, first))),), budget)
        moving = [unit for unit in moving if unit not in first]
    found += _cut(moving, sizes, budget)
    return tuple(found)


def _canaries(moving: Sequence[tuple[Replica, ...]]) -> list[tuple[Replica, ...]]:
    """The first of each chip, in their order."""
    first: dict[str, tuple[Replica, ...]] = {}
    for unit in moving:
        for replica in unit:
            first.setdefault(replica.chip, unit)
    return [unit for unit in moving if unit in first.values()]


def _cut(
    moving: Sequence[tuple[Replica, ...]], sizes: Sequence[Size], budget: Budget
) -> list[tuple[Replica, ...]]:
    """At least one unit a batch, and as many as fit into its size."""
    found: list[tuple[Replica, ...]] = []
    for unit in moving:
        size = sizes[min(max(0, len(found) - 1), len(sizes) - 1)].of(budget.total)
        if found and len(found[-1]) + len(unit) <= min(size, budget.left):
            found[-1] += unit
        else:
            found.append(unit)
    return found


def stand_ins(
    batches: Sequence[Batch], out: Collection[str], kind: Callable[[ReplicaPlan], object]
) -> tuple[Batch, ...]:
    """Where no replica of its kind is left in a batch, the next one of them changes places with it.

    `out`: hosts that failed before the first batch. Without this, a canary that cannot be staged would send a
    whole batch first. What shares a host with others stays where it is.
    """
    rows = [list(batch.replicas) for batch in batches]
    hosts = [host.host for row in rows for replica in row for host in replica.hosts]

    def able(replica: ReplicaPlan) -> bool:
        return not any(host.host in out for host in replica.hosts)

    for i, row in enumerate(rows):
        for j, replica in enumerate(row):
            if any(able(other) and kind(other) == kind(replica) for other in row):
                continue
            for later in rows[i + 1 :]:
                fit = [
                    n
                    for n, other in enumerate(later)
                    if able(other) and kind(other) == kind(replica)
                    if all(hosts.count(host.host) == 1 for host in other.hosts)
                ]
                if fit:
                    row[j], later[fit[0]] = later[fit[0]], replica
                    break
    return tuple(Batch(tuple(row)) for row in rows)
