"""Images that are fanned out are looked up before the plan."""

from __future__ import annotations

import errno
import json
import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from flagprov.catalog import load_release
from flagprov.distribute import fan_out, layouts
from flagprov.distribute.fan_images import Images, Upstream, answerable, parcels, with_other_names
from flagprov.distribute.layouts import BLOBS, ImageLayout
from flagprov.distribute.registry import MANIFESTS, Registry, registry_of, sha256
from flagprov.errors import FlagprovError, HostError
from flagprov.models.fleet import Connection, Fleet, Host
from flagprov.models.observed import Change, Look, Survey
from flagprov.models.release import Image
from flagprov.preparation import Job
from flagprov.site import Site

HOSTS = tuple(Host(name, Connection("192.0.2.1"), chip="cpu-x86") for name in ("h1", "h2", "h3"))
BRING = Change("image", "r", "image", "bring", "it is not here")
LOOKS = {"h1": Look("h1", "d", (BRING,)), "h2": Look("h2", "d", (BRING,)), "h3": Look("h3", "d", ())}
BASE, TOP, CONFIG, ITSELF = (f"sha256:{letter * 64}" for letter in "abcd")
LAYERS = ((BASE, 300), (TOP, 100))
MANIFEST = json.dumps(
    {
        "config": {"digest": CONFIG, "size": 1},
        "layers": [{"digest": digest, "size": size} for digest, size in LAYERS],
    }
).encode()


def job(folder: Path, *digests: str) -> Job:
    release = load_release("qwen3-tiny")
    image = Image(
        reference="registry.example/tiny:1", digests=digests, alternatives=("other.example/tiny:1",)
    )
    variant = release.variants["cpu-x86"].model_copy(update={"image": image})
    variants = {host.name: variant for host in HOSTS}
    return Job(
        Fleet(folder / "lab.ini", HOSTS), Site(folder / ".flagprov"), release, {}, variants, None, (), {}
    )


def surveys() -> dict[str, Survey]:
    empty = Survey("", "x86_64", "", "", 1, 1, "27", "", {}, (), {}, {})
    return {host.name: replace(empty, host=host.name) for host in HOSTS}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    def manifest(self: Registry, tag: str) -> tuple[bytes, str]:
        found.append(f"{self.host}/{self.name}:{tag}")
        return MANIFEST, MANIFESTS[0]

    monkeypatch.setattr(Registry, "manifest", manifest)
    return found


def test_what_the_registry_has_changes_nothing(asked: list[str], tmp_path: Path) -> None:
    layers = {"h1": LAYERS, "h2": LAYERS}
    assert answerable(job(tmp_path), LOOKS, surveys()) == (LOOKS, layers)
    assert answerable(job(tmp_path, sha256(MANIFEST)), LOOKS, surveys()) == (LOOKS, layers)
    assert asked == ["registry.example/tiny:1"] * 2  # once for both hosts


def test_a_moved_tag_is_a_problem_of_the_hosts_that_lack_the_image(asked: list[str], tmp_path: Path) -> None:
    found, layers = answerable(job(tmp_path, "sha256:" + "0" * 64), LOOKS, surveys())
    assert not layers
    assert found["h3"] == LOOKS["h3"]
    for name in ("h1", "h2"):
        (problem,) = found[name].problems
        assert not found[name].changes
        assert "not the image that is locked for cpu-x86" in problem.message
        (named,) = with_other_names(job(tmp_path), found)[name].problems
        assert "also known as other.example/tiny:1" in named.remedy


def test_each_chip_is_held_against_what_is_locked_for_it(asked: list[str], tmp_path: Path) -> None:
    work = job(tmp_path, sha256(MANIFEST))
    other = work.variants["h2"].model_copy(
        update={"image": work.variants["h2"].image.model_copy(update={"digests": ("sha256:" + "0" * 64,)})}
    )
    found, layers = answerable(replace(work, variants={**work.variants, "h2": other}), LOOKS, surveys())
    assert list(layers) == ["h1"] and not found["h1"].problems
    assert "not the image that is locked" in found["h2"].problems[0].message
    assert asked == ["registry.example/tiny:1"]


def test_an_image_that_only_its_index_locks_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = {"digest": sha256(MANIFEST), "platform": {"architecture": "amd64"}}
    index = json.dumps({"manifests": [entry]}).encode()
    known = {"1": index, sha256(MANIFEST): MANIFEST}
    monkeypatch.setattr(Registry, "manifest", lambda self, tag: (known[tag], MANIFESTS[0]))
    found, _ = answerable(job(tmp_path, sha256(index)), LOOKS, surveys())
    (problem,) = found["h1"].problems
    assert "not the image for x86_64" in problem.message
    assert (
        f"image=registry.example/tiny:1@{sha256(MANIFEST)}" in problem.remedy
    )  # where it is named by digest
    assert "flagprov releases lock qwen3-tiny" in problem.remedy  # where the lock is older
    assert answerable(job(tmp_path, sha256(index), CONFIG), LOOKS, surveys())[0] == LOOKS


def test_a_dead_name_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def gone(self: Registry, tag: str) -> tuple[bytes, str]:
        raise FlagprovError("the registry says 404", remedy="Was it moved?")

    monkeypatch.setattr(Registry, "manifest", gone)
    (problem,) = answerable(job(tmp_path), LOOKS, surveys())[0]["h1"].problems
    assert problem.step == "image" and problem.message == "the registry says 404"


def test_a_registry_that_hosts_reach_by_http_is_asked_so() -> None:
    host = replace(HOSTS[0], variables={"container_engine_insecure_registries": ["registry.example:5000"]})
    for reference, scheme in (("registry.example:5000/a:1", "http:"), ("registry.example/a:1", "https:")):
        with registry_of(reference, host) as registry:
            assert registry._base.startswith(scheme)


def test_blobs_go_together_where_the_same_hosts_lack_them() -> None:
    blobs = [(CONFIG, 1), *LAYERS, (ITSELF, 1)]
    held = {"old": {BASE}, "new": set(), "both": {BASE, TOP}}
    assert parcels(blobs, held) == {
        ("old", "new", "both"): [CONFIG, ITSELF],
        ("new",): [BASE],
        ("old", "new"): [TOP],
    }
    assert parcels(blobs, {"all": {CONFIG, BASE, TOP, ITSELF}}) == {}


class Fanned:
    """Hosts that say what they hold, and transfers that note what they carry."""

    def __init__(self, held: dict[str, set[str]], missing: dict[str, list[str]]) -> None:
        self.held, self.missing = held, missing
        self.carried: list[tuple[list[str], list[str]]] = []  # hosts, blobs
        self.there: dict[str, set[str]] = {name: set() for name in held}

    def each(self, hosts: Any, work: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for host in hosts:
            try:
                found[host.name] = work(SimpleNamespace(host=host, ask=partial(self.ask, host.name)))
            except HostError as error:
                found[host.name] = error
        return found

    def ask(self, name: str, payload: dict[str, Any], said: Any = None) -> dict[str, Any]:
        if payload["op"] == "held":
            held = self.held[name] if payload["layers"] else set()
            return {"addresses": ["192.0.2.1"], "held": sorted(held | self.there[name])}
        assert payload["op"] == "load"
        if name not in self.missing:
            raise HostError(name, "image", "no room")
        missing = [digest for digest in self.missing[name] if digest not in self.there[name]]
        return {"id": "x", "missing": missing}

    def transfer(self, *arguments: Any, **_: Any) -> Any:
        _, _, content, here, targets, _ = arguments
        blobs = [f"sha256:{path.removeprefix(BLOBS + '/')}" for path, _, _ in content.files]
        self.carried.append(([target.host.name for target in targets], sorted(blobs)))
        for target in targets:
            assert target.path.endswith(f"/{here.path.name}/{content.id}")
            self.there[target.host.name] |= set(blobs)
        answers = {target.host.name: {"seconds": 1.0} for target in targets}
        return SimpleNamespace(run=lambda: answers)


def spread(fanned: Fanned, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    monkeypatch.setattr(fan_out, "Transfer", fanned.transfer)
    blobs = ((CONFIG, 1), *LAYERS, (ITSELF, 1))
    layout = ImageLayout(folder / "image", "registry.example/tiny:1", ITSELF, blobs, LAYERS)
    connections: Any = fanned
    work = Images(job(folder), connections, lambda event: None)
    work.bring([host for host in HOSTS if host.name in fanned.held], surveys(), lambda host, arch: layout)
    return work


def test_a_host_gets_the_layers_that_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fanned = Fanned({"h1": {BASE}, "h2": set(), "h3": {BASE}}, {"h1": [], "h2": []})
    work = spread(fanned, tmp_path, monkeypatch)
    assert fanned.carried == [(["h1", "h2", "h3"], [TOP, CONFIG, ITSELF]), (["h2"], [BASE])]
    assert {name: outcome.state for name, outcome in work.outcomes.items()} == {
        "h1": "changed",
        "h2": "changed",
    }
    assert work.failures["h3"].message == "no room"


def test_a_layer_that_dockerd_lacks_after_all_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fanned = Fanned({"h1": {BASE}, "h2": {BASE}}, {"h1": [], "h2": [BASE]})
    work = spread(fanned, tmp_path, monkeypatch)
    assert fanned.carried == [(["h1", "h2"], [TOP, CONFIG, ITSELF]), (["h2"], [BASE])]
    assert set(work.outcomes) == {"h1", "h2"} and not work.failures


def test_what_this_controllers_disk_refuses_is_one_images_failure(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fanned = Fanned({"h1": set(), "h2": set(), "h3": set()}, {"h1": [], "h2": [], "h3": []})
    monkeypatch.setattr(fan_out, "Transfer", fanned.transfer)
    tried: list[str] = []

    def fetch(source: Any, reference: str, architecture: str, *_: Any) -> ImageLayout:
        tried.append(architecture)
        if architecture == "amd64":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return ImageLayout(tmp_path / "image", reference, ITSELF, ((ITSELF, 1),), ())

    monkeypatch.setattr(layouts, "fetch_layout", fetch)
    seen = {**surveys(), "h3": replace(surveys()["h3"], arch="aarch64")}
    work = Images(job(tmp_path), cast(Any, fanned), lambda event: None)
    with ExitStack() as stack:
        work.bring(HOSTS, seen, Upstream(job(tmp_path), lambda event: None, stack).find)
    assert set(work.outcomes) == {"h3"} and tried == ["amd64", "arm64"]
    for name in ("h1", "h2"):
        failure = work.failures[name]
        assert failure.message == f"{tmp_path}/.flagprov/oci on this controller: no space left on device"
        assert "FLAGPROV_IMAGE_CACHE" in failure.remedy


def test_a_blob_that_no_image_has_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = spread(Fanned({"h1": set()}, {"h1": ["sha256:other"]}), tmp_path, monkeypatch)
    assert "asks for sha256:other" in work.failures["h1"].message
    assert not work.outcomes
