"""What a host is asked to do to an engine for how it is comes from the plan, and from no later look."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.apply.bring import Bringing
from flagprov.catalog import load_release
from flagprov.chips import load_chips
from flagprov.models.desired import HostDesired, Placement, Resource, Stage
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Change, Survey
from flagprov.models.plan import Batch, HostPlan, Plan, ReplicaPlan
from flagprov.models.release import Image
from flagprov.preparation import Job, probe_version
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
    host, seen = SimpleNamespace(name="h1", chip="c"), SimpleNamespace(arch="x86_64")
    bringing = Bringing(cast(Any, job), Placement(()), None, lambda event: None)
    desired = HostDesired("h1", (resource,), "pending")
    assert bringing.learn(cast(Any, host), cast(Any, seen), desired, {resource.name: note})
    assert site.facts(f"{image_key(image, 'c', 'x86_64')}-p")
    locked = image.model_copy(update={"digests": (note["image"],)})
    assert Site(tmp_path).facts(f"{image_key(locked, 'c', 'x86_64')}-p")
    assert not Site(tmp_path).facts(f"{image_key(image, 'c', 'x86_64')}-p")


CHIPS = {"one": "cpu-x86", "two": "cpu-x86", "arm": "graviton4", "ascend": "ascend-a2", "other": "ascend-a2"}
ARCHES = {"one": "x86_64", "two": "x86_64", "arm": "aarch64", "ascend": "aarch64", "other": "x86_64"}


def test_each_chip_and_processor_locks_what_its_hosts_have_got(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One name, not locked: on each kind of host it is another image."""
    release = load_release("qwen3-tiny")
    variant = release.variants["cpu-x86"]
    image = variant.image.model_copy(update={"reference": "r.example/a:1", "digests": ()})
    hosts = tuple(Host(name, Connection(name), chip=chip) for name, chip in CHIPS.items())
    variants = dict.fromkeys(CHIPS, variant.model_copy(update={"image": image}))
    site = Site(tmp_path)
    job = Job(Fleet(tmp_path / "i.ini", hosts), site, release, load_chips(), variants, None, (), {})
    lease = SimpleNamespace(wire=dict.fromkeys(("command", "holder", "since", "token"), "x"))
    bringing = Bringing(job, Placement(()), cast(Any, lease), lambda event: None)
    resource = Resource("image_facts", "r.example/a:1", Stage.IMAGE, {"probe": probe_version()})
    looked: list[str] = []

    def converged(session: Any, *_: Any, **__: Any) -> dict[str, Any]:
        name = session.host.name
        looked.append(name)
        facts = {"arch": ARCHES[name], "python": "3.12"}
        note = {"image": f"sha256:{CHIPS[name]}-{ARCHES[name]}", "facts": facts}
        return {"changes": 1, "notes": {resource.name: note}, "seconds": {}}

    monkeypatch.setattr("flagprov.apply.bring.converge", converged)
    empty = Survey("", "", "", "", 1, 1, "27", "", {}, (), {}, {})

    def look_into(host: Host) -> int:
        seen = replace(empty, host=host.name, arch=ARCHES[host.name])
        session = cast(Any, SimpleNamespace(host=host))
        return bringing._look_into(session, seen, resource, {})

    with ThreadPoolExecutor() as pool:
        assert sum(pool.map(look_into, hosts)) == 4
    assert set(looked) | {"one", "two"} == set(CHIPS)  # one of these looks for both
    locked = json.loads(site.lock_file("qwen3-tiny").read_text())["variants"]
    assert {chip: sorted(entry["references"]["r.example/a:1"]) for chip, entry in locked.items()} == {
        "cpu-x86": ["sha256:cpu-x86-x86_64"],
        "graviton4": ["sha256:graviton4-aarch64"],
        "ascend-a2": ["sha256:ascend-a2-aarch64", "sha256:ascend-a2-x86_64"],
    }
    for host in hosts:
        facts = job.image_facts(host, ARCHES[host.name])
        assert facts and facts.arch == ARCHES[host.name]
