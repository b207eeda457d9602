"""Never half of a replica: which hosts must not go, or stay, alone."""

from __future__ import annotations

from flagprov.errors import HostError
from flagprov.models.desired import Replica
from flagprov.models.plan import Batch, HostPlan, ReplicaPlan
from flagprov.rollout.whole import group_of, halves, partners, replicas_on

PAIR = Replica("m-0", "m", "c", ("a", "b"), (0,), 9010)
ALONE = Replica("m-1", "m", "c", ("d",), (0,), 9010)


def part(replica: Replica) -> ReplicaPlan:
    return ReplicaPlan(replica.name, tuple(HostPlan(host, (), "") for host in replica.hosts), "nothing")


BATCH = Batch((part(PAIR), part(ALONE)))


def test_a_host_does_not_go_without_the_others_of_its_replica() -> None:
    assert halves([PAIR, ALONE], {"a", "b", "d"}) == {}
    assert halves([PAIR, ALONE], {"a", "d"}) == {"a": "m-0 needs b too, which cannot be used now"}
    assert halves([PAIR, ALONE], set()) == {}


def test_what_failed_takes_the_rest_of_its_replica_with_it_and_nothing_else() -> None:
    found = partners(BATCH, {"b": HostError("b", "serve", "its engine ended")})
    assert {name: error.message for name, error in found.items()} == {
        "a": "b, of the same replica m-0, failed"
    }
    assert partners(BATCH, {"d": HostError("d", "serve", "no")}) == {}
    assert partners(BATCH, {}) == {}


def test_groups() -> None:
    assert group_of(BATCH, "a") == {"a", "b"}
    assert group_of(BATCH, "d") == {"d"}
    assert replicas_on(BATCH, "b", spread=True) == ["m-0"]
    assert replicas_on(BATCH, "d", spread=True) == []
    assert replicas_on(BATCH, "d") == ["m-1"]
