"""What a host is asked to do to an engine for how it is comes from the plan, and from no later look."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.apply.bring import Bringing
from flagprov.models.desired import HostDesired, Placement, Resource, Stage
from flagprov.models.observed import Change
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.models.release import Image
from flagprov.serving import image_key
from flagprov.site import Site

SERVES = Change("file", "f", "config", "write", "", cost="nothing")
HANGS = Change("probe", "endpoint of m-1", "verify", "restart", "it is hung", cost="restart")
WAITS = Change("probe", "endpoint of m-0", "verify", "wait", "it is starting", cost="nothing")


@pytest.mark.parametrize(("host", "restarts"), [("a", ["endpoint of m-1"]), ("b", [])])
@pytest.mark.parametrize("digest", ["d", ""])
def test_only_the_plan_restarts(
    monkeypatch: pytest.MonkeyPatch, host: str, restarts: list[str], digest: str
) -> None:
    parts = (HostPlan("a", (SERVES, WAITS), "d"), HostPlan("a", (HANGS,), "d"), HostPlan("b", (WAITS,), "d"))
    replicas = tuple(ReplicaPlan(f"m-{i}", (part,), "restart") for i, part in enumerate(parts))
    plan = Plan("deploy", "m", (Batch(replicas),), (), ())
    asked: list[dict[str, Any]] = []

    def ask(payload: dict[str, Any], on_message: Any = None) -> dict[str, Any]:
        asked.append(payload)
        return {"changes": 0, "notes": {}, "seconds": {}}

    monkeypatch.setattr(Bringing, "desired", lambda *_: HostDesired(host, (), ""))
    lease = SimpleNamespace(wire=dict.fromkeys(("command", "holder", "since", "token"), "x"))
    job = SimpleNamespace(release=SimpleNamespace(name="tiny"), sets=())
    bringing = Bringing(cast(Any, job), Placement(()), cast(Any, lease), lambda event: None, plan)
    session = SimpleNamespace(host=SimpleNamespace(name=host), ask=ask)
    bringing.bring(cast(Any, session), cast(Any, None), digest, {})
    assert asked[0]["restarts"] == restarts
    assert asked[0]["digest"] == digest
    assert asked[0]["checked"]


def test_what_is_known_of_a_name_is_forgotten_with_the_run(tmp_path: Path) -> None:
    """Another run may find another image under it; by its digest it stays known."""
    site, image = Site(tmp_path), Image(reference="registry/image:tag")
    variant = SimpleNamespace(image=image, operators="native")
    job = SimpleNamespace(
        site=site,
        variants={"h1": variant},
        chips={"c": SimpleNamespace(resource_type="gpu")},
        release=SimpleNamespace(name="tiny"),
    )
    resource = Resource("image_facts", image.reference, Stage.IMAGE, {"probe": "p"})
    note = {"image": "sha256:" + "1" * 64, "facts": {"arch": "x86_64", "python": "3.11"}}
    host = SimpleNamespace(name="h1", chip="c")
    bringing = Bringing(cast(Any, job), Placement(()), None, lambda event: None)
    desired = HostDesired("h1", (resource,), "pending")
    assert bringing.learn(cast(Any, host), desired, {resource.name: note})
    assert site.facts(f"{image_key(image)}-p")
    locked = image.model_copy(update={"digests": (note["image"],)})
    assert Site(tmp_path).facts(f"{image_key(locked)}-p")
    assert not Site(tmp_path).facts(f"{image_key(image)}-p")
