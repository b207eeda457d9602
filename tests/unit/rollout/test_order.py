"""The arithmetic of batches and budgets."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flagprov.errors import UsageError
from flagprov.models.desired import Replica
from flagprov.models.plan import Batch, HostPlan, ReplicaPlan
from flagprov.rollout.order import Budget, Size, batches, parse_batches, parse_size, stand_ins, units

CHIPS = ("nvidia-h100", "ascend-a2", "graviton4")


def replicas(chips: list[str], nodes: int = 1) -> list[Replica]:
    return [
        Replica(f"m-{i}", "m", chip, tuple(f"h{i}-{n}" for n in range(nodes)), (0,), 9010)
        for i, chip in enumerate(chips)
    ]


def sharing(*counts: int) -> list[Replica]:
    """So many replicas on each host."""
    places = [host for host, count in enumerate(counts) for _ in range(count)]
    return [Replica(f"m-{i}", "m", CHIPS[0], (f"h{host}",), (i,), 9010 + i) for i, host in enumerate(places)]


def names(found: tuple[tuple[Replica, ...], ...]) -> list[list[str]]:
    return [[replica.name for replica in batch] for batch in found]


def test_one_canary_per_chip_then_growing_batches() -> None:
    fleet = replicas(["nvidia-h100"] * 5 + ["graviton4"] * 2)
    found = batches(fleet, parse_batches("1,2,50%"), Budget(total=7, unavailable=3))
    assert names(found) == [["m-0", "m-5"], ["m-1"], ["m-2", "m-3"], ["m-4", "m-6"]]


def test_a_spent_budget_moves_nothing() -> None:
    assert batches(replicas(["a2"]), (Size(count=1),), Budget(total=4, unavailable=1, lost=1)) == ()


def test_what_shares_a_host_moves_as_one_and_counts_each() -> None:
    fleet = sharing(2, 1, 2, 1)
    assert [[r.name for r in unit] for unit in units(fleet)] == [
        ["m-0", "m-1"],
        ["m-2"],
        ["m-3", "m-4"],
        ["m-5"],
    ]
    found = batches(fleet, parse_batches("1"), Budget(total=6, unavailable=2), canary=False)
    assert names(found) == [["m-0", "m-1"], ["m-2"], ["m-3", "m-4"], ["m-5"]]
    found = batches(fleet, parse_batches("3"), Budget(total=6, unavailable=3), canary=False)
    assert names(found) == [["m-0", "m-1", "m-2"], ["m-3", "m-4", "m-5"]]
    assert batches(fleet, parse_batches("1"), Budget(total=6, unavailable=1)) == ()


def test_a_host_in_two_groups_ties_them() -> None:
    fleet = [
        Replica(f"m-{i}", "m", CHIPS[0], tuple(hosts), (0,), 9010)
        for i, hosts in enumerate(("ab", "cd", "bc"))
    ]
    assert units(fleet) == [(fleet[0], fleet[1], fleet[2])]


@pytest.mark.parametrize("text", ["", "0", "x", "1,,2", "0%", "101%", "1.5", "-1"])
def test_what_is_no_size_is_said(text: str) -> None:
    with pytest.raises(UsageError, match="--batch"):
        parse_batches(text)


@pytest.mark.parametrize("option", ["--batch", "--max-unavailable"])
def test_none_at_all_is_no_size(option: str) -> None:
    with pytest.raises(UsageError, match=f"{option}: with none at all"):
        parse_size("0", option)


SIZES = st.lists(
    st.one_of(
        st.integers(1, 50).map(lambda n: Size(count=n)),
        st.floats(0.1, 100).map(lambda p: Size(percent=p)),
    ),
    min_size=1,
    max_size=4,
)


@given(
    chips=st.lists(st.sampled_from(CHIPS), max_size=60),
    nodes=st.integers(1, 4),
    together=st.integers(1, 4),
    sizes=SIZES,
    unavailable=st.integers(0, 60),
    lost=st.sets(st.integers(0, 59)),
    canary=st.booleans(),
)
def test_every_replica_moves_once_within_the_budget(
    chips: list[str],
    nodes: int,
    together: int,
    sizes: list[Size],
    unavailable: int,
    lost: set[int],
    canary: bool,
) -> None:
    """`together`: so many replicas share their hosts."""
    fleet = [
        replace(replica, hosts=tuple(f"h{i // together}-{n}" for n in range(nodes)))
        for i, replica in enumerate(replicas(chips, nodes))
    ]
    gone = {replica.name for i, replica in enumerate(fleet) if i in lost}
    budget = Budget(total=len(fleet), unavailable=unavailable, lost=len(gone))
    found = batches(fleet, sizes, budget, canary=canary, lost=gone)
    moved = [replica.name for batch in found for replica in batch]
    assert len(set(moved)) == len(moved)
    seen: set[str] = set()
    for batch in found:
        assert batch
        assert len(batch) + len(gone) <= max(unavailable, len(gone))
        hosts = {host for replica in batch for host in replica.hosts}
        assert not hosts & seen  # what shares a host is never in two batches
        seen |= hosts
    largest = max(map(len, units([r for r in fleet if r.name not in gone])), default=0)
    if unavailable - len(gone) >= largest:
        assert set(moved) == {replica.name for replica in fleet} - gone
    else:
        assert moved == []


@pytest.mark.parametrize(
    ("planned", "out", "found"),
    [
        ("a1 b1|a2 a3 b2 b3", "", "a1 b1|a2 a3 b2 b3"),
        ("a1 b1|a2 a3 b2 b3", "a2", "a1 b1|a2 a3 b2 b3"),
        ("a1 b1|a2 a3 b2 b3", "a1", "a2 b1|a1 a3 b2 b3"),
        ("a1|a2 a3|a4", "a1 a2", "a3|a4 a1|a2"),
        ("a1|a2", "a1 a2", "a1|a2"),
        ("a1|b1", "a1", "a1|b1"),
    ],
)
def test_a_canary_that_failed_before_its_turn_has_a_stand_in(planned: str, out: str, found: str) -> None:
    """Each word is a replica, the one of its host, and begins with its kind."""
    plan = [
        Batch(tuple(ReplicaPlan(name, (HostPlan(name, (), ""),), "nothing") for name in row.split()))
        for row in planned.split("|")
    ]
    rows = stand_ins(plan, out.split(), lambda replica: replica.replica[0])
    assert "|".join(" ".join(replica.replica for replica in row.replicas) for row in rows) == found


def test_what_shares_a_host_stands_in_for_nobody() -> None:
    host = HostPlan("h", (), "")
    pair = Batch((ReplicaPlan("m-1", (host,), "nothing"), ReplicaPlan("m-2", (host,), "nothing")))
    alone = Batch((ReplicaPlan("m-0", (HostPlan("g", (), ""),), "nothing"),))
    assert stand_ins((alone, pair), ["g"], lambda replica: "") == (alone, pair)
