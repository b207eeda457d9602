"""Images with build steps: built on one host, brought to all, and never built twice."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flagprov.catalog.building import built
from flagprov.distribute import built as module
from flagprov.distribute import fan_out, sources
from flagprov.distribute.fan_images import Upstream
from flagprov.distribute.images import Parts
from flagprov.distribute.layouts import BLOBS, lying, read_layout, whole
from flagprov.distribute.pack import _whole
from flagprov.distribute.registry import MANIFESTS, sha256
from flagprov.errors import FlagprovError, HostError, UnreachableError, UsageError
from flagprov.models.observed import Change, Look
from flagprov.models.release import BuiltImage, Image
from flagprov.preparation import Job
from tests.unit.distribute.test_fan_images import HOSTS, job, surveys

COMMIT = "c" * 40
STEPS = ({"git": "https://git.example/FlagGems.git", "commit": COMMIT}, {"pip": "a==1"})
CONFIG = json.dumps(
    {"architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": ["sha256:base"]}}
).encode()
BASE = b"the layers beneath"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": MANIFESTS[0],
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": sha256(CONFIG),
            "size": 1,
        },
        "layers": [{"mediaType": "x", "digest": sha256(BASE), "size": len(BASE)}],
    }
).encode()
LAYER = b"what the steps changed"
LOOKS = {
    "h1": Look("h1", "d", (Change("image", "r", "image", "build", ""),)),
    "h2": Look("h2", "d", (Change("image", "r", "image", "build", ""),)),
    "h3": Look("h3", "d", ()),
}


def wanted(folder: Path, *digests: str) -> Job:
    """The fleet's image has build steps; `digests` are those that the result is known by."""
    base = Image.model_validate(
        {
            "reference": "r.example/m:1",
            "digests": [sha256(MANIFEST)],
            "build": STEPS,
            "alternatives": ["o/m:1"],
        }
    )
    plain = job(folder)
    image = built("qwen3-tiny", base, {}, {}).model_copy(update={"digests": digests})
    variant = plain.variants["h1"].model_copy(update={"image": image})
    return replace(plain, variants=dict.fromkeys(plain.variants, variant))


class Hosts:
    """Connections to hosts that do what they are asked, and note it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.specs: list[dict[str, Any]] = []
        self.errors: dict[tuple[str, str], HostError] = {}
        self.layer = LAYER
        self.registry: Any = None
        self.carried: list[tuple[list[str], list[str]]] = []

    def session(self, host: Any) -> Any:
        return SimpleNamespace(host=host, ask=lambda payload, said=None: self.ask(host.name, payload))

    def each(self, hosts: Any, work: Any, keep: Any = None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            try:
                found[host.name] = work(self.session(host))
            except HostError as error:
                found[host.name] = error
        return found

    def ask(self, name: str, payload: dict[str, Any]) -> dict[str, Any]:
        op = payload["op"]
        if op == "layer":
            return {"data": base64.b64encode(self.layer[payload["offset"] :][:10]).decode()}
        self.asked.append((name, op))
        if (name, op) in self.errors:
            raise self.errors[name, op]
        if op == "build":
            self.specs.append(payload["spec"])
            return {"digest": sha256(LAYER), "size": len(LAYER)}
        if op == "load":
            self.specs.append(payload["spec"])
        return {"addresses": ["192.0.2.1"], "held": [], "id": "x", "missing": []}

    def transfer(self, *arguments: Any, **_: Any) -> Any:
        _, _, content, _, targets, _ = arguments
        names = [target.host.name for target in targets]
        self.carried.append((names, sorted(path for path, _, _ in content.files)))
        return SimpleNamespace(run=lambda: {name: {"seconds": 1.0} for name in names})

    def did(self, op: str) -> list[str]:
        return [name for name, what in self.asked if what == op]


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hosts:
    found = Hosts()
    registry = SimpleNamespace(
        parts=lambda architectures: Parts(
            ((MANIFEST, MANIFESTS[0]),), {}, (sha256(MANIFEST), sha256(CONFIG))
        ),
        blob=lambda digest: [CONFIG],
    )
    found.registry = registry
    file = tmp_path / f"{COMMIT}.tar"
    file.write_bytes(b"sources")
    monkeypatch.setattr(Upstream, "source", lambda *_: registry)
    monkeypatch.setattr(fan_out, "Transfer", found.transfer)
    monkeypatch.setattr(sources, "archive", lambda repository, commit, folder: file)
    return found


def bring(job: Job, hosts: Hosts) -> Any:
    connections: Any = hosts
    return module.bring(job, connections, LOOKS, surveys(), (), lambda event: None)


def name(digest: str) -> str:
    return f"{BLOBS}/{digest.removeprefix('sha256:')}"


def test_one_host_builds_and_all_get_what_came_of_it(hosts: Hosts, tmp_path: Path) -> None:
    one = wanted(tmp_path)
    work = bring(one, hosts)
    assert not work.failures
    assert work.touched == ("h1", "h2") == tuple(work.outcomes)
    assert hosts.did("converge") == ["h1", "h2"]  # what it is made from comes to both
    assert hosts.did("build") == ["h1"] and hosts.did("load") == ["h1", "h2"]
    build, *loads = hosts.specs
    assert build["reference"] == "r.example/m:1"
    assert build["digests"] == [sha256(MANIFEST), sha256(CONFIG)]  # this one, of all that are accepted
    assert [set(step) - {"words"} for step in build["steps"]] == [
        {"python", "archive", "directory", "version"},
        {"python", "pip"},
    ]
    image = one.variants["h1"].image
    assert {load["reference"] for load in loads} == {image.reference}
    (root,) = (tmp_path / ".flagprov/oci").glob("built-*")
    layout = lying(read_layout(root))
    config = layout.blobs[0][0]
    new = sorted((name(config), name(sha256(LAYER)), name(layout.manifest)))
    assert hosts.carried == [(["h1"], [f"{COMMIT}.tar"]), (["h1", "h2"], new)]
    lock = json.loads(one.site.lock_file("qwen3-tiny").read_text())
    assert lock["variants"]["cpu-x86"]["references"] == {image.reference: [config]}


def test_the_next_run_builds_nothing(hosts: Hosts, tmp_path: Path) -> None:
    bring(wanted(tmp_path), hosts)
    hosts.asked.clear()
    assert not bring(wanted(tmp_path), hosts).failures
    assert hosts.did("build") == [] and hosts.did("load") == ["h1", "h2"]


def test_the_same_parts_give_the_same_image() -> None:
    config, manifest = module.derived(CONFIG, MANIFEST, sha256(LAYER), len(LAYER), ["pip install a==1"])
    assert module.derived(CONFIG, MANIFEST, sha256(LAYER), len(LAYER), ["x"]) == (
        config,
        manifest,
    )  # no history
    told, listed = json.loads(config), json.loads(manifest)
    assert told["rootfs"]["diff_ids"] == ["sha256:base", sha256(LAYER)]
    assert listed["config"]["digest"] == sha256(config) and listed["config"]["size"] == len(config)
    assert [layer["digest"] for layer in listed["layers"]] == [sha256(BASE), sha256(LAYER)]
    kind = "application/vnd.docker.container.image.v1+json"
    of_docker = json.dumps({**json.loads(MANIFEST), "config": {"mediaType": kind}}).encode()
    _, manifest = module.derived(CONFIG, of_docker, sha256(LAYER), 1, [])
    assert json.loads(manifest)["layers"][-1]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar"


def test_a_build_that_fails_is_said_with_host_step_and_last_lines(hosts: Hosts, tmp_path: Path) -> None:
    error = HostError("h1", "build", "step 1 of 2: no", remedy="mend it", log="last lines")
    hosts.errors["h1", "build"] = error
    work = bring(wanted(tmp_path), hosts)
    assert set(work.failures) == {"h1", "h2"} and not work.outcomes
    assert (work.failures["h1"].message, work.failures["h1"].log) == ("step 1 of 2: no", "last lines")
    assert work.failures["h2"].message == "on h1: step 1 of 2: no"
    assert {failure.step for failure in work.failures.values()} == {"build"}
    assert hosts.did("build") == ["h1"] and hosts.did("load") == []


def test_a_host_that_is_lost_leaves_the_build_to_the_next(hosts: Hosts, tmp_path: Path) -> None:
    hosts.errors["h1", "build"] = UnreachableError("h1", "build", "the connection was lost")
    hosts.errors["h1", "load"] = UnreachableError("h1", "load", "the connection was lost")
    work = bring(wanted(tmp_path), hosts)
    assert hosts.did("build") == ["h1", "h2"]
    assert set(work.failures) == {"h1"} and set(work.outcomes) == {"h2"}


def test_a_base_that_does_not_come_keeps_only_its_host_out(hosts: Hosts, tmp_path: Path) -> None:
    hosts.errors["h1", "converge"] = HostError("h1", "image", "no room")
    work = bring(wanted(tmp_path), hosts)
    assert set(work.failures) == {"h1"} and set(work.outcomes) == {"h2"}
    assert hosts.did("build") == ["h2"]


def test_a_layer_that_arrives_changed_is_not_taken(hosts: Hosts, tmp_path: Path) -> None:
    hosts.layer = LAYER.upper()
    work = bring(wanted(tmp_path), hosts)
    assert "did not arrive whole" in work.failures["h1"].message
    assert not [path for path in (tmp_path / ".flagprov/oci").rglob("*") if path.is_file()]


def test_a_layer_that_came_half_lies_where_prune_looks(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "layer", b"")
    monkeypatch.setattr(Path, "unlink", lambda *_: None)  # killed before
    bring(wanted(tmp_path), hosts)
    assert [path.parent.name[:6] for path in (tmp_path / ".flagprov/oci").rglob("layer*")] == ["built-"]


def test_an_image_for_another_processor_comes_out_other(hosts: Hosts, tmp_path: Path) -> None:
    """Its digest is locked beside, also where it is built much later."""
    one = wanted(tmp_path)
    bring(one, hosts)
    reference = one.variants["h1"].image.reference
    (first,) = json.loads(one.site.lock_file("qwen3-tiny").read_text())["variants"]["cpu-x86"]["references"][
        reference
    ]
    arm = CONFIG.replace(b"amd64", b"arm64")
    hosts.registry.blob = lambda digest: [arm]
    later = wanted(tmp_path, first)
    other = {name: replace(survey, arch="aarch64") for name, survey in surveys().items()}
    work = module.bring(later, hosts, LOOKS, other, (), lambda event: None)  # type: ignore[arg-type]
    assert not work.failures
    lock = json.loads(one.site.lock_file("qwen3-tiny").read_text())
    assert len(lock["variants"]["cpu-x86"]["references"][reference]) == 2


def test_what_comes_out_other_than_it_is_locked_is_refused(hosts: Hosts, tmp_path: Path) -> None:
    one = wanted(tmp_path, "sha256:" + "0" * 64)
    work = bring(one, hosts)
    assert "other than the one that is locked" in work.failures["h1"].message
    assert str(one.site.lock_file("qwen3-tiny")) in work.failures["h1"].remedy
    assert hosts.did("load") == []


def test_a_base_that_is_gone_is_said_before_anything_starts(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = wanted(tmp_path)
    assert module.answerable(one, LOOKS, surveys()) == LOOKS
    bring(one, hosts)

    def gone(*_: Any) -> Any:
        raise FlagprovError("the registry says 404", remedy="Was it moved?")

    monkeypatch.setattr(Upstream, "source", gone)
    assert module.answerable(one, LOOKS, surveys()) == LOOKS  # it has been built: nobody is asked
    found = module.answerable(wanted(tmp_path / "elsewhere"), LOOKS, surveys())
    assert [found[host.name].problems != () for host in HOSTS] == [True, True, False]
    assert found["h1"].problems[0].message == "the registry says 404"


def test_a_bundle_gets_the_layers_beneath_too(hosts: Hosts, tmp_path: Path) -> None:
    bring(wanted(tmp_path), hosts)
    (root,) = (tmp_path / ".flagprov/oci").glob("built-*")
    below = tmp_path / "below"
    files = {sha256(blob): blob for blob in (CONFIG, BASE, MANIFEST)}
    (below / BLOBS).mkdir(parents=True)
    for digest, blob in files.items():
        (below / name(digest)).write_bytes(blob)
    entry = {"digest": sha256(MANIFEST), "size": len(MANIFEST)}
    (below / "index.json").write_text(json.dumps({"manifests": [entry]}))
    found = whole(read_layout(below), root)
    assert found == whole(read_layout(below), root) and found.root != root
    assert lying(found) == found
    assert {digest for digest, _ in found.blobs} >= {sha256(BASE), sha256(LAYER)}
    for digest, _ in found.blobs:
        assert sha256((found.root / name(digest)).read_bytes()) == digest
    assert _whole(read_layout(below), root, [found.manifest]) == _whole(read_layout(below), root, []) == found
    with pytest.raises(UsageError, match="not the image that the site has locked"):
        _whole(read_layout(below), root, ["sha256:" + "0" * 64])
    (below / name(sha256(BASE))).unlink()
    (below / name(sha256(MANIFEST))).write_bytes(MANIFEST.replace(sha256(BASE).encode(), b"sha256:0"))
    with pytest.raises(FlagprovError, match="built from another image"):
        whole(read_layout(below), root)


def test_the_name_says_what_is_in_it(tmp_path: Path) -> None:
    image = wanted(tmp_path).variants["h1"].image
    assert isinstance(image, BuiltImage) and image.pulled.reference == "r.example/m:1"
