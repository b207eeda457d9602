"""From looks to a plan."""

from flagprov.models.desired import Placement, Replica
from flagprov.models.observed import Change, Look, Problem
from flagprov.models.plan import LeftOut
from flagprov.plan import build, host_plan, provision_step

PULL = Change("image", "r/x:1", "image", "pull", "it is not here", "m-0")
CREATE = Change("container", "flagprov-m-0", "serve", "create", "it is not there", "m-0", "new container")
ENABLE = Change("unit", "u", "serve", "enable", "it has to come back", "m-1")
REPLICAS = Placement(
    (
        Replica("m-0", "m", "cpu-x86", ("a",), (0,), 9010),
        Replica("m-1", "m", "cpu-x86", ("b",), (0,), 9010),
    )
)


def test_steps_stand_in_the_order_of_their_stages_under_their_replica() -> None:
    roles = provision_step("never provisioned", ("host_baseline",))
    hosts = {
        "a": host_plan("a", Look("a", "d1", (CREATE, PULL)), roles, ""),
        "b": host_plan("b", Look("b", "d2", (ENABLE,)), None, ""),
    }
    plan = build("deploy", "m", REPLICAS, hosts, ())
    first, second = plan.batches[0].replicas
    assert [step.action for step in first.hosts[0].steps] == ["provision", "pull", "create"]
    assert (first.cost, second.cost) == ("re-provision", "nothing")
    assert plan.changes == 4


def test_a_registry_that_does_not_answer_before_the_roles_ran_is_asked_again() -> None:
    seen = Look("a", "d", (), (Problem("image", "certificate signed by unknown authority"),))
    plan = host_plan("a", seen, provision_step("never provisioned", ()), "configuration follows")
    assert plan.pending == "the image is pulled once the host is provisioned; configuration follows"


def test_nothing_to_do() -> None:
    hosts = {name: host_plan(name, Look(name, "d", ()), None, "") for name in ("a", "b")}
    plan = build("deploy", "m", REPLICAS, hosts, ())
    assert plan.changes == 0
    assert [replica.cost for replica in plan.batches[0].replicas] == ["nothing", "nothing"]


def test_a_host_that_was_left_out_takes_its_replica_with_it() -> None:
    left = LeftOut("a", Problem("weights", "truncated"))
    plan = build("deploy", "m", REPLICAS, {"b": host_plan("b", Look("b", "d", (ENABLE,)), None, "")}, (left,))
    assert [replica.replica for replica in plan.batches[0].replicas] == ["m-1"]
    assert plan.left_out == (left,)


def test_a_host_without_an_engine_is_planned_before_it_can_be_looked_at() -> None:
    hosts = {"c": host_plan("c", None, provision_step("no container engine answers", ()), "the rest follows")}
    plan = build("deploy", "m", Placement(()), hosts, ())
    (replica,) = plan.batches[0].replicas
    assert replica.hosts[0].pending == "the rest follows"
    assert plan.changes == 1
